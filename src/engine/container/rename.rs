//! rename: the name is a row of the database and nothing else, so a running container can be renamed.

use super::super::{Engine, Error, Result};
use super::create::name_conflict;
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
            other => Ok(other?),
        }
    }
}
