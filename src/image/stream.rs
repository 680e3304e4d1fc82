//! One pass over a layer blob: hash the compressed bytes, inflate, hash the tar, unpack.
//!
//! Two threads share the work: one reads, hashes and inflates (the slowest stage), the other hashes the tar
//! while it is in the cache and writes the files.

use super::layer::{self, UnpackError, Unpacked};
use super::{Error, Limits};
use crate::oci::{Digest, DigestHasher};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes handed from one thread to the other at once: large enough to hide the hand-over, small enough to
/// stay in the second-level cache.
const PIECE: usize = 256 << 10;
/// Pieces on their way between the threads.
const QUEUE: usize = 8;

/// What the stream must turn out to be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Short name for messages.
    pub layer: String,
    /// Digest and size of the blob; None when only the DiffID is known (docker-archive).
    pub blob: Option<(Digest, u64)>,
    pub diff_id: Digest,
    pub limits: Limits,
}

/// Counts and hashes what is read.
struct Hashing<R> {
    input: R,
    hasher: Option<DigestHasher>,
    count: u64,
    /// Most bytes to read; one more shows as an error of size.
    limit: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = (self.limit + 1).saturating_sub(self.count);
        let take = usize::try_from(room).map_or(buffer.len(), |room| room.min(buffer.len()));
        let n = self.input.read(&mut buffer[..take])?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        self.count += n as u64;
        Ok(n)
    }
}

/// The tar bytes as they come from the inflating thread.
struct Pieces {
    full: Receiver<Vec<u8>>,
    /// Emptied buffers go back.
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    hasher: DigestHasher,
    /// Bytes received.
    count: u64,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            let Ok(next) = self.full.recv() else { return Ok(&[]) };
            self.hasher.update(&next);
            self.count += next.len() as u64;
            let used = std::mem::replace(&mut self.current, next);
            self.at = 0;
            // A full return queue only means that the buffer is freed here.
            drop(self.empty.try_send(used));
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(buffer.len());
        buffer[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Decompresses by what the bytes say (magic numbers), whatever the media type claimed.
///
/// # Errors
/// The first bytes cannot be read, or the decoder cannot be made.
pub fn decompressor<'a, R: BufRead + 'a>(mut input: R) -> io::Result<Box<dyn Read + 'a>> {
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_zstd_skippable(head) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
    } else {
        Ok(Box::new(input))
    }
}

/// zstd:chunked and seekable zstd begin with a skippable frame (RFC 8878, 3.1.2).
fn is_zstd_skippable(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Unpacks a blob into `diff`, with the records to make its tar again beside it, and verifies its digests.
///
/// # Errors
/// Wrong digests or sizes, a stream that cannot be read or decompressed, a tar that cannot be unpacked. The
/// directory is then worthless.
pub fn unpack(input: impl Read + Send, expected: &Expected, diff: &Path) -> Result<Unpacked, Error> {
    let (full_in, full_out) = sync_channel::<Vec<u8>>(QUEUE);
    let (empty_in, empty_out) = sync_channel::<Vec<u8>>(QUEUE + 1);
    let hasher = DigestHasher::new(expected.diff_id.algorithm());
    let pieces = Pieces { full: full_out, empty: empty_in, current: Vec::new(), at: 0, hasher, count: 0 };
    let algorithm = expected.blob.as_ref().map(|(digest, _)| digest.algorithm());
    let limit = expected.blob.as_ref().map_or(u64::MAX - 1, |(_, size)| *size);
    let hashing = Hashing { input, hasher: algorithm.map(DigestHasher::new), count: 0, limit };
    let mut raw = BufReader::with_capacity(PIECE, hashing);
    let (inflated, unpacked) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(pieces, expected.limits.entries, diff));
        let inflated = inflate(&mut raw, expected, &full_in, &empty_out);
        drop(full_in);
        let unpacked = writer.join().expect("invariant: a panic aborts the process");
        (inflated, unpacked)
    });
    match (inflated, unpacked) {
        (Ok(()), Ok((unpacked, digest))) if digest == expected.diff_id => Ok(unpacked),
        (Ok(()), Ok((_, actual))) => {
            Err(Error::Digest { what: format!("the tar of layer {}", expected.layer), expected: expected.diff_id.clone(), actual })
        }
        // A tar that makes no sense may be one of other bytes; a full disk or a refused entry is no reason to read on.
        (Err(Stopped::ByWriter) | Ok(()), Err(source)) => {
            if matches!(source, UnpackError::Malformed(_) | UnpackError::Read(_)) {
                verify(&mut raw, expected)?;
            }
            Err(Error::Layer { layer: expected.layer.clone(), source })
        }
        (Err(Stopped::Error(error)), _) => Err(error),
        (Err(Stopped::ByWriter), Ok(_)) => Err(Error::CutOff(expected.layer.clone())),
    }
}

fn write(pieces: Pieces, entries: u64, diff: &Path) -> Result<(Unpacked, Digest), UnpackError> {
    let recorded = layer::tar::Reader::recorded(pieces, layer::split::Writer::beside(diff)?);
    let mut reader = recorded.with_entry_limit(entries);
    let mut unpacked = layer::unpack(&mut reader, diff)?;
    let pieces = reader.into_inner();
    unpacked.tar_size = pieces.count;
    let digest = pieces.hasher.finish();
    // In debug builds every test that unpacks a layer proves that its tar can be made again.
    if cfg!(debug_assertions) {
        let layer = diff.parent().unwrap_or(diff);
        let again = layer::split::assemble(layer).and_then(|tar| Digest::of_stream(digest.algorithm(), tar)).map_err(UnpackError::Read)?.0;
        assert_eq!(again, digest, "the tar of {} can be made again", layer.display());
    }
    Ok((unpacked, digest))
}

enum Stopped {
    ByWriter,
    Error(Error),
}

/// Reads the blob to its end and sends the tar on.
fn inflate<R: Read>(
    raw: &mut BufReader<Hashing<R>>,
    expected: &Expected,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), Stopped> {
    let stopped = match pump(raw, expected, full, empty) {
        Ok(()) => None,
        Err(Pump::Writer) => return Err(Stopped::ByWriter),
        Err(Pump::Bomb(limit, key)) => return Err(Stopped::Error(Error::Expansion { layer: expected.layer.clone(), limit, key })),
        Err(Pump::Read(source)) if is_cut(&source) => return Err(Stopped::Error(Error::CutOff(expected.layer.clone()))),
        Err(Pump::Read(source)) => Some(Error::Decompress { layer: expected.layer.clone(), source }),
    };
    match (verify(raw, expected), stopped) {
        (Err(Error::CutOff(_)), Some(stopped)) | (Ok(()), Some(stopped)) => Err(Stopped::Error(stopped)),
        (verified, _) => verified.map_err(Stopped::Error),
    }
}

/// Damaged bytes fail in the decoder or the tar reader first; the digest is the truer reason, so the rest is read for it.
fn verify<R: Read>(raw: &mut BufReader<Hashing<R>>, expected: &Expected) -> Result<(), Error> {
    if io::copy(raw, &mut io::sink()).is_err() {
        return Err(Error::CutOff(expected.layer.clone()));
    }
    let hashed = raw.get_mut();
    let (Some((digest, size)), Some(hasher)) = (&expected.blob, hashed.hasher.take()) else { return Ok(()) };
    let what = || format!("the blob of layer {}", expected.layer);
    if hashed.count != *size {
        return Err(Error::Size { what: what(), expected: *size, actual: hashed.count });
    }
    let actual = hasher.finish();
    if actual == *digest { Ok(()) } else { Err(Error::Digest { what: what(), expected: digest.clone(), actual }) }
}

enum Pump {
    Writer,
    /// Most bytes, and the key of the settings that says so.
    Bomb(u64, &'static str),
    Read(io::Error),
}

fn pump<R: Read>(raw: &mut BufReader<Hashing<R>>, expected: &Expected, full: &SyncSender<Vec<u8>>, empty: &Receiver<Vec<u8>>) -> Result<(), Pump> {
    let blob_size = expected.blob.as_ref().map_or(u64::MAX, |(_, size)| *size);
    let (limit, key) = expected.limits.uncompressed(blob_size);
    let mut decoder = decompressor(&mut *raw).map_err(Pump::Read)?;
    let mut total = 0u64;
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            match decoder.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Pump::Read(e)),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        total += filled as u64;
        if total > limit {
            return Err(Pump::Bomb(limit, key));
        }
        piece.truncate(filled);
        full.send(piece).map_err(|_| Pump::Writer)?;
    }
}

/// The error with which a download says that it gave up.
pub fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the download ended early")
}

fn is_cut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}
