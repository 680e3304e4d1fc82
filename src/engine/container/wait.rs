//! `wait`: until a container has ended, ends next, or is removed; gives its exit code.

use super::super::{Engine, Result, WaitFor};
use super::stop::connect;
use crate::base::ContainerId;
use crate::monitor::{Client, Event};
use crate::state::record::Phase;
use std::time::Duration;

/// Between looks at the database where no monitor can tell (waiting for a start or a removal by others).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Exit code of a container whose end nobody saw.
const UNKNOWN: i32 = 255;

impl Engine {
    /// Waits for the condition and returns the exit code.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait(&self, name: &str, condition: WaitFor) -> Result<i32> {
        let mut record = self.find(name)?;
        let id = record.id.clone();
        let mut code = None;
        loop {
            if let Some(client) = connect(&self.privilege.roots.live(&id))? {
                let seen = follow(client, condition);
                code = seen.or(code);
                if condition == WaitFor::NextExit && seen.is_some() {
                    return Ok(code.unwrap_or(UNKNOWN));
                }
            }
            // The monitor is gone (or was never there): the record says what became of it.
            let Some(now) = self.settled(&id)? else { return Ok(code.unwrap_or(record.exit_code)) };
            record = now;
            match condition {
                WaitFor::NotRunning if record.phase != Phase::Started => return Ok(code.unwrap_or(record.exit_code)),
                WaitFor::NextExit if code.is_some() => return Ok(code.unwrap_or(record.exit_code)),
                _ => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    fn settled(&self, id: &ContainerId) -> Result<Option<crate::state::record::Container>> {
        match self.db.container(id)? {
            Some(record) => self.settle(record),
            None => Ok(None),
        }
    }
}

/// Follows one monitor to its end (or, for the next exit, to that).
fn follow(mut client: Client, condition: WaitFor) -> Option<i32> {
    let mut code = None;
    loop {
        match client.next(None) {
            Ok(Some(Event::Exited { exit, .. })) => {
                code = Some(exit.code);
                // Otherwise to the last word: by then the end is recorded.
                if condition == WaitFor::NextExit {
                    return code;
                }
            }
            Ok(Some(Event::Gone)) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}
