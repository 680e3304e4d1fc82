//! The parent's part in a new user namespace: the mounts that its root could not make.
//!
//! Root and sources of binds are opened by the parent, who may pass every directory of the host on the way, and are
//! handed over as detached mounts. The layers and the upper of an overlay are shown to it through id-mapped mounts
//! (Linux 5.19): on disk everything keeps the container's own ids, so that nothing is ever chowned.

use super::channel::Channel;
use super::error::{At, Failure};
use super::plan::{Maps, MountStep, Plan, Source, Step};
use super::{Base, Overlay, Root, idmap, root};
use crate::sys::clone::SingleThreaded;
use crate::sys::file_owner::FileOwner;
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Sends the sources of binds that the stage cannot open or map, in the order of their steps, then the root of a
/// user namespace, whose maps are written already.
pub(super) fn hand_over(channel: &Channel, pid: i32, plan: &Plan, proof: SingleThreaded) -> Result<(), Failure> {
    let mut own = None;
    let mut namespaces: Vec<(&Maps, OwnedFd)> = Vec::new();
    for step in &plan.steps {
        let Step::Mount(MountStep { source: Source::Bind { path, recursive, idmap, made }, target, .. }) = step else { continue };
        if !plan.namespaces.handed(idmap.as_ref(), made.is_some()) {
            continue;
        }
        let by_layers = made.as_ref().is_some_and(|made| matches!(made.base, Base::Overlay(_)) && idmap.as_ref().is_some_and(|i| i.maps.is_none()));
        let tree = match made {
            None => root::open_bind(path, *recursive)?,
            // overlayfs has no id-mapped mounts of its own; what it lies on has.
            Some(made) if by_layers => {
                let owner = plan.namespaces.owner.ok_or_else(|| Failure::unsupported("an overlay in a user namespace whose maps are not known"))?;
                made.make(*recursive, Some((container_namespace(&mut own, pid, plan)?, owner)))?
            }
            Some(made) => made.make(*recursive, None)?,
        };
        if let Some(idmap) = idmap.as_ref().filter(|_| !by_layers) {
            let namespace = match &idmap.maps {
                None => container_namespace(&mut own, pid, plan)?,
                Some(maps) => {
                    if !namespaces.iter().any(|(known, _)| *known == maps) {
                        namespaces.push((maps, idmap::namespace(proof, maps)?));
                    }
                    let found = namespaces.iter().find(|(known, _)| *known == maps);
                    found.map(|(_, fd)| fd.as_fd()).expect("invariant: pushed above")
                }
            };
            let name = if idmap.recursive { "ridmap" } else { "idmap" };
            map(tree.as_fd(), namespace, idmap.recursive, || format!("option \"{name}\" of mount \"{}\" for {}", target.display(), path.display()))?;
        }
        channel.hand_over(tree.as_fd())?;
    }
    if !plan.namespaces.handed_over {
        return Ok(());
    }
    let hears = plan.steps.iter().any(|step| matches!(step, Step::OpenRoot(_)));
    for step in &plan.steps {
        if let Step::AttachRoot(source) = step {
            let tree = match source {
                Root::Directory(path) => {
                    let tree = root::clone_tree(path, true).at_path("open root directory", path)?;
                    // It is still a peer of the host's: what the container mounts would be mounted on the host, too.
                    let propagation = if hears { libc::MS_SLAVE } else { libc::MS_PRIVATE };
                    root::follow(tree.as_fd(), propagation).at_path("set propagation of", path)?;
                    tree
                }
                Root::Overlay(overlay) => {
                    let owner = plan.namespaces.owner.ok_or_else(|| Failure::unsupported("an overlay in a joined user namespace"))?;
                    mount(overlay, container_namespace(&mut own, pid, plan)?, owner)?
                }
            };
            channel.hand_over(tree.as_fd())?;
        }
    }
    Ok(())
}

/// The container's user namespace: that of the stage, or the one it joins.
fn container_namespace<'a>(own: &'a mut Option<OwnedFd>, pid: i32, plan: &Plan) -> Result<BorrowedFd<'a>, Failure> {
    if own.is_none() {
        let joined = plan.namespaces.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER as u64);
        // Our own child, not yet reaped: the number is still its own.
        let path = joined.map_or_else(|| PathBuf::from(format!("/proc/{pid}/ns/user")), |(_, path)| path.clone());
        *own = Some(rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", &path)?);
    }
    own.as_ref().map(AsFd::as_fd).ok_or_else(|| Failure::step("open the user namespace", Errno::BADF))
}

/// The overlay over id-mapped mounts. Before Linux 6.15 overlayfs takes layers only from mounts that are attached:
/// the clones cover their own originals, in a mount namespace that nobody else sees.
pub(super) fn mount(overlay: &Overlay, namespace: BorrowedFd<'_>, (uid, gid): (u32, u32)) -> Result<OwnedFd, Failure> {
    let mut covered = vec![overlay.layers_dir.as_path()];
    if let Some(upper) = &overlay.upper {
        // One mount for both: overlayfs demands it of upper and work directory.
        let parent = upper.upper.parent().filter(|parent| upper.work.parent() == Some(parent));
        let parent = parent.ok_or_else(|| Failure::unsupported("an id-mapped overlay whose upper and work directories are not side by side"))?;
        if parent != overlay.layers_dir {
            covered.push(parent);
        }
    }
    root::in_private_namespace(|| {
        for path in covered {
            let tree = root::clone_tree(path, false).at_path("clone the mount of", path)?;
            map(tree.as_fd(), namespace, false, || format!("an id-mapped mount of {}", path.display()))?;
            move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at_path("attach the id-mapped", path)?;
        }
        // overlayfs keeps the identity of its maker for what it makes itself (whiteouts, copies being written).
        let _owner = FileOwner::assume(uid, gid).at("take the ids of the container's root")?;
        root::mount_overlay(overlay)
    })
}

/// `what` is asked for only when it cannot be had.
fn map(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>, all: bool, what: impl Fn() -> String) -> Result<(), Failure> {
    use std::os::fd::AsRawFd;
    let userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(|_| Failure::step("name the user namespace", Errno::BADF))?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() };
    match mount_setattr(tree, &attr, all) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) => {
            Err(Failure::unsupported(format!("{} by this kernel or the file system that holds it", what())))
        }
        other => other.at(&format!("map the ids: {}", what())),
    }
}
