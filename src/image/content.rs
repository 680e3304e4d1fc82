//! The content store: blobs by digest, layers by directory, and what is on its way into them.
//!
//! Invariants: a file under `blobs/` was complete and had its digest when it was renamed there; a file under
//! `ingest/` and a directory under `layers/` without a database row belong to whoever holds their lock, and to
//! nobody if it is free.

use super::lock::{self, Lock, Mode};
use super::{Error, bytes};
use crate::base::fs::{self, Context, FsError};
use crate::base::{Cancel, Roots, random_hex};
use crate::oci::Digest;
use rustix::fs::{FlockOperation, IFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only root may look into images: their files may be setuid (CVE-2021-41091).
const PRIVATE: u32 = 0o700;
/// Ending of a download that can be resumed by another process.
pub const PARTIAL: &str = "partial";

/// Makes the directories of the store.
///
/// # Errors
/// One of them cannot be made.
pub fn prepare(roots: &Roots) -> Result<(), FsError> {
    for path in [roots.data.clone(), roots.blobs(), roots.ingest(), roots.layers(), locks(roots)] {
        fs::create_dir_all(&path, PRIVATE)?;
    }
    spread(&roots.layers())
}

/// Tells ext4 that what lies in this directory is unrelated (`chattr +T`): each layer then gets its inodes and blocks in
/// another part of the disk. Layers that are unpacked at once do not wait for each other there, and a new one does
/// not search among the inodes of those just removed, each of which ext4 without a journal looks at again and again.
fn spread(layers: &Path) -> Result<(), FsError> {
    let directory = File::open(layers).on("open", layers)?;
    // Other filesystems know no such thing, and it is a hint: without it all works.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
        && let Err(error) = rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR)
    {
        tracing::debug!("{} keeps its layers together: {error}", layers.display());
    }
    Ok(())
}

fn locks(roots: &Roots) -> PathBuf {
    roots.data.join("locks")
}

/// Held shared by whoever relies on blobs that no record names yet; the sweep of blobs takes it exclusively.
///
/// # Errors
/// The lock cannot be taken.
pub fn in_use(roots: &Roots) -> Result<Lock, FsError> {
    lock::wait(&locks(roots).join("content"), Mode::Shared)
}

/// The lock for sweeping blobs; None while somebody uses the store.
///
/// # Errors
/// The lock cannot be taken.
pub fn sweep(roots: &Roots) -> Result<Option<Lock>, FsError> {
    lock::attempt(&locks(roots).join("content"), Mode::Exclusive)
}

/// Held shared by builds: their steps' layers may have no record that names them, and are not unused.
///
/// # Errors
/// The lock cannot be taken.
pub fn building(roots: &Roots) -> Result<Lock, FsError> {
    lock::wait(&locks(roots).join("build"), Mode::Shared)
}

/// The right to delete layers that no record names; None while somebody builds.
///
/// # Errors
/// The lock cannot be taken.
pub fn no_build(roots: &Roots) -> Result<Option<Lock>, FsError> {
    lock::attempt(&locks(roots).join("build"), Mode::Exclusive)
}

/// The turn to sync what is recorded: one after the other, so that who comes later finds it done.
///
/// # Errors
/// The lock cannot be taken.
pub fn syncing(roots: &Roots) -> Result<Lock, FsError> {
    lock::wait(&locks(roots).join("sync"), Mode::Exclusive)
}

fn chain_path(roots: &Roots, chain: &Digest) -> PathBuf {
    locks(roots).join(format!("chain-{}", chain.hex()))
}

/// The right to make one layer, if nobody else is making it.
///
/// # Errors
/// The lock cannot be taken.
pub fn try_chain(roots: &Roots, chain: &Digest) -> Result<Option<Lock>, FsError> {
    Ok(lock::attempt(&chain_path(roots, chain), Mode::Exclusive)?.map(Lock::removed_on_release))
}

/// The right to make one layer; waits for whoever is making it.
///
/// # Errors
/// The lock cannot be taken.
pub fn wait_chain(roots: &Roots, chain: &Digest) -> Result<Lock, FsError> {
    Ok(lock::wait(&chain_path(roots, chain), Mode::Exclusive)?.removed_on_release())
}

/// As [`wait_chain`], unless it is cancelled.
///
/// # Errors
/// [`Error::Cancelled`]; the lock cannot be taken.
pub fn wait_chain_unless(roots: &Roots, chain: &Digest, cancel: &Cancel) -> Result<Lock, Error> {
    Ok(lock::wait_unless(&chain_path(roots, chain), Mode::Exclusive, cancel)?.removed_on_release())
}

/// Unlinks the layer locks that killed processes left; those that are held stay.
///
/// # Errors
/// The directory cannot be read, or a lock not be taken.
pub fn sweep_locks(roots: &Roots) -> Result<(), FsError> {
    let directory = locks(roots);
    for entry in std::fs::read_dir(&directory).on("list", &directory)? {
        let entry = entry.on("list", &directory)?;
        if entry.file_name().as_encoded_bytes().starts_with(b"chain-") {
            drop(lock::attempt(&entry.path(), Mode::Exclusive)?.map(Lock::removed_on_release));
        }
    }
    Ok(())
}

/// Where a blob lies; its digest is a parsed type, so the path cannot leave the store.
pub fn blob_path(roots: &Roots, digest: &Digest) -> PathBuf {
    roots.data.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

/// Opens a blob; None if it is not there.
///
/// # Errors
/// It is there and cannot be opened.
pub fn open_blob(roots: &Roots, digest: &Digest) -> Result<Option<File>, FsError> {
    let path = blob_path(roots, digest);
    match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).on("open", &path),
    }
}

/// A blob is kept here.
pub fn has_blob(roots: &Roots, digest: &Digest) -> bool {
    blob_path(roots, digest).is_file()
}

/// Where the bytes of a blob that is being fetched lie.
fn download_path(roots: &Roots, digest: &Digest) -> PathBuf {
    roots.ingest().join(format!("{}.{PARTIAL}", digest.hex()))
}

/// Bytes of a blob that are here already, whole or in part.
pub fn fetched(roots: &Roots, digest: &Digest) -> u64 {
    let size = |path: PathBuf| std::fs::metadata(path).map(|meta| meta.len()).ok();
    size(blob_path(roots, digest)).or_else(|| size(download_path(roots, digest))).unwrap_or(0)
}

/// Moves a verified file into the store.
fn store(roots: &Roots, digest: &Digest, path: &Path) -> Result<(), FsError> {
    let target = blob_path(roots, digest);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent, PRIVATE)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).on("set the mode of", path)?;
    std::fs::rename(path, &target).on("move into the store", &target)
}

/// Moves a whole, verified download into the store; nothing happens if another pull took it away already.
///
/// # Errors
/// It cannot be moved.
pub fn keep_download(roots: &Roots, digest: &Digest) -> Result<(), FsError> {
    match store(roots, digest, &download_path(roots, digest)) {
        Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a download whose layer is recorded; a missing one is fine.
///
/// # Errors
/// It cannot be removed.
pub fn drop_download(roots: &Roots, digest: &Digest) -> Result<(), FsError> {
    fs::remove_file(&download_path(roots, digest))
}

/// A file on its way into the store.
#[derive(Debug)]
pub struct Ingest {
    pub file: File,
    path: PathBuf,
    /// Kept when dropped unfinished: the next pull goes on from it.
    resumable: bool,
    done: bool,
}

impl Ingest {
    /// A fresh file under a random name.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn new(roots: &Roots) -> Result<Self, FsError> {
        let path = roots.ingest().join(random_hex(16));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).on("create", &path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).on("lock", &path)?;
        Ok(Ingest { file, path, resumable: false, done: false })
    }

    /// The download of this blob, begun (or even finished) by an earlier pull or empty; None while another holds it.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn resume(roots: &Roots, digest: &Digest) -> Result<Option<Self>, FsError> {
        let path = download_path(roots, digest);
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = file.open(&path).on("create", &path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                other => other.on("lock", &path)?,
            }
            if lock::still_there(&file, &path)? {
                return Ok(Some(Ingest { file, path, resumable: true, done: false }));
            }
        }
    }

    /// Bytes that are there.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn len(&self) -> Result<u64, FsError> {
        Ok(self.file.metadata().on("read the metadata of", &self.path)?.len())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes turned out wrong: they are not kept.
    pub fn spoil(&mut self) {
        self.resumable = false;
    }

    /// The verified file is the whole download of this blob: it stays where the next pull finds it until a record
    /// names its layer ([`keep_download`], [`drop_download`]), so that what was fetched is not fetched again.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn complete(mut self, roots: &Roots, digest: &Digest) -> Result<(), FsError> {
        let target = download_path(roots, digest);
        if self.path != target {
            std::fs::rename(&self.path, &target).on("rename to", &target)?;
        }
        self.done = true;
        Ok(())
    }

    /// Moves the verified file into the store.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn keep(mut self, roots: &Roots, digest: &Digest) -> Result<(), FsError> {
        store(roots, digest, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.done
            && !self.resumable
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

/// A layer directory being made: `layers/<name>/{diff,lock}`.
#[derive(Debug)]
pub struct LayerDir {
    pub name: String,
    path: PathBuf,
    _lock: Lock,
    kept: bool,
}

impl LayerDir {
    /// # Errors
    /// It cannot be made or locked.
    pub fn new(roots: &Roots) -> Result<Self, FsError> {
        let name = random_hex(16);
        let path = roots.layers().join(&name);
        fs::create_dir_all(&path, PRIVATE)?;
        // The sweep may look at the directory before the lock is held; it takes the lock to do so, and a
        // removed directory shows as a failure to make the next file.
        let lock = lock::wait(&path.join("lock"), Mode::Exclusive)?;
        let diff = path.join("diff");
        fs::create_dir_all(&diff, 0o755)?;
        std::fs::set_permissions(&diff, std::fs::Permissions::from_mode(0o755)).on("set the mode of", &diff)?;
        Ok(LayerDir { name, path, _lock: lock, kept: false })
    }

    pub fn diff(&self) -> PathBuf {
        self.path.join("diff")
    }

    /// The layer's tar can be made again from this directory, so its blob need not be kept.
    pub fn can_reassemble(&self) -> bool {
        bytes::can_reassemble(&self.path)
    }

    /// A record names it now.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for LayerDir {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_tree(&self.path)
        {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

/// The data root, to sync its filesystem.
///
/// # Errors
/// It cannot be opened.
pub fn disk(roots: &Roots) -> Result<File, FsError> {
    File::open(&roots.data).on("open", &roots.data)
}

/// The durability point of what is not synced behind the caller's back: everything written so far reaches the disk.
///
/// # Errors
/// The filesystem reports a failed write.
pub fn sync(roots: &Roots) -> Result<(), FsError> {
    rustix::fs::syncfs(disk(roots)?).on("sync the filesystem of", &roots.data)
}
