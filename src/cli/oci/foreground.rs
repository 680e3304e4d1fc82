//! A process in the foreground: its terminal is relayed, signals go to it, its end is ours.

use crate::cli::failure::Failure;
use crate::cli::session::{End, ExecIo, caught, relay_signals, terminal_size};
use crate::runtime::Running;
use crate::sys::signalfd::SignalFd;
use oci_spec::runtime::{BoxBuilder, Process};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Signals of this process, blocked from before the container is made, so that none is lost.
pub struct Signals {
    signals: SignalFd,
    reaps: bool,
}

impl Signals {
    /// With `subreaper` every orphan of the container becomes our child and is reaped.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn block(subreaper: bool) -> Result<Self, Failure> {
        let mut list = caught(true);
        if subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| Failure::caused("cannot become the parent of orphans", &error))?;
            list.push(libc::SIGCHLD);
        }
        let signals = SignalFd::block(&list).map_err(|error| Failure::caused("cannot take signals", &error))?;
        Ok(Signals { signals, reaps: subreaper })
    }

    /// Waits for the end of our child; its exit code, or 128 and the signal's number.
    ///
    /// # Errors
    /// Our own streams fail, or the process cannot be waited for.
    pub fn wait(&self, mut running: Running) -> Result<u8, Failure> {
        let pid = running.pid;
        let children = || {
            if self.reaps {
                reap_others(pid)
            }
        };
        let (io, terminal) = match running.console.take() {
            Some(console) => (ExecIo::console(console, true, None)?, true),
            None => (ExecIo::inherited(), false),
        };
        let mut end = relay_signals(&running, io, terminal, &self.signals, &children)?;
        if end == End::OutputClosed {
            // The terminal is gone with the relay, which the process is told by SIGHUP; its end is still ours to wait for.
            end = relay_signals(&running, ExecIo::inherited(), false, &self.signals, &children)?;
        }
        match end {
            End::Exited(code) => Ok(u8::try_from(code).unwrap_or(255)),
            End::Detached | End::OutputClosed | End::Signalled(_) => Ok(255),
        }
    }
}

/// Gives the process the size of our own terminal, if we have one.
pub fn fit(process: &mut Process) {
    if let Some((columns, rows)) = terminal_size().filter(|(columns, _)| *columns > 0) {
        let size = BoxBuilder::default().width(columns).height(rows).build();
        process.set_console_size(Some(size.expect("invariant: both sides are given")));
    }
}

/// Reaps all that has ended but the process itself. Kernels without the list (CONFIG_PROC_CHILDREN) keep zombies until we end.
fn reap_others(process: i32) {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid != process) {
        if let Some(pid) = Pid::from_raw(pid) {
            // One that lives is left alone.
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
        }
    }
}
