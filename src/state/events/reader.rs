//! Reading the journal: from a time on, through all segments, and on as it grows.

use super::{CURRENT, Event, directory, is, is_sealed, numbered, numbers};
use crate::base::fs::{self, Context};
use crate::base::{Roots, Timestamp};
use crate::state::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time of a file is taken from a clock that lags behind by a tick.
const TICK_NANOS: i64 = 1_000_000_000;

/// A place in the journal.
pub struct Reader {
    dir: PathBuf,
    /// Events before it are skipped.
    since: Timestamp,
    /// Time of the last event that was given out.
    last: Timestamp,
    segment: Option<Segment>,
    watch: OwnedFd,
    lost: bool,
}

struct Segment {
    reader: BufReader<File>,
    /// A line that is not complete yet.
    partial: Vec<u8>,
}

impl Segment {
    fn open(path: &Path) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(Segment { reader: BufReader::with_capacity(64 << 10, other.on("open", path)?), partial: Vec::new() })),
        }
    }
}

impl Reader {
    /// Stands before the first event at or after `since` that is still kept. What is written from now on is seen.
    ///
    /// # Errors
    /// The journal cannot be opened or watched.
    pub fn open(roots: &Roots, since: Timestamp) -> Result<Self, Error> {
        let dir = directory(roots);
        fs::create_dir_all(&dir, 0o700)?;
        let watch = || -> Result<OwnedFd, rustix::io::Errno> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&fd, &dir, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)?;
            Ok(fd)
        };
        let watch = watch().on("watch", &dir)?;
        let mut reader = Reader { dir, since, last: Timestamp::NEVER, segment: None, watch, lost: false };
        reader.segment = reader.first()?;
        Ok(reader)
    }

    /// Whether events were removed before this reader came to them.
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// Gives all events up to now to `each`; false: it wants no more.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn read(&mut self, each: &mut dyn FnMut(Event) -> bool) -> Result<bool, Error> {
        loop {
            if self.segment.is_none() {
                self.segment = Segment::open(&self.dir.join(CURRENT))?;
            }
            let Some(segment) = &mut self.segment else { return Ok(true) };
            // Looked at before reading: a sealed segment grows no more.
            let meta = segment.reader.get_ref().metadata().on("stat", &self.dir)?;
            while segment.reader.read_until(b'\n', &mut segment.partial).on("read", &self.dir)? > 0 {
                if segment.partial.last() != Some(&b'\n') {
                    break;
                }
                let parsed = serde_json::from_slice::<Event>(&segment.partial);
                segment.partial.clear();
                let Ok(event) = parsed else { continue };
                if event.at < self.since {
                    continue;
                }
                self.last = event.at;
                if !each(event) {
                    return Ok(false);
                }
            }
            if !is_sealed(&meta) || !self.advance(&meta)? {
                return Ok(true);
            }
        }
    }

    /// Waits until the journal grows, at most `timeout`, or until `ended` says something.
    ///
    /// # Errors
    /// The wait itself failed.
    pub fn wait(&self, timeout: Option<Duration>, ended: BorrowedFd<'_>) -> Result<(), Error> {
        let timeout = timeout.map(|t| Timespec { tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(t.subsec_nanos()) });
        match poll(&mut [PollFd::new(&self.watch, PollFlags::IN), PollFd::from_borrowed_fd(ended, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Err::<(), _>(error).on("watch", &self.dir).expect_err("invariant: made from an error").into()),
        }
        let mut notes = [0; 4096];
        // Only the wake-up counts, not what it says.
        while rustix::io::read(&self.watch, &mut notes).is_ok_and(|count| count > 0) {}
        Ok(())
    }

    /// The oldest segment with events at or after `since`.
    fn first(&self) -> Result<Option<Segment>, Error> {
        // Opened before the list is made: what is renamed between the two is in our hands already.
        let current = Segment::open(&self.dir.join(CURRENT))?;
        for n in numbers(&self.dir)? {
            let path = numbered(&self.dir, n);
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let newest = std::os::unix::fs::MetadataExt::mtime(&meta).saturating_mul(1_000_000_000).saturating_add(2 * TICK_NANOS);
            if newest >= self.since.nanos()
                && let Some(segment) = Segment::open(&path)?
            {
                return Ok(Some(segment));
            }
        }
        Ok(current)
    }

    /// On to the segment after the sealed one; false: there is none yet.
    fn advance(&mut self, sealed: &std::fs::Metadata) -> Result<bool, Error> {
        let current = self.dir.join(CURRENT);
        if is(&current, sealed) {
            // Its rotation is not finished.
            return Ok(false);
        }
        // Opened before the list is made: with no number after our own then, it is the next one.
        let newest = Segment::open(&current)?;
        let all = numbers(&self.dir)?;
        if let Some(own) = all.iter().position(|n| is(&numbered(&self.dir, *n), sealed)) {
            let next = match all.get(own + 1) {
                Some(next) => Segment::open(&numbered(&self.dir, *next))?,
                None => newest,
            };
            return Ok(next.map(|next| self.segment = Some(next)).is_some());
        }
        self.lost = true;
        // Whether it was the one right before the oldest that is left cannot be told: better a warning too many.
        self.since = Timestamp::from_nanos(self.last.nanos().saturating_add(1));
        self.segment = self.first()?;
        Ok(self.segment.is_some())
    }
}
