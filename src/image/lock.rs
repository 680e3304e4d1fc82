//! Locks between processes that work on the same content: `flock` on small files.
//!
//! A lock dies with its process, so a killed pull never blocks the next.

use super::Error;
use crate::base::Cancel;
use crate::base::fs::{self, Context, FsError};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at a lock that another holds, where the wait can be cancelled: flock(2) itself can only be woken by a signal.
const POLL: Duration = Duration::from_millis(20);

/// A held lock; released on drop.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
    remove: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// Waits for the lock.
///
/// # Errors
/// The file cannot be made or locked.
pub fn wait(path: &Path, mode: Mode) -> Result<Lock, FsError> {
    loop {
        let file = open(path)?;
        let operation = if mode == Mode::Shared { FlockOperation::LockShared } else { FlockOperation::LockExclusive };
        match rustix::fs::flock(&file, operation) {
            Err(Errno::INTR) => continue,
            other => other.on("lock", path)?,
        }
        if still_there(&file, path)? {
            return Ok(Lock { _file: file, path: path.to_path_buf(), remove: false });
        }
    }
}

/// Waits for the lock, unless it is cancelled.
///
/// # Errors
/// [`Error::Cancelled`]; the file cannot be made or locked.
pub fn wait_unless(path: &Path, mode: Mode, cancel: &Cancel) -> Result<Lock, Error> {
    loop {
        if let Some(lock) = attempt(path, mode)? {
            return Ok(lock);
        }
        if cancel.pause(POLL) {
            return Err(Error::Cancelled);
        }
    }
}

/// Takes the lock if it is free.
///
/// # Errors
/// The file cannot be made or locked.
pub fn attempt(path: &Path, mode: Mode) -> Result<Option<Lock>, FsError> {
    loop {
        let file = open(path)?;
        let operation = if mode == Mode::Shared { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
        match rustix::fs::flock(&file, operation) {
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.on("lock", path)?,
        }
        if still_there(&file, path)? {
            return Ok(Some(Lock { _file: file, path: path.to_path_buf(), remove: false }));
        }
    }
}

impl Lock {
    /// The file is unlinked on release (whoever waits for it notices and makes a new one).
    pub fn removed_on_release(mut self) -> Self {
        self.remove = true;
        self
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

fn open(path: &Path) -> Result<File, FsError> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).on("open the lock", path)
}

/// The locked file is the one at the path: its last holder may have unlinked it meanwhile.
pub fn still_there(file: &File, path: &Path) -> Result<bool, FsError> {
    let held = file.metadata().on("read the metadata of", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).on("read the metadata of", path),
    }
}
