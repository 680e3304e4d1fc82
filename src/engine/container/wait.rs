//! `wait`: until a container has ended (restarts by policy included); gives its exit code.

use super::super::{Engine, Error, Result, Status};
use super::contact::connect;
use crate::base::ContainerId;
use crate::monitor::{Client, Event};
use crate::state::record::Phase;
use std::time::Duration;

/// Between looks at the database where no monitor can tell (waiting for a start or a removal by others).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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

impl Engine {
    /// Waits until one of the conditions holds, looking every `interval` at what no monitor reports. The exit code, or -1 where
    /// the container has none to tell.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait_for(&self, name: &str, conditions: &[Condition], interval: Duration) -> Result<i32> {
        if conditions == [Condition::NotRunning] {
            return self.wait(name);
        }
        let first = self.view(name)?;
        let id = first.record.id.clone();
        let before = first.record.finished;
        let mut code = -1;
        loop {
            let view = match self.view(id.as_str()) {
                Ok(view) => view,
                // Whatever was waited for, it cannot come any more.
                Err(Error::NoSuch { .. }) => return Ok(code),
                Err(error) => return Err(error),
            };
            let stopped = matches!(view.status, Status::Created | Status::Exited | Status::Dead);
            if stopped || view.status == Status::Restarting {
                code = view.record.exit_code;
            }
            let met = |condition: &Condition| match condition {
                Condition::NotRunning => stopped,
                Condition::NextExit => view.record.finished != before,
                Condition::Removed => false,
                Condition::Is(status) => view.status == *status,
                Condition::Health(word) => {
                    let document = self.inspect_container(id.as_str(), false).ok();
                    document.is_some_and(|document| document.pointer("/State/Health/Status").and_then(serde_json::Value::as_str) == Some(word))
                }
            };
            if conditions.iter().any(met) {
                let tells_code = stopped || conditions.contains(&Condition::NextExit);
                return Ok(if tells_code { view.record.exit_code } else { -1 });
            }
            std::thread::sleep(interval);
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
