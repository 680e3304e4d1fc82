//! `wait`: until a container has ended (restarts by policy included); gives its exit code.

use super::super::{Engine, Error, Result, Status};
use super::contact::connect;
use crate::base::{ContainerId, Timestamp};
use crate::monitor::{Client, Event};
use crate::state::events::{Kind, Reader};
use crate::state::record::Phase;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often it is looked whether a monitor lives that says nothing.
const LIVENESS: Duration = Duration::from_secs(1);

/// Between looks at the database where no monitor can tell (waiting for a start or a removal by others).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long after a word in the journal the record may say the same, on a machine that does much else.
const LATE: Duration = Duration::from_secs(60);

/// What [`Engine::wait_for`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does not run (at once, if it does not run now).
    NotRunning,
    /// Its next end, also that of a run that has not begun.
    NextExit,
    Removed,
    Is(Status),
    /// A probe's word: `healthy` or `unhealthy`.
    Health(&'static str),
}

impl std::str::FromStr for Condition {
    type Err = String;

    /// Docker's and podman's words.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Ok(match text {
            "stopped" | "exited" | "not-running" => Condition::NotRunning,
            "next-exit" => Condition::NextExit,
            "removed" => Condition::Removed,
            "created" | "configured" => Condition::Is(Status::Created),
            "running" => Condition::Is(Status::Running),
            "paused" => Condition::Is(Status::Paused),
            "restarting" => Condition::Is(Status::Restarting),
            "removing" => Condition::Is(Status::Removing),
            "healthy" => Condition::Health("healthy"),
            "unhealthy" => Condition::Health("unhealthy"),
            other => {
                return Err(format!(
                    "\"{other}\" is not one of stopped, exited, not-running, next-exit, removed, created, running, paused, restarting, removing, healthy and unhealthy"
                ));
            }
        })
    }
}

/// The ends of one container from the moment on when this was made; those of runs that are over and gone before anybody looks, too.
pub struct Ends {
    id: ContainerId,
    journal: Reader,
    /// As it was when this was made.
    finished: Timestamp,
    /// The exit code as it was then.
    last: i32,
    /// Of the last run that ended.
    code: Option<i32>,
    removed: bool,
}

impl Ends {
    fn read(&mut self) -> Result<()> {
        let Ends { id, journal, code, removed, .. } = self;
        journal.read(&mut |event| {
            if event.kind == Kind::Container && event.id == id.as_str() {
                match event.action.as_str() {
                    "die" => *code = event.attributes.get("exitCode").and_then(|code| code.parse().ok()).or(*code),
                    "destroy" => *removed = true,
                    _ => {}
                }
            }
            true
        })?;
        Ok(())
    }
}

impl Engine {
    /// Begins to listen to the ends of a container.
    ///
    /// # Errors
    /// There is no such container; the journal cannot be read.
    pub fn ends_of(&self, name: &str) -> Result<Ends> {
        let before = Timestamp::now();
        let view = self.view(name)?;
        // The end of a run that is on may stand in the journal already, and in the record not yet: with --rm it never will.
        let since = match view.status {
            Status::Running | Status::Paused | Status::Removing => view.started.max(before.before(LATE)),
            _ => before,
        };
        let journal = Reader::open(&self.privilege.roots, since)?;
        let (id, finished, last) = (view.record.id, view.record.finished, view.record.exit_code);
        Ok(Ends { id, journal, finished, last, code: None, removed: false })
    }

    /// Waits for one of `NotRunning`, `NextExit` and `Removed`; the exit code, or None if the engine is cancelled before.
    ///
    /// # Errors
    /// State or journal cannot be read.
    pub fn await_end(&self, mut ends: Ends, condition: Condition) -> Result<Option<i32>> {
        let ended = self.cancel.ended().map_err(|source| Error::Failed {
            operation: "wait for a container".to_owned(),
            kind: crate::base::ErrorKind::Internal,
            source: Box::new(source),
        })?;
        let mut last = ends.last;
        loop {
            ends.read()?;
            if let (Condition::NextExit, Some(code)) = (condition, ends.code) {
                return Ok(Some(code));
            }
            // Also what the journal has missed (its disk is full, a monitor was killed) is seen here.
            match self.view(ends.id.as_str()) {
                Err(Error::NoSuch { .. }) => {
                    ends.read()?;
                    return Ok(Some(ends.code.unwrap_or(last)));
                }
                Err(error) => return Err(error),
                Ok(_) if ends.removed => return Ok(Some(ends.code.unwrap_or(last))),
                Ok(view) => {
                    last = view.record.exit_code;
                    let stopped = matches!(view.status, Status::Created | Status::Exited | Status::Dead);
                    match condition {
                        Condition::NextExit if view.record.finished != ends.finished => return Ok(Some(last)),
                        Condition::NotRunning if stopped => return Ok(Some(last)),
                        _ => {}
                    }
                }
            }
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            ends.journal.wait(Some(LIVENESS), ended.as_fd())?;
        }
    }

    /// Waits until one of the conditions holds, looking every `interval` at what no monitor reports. The exit code, or -1 where
    /// the container has none to tell.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait_for(&self, name: &str, conditions: &[Condition], interval: Duration) -> Result<i32> {
        if conditions == [Condition::NotRunning] {
            return self.wait(name);
        }
        let id = self.find(name)?.id;
        // The monitor is listened to before the first look: a policy may begin the next run, and with it forget the code of
        // this one, before anybody looks at the record again; a container with --rm leaves no record at all.
        let mut monitor = connect(&self.privilege.roots.live(&id))?;
        let before = self.view(id.as_str())?.record.finished;
        let mut code = -1;
        let mut ended = false;
        loop {
            if monitor.is_none() {
                monitor = connect(&self.privilege.roots.live(&id))?;
            }
            let view = match self.view(id.as_str()) {
                Ok(view) => view,
                // Whatever was waited for, it cannot come any more.
                Err(Error::NoSuch { .. }) => {
                    let last = monitor.and_then(follow);
                    return Ok(last.unwrap_or(code));
                }
                Err(error) => return Err(error),
            };
            let stopped = matches!(view.status, Status::Created | Status::Exited | Status::Dead);
            if stopped || (view.status == Status::Restarting && !ended) {
                code = view.record.exit_code;
            }
            let met = |condition: &Condition| match condition {
                Condition::NotRunning => stopped,
                // A monitor that is there has yet to tell the code.
                Condition::NextExit => ended || (monitor.is_none() && view.record.finished != before),
                Condition::Removed => false,
                Condition::Is(status) => view.status == *status,
                Condition::Health(word) => {
                    let document = self.inspect_container(id.as_str(), false).ok();
                    document.is_some_and(|document| document.pointer("/State/Health/Status").and_then(serde_json::Value::as_str) == Some(word))
                }
            };
            if conditions.iter().any(met) {
                let tells_code = stopped || conditions.contains(&Condition::NextExit);
                return Ok(match (tells_code, ended) {
                    (true, true) => code,
                    (true, false) => view.record.exit_code,
                    (false, _) => -1,
                });
            }
            match listen(monitor.as_mut(), interval) {
                Heard::Exit(exit) => (code, ended) = (exit, true),
                Heard::Nothing => {}
                Heard::End => monitor = None,
            }
        }
    }

    /// Waits until the container does not run (any more) and returns its exit code.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait(&self, name: &str) -> Result<i32> {
        let mut record = self.find(name)?;
        let id = record.id.clone();
        let mut code = None;
        loop {
            if let Some(client) = connect(&self.privilege.roots.live(&id))? {
                code = follow(client).or(code);
            }
            // The monitor is gone (or was never there): the record says what became of it.
            let Some(now) = self.settled(&id)? else { return Ok(code.unwrap_or(record.exit_code)) };
            record = now;
            if !matches!(record.phase, Phase::Started | Phase::Restarting) {
                return Ok(code.unwrap_or(record.exit_code));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn settled(&self, id: &ContainerId) -> Result<Option<crate::state::record::Container>> {
        match self.db.container(id)? {
            Some(record) => self.settle(record),
            None => Ok(None),
        }
    }
}

/// Follows one monitor to its end.
fn follow(mut client: Client) -> Option<i32> {
    let mut code = None;
    loop {
        match client.next(None) {
            // To the last word: by then the end is recorded.
            Ok(Some(Event::Exited { exit, .. })) => code = Some(exit.code),
            Ok(Some(Event::Gone)) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}

enum Heard {
    /// A run has ended with this code.
    Exit(i32),
    Nothing,
    /// The monitor has nothing more to say.
    End,
}

/// Listens to a monitor for at most this time; without one the time passes.
fn listen(monitor: Option<&mut Client>, time: Duration) -> Heard {
    let Some(client) = monitor else {
        std::thread::sleep(time);
        return Heard::Nothing;
    };
    let end = Instant::now() + time;
    loop {
        match client.next(Some(end.saturating_duration_since(Instant::now()))) {
            Ok(Some(Event::Exited { exit, .. })) => return Heard::Exit(exit.code),
            Ok(None) => return Heard::Nothing,
            Ok(Some(Event::Gone)) | Err(_) => return Heard::End,
            Ok(Some(_)) => {}
        }
    }
}
