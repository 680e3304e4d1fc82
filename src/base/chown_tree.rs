//! Giving a whole directory tree to another owner.
//!
//! Invariant: entries are reached by directory descriptors, symbolic links are changed and never followed, and what is
//! mounted below is left alone, whatever another process does to the tree meanwhile.

use super::fs::{Context, FsError};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchown, fstat, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As for copies: deeper trees do not fit into PATH_MAX with one-letter names; each level holds two descriptors.
const DEPTH_LIMIT: usize = 256;

/// Gives `top` and everything below it to these ids. Entries that have them already are not written, so that a second
/// time costs a look at each.
///
/// # Errors
/// The entry that cannot be read or changed.
pub fn give(top: &OwnedFd, uid: u32, gid: u32, path: &Path) -> Result<(), FsError> {
    let status = fstat(top).on("examine", path)?;
    let owner = Owner { uid, gid, device: status.st_dev };
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        owner.directory(top.as_fd(), path, 0)?;
    }
    owner.set(top.as_fd(), &status).on("change the owner of", path)
}

struct Owner {
    uid: u32,
    gid: u32,
    device: u64,
}

impl Owner {
    fn has(&self, status: &Stat) -> bool {
        (status.st_uid, status.st_gid) == (self.uid, self.gid)
    }

    fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn set(&self, fd: BorrowedFd<'_>, status: &Stat) -> rustix::io::Result<()> {
        let (uid, gid) = self.ids();
        if self.has(status) { Ok(()) } else { fchown(fd, uid, gid) }
    }

    fn directory(&self, fd: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<(), FsError> {
        if depth > DEPTH_LIMIT {
            return Err(Errno::NAMETOOLONG).on("change the owner of", path);
        }
        for entry in Dir::read_from(fd).on("list", path)? {
            let entry = entry.on("list", path)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            let status = match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed meanwhile.
                Err(Errno::NOENT) => continue,
                other => other.on("examine", &below)?,
            };
            if status.st_dev != self.device {
                continue;
            }
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(fd, name, flags, Mode::empty()).on("open", &below)?;
                let status = fstat(&directory).on("examine", &below)?;
                self.directory(directory.as_fd(), &below, depth + 1)?;
                self.set(directory.as_fd(), &status).on("change the owner of", &below)?;
            } else if !self.has(&status) {
                let (uid, gid) = self.ids();
                match chownat(fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {}
                    other => other.on("change the owner of", &below)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::copy_tree::open_directory;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn all_below_changes_and_nothing_beside() {
        let base = std::env::temp_dir().join(format!("rcon-chown-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(base.join("top/sub")).unwrap();
        std::fs::write(base.join("outside"), "x").unwrap();
        std::fs::write(base.join("top/sub/file"), "x").unwrap();
        symlink("../../outside", base.join("top/sub/link")).unwrap();
        give(&open_directory(&base.join("top")).unwrap(), 123, 456, Path::new("/top")).unwrap();
        for name in ["top", "top/sub", "top/sub/file", "top/sub/link"] {
            let status = std::fs::symlink_metadata(base.join(name)).unwrap();
            assert_eq!((status.uid(), status.gid()), (123, 456), "{name}");
        }
        assert_eq!(std::fs::metadata(base.join("outside")).unwrap().uid(), rustix::process::getuid().as_raw());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
