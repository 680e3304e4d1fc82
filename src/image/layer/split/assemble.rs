//! The tar of a layer made again from its records and its files.
//!
//! Files are opened beneath held directories without following any link: the names in the records were hostile
//! once, and stay so.

use super::super::PATH_LIMIT;
use super::super::tree::{BENEATH, OPEN_DIRECTORY};
use super::{FILE, MAGIC, REPLACED, tag};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the records in memory at once.
const BUFFER: usize = 64 << 10;

/// The uncompressed tar of a layer. Whoever relies on it compares its digest with the DiffID: files beneath `diff`
/// may have been changed.
pub struct Assembled {
    records: Records,
    diff: OwnedFd,
    replaced: Option<OwnedFd>,
    moves: Moves,
    file: Option<(Vec<u8>, File)>,
    current: Current,
    total: u64,
}

/// What the next bytes come from.
enum Current {
    Nothing,
    Verbatim(u64),
    File { offset: u64, left: u64 },
    End,
}

/// Opens the records of a layer (`<layer>/tar-split`, `<layer>/diff`) for reading the tar that it came from.
///
/// # Errors
/// There are no records (the layer was unpacked by an older version), they are of another version, or the layer
/// cannot be opened.
pub fn assemble(layer: &Path) -> io::Result<Assembled> {
    let open = |name: &str| rustix::fs::openat(CWD, layer.join(name), OPEN_DIRECTORY, Mode::empty());
    let (replaced, moves) = match open(REPLACED) {
        Ok(directory) => (Some(directory), Moves::read(&mut Records::open(layer)?)?),
        Err(Errno::NOENT) => (None, Moves::default()),
        Err(e) => return Err(e.into()),
    };
    let records = Records::open(layer)?;
    Ok(Assembled { records, diff: open("diff")?, replaced, moves, file: None, current: Current::Nothing, total: 0 })
}

impl Read for Assembled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = match &mut self.current {
                Current::End => return Ok(0),
                Current::Verbatim(left) if *left > 0 => {
                    let n = self.records.bytes(buffer, *left)?;
                    *left -= n as u64;
                    n
                }
                Current::File { offset, left } if *left > 0 => {
                    let (path, file) = self.file.as_ref().expect("invariant: opened with the record");
                    let take = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    let n = file.read_at(&mut buffer[..take], *offset)?;
                    if n == 0 && take > 0 {
                        return Err(damaged(&format!("the file \"{}\" of the layer is shorter than it was", path.escape_ascii())));
                    }
                    *offset += n as u64;
                    *left -= n as u64;
                    n
                }
                _ => {
                    self.advance()?;
                    continue;
                }
            };
            self.total += n as u64;
            return Ok(n);
        }
    }
}

impl Assembled {
    fn advance(&mut self) -> io::Result<()> {
        self.current = match self.records.next()? {
            Record::Verbatim(length) => Current::Verbatim(length),
            Record::File(path, offset, left) => {
                let file = self.open(&path)?;
                self.file = Some((path, file));
                Current::File { offset, left }
            }
            Record::SameFile(_, _) if self.file.is_none() => return Err(damaged("the records of the tar name no file")),
            Record::SameFile(offset, left) => Current::File { offset, left },
            Record::Moved(_, _) => Current::Nothing,
            Record::End(total) if total == self.total => Current::End,
            Record::End(_) => return Err(damaged("the records of the tar do not add up")),
        };
        Ok(())
    }

    /// The file that was at `path` when the current record was written.
    fn open(&self, path: &[u8]) -> io::Result<File> {
        let wrong =
            |e: Errno| io::Error::new(io::Error::from(e).kind(), format!("cannot open the file \"{}\" of the layer: {e}", path.escape_ascii()));
        // Without O_NONBLOCK a FIFO that was put there would hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match (self.moves.find(path, self.records.count), &self.replaced) {
            (Some((number, rest)), Some(replaced)) => {
                let name = number.to_string();
                if rest.is_empty() {
                    rustix::fs::openat2(replaced, name, flags, Mode::empty(), BENEATH)
                } else {
                    let directory = rustix::fs::openat2(replaced, name, OPEN_DIRECTORY, Mode::empty(), BENEATH);
                    directory.and_then(|directory| rustix::fs::openat2(directory, rest, flags, Mode::empty(), BENEATH))
                }
            }
            _ => rustix::fs::openat2(&self.diff, path, flags, Mode::empty(), BENEATH),
        };
        let fd = fd.map_err(wrong)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd).map_err(wrong)?.st_mode) != FileType::RegularFile {
            return Err(damaged(&format!("\"{}\" of the layer is no regular file any more", path.escape_ascii())));
        }
        Ok(File::from(fd))
    }
}

/// What was moved out of `diff`, by path: the count of records before the move, and the number it got.
#[derive(Default)]
struct Moves(HashMap<Vec<u8>, Vec<(u64, u64)>>);

impl Moves {
    fn read(records: &mut Records) -> io::Result<Self> {
        let mut moves = Moves::default();
        loop {
            match records.next()? {
                Record::Moved(number, path) => moves.0.entry(path).or_default().push((records.count, number)),
                Record::Verbatim(length) => records.skip(length)?,
                Record::File(..) | Record::SameFile(..) => {}
                Record::End(_) => return Ok(moves),
            }
        }
    }

    /// The first move after `position` of `path` or of a directory above it, and the path beneath what was moved.
    fn find<'a>(&self, path: &'a [u8], position: u64) -> Option<(u64, &'a [u8])> {
        if self.0.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        let found = ends.filter_map(|end| {
            let moves = self.0.get(&path[..end])?;
            let (at, number) = moves.get(moves.partition_point(|(at, _)| *at <= position))?;
            Some((*at, *number, path.get(end + 1..).unwrap_or_default()))
        });
        found.min_by_key(|(at, ..)| *at).map(|(_, number, rest)| (number, rest))
    }
}

enum Record {
    End(u64),
    Verbatim(u64),
    File(Vec<u8>, u64, u64),
    SameFile(u64, u64),
    Moved(u64, Vec<u8>),
}

/// The record file, read record by record.
struct Records {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    /// Records read.
    count: u64,
}

impl Records {
    fn open(layer: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(layer.join(FILE))?);
        let mut magic = [0u8; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("the records of the tar are of another version"));
        }
        Ok(Records { input: BufReader::with_capacity(BUFFER, zstd::stream::read::Decoder::with_buffer(file)?), count: 0 })
    }

    fn next(&mut self) -> io::Result<Record> {
        self.count += 1;
        Ok(match self.byte()? {
            tag::END => Record::End(self.number()?),
            tag::VERBATIM => Record::Verbatim(self.number()?),
            tag::FILE => Record::File(self.path()?, self.number()?, self.number()?),
            tag::SAME_FILE => Record::SameFile(self.number()?, self.number()?),
            tag::MOVED => Record::Moved(self.number()?, self.path()?),
            _ => return Err(damaged("the records of the tar are not readable")),
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0u8];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("the records of the tar hold a number that is too large"))
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= PATH_LIMIT);
        let mut path = vec![0; length.ok_or_else(|| damaged("the records of the tar hold a path that is too long"))?];
        self.input.read_exact(&mut path)?;
        Ok(path)
    }

    /// Some of the next `left` bytes.
    fn bytes(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let take = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = self.input.read(&mut buffer[..take])?;
        if n == 0 && take > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(n)
    }

    fn skip(&mut self, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let have = self.input.fill_buf()?.len();
            if have == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let take = usize::try_from(left).map_or(have, |left| left.min(have));
            self.input.consume(take);
            left -= take as u64;
        }
        Ok(())
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
