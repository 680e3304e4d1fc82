//! Puts what was selected in its place.
//!
//! Directories are made first and described last, files in between by two threads if there are many. Every name is
//! opened relative to a held directory of the destination, without following links.

use super::digest::{open_file, unchanged};
use super::mode::Change;
use super::place::{Place, own};
use super::{Entry, Error, Result, Selected, Source, archive, join, owner, shown, split};
use crate::base::{Cancel, rooted};
use crate::build::context::clean;
use crate::image::Limits;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Files that one thread takes at once, and the least number for which a second thread is worth its start.
const BATCH: usize = 64;
/// Smaller files are read and written: that is fewer system calls.
const LARGE: u64 = 64 << 10;
const PIECE: usize = 128 << 10;
/// Bytes that the kernel copies before it is asked whether all of it is still wanted.
const AT_ONCE: usize = 16 << 20;

/// Where files go and how they look there.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The root that is built, or the empty directory of a `--link` layer.
    pub root: BorrowedFd<'a>,
    /// Absolute (joined to the working directory by the caller); a slash at its end means a directory.
    pub destination: &'a [u8],
    /// The root whose passwd and group files `--chown` looks into: `root`, but for `--link`.
    pub accounts: BorrowedFd<'a>,
    pub chown: Option<&'a str>,
    pub chmod: Option<&'a Change>,
}

/// Copies the sources to the target (`COPY`, and `ADD --unpack=false`).
///
/// # Errors
/// What conflicts with what is there, an unknown owner, a source that changed, what cannot be written.
pub fn apply(selected: &Selected, target: &Target<'_>) -> Result<()> {
    place(selected, target, None)
}

/// `unpack`: archives are unpacked, and may come to that much.
pub(super) fn place(selected: &Selected, target: &Target<'_>, unpack: Option<Limits>) -> Result<()> {
    let owner = target.chown.map(|text| owner::resolve(text, target.accounts)).transpose()?;
    let in_root = Place { root: target.root, owner: owner.unwrap_or((0, 0)) };
    let path = clean(&[b"/", target.destination].concat())[1..].to_vec();
    let slash = target.destination.ends_with(b"/") || target.destination.ends_with(b"/.");
    let is_directory = slash || in_root.kind(&path)? == Some(FileType::Directory);
    let several = selected.sources.len() > 1 && !selected.sources.iter().all(|source| source.is_directory);
    if several && !is_directory {
        return Err(Error::Several { path: shown(target.destination) });
    }
    for source in &selected.sources {
        if let Some(limits) = unpack
            && archive::is_archive(source)?
        {
            archive::unpack(source, &in_root.directory(&path)?, limits, &selected.cancel)?;
            continue;
        }
        let described = Described { owner, chmod: target.chmod };
        if source.is_directory {
            let base = in_root.directory(&path)?;
            Copier { source, base: &base, prefix: &[], described, shown: &path, cancel: &selected.cancel }.tree()?;
        } else if is_directory {
            let base = in_root.directory(&path)?;
            Copier { source, base: &base, prefix: &source.name, described, shown: &path, cancel: &selected.cancel }.tree()?;
        } else {
            let real = in_root.follow(&path)?;
            let (parent, name) = split(&real);
            let base = in_root.directory(parent)?;
            Copier { source, base: &base, prefix: name, described, shown: parent, cancel: &selected.cancel }.tree()?;
        }
    }
    Ok(())
}

/// What `--chown` and `--chmod` make of files.
#[derive(Clone, Copy)]
struct Described<'a> {
    owner: Option<(u32, u32)>,
    chmod: Option<&'a Change>,
}

impl Described<'_> {
    fn owner(&self, entry: &Entry) -> (u32, u32) {
        self.owner.unwrap_or((entry.uid, entry.gid))
    }

    fn mode(&self, entry: &Entry) -> Mode {
        let mode = self.chmod.map_or(entry.mode, |change| change.apply(entry.mode, entry.kind == FileType::Directory));
        Mode::from_raw_mode(mode)
    }
}

/// One source on its way into the directory `base`.
struct Copier<'a> {
    source: &'a Source,
    base: &'a OwnedFd,
    /// Name of a single file; empty for the contents of a directory.
    prefix: &'a [u8],
    described: Described<'a>,
    /// The path of `base`, for messages.
    shown: &'a [u8],
    cancel: &'a Cancel,
}

/// What one thread keeps from file to file.
struct Hand {
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    fn tree(&self) -> Result<()> {
        let entries = &self.source.entries;
        let mut hand = Hand { last: None, buffer: vec![0; PIECE] };
        let mut files = Vec::new();
        let mut links = Vec::new();
        let mut first: HashMap<((u32, u32), u64), &Entry> = HashMap::new();
        for entry in entries {
            if entry.kind == FileType::Directory {
                self.make_directory(entry, &mut hand)?;
                continue;
            }
            if entry.links > 1 {
                let key = (entry.identity.device, entry.identity.inode);
                if let Some(first) = first.get(&key) {
                    links.push((*first, entry));
                    continue;
                }
                first.insert(key, entry);
            }
            files.push(entry);
        }
        self.files(&files, hand)?;
        let mut hand = Hand { last: None, buffer: Vec::new() };
        for (first, entry) in links {
            self.link(first, entry, &mut hand)?;
        }
        for entry in entries.iter().rev().filter(|entry| entry.kind == FileType::Directory) {
            self.describe_directory(entry, &mut hand)?;
        }
        Ok(())
    }

    fn files(&self, files: &[&Entry], mut own: Hand) -> Result<()> {
        let next = AtomicUsize::new(0);
        let can_clone = AtomicBool::new(true);
        let work = |hand: &mut Hand| {
            loop {
                let start = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(batch) = files.get(start..files.len().min(start.saturating_add(BATCH))).filter(|batch| !batch.is_empty()) else {
                    return Ok(());
                };
                for entry in batch {
                    if let Err(error) = self.file(entry, hand, &can_clone) {
                        // The other thread takes no further batch.
                        next.store(files.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        };
        if files.len() <= BATCH {
            return work(&mut own);
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| work(&mut Hand { last: None, buffer: vec![0; PIECE] }));
            let own = work(&mut own);
            own.and(other.join().expect("invariant: a panic aborts the process"))
        })
    }

    /// Path beneath `base`.
    fn path(&self, entry: &Entry) -> Vec<u8> {
        join(self.prefix, &entry.path)
    }

    fn full(&self, entry: &Entry) -> Vec<u8> {
        [b"/", join(self.shown, &self.path(entry)).as_slice()].concat()
    }

    fn failed(&self, operation: &'static str, entry: &Entry) -> impl Fn(Errno) -> Error {
        let full = self.full(entry);
        move |e| Error::io(operation, &full, e)
    }

    /// The directory of the destination in which an entry lies.
    fn parent(&self, path: &[u8], hand: &mut Hand) -> Result<Arc<OwnedFd>> {
        let (parent, _) = split(path);
        if let Some((last, fd)) = &hand.last
            && last == parent
        {
            return Ok(fd.clone());
        }
        let open = if parent.is_empty() {
            rustix::io::fcntl_dupfd_cloexec(self.base, 3)
        } else {
            rooted::open_plain(self.base.as_fd(), Path::new(OsStr::from_bytes(parent)), OFlags::PATH | OFlags::DIRECTORY)
        };
        let fd = Arc::new(open.map_err(|e| self.refused(parent, e))?);
        hand.last = Some((parent.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// A directory of the source meets something else.
    fn refused(&self, path: &[u8], error: Errno) -> Error {
        let full = [b"/", join(self.shown, path).as_slice()].concat();
        match error {
            Errno::NOTDIR | Errno::LOOP => {
                let destination = [b"/", self.shown].concat();
                Error::NotDirectory { path: shown(&destination), what: shown(&full) }
            }
            Errno::NAMETOOLONG => Error::TooDeep { path: shown(&full[..full.len().min(64)]) },
            e => Error::io("open", &full, e),
        }
    }

    fn make_directory(&self, entry: &Entry, hand: &mut Hand) -> Result<()> {
        let path = self.path(entry);
        let (parent, name) = (self.parent(&path, hand)?, split(&path).1);
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, name, flags, Mode::empty()).map(drop).map_err(|e| self.refused(&path, e))
            }
            Err(e) => Err(self.failed("create the directory", entry)(e)),
        }
    }

    fn describe_directory(&self, entry: &Entry, hand: &mut Hand) -> Result<()> {
        let path = self.path(entry);
        let (parent, name) = (self.parent(&path, hand)?, split(&path).1);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|e| self.refused(&path, e))?;
        self.describe(fd.as_fd(), entry)
    }

    /// Owner first (it clears set-id bits and capabilities), then attributes, mode and times.
    fn describe(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        own(fd, self.described.owner(entry)).map_err(self.failed("set the owner of", entry))?;
        for (name, value) in &entry.attributes {
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // A file system without attributes keeps the file itself.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(e) => return Err(self.failed("set the attributes of", entry)(e)),
            }
        }
        rustix::fs::fchmod(fd, self.described.mode(entry)).map_err(self.failed("set the mode of", entry))?;
        rustix::fs::futimens(fd, &times(entry)).map_err(self.failed("set the times of", entry))
    }

    fn file(&self, entry: &Entry, hand: &mut Hand, can_clone: &AtomicBool) -> Result<()> {
        let path = self.path(entry);
        let (parent, name) = (self.parent(&path, hand)?, split(&path).1);
        if entry.kind != FileType::RegularFile {
            return self.node(entry, &parent, name);
        }
        let from = match self.source.text {
            Some(_) => None,
            None => Some(File::from(open_file(self.source, entry, &self.source.full(entry))?)),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = self.replacing(entry, &parent, name, || rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)))?;
        let mut to = File::from(to);
        if let Some(text) = &self.source.text {
            to.write_all(text).map_err(|e| Error::io("write", &self.full(entry), e))?;
        }
        if let Some(from) = from {
            data(&from, &to, entry.size, &mut hand.buffer, (can_clone, self.cancel)).map_err(|e| Error::io("copy", &self.source.full(entry), e))?;
            unchanged(from.as_fd(), entry, &self.source.full(entry))?;
        }
        self.describe(to.as_fd(), entry)
    }

    /// Makes something; a file that is in the way is removed first.
    fn replacing<T>(&self, entry: &Entry, parent: &OwnedFd, name: &[u8], make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(self.failed("create", entry)),
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(Error::IsDirectory { path: shown(&self.full(entry)) }),
            Err(e) => return Err(self.failed("replace", entry)(e)),
        }
        make().map_err(self.failed("create", entry))
    }

    /// A link, a fifo or a device.
    fn node(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let times = times(entry);
        let (uid, gid) = self.described.owner(entry);
        if entry.kind == FileType::Symlink {
            self.replacing(entry, parent, name, || rustix::fs::symlinkat(entry.link.as_slice(), parent, name))?;
        } else {
            let device = rustix::fs::makedev(entry.device.0, entry.device.1);
            if entry.kind == FileType::CharacterDevice && entry.device == (0, 0) {
                // Overlayfs' mark of a deleted file.
                return Err(self.failed("create the device 0:0", entry)(Errno::PERM));
            }
            self.replacing(entry, parent, name, || rustix::fs::mknodat(parent, name, entry.kind, Mode::from_raw_mode(0o600), device))?;
        }
        rustix::fs::chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("set the owner of", entry))?;
        if entry.kind != FileType::Symlink {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(self.failed("open", entry))?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd()));
            rustix::fs::chmod(path, self.described.mode(entry)).map_err(self.failed("set the mode of", entry))?;
        }
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(self.failed("set the times of", entry))
    }

    /// A further name of a file that was copied.
    fn link(&self, first: &Entry, entry: &Entry, hand: &mut Hand) -> Result<()> {
        let (from, to) = (self.path(first), self.path(entry));
        let (directory, parent) = (self.parent(&from, hand)?, self.parent(&to, hand)?);
        let make = || rustix::fs::linkat(&directory, split(&from).1, &parent, split(&to).1, AtFlags::empty());
        self.replacing(entry, &parent, split(&to).1, make)
    }
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec { tv_sec: entry.modified.0, tv_nsec: entry.modified.1.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// The data of a file: shared with the source where the file system can, holes kept.
fn data(mut from: &File, mut to: &File, size: u64, buffer: &mut [u8], (can_clone, cancel): (&AtomicBool, &Cancel)) -> std::io::Result<()> {
    cancel.check()?;
    if size < LARGE {
        loop {
            match from.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => to.write_all(&buffer[..count])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    if can_clone.load(Ordering::Relaxed) {
        if rustix::fs::ioctl_ficlone(to, from).is_ok() {
            return Ok(());
        }
        can_clone.store(false, Ordering::Relaxed);
    }
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // ENXIO: nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        range(from, to, start, end, buffer, cancel)?;
        at = end.max(start + 1);
    }
    Ok(rustix::fs::ftruncate(to, size)?)
}

fn range(from: &File, to: &File, start: u64, end: u64, buffer: &mut [u8], cancel: &Cancel) -> std::io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        cancel.check()?;
        let length = usize::try_from(end - input).unwrap_or(usize::MAX).min(AT_ONCE);
        match rustix::fs::copy_file_range(from, Some(&mut input), to, Some(&mut output), length) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => break,
            Err(e) => return Err(e.into()),
        }
    }
    while input < end {
        cancel.check()?;
        let length = usize::try_from(end - input).unwrap_or(usize::MAX).min(buffer.len());
        let count = match from.read_at(&mut buffer[..length], input) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all_at(&buffer[..count], input)?;
        input += count as u64;
    }
    Ok(())
}
