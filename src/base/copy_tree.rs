//! Copies of directory trees: an empty volume or tmpfs gets what the image has at its mount point. Resolves only with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`; entries are then walked by directory
//! descriptors, symbolic links are copied, never followed.

use super::fs::{Context, FsError};
use super::{Cancel, rooted, xattr};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Deeper trees do not fit into PATH_MAX with one-letter names; each level holds two descriptors.
const DEPTH_LIMIT: usize = 256;
/// Overlayfs' mark of a directory that hides what is below it.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Bytes of a file that are copied before it is asked again whether it was cancelled.
const PIECE: u64 = 64 << 20;

/// One copy of a tree.
struct Copy<'a> {
    source: &'a Path,
    target_root: BorrowedFd<'a>,
    /// (device, inode) of files with several names → path below the target root of the first one copied.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Of a layer: marks of overlayfs are copied, and no file is younger than that many seconds after 1970.
    latest: Option<i64>,
    cancel: Cancel,
}

/// True when the directory has no entry.
///
/// # Errors
/// It cannot be read.
pub fn is_empty(directory: &OwnedFd, path: &Path) -> Result<bool, FsError> {
    for entry in Dir::read_from(directory).on("list", path)? {
        let entry = entry.on("list", path)?;
        if !is_dot(entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies directory `path` of the tree at `root` (contents, and its own owner, mode, attributes and times) into the
/// empty directory `target`. Returns false when the tree has no directory there: then nothing is copied.
///
/// # Errors
/// The entry that cannot be read or written.
pub fn copy(root: BorrowedFd<'_>, path: &Path, target: BorrowedFd<'_>) -> Result<bool, FsError> {
    let source = match rooted::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        Err(e) => return Err(e).on("open in the image", path),
    };
    let mut copy = Copy { source: path, target_root: target, linked: HashMap::new(), latest: None, cancel: Cancel::default() };
    copy.directory(&source, target, Path::new(""), 0)?;
    Ok(true)
}

/// Copies the directory of a layer (in overlayfs form) into the empty directory `target`; what was changed later than
/// `latest` (seconds since 1970) gets that time.
///
/// # Errors
/// The entry that cannot be read or written; it was cancelled.
pub fn copy_layer(layer: &Path, target: &Path, latest: i64, cancel: &Cancel) -> Result<(), FsError> {
    let (source, target) = (open_directory(layer)?, open_directory(target)?);
    let mut copy = Copy { source: layer, target_root: target.as_fd(), linked: HashMap::new(), latest: Some(latest), cancel: cancel.clone() };
    copy.directory(&source, target.as_fd(), Path::new(""), 0)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

impl Copy<'_> {
    fn directory(&mut self, source: &OwnedFd, target: BorrowedFd<'_>, below: &Path, depth: usize) -> Result<(), FsError> {
        let shown = self.source.join(below);
        if depth > DEPTH_LIMIT {
            return Err(Errno::NAMETOOLONG).on("copy", &shown);
        }
        let names: Vec<CString> = Dir::read_from(source)
            .on("list", &shown)?
            .map(|entry| entry.map(|e| e.file_name().to_owned()))
            .collect::<Result<_, _>>()
            .on("list", &shown)?;
        for name in names.iter().filter(|n| !is_dot(n)) {
            let path = below.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            self.entry(source, target, name, &path, depth)?;
        }
        let stat = rustix::fs::fstat(source).on("stat", &shown)?;
        self.attributes(source.as_fd(), target, &stat).on("copy the attributes of", &shown)
    }

    fn entry(&mut self, source: &OwnedFd, target: BorrowedFd<'_>, name: &CStr, path: &Path, depth: usize) -> Result<(), FsError> {
        let shown = self.source.join(path);
        self.cancel.check().on("copy", &shown)?;
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).on("stat", &shown)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                return self.link(first, target, name).on("link", &shown);
            }
            self.linked.insert(key, path.to_path_buf());
        }
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700)).on("create", &shown)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty()).on("open", &shown)?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty()).on("open", &shown)?;
                self.directory(&from, to.as_fd(), path, depth + 1)
            }
            FileType::RegularFile => self.file(source, target, name).on("copy", &shown),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(source, name, Vec::new()).on("read link", &shown)?;
                rustix::fs::symlinkat(&*text, target, name).on("create", &shown)?;
                self.special(target, name, &stat, false).on("copy the attributes of", &shown)
            }
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev).on("create", &shown)?;
                self.special(target, name, &stat, true).on("copy the attributes of", &shown)
            }
        }
    }

    /// A further name of a file copied before.
    fn link(&self, first: &Path, target: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        let (parent, file) = (first.parent().unwrap_or(Path::new("")), first.file_name().unwrap_or_default());
        let directory = rooted::open_plain(self.target_root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::linkat(&directory, file, target, name, AtFlags::empty())
    }

    fn file(&self, source: &OwnedFd, target: BorrowedFd<'_>, name: &CStr) -> std::io::Result<()> {
        // NONBLOCK: should the name be a fifo by now, the open must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = std::fs::File::from(rustix::fs::openat(source, name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = std::fs::File::from(rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?);
        let stat = rustix::fs::fstat(&from)?;
        // Files both, which the kernel copies by itself.
        while std::io::copy(&mut (&from).take(PIECE), &mut to)? == PIECE {
            self.cancel.check()?;
        }
        Ok(self.attributes(from.as_fd(), to.as_fd(), &stat)?)
    }

    fn times(&self, stat: &rustix::fs::Stat) -> Timestamps {
        let mut modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        if let Some(latest) = self.latest
            && (modified.tv_sec > latest || modified.tv_sec == latest && modified.tv_nsec > 0)
        {
            modified = Timespec { tv_sec: latest, tv_nsec: 0 };
        }
        let accessed = Timespec { tv_sec: stat.st_atime, tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0) };
        Timestamps { last_access: accessed, last_modification: modified }
    }

    /// Owner first (it clears set-id bits and file capabilities), then mode, extended attributes, times.
    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &rustix::fs::Stat) -> rustix::io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(to, Some(uid), Some(gid))?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        // Overlay's own marks and labels of the host mean nothing in a volume.
        let is_mark = |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        xattr::copy(from, to, |name| (!is_mark(name) && name != b"security.selinux") || (self.latest.is_some() && name == OPAQUE))?;
        rustix::fs::futimens(to, &self.times(stat))
    }

    /// Owner, mode and times of something that is not opened (link, device, fifo, socket).
    fn special(&self, target: BorrowedFd<'_>, name: &CStr, stat: &rustix::fs::Stat, mode: bool) -> rustix::io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if mode {
            // The node was made a moment ago in a directory that only we write to; mknod(2) applied the umask.
            rustix::fs::chmodat(target, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        }
        rustix::fs::utimensat(target, name, &self.times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Opens a directory of ours for reading.
///
/// # Errors
/// As open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd, FsError> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_layer_is_copied_with_its_marks_and_no_file_is_younger() {
        let base = std::env::temp_dir().join(format!("rcon-copylayer-{}", crate::base::random_hex(8)));
        let (layer, target) = (base.join("layer"), base.join("target"));
        std::fs::create_dir_all(layer.join("dir")).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(layer.join("dir/new"), b"x").unwrap();
        std::fs::hard_link(layer.join("dir/new"), layer.join("link")).unwrap();
        std::fs::write(layer.join("old"), b"y").unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(999, 7);
        std::fs::File::options().write(true).open(layer.join("old")).unwrap().set_modified(old).unwrap();
        symlink("nowhere", layer.join("soft")).unwrap();
        rustix::fs::mknodat(CWD, layer.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        rustix::fs::setxattr(layer.join("dir"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        copy_layer(&layer, &target, 1000, &Cancel::default()).unwrap();
        let time = |name: &str| {
            let meta = std::fs::symlink_metadata(target.join(name)).unwrap();
            (meta.mtime(), meta.mtime_nsec())
        };
        assert_eq!(["dir", "dir/new", "link", "soft", "gone"].map(time), [(1000, 0); 5]);
        assert_eq!(time("old"), (999, 7));
        assert_eq!(std::fs::metadata(target.join("link")).unwrap().ino(), std::fs::metadata(target.join("dir/new")).unwrap().ino());
        assert_eq!(std::fs::symlink_metadata(target.join("gone")).unwrap().rdev(), 0);
        assert_eq!(rustix::fs::getxattr(target.join("dir"), "trusted.overlay.opaque", &mut [0u8; 4][..]), Ok(1));
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn links_modes_and_times_survive_and_escapes_stay_inside() {
        let base = std::env::temp_dir().join(format!("rcon-copyup-{}", crate::base::random_hex(8)));
        let (root, target) = (base.join("root"), base.join("target"));
        std::fs::create_dir_all(root.join("data/sub")).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(root.join("data/file"), b"x").unwrap();
        std::fs::hard_link(root.join("data/file"), root.join("data/sub/other")).unwrap();
        symlink("/etc/passwd", root.join("data/link")).unwrap();
        symlink("/../../data", root.join("way")).unwrap();
        std::fs::set_permissions(root.join("data"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::set_permissions(root.join("data/file"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        let (from, to) = (open_directory(&root).unwrap(), open_directory(&target).unwrap());
        assert!(is_empty(&to, &target).unwrap());
        // An absolute link with `..` in the image resolves inside the image.
        assert!(copy(from.as_fd(), Path::new("/way"), to.as_fd()).unwrap());
        assert_eq!(std::fs::read_link(target.join("link")).unwrap(), Path::new("/etc/passwd"));
        let (a, b) = (std::fs::metadata(target.join("file")).unwrap(), std::fs::metadata(target.join("sub/other")).unwrap());
        assert_eq!(a.ino(), b.ino());
        assert_eq!(a.mode() & 0o7777, 0o4755);
        assert_eq!(a.mtime(), std::fs::metadata(root.join("data/file")).unwrap().mtime());
        assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o7777, 0o1777);
        assert!(!is_empty(&open_directory(&target).unwrap(), &target).unwrap());
        assert!(!copy(from.as_fd(), Path::new("/data/file"), to.as_fd()).unwrap());
        assert!(!copy(from.as_fd(), Path::new("/none"), to.as_fd()).unwrap());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
