//! One operation at a time on a container: an advisory lock on `<run>/containers/<id>.op`, held by the process that
//! creates, starts or removes it. The kernel frees it when that process dies, which is how a dead starter is recognised.

use super::super::{Error, Result};
use crate::base::fs::Context;
use crate::base::{ContainerId, Roots, VolumeName};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What follows the id in the name of a lock file.
pub(super) const SUFFIX: &str = ".op";
/// How long an operation waits for another one on the same container before it says so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held while a container is being started or removed. The file disappears with it.
pub(in crate::engine) struct OperationLock {
    file: File,
    path: PathBuf,
}

impl OperationLock {
    /// Writes down a new volume before its directory is made: if this process is killed before the record exists,
    /// the sweep finds it there.
    pub(in crate::engine) fn note_volume(&self, name: &VolumeName) -> Result<()> {
        Ok((&self.file).write_all(format!("{name}\n").as_bytes()).on("write", &self.path)?)
    }

    /// What a dead holder wrote down.
    pub(super) fn noted_volumes(&self) -> Result<Vec<VolumeName>> {
        let text = crate::base::fs::read_to_string(&self.path)?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// The lock's descriptor: who holds a copy holds the lock.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for OperationLock {
    fn drop(&mut self) {
        // Unlinked while held: whoever waits for this inode notices that the name is gone and tries again.
        if let Err(error) = crate::base::fs::remove_file(&self.path) {
            tracing::warn!("{error}: {}", error.source);
        }
    }
}

fn lock_path(roots: &Roots, id: &ContainerId) -> PathBuf {
    roots.run.join("containers").join(format!("{id}{SUFFIX}"))
}

fn open(path: &Path) -> Result<File> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().expect("invariant: a lock path has a parent");
            crate::base::fs::create_dir_all(parent, 0o700)?;
            Ok(open().on("open", path)?)
        }
        other => Ok(other.on("open", path)?),
    }
}

/// Takes the lock if nobody holds it.
pub(in crate::engine) fn try_lock(roots: &Roots, id: &ContainerId) -> Result<Option<OperationLock>> {
    try_lock_at(lock_path(roots, id))
}

/// As [`try_lock`], for an operation that has a file of its own.
pub(in crate::engine) fn try_lock_at(path: PathBuf) -> Result<Option<OperationLock>> {
    loop {
        let file = open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(Err::<(), _>(e).on("lock", &path).map_err(Error::from).expect_err("invariant: made from an error")),
        }
        let held = file.metadata().on("stat", &path)?;
        match std::fs::metadata(&path) {
            Ok(named) if named.ino() == held.ino() && named.dev() == held.dev() => return Ok(Some(OperationLock { file, path })),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(crate::base::fs::FsError { operation: "stat", path, source: e }.into()),
        }
    }
}

/// True while another process starts or removes the container.
pub(super) fn is_busy(roots: &Roots, id: &ContainerId) -> bool {
    let Ok(file) = File::open(lock_path(roots, id)) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}

/// Takes the lock, waiting for a running operation to end.
///
/// # Errors
/// A conflict when it does not end in [`PATIENCE`].
pub(in crate::engine) fn lock(roots: &Roots, id: &ContainerId) -> Result<OperationLock> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = try_lock(roots, id)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(Error::Conflict {
                message: format!("another operation on container {} is in progress", id.short()),
                hint: Some("wait for it to end and try again".to_owned()),
            });
        }
        // flock(2) has no deadline of its own, and an endless wait could not be explained to the user.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_nothing_left_behind() {
        let dir = std::env::temp_dir().join(format!("rcon-lock-{}", crate::base::random_hex(8)));
        let roots = Roots { data: dir.join("d"), run: dir.join("r") };
        let id = ContainerId::random();
        let first = try_lock(&roots, &id).unwrap().unwrap();
        assert!(try_lock(&roots, &id).unwrap().is_none());
        assert!(is_busy(&roots, &id));
        drop(first);
        assert!(!is_busy(&roots, &id));
        assert!(lock(&roots, &id).is_ok());
        assert!(!lock_path(&roots, &id).exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
