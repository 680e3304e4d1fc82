//! A process in the foreground: signals go to it, its end is ours.

use crate::cli::failure::Failure;
use crate::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};

/// Every signal that is passed on. Not those that a fault of our own raises, nor SIGCHLD and SIGURG.
const FORWARDED: [i32; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
    libc::SIGPWR,
];

/// Signals of this process, blocked from before the container is made, so that none is lost.
pub struct Signals(SignalFd);

impl Signals {
    /// # Errors
    /// No descriptor is left.
    pub fn block() -> Result<Self, Failure> {
        SignalFd::block(&FORWARDED).map(Signals).map_err(|error| Failure::caused("cannot take signals", &error))
    }
}

/// Waits for the end of our child; its exit code, or 128 and the signal's number.
///
/// # Errors
/// The process cannot be waited for.
pub fn wait(pidfd: &OwnedFd, terminal: Option<OwnedFd>, signals: &Signals) -> Result<u8, Failure> {
    let failed = |error: rustix::io::Errno| Failure::caused("cannot wait for the container", &error);
    drop(terminal);
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        while let Some(signal) = signals.0.next().map_err(|error| Failure::caused("cannot read signals", &error))? {
            match crate::sys::pidfd_signal::send(pidfd.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(Failure::caused("cannot pass a signal on", &error));
                }
                _ => {}
            }
        }
        let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if let Some(status) = ended.map_err(failed)? {
            let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255));
        }
    }
}
