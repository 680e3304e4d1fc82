//! One file of a log, plain or compressed, and the list of them.

use crate::base::Timestamp;
use crate::base::fs::Context;
use crate::monitor::log::{compressed, rotated};
use crate::monitor::{Error, Gap, LogLine, LogQuery};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Highest number of rotated files (the limit of `max-file`).
const MOST_FILES: u32 = 1000;
/// How often a rotation that came between is answered by another look.
const ROTATIONS: u32 = 100;
/// The longest first record that is looked at for its number.
const FIRST: usize = 256 << 10;

type Identity = (u64, u64);

pub(super) fn identity_of(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

enum Reader {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<GzDecoder<File>>>),
}

impl Reader {
    fn read_until(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Reader::Plain(reader) => reader.read_until(b'\n', into),
            Reader::Gzip(reader) => reader.read_until(b'\n', into),
        }
    }
}

/// One open log file, read up to some point.
pub(super) struct Segment {
    reader: Reader,
    pub(super) identity: Identity,
    /// Its number among the files of this log.
    pub(super) number: Option<u64>,
    /// The beginning of a record that is being written.
    partial: Vec<u8>,
}

impl Segment {
    /// The n-th file, plain or compressed.
    fn open(path: &Path, n: u32) -> Result<Option<Self>, Error> {
        let plain = rotated(path, n);
        for (path, is_compressed) in [(&plain, false), (&compressed(&plain), n > 0)] {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.on("open", path)?,
            };
            let meta = file.metadata().on("stat", path)?;
            let reader = if is_compressed {
                Reader::Gzip(Box::new(BufReader::with_capacity(32 << 10, GzDecoder::new(file))))
            } else if path == &plain {
                Reader::Plain(BufReader::with_capacity(32 << 10, file))
            } else {
                continue;
            };
            let mut segment = Segment { reader, identity: (meta.dev(), meta.ino()), number: None, partial: Vec::new() };
            segment.look_at_number().on("read", path)?;
            return Ok(Some(segment));
        }
        Ok(None)
    }

    /// Reads the number without moving on.
    fn look_at_number(&mut self) -> io::Result<()> {
        let number = |first: &[u8]| {
            let end = first.iter().position(|b| *b == b'\n')?;
            serde_json::from_slice::<Record<'_>>(&first[..end]).ok()?.segment
        };
        match &mut self.reader {
            Reader::Plain(reader) => {
                let mut first = vec![0; 1 << 10];
                loop {
                    let count = reader.get_ref().read_at(&mut first, 0)?;
                    if first[..count].contains(&b'\n') || count < first.len() || first.len() >= FIRST {
                        self.number = number(&first[..count]);
                        return Ok(());
                    }
                    let longer = first.len() * 4;
                    first.resize(longer, 0);
                }
            }
            // Nothing is written to it any more: the first record waits in `partial`.
            Reader::Gzip(reader) => {
                reader.read_until(b'\n', &mut self.partial)?;
                self.number = number(&self.partial);
                Ok(())
            }
        }
    }

    /// Gives all complete records to `each`; false: it wants no more.
    pub(super) fn read(&mut self, path: &Path, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
        loop {
            if self.partial.last() != Some(&b'\n') {
                let count = match self.reader.read_until(&mut self.partial) {
                    // The end of a compressed file is missing: what was readable was given out.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::InvalidInput => 0,
                    other => other.on("read", path)?,
                };
                if self.partial.last() != Some(&b'\n') {
                    if count == 0 {
                        return Ok(true);
                    }
                    continue;
                }
            }
            let record = parse(&self.partial, query.details);
            self.partial.clear();
            if self.number.is_none()
                && let Some((_, Some(number))) = &record
            {
                self.number = Some(*number);
            }
            let Some((line, _)) = record else { continue };
            if query.since.is_some_and(|since| line.at < since) {
                continue;
            }
            if query.until.is_some_and(|until| line.at > until) || !each(line) {
                return Ok(false);
            }
        }
    }

    /// Someone cut the log to nothing (`truncate -s 0`): begins anew.
    pub(super) fn rewind_if_cut(&mut self, path: &Path) -> Result<(), Error> {
        let Reader::Plain(reader) = &mut self.reader else { return Ok(()) };
        let position = reader.stream_position().on("read", path)?;
        if reader.get_ref().metadata().on("stat", path)?.len() < position {
            reader.seek(SeekFrom::Start(0)).on("read", path)?;
            self.partial.clear();
        }
        Ok(())
    }

    /// Moves to where at most `count` complete records follow; how many they are.
    fn seek_to_last(&mut self, count: usize) -> io::Result<usize> {
        match &mut self.reader {
            Reader::Plain(reader) => {
                let (start, found) = tail_start(reader.get_ref(), count)?;
                reader.seek(SeekFrom::Start(start))?;
                Ok(found)
            }
            Reader::Gzip(reader) => {
                let first = std::mem::take(&mut self.partial);
                let mut kept = std::collections::VecDeque::from([first]);
                let mut line = Vec::new();
                // Only the records that are wanted are held.
                while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                    kept.push_back(std::mem::take(&mut line));
                    if kept.len() > count {
                        kept.pop_front();
                    }
                }
                kept.retain(|record| !record.is_empty());
                while kept.len() > count {
                    kept.pop_front();
                }
                let found = kept.len();
                let text: Vec<u8> = kept.into_iter().flatten().collect();
                self.reader = Reader::Plain(BufReader::new(memory(&text)?));
                Ok(found)
            }
        }
    }
}

/// A file in memory.
fn memory(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(c"log", rustix::fs::MemfdFlags::CLOEXEC)?);
    io::Write::write_all(&mut file, text)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// All files, oldest first, as they stood together at one moment: looked at again until no rotation came between.
pub(super) fn open_all(path: &Path) -> Result<Vec<Segment>, Error> {
    let mut files = open_once(path)?;
    // A writer that rotates faster than a listing takes wins: then what is shown has a gap, which is told.
    for _ in 0..ROTATIONS {
        let newest = identity_of(path);
        if newest == files.last().map(|file| file.identity) {
            break;
        }
        files = open_once(path)?;
    }
    Ok(files)
}

/// Opened newest first, over the one hole that a rotation moves through the numbers.
fn open_once(path: &Path) -> Result<Vec<Segment>, Error> {
    let mut files: Vec<Segment> = Vec::new();
    let mut holes = 0;
    for n in 0..=MOST_FILES {
        match Segment::open(path, n)? {
            Some(file) if files.last().is_none_or(|newer| is_older(&file, newer)) => files.push(file),
            Some(_) => {}
            None => holes += 1,
        }
        if holes == 2 {
            break;
        }
    }
    files.reverse();
    Ok(files)
}

/// Not the same file again, which a rotation has moved on (or a compression has replaced) while they were listed.
fn is_older(file: &Segment, newer: &Segment) -> bool {
    file.identity != newer.identity && !matches!((file.number, newer.number), (Some(a), Some(b)) if a >= b)
}

/// Drops whole older files and positions the first kept one so that `count` records remain.
pub(super) fn seek_to_tail(path: &Path, files: &mut Vec<Segment>, count: usize) -> Result<(), Error> {
    let mut wanted = count;
    let mut keep = files.len();
    for file in files.iter_mut().rev() {
        wanted -= file.seek_to_last(wanted).on("read", path)?;
        keep -= 1;
        if wanted == 0 {
            break;
        }
    }
    files.drain(..keep);
    Ok(())
}

/// Offset from which at most `count` complete records follow, and how many they are.
fn tail_start(file: &File, count: usize) -> io::Result<(u64, usize)> {
    let mut buffer = [0u8; 16 << 10];
    let mut end = file.metadata()?.len();
    let mut seen = 0;
    while end > 0 {
        let length = end.min(buffer.len() as u64);
        let chunk = &mut buffer[..length as usize];
        file.read_exact_at(chunk, end - length)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' {
                if seen == count {
                    return Ok((end - length + index as u64 + 1, count));
                }
                seen += 1;
            }
        }
        end -= length;
    }
    Ok((0, seen))
}

#[derive(serde::Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    time: std::borrow::Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
    #[serde(default)]
    segment: Option<u64>,
    #[serde(default)]
    lost: u64,
}

/// The line, and the number of its file where it is the first.
fn parse(record: &[u8], details: bool) -> Option<(LogLine, Option<u64>)> {
    let record: Record<'_> = serde_json::from_slice(record).ok()?;
    let at = Timestamp::parse_rfc3339(&record.time)?;
    let stream = if record.stream == "stderr" { 2 } else { 1 };
    let gap = (record.lost > 0).then_some(Gap::Lines(record.lost));
    let details = if details { record.attrs.unwrap_or_default().into_iter().collect() } else { Vec::new() };
    Some((LogLine { at, stream, data: record.log.into_owned().into_bytes(), details, gap }, record.segment))
}
