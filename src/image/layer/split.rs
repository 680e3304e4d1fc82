//! What a layer's tar holds besides the contents of its files, kept beside the unpacked layer, so that the exact
//! tar can be made again and no blob has to be stored.
//!
//! `<layer>/tar-split` is a magic line and one zstd stream of records: bytes of the tar as they are (headers,
//! padding, what no file can give back), and references to pieces of files in `<layer>/diff`. A file that a later
//! entry of the same tar replaced is moved to `<layer>/replaced/<number>`, and a record says so.
//!
//! Invariant: the lengths of all records add up to the length of the tar; the last record says that length.

mod assemble;
mod compare;
mod model;
#[cfg(test)]
mod tests;

pub use assemble::assemble;
pub use compare::{Differences, compare};
pub use model::Model;

use super::{UnpackError, shown};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the record file in a layer's directory.
pub const FILE: &str = "tar-split";
/// Directory of the files that later entries replaced.
const REPLACED: &str = "replaced";
/// First bytes of the file; the digit is the version of the format.
const MAGIC: &[u8] = b"rcon tar-split 1\n";
/// Headers compress about tenfold at the fastest level; higher ones cost more time than they save space.
const LEVEL: i32 = 1;
/// Bytes that are collected before they become a record.
const PIECE: usize = 32 << 10;
/// Most things that later entries of one tar replace: an honest layer has hardly any, and each is remembered
/// when the tar is made again.
const REPLACED_LIMIT: u64 = 100_000;

/// Records. Numbers are LEB128, byte strings are preceded by their length.
mod tag {
    /// Length of the whole tar; nothing follows.
    pub const END: u8 = 0;
    /// Bytes.
    pub const VERBATIM: u8 = 1;
    /// Path beneath `diff`, offset, length.
    pub const FILE: u8 = 2;
    /// Offset and length in the file named last.
    pub const SAME_FILE: u8 = 3;
    /// Number and path: what was at the path is now `replaced/<number>`.
    pub const MOVED: u8 = 4;
}

/// Writes the records while a layer is unpacked.
pub struct Writer {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    layer: PathBuf,
    pending: Vec<u8>,
    total: u64,
    last_file: Vec<u8>,
    replaced: Option<OwnedFd>,
    moved: u64,
}

impl Writer {
    /// Records beside `diff`, in its parent directory.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn beside(diff: &Path) -> Result<Self, UnpackError> {
        let layer = diff.parent().unwrap_or(Path::new("/")).to_owned();
        let start = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(layer.join(FILE))?;
            let mut file = BufWriter::with_capacity(128 << 10, file);
            file.write_all(MAGIC)?;
            zstd::stream::write::Encoder::new(file, LEVEL)
        };
        let out = start().map_err(|e| failed("create", e))?;
        Ok(Writer { out, layer, pending: Vec::with_capacity(PIECE), total: 0, last_file: Vec::new(), replaced: None, moved: 0 })
    }

    /// The next bytes of the tar, which no file will give back.
    ///
    /// # Errors
    /// The record file cannot be written.
    pub fn verbatim(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.total += bytes.len() as u64;
        if self.pending.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        if bytes.len() > PIECE {
            return self.record(tag::VERBATIM, &[], bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next `length` bytes of the tar are in the file `path` (clean, beneath the layer's root) at `offset`.
    ///
    /// # Errors
    /// The record file cannot be written.
    pub fn file(&mut self, path: &[u8], offset: u64, length: u64) -> Result<(), UnpackError> {
        if length == 0 {
            return Ok(());
        }
        self.flush()?;
        self.total += length;
        let mut place = Vec::with_capacity(20);
        number(&mut place, offset);
        number(&mut place, length);
        if self.last_file == path {
            self.out.write_all(&[tag::SAME_FILE]).and_then(|()| self.out.write_all(&place)).map_err(|e| failed("write", e))
        } else {
            self.last_file = path.to_vec();
            self.record(tag::FILE, &[], path)?;
            self.out.write_all(&place).map_err(|e| failed("write", e))
        }
    }

    /// Moves what is at `name` in `directory` (clean path `path`) out of the layer: its bytes are still needed.
    ///
    /// # Errors
    /// Too many such things, or it cannot be moved.
    pub fn set_aside(&mut self, directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        if self.moved == REPLACED_LIMIT {
            return Err(UnpackError::Limit { what: "the number of entries that replace others", limit: REPLACED_LIMIT });
        }
        let wrong = |e: io::Error| UnpackError::File { operation: "set aside", path: shown(path), source: e };
        if self.replaced.is_none() {
            let place = self.layer.join(REPLACED);
            rustix::fs::mkdirat(CWD, &place, Mode::from_raw_mode(0o700)).map_err(|e| wrong(e.into()))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.replaced = Some(rustix::fs::openat(CWD, &place, flags, Mode::empty()).map_err(|e| wrong(e.into()))?);
        }
        let place = self.replaced.as_ref().expect("invariant: made above");
        rustix::fs::renameat(directory, name, place, self.moved.to_string()).map_err(|e| wrong(e.into()))?;
        self.flush()?;
        // The next piece of this path is of another file.
        self.last_file.clear();
        let mut head = Vec::with_capacity(10);
        number(&mut head, self.moved);
        self.moved += 1;
        self.record(tag::MOVED, &head, path)
    }

    /// Ends the records.
    ///
    /// # Errors
    /// The record file cannot be written.
    pub fn finish(mut self) -> Result<(), UnpackError> {
        self.flush()?;
        let mut end = vec![tag::END];
        number(&mut end, self.total);
        let finish = || {
            self.out.write_all(&end)?;
            self.out.finish()?.flush()
        };
        finish().map_err(|e| failed("write", e))
    }

    fn flush(&mut self) -> Result<(), UnpackError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let written = self.record(tag::VERBATIM, &[], &pending);
        self.pending = pending;
        self.pending.clear();
        written
    }

    fn record(&mut self, tag: u8, head: &[u8], bytes: &[u8]) -> Result<(), UnpackError> {
        let mut start = Vec::with_capacity(24);
        start.push(tag);
        start.extend_from_slice(head);
        number(&mut start, bytes.len() as u64);
        self.out.write_all(&start).and_then(|()| self.out.write_all(bytes)).map_err(|e| failed("write", e))
    }
}

/// LEB128: seven bits a byte, the lowest first.
fn number(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn failed(operation: &'static str, source: io::Error) -> UnpackError {
    UnpackError::File { operation, path: FILE.to_owned(), source }
}
