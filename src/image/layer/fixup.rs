//! What an independently unpacked layer needs from the layers below it, done once they are there:
//! hard links to their files, and the mode and owner of directories the tar did not describe.

use super::tree::{BENEATH, OPAQUE_XATTR, OPEN_DIRECTORY, failed, is_whiteout};
use super::{UnpackError, shown};
use crate::base::xattr;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Collected while unpacking; paths are clean and relative to the layer's root.
#[derive(Debug, Default)]
pub struct Fixups {
    /// Directories that were made because something lies in them; empty is the root.
    pub implicit: BTreeSet<Vec<u8>>,
    /// New name and the target that is not in this layer, in the order of the tar.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The root hides everything below.
    pub opaque_root: bool,
}

/// Finishes the layer in `diff`; `lowers` are the directories of the layers below, top first.
/// Returns the bytes copied up.
///
/// # Errors
/// A hard link whose target exists nowhere, or what the filesystem says.
pub fn apply(fixups: &Fixups, diff: &Path, lowers: &[PathBuf]) -> Result<u64, UnpackError> {
    let open = |path: &Path| rustix::fs::openat(CWD, path, OPEN_DIRECTORY, Mode::empty()).map_err(|e| failed("open the directory", b"/", e));
    let root = open(diff)?;
    let lowers = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
    let mut copied = 0;
    for (path, target) in &fixups.links {
        copied += link(&root, &lowers, path, target, fixups)?;
    }
    if fixups.opaque_root {
        hide_all(&root, &lowers)?;
    }
    for path in &fixups.implicit {
        describe(&root, &lowers, path)?;
    }
    Ok(copied)
}

/// The topmost file of that path in the merged view of these layers.
pub(super) fn lookup(layers: &[OwnedFd], path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    for layer in layers {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat2(layer, path, flags, Mode::empty(), BENEATH) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                let removed = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
                return Ok((!removed).then_some((fd, stat)));
            }
            Err(Errno::NOENT) if !hides(layer, path)? => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// A parent of `path` is opaque in this layer.
fn hides(layer: &OwnedFd, path: &[u8]) -> Result<bool, Errno> {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let directory = match rustix::fs::openat2(layer, &path[..at], OPEN_DIRECTORY, Mode::empty(), BENEATH) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e),
        };
        let mut value = [0u8; 1];
        match rustix::fs::fgetxattr(&directory, OPAQUE_XATTR, &mut value) {
            Ok(_) if value == *b"y" => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// A hard link to a file below: overlayfs would copy the file up at its own path and link that.
fn link(root: &OwnedFd, lowers: &[OwnedFd], path: &[u8], target: &[u8], fixups: &Fixups) -> Result<u64, UnpackError> {
    let wrong = |e| failed("link", path, e);
    let (directory, name) = parent(root, path).map_err(wrong)?;
    if rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        // A later entry of the tar took the name.
        return Ok(0);
    }
    let mut copied = 0;
    if let Err(e) = rustix::fs::openat2(root, target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
        let missing = matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        let found = if missing { lookup(lowers, target).map_err(wrong)? } else { return Err(wrong(e)) };
        let (source, stat) = found.ok_or_else(|| UnpackError::Refused { path: shown(path), why: "a hard link to a file that does not exist" })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(UnpackError::Refused { path: shown(path), why: "a hard link to something of a lower layer that is not a regular file" });
        }
        make_parents(root, lowers, target, fixups)?;
        copied = copy_up(root, &source, &stat, target).map_err(|source| UnpackError::File { operation: "copy up", path: shown(target), source })?;
    }
    let (target_directory, target_name) = parent(root, target).map_err(wrong)?;
    let before = rustix::fs::fstat(&directory).map_err(wrong)?;
    rustix::fs::linkat(&target_directory, target_name, &directory, name, AtFlags::empty()).map_err(wrong)?;
    rustix::fs::futimens(&directory, &times(&before)).map_err(wrong)?;
    Ok(copied)
}

/// Opens the directory that holds `path` and returns its last component.
fn parent<'a>(root: &OwnedFd, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
    let (directory, name): (&[u8], &[u8]) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b".", path),
    };
    Ok((rustix::fs::openat2(root, directory, OPEN_DIRECTORY, Mode::empty(), BENEATH)?, name))
}

/// Makes the missing parents of a copied-up file, described as below.
fn make_parents(root: &OwnedFd, lowers: &[OwnedFd], path: &[u8], fixups: &Fixups) -> Result<(), UnpackError> {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let wrong = |e| failed("create a parent of", path, e);
        let (directory, name) = parent(root, &path[..at]).map_err(wrong)?;
        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) if !fixups.implicit.contains(&path[..at]) => describe(root, lowers, &path[..at])?,
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(wrong(e)),
        }
    }
    Ok(())
}

fn copy_up(root: &OwnedFd, source: &OwnedFd, stat: &Stat, target: &[u8]) -> std::io::Result<u64> {
    let (directory, name) = parent(root, target)?;
    let before = rustix::fs::fstat(&directory)?;
    // An O_PATH handle is opened for reading through our own procfs entry: no name of the layer is resolved again.
    let mut from = File::open(crate::image::descriptor_path(source.as_fd()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600))?);
    let copied = std::io::copy(&mut from, &mut to)?;
    copy_owner_and_mode(to.as_fd(), stat)?;
    xattr::copy(from.as_fd(), to.as_fd(), super::xattr::allowed)?;
    rustix::fs::futimens(&to, &times(stat))?;
    rustix::fs::futimens(&directory, &times(&before))?;
    Ok(copied)
}

fn copy_owner_and_mode(to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

/// Gives an implicit directory what the same directory below has.
fn describe(root: &OwnedFd, lowers: &[OwnedFd], path: &[u8]) -> Result<(), UnpackError> {
    let wrong = |e| failed("describe the directory", path, e);
    let name: &[u8] = if path.is_empty() { b"." } else { path };
    let directory = match rustix::fs::openat2(root, name, OPEN_DIRECTORY, Mode::empty(), BENEATH) {
        Ok(directory) => directory,
        // A later entry of the tar replaced it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(e) => return Err(wrong(e)),
    };
    let Some((lower, stat)) = lookup(lowers, path).map_err(wrong)? else { return Ok(()) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let lower = rustix::fs::openat(&lower, ".", OPEN_DIRECTORY, Mode::empty()).map_err(wrong)?;
    copy_owner_and_mode(directory.as_fd(), &stat).map_err(wrong)?;
    xattr::copy(lower.as_fd(), directory.as_fd(), super::xattr::allowed).map_err(wrong)?;
    rustix::fs::futimens(&directory, &times(&stat)).map_err(wrong)
}

/// An opaque root: overlayfs ignores the mark there, so every name below gets its own.
fn hide_all(root: &OwnedFd, lowers: &[OwnedFd]) -> Result<(), UnpackError> {
    let wrong = |e| failed("hide the layers below", b"/", e);
    for lower in lowers {
        for entry in rustix::fs::Dir::read_from(lower).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || is_whiteout(root.as_fd(), name) {
                continue;
            }
            match rustix::fs::mknodat(root, name, FileType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) => {}
                Err(Errno::EXIST) => match rustix::fs::openat(root, name, OPEN_DIRECTORY, Mode::empty()) {
                    Ok(directory) => rustix::fs::fsetxattr(&directory, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(wrong)?,
                    Err(Errno::NOTDIR | Errno::LOOP) => {}
                    Err(e) => return Err(wrong(e)),
                },
                Err(e) => return Err(wrong(e)),
            }
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |sec: i64, nsec: u64| Timespec { tv_sec: sec, tv_nsec: i64::try_from(nsec).unwrap_or(0) };
    Timestamps { last_access: time(stat.st_atime, stat.st_atime_nsec), last_modification: time(stat.st_mtime, stat.st_mtime_nsec) }
}
