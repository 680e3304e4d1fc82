//! attach: a connection to the monitor of a running container, subscribed to its streams.

use super::super::{AttachStreams, Attached, Engine, Error, Result, events};
use super::contact::connect;
use super::view::running;

impl Engine {
    /// Subscribes to the streams of a running container.
    ///
    /// # Errors
    /// It is not running, or paused.
    pub fn attach(&self, name: &str, streams: AttachStreams) -> Result<Attached> {
        let record = self.find(name)?;
        let hint = || Some("start it first".to_owned());
        let not_running = || Error::Conflict { message: format!("container {name} is not running"), hint: hint() };
        let live = running(&self.privilege.roots, &record.id, name)?;
        if live.cgroup.is_frozen() {
            return Err(Error::Conflict { message: format!("container {name} is paused"), hint: Some("unpause it first".to_owned()) });
        }
        let mut client = connect(&self.privilege.roots.live(&record.id))?.ok_or_else(not_running)?;
        client.attach(streams.stdout, streams.stderr, streams.stdin && record.spec.process.open_stdin)?;
        self.emit([events::of_container(&record, "attach")]);
        Ok(Attached { id: record.id, client, tty: record.spec.process.tty })
    }

    /// Tells that a user left the session of a container that goes on.
    ///
    /// # Errors
    /// There is no such container.
    pub fn detached(&self, id: &str) -> Result<()> {
        self.emit([events::of_container(&self.find(id)?, "detach")]);
        Ok(())
    }
}
