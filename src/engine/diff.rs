//! `diff`: what a container changed in its image's files.
//!
//! The upper directory of its overlay is compared with the image beneath. What overlayfs puts there of its own accord (a
//! directory on the way to a change, a file that was opened for writing and not written) is no change by itself, and
//! neither are the places of mounts, which the start makes where the image has none.

use super::copy::portable_attributes;
use super::{Engine, Error, Result};
use crate::base::{ErrorKind, rooted};
use crate::state::record;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, statat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories deeper than that are refused: a path has 4096 bytes at most (PATH_MAX), two a level.
const DEPTH_LIMIT: usize = 2048;

/// Where the engine itself mounts (`container/oci_mounts.rs`).
const OWN_MOUNTS: [&str; 6] = ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It, or in a directory something beneath it.
    Changed,
    Added,
    Deleted,
}

/// One changed path, absolute inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: PathBuf,
}

impl Engine {
    /// The changes of a container against its image, in the order of paths. Volumes and other mounts are left out.
    ///
    /// # Errors
    /// No such container; its files cannot be read.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let record = self.view(name)?.record;
        Ok(self.compare(name, &record)?.0)
    }

    /// What the top layer of a commit holds: the changes, and the unchanged names of changed files with several names.
    pub(super) fn layer_changes(&self, name: &str, record: &record::Container) -> Result<Vec<Change>> {
        let (mut changes, linked) = self.compare(name, record)?;
        changes.extend(linked);
        sort(&mut changes);
        Ok(changes)
    }

    /// The changes, sorted, and the unchanged names of changed files.
    fn compare(&self, name: &str, record: &record::Container) -> Result<(Vec<Change>, Vec<Change>)> {
        let failed = |source: Error| Error::Failed {
            operation: format!("compare container \"{name}\" with its image"),
            kind: source.kind(),
            source: Box::new(source),
        };
        let base = self.image_tree(record).map_err(failed)?;
        let upper = self.privilege.roots.container(&record.id).join("upper");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = rustix::fs::open(&upper, flags, Mode::empty()).map_err(|e| failed(io("open", &upper, e)))?;
        let mounts = mount_points(record);
        let mut walk = Walk { base: base.as_fd(), mounts, changes: Vec::new(), changed_links: HashSet::new(), unchanged_links: Vec::new() };
        walk.directory(upper.as_fd(), Path::new("/"), true, 0).map_err(failed)?;
        let linked = walk.unchanged_links.into_iter().filter(|(inode, _)| walk.changed_links.contains(inode));
        let linked = linked.map(|(_, path)| Change { kind: ChangeKind::Changed, path }).collect();
        let mut changes = walk.changes;
        sort(&mut changes);
        Ok((changes, linked))
    }

    fn image_tree(&self, record: &record::Container) -> Result<OwnedFd> {
        Ok(self.layers(record)?.mount_detached()?)
    }
}

/// By the bytes of the path: a directory comes before what is in it.
fn sort(changes: &mut [Change]) {
    changes.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
}

fn mount_points(record: &record::Container) -> BTreeSet<PathBuf> {
    let own = OWN_MOUNTS.iter().map(PathBuf::from);
    let secrets = record.spec.host.secrets.iter().filter_map(|secret| match &secret.target {
        record::SecretTarget::Mount { path, .. } => Some(path.clone()),
        record::SecretTarget::Env { .. } => None,
    });
    let notify = (record.spec.host.readiness == Some(record::Readiness::Container)).then(|| PathBuf::from(super::container::NOTIFY_INSIDE));
    own.chain(notify).chain(record.spec.mounts.iter().map(|mount| mount.destination.clone())).chain(secrets).collect()
}

fn io(operation: &str, path: &Path, errno: Errno) -> Error {
    Error::Failed {
        operation: format!("{operation} \"{}\"", path.display()),
        kind: ErrorKind::Internal,
        source: Box::new(std::io::Error::from(errno)),
    }
}

struct Walk<'a> {
    /// The image's files.
    base: BorrowedFd<'a>,
    mounts: BTreeSet<PathBuf>,
    changes: Vec<Change>,
    /// (device, inode) of files that are told and have several names.
    changed_links: HashSet<(u64, u64)>,
    /// Names of such files that are not told, because what the image has there is the same.
    unchanged_links: Vec<((u64, u64), PathBuf)>,
}

impl Walk<'_> {
    /// The entries of a directory of the upper; `there`: the image has a directory at its path, which still shows through
    /// unless it is opaque. True if anything in it is a change.
    fn directory(&mut self, upper: BorrowedFd<'_>, path: &Path, there: bool, depth: usize) -> Result<bool> {
        if depth > DEPTH_LIMIT {
            return Err(Error::invalid(format!("the directories of the container are nested more than {DEPTH_LIMIT} deep")));
        }
        let known = self.changes.len();
        let names = names(upper, path)?;
        for name in &names {
            self.entry(upper, name, &path.join(name), there, depth)?;
        }
        if there && is_opaque(upper).map_err(|e| io("examine", path, e))? {
            for name in self.base_names(path)?.into_iter().filter(|name| !names.contains(name)) {
                self.changes.push(Change { kind: ChangeKind::Deleted, path: path.join(name) });
            }
        }
        Ok(self.changes.len() > known)
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path, there: bool, depth: usize) -> Result<()> {
        let now = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container goes on while we look.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|e| io("examine", path, e))?,
        };
        let before = if there { self.before(path)? } else { None };
        let kind = FileType::from_raw_mode(now.st_mode);
        // Documentation/filesystems/overlayfs, "whiteouts and opaque directories".
        if kind == FileType::CharacterDevice && now.st_rdev == 0 {
            if before.is_some() {
                self.changes.push(Change { kind: ChangeKind::Deleted, path: path.to_path_buf() });
            }
            return Ok(());
        }
        let was_directory = before.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let place = self.changes.len();
        let mut beneath = false;
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                other => beneath = self.directory(other.map_err(|e| io("open", path, e))?.as_fd(), path, was_directory, depth + 1)?,
            }
        }
        let several_names = kind != FileType::Directory && now.st_nlink > 1;
        let inode = (now.st_dev, now.st_ino);
        let kind = match before {
            None if !beneath && self.leads_to_mounts_only(parent, name, path)? => return Ok(()),
            None => ChangeKind::Added,
            Some(before) if beneath || differs(&before, &now) || self.attributes_differ(parent, name, path, kind)? => ChangeKind::Changed,
            Some(_) => {
                if several_names {
                    self.unchanged_links.push((inode, path.to_path_buf()));
                }
                return Ok(());
            }
        };
        if several_names {
            self.changed_links.insert(inode);
        }
        self.changes.insert(place, Change { kind, path: path.to_path_buf() });
        Ok(())
    }

    /// What the image has at a path; its own links are not followed.
    fn before(&self, path: &Path) -> Result<Option<Stat>> {
        match rooted::open_plain(self.base, path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fstat(fd).map(Some).map_err(|e| io("examine the image's", path, e)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(io("open the image's", path, e)),
        }
    }

    /// Only its extended attributes tell whether a file that is otherwise the same was changed.
    fn attributes_differ(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path, kind: FileType) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let now = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(|e| io("open", path, e))?,
        };
        let before = rooted::open_plain(self.base, path, flags).map_err(|e| io("open the image's", path, e))?;
        Ok(portable_attributes(&now, kind, path)? != portable_attributes(&before, kind, path)?)
    }

    fn base_names(&self, path: &Path) -> Result<Vec<std::ffi::OsString>> {
        let fd = rooted::open_plain(self.base, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| io("open the image's", path, e))?;
        names(fd.as_fd(), path)
    }

    /// True for the empty place of a mount, and for a directory that holds such places and nothing else.
    fn leads_to_mounts_only(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<bool> {
        if self.mounts.contains(path) {
            let now = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| io("examine", path, e))?;
            return Ok(FileType::from_raw_mode(now.st_mode) == FileType::Directory || now.st_size == 0);
        }
        Ok(self.mounts.iter().any(|mount| mount.starts_with(path)))
    }
}

/// A file keeps its time unless it is written; a directory's changes with its entries, which are told by themselves.
fn differs(before: &Stat, now: &Stat) -> bool {
    let owner = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    let directory = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
    owner(before) != owner(now) || !directory && content(before) != content(now)
}

fn is_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(e),
    }
}

fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory).map_err(|e| io("list", path, e))? {
        let entry = entry.map_err(|e| io("list", path, e))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(found)
}
