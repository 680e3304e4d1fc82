//! Marks of chattr(1) by which a file can be neither changed nor removed, also by root.

use rustix::fs::{Dir, FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, open, openat};
use std::os::fd::OwnedFd;
use std::path::Path;

/// `i` and `a`.
const LOCKS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Takes the marks from a tree that only we own, without following a link. False: there were none, or they stay.
pub(super) fn clear(tree: &Path) -> bool {
    open(tree, OPEN.union(OFlags::DIRECTORY), Mode::empty()).is_ok_and(|top| clear_in(&top))
}

fn clear_in(directory: &OwnedFd) -> bool {
    let mut any = clear_one(directory);
    let Ok(entries) = Dir::read_from(directory) else { return any };
    for entry in entries.flatten().filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")) {
        // Only these can be marked; to open others could mean something.
        let kind = entry.file_type();
        if matches!(kind, FileType::RegularFile | FileType::Directory)
            && let Ok(node) = openat(directory, entry.file_name(), OPEN, Mode::empty())
        {
            any |= if kind == FileType::Directory { clear_in(&node) } else { clear_one(&node) };
        }
    }
    any
}

fn clear_one(node: &OwnedFd) -> bool {
    ioctl_getflags(node).is_ok_and(|flags| flags.intersects(LOCKS) && ioctl_setflags(node, flags - LOCKS).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::remove_tree;

    #[test]
    fn a_tree_with_marked_files_is_removed() {
        let top = std::env::temp_dir().join(format!("rcon-marks-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(top.join("in/deep")).unwrap();
        std::fs::write(top.join("in/deep/file"), "x").unwrap();
        for (path, mark) in [("in/deep/file", IFlags::IMMUTABLE), ("in/deep", IFlags::APPEND), ("in", IFlags::IMMUTABLE)] {
            let node = open(top.join(path), OPEN, Mode::empty()).unwrap();
            ioctl_setflags(&node, ioctl_getflags(&node).unwrap() | mark).unwrap();
        }
        assert!(std::fs::remove_dir_all(&top).is_err());
        remove_tree(&top).unwrap();
        assert!(!top.exists() && !clear(&top));
    }
}
