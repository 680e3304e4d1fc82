//! A container's log: lines cut at 16 KiB, given to the driver's files or receiver; what could not be kept is counted.

mod compress;
mod encode;
mod file;
mod options;
mod remote;

pub(super) use compress::compressed;
pub(super) use file::rotated;

use super::Error;
use crate::base::Timestamp;
use crate::base::fs::FsError;
use crate::state::record::LogSpec;
use file::Files;
use options::{Driver, Options};
use remote::{Record, Remote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A longer line is logged in parts, all but the last without a newline (as Docker does).
const LONGEST_PART: usize = 16 << 10;
/// How long a receiver may take for the last lines of a container.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two writings of the count of lost lines.
const COUNT_PAUSE: Duration = Duration::from_secs(1);
/// In the live directory: how many lines of the log were lost in this run (decimal).
pub const LOST: &str = "log-lost";

/// What the records of a container say besides their text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogContext {
    /// Labels and variables chosen by `labels`, `env` and their like; `tag` with the file drivers.
    pub attributes: BTreeMap<String, String>,
    /// The tag of messages.
    pub tag: String,
    /// journald: further fields of every message.
    pub fields: BTreeMap<String, String>,
}

/// The newest log file of a container; older ones have `.1`, `.2`, … (and `.gz`) appended. json-file:
/// `<dir>/<id>-json.log` as with Docker; local, and the copy beside a syslog server: `<dir>/local-logs/container.log`.
pub fn path(container_dir: &Path, driver: &str) -> PathBuf {
    if matches!(driver, "local" | "syslog") {
        return container_dir.join("local-logs/container.log");
    }
    let mut name = container_dir.file_name().unwrap_or_default().to_owned();
    name.push("-json.log");
    container_dir.join(name)
}

/// # Errors
/// [`Error::LogOption`] for a driver or option that is unknown or has an impossible value.
pub fn check_options(spec: &LogSpec) -> Result<(), Error> {
    Options::parse(spec).map(drop)
}

/// Whether `logs` finds something: None if so, or why not.
pub fn unreadable(spec: &LogSpec) -> Option<String> {
    match Options::parse(spec) {
        Ok(Options { driver: Driver::None, .. }) => Some("its log driver \"none\" keeps nothing to read".to_owned()),
        Ok(Options { driver: Driver::Syslog, cache: false, .. }) => Some("its log driver \"syslog\" keeps no local copy (cache-disabled)".to_owned()),
        _ => None,
    }
}

/// The open log of one container.
pub(super) struct Writer {
    files: Option<Files>,
    remote: Option<Remote>,
    /// `"attrs":…` of file records.
    attributes: Vec<u8>,
    /// Unfinished lines of stdout and stderr.
    pending: [Vec<u8>; 2],
    losses: Losses,
}

/// Lines that are missing in the log.
struct Losses {
    live_dir: PathBuf,
    total: u64,
    /// Those that the log itself does not tell of yet.
    untold: u64,
    /// When the count was written, and what it was.
    written: Option<(Instant, u64)>,
    /// A failed write was reported; once is enough.
    failing: bool,
}

impl Losses {
    fn add(&mut self, lines: u64) {
        self.total += lines;
        self.untold += lines;
        if self.written.is_none_or(|(at, _)| at.elapsed() >= COUNT_PAUSE) {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.written.map_or(0, |(_, count)| count) == self.total {
            return;
        }
        self.written = Some((Instant::now(), self.total));
        if let Err(error) = crate::base::fs::replace(&self.live_dir.join(LOST), self.total.to_string().as_bytes(), 0o600) {
            tracing::warn!("{error}: {}", error.source);
        }
    }

    fn report(&mut self, error: &FsError) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!("{error}: {}; output is missing in the log", error.source);
        }
    }
}

impl Writer {
    /// Opens (appending) the log; None for the driver `none`.
    pub(super) fn open(container_dir: &Path, live_dir: &Path, spec: &LogSpec, context: &LogContext) -> Result<Option<Self>, Error> {
        let options = Options::parse(spec)?;
        let on_disk = match options.driver {
            Driver::None => return Ok(None),
            Driver::JsonFile | Driver::Local => true,
            Driver::Syslog => options.cache,
            Driver::Journald => false,
        };
        let files = if on_disk {
            let path = path(container_dir, &spec.driver);
            if let Some(directory) = path.parent() {
                crate::base::fs::create_dir_all(directory, 0o700)?;
            }
            Some(Files::open(path, options.rotation)?)
        } else {
            None
        };
        let remote = match options.driver {
            Driver::Journald => Some(Remote::journald(&context.fields, options.buffer, options.blocking)?),
            Driver::Syslog => {
                let syslog = options.syslog.ok_or(Error::Malformed("a syslog driver without an address"))?;
                Some(Remote::syslog(syslog, context.tag.clone(), options.buffer, options.blocking)?)
            }
            _ => None,
        };
        let losses = Losses { live_dir: live_dir.to_path_buf(), total: 0, untold: 0, written: None, failing: false };
        let attributes = encode::attributes(&context.attributes);
        Ok(Some(Writer { files, remote, attributes, pending: [Vec::new(), Vec::new()], losses }))
    }

    /// Logs what a stream (1 stdout, 2 stderr) said. A failure (a full disk) does not stop the container: what is missing
    /// is counted, and told in the log when there is room again.
    pub(super) fn write(&mut self, stream: u8, mut data: &[u8]) {
        let at = Timestamp::now();
        let mut batch = Batch::new(at, data.len());
        let mut pending = std::mem::take(&mut self.pending[usize::from(stream == 2)]);
        while !data.is_empty() {
            let room = LONGEST_PART - pending.len();
            let end = data.iter().take(room).position(|b| *b == b'\n').map(|i| i + 1);
            let take = end.unwrap_or(room.min(data.len()));
            let complete = end.is_some() || take == room;
            if complete && pending.is_empty() {
                self.add(&mut batch, stream, &data[..take]);
            } else {
                pending.extend_from_slice(&data[..take]);
                if complete {
                    self.add(&mut batch, stream, &pending);
                    pending.clear();
                }
            }
            data = &data[take..];
        }
        self.pending[usize::from(stream == 2)] = pending;
        self.put(&batch);
    }

    /// Logs unfinished lines: the streams have ended.
    pub(super) fn finish(&mut self) {
        let mut batch = Batch::new(Timestamp::now(), 0);
        for (index, stream) in [(0, 1), (1, 2)] {
            let rest = std::mem::take(&mut self.pending[index]);
            if !rest.is_empty() {
                self.add(&mut batch, stream, &rest);
            }
        }
        if let Some(remote) = &mut self.remote {
            remote.finish(FAREWELL);
        }
        self.put(&batch);
        if let Some(files) = &mut self.files {
            files.finish();
        }
        self.losses.write();
    }

    fn add(&mut self, batch: &mut Batch, stream: u8, data: &[u8]) {
        if self.files.is_some() {
            encode::record(&mut batch.records, stream, data, &self.attributes, &batch.text);
        }
        if let Some(remote) = &mut self.remote {
            remote.put(Record { stream, data, at: batch.at });
        }
    }

    fn put(&mut self, batch: &Batch) {
        self.count_dropped();
        let Some(files) = &mut self.files else { return };
        if self.losses.untold > 0 && !batch.records.is_empty() && files.put(&encode::lost(self.losses.untold, &batch.text)).is_ok() {
            self.losses.untold = 0;
            self.losses.failing = false;
        }
        match files.put(&batch.records) {
            Ok(()) => {}
            Err((lines, error)) => {
                self.losses.add(lines);
                self.losses.report(&error);
            }
        }
    }

    fn count_dropped(&mut self) {
        let Some(remote) = &mut self.remote else { return };
        let dropped = remote.dropped();
        if dropped > 0 {
            // The local copy has these lines: it need not tell of them.
            let untold = self.losses.untold;
            self.losses.add(dropped);
            self.losses.untold = untold;
        }
    }

    /// The socket that is to be waited for, until the receiver takes more.
    pub(super) fn waits_for(&self) -> Option<&OwnedFd> {
        self.remote.as_ref()?.waits_for()
    }

    /// How long the container's output has to stay in its pipes.
    pub(super) fn holds_back(&self) -> Option<Duration> {
        self.remote.as_ref()?.holds_back()
    }

    /// When [`Writer::flush`] is to be called although nothing happens.
    pub(super) fn wakes_in(&self) -> Option<Duration> {
        let remote = self.remote.as_ref()?;
        [remote.holds_back(), remote.retries_in()].into_iter().flatten().min()
    }

    /// Another file in the place of the current one, to see what a full disk does.
    #[cfg(test)]
    pub(super) fn exchange(&mut self, file: std::fs::File) -> std::fs::File {
        self.files.as_mut().expect("invariant: the test has a file log").exchange(file)
    }

    /// Gives the receiver what it takes.
    pub(super) fn flush(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
        self.count_dropped();
    }
}

/// Records of one moment.
struct Batch {
    at: Timestamp,
    text: String,
    records: Vec<u8>,
}

impl Batch {
    fn new(at: Timestamp, length: usize) -> Self {
        Batch { at, text: at.to_string(), records: Vec::with_capacity(length + length / 2 + 256) }
    }
}

#[cfg(test)]
mod tests;
