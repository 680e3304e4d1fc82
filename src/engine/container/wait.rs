//! `wait`: until a container has ended (restarts by policy included); gives its exit code.

use super::super::{Engine, Result};
use super::stop::connect;
use crate::base::ContainerId;
use crate::monitor::{Client, Event};
use crate::state::record::Phase;
use std::time::Duration;

/// Between looks at the database where no monitor can tell (waiting for a start or a removal by others).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Engine {
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
            if record.phase != Phase::Started {
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
