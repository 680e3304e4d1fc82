//! Compressing a layer on all processors, with the same result whatever their number.
//!
//! The tar is cut into blocks of fixed size. Gzip blocks are joined into one member, each primed with the bytes before
//! it (as pigz does), so that any decoder reads them as one stream; zstd blocks are frames of their own, which RFC 8878
//! lets follow each other.

use crate::oci::media;
use std::io::{self, Read, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Input bytes of one gzip block: the loss against one stream is below a thousandth.
const GZIP_BLOCK: usize = 1 << 20;
/// Input bytes of one zstd frame, which starts with an empty window: larger, so that little is lost.
const ZSTD_BLOCK: usize = 8 << 20;
/// Bytes that deflate can refer back to (RFC 1951).
const WINDOW: usize = 32 << 10;
/// Most threads for one layer: several layers are compressed at once.
const WORKERS: usize = 8;
/// Blocks waiting for, and coming from, each thread.
const DEPTH: usize = 1;

/// The formats a layer can be pushed, or written to an archive, in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Gzip,
    Zstd,
    /// The tar as it is: only builds ask for it.
    Plain,
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "gzip" => Ok(Format::Gzip),
            "zstd" => Ok(Format::Zstd),
            "zstd:chunked" => Err("compression format zstd:chunked is not supported: use zstd".to_owned()),
            other => Err(format!("invalid compression format \"{}\": expected gzip or zstd", other.escape_default())),
        }
    }
}

/// A format and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub format: Format,
    pub level: i32,
}

impl Setting {
    /// What is usual.
    pub const GZIP: Setting = Setting { format: Format::Gzip, level: 6 };

    /// The level is the format's own: 1 to 9 for gzip (6 if None), 1 to 20 for zstd (3 if None); what is not compressed has none.
    ///
    /// # Errors
    /// A level that the format does not have.
    pub fn new(format: Format, level: Option<i32>) -> Result<Self, String> {
        let (name, default, most) = match format {
            Format::Gzip => ("gzip", 6, 9),
            Format::Zstd => ("zstd", 3, 20),
            Format::Plain if level.is_none() => return Ok(Setting { format, level: 0 }),
            Format::Plain => return Err("invalid compression level: what is not compressed has none".to_owned()),
        };
        let level = level.unwrap_or(default);
        if !(1..=most).contains(&level) {
            return Err(format!("invalid compression level {level}: {name} has the levels 1 to {most}"));
        }
        Ok(Setting { format, level })
    }

    /// The OCI media type of a layer of this format.
    pub fn media_type(self) -> &'static str {
        match self.format {
            Format::Gzip => media::OCI_LAYER_GZIP,
            Format::Zstd => media::OCI_LAYER_ZSTD,
            Format::Plain => media::OCI_LAYER,
        }
    }
}

struct Job {
    data: Vec<u8>,
    /// The bytes before the block.
    before: Vec<u8>,
}

struct Block {
    bytes: Vec<u8>,
    checksum: flate2::Crc,
}

/// Compresses everything that `input` gives; the calling thread reads.
///
/// # Errors
/// What reading, compressing or writing failed with.
pub fn compress(setting: Setting, input: &mut dyn Read, out: &mut (dyn Write + Send)) -> io::Result<()> {
    if setting.format == Format::Plain {
        io::copy(input, out)?;
        return out.flush();
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS);
    std::thread::scope(|scope| {
        let mut jobs = Vec::new();
        let mut blocks = Vec::new();
        for _ in 0..workers {
            let (job_in, job_out) = sync_channel::<Job>(DEPTH);
            let (block_in, block_out) = sync_channel::<io::Result<Block>>(DEPTH);
            scope.spawn(move || work(setting, &job_out, &block_in));
            jobs.push(job_in);
            blocks.push(block_out);
        }
        // The receivers die with the writer, so that whoever still sends a block learns that nobody wants it.
        let writer = scope.spawn(move || join(setting.format, &blocks, out).map(|joined| (joined, out)));
        let read = cut(setting.format, input, &jobs);
        drop(jobs);
        let written = writer.join().expect("invariant: a panic aborts the process");
        // A reader that could not go on is the reason why the rest looks short.
        read?;
        let ((checksum, any), out) = written?;
        finish(setting, out, &checksum, any)
    })
}

/// Deals the blocks out in turn.
fn cut(format: Format, input: &mut dyn Read, jobs: &[SyncSender<Job>]) -> io::Result<()> {
    let size = match format {
        Format::Gzip => GZIP_BLOCK,
        Format::Zstd | Format::Plain => ZSTD_BLOCK,
    };
    let mut before = Vec::new();
    for worker in jobs.iter().cycle() {
        let mut data = Vec::with_capacity(size);
        Read::take(&mut *input, size as u64).read_to_end(&mut data)?;
        if data.is_empty() {
            break;
        }
        let tail = match format {
            Format::Gzip => data[data.len().saturating_sub(WINDOW)..].to_vec(),
            Format::Zstd | Format::Plain => Vec::new(),
        };
        if worker.send(Job { data, before: std::mem::replace(&mut before, tail) }).is_err() {
            break;
        }
    }
    Ok(())
}

fn work(setting: Setting, jobs: &Receiver<Job>, blocks: &SyncSender<io::Result<Block>>) {
    while let Ok(job) = jobs.recv() {
        let mut checksum = flate2::Crc::new();
        let bytes = match setting.format {
            Format::Gzip => {
                checksum.update(&job.data);
                deflate(setting.level, &job)
            }
            Format::Zstd => frame(setting.level, &job.data),
            Format::Plain => Ok(job.data),
        };
        if blocks.send(bytes.map(|bytes| Block { bytes, checksum })).is_err() {
            break;
        }
    }
}

/// Writes the blocks in the order in which they were dealt out.
fn join(format: Format, blocks: &[Receiver<io::Result<Block>>], out: &mut (dyn Write + Send)) -> io::Result<(flate2::Crc, bool)> {
    if format == Format::Gzip {
        // No name, no time; "unknown" system (RFC 1952, 2.3).
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
    }
    let mut checksum = flate2::Crc::new();
    let mut any = false;
    for worker in blocks.iter().cycle() {
        let Ok(block) = worker.recv() else { break };
        let block = block?;
        out.write_all(&block.bytes)?;
        checksum.combine(&block.checksum);
        any = true;
    }
    Ok((checksum, any))
}

fn finish(setting: Setting, out: &mut dyn Write, checksum: &flate2::Crc, any: bool) -> io::Result<()> {
    match setting.format {
        Format::Gzip => {
            // An empty last block, then the sum and the length modulo 2^32.
            out.write_all(&[3, 0])?;
            out.write_all(&checksum.sum().to_le_bytes())?;
            out.write_all(&checksum.amount().to_le_bytes())?;
        }
        Format::Zstd if !any => out.write_all(&frame(setting.level, &[])?)?,
        Format::Zstd | Format::Plain => {}
    }
    out.flush()
}

/// One block of raw deflate that ends on a byte and is not the last.
fn deflate(level: i32, job: &Job) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::new(u32::try_from(level).unwrap_or(6));
    let mut stream = flate2::Compress::new(level, false);
    if !job.before.is_empty() {
        stream.set_dictionary(&job.before).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(job.data.len() / 2 + 1024);
    loop {
        let at = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        stream.compress_vec(&job.data[at..], &mut out, flate2::FlushCompress::Sync).map_err(io::Error::other)?;
        // Room left over means that the flush is complete.
        if stream.total_in() == job.data.len() as u64 && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(64 << 10);
    }
}

fn frame(level: i32, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::stream::decompressor;

    fn sample(size: usize) -> Vec<u8> {
        let mut state = 1u32;
        let random = (0..size).map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i % 4096 < 3000 { b"the same words again and again "[i % 31] } else { (state >> 24) as u8 }
        });
        random.collect()
    }

    #[test]
    fn both_formats_come_back_and_repeat_themselves() {
        for format in [Format::Gzip, Format::Zstd, Format::Plain] {
            for size in [0, 1, 1000, GZIP_BLOCK, GZIP_BLOCK + 1, 3 * GZIP_BLOCK + 17, ZSTD_BLOCK + 5] {
                let data = sample(size);
                let setting = Setting::new(format, None).unwrap();
                let pack = || {
                    let mut out = Vec::new();
                    compress(setting, &mut &data[..], &mut out).unwrap();
                    out
                };
                let packed = pack();
                assert_eq!(packed, pack(), "{format:?} {size}");
                let mut back = Vec::new();
                decompressor(&packed[..]).unwrap().read_to_end(&mut back).unwrap();
                assert!(back == data, "{format:?} {size}");
                if format == Format::Gzip {
                    // One member: decoders that stop after the first read it whole.
                    let mut one = Vec::new();
                    flate2::bufread::GzDecoder::new(&packed[..]).read_to_end(&mut one).unwrap();
                    assert!(one == data, "{size}");
                }
            }
        }
    }

    #[test]
    fn failures_end_all_threads() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::other("broken"));
                }
                let n = buffer.len().min(self.0);
                self.0 -= n;
                Ok(n)
            }
        }
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let setting = Setting::new(Format::Gzip, Some(1)).unwrap();
        assert_eq!(compress(setting, &mut Broken(5 << 20), &mut Vec::new()).unwrap_err().to_string(), "broken");
        assert_eq!(compress(setting, &mut &sample(40 << 20)[..], &mut Full).unwrap_err().to_string(), "full");
    }

    #[test]
    fn levels_are_the_formats_own() {
        assert!(
            Setting::new(Format::Gzip, Some(10)).is_err()
                && Setting::new(Format::Zstd, Some(19)).is_ok()
                && Setting::new(Format::Gzip, Some(0)).is_err()
        );
        assert!("zstd:chunked".parse::<Format>().unwrap_err().contains("not supported") && "lz4".parse::<Format>().is_err());
    }
}
