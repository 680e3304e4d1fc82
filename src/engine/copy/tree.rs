//! A container's file tree as `cp` sees it: the root of its init while it runs, otherwise its overlay with its volumes
//! and binds mounted in a mount namespace that only we have.

use super::CopyError;
use super::unpack::open_in_root;
use crate::engine::container::Beneath;
use crate::engine::{Engine, Error, Result, Status, View};
use crate::monitor::Live;
use crate::runtime::{Base, BindSource};
use crate::state::record::{IdMap, MountKind};
use crate::sys::private_mounts::PrivateMounts;
use crate::sys::proc_stat::ProcDir;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, mount_remount, move_mount};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) struct Tree {
    root: Root,
    ids: Ids,
}

enum Root {
    Running(OwnedFd),
    Stopped(PrivateMounts),
}

/// Owner ids between host and container.
#[derive(Clone, Default)]
pub(super) struct Ids {
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

impl Ids {
    pub(super) fn to_host(&self, uid: u32, gid: u32) -> (u32, u32) {
        (map(&self.uids, uid, |m| (m.container, m.host)), map(&self.gids, gid, |m| (m.container, m.host)))
    }

    pub(super) fn to_container(&self, uid: u32, gid: u32) -> (u32, u32) {
        (map(&self.uids, uid, |m| (m.host, m.container)), map(&self.gids, gid, |m| (m.host, m.container)))
    }
}

/// An id outside of the mappings stays as it is.
fn map(maps: &[IdMap], id: u32, ends: impl Fn(&IdMap) -> (u32, u32)) -> u32 {
    let inside = |m: &IdMap| {
        let (from, to) = ends(m);
        let offset = id.checked_sub(from).filter(|o| *o < m.size)?;
        to.checked_add(offset)
    };
    maps.iter().find_map(inside).unwrap_or(id)
}

/// One mount of a stopped container.
struct Attachment {
    source: BindSource,
    read_only: bool,
}

impl Tree {
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        match &self.root {
            Root::Running(fd) => fd.as_fd(),
            Root::Stopped(mounts) => mounts.root().as_fd(),
        }
    }

    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }
}

impl Engine {
    /// Opens the tree of a container, whatever its state.
    pub(super) fn open_tree(&self, name: &str) -> Result<Tree> {
        let view = self.view(name)?;
        if view.status == Status::Removing {
            return Err(Error::conflict(format!("container \"{name}\" is being removed")));
        }
        let maps = view.record.spec.host.userns.maps();
        let mapped = maps.map_or_else(Ids::default, |(uids, gids)| Ids { uids: uids.to_vec(), gids: gids.to_vec() });
        // On disk the ids are the container's own: only a running container shows others, through its id-mapped mounts.
        match self.running_root(&view)? {
            Some(fd) => Ok(Tree { root: Root::Running(fd), ids: mapped }),
            None => Ok(Tree { root: Root::Stopped(self.assemble(&view)?), ids: Ids::default() }),
        }
    }

    /// The root of a container's init, whose identity (pid and start time) is checked through the same descriptor.
    fn running_root(&self, view: &View) -> Result<Option<OwnedFd>> {
        if view.pid == 0 {
            return Ok(None);
        }
        let Some(live) = Live::read(&self.privilege.roots.live(&view.record.id)) else { return Ok(None) };
        let Some(pid) = live.pid else { return Ok(None) };
        let open = || -> std::io::Result<OwnedFd> {
            let dir = ProcDir::open(pid)?;
            if dir.stat()?.start_ticks != live.start_ticks {
                return Err(Errno::SRCH.into());
            }
            dir.root()
        };
        match open() {
            Ok(fd) => Ok(Some(fd)),
            Err(e) => Err(CopyError::io("open the root of container", view.record.name.as_str().as_bytes(), e).about("cp")),
        }
    }

    fn assemble(&self, view: &View) -> Result<PrivateMounts> {
        let record = &view.record;
        let dir = self.privilege.roots.container(&record.id);
        let beneath = self.beneath(record)?.for_writing(&dir, false);
        let mut mounts = Vec::new();
        for mount in &record.spec.mounts {
            let (base, subpath, mut read_only) = match &mount.kind {
                MountKind::Bind { source, .. } => (Base::Directory(source.clone()), None, mount.read_only),
                MountKind::Volume { name, subpath, .. } => {
                    // What is in memory is empty until the container runs, unless another one uses it now.
                    let Some((base, read_only)) = self.volume_base(name)? else { continue };
                    (base, subpath.clone(), mount.read_only || read_only)
                }
                MountKind::Image { id, subpath, .. } => {
                    let image = self.db.image(id)?.ok_or_else(|| Error::no_such("image", id.as_str()))?;
                    (Base::Overlay(crate::image::overlay(&self.privilege.roots, &self.db, &image)?), subpath.clone(), true)
                }
                // Empty until the container runs.
                MountKind::Tmpfs { .. } => continue,
            };
            // The changes of a run are gone with it, and those of `cp` would be gone at the next start.
            read_only |= mount.options.overlay;
            mounts.push(Attachment { source: BindSource { target: mount.destination.clone(), base, subpath }, read_only });
        }
        // Parents before what is mounted on them.
        mounts.sort_by_key(|m| m.source.target.components().count());
        let read_only = record.spec.host.read_only;
        PrivateMounts::assemble(move || mount_all(&beneath, &dir, &mounts, read_only)).map_err(|e: CopyError| e.about("cp"))
    }
}

/// Runs on the thread that holds the namespace.
fn mount_all(beneath: &Beneath, over: &Path, mounts: &[Attachment], read_only: bool) -> std::result::Result<OwnedFd, CopyError> {
    let root = beneath.open()?;
    // It must be attached somewhere in this namespace before anything can be mounted in it.
    move_mount(root.as_fd(), c"", CWD, over, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| CopyError::io("mount the container's files on", over.as_os_str().as_bytes(), e))?;
    for mount in mounts {
        attach(root.as_fd(), mount)?;
    }
    if read_only {
        remount_read_only(&root, b"/")?;
    }
    Ok(root)
}

fn attach(root: BorrowedFd<'_>, mount: &Attachment) -> std::result::Result<(), CopyError> {
    let destination = mount.source.target.as_os_str().as_bytes();
    let tree = mount.source.open()?;
    let stat = super::pack::stat(&tree, destination)?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let point = mount_point(root, destination, is_dir)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), c"", point.as_fd(), c"", empty).map_err(|e| CopyError::io("mount on", destination, e))?;
    if mount.read_only {
        remount_read_only(&tree, destination)?;
    }
    Ok(())
}

fn remount_read_only(mounted: &OwnedFd, name: &[u8]) -> std::result::Result<(), CopyError> {
    mount_remount(super::pack::self_path(mounted), MountFlags::BIND | MountFlags::RDONLY, c"").map_err(|e| CopyError::io("make read-only", name, e))
}

/// Opens a destination inside the root, making it (and its parents) as the start of the container would.
fn mount_point(root: BorrowedFd<'_>, path: &[u8], is_dir: bool) -> std::result::Result<OwnedFd, CopyError> {
    match open_in_root(root, path, OFlags::PATH) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(CopyError::io("open", path, e)),
    }
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let slash = trimmed.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let (parent, name) = (&trimmed[..slash], trimmed.get(slash + 1..).unwrap_or_default());
    let parent = if parent.is_empty() {
        open_in_root(root, b"/", OFlags::PATH).map_err(|e| CopyError::io("open", b"/", e))?
    } else {
        mount_point(root, parent, true)?
    };
    let made = if is_dir {
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(CopyError::io("create", path, e)),
    }
    open_in_root(root, path, OFlags::PATH).map_err(|e| CopyError::io("open", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_both_ways() {
        let maps = vec![IdMap { container: 0, host: 100_000, size: 10 }];
        let ids = Ids { uids: maps.clone(), gids: maps };
        assert_eq!(ids.to_host(0, 9), (100_000, 100_009));
        assert_eq!(ids.to_container(100_001, 100_010), (1, 100_010));
        assert_eq!(Ids::default().to_host(5, 6), (5, 6));
    }
}
