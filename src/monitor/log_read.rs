//! Reading a container's log: across rotated and compressed files, from its end, and on as it grows.
//!
//! Files are told apart by the number in their first record ([`super::log`]), so that a file that rotation removed before
//! it was read is noticed and told ([`Gap`]); logs that older versions wrote have none, there the file's identity serves.

mod journal;
mod segment;

pub use journal::read_journal;

use super::{Error, Gap, LogLine, LogQuery};
use crate::base::Timestamp;
use crate::base::fs::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use segment::{Segment, open_all, seek_to_tail};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How often a follower asks whether the container still runs, while its log does not change.
const LIVENESS: Duration = Duration::from_millis(100);

/// Reads a container's log files (rotated ones too), calling `each`; with `follow` it goes on until `alive`
/// says false and all is read, or `each` returns false, or `until` has passed. A container without a log
/// has no lines; a damaged record (a crash of the machine) is skipped.
///
/// # Errors
/// A log file that cannot be read.
pub fn read_log(path: &Path, query: &LogQuery, alive: &dyn Fn() -> bool, each: &mut dyn FnMut(LogLine) -> bool) -> Result<(), Error> {
    // Watched before reading: nothing written in between is missed.
    let watch = match path.parent() {
        Some(directory) if query.follow && directory.exists() => Some(Watch::new(directory)?),
        _ => None,
    };
    let mut files = open_all(path)?;
    if let Some(count) = query.tail {
        seek_to_tail(path, &mut files, count)?;
    }
    let mut place = Place { last: None };
    if !place.read_on(path, files, query, each)? {
        return Ok(());
    }
    let Some(watch) = watch else { return Ok(()) };
    loop {
        // Asked before reading: what a dead container wrote is all there.
        let running = alive();
        if !place.catch_up(path, query, each)? || !running {
            return Ok(());
        }
        if query.until.is_some_and(|until| Timestamp::now() > until) {
            return Ok(());
        }
        watch.wait()?;
    }
}

/// How far a reader has come: the last file it has (partly) read.
struct Place {
    last: Option<Segment>,
}

impl Place {
    /// Reads files in their order; false: `each` wants no more.
    fn read_on(&mut self, path: &Path, files: Vec<Segment>, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
        for mut file in files {
            if let Some(gap) = self.gap_before(&file)
                && !each(LogLine { gap: Some(gap), ..LogLine::nothing() })
            {
                return Ok(false);
            }
            if !file.read(path, query, each)? {
                return Ok(false);
            }
            self.last = Some(file);
        }
        Ok(true)
    }

    fn gap_before(&self, file: &Segment) -> Option<Gap> {
        let (before, now) = (self.last.as_ref()?.number?, file.number?);
        let missing = now.saturating_sub(before).saturating_sub(1);
        (missing > 0).then_some(Gap::Files(missing))
    }

    /// Moves on through everything written since, following rotations.
    fn catch_up(&mut self, path: &Path, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
        if let Some(file) = &mut self.last {
            file.rewind_if_cut(path)?;
            let newest = segment::identity_of(path);
            // After the look: a file that is no longer the newest gets no more records.
            if !file.read(path, query, each)? {
                return Ok(false);
            }
            if newest.is_none_or(|newest| newest == file.identity) {
                return Ok(true);
            }
        }
        let mut files = open_all(path)?;
        if let Some(done) = &self.last {
            let same = files.iter().position(|file| file.identity == done.identity);
            match (same, done.number) {
                (Some(index), _) => drop(files.drain(..=index)),
                // It was compressed or removed meanwhile.
                (None, Some(number)) => files.retain(|file| file.number.is_none_or(|n| n > number)),
                (None, None) => {
                    if !each(LogLine { gap: Some(Gap::Unknown), ..LogLine::nothing() }) {
                        return Ok(false);
                    }
                }
            }
        }
        self.read_on(path, files, query, each)
    }
}

/// Tells when something in the directory of a log changed.
struct Watch(OwnedFd);

impl Watch {
    fn new(directory: &Path) -> Result<Self, Error> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(Error::system("watch a log"))?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, events).on("watch", directory)?;
        Ok(Watch(watch))
    }

    /// Until something changed, or it is time to ask whether the container lives.
    fn wait(&self) -> Result<(), Error> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&super::relay::timespec(LIVENESS))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Error::system("wait for a log to change")(error)),
        }
        let mut events = [0u8; 4096];
        loop {
            match rustix::io::read(&self.0, &mut events[..]) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Error::system("read the changes of a log")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
