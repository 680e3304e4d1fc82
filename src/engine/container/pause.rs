//! pause and unpause: the cgroup freezer.

use super::super::{Engine, Error, Result, events};
use super::view::running;

impl Engine {
    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// It is not running, or paused already.
    pub fn pause(&self, name: &str) -> Result<()> {
        let record = self.find(name)?;
        let live = running(&self.privilege.roots, &record.id, name)?;
        if live.cgroup.is_frozen() {
            return Err(Error::conflict(format!("container {name} is already paused")));
        }
        live.cgroup.freeze()?;
        self.emit([events::of_container(&record, "pause")]);
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let record = self.find(name)?;
        let live = running(&self.privilege.roots, &record.id, name)?;
        if !live.cgroup.is_frozen() {
            return Err(Error::conflict(format!("container {name} is not paused")));
        }
        live.cgroup.thaw()?;
        self.emit([events::of_container(&record, "unpause")]);
        Ok(())
    }
}
