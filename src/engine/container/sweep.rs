//! Directories of containers and volumes that have no record: what a command that was killed in the middle of a create left.
//!
//! Invariant: whoever makes such a directory holds the container's operation lock until the record exists. So a
//! directory without a record whose lock is free is debris, and a lock file that nobody holds tells that there is some.

use super::super::{Engine, Result};
use super::locks;
use crate::base::fs::{Context, remove_tree};
use crate::base::{ContainerId, VolumeName};
use crate::monitor;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::path::Path;

impl Engine {
    /// Sweeps if a lock file shows that a command died.
    pub(super) fn sweep_if_killed(&self) -> Result<()> {
        let mut killed = false;
        for id in ids_in(&self.privilege.roots.run.join("containers"), locks::SUFFIX)? {
            // Taking it and letting go removes the file.
            if let Some(lock) = locks::try_lock(&self.privilege.roots, &id)? {
                killed = true;
                for volume in lock.noted_volumes()? {
                    self.sweep_volume(&volume)?;
                }
            }
        }
        if killed { self.sweep_containers().and(self.sweep_pods()) } else { Ok(()) }
    }

    /// Removes the directory of a volume that has no record and that nobody fills.
    fn sweep_volume(&self, name: &VolumeName) -> Result<()> {
        let path = self.privilege.roots.volumes().join(name.as_str());
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.on("open", &path)?,
        };
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            // Another create is at it: it clears what it finds, and its record will tell whose it is.
            Err(Errno::WOULDBLOCK) => return Ok(()),
            other => other.on("lock", &path)?,
        }
        if self.db.volume(name)?.is_none() {
            self.finish_rename_from(name)?;
            remove_tree(&path)?;
        }
        Ok(())
    }

    /// Removes the directories of containers that have no record and that nobody is making.
    pub(in crate::engine) fn sweep_containers(&self) -> Result<()> {
        let roots = &self.privilege.roots;
        for directory in [roots.containers(), roots.run.join("containers")] {
            for id in ids_in(&directory, "")? {
                let has_record = || self.db.find_id(id.as_str());
                if has_record()?.is_some() {
                    continue;
                }
                let Some(_lock) = locks::try_lock(roots, &id)? else { continue };
                // Under the lock: its maker may have finished since.
                if has_record()?.is_none() && !monitor::is_alive(&roots.live(&id)) {
                    super::super::cni::release(roots, &id);
                    self.release_sandbox(&id)?;
                    super::remove::unmount_shm(&roots.live(&id));
                    remove_tree(&roots.live(&id))?;
                    remove_tree(&roots.container(&id))?;
                }
            }
        }
        Ok(())
    }
}

/// Container ids among the names in a directory, those with this suffix; a missing directory has none.
pub(in crate::engine) fn ids_in(directory: &Path, suffix: &str) -> Result<Vec<ContainerId>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", directory)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.on("list", directory)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.strip_suffix(suffix)).and_then(|id| id.parse().ok()));
    }
    Ok(ids)
}
