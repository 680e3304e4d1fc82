//! `container mount`: the files of a container on the host, at `merged` in its durable directory.
//!
//! The mount itself is the only record of it: it is found by looking, so a kill at any time leaves either none or one that
//! `umount` and `rm` find. A stopped container's overlay is mounted here, and a start uses that one (an upper directory
//! must not have two overlays); of a running container its own mount is shown a second time.

use super::super::{Engine, Error, Result, Status, View};
use super::locks;
use super::remove::failpoint_at;
use super::view::init_pidfd;
use crate::base::ErrorKind;
use crate::base::fs::Context;
use crate::monitor::Live;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "merged";

/// Where the files of a container are mounted on the host, if they are.
pub(super) fn mounted(container_dir: &Path) -> Option<PathBuf> {
    let path = container_dir.join(DIRECTORY);
    let device = |path: &Path| std::fs::symlink_metadata(path).ok().map(|stat| stat.dev());
    (device(&path)? != device(container_dir)?).then_some(path)
}

/// Takes the mount down, if there is one.
pub(super) fn take_down(container_dir: &Path) -> Result<bool> {
    let Some(path) = mounted(container_dir) else { return Ok(false) };
    // Detached: whoever still has a file open there keeps it, as with any deleted file.
    match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(e) => return Err(failed("unmount the files of the container from", &path, e.into())),
    }
    std::fs::remove_dir(&path).on("remove", &path)?;
    Ok(true)
}

fn failed(operation: &str, path: &Path, source: std::io::Error) -> Error {
    Error::Failed { operation: format!("{operation} {}", path.display()), kind: ErrorKind::Internal, source: Box::new(source) }
}

impl Engine {
    /// Mounts the files of a container and returns where; a second time it is the same place.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` while it is being removed; what the kernel refuses.
    pub fn mount_container(&self, name: &str) -> Result<PathBuf> {
        let id = self.view(name)?.record.id;
        let _lock = locks::lock(&self.privilege.roots, &id)?;
        let view = self.view(id.as_str())?;
        if view.status == Status::Removing {
            return Err(Error::conflict(format!("container {name} is being removed")));
        }
        let directory = self.privilege.roots.container(&id);
        if let Some(path) = mounted(&directory) {
            return Ok(path);
        }
        let tree = self.tree(&view, &directory)?;
        let path = directory.join(DIRECTORY);
        crate::base::fs::create_dir_all(&path, 0o700)?;
        failpoint_at("engine.mount.directory")?;
        move_mount(tree.as_fd(), c"", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| failed("mount the files of the container on", &path, e.into()))?;
        Ok(path)
    }

    /// A detached mount of its root.
    fn tree(&self, view: &View, directory: &Path) -> Result<OwnedFd> {
        if view.pid != 0 {
            let gone = || Error::conflict(format!("container {} has just ended", view.record.name));
            // Also of one that waits at its gate: it has its root.
            let live = Live::read(&self.privilege.roots.live(&view.record.id)).ok_or_else(gone)?;
            let init = init_pidfd(&live).ok_or_else(gone)?;
            let clone = move || -> std::io::Result<OwnedFd> {
                crate::sys::namespace::unshare(UnshareFlags::FS)?;
                move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::MOUNT)?;
                // setns(2): root and working directory are now those of the container.
                Ok(open_tree(CWD, c"/", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
            };
            // A thread that entered another mount namespace is good for nothing else.
            let joined = std::thread::spawn(clone).join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that copies the mount panicked")));
            return joined.map_err(|e| failed("copy the mount of the container for", directory, e));
        }
        Ok(self.beneath(&view.record)?.for_writing(directory, false).open()?)
    }

    /// Takes the mount down. False: there was none.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if the container runs on it; what the kernel refuses.
    pub fn unmount_container(&self, name: &str) -> Result<bool> {
        let id = self.view(name)?.record.id;
        let _lock = locks::lock(&self.privilege.roots, &id)?;
        take_down(&self.privilege.roots.container(&id))
    }

    /// Containers whose files are mounted on the host, and where.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn mounted_containers(&self) -> Result<Vec<(View, PathBuf)>> {
        let views = self.list(true, &[])?;
        let find = |view: View| mounted(&self.privilege.roots.container(&view.record.id)).map(|path| (view, path));
        Ok(views.into_iter().filter_map(find).collect())
    }
}
