//! Talking to a monitor that may end, or be killed, at any moment: between a look at it and the connection, between the
//! connection and the request, before the answer. None of that is a failure of the command: it finds a container that has
//! ended, and what a dead monitor left is settled as ever.

use super::super::{Error, Result};
use super::remove::failpoint_at;
use crate::base::ErrorKind;
use crate::monitor::{self, Client, Event, FailureKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a monitor may live without its socket, which it makes second and removes last but one.
const SOCKET_PATIENCE: Duration = Duration::from_secs(5);
/// How long a monitor whose connection has ended may still hold its lock: the kernel takes what a killed process has one by
/// one. One that lives on has dropped this client.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);
/// How long a monitor may take for one step. Far beyond any sane disk: it only ends a wait for something dead.
const STEP_PATIENCE: Duration = Duration::from_secs(120);

/// What a wait on a monitor saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything is released and recorded.
    Gone,
    /// It ended without a word: it was killed, or it was on its way out and took no more clients. Only the record tells which.
    Lost,
    /// The deadline passed first.
    Timeout,
}

/// Connects to the monitor; None when there is none (any more).
pub(super) fn connect(live_dir: &Path) -> Result<Option<Client>> {
    let deadline = Instant::now() + SOCKET_PATIENCE;
    loop {
        match Client::connect(live_dir) {
            Ok(client) => {
                failpoint_at("engine.contact.connected")?;
                return Ok(Some(client));
            }
            Err(_) if !monitor::is_alive(live_dir) => return Ok(None),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // It lives a little longer than its socket: it is beginning, or leaving.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
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
            Err(error) => return await_death(client, live_dir, error).map(|()| Ended::Lost),
        }
    }
}

/// Waits until the monitor at the end of a broken connection is dead; its error if it lives.
pub(super) fn await_death(client: &Client, live_dir: &Path, error: monitor::Error) -> Result<()> {
    let deadline = Instant::now() + DEATH_PATIENCE;
    // The lock may be that of the next run's monitor by now.
    while monitor::is_alive(live_dir) && process_exists(client) {
        if Instant::now() > deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn process_exists(client: &Client) -> bool {
    let pid = client.monitor_pid().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Waits for the event; a failure that the monitor reports carries its kind along. False: the monitor has gone.
pub(super) fn awaits(client: &mut Client, operation: &str, wanted: impl Fn(&Event) -> bool) -> Result<bool> {
    loop {
        match client.next(Some(STEP_PATIENCE)) {
            Ok(Some(event)) if wanted(&event) => return Ok(true),
            Ok(Some(Event::Failed { kind, message })) => {
                let kind = match kind {
                    FailureKind::NotFound => ErrorKind::CommandNotFound,
                    FailureKind::NotExecutable => ErrorKind::CommandNotExecutable,
                    FailureKind::Invalid => ErrorKind::Invalid,
                    FailureKind::Other => ErrorKind::Internal,
                };
                return Err(Error::Failed { operation: operation.to_owned(), kind, source: message.into() });
            }
            Ok(Some(Event::Gone)) | Err(monitor::Error::Lost) => return Ok(false),
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(Error::Failed {
                    operation: operation.to_owned(),
                    kind: ErrorKind::Unavailable,
                    source: "its monitor does not answer".into(),
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
}
