//! The event journal: what happened to containers, images, volumes and networks, for everybody who asks later.
//!
//! Invariants:
//! - One event is one line of JSON, written by one `write` on a descriptor opened with `O_APPEND` while the segment's
//!   lock is held; the time is read under that lock, so the lines of a segment are ordered by time (as far as the
//!   clock is).
//! - A line begins and ends with a line feed: what a crash cut off in the middle spoils itself and no other event.
//!   Readers skip what is no event.
//! - A full segment is sealed (its mode loses the write bit) under its lock and then renamed to the next number: who
//!   reads a sealed segment to its end has all of it. Whoever meets a sealed `current` finishes the rotation.
//! - At most [`KEPT`] + 1 segments of some [`SEGMENT`] bytes exist.
//!
//! Nothing is synced: a crash of the machine may lose the last seconds, a crash of processes loses nothing.

mod reader;

pub use reader::Reader;

use super::Error;
use crate::base::fs::{self, Context};
use crate::base::{Roots, Timestamp, failpoint};
use rustix::fs::{FlockOperation, Mode, RenameFlags, fchmod, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The segment that is written to; sealed ones are named by ten digits.
const CURRENT: &str = "current";
/// A segment that has grown to this is sealed.
const SEGMENT: u64 = 4 << 20;
/// Sealed segments that are kept: some 50 000 events.
const KEPT: usize = 4;
/// The longest event; one with more (labels) loses its longest attributes.
const LONGEST: usize = 64 << 10;
/// How often the lock is tried, and the pause between. It is held for microseconds; who holds it longer was stopped,
/// and then an event is written without it (only the order is lost).
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// How many rotations may come between before an event is given up.
const ROTATIONS: u32 = 16;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Container,
    Image,
    Volume,
    Network,
    Pod,
    Secret,
    Daemon,
}

impl Kind {
    /// The word in filters and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Volume => "volume",
            Kind::Network => "network",
            Kind::Pod => "pod",
            Kind::Secret => "secret",
            Kind::Daemon => "daemon",
        }
    }
}

/// One event, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was written down; set by [`emit`].
    #[serde(default)]
    pub at: Timestamp,
    pub kind: Kind,
    /// `start`, `die`, `health_status: healthy`, …
    pub action: String,
    /// Id or name of the object.
    pub id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    pub fn new(kind: Kind, action: impl Into<String>, id: impl Into<String>) -> Self {
        Event { at: Timestamp::NEVER, kind, action: action.into(), id: id.into(), attributes: BTreeMap::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let text = |event: &Event| serde_json::to_vec(event).expect("invariant: an event is plain data");
        let mut line = text(self);
        if line.len() > LONGEST {
            let mut shorter = self.clone();
            while line.len() > LONGEST
                && let Some(longest) = shorter.attributes.iter().max_by_key(|(key, value)| key.len() + value.len()).map(|(key, _)| key.clone())
            {
                shorter.attributes.remove(&longest);
                line = text(&shorter);
            }
        }
        out.push(b'\n');
        out.append(&mut line);
        out.push(b'\n');
    }
}

fn directory(roots: &Roots) -> PathBuf {
    roots.data.join("events")
}

/// Writes events down, in this order and at one moment. What happened has happened: a failure (a full disk) is told in
/// this process's log and fails nothing.
pub fn emit(roots: &Roots, events: impl IntoIterator<Item = Event>) {
    let mut events: Vec<Event> = events.into_iter().collect();
    if events.is_empty() {
        return;
    }
    if let Err(error) = append(&directory(roots), &mut events, SEGMENT) {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!("the event \"{}\" of {} is not recorded: {error}: {cause}", events[0].action, events[0].id);
    }
}

fn append(dir: &Path, events: &mut [Event], segment: u64) -> Result<(), Error> {
    let path = dir.join(CURRENT);
    for _ in 0..ROTATIONS {
        let file = open(dir, &path)?;
        let locked = lock(&file, &path)?;
        let meta = file.metadata().on("stat", &path)?;
        if is_sealed(&meta) {
            rotate(dir, &meta)?;
            continue;
        }
        if meta.nlink() == 0 {
            // Removed with its directory meanwhile.
            continue;
        }
        let at = Timestamp::now();
        let mut text = Vec::with_capacity(512 * events.len());
        for event in &mut *events {
            event.at = at;
            event.encode(&mut text);
        }
        let written = (&file).write(&text).on("write", &path)?;
        if written < text.len() {
            if locked {
                file.set_len(meta.len()).on("cut", &path)?;
            }
            return Err(fs::FsError { operation: "write", path, source: std::io::ErrorKind::StorageFull.into() }.into());
        }
        if locked && meta.len() + text.len() as u64 >= segment {
            fchmod(&file, Mode::from_raw_mode(0o400)).on("seal", &path)?;
            rotate(dir, &meta)?;
        }
        return Ok(());
    }
    Err(fs::FsError { operation: "append to", path, source: std::io::ErrorKind::ResourceBusy.into() }.into())
}

fn open(dir: &Path, path: &Path) -> Result<File, Error> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(dir, 0o700)?;
            Ok(open().on("open", path)?)
        }
        other => Ok(other.on("open", path)?),
    }
}

/// False: somebody holds it for long.
fn lock(file: &File, path: &Path) -> Result<bool, Error> {
    for _ in 0..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Err::<(), _>(error).on("lock", path).expect_err("invariant: made from an error").into()),
        }
    }
    Ok(false)
}

fn is_sealed(meta: &Metadata) -> bool {
    meta.mode() & 0o200 == 0
}

fn is(path: &Path, meta: &Metadata) -> bool {
    std::fs::metadata(path).is_ok_and(|named| named.ino() == meta.ino() && named.dev() == meta.dev())
}

/// Gives the sealed `current` its number, unless that was done, and removes the oldest segments.
fn rotate(dir: &Path, sealed: &Metadata) -> Result<(), Error> {
    failpoint::hit("state.events.sealed").on("rotate", dir)?;
    let path = dir.join(CURRENT);
    if is(&path, sealed) {
        let next = numbers(dir)?.last().map_or(1, |n| n + 1);
        match rustix::fs::renameat_with(rustix::fs::CWD, &path, rustix::fs::CWD, numbered(dir, next), RenameFlags::NOREPLACE) {
            // Another process was faster.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::EXIST) => {}
            other => other.on("rename", &path)?,
        }
    }
    failpoint::hit("state.events.renamed").on("rotate", dir)?;
    let all = numbers(dir)?;
    for old in &all[..all.len().saturating_sub(KEPT)] {
        fs::remove_file(&numbered(dir, *old))?;
    }
    Ok(())
}

fn numbered(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{n:010}"))
}

/// Numbers of the sealed segments, oldest first.
fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).on("list", dir)? {
        let name = entry.on("list", dir)?.file_name();
        if let Some(n) = name.to_str().and_then(|name| name.parse().ok()) {
            found.push(n);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(Roots);

    impl Scratch {
        fn new() -> Self {
            let data = std::env::temp_dir().join(format!("rcon-events-{}", crate::base::random_hex(12)));
            Scratch(Roots { run: data.clone(), data })
        }

        fn dir(&self) -> PathBuf {
            directory(&self.0)
        }

        fn read(&self, since: Timestamp) -> Vec<Event> {
            let mut out = Vec::new();
            Reader::open(&self.0, since)
                .unwrap()
                .read(&mut |event| {
                    out.push(event);
                    true
                })
                .unwrap();
            out
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0.data).unwrap();
        }
    }

    fn event(n: usize) -> Event {
        Event::new(Kind::Container, "start", format!("c{n}")).with("name", "web")
    }

    #[test]
    fn what_is_written_is_read_back_in_order_and_from_a_time_on() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(1), event(2)]);
        emit(&scratch.0, [event(3)]);
        let all = scratch.read(Timestamp::NEVER);
        assert_eq!(all.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        assert_eq!(all[0].attributes["name"], "web");
        assert!(all[0].at == all[1].at && all[1].at < all[2].at);
        assert_eq!(scratch.read(all[2].at).len(), 1);
    }

    #[test]
    fn a_torn_line_and_zeros_of_a_crash_spoil_no_other_event() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(1)]);
        for damage in [&b"\n{\"at\":5,\"kind\":\"contai"[..], &[0; 300], b"\xff\xfe"] {
            OpenOptions::new().append(true).open(scratch.dir().join(CURRENT)).unwrap().write_all(damage).unwrap();
            emit(&scratch.0, [event(2)]);
        }
        assert_eq!(scratch.read(Timestamp::NEVER).len(), 4);
    }

    #[test]
    fn segments_are_bounded_and_a_reader_follows_through_them() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(0)]);
        let mut reader = Reader::open(&scratch.0, Timestamp::NEVER).unwrap();
        let mut seen = Vec::new();
        for n in 1..200 {
            append(&scratch.dir(), &mut [event(n)], 1000).unwrap();
            if n % 7 == 0 {
                reader
                    .read(&mut |event| {
                        seen.push(event.id);
                        true
                    })
                    .unwrap();
            }
        }
        reader
            .read(&mut |event| {
                seen.push(event.id);
                true
            })
            .unwrap();
        assert_eq!(seen, (0..200).map(|n| format!("c{n}")).collect::<Vec<_>>());
        assert!(!reader.lost());
        assert_eq!(numbers(&scratch.dir()).unwrap().len(), KEPT);
        let kept = scratch.read(Timestamp::NEVER);
        assert!(kept.len() < 60 && kept.last().unwrap().id == "c199", "{}", kept.len());
    }

    #[test]
    fn a_reader_that_was_overtaken_says_so_and_goes_on() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(0)]);
        let mut reader = Reader::open(&scratch.0, Timestamp::NEVER).unwrap();
        reader.read(&mut |_| true).unwrap();
        for n in 1..200 {
            append(&scratch.dir(), &mut [event(n)], 1000).unwrap();
        }
        let mut seen = Vec::new();
        reader
            .read(&mut |event| {
                seen.push(event.id);
                true
            })
            .unwrap();
        assert!(reader.lost());
        assert_eq!(seen.last().unwrap(), "c199");
        assert!(seen.len() < 100);
    }

    #[test]
    fn a_rotation_that_was_killed_is_finished_by_the_next_event() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(1)]);
        let current = scratch.dir().join(CURRENT);
        rustix::fs::chmod(&current, Mode::from_raw_mode(0o400)).unwrap();
        emit(&scratch.0, [event(2)]);
        assert_eq!(numbers(&scratch.dir()).unwrap(), [1]);
        assert_eq!(scratch.read(Timestamp::NEVER).len(), 2);
    }

    #[test]
    fn an_event_that_is_too_long_loses_its_longest_attributes() {
        let scratch = Scratch::new();
        emit(&scratch.0, [event(1).with("long", "x".repeat(LONGEST))]);
        let all = scratch.read(Timestamp::NEVER);
        assert_eq!(all[0].attributes.keys().collect::<Vec<_>>(), ["name"]);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let dir = scratch.dir();
                scope.spawn(move || {
                    for n in 0..100 {
                        append(&dir, &mut [Event::new(Kind::Image, "pull", format!("{writer}-{n}"))], 1 << 20).unwrap();
                    }
                });
            }
        });
        let all = scratch.read(Timestamp::NEVER);
        assert_eq!(all.len(), 800);
        assert!(all.is_sorted_by_key(|event| event.at));
    }
}
