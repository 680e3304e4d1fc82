//! `json-file` and `local`: records appended to a file that is rotated by size, older files compressed if wished.
//!
//! Invariants: a file holds whole records only (a failed write is cut off again); `log.1` is younger than `log.2`; of a
//! number either the plain or the compressed file counts, the plain one while both are there.

use super::compress::{Compressor, compressed};
use super::encode;
use crate::base::fs::{Context, FsError};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// For each byte that is logged so many of the last file are compressed: it is done long before the next rotation.
const PACE: usize = 4;
/// The last of a disk is left to the engine's records: with none at all even `inspect` and `rm` could not open them.
const LEFT_TO_RECORDS: u64 = 1 << 20;
/// So much is written between two looks at the free space.
const LOOK_EVERY: u64 = 256 << 10;

/// Sizes and form of a log's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Bytes of a file; 0: no limit.
    pub size: u64,
    pub files: u32,
    pub compress: bool,
}

/// The n-th older file; 0 is the current one.
pub(in crate::monitor) fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

pub(super) struct Files {
    path: PathBuf,
    file: File,
    written: u64,
    rotation: Rotation,
    /// Number of the current file, ever rising.
    segment: u64,
    compressor: Option<Compressor>,
    /// What may still be written before the free space is looked at.
    unlooked: u64,
}

impl Files {
    /// Opens (appending) the log.
    pub(super) fn open(path: PathBuf, rotation: Rotation) -> Result<Self, FsError> {
        let file = open_file(&path)?;
        let mut written = file.metadata().on("stat", &path)?.len();
        if written > 0 && !ends_with_newline(&path, written)? {
            // A crash cut the last record off: the next one must not be lost with it.
            (&file).write_all(b"\n").on("write", &path)?;
            written += 1;
        }
        let segment = if written > 0 { segment_of(&path).unwrap_or(0) } else { 1 + newest_segment(&path) };
        Ok(Files { path, file, written, rotation, segment, compressor: None, unlooked: 0 })
    }

    #[cfg(test)]
    pub(super) fn exchange(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Appends whole records, rotating before the one that would pass the limit. `Err`: how many records could not be
    /// written, and why.
    pub(super) fn put(&mut self, mut records: &[u8]) -> Result<(), (u64, FsError)> {
        let mut first;
        while !records.is_empty() {
            if self.written == 0 {
                let (numbered, length) = encode::numbered(records, self.segment);
                first = numbered;
                self.append(&first).map_err(|error| (count(records), error))?;
                records = &records[length..];
                continue;
            }
            let room = if self.rotation.size == 0 { u64::MAX } else { self.rotation.size.saturating_sub(self.written) };
            let fits = if (records.len() as u64) <= room { records.len() } else { whole_records(records, room) };
            if fits == 0 {
                self.rotate().map_err(|error| (count(records), error))?;
                continue;
            }
            self.append(&records[..fits]).map_err(|error| (count(records), error))?;
            records = &records[fits..];
        }
        Ok(())
    }

    /// Writes whole records, or nothing: half a record would take the next one with it.
    fn append(&mut self, records: &[u8]) -> Result<(), FsError> {
        self.find_room(records.len() as u64).on("write", &self.path)?;
        let mut done = 0;
        let result = loop {
            match self.file.write(&records[done..]) {
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if done == records.len() {
                break Ok(());
            }
        };
        match result {
            Ok(()) => self.written += records.len() as u64,
            // The first failure is what is told; cutting a file short needs no space. From its end: somebody may have
            // emptied it (`truncate -s 0`).
            Err(_) if done > 0 => drop(self.file.metadata().and_then(|meta| self.file.set_len(meta.len().saturating_sub(done as u64)))),
            Err(_) => {}
        }
        self.compress(records.len().saturating_mul(PACE));
        result.on("write", &self.path)
    }

    /// `StorageFull` if the write would take what is left to records.
    fn find_room(&mut self, wanted: u64) -> std::io::Result<()> {
        if self.unlooked < wanted {
            let status = rustix::fs::fstatvfs(&self.file)?;
            let free = status.f_bavail.saturating_mul(status.f_frsize);
            let room = free.saturating_sub(LEFT_TO_RECORDS);
            if room < wanted {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.unlooked = room.min(LOOK_EVERY.max(wanted));
        }
        self.unlooked -= wanted;
        Ok(())
    }

    /// Brings a compression on by that much.
    fn compress(&mut self, bytes: usize) {
        let Some(compressor) = &mut self.compressor else { return };
        match compressor.go_on(bytes) {
            Ok(false) => {}
            Ok(true) => self.compressor = None,
            Err(error) => {
                tracing::warn!("{error}: {}; the file stays as it is", error.source);
                if let Some(compressor) = self.compressor.take() {
                    compressor.abandon();
                }
            }
        }
    }

    /// `log.1` becomes `log.2` and so on, the current file `log.1`; renames only (with a single file: a new one), so
    /// that a reader keeps what it has open and a crash in between loses nothing but the order of names.
    fn rotate(&mut self) -> Result<(), FsError> {
        // Before its file gets another name.
        self.compress(usize::MAX);
        if self.rotation.files == 1 {
            crate::base::fs::remove_file(&self.path)?;
        }
        if self.rotation.files > 1 {
            let last = rotated(&self.path, self.rotation.files - 1);
            crate::base::fs::remove_file(&compressed(&last))?;
            crate::base::fs::remove_file(&last)?;
        }
        for n in (1..self.rotation.files).rev() {
            let (from, to) = (rotated(&self.path, n - 1), rotated(&self.path, n));
            rename(&from, &to)?;
            if n > 1 {
                rename(&compressed(&from), &compressed(&to))?;
            }
        }
        self.file = open_file(&self.path)?;
        self.written = 0;
        self.segment += 1;
        if self.rotation.compress && self.rotation.files > 1 {
            match Compressor::begin(&rotated(&self.path, 1)) {
                Ok(compressor) => self.compressor = Some(compressor),
                Err(error) => tracing::warn!("{error}: {}; the file stays as it is", error.source),
            }
        }
        Ok(())
    }

    /// The streams have ended: what is being compressed is finished.
    pub(super) fn finish(&mut self) {
        self.compress(usize::MAX);
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.on("rename", from),
    }
}

fn count(records: &[u8]) -> u64 {
    records.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn ends_with_newline(path: &Path, length: u64) -> Result<bool, FsError> {
    let mut last = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut last, length - 1)).on("read", path)?;
    Ok(last == *b"\n")
}

/// The number in the first record of a file.
fn segment_of(path: &Path) -> Option<u64> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?).take(1 << 20).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice::<serde_json::Value>(&line).ok()?.get("segment")?.as_u64()
}

/// That of the last file before a current one that does not exist yet (or is empty).
fn newest_segment(path: &Path) -> u64 {
    let older = rotated(path, 1);
    if let Some(segment) = segment_of(&older) {
        return segment;
    }
    let mut line = Vec::new();
    let Ok(file) = File::open(compressed(&older)) else { return 0 };
    let read = BufReader::new(flate2::read::GzDecoder::new(file)).take(1 << 20).read_until(b'\n', &mut line);
    let value = read.ok().and_then(|_| serde_json::from_slice::<serde_json::Value>(&line).ok());
    value.and_then(|value| value.get("segment")?.as_u64()).unwrap_or(0)
}

fn open_file(path: &Path) -> Result<File, FsError> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path).on("open", path)
}

/// Bytes of the leading records that fit into `room` together.
fn whole_records(records: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(records.len());
    records[..room].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1)
}
