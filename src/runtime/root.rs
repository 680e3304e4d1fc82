//! Detached mounts: the overlay of a container's root and clones of host trees (new file systems: `fresh.rs`).
//!
//! Invariant: nothing appears in the caller's mount table; a mount lives as long as its descriptor until it
//! is attached inside a container.

use super::error::{At, Error, Failure};
pub(super) use super::fresh::{Fresh, mount_fresh, reconfigure};
use super::{Overlay, Upper};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::namespace::unshare;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
};
use rustix::thread::UnshareFlags;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// fsconfig(2) takes string values of at most 255 bytes.
pub(super) const VALUE_LIMIT: usize = 255;
/// mount(2) takes one page of options, the terminating NUL included.
pub(super) const OPTIONS_LIMIT: usize = 4095;
/// fs/overlayfs/params.h, OVL_MAX_STACK.
const STACK_LIMIT: usize = 500;

impl Overlay {
    /// Mounts it detached: visible in no mount table, gone when the fd closes. For reading an image's or a stopped
    /// container's tree (copy-up, cp) and for the init stage. Callers may have several threads.
    ///
    /// # Errors
    /// The step that failed; `Invalid` for an overlay of nothing.
    pub fn mount_detached(&self) -> Result<OwnedFd, Error> {
        mount_overlay(self).map_err(Error::from)
    }
}

/// See [`Overlay::mount_detached`].
pub(super) fn mount_overlay(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    // overlayfs wants two directories at least; of one there is nothing to overlay.
    match (overlay.lowers.as_slice(), &overlay.upper) {
        ([], None) => return Err(Failure::invalid("an overlay root needs at least one layer")),
        ([], Some(upper)) => return clone_tree(&upper.upper, false).at_path("mount", &upper.upper),
        ([only], None) => {
            let path = overlay.layers_dir.join(only);
            let tree = clone_tree(&path, false).at_path("mount", &path)?;
            let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            mount_setattr(tree.as_fd(), &read_only, false).at_path("make read-only", &path)?;
            return Ok(tree);
        }
        _ => {}
    }
    match mount_by_layer(overlay).or_else(|step| if forget_volatile(overlay) { mount_by_layer(overlay) } else { Err(step) }) {
        Ok(tree) => Ok(tree),
        Err(Step(_, Errno::INVAL | Errno::NOSYS)) => mount_from_within(overlay),
        Err(Step(step, errno)) => Err(Failure::step(step, errno)),
    }
}

/// A volatile mount leaves a mark in its work directory, with which the kernel refuses the next one, because
/// a crash may have lost data in between (Documentation/filesystems/overlayfs, "Volatile mount"). A container
/// whose upper may be lost at any crash accepts that. True: a mark was there and is gone.
fn forget_volatile(overlay: &Overlay) -> bool {
    match &overlay.upper {
        Some(Upper { work, volatile: true, .. }) => std::fs::remove_dir_all(work.join("work/incompat/volatile")).is_ok(),
        _ => false,
    }
}

/// A step and its error, before it is known whether the older interface is tried.
struct Step(String, Errno);

/// `lowerdir+` (Linux 6.8): one value a layer, so neither a page of options nor commas and colons limit it.
fn mount_by_layer(overlay: &Overlay) -> Result<OwnedFd, Step> {
    let fail = |what: &str, path: &Path| {
        let step = format!("{what} {}", path.display());
        move |errno| Step(step, errno)
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("open file system", Path::new("overlay")))?;
    for lower in &overlay.lowers {
        let path = overlay.layers_dir.join(lower);
        set_path(context.as_fd(), "lowerdir+", &path).map_err(fail("add overlay layer", &path))?;
    }
    let mut attributes = MountAttrFlags::empty();
    match &overlay.upper {
        Some(Upper { upper, work, volatile }) => {
            set_path(context.as_fd(), "upperdir", upper).map_err(fail("set overlay upper", upper))?;
            set_path(context.as_fd(), "workdir", work).map_err(fail("set overlay work directory", work))?;
            if *volatile {
                fsconfig_set_flag(&context, "volatile").map_err(fail("set overlay option volatile for", upper))?;
            }
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(&context).map_err(fail("create overlay of", &overlay.layers_dir))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("mount overlay of", &overlay.layers_dir))
}

/// A path longer than fsconfig takes is passed through a descriptor of it.
fn set_path(context: BorrowedFd<'_>, key: &str, path: &Path) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= VALUE_LIMIT {
        return fsconfig_set_string(context, key, path);
    }
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let held = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    fsconfig_set_string(context, key, format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// Older kernels: mount(2) with layer names relative to the layers directory, in the private mount
/// namespace of a throw-away thread; the clone of the mount outlives both.
fn mount_from_within(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    in_private_namespace(|| mount_by_options(overlay))
}

/// Runs `make` on a throw-away thread with a mount namespace of its own, from which nothing propagates; a
/// detached mount that it returns outlives both.
pub(super) fn in_private_namespace(make: impl FnOnce() -> Result<OwnedFd, Failure> + Send) -> Result<OwnedFd, Failure> {
    let enter = || {
        unshare(UnshareFlags::FS | UnshareFlags::NEWNS).at("unshare mount namespace")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("make mounts private")
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || enter().and_then(|()| make()));
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::step("mount overlay", Errno::IO)),
            Err(error) => Err(Failure::step("start mount thread", error)),
        }
    })
}

fn mount_by_options(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    let directory = &overlay.layers_dir;
    rustix::process::chdir(directory).at_path("enter", directory)?;
    let options = legacy_options(overlay)?;
    let flags = if overlay.upper.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    mount("overlay", ".", "overlay", flags, options.as_c_str()).at_path("mount overlay of", directory)?;
    clone_tree(directory, false).at_path("clone overlay of", directory)
}

fn legacy_options(overlay: &Overlay) -> Result<CString, Failure> {
    let mut text = b"lowerdir=".to_vec();
    for (index, lower) in overlay.lowers.iter().enumerate() {
        if index > 0 {
            text.push(b':');
        }
        escape(lower.as_os_str(), b":,\\", &mut text);
    }
    if let Some(Upper { upper, work, volatile }) = &overlay.upper {
        text.extend_from_slice(b",upperdir=");
        escape(upper.as_os_str(), b",\\", &mut text);
        text.extend_from_slice(b",workdir=");
        escape(work.as_os_str(), b",\\", &mut text);
        if *volatile {
            text.extend_from_slice(b",volatile");
        }
    }
    if overlay.lowers.len() > STACK_LIMIT {
        return Err(Failure::unsupported(format!("an image of {} layers, of which overlayfs stacks at most {STACK_LIMIT},", overlay.lowers.len())));
    }
    if text.len() > OPTIONS_LIMIT {
        return Err(Failure::unsupported(format!("an image of {} layers on a kernel before 6.8", overlay.lowers.len())));
    }
    CString::new(text).map_err(|_| Failure::invalid("a layer's path contains a NUL byte"))
}

fn escape(text: &OsStr, special: &[u8], into: &mut Vec<u8>) {
    for byte in text.as_bytes() {
        if special.contains(byte) {
            into.push(b'\\');
        }
        into.push(*byte);
    }
}

/// The source of a bind mount.
pub(super) fn open_bind(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    match clone_tree(path, recursive) {
        Err(Errno::NOENT) => Err(Failure::invalid(format!("bind source path does not exist: {}", path.display()))),
        other => other.at_path("open bind source", path),
    }
}

/// A detached clone of the mount at `path` (a bind mount not yet attached).
pub(super) fn clone_tree(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, tree_flags(recursive))
}

/// A detached clone of what the descriptor refers to.
pub(super) fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(fd, "", tree_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount on what `target` refers to.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Sets the propagation of a tree.
pub(super) fn follow(tree: BorrowedFd<'_>, propagation: u64) -> std::io::Result<()> {
    mount_setattr(tree, &MountAttr { propagation, ..MountAttr::default() }, true)
}

#[cfg(test)]
mod tests {
    use super::{Overlay, Upper, mount_from_within};
    use rustix::fs::{Mode, OFlags, openat};
    use std::path::PathBuf;

    fn sample(base: &std::path::Path, volatile: bool) -> Overlay {
        for (name, text) in [("one,a", "1"), ("two:b", "2")] {
            std::fs::create_dir_all(base.join(name)).unwrap();
            std::fs::write(base.join(name).join("file"), text).unwrap();
        }
        for name in ["upper", "work"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        Overlay {
            layers_dir: base.to_path_buf(),
            lowers: vec![PathBuf::from("two:b"), PathBuf::from("one,a")],
            upper: Some(Upper { upper: base.join("upper"), work: base.join("work"), volatile }),
        }
    }

    #[test]
    fn both_interfaces_mount_the_same_tree() {
        let base = PathBuf::from(format!("/run/rcon-test-{}", crate::base::random_hex(8)));
        for (legacy, read_only) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut overlay = sample(&base, !legacy);
            if read_only {
                overlay.upper = None;
            }
            let tree = if legacy { mount_from_within(&overlay).unwrap() } else { overlay.mount_detached().unwrap() };
            let file = openat(&tree, "file", OFlags::RDONLY, Mode::empty()).unwrap();
            assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "2");
            let made = openat(&tree, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
            assert_eq!(made.is_err(), read_only);
            drop((made, tree));
            std::fs::remove_dir_all(&base).unwrap();
        }
    }

    #[test]
    fn one_layer_is_bound_read_only() {
        let base = PathBuf::from(format!("/run/rcon-test-{}", crate::base::random_hex(8)));
        let mut overlay = sample(&base, false);
        overlay.upper = None;
        overlay.lowers.truncate(1);
        let tree = overlay.mount_detached().unwrap();
        let made = openat(&tree, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
        assert_eq!(made.err(), Some(rustix::io::Errno::ROFS));
        drop(tree);
        std::fs::remove_dir_all(&base).unwrap();
    }
}
