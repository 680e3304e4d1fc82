//! Directories that belong to whoever holds their lock (flock): one without a holder was left by somebody who was killed.

use super::fs::{self, Context as _, FsError};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Locks a directory. None: somebody else holds it (where the operation does not wait), or it is gone meanwhile.
///
/// # Errors
/// It cannot be opened or locked.
pub fn lock(path: &Path, operation: FlockOperation) -> Result<Option<OwnedFd>, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.on("open", path)?,
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&dir, operation)) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        other => other.on("lock", path)?,
    }
    let held = rustix::fs::fstat(&dir).on("examine", path)?;
    Ok(rustix::fs::lstat(path).is_ok_and(|now| (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino)).then_some(dir))
}

/// Removes the directories in this one whose names begin so and that nobody holds. What cannot be removed is logged.
pub fn sweep(directory: &Path, beginning: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(beginning.as_bytes())) {
        if let Ok(Some(_nobodys)) = lock(&entry.path(), FlockOperation::NonBlockingLockExclusive)
            && let Err(error) = fs::remove_tree(&entry.path())
        {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}
