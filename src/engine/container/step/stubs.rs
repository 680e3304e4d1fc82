//! Mount points that had to be made for a step: empty files and directories that are no part of its result.

use super::super::super::Result;
use crate::base::fs::Context;
use crate::base::rooted;
use crate::runtime::{Base, BindSource, Overlay};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Links followed one after another (as many as the kernel follows).
const LINK_LIMIT: usize = 40;

/// What is not there before a step and is to be taken away after it.
pub(super) struct Stubs {
    upper: PathBuf,
    /// The tree before the step.
    below: Option<OwnedFd>,
    targets: Vec<PathBuf>,
}

impl Stubs {
    /// Looks which of the mount points are missing in the tree.
    ///
    /// # Errors
    /// The tree cannot be mounted.
    pub(super) fn expected(root: &Overlay, targets: &[PathBuf]) -> Result<Self> {
        let upper = root.upper.as_ref().map(|upper| upper.upper.clone()).unwrap_or_default();
        let lowers = Overlay { upper: None, ..root.clone() };
        let below = if lowers.lowers.is_empty() {
            None
        } else {
            let source = BindSource { target: "/".into(), base: Base::Overlay(lowers), subpath: None };
            Some(source.open()?)
        };
        let mut targets: Vec<PathBuf> = match &below {
            Some(below) => targets.iter().filter_map(|target| missing(below.as_fd(), target)).collect(),
            None => targets.to_vec(),
        };
        // The deepest first: they empty the ones above them.
        targets.sort_by_key(|target| std::cmp::Reverse(target.components().count()));
        Ok(Stubs { upper, below, targets })
    }

    /// Takes away what is still empty of them, and the directories above that only had to be made, or copied up, for them.
    ///
    /// # Errors
    /// The upper directory cannot be changed.
    pub(super) fn remove(self) -> Result<()> {
        let upper = rustix::fs::openat(CWD, &self.upper, DIRECTORY, Mode::empty()).on("open", &self.upper)?;
        for target in &self.targets {
            let mut path = target.strip_prefix("/").unwrap_or(target);
            let mut is_stub = true;
            while !path.as_os_str().is_empty() {
                if !self.remove_one(upper.as_fd(), path, is_stub).on("remove a mount point in", &self.upper)? {
                    break;
                }
                is_stub = false;
                path = path.parent().unwrap_or(Path::new(""));
            }
        }
        Ok(())
    }

    /// False: it stays. `is_stub`: it is the mount point itself, and not a directory above one.
    fn remove_one(&self, upper: BorrowedFd<'_>, path: &Path, is_stub: bool) -> rustix::io::Result<bool> {
        let parent = match rooted::open_plain(upper, path.parent().unwrap_or(Path::new("")), DIRECTORY) {
            Ok(parent) => parent,
            // A link of the tree leads to it: its real path is another.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(name) = path.file_name() else { return Ok(false) };
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Of a nested mount point the parent may be gone already.
            Err(Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error),
        };
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if is_stub || self.is_as_before(path, &stat) => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if is_stub && stat.st_size == 0 => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
            _ => return Ok(false),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A directory above a mount point which was there and is the same but for its time, or was not there at all.
    fn is_as_before(&self, path: &Path, now: &Stat) -> bool {
        let Some(below) = &self.below else { return true };
        let opened = rooted::open_plain(below.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW);
        let Ok(before) = opened.and_then(rustix::fs::fstat) else { return true };
        let key = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
        key(&before) == key(now)
    }
}

/// Where a path that is not there would be made: links of the tree are followed inside of it. None: it is there, or its links
/// lead in circles. Nobody changes the tree meanwhile.
fn missing(root: BorrowedFd<'_>, target: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::from("/");
    let mut rest: Vec<OsString> = target.components().rev().filter_map(normal).collect();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        let path = real.join(&name);
        let Ok(node) = rooted::open_plain(root, &path, OFlags::PATH | OFlags::NOFOLLOW) else {
            return Some(rest.iter().rev().fold(path, |path, name| path.join(name)));
        };
        let stat = rustix::fs::fstat(&node).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            real = path;
            continue;
        }
        links += 1;
        let link = rustix::fs::readlinkat(&node, c"", Vec::new()).ok().filter(|_| links <= LINK_LIMIT)?;
        let link = Path::new(OsStr::from_bytes(link.to_bytes())).to_owned();
        if link.is_absolute() {
            real = PathBuf::from("/");
        }
        rest.extend(link.components().rev().filter_map(normal));
    }
    None
}

fn normal(component: Component<'_>) -> Option<OsString> {
    match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    }
}
