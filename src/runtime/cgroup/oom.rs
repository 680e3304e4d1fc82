//! Word of OOM kills in a group, for as long as the group is used.
//!
//! v1: an eventfd registered with `memory.oom_control` (`Documentation/admin-guide/cgroup-v1/memory.rst`, 10. OOM Control).
//! v2: `memory.events` and `cgroup.events` report changes to poll(2) (`cgroup-v2.rst`, Core Interface Files).

use super::files::{Files, keyed, write};
use super::{Error, Group};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What [`OomWatch::wait`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The kernel killed for memory since the last call.
    Oom,
    /// The group has no processes any more, or is gone: nothing will follow.
    Gone,
    /// Neither, until the timeout.
    Quiet,
}

/// A watch on one group.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    kills: u64,
    /// The group that tracks the processes, and whether it is v2's.
    tracking: PathBuf,
    unified: bool,
}

#[derive(Debug)]
enum Source {
    /// The eventfd; the registration ends with it, the file must stay open for it.
    Legacy {
        event: OwnedFd,
        control: PathBuf,
        _open: File,
    },
    Unified {
        events: File,
        populated: File,
    },
}

/// How often it is looked whether a v1 group has lost its last process, which nothing reports.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long after v1's report the kill may be counted.
const KILL_FOLLOWS: Duration = Duration::from_millis(100);

impl Group {
    /// Watches from now on.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Controller`] where memory is not counted; [`Error::Read`].
    pub fn oom_watch(&self) -> Result<OomWatch, Error> {
        let place = self.place()?;
        // On hybrid hosts the processes may not be in the memory hierarchy yet.
        place.account()?;
        let missing = || Error::Controller { controller: "memory".to_owned(), group: place.path.to_owned() };
        let (files, unified) = place.home("memory").ok_or_else(missing)?;
        let failed = |file: &str| {
            let (file, group) = (file.to_owned(), files.group.to_owned());
            move |source| Error::Read { file, group, source }
        };
        let source = if unified {
            let mut events = File::open(files.dir.join("memory.events")).map_err(failed("memory.events"))?;
            let mut populated = File::open(files.dir.join("cgroup.events")).map_err(failed("cgroup.events"))?;
            // A file that was never read reports nothing.
            for file in [&mut events, &mut populated] {
                file.read_to_string(&mut String::new()).map_err(failed("cgroup.events"))?;
            }
            Source::Unified { events, populated }
        } else {
            register(&files).map_err(failed("memory.oom_control"))?
        };
        Ok(OomWatch { source, kills: place.oom_kills(), tracking: place.tracking()?.dir, unified: place.layout.v2.is_some() })
    }
}

fn register(files: &Files<'_>) -> io::Result<Source> {
    let control = files.dir.join("memory.oom_control");
    let open = File::open(&control)?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let line = format!("{} {}", event.as_raw_fd(), open.as_raw_fd());
    write(&files.dir.join("cgroup.event_control"), &line)?;
    Ok(Source::Legacy { event, control, _open: open })
}

impl OomWatch {
    /// Waits for the next event, at most that long.
    ///
    /// # Errors
    /// poll(2) or a read failed.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<OomEvent> {
        let deadline = Instant::now() + timeout;
        loop {
            // The last process may have been the one that was killed.
            if self.has_killed()? {
                return Ok(OomEvent::Oom);
            }
            if self.is_gone()? {
                return Ok(OomEvent::Gone);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(OomEvent::Quiet);
            }
            self.sleep(left)?;
        }
    }

    /// What a caller with a poll(2) of its own waits for, before [`OomWatch::new_kills`].
    pub fn source(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.source {
            Source::Legacy { event, .. } => (event.as_fd(), PollFlags::IN),
            Source::Unified { events, .. } => (events.as_fd(), PollFlags::PRI),
        }
    }

    /// Kills since the last call, when the source was reported ready; does not wait (but for the moment in which v1 has
    /// reported a kill that is not counted yet).
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn new_kills(&mut self) -> io::Result<u64> {
        let before = self.kills;
        self.has_killed()?;
        Ok(self.kills.saturating_sub(before))
    }

    fn sleep(&self, left: Duration) -> io::Result<()> {
        let polled = |files: &mut [PollFd<'_>], left: Duration| {
            let timeout = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(files, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(io::Error::from(error)),
            }
        };
        match &self.source {
            Source::Legacy { event, .. } => polled(&mut [PollFd::new(event, PollFlags::IN)], left.min(LOOK_AGAIN)),
            Source::Unified { events, populated } => polled(&mut [PollFd::new(events, PollFlags::PRI), PollFd::new(populated, PollFlags::PRI)], left),
        }
    }

    /// Whether kills were counted since the last call. v1's event also comes when the killer is switched off and a process waits
    /// for memory: that counts, too.
    fn has_killed(&mut self) -> io::Result<bool> {
        let before = self.kills;
        let Source::Legacy { event, control, .. } = &self.source else {
            self.count();
            return Ok(self.kills > before);
        };
        let reported = match rustix::io::read(event.as_fd(), &mut [0; 8]) {
            Ok(_) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            Err(error) => return Err(error.into()),
        };
        // The end of the group is reported in the same way.
        let reported = reported && control.exists();
        self.count();
        // The report comes before the kill; both are one event to the reader.
        let patience = Instant::now() + KILL_FOLLOWS;
        while reported && self.kills == before && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
            self.count();
        }
        Ok(reported || self.kills > before)
    }

    /// Looks at the number of kills; one that cannot be read stays.
    fn count(&mut self) {
        let text = match &mut self.source {
            Source::Legacy { control, .. } => std::fs::read_to_string(control),
            Source::Unified { events, .. } => again(events),
        };
        self.kills = text.ok().and_then(|text| keyed(&text, "oom_kill")).unwrap_or(self.kills);
    }

    fn is_gone(&mut self) -> io::Result<bool> {
        if let Source::Unified { populated, .. } = &mut self.source {
            return match again(populated) {
                Ok(text) => Ok(keyed(&text, "populated") == Some(0)),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(true),
                Err(error) => Err(error),
            };
        }
        let empty = if self.unified {
            std::fs::read_to_string(self.tracking.join("cgroup.events")).map(|text| keyed(&text, "populated") == Some(0))
        } else {
            let files = Files { dir: self.tracking.clone(), group: "" };
            Ok(super::control::pids(&files).is_ok_and(|pids| pids.is_empty()))
        };
        // A group that cannot be read was removed.
        Ok(empty.unwrap_or(true))
    }
}

/// Reads an open file of a group from its beginning.
fn again(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
