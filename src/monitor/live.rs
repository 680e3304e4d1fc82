//! The live facts of a container: the lock that is its liveness, and `live.json`.

use super::{Error, Health, Live};
use crate::base::fs::{self, Context};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

pub(super) const LOCK: &str = "lock";
pub(super) const SOCKET: &str = "monitor.sock";
/// Of the container's own processes.
pub(super) const NOTIFY: &str = "notify";
const FACTS: &str = "live.json";

/// True while a monitor holds the container's lock.
pub fn is_alive(live_dir: &Path) -> bool {
    let Ok(file) = fs::open_in(live_dir, LOCK) else { return false };
    // A shared lock conflicts with the monitor's only, not with others who look at the same moment.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Err(error) => {
            tracing::warn!("cannot test the lock of {}: {error}", live_dir.display());
            true
        }
    }
}

impl Live {
    /// None when there are none or no monitor holds the lock.
    pub fn read(live_dir: &Path) -> Option<Live> {
        let text = fs::read_short(live_dir, FACTS).ok()?;
        if !is_alive(live_dir) {
            return None;
        }
        serde_json::from_slice(&text).ok()
    }

    /// What the monitor published last, living or not: whether it waited at its gate.
    pub fn was_waiting(live_dir: &Path) -> bool {
        Live::read_own(live_dir).is_some_and(|live| live.waiting)
    }

    /// What this monitor published last.
    pub(super) fn read_own(live_dir: &Path) -> Option<Live> {
        serde_json::from_slice(&std::fs::read(live_dir.join(FACTS)).ok()?).ok()
    }

    pub(super) fn publish(&self, live_dir: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|source| Error::Config { operation: "written", source })?;
        Ok(fs::replace(&live_dir.join(FACTS), &text, 0o600)?)
    }
}

/// Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22); 0 when it is gone.
pub(super) fn start_ticks(pid: i32) -> u64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The command name may hold anything, but it ends at the last parenthesis; field 3 follows it.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Makes the live directory and takes the lock, waiting for a predecessor that is on its way out.
pub(super) fn take_lock(live_dir: &Path) -> Result<File, Error> {
    let path = live_dir.join(LOCK);
    loop {
        fs::create_dir_all(live_dir, 0o700)?;
        let file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path) {
            // The predecessor has just removed the directory.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.on("open", &path)?,
        };
        match flock(&file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.on("lock", &path)?,
        }
        let held = file.metadata().on("stat", &path)?;
        // The predecessor unlinked it while we waited: that lock is nobody's.
        if std::fs::metadata(&path).is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
            return Ok(file);
        }
    }
}

/// Removes what the monitor made, the lock last; other files (and so the directory) are their owners'.
pub(super) fn remove(live_dir: &Path) -> Vec<Error> {
    let mut failed: Vec<Error> = Health::forget(live_dir).err().into_iter().collect();
    for name in [SOCKET, NOTIFY, FACTS, LOCK] {
        if let Err(error) = fs::remove_file(&live_dir.join(name)) {
            failed.push(error.into());
        }
    }
    match std::fs::remove_dir(live_dir) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTEMPTY | libc::EBUSY)) => {
            failed.push(Err::<(), _>(error).on("remove", live_dir).expect_err("invariant: made from an error").into());
        }
        _ => {}
    }
    failed
}
