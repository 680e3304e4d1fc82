//! Trees that live as long as a build: unpacked contexts, checkouts, downloads.
//!
//! Invariant: a tree is locked (flock) by the process that uses it; one without a holder was left by a killed build and
//! is removed by the next one (and by `builder prune`).

use crate::base::fs::{self, FsError};
use crate::base::held::{lock, sweep};
use crate::base::random_hex;
use rustix::fs::FlockOperation;
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
        sweep(&directory, "");
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
