//! Processes of a group: listing, freezing, killing; and removing the group itself.

use super::Error;
use super::files::{Files, keyed, write};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes may take to freeze (one in uninterruptible sleep cannot).
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a signal to all waits until they hold still.
const HOLD_DEADLINE: Duration = Duration::from_secs(2);

/// How long a group that is told to be frozen is given before it counts as running.
const SETTLE_DEADLINE: Duration = Duration::from_millis(200);

/// How long a group that still has (dying) processes is waited for before its removal fails.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// The processes of a group and of those below it, each once. A missing group has none.
///
/// # Errors
/// [`Error::Read`]
pub(super) fn pids(files: &Files<'_>) -> Result<Vec<i32>, Error> {
    let mut pids = Vec::new();
    for dir in tree(&files.dir).map_err(|source| Error::Host { file: files.dir.clone(), source })? {
        match fs::read_to_string(dir.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            // Gone meanwhile; or threaded: its processes are listed by the domain above.
            Err(error) if gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(source) => return Err(Error::Read { file: "cgroup.procs".to_owned(), group: files.group.to_owned(), source }),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// A group's directory and all below it, parents first. Empty when it does not exist.
pub(super) fn tree(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![root.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    // Control groups are directories and cgroupfs has no links, so nothing outside can be named.
                    if entry.file_type()?.is_dir() {
                        found.push(entry.path());
                    }
                }
            }
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The group was removed: the path is gone, or an open file of it answers ENODEV.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Waits until a line of `cgroup.events` has the value; false at the deadline. A group that vanishes counts as reached.
fn wait_for_event(dir: &Path, key: &str, value: u64, deadline: Instant) -> io::Result<bool> {
    let mut file = match File::open(dir.join("cgroup.events")) {
        Err(error) if gone(&error) => return Ok(true),
        other => other?,
    };
    let mut text = String::new();
    let mut look_again = Duration::from_micros(250);
    loop {
        text.clear();
        // The seek, too, answers ENODEV on newer kernels.
        match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
            Err(error) if gone(&error) => return Ok(true),
            other => other?,
        };
        if keyed(&text, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // The kernel reports a change since the last read as POLLPRI, but at most once in 10 ms (kernel/cgroup/cgroup.c,
        // CGROUP_FILE_NOTIFY_MIN_INTV): without a look in between, the second change of a young group comes 15 ms late.
        let wait = look_again.min(left);
        look_again = (look_again * 2).min(Duration::from_millis(50));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Stops every process of the group; returns when all have stopped. Idempotent.
///
/// # Errors
/// [`Error::NotFrozen`] after ten seconds, with the group thawed again.
pub(super) fn freeze(files: &Files<'_>, unified: bool) -> Result<(), Error> {
    let deadline = Instant::now() + FREEZE_DEADLINE;
    let frozen = if unified {
        files.set("cgroup.freeze", "1")?;
        wait_for_event(&files.dir, "frozen", 1, deadline).map_err(|source| read_error(files, "cgroup.events", source))?
    } else {
        freeze_v1(files, deadline)?
    };
    if frozen {
        return Ok(());
    }
    thaw(files, unified)?;
    Err(Error::NotFrozen(files.group.to_owned()))
}

/// The v1 freezer reports nothing and may miss a process that is just being made: it is told again until it says FROZEN.
fn freeze_v1(files: &Files<'_>, deadline: Instant) -> Result<bool, Error> {
    let mut pause = Duration::from_micros(200);
    loop {
        files.set("freezer.state", "FROZEN")?;
        if files.get("freezer.state")? == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// # Errors
/// [`Error::Set`]
pub(super) fn thaw(files: &Files<'_>, unified: bool) -> Result<(), Error> {
    if unified { files.set("cgroup.freeze", "0") } else { files.set("freezer.state", "THAWED") }
}

/// Whether the group is stopped, by itself or with one above it. One that does not get there does not count.
pub(super) fn is_frozen(files: &Files<'_>, unified: bool) -> bool {
    if !unified {
        return files.get("freezer.state").is_ok_and(|state| state == "FROZEN");
    }
    match files.keyed("cgroup.events", "frozen") {
        None => false,
        Some(0) => {
            // A signal stirs the frozen for a moment, some time after it was sent: a group that is to be frozen gets time to settle.
            let told = files.get("cgroup.freeze").is_ok_and(|word| word == "1");
            let settled = || wait_for_event(&files.dir, "frozen", 1, Instant::now() + SETTLE_DEADLINE).unwrap_or(false);
            told && settled() && files.has("cgroup.events")
        }
        Some(_) => true,
    }
}

/// Sends SIGKILL to everything in the group and waits until nothing is left.
///
/// # Errors
/// [`Error::StillRunning`] at the deadline.
pub(super) fn kill_all(files: &Files<'_>, unified: bool, within: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    if unified {
        match files.try_set("cgroup.kill", "1") {
            Ok(()) => {
                thaw_if_there(files, unified)?;
                let empty = wait_for_event(&files.dir, "populated", 0, deadline);
                return outcome(files, empty.map_err(|source| read_error(files, "cgroup.events", source))?);
            }
            Err(_) if !files.dir.exists() => return Ok(()),
            // Before Linux 5.14: one by one, until a pass finds nobody.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(files.failed("cgroup.kill", "1", source)),
        }
    }
    kill_each(files, unified, deadline)
}

fn kill_each(files: &Files<'_>, unified: bool, deadline: Instant) -> Result<(), Error> {
    let mut pause = Duration::from_micros(500);
    loop {
        // Frozen processes neither fork nor exit, so no number can pass to a stranger between the two calls.
        let frozen = !unified && files.has("freezer.state") && freeze_v1(files, Instant::now() + Duration::from_millis(50))?;
        let pids = pids(files)?;
        let killed = pids.iter().try_for_each(|pid| kill(*pid, libc::SIGKILL, files.group));
        if frozen || unified {
            thaw_if_there(files, unified)?;
        }
        killed?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return outcome(files, false);
        }
        if unified {
            let slice = (Instant::now() + pause).min(deadline);
            wait_for_event(&files.dir, "populated", 0, slice).map_err(|source| read_error(files, "cgroup.events", source))?;
        } else {
            std::thread::sleep(pause);
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Sends a signal to all, holding them still meanwhile: frozen processes neither fork nor exit, so none is missed and no
/// number can pass to a stranger.
///
/// # Errors
/// [`Error::Kill`]
pub(super) fn signal_all(files: &Files<'_>, unified: bool, signal: i32) -> Result<(), Error> {
    if unified && signal == libc::SIGKILL && files.try_set("cgroup.kill", "1").is_ok() {
        return Ok(());
    }
    let frozen_before = is_frozen(files, unified);
    let held = frozen_before || hold(files, unified);
    let sent = pids(files).and_then(|pids| pids.into_iter().try_for_each(|pid| kill(pid, signal, files.group)));
    // A v1 freezer keeps even the killed.
    if held && (!frozen_before || (!unified && signal == libc::SIGKILL)) {
        thaw_if_there(files, unified)?;
    }
    sent
}

/// Freezes as far as it goes in a short time; a process in uninterruptible sleep must not keep a signal from the others.
fn hold(files: &Files<'_>, unified: bool) -> bool {
    let deadline = Instant::now() + HOLD_DEADLINE;
    if unified {
        let frozen = files.try_set("cgroup.freeze", "1").and_then(|()| wait_for_event(&files.dir, "frozen", 1, deadline));
        frozen.inspect_err(|error| tracing::debug!(%error, group = files.group, "signalling without a freeze")).is_ok()
    } else {
        files.has("freezer.state") && freeze_v1(files, deadline).is_ok()
    }
}

fn kill(pid: i32, signal: i32, group: &str) -> Result<(), Error> {
    let failed = |source| Error::Kill { pid, signal, group: group.to_owned(), source };
    // Zero is a process that our pid namespace does not show.
    let Some(target) = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0) else { return Ok(()) };
    let sent = pidfd_open(target, PidfdFlags::empty()).map_err(std::io::Error::from);
    match sent.and_then(|pidfd| crate::sys::pidfd_signal::send(pidfd.as_fd(), signal)) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(failed(error)),
        _ => Ok(()),
    }
}

fn thaw_if_there(files: &Files<'_>, unified: bool) -> Result<(), Error> {
    match thaw(files, unified) {
        Err(Error::Set { source, .. }) if gone(&source) => Ok(()),
        other => other,
    }
}

fn outcome(files: &Files<'_>, empty: bool) -> Result<(), Error> {
    if empty { Ok(()) } else { Err(Error::StillRunning { left: pids(files)?.len(), group: files.group.to_owned() }) }
}

fn read_error(files: &Files<'_>, file: &str, source: io::Error) -> Error {
    Error::Read { file: file.to_owned(), group: files.group.to_owned(), source }
}

/// Removes groups with all below them, deepest first. What is busy is tried again with back-off; missing is fine.
///
/// # Errors
/// [`Error::Remove`] for the first that stays.
pub(super) fn remove(dirs: &[PathBuf]) -> Result<(), Error> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    let mut pause = Duration::from_millis(1);
    loop {
        // One that is busy must not keep the others: each pass removes all that can go.
        let failures = dirs.iter().filter_map(|dir| remove_once(dir).err()).collect::<Vec<_>>();
        let Some((dir, source)) = failures.into_iter().next() else { return Ok(()) };
        if source.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
            return Err(Error::Remove { dir, source });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// One pass over a group and all below it; the directory that stays, on failure. Missing is fine.
///
/// # Errors
/// `EBUSY` while there are processes.
pub(super) fn remove_once(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    // The common case, a group without children, needs no listing.
    match fs::remove_dir(root) {
        Ok(()) => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        Err(_) => {}
    }
    let dirs = tree(root).map_err(|error| (root.to_path_buf(), error))?;
    for dir in dirs.into_iter().rev() {
        match fs::remove_dir(&dir) {
            Err(error) if !gone(&error) => return Err((dir, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Moves a process; one that is gone already is no failure when `lenient`.
///
/// # Errors
/// [`Error::Join`]
pub(super) fn join(dir: &Path, pid: i32, lenient: bool) -> Result<(), Error> {
    match write(&dir.join("cgroup.procs"), &pid.to_string()) {
        Err(error) if lenient && error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map_err(|source| Error::Join { pid, dir: dir.to_path_buf(), source }),
    }
}
