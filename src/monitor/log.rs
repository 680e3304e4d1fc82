//! Writing a container's log: Docker's `json-file` format, lines cut at 16 KiB, rotation by size.

use super::Error;
use crate::base::fs::{Context, FsError};
use crate::base::{ByteSize, Timestamp};
use crate::state::record::LogSpec;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A longer line is logged in parts, all but the last without a newline (as Docker does).
const LONGEST_PART: usize = 16 << 10;
/// Docker's default is no limit, which fills disks; this is podman's and Docker's `local` order of size.
const DEFAULT_SIZE: u64 = 20 << 20;
const DEFAULT_FILES: u32 = 5;

/// The log file of a container: `<dir>/<id>-json.log`; older ones have `.1`, `.2`, … appended.
pub fn path(container_dir: &Path) -> PathBuf {
    let mut name = container_dir.file_name().unwrap_or_default().to_owned();
    name.push("-json.log");
    container_dir.join(name)
}

/// The n-th older file; 0 is the current one.
pub(super) fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Size limit of a file (0: none) and number of files.
///
/// # Errors
/// [`Error::LogOption`] for a driver or option that is unknown or has an impossible value.
pub fn check_options(spec: &LogSpec) -> Result<(u64, u32), Error> {
    let wrong = |key: &str, value: &str, reason| Error::LogOption { key: key.to_owned(), value: value.to_owned(), reason };
    if !matches!(spec.driver.as_str(), "json-file" | "none" | "") {
        return Err(wrong("driver", &spec.driver, "only json-file and none are supported"));
    }
    let (mut size, mut files) = (DEFAULT_SIZE, DEFAULT_FILES);
    for (key, value) in &spec.options {
        match key.as_str() {
            "max-size" if value == "-1" => size = 0,
            "max-size" => match value.parse::<ByteSize>() {
                Ok(ByteSize(bytes)) if bytes > 0 => size = bytes,
                _ => return Err(wrong(key, value, "expected a positive size such as 20m, or -1 for no limit")),
            },
            "max-file" => match value.parse() {
                Ok(count @ 1..=1000) => files = count,
                _ => return Err(wrong(key, value, "expected a number from 1 to 1000")),
            },
            _ => return Err(wrong(key, value, "this option is not supported")),
        }
    }
    Ok((size, files))
}

/// The open log of one container.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    files: u32,
    /// Unfinished lines of stdout and stderr.
    pending: [Vec<u8>; 2],
    /// A failed write was reported; once is enough.
    failing: bool,
}

impl Writer {
    /// Opens (appending) the log; None for the driver `none`.
    pub(super) fn open(container_dir: &Path, spec: &LogSpec) -> Result<Option<Self>, Error> {
        let (limit, files) = check_options(spec)?;
        if spec.driver == "none" {
            return Ok(None);
        }
        let path = path(container_dir);
        let file = open_file(&path)?;
        let mut written = file.metadata().on("stat", &path)?.len();
        if written > 0 && !ends_with_newline(&path, written)? {
            // A crash cut the last record off: the next one must not be lost with it.
            (&file).write_all(b"\n").on("write", &path)?;
            written += 1;
        }
        Ok(Some(Writer { path, file, written, limit, files, pending: [Vec::new(), Vec::new()], failing: false }))
    }

    /// Logs what a stream (1 stdout, 2 stderr) said. A failure (a full disk) does not stop the container:
    /// it is reported once, and that output is missing in the log.
    pub(super) fn write(&mut self, stream: u8, mut data: &[u8]) {
        let at = Timestamp::now().to_string();
        let mut out = Vec::with_capacity(data.len() + 256);
        let pending = &mut self.pending[usize::from(stream == 2)];
        while !data.is_empty() {
            let room = LONGEST_PART - pending.len();
            let end = data.iter().take(room).position(|b| *b == b'\n').map(|i| i + 1);
            let take = end.unwrap_or(room.min(data.len()));
            let complete = end.is_some() || take == room;
            if complete && pending.is_empty() {
                encode(&mut out, stream, &data[..take], &at);
            } else {
                pending.extend_from_slice(&data[..take]);
                if complete {
                    encode(&mut out, stream, &std::mem::take(pending), &at);
                }
            }
            data = &data[take..];
        }
        self.put(&out);
    }

    /// Logs unfinished lines: the streams have ended.
    pub(super) fn finish(&mut self) {
        let at = Timestamp::now().to_string();
        let mut out = Vec::new();
        for (index, stream) in [(0, 1), (1, 2)] {
            let rest = std::mem::take(&mut self.pending[index]);
            if !rest.is_empty() {
                encode(&mut out, stream, &rest, &at);
            }
        }
        self.put(&out);
    }

    /// Appends whole records, rotating before the one that would pass the limit.
    fn put(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            let room = if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(self.written) };
            let fits = if (records.len() as u64) <= room { records.len() } else { whole_records(records, room) };
            let result = if fits > 0 {
                let (now, rest) = records.split_at(fits);
                records = rest;
                self.append(now)
            } else if self.written > 0 {
                self.rotate()
            } else {
                // One record longer than the limit: it gets a file of its own.
                let first = records.iter().position(|b| *b == b'\n').map_or(records.len(), |i| i + 1);
                let (now, rest) = records.split_at(first);
                records = rest;
                self.append(now)
            };
            match result {
                Ok(()) => self.failing = false,
                Err(error) => {
                    if !self.failing {
                        tracing::warn!("{error}: {}; output is missing in the log", error.source);
                    }
                    self.failing = true;
                    return;
                }
            }
        }
    }

    /// Writes whole records, or nothing: half a record would take the next one with it.
    fn append(&mut self, records: &[u8]) -> Result<(), FsError> {
        let result = self.file.write_all(records).on("write", &self.path);
        match result {
            Ok(()) => self.written += records.len() as u64,
            // The first failure is what is told; cutting a file short needs no space.
            Err(_) => drop(self.file.set_len(self.written)),
        }
        result
    }

    /// `log.1` becomes `log.2` and so on, the current file `log.1`; renames only (with a single file: a new one), so
    /// that a reader keeps what it has open and a crash in between loses nothing but the order of names.
    fn rotate(&mut self) -> Result<(), FsError> {
        if self.files == 1 {
            crate::base::fs::remove_file(&self.path)?;
        }
        for n in (1..self.files).rev() {
            let (from, to) = (rotated(&self.path, n - 1), rotated(&self.path, n));
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.on("rename", &from)?,
            }
        }
        self.file = open_file(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

fn ends_with_newline(path: &Path, length: u64) -> Result<bool, FsError> {
    let mut last = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut last, length - 1)).on("read", path)?;
    Ok(last == *b"\n")
}

fn open_file(path: &Path) -> Result<File, FsError> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path).on("open", path)
}

/// Bytes of the leading records that fit into `room` together.
fn whole_records(records: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(records.len());
    records[..room].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1)
}

/// Appends one record: `{"log":"…","stream":"stdout","time":"…"}` and a newline.
fn encode(out: &mut Vec<u8>, stream: u8, data: &[u8], at: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in data.utf8_chunks() {
        escape(out, chunk.valid());
        // Go replaces each invalid byte on its own (encoding/json).
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    let name: &[u8] = if stream == 2 { b"stderr" } else { b"stdout" };
    for part in [&b"\",\"stream\":\""[..], name, b"\",\"time\":\"", at.as_bytes(), b"\"}\n"] {
        out.extend_from_slice(part);
    }
}

/// JSON string escapes as Docker's log writer chooses them: `<`, `>`, `&`, U+2028 and U+2029 too.
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut utf8 = [0; 4];
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            _ => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &[u8]) -> String {
        let mut out = Vec::new();
        encode(&mut out, 1, data, "T");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_look_like_dockers() {
        assert_eq!(text(b"hi\n"), "{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
        assert_eq!(text(b"\x1b<\"\\\xff\xfe\r\t"), "{\"log\":\"\\u001b\\u003c\\\"\\\\\\ufffd\\ufffd\\r\\t\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
        assert!(text("é😀".as_bytes()).contains("é😀"));
    }

    #[test]
    fn a_record_that_a_crash_cut_off_does_not_take_the_next_one_with_it() {
        let dir = std::env::temp_dir().join(format!("rcon-log-{}", crate::base::random_hex(12)));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(path(&dir), b"{\"log\":\"ha").unwrap();
        let mut writer = Writer::open(&dir, &LogSpec::default()).unwrap().unwrap();
        writer.write(1, b"next\n");
        let text = std::fs::read_to_string(path(&dir)).unwrap();
        assert!(text.starts_with("{\"log\":\"ha\n{\"log\":\"next"), "{text}");
        assert_eq!(writer.written, text.len() as u64);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn options_are_parsed_or_refused_by_name() {
        let spec = |pairs: &[(&str, &str)]| LogSpec {
            driver: "json-file".to_owned(),
            options: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        assert_eq!(check_options(&spec(&[])).unwrap(), (20 << 20, 5));
        assert_eq!(check_options(&spec(&[("max-size", "1k"), ("max-file", "2")])).unwrap(), (1024, 2));
        for bad in [("compress", "true"), ("max-file", "0"), ("max-size", "0"), ("tag", "x")] {
            assert!(check_options(&spec(&[bad])).unwrap_err().to_string().contains(bad.0));
        }
        assert!(check_options(&LogSpec { driver: "syslog".to_owned(), ..LogSpec::default() }).is_err());
    }
}
