//! `volume mount` and `unmount`: the files of a volume on the host, without a container that uses it.
//!
//! A plain volume's files are there anyway. One with a file system of its own is mounted on its `_data`, and the mount is the
//! only record of it; one in memory is kept for as long as a mark beside its place says so. Whoever mounts or unmounts
//! holds the lock of the volume's directory, and a volume that is mounted by hand is in use.

use super::driver::{self, Driver, Place};
use super::memory;
use super::*;
use crate::runtime::BindSource;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use std::path::Path;

impl Engine {
    /// Mounts the volume, if there is anything to mount, and returns where its files are; a second time it is the same place.
    ///
    /// # Errors
    /// `NoSuch`; what the kernel refuses.
    pub fn mount_volume(&self, name: &str) -> Result<PathBuf> {
        let volume = self.find_volume(name)?;
        let data = self.volume_mountpoint(&volume.name);
        match Driver::of(&volume)?.place {
            Place::Directory { .. } => Ok(data),
            Place::Tmpfs { options } => self.hold_in_memory(&volume, &options),
            Place::FileSystem { kind, device, options } => {
                let _lock = memory::lock(&self.privilege.roots, &volume.name)?;
                if !is_mounted(&data) {
                    let base = driver::base(&kind, &device, &options)?;
                    let tree = BindSource { target: data.clone(), base, subpath: None }.open().map_err(|source| Error::Failed {
                        operation: format!("mount volume \"{name}\""),
                        kind: source.kind(),
                        source: Box::new(source),
                    })?;
                    move_mount(&tree, "", CWD, &data, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).on("mount on", &data)?;
                }
                Ok(data)
            }
        }
    }

    /// Undoes [`Engine::mount_volume`]; containers that use the volume keep it. False: there was nothing to undo.
    ///
    /// # Errors
    /// `NoSuch`; what the kernel refuses.
    pub fn unmount_volume(&self, name: &str) -> Result<bool> {
        let volume = self.find_volume(name)?;
        match Driver::of(&volume)?.place {
            Place::Directory { .. } => Ok(false),
            Place::Tmpfs { .. } => self.let_go_of_memory(&volume.name),
            Place::FileSystem { .. } => {
                let _lock = memory::lock(&self.privilege.roots, &volume.name)?;
                let data = self.volume_mountpoint(&volume.name);
                if !is_mounted(&data) {
                    return Ok(false);
                }
                // Whoever still has a file open there keeps it.
                match unmount(&data, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                    Ok(()) | Err(Errno::INVAL) => Ok(true),
                    Err(error) => Ok(Err(error).on("unmount", &data)?),
                }
            }
        }
    }

    /// Names of the volumes that are mounted by hand, and where.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn mounted_volumes(&self) -> Result<Vec<(VolumeName, PathBuf)>> {
        let find = |volume: Volume| self.place_by_hand(&volume).map(|place| (volume.name, place));
        let mut mounted: Vec<_> = self.db.volumes()?.into_iter().filter_map(find).collect();
        mounted.sort();
        Ok(mounted)
    }

    /// Where it is mounted by hand.
    pub(super) fn place_by_hand(&self, volume: &Volume) -> Option<PathBuf> {
        match Driver::of(volume).ok()?.place {
            Place::Directory { .. } => None,
            Place::Tmpfs { .. } => {
                let roots = &self.privilege.roots;
                memory::is_held(roots, &volume.name).then(|| memory::place(roots, &volume.name))
            }
            Place::FileSystem { .. } => Some(self.volume_mountpoint(&volume.name)).filter(|data| is_mounted(data)),
        }
    }
}

/// Whether the path is the top of a mount, also of a part of the file system around it (statx(2)).
pub(super) fn is_mounted(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()).is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
