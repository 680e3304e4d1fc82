//! Sources of bind mounts that are more than a path of the host: a part of a tree, an overlay, a file system of its own.
//!
//! The parent makes them for every run, with its own rights and in its own network namespace (an NFS server is the
//! host's business), and hands them over detached: they are in no mount table but the container's, so that nothing has
//! to be unmounted when container, monitor and command all die at once.

use super::error::{At, Error, Failure};
use super::fresh::Fresh;
use super::options;
use super::root::{clone_fd, clone_tree, in_private_namespace, mount_overlay, open_bind};
use super::{Overlay, mapped, tree};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is mounted for the bind of the config whose destination is `target`, instead of its source.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BindSource {
    pub target: PathBuf,
    pub base: Base,
    /// Only this part of the tree, resolved inside it.
    pub subpath: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    Directory(PathBuf),
    Overlay(Overlay),
    /// A file system, with options as mount(8) takes them. Same device and options: one file system, however often it
    /// is mounted.
    FileSystem {
        kind: String,
        device: String,
        options: Vec<String>,
    },
}

impl BindSource {
    /// Makes it detached, for callers that want to read or fill it. They may have several threads.
    ///
    /// # Errors
    /// What the kernel refuses; `Invalid` where there is nothing of that name.
    pub fn open(&self) -> Result<OwnedFd, Error> {
        self.make(true, None).map_err(Error::from)
    }

    /// `owner`: the user namespace by which an overlay's layers are mapped, and the ids of its root.
    pub(super) fn make(&self, recursive: bool, owner: Option<(BorrowedFd<'_>, (u32, u32))>) -> Result<OwnedFd, Failure> {
        let whole = match (&self.base, owner) {
            (Base::Directory(path), _) => match &self.subpath {
                None => return open_bind(path, recursive),
                Some(_) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    rustix::fs::open(path, flags, Mode::empty()).at_path("open bind source", path)?
                }
            },
            (Base::Overlay(overlay), Some((namespace, owner))) => mapped::mount(overlay, namespace, owner)?,
            (Base::Overlay(overlay), None) => mount_overlay(overlay)?,
            (Base::FileSystem { kind, device, options }, _) => file_system(kind, device, options)?,
        };
        match &self.subpath {
            None => Ok(whole),
            Some(path) => self.part(&whole, path, recursive),
        }
    }

    fn part(&self, whole: &OwnedFd, path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
        let missing = || Failure::invalid(format!("subpath \"{}\" does not exist in what is mounted on {}", path.display(), self.target.display()));
        let find = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR => missing(),
            errno => Failure::step(format!("open subpath {}", path.display()), errno),
        };
        let found = tree::open(whole.as_fd(), path, OFlags::PATH).map_err(find)?;
        match clone_fd(found.as_fd(), recursive) {
            // Before Linux 6.15 only what is attached somewhere can be cloned.
            Err(Errno::INVAL) => in_private_namespace(|| {
                let place = Path::new("/proc");
                move_mount(whole, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at_path("attach for a subpath on", place)?;
                let found = tree::open(whole.as_fd(), path, OFlags::PATH).map_err(find)?;
                clone_fd(found.as_fd(), recursive).at_path("clone subpath", path)
            }),
            other => other.at_path("clone subpath", path),
        }
    }
}

fn file_system(kind: &str, device: &str, options: &[String]) -> Result<OwnedFd, Failure> {
    let parsed = options::parse(options);
    if let Some(recursive) = parsed.bind {
        // mount(2) ignores type and data of a bind.
        let tree = clone_tree(Path::new(device), recursive).map_err(|errno| match errno {
            Errno::NOENT => Failure::invalid(format!("the volume's device does not exist: {device}")),
            errno => Failure::step(format!("open the volume's device {device}"), errno),
        })?;
        let attr = MountAttr { set: parsed.top.set, clear: parsed.top.clear, ..MountAttr::default() };
        if !parsed.top.is_empty() {
            mount_setattr(tree.as_fd(), &attr, false).at_path("set attributes of", Path::new(device))?;
        }
        return Ok(tree);
    }
    let mut data: Vec<String> = parsed.superblock_set().collect();
    if parsed.top.set & libc::MOUNT_ATTR_RDONLY != 0 {
        data.push("ro".to_owned());
    }
    data.extend(parsed.data.iter().cloned());
    let fresh = Fresh { kind, source: Some(OsStr::new(device)), data: &data, attributes: parsed.top.set, iversion: parsed.iversion, context: None };
    fresh.mount().map_err(|refusal| match refusal.errno {
        Errno::NODEV => Failure::invalid(format!("the kernel has no file system \"{kind}\" (is its module installed?)")),
        _ => refusal.into_failure(kind, Path::new(device)),
    })
}
