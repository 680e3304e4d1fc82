//! rename: the name is a row of the database and nothing else, so a running container can be renamed.

use super::super::{Engine, Error, Result, events};
use super::create::name_conflict;
use super::lifecycle;
use crate::base::{ContainerName, ErrorKind};
use crate::state::record::Phase;

impl Engine {
    /// Gives the container another name.
    ///
    /// # Errors
    /// The new name is malformed or taken.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let record = self.find(name)?;
        let new: ContainerName = new.strip_prefix('/').unwrap_or(new).parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
        if record.phase == Phase::Removing {
            return Err(Error::conflict(format!("container {name} is being removed")));
        }
        if record.name == new {
            return Err(Error::invalid(format!("container {name} has that name already")));
        }
        match self.db.write(true, |tx| tx.rename_container(&record.id, &new)) {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(name_conflict(&self.db, &new)?),
            other => {
                other?;
                let live_dir = self.privilege.roots.live(&record.id);
                if crate::monitor::is_alive(&live_dir) {
                    // For the events that its monitor writes.
                    crate::base::fs::replace(&live_dir.join(lifecycle::NAME), new.as_str().as_bytes(), 0o600)?;
                }
                super::super::network::refresh_names(&self.db, &self.privilege.roots, &self.networks_of(&record.endpoints)?)?;
                self.emit([events::of_container(&record, "rename").with("name", &new).with("oldName", format!("/{}", record.name))]);
                Ok(())
            }
        }
    }
}
