//! The root: held, attached where it can be seen until the process is inside, and made "/".

use super::{OVERFLOW_ID, Stage, apply, unattached};
use crate::runtime::error::{At, Failure};
use crate::runtime::options::Setting;
use crate::runtime::plan::Plan;
use crate::runtime::{Root, root};
use crate::sys::mountinfo;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, statx};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A root directory opened before the mounts became private: its place and its clone.
pub(super) struct Opened {
    place: OwnedFd,
    tree: OwnedFd,
}

impl Stage<'_> {
    /// For a root that hears of the host's mounts but never tells of its own. One in a user namespace comes from
    /// the parent; an overlay is new and has no peers.
    pub(super) fn open_root(&mut self, source: &Root, plan: &Plan) -> Result<(), Failure> {
        if let (Root::Directory(path), false) = (source, plan.namespaces.handed_over) {
            let place = directory(path)?;
            let tree = root::clone_fd(place.as_fd(), true).at_path("clone the root", path)?;
            root::follow(tree.as_fd(), libc::MS_SLAVE).at_path("set propagation of", path)?;
            self.opened = Some(Opened { place, tree });
        }
        Ok(())
    }

    /// A directory is covered by its own clone, so that hooks find the container at the path they know; what else has
    /// no path is put on top of "/". Both are reached by descriptor only.
    pub(super) fn attach_root(&mut self, source: &Root, plan: &Plan) -> Result<(), Failure> {
        let mapped = plan.namespaces.handed_over;
        let (tree, place) = match (self.opened.take(), source) {
            (Some(Opened { place, tree }), _) => (tree, Some(place)),
            // See `mapped.rs`.
            (None, Root::Directory(path)) if mapped => (self.channel.expect_tree()?, directory(path).ok()),
            (None, Root::Overlay(_)) if mapped => (self.channel.expect_tree()?, None),
            (None, Root::Directory(path)) => {
                let place = directory(path)?;
                (root::clone_fd(place.as_fd(), true).at_path("clone the root", path)?, Some(place))
            }
            (None, Root::Overlay(overlay)) => (root::mount_overlay(overlay)?, None),
        };
        // In a directory that nobody inside owns nothing can be made.
        self.foreign = (mapped || plan.namespaces.rootless) && fstat(&tree).at("examine the root")?.st_uid == OVERFLOW_ID;
        match place {
            Some(place) => root::attach(tree.as_fd(), place.as_fd()).at("attach the root")?,
            None => move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at("attach the root")?,
        }
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn hold_root(&mut self, source: &Root) -> Result<(), Failure> {
        let Root::Directory(path) = source else { return Err(unattached()) };
        self.root = Some(directory(path)?);
        Ok(())
    }

    pub(super) fn seal(&self, path: &Path) -> Result<(), Failure> {
        let mounted = crate::runtime::tree::open(self.root()?, path, OFlags::PATH).at_path("open", path)?;
        apply(mounted.as_fd(), path, &[Setting { set: libc::MOUNT_ATTR_RDONLY, ..Setting::default() }])
    }
}

fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOTDIR) => Err(Failure::invalid(format!("the container's root \"{}\" is not a directory", path.display()))),
        Err(Errno::NOENT) => Err(Failure::invalid(format!("the container's root \"{}\" does not exist", path.display()))),
        other => other.at_path("open root directory", path),
    }
}

/// The container's root becomes "/" and the host's tree goes.
pub(super) fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).at("enter the root")?;
    rustix::process::pivot_root(".", ".").at("pivot to the root")?;
    // The old root lies on top of the new one now.
    unmount(".", UnmountFlags::DETACH).at("detach the host's tree")?;
    rustix::process::chdir("/").at("enter the root")
}

/// Without a mount namespace there is nothing to pivot.
pub(in crate::runtime) fn chroot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).at("enter the root")?;
    rustix::process::chroot(".").at("change the root")?;
    rustix::process::chdir("/").at("enter the root")
}

/// The root goes over "/", where no path leads under it any more (".." of a covered "/" stays on top, fs/namei.c), and
/// the host's other mounts go: were one of its procfs left, a user namespace could mount another unmasked
/// (mount_too_revealing(), fs/namespace.c).
pub(super) fn move_root(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let id = statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).at("identify the root")?.stx_mnt_id;
    match move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
        // It is there already: the topmost "/" is the root itself.
        Err(Errno::LOOP) => {}
        other => other.at("move the root")?,
    }
    let table = mountinfo::read().at("read the mount table")?;
    for (point, kind) in foreign_mounts(&table, id).iter().rev() {
        match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Gone with the one that it was on.
            Ok(()) | Err(Errno::NOENT) => {}
            // Locked by a user namespace, or gone.
            Err(Errno::INVAL | Errno::PERM) if ["proc", "sysfs"].contains(&kind.as_str()) => cover(point)?,
            Err(Errno::INVAL | Errno::PERM) => {}
            other => other.at_path("unmount the host's", point)?,
        }
    }
    chroot(root)
}

fn cover(point: &Path) -> Result<(), Failure> {
    let data = ["size=0".to_owned(), "nr_inodes=1".to_owned(), "mode=555".to_owned()];
    let tree = root::mount_fresh("tmpfs", None, &data, libc::MOUNT_ATTR_RDONLY).at("mount an empty directory")?;
    match move_mount(&tree, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
        Err(Errno::NOENT) => Ok(()),
        other => other.at_path("cover the host's", point),
    }
}

/// Mount points and file systems of a mount table that are neither its first "/" nor the mount
/// `own` nor on it.
fn foreign_mounts(table: &[u8], own: u64) -> Vec<(PathBuf, String)> {
    let mut inside = vec![own];
    let mut found = Vec::new();
    for (index, mount) in mountinfo::parse(table).enumerate() {
        if mount.id == own || inside.contains(&mount.parent) {
            inside.push(mount.id);
        } else if index > 0 {
            found.push((mount.point(), String::from_utf8_lossy(mount.kind).into_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::foreign_mounts;

    #[test]
    fn the_containers_own_mounts_are_told_apart() {
        let table = b"1 1 0:1 / / rw - rootfs rootfs rw\n20 1 0:5 / /proc rw - proc proc rw\n21 1 0:6 / /my\\040run rw - tmpfs t rw\n\
            30 1 0:7 / / rw - ext4 d rw\n31 30 0:8 / /proc rw - proc proc rw\n32 31 0:9 / /proc/kcore rw - tmpfs t rw\n22 21 0:6 / /my\\040run/x rw - tmpfs t rw\n";
        let found: Vec<_> = foreign_mounts(table, 30).into_iter().map(|(point, kind)| format!("{} {kind}", point.display())).collect();
        assert_eq!(found, ["/proc proc", "/my run tmpfs", "/my run/x tmpfs"]);
    }
}
