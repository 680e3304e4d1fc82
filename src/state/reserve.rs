//! A little disk space kept back, so that records can still be written when a container has filled the disk:
//! without it nothing could be removed any more, because removal begins with a record.

use super::Db;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::path::{Path, PathBuf};

/// Many transactions' worth of log.
const SIZE: u64 = 1 << 20;
/// Most of what a transaction writes.
const LEAST: u64 = 256 << 10;
/// With less free space it is not set aside (anew).
const ENOUGH: u64 = 16 << 20;

fn path(database: &Path) -> PathBuf {
    database.with_file_name("reserve")
}

/// Sets it aside if it is not there. Best effort: a failure only means that there is none.
pub(super) fn keep(db: &Db) {
    let path = path(&db.path);
    if path.symlink_metadata().is_ok() {
        return;
    }
    if free(&path).is_none_or(|free| free < ENOUGH) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made =
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).and_then(|file| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE));
    if let Err(error) = made {
        tracing::debug!("cannot set aside {}: {error}", path.display());
    }
}

/// Gives it up before a transaction that has hardly any space left: a commit that fails rolls everything back, and only the
/// next command would profit.
pub(super) fn give_in_time(db: &Db) {
    if free(&db.path).is_some_and(|free| free < LEAST) {
        spend(db);
    }
}

/// Bytes that are free where a file lies.
fn free(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Gives it up. True: there is some space now, so it is worth another try.
pub(super) fn spend(db: &Db) -> bool {
    let spent = std::fs::remove_file(path(&db.path)).is_ok();
    if spent {
        tracing::warn!("the disk of {} is full", db.path.display());
    }
    spent
}

#[cfg(test)]
mod tests {
    use super::{SIZE, path, spend};
    use crate::base::Roots;

    #[test]
    fn it_is_set_aside_once_spent_and_set_aside_again() {
        let base = std::env::temp_dir().join(format!("rcon-reserve-{}", crate::base::random_hex(8)));
        let roots = Roots { data: base.join("data"), run: base.join("run") };
        let db = super::super::Db::open(&roots).unwrap();
        assert_eq!(std::fs::metadata(path(&db.path)).unwrap().len(), SIZE);
        assert!(spend(&db) && !spend(&db));
        drop(db);
        let db = super::super::Db::open(&roots).unwrap();
        assert!(path(&db.path).exists());
        std::fs::remove_dir_all(base).unwrap();
    }
}
