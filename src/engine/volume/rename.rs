//! `volume rename`: the row first, then the files; what a kill leaves in between is finished by whoever needs either name.
//!
//! Invariant: from before the row changes until the files are in their new place, the new directory says where they come
//! from, and nobody takes the old directory for debris.

use super::*;
use crate::engine::container::failpoint_at;
use std::path::Path;

/// In the directory of a volume that was renamed: the name that its files still are under.
const FROM: &str = "from";

impl Engine {
    /// Gives a volume that nobody uses another name.
    ///
    /// # Errors
    /// `NoSuch`; `Invalid` for a malformed name; `Conflict` if it is in use, or the name is taken.
    pub fn rename_volume(&self, from: &str, to: &str) -> Result<()> {
        let volume = self.find_volume(from)?;
        let new: VolumeName = to.parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
        if self.db.volume(&new)?.is_some() {
            return Err(Error::conflict(format!("volume \"{new}\" exists already")));
        }
        let users = self.db.volume_users(&volume.name)?;
        if !users.is_empty() {
            return Err(Error::Conflict {
                message: format!("cannot rename volume \"{from}\": it is in use by {}", self.names_of(&users)?.join(", ")),
                hint: Some("remove the containers that use it first".to_owned()),
            });
        }
        if let Some(place) = self.place_by_hand(&volume) {
            return Err(Error::Conflict {
                message: format!("cannot rename volume \"{from}\": it is mounted at {}", place.display()),
                hint: Some(format!("rcon volume unmount {from}")),
            });
        }
        let (roots, old) = (&self.privilege.roots, volume.name.clone());
        // A start or a mount of the old one waits, and then finds no volume.
        let _lock = memory::lock(roots, &old)?;
        let directory = roots.volumes().join(new.as_str());
        self.finish_rename_from(&new)?;
        fs::remove_tree(&directory)?;
        fs::create_dir_all(&directory, PARENT_MODE)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(PARENT_MODE)).on("set mode of", &directory)?;
        let mark = directory.join(FROM);
        fs::replace(&mark, old.as_str().as_bytes(), 0o600)?;
        // The row must not survive a power cut that the mark does not.
        std::fs::File::open(&mark).and_then(|file| file.sync_all()).on("write out", &mark)?;
        sync(&directory)?;
        sync(&roots.volumes())?;
        failpoint_at("engine.volume.rename.noted")?;
        let renamed = Volume { name: new.clone(), anonymous: false, ..volume };
        let swap = self.db.write(true, |tx| {
            if !tx.insert_volume(&renamed)? {
                return Err(Error::conflict(format!("volume \"{new}\" exists already")));
            }
            Ok(tx.delete_volume(&old)?)
        });
        if let Err(error) = swap {
            fs::remove_tree(&directory)?;
            return Err(error);
        }
        failpoint_at("engine.volume.rename.recorded")?;
        self.finish_rename(&new)?;
        self.emit([Event::new(EventKind::Volume, "rename", new.as_str()).with("driver", "local").with("oldName", old.as_str())]);
        Ok(())
    }

    /// Brings the files of a volume to its name, if a rename was cut off. Cheap for all others: one look at a file that is
    /// not there.
    pub(in crate::engine) fn finish_rename(&self, name: &VolumeName) -> Result<()> {
        let volumes = self.privilege.roots.volumes();
        let directory = volumes.join(name.as_str());
        let mark = directory.join(FROM);
        let Ok(text) = std::fs::read_to_string(&mark) else { return Ok(()) };
        // The row decides: without it the rename never happened.
        if self.db.volume(name)?.is_none() {
            return Ok(());
        }
        let old: VolumeName = text.trim().parse().map_err(|e: crate::base::IdError| Error::invalid(format!("{}: {e}", mark.display())))?;
        let (source, target) = (volumes.join(old.as_str()).join("_data"), directory.join("_data"));
        match std::fs::rename(&source, &target) {
            // It was moved already.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && target.exists() => {}
            other => other.on("move the files of a volume from", &source)?,
        }
        sync(&directory)?;
        failpoint_at("engine.volume.rename.moved")?;
        fs::remove_file(&mark)?;
        if self.db.volume(&old)?.is_none() {
            fs::remove_tree(&volumes.join(old.as_str()))?;
        }
        Ok(())
    }

    /// Before a directory without a record is cleared away: are the files of a renamed volume in it?
    pub(in crate::engine) fn finish_rename_from(&self, old: &VolumeName) -> Result<()> {
        let volumes = self.privilege.roots.volumes();
        if !volumes.join(old.as_str()).join("_data").exists() || self.db.volume(old)?.is_some() {
            return Ok(());
        }
        for volume in self.db.volumes()? {
            let mark = volumes.join(volume.name.as_str()).join(FROM);
            if std::fs::read_to_string(mark).is_ok_and(|text| text.trim() == old.as_str()) {
                self.finish_rename(&volume.name)?;
            }
        }
        Ok(())
    }
}

/// The move is on disk before the mark goes.
fn sync(directory: &Path) -> Result<()> {
    let open = crate::base::copy_tree::open_directory(directory)?;
    Ok(rustix::fs::fsync(&open).on("write out", directory)?)
}
