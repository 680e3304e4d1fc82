//! Resolving and making paths beneath a container's root, by descriptor only.
//!
//! Invariant: no path leaves the root and no magic link is followed, whatever another process does to the
//! tree meanwhile; what was resolved once is held and never named again.

use super::error::{At, Failure};
pub(super) use crate::base::rooted::{open, open_plain};
use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Symbolic links followed while making one path (the kernel's own limit, path_resolution(7)).
const LINK_LIMIT: usize = 40;
/// What [`make`] creates at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Directory,
    File,
}

/// Where something is to be mounted.
pub(super) struct Place {
    /// `O_PATH`.
    pub fd: OwnedFd,
    pub mode: u32,
    /// A symbolic link led here.
    pub linked: bool,
    /// It was not there before.
    pub new: bool,
}

/// An `O_PATH` descriptor of `path`, made with mode 0755 directories (and an empty 0644 file) where absent.
pub(super) fn make(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> Result<OwnedFd, Failure> {
    place(root, path, leaf).map(|place| place.fd)
}

/// As [`make`], with what is known of it.
pub(super) fn place(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> Result<Place, Failure> {
    let (fd, linked, new) = match open_plain(root, path, OFlags::PATH) {
        Ok(fd) => (fd, false, false),
        Err(Errno::LOOP) => match open(root, path, OFlags::PATH) {
            Err(Errno::NOENT) => (walk_links(root, path, leaf).at_path("make mount point", path)?.0, true, true),
            other => (other.at_path("open mount point", path)?, true, false),
        },
        Err(Errno::NOENT) => {
            // A link may have come since.
            let (fd, linked) = walk(root, path, leaf).at_path("make mount point", path)?;
            (fd, linked, true)
        }
        other => (other.at_path("open mount point", path)?, false, false),
    };
    let mode = fstat(&fd).at_path("examine", path)?.st_mode;
    let is_directory = FileType::from_raw_mode(mode) == FileType::Directory;
    match (leaf, is_directory) {
        (Leaf::Directory, false) => Err(Failure::step(format!("mount on {}", path.display()), Errno::NOTDIR)),
        (Leaf::File, true) => Err(Failure::step(format!("mount a file on {}", path.display()), Errno::ISDIR)),
        _ => Ok(Place { fd, mode, linked, new }),
    }
}

pub(super) fn kind_of(fd: BorrowedFd<'_>) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// Makes what is absent of `path`. Mostly it is only the last name, in a directory that no link leads to. And whether a link
/// was followed nevertheless.
fn walk(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> rustix::io::Result<(OwnedFd, bool)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return walk_links(root, path, leaf) };
    let Ok(held) = open_plain(root, parent, OFlags::PATH | OFlags::DIRECTORY) else { return walk_links(root, path, leaf) };
    create(held.as_fd(), name, leaf)?;
    match open_plain(root, path, OFlags::PATH) {
        // Somebody made a link of it meanwhile.
        Err(Errno::LOOP) => walk_links(root, path, leaf),
        other => other.map(|found| (found, false)),
    }
}

/// Component by component from the root: what exists is opened without following, links are expanded by
/// hand, what is absent is made in the directory held by descriptor. And whether a link was followed.
fn walk_links(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> rustix::io::Result<(OwnedFd, bool)> {
    let mut queue = VecDeque::new();
    push_front(&mut queue, path.as_os_str());
    let mut done = PathBuf::from("/");
    let mut held = open_plain(root, &done, OFlags::PATH)?;
    let mut links = 0;
    while let Some(name) = queue.pop_front() {
        if name == ".." {
            done.pop();
            held = open_plain(root, &done, OFlags::PATH)?;
            continue;
        }
        let next = done.join(&name);
        let opened = match open_plain(root, &next, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => {
                create(held.as_fd(), &name, if queue.is_empty() { leaf } else { Leaf::Directory })?;
                open_plain(root, &next, OFlags::PATH | OFlags::NOFOLLOW)?
            }
            other => other?,
        };
        if kind_of(opened.as_fd())? == FileType::Symlink {
            links += 1;
            if links > LINK_LIMIT {
                return Err(Errno::LOOP);
            }
            let target = OsString::from_vec(readlinkat(&opened, "", Vec::new())?.into_bytes());
            if target.as_bytes().first() == Some(&b'/') {
                done = PathBuf::from("/");
                held = open_plain(root, &done, OFlags::PATH)?;
            }
            push_front(&mut queue, &target);
        } else {
            held = opened;
            done = next;
        }
    }
    Ok((held, links > 0))
}

fn push_front(queue: &mut VecDeque<OsString>, path: &OsStr) {
    for name in path.as_bytes().split(|byte| *byte == b'/').rev() {
        if !name.is_empty() && name != b"." {
            queue.push_front(OsStr::from_bytes(name).to_owned());
        }
    }
}

fn create(directory: BorrowedFd<'_>, name: &OsStr, leaf: Leaf) -> rustix::io::Result<()> {
    if leaf == Leaf::Directory {
        return ignore_exist(mkdirat(directory, name, Mode::from_raw_mode(0o755)));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    ignore_exist(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(drop))
}

/// Somebody else made it first; the open that follows examines what it is.
pub(super) fn ignore_exist(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Leaf, make, open};
    use rustix::fs::OFlags;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn links_stay_in_the_root() {
        let base = std::env::temp_dir().join(format!("rcon-tree-{}", crate::base::random_hex(8)));
        let root = base.join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        symlink("../../../x/y", root.join("a/up")).unwrap();
        symlink("/abs", root.join("to-abs")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = std::fs::File::open(&root).unwrap();
        make(fd.as_fd(), Path::new("/a/up/z"), Leaf::Directory).unwrap();
        assert!(root.join("x/y/z").is_dir());
        make(fd.as_fd(), Path::new("to-abs/file"), Leaf::File).unwrap();
        assert!(root.join("abs/file").is_file());
        make(fd.as_fd(), Path::new("/../../b"), Leaf::Directory).unwrap();
        assert!(root.join("b").is_dir() && !base.join("b").exists());
        assert!(make(fd.as_fd(), Path::new("/loop/x"), Leaf::Directory).is_err());
        assert!(make(fd.as_fd(), Path::new("/abs/file"), Leaf::Directory).is_err());
        assert!(open(fd.as_fd(), Path::new("/to-abs"), OFlags::PATH).is_ok());
        std::fs::remove_dir_all(base).unwrap();
    }
}
