//! Trees that live as long as a build: unpacked contexts, checkouts, downloads.
//!
//! Invariant: a tree is locked (flock) by the process that uses it; one without a holder was left by a killed build and
//! is removed by the next one.

use crate::base::fs::{self, Context as _, FsError};
use crate::base::random_hex;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A directory of our own; removed on drop.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// Holds the lock.
    dir: OwnedFd,
}

impl Temporary {
    /// Makes an empty tree beneath the build area, and removes those that nobody holds.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(area: &Path) -> Result<Self, FsError> {
        let directory = area.join("trees");
        fs::create_dir_all(&directory, 0o700)?;
        sweep(&directory);
        loop {
            let path = directory.join(random_hex(16));
            fs::create_dir_all(&path, 0o755)?;
            // A sweep may have come between the two.
            if let Some(dir) = lock(&path, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(Temporary { path, dir });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Temporary {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_tree(&self.path) {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

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

fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if let Ok(Some(_held)) = lock(&entry.path(), FlockOperation::NonBlockingLockExclusive)
            && let Err(error) = fs::remove_tree(&entry.path())
        {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let area = std::env::temp_dir().join(format!("rcon-trees-{}", random_hex(8)));
        let living = Temporary::new(&area).unwrap();
        std::fs::create_dir_all(area.join("trees/left/over")).unwrap();
        let second = Temporary::new(&area).unwrap();
        assert!(living.path().exists() && !area.join("trees/left").exists());
        let path = second.path().to_path_buf();
        drop(second);
        assert!(!path.exists());
        drop(living);
        std::fs::remove_dir_all(area).unwrap();
    }
}
