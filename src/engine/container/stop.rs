//! stop, kill, restart: signals by pidfd after checking the identity of the process.
//! The monitor is told first that the user wants the stop, so that the restart policy rests.

use super::super::{AttachStreams, Engine, Error, Result};
use super::locks;
use super::view::{init_pidfd, running};
use crate::base::{ContainerId, ErrorKind, Signal};
use crate::monitor::{self, Client, Event, Live};
use crate::state::record;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Docker's default of `stop --timeout`.
const DEFAULT_TIMEOUT_SECONDS: i64 = 10;
/// After SIGKILL the kernel needs no help but time; beyond this the process hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long a monitor may live without its socket, which it makes second and removes last but one.
const SOCKET_PATIENCE: Duration = Duration::from_secs(5);

/// What a wait on a monitor saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything is released and recorded.
    Gone,
    /// The deadline passed first.
    Timeout,
}

impl Engine {
    /// Stops it: the stop signal, then SIGKILL after `timeout` seconds (-1: never). Stopping a stopped one is fine.
    ///
    /// # Errors
    /// There is no such container, or its processes survive SIGKILL.
    pub fn stop(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> {
        let record = self.find(name)?;
        self.stop_record(&record, name, signal, timeout)
    }

    fn stop_record(&self, record: &record::Container, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> {
        let roots = &self.privilege.roots;
        let live_dir = roots.live(&record.id);
        if locks::is_busy(roots, &record.id) {
            // It is being started or removed: what is to be stopped is what comes of that.
            drop(locks::lock(roots, &record.id)?);
        }
        let Some(mut client) = connect(&live_dir)? else {
            return self.settle_if_there(&record.id);
        };
        client.stop_requested()?;
        let Some(live) = Live::read(&live_dir) else {
            // A monitor whose starter died, or one that is leaving.
            kill_and_wait(&mut client, &live_dir, name)?;
            return self.settle_if_there(&record.id);
        };
        let signal = signal.or(record.spec.process.stop_signal).unwrap_or(Signal::TERM);
        let seconds = timeout.or(record.spec.process.stop_timeout).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        if let Some(pidfd) = init_pidfd(&live)
            && seconds != 0
        {
            send(&pidfd, signal, name)?;
            if live.cgroup.is_frozen() {
                live.cgroup.thaw()?;
            }
            let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
            if await_gone(&mut client, &live_dir, patience)? == Ended::Gone {
                return Ok(());
            }
        }
        kill_and_wait(&mut client, &live_dir, name)?;
        self.settle_if_there(&record.id)
    }

    /// What a monitor that did not leave by itself has not recorded is recorded here.
    fn settle_if_there(&self, id: &ContainerId) -> Result<()> {
        match self.db.container(id)? {
            Some(record) => self.settle(record).map(drop),
            None => Ok(()),
        }
    }

    /// Stops and starts it again.
    ///
    /// # Errors
    /// Those of [`Engine::stop`] and [`Engine::start`].
    pub fn restart(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> {
        let record = self.find(name)?;
        let live_dir = self.privilege.roots.live(&record.id);
        if record.spec.host.auto_remove && monitor::is_alive(&live_dir) {
            // Read by the lifecycle at the end of the run: this end is no reason to remove the container.
            crate::base::fs::write(&live_dir.join(super::lifecycle::KEEP), b"")?;
        }
        self.stop_record(&record, name, signal, timeout)?;
        self.start(&record.id, AttachStreams::default(), (0, 0)).map(drop)
    }

    /// Sends a signal. SIGKILL waits until the container has ended.
    ///
    /// # Errors
    /// There is no such container, or it is not running.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<()> {
        let record = self.find(name)?;
        let live_dir = self.privilege.roots.live(&record.id);
        let live = running(&self.privilege.roots, &record.id, name)?;
        let not_running = || Error::conflict(format!("container {name} is not running"));
        let pidfd = init_pidfd(&live).ok_or_else(not_running)?;
        let stop_signal = record.spec.process.stop_signal.unwrap_or(Signal::TERM);
        // Only a signal that ends the container suspends the restart policy: `kill -s HUP` is a reload.
        if signal == Signal::KILL || signal == stop_signal {
            let mut client = connect(&live_dir)?.ok_or_else(not_running)?;
            client.stop_requested()?;
            if signal == Signal::KILL {
                kill_and_wait(&mut client, &live_dir, name)?;
                return self.settle_if_there(&record.id);
            }
        }
        send(&pidfd, signal, name)
    }
}

/// Connects to the monitor; None when there is none (any more).
pub(super) fn connect(live_dir: &Path) -> Result<Option<Client>> {
    let deadline = Instant::now() + SOCKET_PATIENCE;
    loop {
        match Client::connect(live_dir) {
            Ok(client) => return Ok(Some(client)),
            Err(_) if !monitor::is_alive(live_dir) => return Ok(None),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // It lives a little longer than its socket: it is beginning, or leaving.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn send(pidfd: &std::os::fd::OwnedFd, signal: Signal, name: &str) -> Result<()> {
    match crate::sys::pidfd_signal::send(pidfd.as_fd(), signal.number()) {
        Ok(()) => Ok(()),
        // Ended meanwhile: what the signal was for has happened.
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(e) => Err(Error::Failed { operation: format!("send {signal} to container \"{name}\""), kind: ErrorKind::Internal, source: Box::new(e) }),
    }
}

/// SIGKILL to init (its PID namespace dies with it), then to the whole cgroup, until the monitor has finished. A monitor
/// that does not notice that its container is gone hangs (it was stopped by a signal, or its disk is dead): then it is
/// killed too, and the caller settles the record.
pub(super) fn kill_and_wait(client: &mut Client, live_dir: &Path, name: &str) -> Result<()> {
    if let Some(live) = Live::read(live_dir) {
        if let Some(pidfd) = init_pidfd(&live) {
            send(&pidfd, Signal::KILL, name)?;
        }
        if live.cgroup.is_frozen() {
            live.cgroup.thaw()?;
        }
        if await_gone(client, live_dir, Some(Duration::from_secs(2)))? == Ended::Gone {
            return Ok(());
        }
        live.cgroup.kill_all(KILL_PATIENCE)?;
    }
    match await_gone(client, live_dir, Some(KILL_PATIENCE))? {
        Ended::Gone => Ok(()),
        Ended::Timeout => kill_monitor(client, live_dir, name),
    }
}

fn kill_monitor(client: &Client, live_dir: &Path, name: &str) -> Result<()> {
    let hangs =
        |text: &'static str| Error::Failed { operation: format!("stop container \"{name}\""), kind: ErrorKind::Unavailable, source: text.into() };
    let pid = client.monitor_pid().ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // The lock is looked at after the descriptor was opened: the monitor lived all the time, so the number still was its.
    let Some(pidfd) = pidfd.filter(|_| monitor::is_alive(live_dir)) else {
        return if monitor::is_alive(live_dir) { Err(hangs("its monitor does not answer and cannot be found")) } else { Ok(()) };
    };
    tracing::warn!("the monitor of container \"{name}\" does not answer: it is killed");
    send(&pidfd, Signal::KILL, name)?;
    let deadline = Instant::now() + KILL_PATIENCE;
    while monitor::is_alive(live_dir) {
        if Instant::now() > deadline {
            return Err(hangs("its monitor did not end after SIGKILL; it may hang in the kernel (a dead network file system?)"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Waits until the monitor says that all is released and recorded.
pub(super) fn await_gone(client: &mut Client, live_dir: &Path, patience: Option<Duration>) -> Result<Ended> {
    let deadline = patience.map(|p| Instant::now() + p);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        match client.next(left) {
            Ok(Some(Event::Gone)) => return Ok(Ended::Gone),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Ended::Timeout),
            Err(_) if !monitor::is_alive(live_dir) => return Ok(Ended::Gone),
            Err(error) => return Err(error.into()),
        }
    }
}
