//! A tar stream unpacked beneath a directory, on the host or in a container.
//!
//! Names in the archive may be hostile, and so may be the tree unpacked into. `..` is refused. On the host every
//! directory on the way is opened without following links. In a container links are followed as the container would,
//! inside its root and never out of it. What exists is looked at and replaced relative to a held directory. Headers are
//! bounded by the reader of layers, whose entries these are.

use super::CopyError;
use super::pack::{is_portable_attribute, lossy, self_path};
use crate::image::{Holes, Limits, TarKind, TarMember, TarReader, UnpackError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, StatxAttributes, StatxFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

const OPEN_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Mode of parents that the archive does not mention.
const PARENT_MODE: u32 = 0o755;
/// Most bytes of memory for the directories of an archive that is a stranger's: two million of 150 bytes.
const DIRECTORIES_LIMIT: usize = 512 << 20;
/// Bytes of memory for a directory, beside its path.
const DIRECTORY_COST: usize = 96;
/// Bytes read at once.
const PIECE: usize = 128 << 10;

type Stream<'a> = TarReader<BufReader<&'a mut dyn Read>>;

/// Beneath what the archive goes.
pub(super) enum Scope<'a> {
    /// A directory of a container: `base` is looked up inside `root` for every entry.
    InRoot { root: BorrowedFd<'a>, base: Vec<u8> },
    /// A directory of the host.
    Beneath { dir: OwnedFd },
}

/// Who owns what is made.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// The ids in the archive, mapped.
    Keep(&'a dyn Fn(u32, u32) -> (u32, u32)),
    Fixed(u32, u32),
}

/// Unpacks one archive.
pub(super) struct Unpacker<'a> {
    scope: Scope<'a>,
    owner: Owner<'a>,
    /// The last directory used, by its name in the archive: entries come directory by directory.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    directories: Directories,
    /// Devices that were not made on the host.
    refused: Vec<String>,
    /// Latest time of an entry, in seconds since 1970.
    newest: Option<i64>,
    /// None: it is made by us, or by whoever asks for it to be unpacked.
    limits: Option<Limits>,
}

/// Directories whose times are set at the end, after their children were made: of one that is named twice the last.
struct Directories {
    times: BTreeMap<Vec<u8>, Timestamps>,
    /// Memory that they take, about.
    bytes: usize,
    limit: usize,
}

impl Default for Directories {
    fn default() -> Self {
        Directories { times: BTreeMap::new(), bytes: 0, limit: usize::MAX }
    }
}

impl Directories {
    fn add(&mut self, path: &[u8], times: &Timestamps) -> Result<(), UnpackError> {
        if let Some(known) = self.times.get_mut(path) {
            *known = times.clone();
            return Ok(());
        }
        self.bytes += path.len() + DIRECTORY_COST;
        if self.bytes > self.limit {
            return Err(UnpackError::Limit { what: "the memory for the names of its directories", limit: self.limit as u64 });
        }
        self.times.insert(path.to_vec(), times.clone());
        Ok(())
    }
}

/// What an entry says about its file.
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Timestamps,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(scope: Scope<'a>, owner: Owner<'a>) -> Self {
        Unpacker { scope, owner, last: None, directories: Directories::default(), refused: Vec::new(), newest: None, limits: None }
    }

    /// The same for an archive that is a stranger's.
    pub(super) fn bounded(self, limits: Limits) -> Self {
        Unpacker { limits: Some(limits), directories: Directories { limit: DIRECTORIES_LIMIT, ..self.directories }, ..self }
    }

    /// Unpacks the whole stream. The latest time of an entry, in seconds since 1970.
    pub(super) fn unpack(mut self, archive: &mut dyn Read) -> Result<Option<i64>, CopyError> {
        let mut holes = match self.limits {
            Some(limits) => {
                let at = self.open_directory(b"").map_err(|e| CopyError::io("open", b".", e))?;
                Some(Holes::new(at, limits.holes).map_err(|e| CopyError::io("ask for the free space of", b".", e))?)
            }
            None => None,
        };
        let entries = self.limits.map_or(u64::MAX, |limits| limits.entries);
        let mut archive = TarReader::new(BufReader::with_capacity(PIECE, archive)).with_entry_limit(entries);
        let mut last = Vec::new();
        loop {
            let after = |error| CopyError::archive(error, "after", &last);
            let Some(member) = archive.next().map_err(after)? else { break };
            if let (Some(holes), Some(extents)) = (&mut holes, &member.extents) {
                let stored = extents.iter().map(|(_, length)| length).sum();
                holes.add(&member.path, member.size, stored).map_err(after)?;
            }
            self.entry(&member, &mut archive)?;
            last = member.path;
        }
        for (path, times) in std::mem::take(&mut self.directories.times).into_iter().rev() {
            let (parent, name) = self.place(&path)?;
            match rustix::fs::utimensat(parent.as_fd(), name.as_c_str(), &times, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(CopyError::io("set times of", &path, e)),
            }
        }
        // A tar may be padded to a record; whoever writes it must not meet a closed pipe.
        archive.drain().map_err(|error| CopyError::archive(error, "behind", &last))?;
        if self.refused.is_empty() { Ok(self.newest) } else { Err(CopyError::Devices { paths: self.refused.join(", ") }) }
    }

    fn entry(&mut self, member: &TarMember, archive: &mut Stream<'_>) -> Result<(), CopyError> {
        let path = clean(&member.path)?;
        if path.is_empty() {
            // The directory itself: it exists and keeps its owner and mode.
            return Ok(());
        }
        let meta = meta(member);
        self.newest = self.newest.max(Some(meta.times.last_modification.tv_sec));
        match member.kind {
            TarKind::Directory => self.directory(&path, &meta),
            TarKind::File => self.file(&path, &meta, member, archive),
            TarKind::Symlink => self.symlink(&path, &meta, &member.link),
            TarKind::HardLink => self.hard_link(&path, &member.link),
            TarKind::Fifo => self.special(&path, &meta, FileType::Fifo, 0),
            TarKind::Character | TarKind::Block => {
                let device = rustix::fs::makedev(member.device.0, member.device.1);
                let kind = if member.kind == TarKind::Block { FileType::BlockDevice } else { FileType::CharacterDevice };
                self.special(&path, &meta, kind, device)
            }
        }
    }

    fn directory(&mut self, path: &[u8], meta: &Meta) -> Result<(), CopyError> {
        let (parent, name) = self.place(path)?;
        match rustix::fs::mkdirat(parent.as_fd(), name.as_c_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => match rustix::fs::openat(parent.as_fd(), name.as_c_str(), OPEN_DIR, Mode::empty()) {
                Ok(_) => {}
                // A link to a directory of the container (`/lib` → `usr/lib`) stands for it.
                Err(Errno::NOTDIR | Errno::LOOP) if self.open_directory(path).is_ok() => return Ok(()),
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(CopyError::NotDirectory { path: lossy(path) }),
                Err(e) => return Err(CopyError::io("open", path, e)),
            },
            Err(e) => return Err(CopyError::io("create directory", path, e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent.as_fd(), name.as_c_str(), flags, Mode::empty()).map_err(|e| CopyError::io("open", path, e))?;
        self.apply(fd.as_fd(), path, meta, false)?;
        self.directories.add(path, &meta.times).map_err(|error| CopyError::archive(error, "at", path))
    }

    fn file(&mut self, path: &[u8], meta: &Meta, member: &TarMember, archive: &mut Stream<'_>) -> Result<(), CopyError> {
        let (parent, name) = self.place(path)?;
        let mounted = clear(parent.as_fd(), &name, path)?;
        let fd = if mounted {
            // A single file mounted here (`/etc/hosts`): it is written, not replaced.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = rustix::fs::openat(parent.as_fd(), name.as_c_str(), flags, Mode::empty()).map_err(|e| CopyError::io("open", path, e))?;
            let stat = super::pack::stat(&node, path)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(CopyError::io("replace", path, Errno::BUSY));
            }
            rustix::fs::open(self_path(&node), OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty())
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent.as_fd(), name.as_c_str(), flags, Mode::from_raw_mode(0o600))
        };
        let mut file = std::fs::File::from(fd.map_err(|e| CopyError::io("create", path, e))?);
        fill(&mut file, path, member, archive).map_err(|error| CopyError::archive(error, "in", path))?;
        self.apply(file.as_fd(), path, meta, true)?;
        rustix::fs::futimens(&file, &meta.times).map_err(|e| CopyError::io("set times of", path, e))
    }

    fn symlink(&mut self, path: &[u8], meta: &Meta, target: &[u8]) -> Result<(), CopyError> {
        let (parent, name) = self.place(path)?;
        refuse_mounted(clear(parent.as_fd(), &name, path)?, path)?;
        rustix::fs::symlinkat(target, parent.as_fd(), name.as_c_str()).map_err(|e| CopyError::io("create link", path, e))?;
        let (uid, gid) = self.ids(meta);
        rustix::fs::chownat(parent.as_fd(), name.as_c_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| CopyError::io("set owner of", path, e))?;
        rustix::fs::utimensat(parent.as_fd(), name.as_c_str(), &meta.times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| CopyError::io("set times of", path, e))
    }

    /// The target names an earlier entry of the archive.
    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), CopyError> {
        let target = clean(target)?;
        if target.is_empty() {
            return Err(CopyError::io("link", path, Errno::INVAL));
        }
        let (from, from_name) = self.place(&target)?;
        let (parent, name) = self.place(path)?;
        refuse_mounted(clear(parent.as_fd(), &name, path)?, path)?;
        rustix::fs::linkat(from.as_fd(), from_name.as_c_str(), parent.as_fd(), name.as_c_str(), AtFlags::empty())
            .map_err(|e| CopyError::io("link", path, e))
    }

    fn special(&mut self, path: &[u8], meta: &Meta, kind: FileType, device: u64) -> Result<(), CopyError> {
        if kind != FileType::Fifo && matches!(self.scope, Scope::Beneath { .. }) {
            // A container's device file would be the host's device on the host.
            self.refused.push(lossy(path));
            return Ok(());
        }
        if kind == FileType::CharacterDevice && device == 0 {
            // Overlayfs' mark of a deleted file: in the directory of a layer it would delete what is below.
            return Err(CopyError::io("create the device 0:0", path, Errno::PERM));
        }
        let (parent, name) = self.place(path)?;
        refuse_mounted(clear(parent.as_fd(), &name, path)?, path)?;
        let nowhere = |operation| move |e| CopyError::io(operation, path, e);
        rustix::fs::mknodat(parent.as_fd(), name.as_c_str(), kind, Mode::from_raw_mode(0o600), device).map_err(nowhere("create"))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(parent.as_fd(), name.as_c_str(), flags, Mode::empty()).map_err(nowhere("open"))?;
        let (uid, gid) = self.ids(meta);
        rustix::fs::chownat(&node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(nowhere("set owner of"))?;
        rustix::fs::chmod(self_path(&node), Mode::from_raw_mode(self.mode(meta, true))).map_err(nowhere("set mode of"))?;
        rustix::fs::utimensat(parent.as_fd(), name.as_c_str(), &meta.times, AtFlags::SYMLINK_NOFOLLOW).map_err(nowhere("set times of"))
    }

    /// Owner first (the kernel drops set-id bits and capabilities with it), then attributes and mode.
    fn apply(&self, fd: BorrowedFd<'_>, path: &[u8], meta: &Meta, file: bool) -> Result<(), CopyError> {
        let (uid, gid) = self.ids(meta);
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|e| CopyError::io("set owner of", path, e))?;
        for (name, value) in &meta.attributes {
            if name.starts_with(b"security.") && self.is_foreign() {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // A file system without attributes keeps the file itself.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(e) => return Err(CopyError::io("set attributes of", path, e)),
            }
        }
        let mode = Mode::from_raw_mode(self.mode(meta, file));
        rustix::fs::fchmod(fd, mode).map_err(|e| CopyError::io("set mode of", path, e))
    }

    fn ids(&self, meta: &Meta) -> (Uid, Gid) {
        let (uid, gid) = match self.owner {
            Owner::Keep(map) => map(meta.uid, meta.gid),
            Owner::Fixed(uid, gid) => (uid, gid),
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    /// Another's privileges must not become the invoking user's: a container's file changes owner on its way to the host.
    fn is_foreign(&self) -> bool {
        matches!((&self.scope, self.owner), (Scope::Beneath { .. }, Owner::Fixed(..)))
    }

    fn mode(&self, meta: &Meta, file: bool) -> u32 {
        if file && self.is_foreign() { meta.mode & 0o1777 } else { meta.mode }
    }

    /// The directory an entry lies in (made if missing) and its name there.
    fn place(&mut self, path: &[u8]) -> Result<(Rc<OwnedFd>, CString), CopyError> {
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path),
        };
        let name = CString::new(name).map_err(|_| CopyError::io("create", path, Errno::INVAL))?;
        if let Some((last, fd)) = &self.last
            && last == parent
        {
            return Ok((fd.clone(), name));
        }
        let fd = Rc::new(self.make_directory(parent)?);
        self.last = Some((parent.to_vec(), fd.clone()));
        Ok((fd, name))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        match &self.scope {
            Scope::InRoot { root, base } => {
                let full = if path.is_empty() { base.clone() } else { [base.as_slice(), b"/", path].concat() };
                open_in_root(*root, &full, OFlags::PATH | OFlags::DIRECTORY)
            }
            Scope::Beneath { dir } => {
                let mut fd = rustix::fs::openat(dir, c".", OPEN_DIR, Mode::empty())?;
                for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
                    fd = rustix::fs::openat(&fd, component, OPEN_DIR, Mode::empty())?;
                }
                Ok(fd)
            }
        }
    }

    fn make_directory(&self, path: &[u8]) -> Result<OwnedFd, CopyError> {
        match self.open_directory(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(CopyError::NotDirectory { path: lossy(path) }),
            Err(e) => return Err(CopyError::io("open", path, e)),
        }
        if path.is_empty() {
            return Err(CopyError::io("open", b".", Errno::NOENT));
        }
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path),
        };
        let parent = self.make_directory(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(PARENT_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(CopyError::io("create directory", path, e)),
        }
        rustix::fs::openat(&parent, name, OPEN_DIR, Mode::empty()).map_err(|e| CopyError::io("open", path, e))
    }
}

/// Opens a path as a process rooted at `root` would, and never outside of it.
pub(super) fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    crate::base::rooted::open(root, Path::new(OsStr::from_bytes(path)), flags)
}

/// Removes a file that is in the way. True: it is a mount point, which must not be unlinked: from this mount namespace
/// the kernel would let us, and take the mount from the container.
fn clear(parent: BorrowedFd<'_>, name: &CString, path: &[u8]) -> Result<bool, CopyError> {
    let found = match rustix::fs::statx(parent, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(e) => return Err(CopyError::io("stat", path, e)),
    };
    if FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::Directory {
        return Err(CopyError::IsDirectory { path: lossy(path) });
    }
    if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(true);
    }
    match rustix::fs::unlinkat(parent, name.as_c_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(e) => Err(CopyError::io("replace", path, e)),
    }
}

fn refuse_mounted(mounted: bool, path: &[u8]) -> Result<(), CopyError> {
    if mounted { Err(CopyError::io("replace", path, Errno::BUSY)) } else { Ok(()) }
}

/// The components of an archive's name joined again, without `.` and doubled slashes; empty for the top itself.
fn clean(name: &[u8]) -> Result<Vec<u8>, CopyError> {
    let mut out = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(CopyError::Escapes { path: lossy(name) }),
            other => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(other);
            }
        }
    }
    Ok(out)
}

/// The data of a regular file; holes stay holes.
fn fill(file: &mut std::fs::File, path: &[u8], member: &TarMember, archive: &mut Stream<'_>) -> Result<(), UnpackError> {
    let wrong = |source| UnpackError::File { operation: "write", path: lossy(path), source };
    let Some(extents) = &member.extents else {
        return archive.data(u64::MAX, |piece| file.write_all(piece).map_err(wrong));
    };
    file.set_len(member.size).map_err(wrong)?;
    for (offset, length) in extents {
        let mut at = *offset;
        archive.data(*length, |piece| {
            file.write_all_at(piece, at).map_err(wrong)?;
            at += piece.len() as u64;
            Ok(())
        })?;
    }
    Ok(())
}

fn meta(member: &TarMember) -> Meta {
    let at = Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1.into() };
    let attributes = member.xattrs.iter().filter(|(name, _)| is_portable_attribute(name)).cloned().collect();
    let times = Timestamps { last_access: at, last_modification: at };
    Meta { mode: member.mode, uid: member.uid, gid: member.gid, times, attributes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_named_again_takes_no_more_memory() {
        let at = |tv_sec| {
            let at = Timespec { tv_sec, tv_nsec: 0 };
            Timestamps { last_access: at, last_modification: at }
        };
        let mut directories = Directories { limit: 2 * (DIRECTORY_COST + 1), ..Directories::default() };
        (0..100).for_each(|time| directories.add(b"a", &at(time)).unwrap());
        directories.add(b"b", &at(0)).unwrap();
        assert_eq!(directories.times[&b"a"[..]].last_modification.tv_sec, 99, "the last counts");
        let error = CopyError::archive(directories.add(b"c", &at(0)).unwrap_err(), "at", b"c");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.to_string(), "the archive is refused at entry \"c\"");
        assert_eq!(why, format!("the memory for the names of its directories exceeds the limit of {}", directories.limit));
    }

    #[test]
    fn archive_names_cannot_climb() {
        assert_eq!(clean(b"./a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(clean(b"/etc/passwd").unwrap(), b"etc/passwd");
        assert_eq!(clean(b"./").unwrap(), b"");
        assert!(clean(b"a/../../b").is_err());
    }
}
