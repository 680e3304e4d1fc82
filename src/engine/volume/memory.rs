//! Volumes in memory (`type=tmpfs`): one tmpfs below the run root for all containers that use the volume at the same time.
//!
//! Invariant: whoever mounts or unmounts it holds the lock of the volume's directory, and a container is recorded as
//! started before it mounts. So the last one to end finds nobody else started and unmounts; what a crash left mounted
//! has no started user either, and the next user begins with an empty one.

use super::by_hand::is_mounted;
use crate::base::fs::{Context, create_dir_all};
use crate::base::{ContainerId, Roots, VolumeName, copy_tree};
use crate::engine::{Engine, Result};
use crate::runtime::{Base, BindSource};
use crate::state::Db;
use crate::state::record::{Container, MountKind, Phase, Volume};
use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the volume is while somebody uses it.
pub(in crate::engine) fn place(roots: &Roots, name: &VolumeName) -> PathBuf {
    roots.run.join("volumes").join(name.as_str())
}

impl Engine {
    /// Mounts the volume for a container that is recorded as started, or finds it mounted by others.
    pub(in crate::engine) fn mount_in_memory(&self, volume: &Volume, options: &[String], user: &ContainerId) -> Result<PathBuf> {
        let _lock = lock(&self.privilege.roots, &volume.name)?;
        self.mount_shared(volume, options, Some(user))
    }

    /// Mounts the volume and keeps it until [`Engine::let_go_of_memory`], with or without containers.
    pub(super) fn hold_in_memory(&self, volume: &Volume, options: &[String]) -> Result<PathBuf> {
        let roots = &self.privilege.roots;
        let _lock = lock(roots, &volume.name)?;
        let place = self.mount_shared(volume, options, None)?;
        crate::base::fs::write(&mark(roots, &volume.name), b"")?;
        Ok(place)
    }

    /// False: it was not held.
    pub(super) fn let_go_of_memory(&self, name: &VolumeName) -> Result<bool> {
        let roots = &self.privilege.roots;
        let _lock = lock(roots, name)?;
        if !is_held(roots, name) {
            return Ok(false);
        }
        crate::base::fs::remove_file(&mark(roots, name))?;
        if !is_used(&self.db, roots, name, None)? {
            take_down(&place(roots, name))?;
        }
        Ok(true)
    }

    /// The caller holds the lock.
    fn mount_shared(&self, volume: &Volume, options: &[String], user: Option<&ContainerId>) -> Result<PathBuf> {
        let roots = &self.privilege.roots;
        let place = place(roots, &volume.name);
        let shared = is_used(&self.db, roots, &volume.name, user)?;
        if shared && is_mounted(&place) {
            return Ok(place);
        }
        take_down(&place)?;
        create_dir_all(&place, 0o700)?;
        let base = Base::FileSystem { kind: "tmpfs".to_owned(), device: "tmpfs".to_owned(), options: options.to_vec() };
        let tree = BindSource { target: place.clone(), base, subpath: None }.open()?;
        move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).on("mount on", &place)?;
        Ok(place)
    }
}

/// Takes down what only this container, which is at its end, still used, and notes when its volumes were used last.
/// Idempotent; nothing without volumes.
pub(in crate::engine) fn release(db: &Db, roots: &Roots, record: &Container) -> Result<()> {
    for mount in &record.spec.mounts {
        let MountKind::Volume { name, .. } = &mount.kind else { continue };
        touch(&roots.volumes().join(name.as_str()));
        let place = place(roots, name);
        if !place.exists() {
            continue;
        }
        let _lock = lock(roots, name)?;
        if !is_used(db, roots, name, Some(&record.id))? {
            take_down(&place)?;
        }
    }
    Ok(())
}

/// The time of the last use is for `prune --filter unused-for` alone: nothing fails without it.
fn touch(directory: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(error) = utimensat(CWD, directory, &times, AtFlags::SYMLINK_NOFOLLOW) {
        tracing::debug!("cannot touch {}: {error}", directory.display());
    }
}

/// Unmounts a volume that nobody refers to any more.
pub(in crate::engine) fn take_down(place: &Path) -> Result<()> {
    match unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Ok(Err(error).on("unmount", place)?),
    }
    match rustix::fs::rmdir(place) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Ok(Err(error).on("remove", place)?),
    }
}

/// Whether it is held by hand.
pub(super) fn is_held(roots: &Roots, name: &VolumeName) -> bool {
    mark(roots, name).exists()
}

/// No volume's name begins with a dot.
fn mark(roots: &Roots, name: &VolumeName) -> PathBuf {
    roots.run.join("volumes").join(format!(".{name}"))
}

/// Whether it is held by hand, or another container than this one is recorded as started with it.
fn is_used(db: &Db, roots: &Roots, name: &VolumeName, except: Option<&ContainerId>) -> Result<bool> {
    if is_held(roots, name) {
        return Ok(true);
    }
    for id in db.volume_users(name)?.iter().filter(|id| Some(*id) != except) {
        if db.container(id)?.is_some_and(|record| record.phase == Phase::Started) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn lock(roots: &Roots, name: &VolumeName) -> Result<OwnedFd> {
    let directory = roots.volumes().join(name.as_str());
    let held = copy_tree::open_directory(&directory)?;
    flock(&held, FlockOperation::LockExclusive).on("lock", &directory)?;
    Ok(held)
}
