//! What is at a path of a container.

use super::pack::lossy;
use super::{Side, pack, typed};
use crate::base::Timestamp;
use crate::engine::{Engine, Error, Result};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// A file of a container, not followed if it is a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Its last component; `/` for the root.
    pub name: String,
    pub size: u64,
    /// `st_mode`, with the type of the file (inode(7)).
    pub mode: u32,
    pub modified: Timestamp,
    /// Where a symbolic link leads; empty for everything else.
    pub link_target: String,
}

impl PathStat {
    /// The mode as Go's `fs.FileMode` numbers its bits.
    pub fn go_mode(&self) -> u32 {
        let kind = match FileType::from_raw_mode(self.mode) {
            FileType::Directory => 1 << 31,
            FileType::Symlink => 1 << 27,
            FileType::BlockDevice => 1 << 26,
            FileType::CharacterDevice => 1 << 26 | 1 << 21,
            FileType::Fifo => 1 << 25,
            FileType::Socket => 1 << 24,
            _ => 0,
        };
        let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
        let bits: u32 = special.iter().filter(|(bit, _)| self.mode & bit != 0).map(|(_, go)| go).sum();
        kind | bits | self.mode & 0o777
    }
}

impl Engine {
    /// What `cp` finds at a path of a container.
    ///
    /// # Errors
    /// `NoSuch` for container or path.
    pub fn stat_path(&self, name: &str, path: &[u8]) -> Result<PathStat> {
        let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
        let side = Side::Container { name, tree: self.open_tree(name)? };
        let wanted = typed(&path);
        let flags = OFlags::PATH | if wanted.directory { OFlags::DIRECTORY } else { OFlags::NOFOLLOW };
        let node = side.open(wanted.path, flags).map_err(|error| match error {
            Errno::NOENT => Error::no_such("file", side.show(&path)),
            Errno::NOTDIR => Error::invalid(format!("\"{}\" is not a directory", side.show(&path))),
            error => super::CopyError::io("open", &path, error).about(&format!("look at \"{}\"", side.show(&path))),
        })?;
        let stat = pack::stat(&node, &path).map_err(|error| error.about("look at a file"))?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => rustix::fs::readlinkat(&node, c"", Vec::new()).map(|target| lossy(target.to_bytes())).unwrap_or_default(),
            _ => String::new(),
        };
        let modified = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Ok(PathStat {
            name: wanted.name.map_or_else(|| "/".to_owned(), lossy),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            modified: Timestamp::from_nanos(modified),
            link_target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        let of = |mode| PathStat { name: String::new(), size: 0, mode, modified: Timestamp::NEVER, link_target: String::new() }.go_mode();
        assert_eq!(of(0o100_644), 0o644);
        assert_eq!(of(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(of(0o120_777), 1 << 27 | 0o777);
        assert_eq!(of(0o104_755), 1 << 23 | 0o755);
    }
}
