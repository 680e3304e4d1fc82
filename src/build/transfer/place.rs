//! Destinations: found and made inside of the root, whatever links are on the way.

use super::select::LINK_LIMIT;
use super::{Error, Result, shown, split};
use crate::base::rooted;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mode of directories that nobody described.
const PARENT_MODE: u32 = 0o755;

/// A root in which directories are made.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub root: BorrowedFd<'a>,
    /// Of what is made.
    pub owner: (u32, u32),
}

impl Place<'_> {
    fn open(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        rooted::open(self.root, Path::new(OsStr::from_bytes(path)), flags)
    }

    /// What a path leads to; None: nothing (yet).
    pub(super) fn kind(&self, path: &[u8]) -> Result<Option<FileType>> {
        let node = match self.open(path, OFlags::PATH) {
            Ok(node) => node,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let stat = rustix::fs::fstat(&node).map_err(|e| Error::io("examine", path, e))?;
        Ok(Some(FileType::from_raw_mode(stat.st_mode)))
    }

    /// The path behind the links that end it: that of what exists, or of what is to be made.
    pub(super) fn follow(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut current = path.to_vec();
        for _ in 0..LINK_LIMIT {
            let Ok(node) = self.open(&current, OFlags::PATH | OFlags::NOFOLLOW) else { return Ok(current) };
            let Ok(target) = rustix::fs::readlinkat(&node, c"", Vec::new()) else { return Ok(current) };
            current = behind(&current, target.to_bytes());
        }
        Err(Error::Links { path: shown(path) })
    }

    /// Opens a directory, and makes it and its parents if they are missing.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        self.make(path, &mut 0)
    }

    fn make(&self, path: &[u8], links: &mut usize) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if !path.is_empty() => {}
            other => return other.map_err(|e| failed(path, e)),
        }
        let (parent, name) = split(path);
        let parent = self.make(parent, links)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|e| failed(path, e))?;
                own(made.as_fd(), self.owner).map_err(|e| Error::io("set the owner of", path, e))?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(PARENT_MODE)).map_err(|e| Error::io("set the mode of", path, e))?;
                Ok(made)
            }
            // A link that leads to nothing: what it names is made.
            Err(Errno::EXIST) => {
                *links += 1;
                if *links > LINK_LIMIT {
                    return Err(Error::Links { path: shown(path) });
                }
                match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                    Ok(target) => self.make(&behind(path, target.to_bytes()), links),
                    Err(Errno::INVAL) => self.make(path, links),
                    Err(e) => Err(Error::io("read the link", path, e)),
                }
            }
            Err(e) => Err(Error::io("create the directory", path, e)),
        }
    }
}

/// Makes a directory and its parents (0755, `owner`) if they are missing (`WORKDIR`); what exists stays as it is.
///
/// # Errors
/// Something else is in the way, or the root cannot be written.
pub fn make_directory(root: BorrowedFd<'_>, path: &[u8], (uid, gid): (rustix::fs::Uid, rustix::fs::Gid)) -> Result<()> {
    let path = crate::build::context::clean(&[b"/", path].concat());
    Place { root, owner: (uid.as_raw(), gid.as_raw()) }.directory(&path[1..]).map(drop)
}

fn behind(link: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") { target.to_vec() } else { [split(link).0, b"/", target].concat() }
}

fn failed(path: &[u8], error: Errno) -> Error {
    match error {
        Errno::NOTDIR => Error::NotDirectory { path: shown(path), what: shown(path) },
        Errno::LOOP => Error::Links { path: shown(path) },
        Errno::NAMETOOLONG => Error::TooDeep { path: shown(&path[..path.len().min(64)]) },
        e => Error::io("open", path, e),
    }
}

pub(super) fn own(node: BorrowedFd<'_>, (uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    rustix::fs::fchown(node, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
}
