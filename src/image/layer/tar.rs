//! Reading tar streams: ustar, PAX, GNU long names and sparse files.
//!
//! Headers are read with the `tar` crate's types; the iteration is ours because that crate reads extension
//! headers of any size into memory and splits PAX records at newlines, which breaks binary xattrs.
//! Formats: POSIX.1-2017 pax "ustar Interchange Format"; GNU tar manual, "Sparse Formats".

use super::split::Writer;
use super::{ENTRY_LIMIT, EXTENSION_LIMIT, EXTENT_LIMIT, PATH_LIMIT, UnpackError};
use std::io::BufRead;
use std::os::fd::BorrowedFd;
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: u64 = 512;
/// Where a header says what it is.
const TYPE_AT: usize = 156;
/// Most bytes of one entry (`off_t`); a base-256 field may say more, or less than nothing.
const SIZE_LIMIT: u64 = i64::MAX as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character,
    Block,
    Fifo,
}

/// One entry with its extension headers applied.
#[derive(Debug, Clone)]
pub struct Member {
    /// As written: not cleaned.
    pub path: Vec<u8>,
    /// Target of a symbolic or hard link, as written.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Logical bytes of a regular file.
    pub size: u64,
    /// Major and minor of a device.
    pub device: (u32, u32),
    /// Name and value, names without the PAX prefix.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of the data of a sparse file; None: all of it.
    pub extents: Option<Vec<(u64, u64)>>,
}

/// Records that extension headers hold for the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

#[derive(Default)]
struct SparseRecords {
    major: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    extents: Vec<(u64, u64)>,
    pending_offset: Option<u64>,
    present: bool,
}

/// A tar stream, read entry by entry.
pub struct Reader<R> {
    input: R,
    /// Stored bytes of the current entry not yet read.
    left: u64,
    padding: u64,
    entries: u64,
    entry_limit: u64,
    /// Takes down every byte that is read, or where it went.
    split: Option<Writer>,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Reader { input, left: 0, padding: 0, entries: 0, entry_limit: ENTRY_LIMIT, split: None }
    }

    /// The same reader with another limit of entries.
    pub fn with_entry_limit(self, entry_limit: u64) -> Self {
        Reader { entry_limit, ..self }
    }

    /// Reads and takes down what is needed to make the tar again.
    pub fn recorded(input: R, split: Writer) -> Self {
        Reader { split: Some(split), ..Self::new(input) }
    }

    /// The next entry; what was not read of the last one is skipped. None at the end marker.
    ///
    /// # Errors
    /// A malformed, oversized or truncated stream.
    pub fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        let mut extensions = Extensions::default();
        let mut extension_bytes = 0;
        loop {
            self.skip_rest()?;
            let mut block = [0u8; BLOCK as usize];
            if !self.read_block(&mut block)? {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check_sum(header, &block)?;
            let stored = header.entry_size().ok().filter(|size| *size <= SIZE_LIMIT).ok_or_else(|| malformed("an entry has no valid size"))?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    extension_bytes = stored.saturating_add(extension_bytes);
                    self.start(stored);
                    let data = self.extension(extension_bytes)?;
                    match kind {
                        EntryType::GNULongName => extensions.path = Some(until_nul(data)),
                        EntryType::GNULongLink => extensions.link = Some(until_nul(data)),
                        _ => extensions.read_pax(&data)?,
                    }
                }
                // Global records (git writes a comment) never describe files of an image.
                EntryType::XGlobalHeader => self.start(stored),
                _ => {
                    self.entries += 1;
                    if self.entries > self.entry_limit {
                        let what = "the number of entries (image.limits.max_entries in the settings)";
                        return Err(UnpackError::Limit { what, limit: self.entry_limit });
                    }
                    return self.member(&block, extensions, stored).map(Some);
                }
            }
        }
    }

    /// Hands the stored data of the current entry to `sink`, piece by piece.
    ///
    /// # Errors
    /// A truncated stream, or what `sink` returns.
    pub fn data(&mut self, limit: u64, mut sink: impl FnMut(&[u8]) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
        let mut split = self.split.take();
        let done = self.unrecorded(limit, |piece| {
            sink(piece)?;
            split.as_mut().map_or(Ok(()), |split| split.verbatim(piece))
        });
        self.split = split;
        done
    }

    /// As [`Self::data`], for bytes that `sink` writes to the file `path` (clean, beneath the layer's root) at `offset`.
    ///
    /// # Errors
    /// A truncated stream, or what `sink` returns.
    pub fn payload(&mut self, path: &[u8], offset: u64, limit: u64, sink: impl FnMut(&[u8]) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
        if let Some(split) = &mut self.split {
            split.file(path, offset, limit.min(self.left))?;
        }
        self.unrecorded(limit, sink)
    }

    /// Takes the thing `name` in `directory` (clean path `path`) away from the layer; its bytes are kept if they
    /// are needed to make the tar again. False: nothing is recorded, so it may just be removed.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(&mut self, directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<bool, UnpackError> {
        match &mut self.split {
            Some(split) => split.set_aside(directory, name, path).map(|()| true),
            None => Ok(false),
        }
    }

    fn unrecorded(&mut self, mut limit: u64, mut sink: impl FnMut(&[u8]) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
        limit = limit.min(self.left);
        while limit > 0 {
            let buffer = self.input.fill_buf().map_err(UnpackError::Read)?;
            if buffer.is_empty() {
                return Err(malformed("it ends inside an entry"));
            }
            let piece = usize::try_from(limit).map_or(buffer.len(), |limit| limit.min(buffer.len()));
            sink(&buffer[..piece])?;
            self.input.consume(piece);
            limit -= piece as u64;
            self.left -= piece as u64;
        }
        Ok(())
    }

    pub fn into_inner(self) -> R {
        self.input
    }

    /// Reads to the end of the stream, so that a digest over it is complete, and ends the record.
    ///
    /// # Errors
    /// The stream cannot be read, or the record not be written.
    pub fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            let rest = self.input.fill_buf().map_err(UnpackError::Read)?;
            let length = rest.len();
            if length == 0 {
                return self.split.take().map_or(Ok(()), Writer::finish);
            }
            if let Some(split) = &mut self.split {
                split.verbatim(rest)?;
            }
            self.input.consume(length);
        }
    }

    fn note(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.split.as_mut().map_or(Ok(()), |split| split.verbatim(bytes))
    }

    fn start(&mut self, stored: u64) {
        self.left = stored;
        self.padding = (BLOCK - stored % BLOCK) % BLOCK;
    }

    fn skip_rest(&mut self) -> Result<(), UnpackError> {
        self.data(u64::MAX, |_| Ok(()))?;
        self.left = std::mem::take(&mut self.padding);
        // `docker build -f` with a file from elsewhere sends a context that ends right behind the bytes of its last file, as Go's reader
        // takes it: nothing of the content is missing.
        if self.left > 0 && self.input.fill_buf().map_err(UnpackError::Read)?.is_empty() {
            self.left = 0;
        }
        self.data(u64::MAX, |_| Ok(()))
    }

    /// False at the end of the archive: a zero block, or the end of the stream at a block boundary.
    fn read_block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, UnpackError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(malformed("it ends inside a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(UnpackError::Read(e)),
            }
        }
        self.note(block)?;
        if block.iter().any(|b| *b != 0) {
            return Ok(true);
        }
        self.check_end()?;
        Ok(false)
    }

    /// After one zero block comes another or nothing. What else would follow is skipped by some readers and read by
    /// others, so it could show a scanner another image than the one that runs.
    fn check_end(&mut self) -> Result<(), UnpackError> {
        let mut left = BLOCK as usize;
        while left > 0 {
            let rest = self.input.fill_buf().map_err(UnpackError::Read)?;
            let piece = rest.len().min(left);
            if piece == 0 {
                return Ok(());
            }
            if rest[..piece].iter().any(|b| *b != 0) {
                return Err(malformed("more follows after a single zero block"));
            }
            if let Some(split) = &mut self.split {
                split.verbatim(&rest[..piece])?;
            }
            self.input.consume(piece);
            left -= piece;
        }
        Ok(())
    }

    /// The data of an extension header. `total` counts all extension bytes of one entry.
    fn extension(&mut self, total: u64) -> Result<Vec<u8>, UnpackError> {
        if total > EXTENSION_LIMIT {
            return Err(UnpackError::Limit { what: "an extension header of the tar", limit: EXTENSION_LIMIT });
        }
        let mut data = Vec::new();
        self.data(u64::MAX, |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(data)
    }

    fn member(&mut self, block: &[u8], extensions: Extensions, stored: u64) -> Result<Member, UnpackError> {
        let header = Header::from_byte_slice(block);
        let old = header.as_old();
        // Writers leave out what they do not know.
        let number = |value: std::io::Result<u64>, field: &[u8], what: &str| match value {
            Err(_) if field.iter().all(|b| matches!(b, 0 | b' ')) => Ok(0),
            other => other.map_err(|_| malformed(what)),
        };
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // Before POSIX a directory was a file whose name ends with a slash; Go's reader asks for that type, too.
            EntryType::Regular if block[TYPE_AT] == 0 && path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(malformed(&format!("entry \"{}\" has the unknown type {:?}", super::shown(&path), other.as_byte() as char))),
        };
        let stored = extensions.size.unwrap_or(stored);
        // Only regular files carry data; some writers put the size of a link's target into its header.
        self.start(if kind == Kind::File { stored } else { 0 });
        let id = |given: Option<u32>, value: std::io::Result<u64>, field: &[u8]| -> Result<u32, UnpackError> {
            match given {
                Some(id) => Ok(id),
                None => u32::try_from(number(value, field, "an owner is not a number")?).map_err(|_| malformed("an owner is out of range")),
            }
        };
        let device = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
        let mut member = Member {
            kind,
            mode: (number(header.mode().map(u64::from), &old.mode, "a mode is not a number")? & 0o7777) as u32,
            uid: id(extensions.uid, header.uid(), &old.uid)?,
            gid: id(extensions.gid, header.gid(), &old.gid)?,
            mtime: match extensions.mtime {
                Some(mtime) => mtime,
                // Base-256 numbers may be negative; the crate hands the bits through.
                None => (number(header.mtime(), &old.mtime, "a time is not a number")?.cast_signed(), 0),
            },
            size: if kind == Kind::File { stored } else { 0 },
            device: (device(header.device_major()), device(header.device_minor())),
            link: extensions.link.unwrap_or_else(|| header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default()),
            xattrs: extensions.xattrs,
            extents: None,
            path,
        };
        if kind == Kind::File {
            self.sparse(header, extensions.sparse, &mut member)?;
        }
        if member.path.len() > PATH_LIMIT || member.link.len() > PATH_LIMIT {
            return Err(UnpackError::Limit { what: "a path of the tar", limit: PATH_LIMIT as u64 });
        }
        Ok(member)
    }

    /// Fills size, name and extents of a sparse file in any of GNU's formats.
    fn sparse(&mut self, header: &Header, records: SparseRecords, member: &mut Member) -> Result<(), UnpackError> {
        let extents = if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().ok_or_else(|| malformed("a sparse entry without a GNU header"))?;
            member.size = gnu.real_size().map_err(|_| malformed("a sparse entry without its size"))?;
            self.old_sparse_map(gnu)?
        } else if records.present {
            member.size = records.real_size.ok_or_else(|| malformed("a sparse entry without its size"))?;
            if let Some(name) = records.name {
                member.path = name;
            }
            if records.major == Some(1) { self.pax_sparse_map()? } else { records.extents }
        } else {
            return Ok(());
        };
        let mut end = 0;
        let mut sum = 0u64;
        for (offset, length) in &extents {
            let fine = *offset >= end && offset.checked_add(*length).is_some_and(|last| last <= member.size);
            if !fine {
                return Err(malformed("the map of a sparse entry is not in order"));
            }
            end = offset + length;
            sum += length;
        }
        if sum != self.left {
            return Err(malformed("the map of a sparse entry does not fit its data"));
        }
        member.extents = Some(extents);
        Ok(())
    }

    fn old_sparse_map(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<(u64, u64)>, UnpackError> {
        let mut extents = Vec::new();
        let mut add = |entries: &[tar::GnuSparseHeader]| -> Result<(), UnpackError> {
            for entry in entries.iter().filter(|entry| !entry.is_empty()) {
                let wrong = |_| malformed("the map of a sparse entry is not made of numbers");
                extents.push((entry.offset().map_err(wrong)?, entry.length().map_err(wrong)?));
            }
            if extents.len() > EXTENT_LIMIT {
                return Err(UnpackError::Limit { what: "the map of a sparse entry", limit: EXTENT_LIMIT as u64 });
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.input.read_exact(extension.as_mut_bytes()).map_err(UnpackError::Read)?;
            self.note(extension.as_bytes())?;
            add(&extension.sparse)?;
            more = extension.is_extended();
        }
        Ok(extents)
    }

    /// The map at the head of the data (format 1.0): decimal numbers on lines, padded to a block.
    fn pax_sparse_map(&mut self) -> Result<Vec<(u64, u64)>, UnpackError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut expected = 1;
        let mut current: Option<u64> = None;
        while numbers.len() < expected {
            let mut block = Vec::with_capacity(BLOCK as usize);
            self.data(BLOCK, |piece| {
                block.extend_from_slice(piece);
                Ok(())
            })?;
            if block.len() < BLOCK as usize {
                return Err(malformed("the map of a sparse entry is cut off"));
            }
            for byte in block {
                match (byte, current) {
                    (_, _) if numbers.len() == expected => break,
                    (b'0'..=b'9', value) => {
                        let next = value.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0')));
                        current = Some(next.ok_or_else(|| malformed("the map of a sparse entry is not made of numbers"))?);
                    }
                    (b'\n', Some(value)) => {
                        numbers.push(value);
                        current = None;
                        if numbers.len() == 1 {
                            let count = usize::try_from(value).ok().filter(|count| *count <= EXTENT_LIMIT);
                            let count = count.ok_or(UnpackError::Limit { what: "the map of a sparse entry", limit: EXTENT_LIMIT as u64 })?;
                            expected = 1 + 2 * count;
                        }
                    }
                    _ => return Err(malformed("the map of a sparse entry is not made of numbers")),
                }
            }
        }
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

impl Extensions {
    /// Records `length key=value\n`; the value may hold any byte.
    fn read_pax(&mut self, mut data: &[u8]) -> Result<(), UnpackError> {
        let wrong = || malformed("a PAX record is not of the form \"length key=value\"");
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = decimal(&data[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        let wrong = || malformed(&format!("PAX record \"{}\" has no valid value", super::shown(key)));
        let number = || decimal(value).ok_or_else(wrong);
        let id = || decimal(value).and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong);
        let sparse = &mut self.sparse;
        match key {
            // An empty value takes back what an earlier record or header said (POSIX); the header of the entry stands.
            b"path" if value.is_empty() => self.path = None,
            b"linkpath" if value.is_empty() => self.link = None,
            b"size" if value.is_empty() => self.size = None,
            b"uid" if value.is_empty() => self.uid = None,
            b"gid" if value.is_empty() => self.gid = None,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"path" => self.path = Some(without_nul(value).ok_or_else(wrong)?),
            b"linkpath" => self.link = Some(without_nul(value).ok_or_else(wrong)?),
            b"size" => self.size = Some(decimal(value).filter(|size| *size <= SIZE_LIMIT).ok_or_else(wrong)?),
            b"uid" => self.uid = Some(id()?),
            b"gid" => self.gid = Some(id()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.major" => (sparse.major, sparse.present) = (Some(number()?), true),
            b"GNU.sparse.name" => (sparse.name, sparse.present) = (Some(without_nul(value).ok_or_else(wrong)?), true),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => (sparse.real_size, sparse.present) = (Some(number()?), true),
            b"GNU.sparse.offset" => (sparse.pending_offset, sparse.present) = (Some(number()?), true),
            b"GNU.sparse.numbytes" => sparse.extents.push((sparse.pending_offset.take().ok_or_else(wrong)?, number()?)),
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(decimal).collect();
                let numbers = numbers.filter(|n| n.len().is_multiple_of(2)).ok_or_else(wrong)?;
                sparse.extents = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                sparse.present = true;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn malformed(why: &str) -> UnpackError {
    UnpackError::Malformed(why.to_owned())
}

fn check_sum(header: &Header, block: &[u8]) -> Result<(), UnpackError> {
    let wanted = header.cksum().map_err(|_| malformed("a header has no checksum"))?;
    let field = 148..156;
    let bytes = || block.iter().enumerate().map(|(at, b)| if field.contains(&at) { b' ' } else { *b });
    let unsigned: u32 = bytes().map(u32::from).sum();
    // Old tars summed signed bytes.
    let signed: i32 = bytes().map(|b| i32::from(b.cast_signed())).sum();
    if wanted == unsigned || i64::from(wanted) == i64::from(signed) {
        Ok(())
    } else {
        Err(malformed("a header has a wrong checksum: it is no tar, or damaged"))
    }
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|b| *b == 0) {
        data.truncate(end);
    }
    data
}

fn without_nul(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `seconds[.fraction]`, possibly negative, to seconds and nanoseconds counted forward.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0u32;
    if let Some(fraction) = parts.next() {
        let mut scale = 100_000_000;
        for byte in fraction {
            if !byte.is_ascii_digit() {
                return None;
            }
            nanos += u32::from(byte - b'0') * scale;
            scale /= 10;
        }
    }
    match (negative, nanos) {
        (false, nanos) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, nanos) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Member>, UnpackError> {
        let mut reader = Reader::new(bytes);
        let mut members = Vec::new();
        while let Some(member) = reader.next()? {
            members.push(member);
        }
        Ok(members)
    }

    fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions(records.iter().map(|(k, v)| (*k, *v))).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_entry_type(EntryType::Regular);
        builder.append_data(&mut header, "short", &b""[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn pax_records_override_headers() {
        let tar = pax(&[("path", b"long\xff"), ("uid", b"3000000"), ("mtime", b"-1.25"), ("SCHILY.xattr.user.a", b"x\ny\0z=")]);
        let members = read(&tar).unwrap();
        assert_eq!(members[0].path, b"long\xff");
        assert_eq!(members[0].uid, 3_000_000);
        assert_eq!(members[0].mtime, (-2, 750_000_000));
        assert_eq!(members[0].xattrs, [(b"user.a".to_vec(), b"x\ny\0z=".to_vec())]);
    }

    #[test]
    fn huge_extension_headers_and_wrong_records_are_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(EXTENSION_LIMIT + 1);
        header.set_cksum();
        assert!(matches!(read(header.as_bytes()), Err(UnpackError::Limit { .. })));
        for bad in [&b"5 a=\n"[..], b"99 a=b\n", b"x a=b\n", b"6 ab=\n\n", b"3 \n"] {
            assert!(bad == b"5 a=\n" || Extensions::default().read_pax(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(Extensions::default().read_pax(b"9 size=x\n").is_err());
    }

    #[test]
    fn truncated_and_damaged_streams_are_errors() {
        let tar = pax(&[("path", b"a")]);
        assert!(matches!(read(&tar[..700]), Err(UnpackError::Malformed(_))));
        let mut damaged = tar.clone();
        damaged[0] ^= 1;
        assert!(matches!(read(&damaged), Err(UnpackError::Malformed(_))));
        assert_eq!(read(&[0; 1024]).unwrap().len(), 0);
        assert_eq!(read(&[]).unwrap().len(), 0);
    }

    #[test]
    fn the_last_entry_may_lack_its_padding_and_nothing_else() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", &b"bytes"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        assert_eq!(read(&tar[..517]).unwrap().len(), 1);
        for wrong in [516, 518, 1023] {
            assert!(matches!(read(&tar[..wrong]), Err(UnpackError::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn entries_are_counted() {
        let mut reader = Reader::new(&[][..]).with_entry_limit(0);
        assert!(reader.next().unwrap().is_none());
        let tar = pax(&[("path", b"a")]);
        let mut reader = Reader::new(tar.as_slice()).with_entry_limit(1);
        assert!(reader.next().unwrap().is_some() && reader.next().unwrap().is_none());
        let error = Reader::new(tar.as_slice()).with_entry_limit(0).next().unwrap_err().to_string();
        assert!(error.contains("image.limits.max_entries"), "{error}");
    }

    #[test]
    fn empty_records_say_nothing() {
        let members = read(&pax(&[("path", b"long"), ("path", b""), ("uid", b""), ("mtime", b""), ("size", b"")])).unwrap();
        assert_eq!((members[0].path.as_slice(), members[0].uid, members[0].mtime), (&b"short"[..], 0, (1, 0)));
    }

    #[test]
    fn impossible_sizes_and_hidden_entries_are_refused() {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[124..136].copy_from_slice(&[0xff; 12]);
        header.set_mode(0o644);
        header.set_cksum();
        assert!(matches!(read(header.as_bytes()), Err(UnpackError::Malformed(_))));
        assert!(Extensions::default().read_pax(b"29 size=18446744073709551615\n").is_err());
        let one = pax(&[("path", b"a")]);
        let hidden = [&one[..one.len() - 512], &one].concat();
        assert!(matches!(read(&hidden), Err(UnpackError::Malformed(why)) if why.contains("single zero block")));
        assert_eq!(read(&one[..one.len() - 512]).unwrap().len(), 1);
    }

    #[test]
    fn sparse_map_in_the_data() {
        let mut data = b"2\n0\n3\n4096\n2\n".to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"abcde");
        let mut builder = tar::Builder::new(Vec::new());
        let records: [(&str, &[u8]); 4] =
            [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"real"), ("GNU.sparse.realsize", b"8192")];
        builder.append_pax_extensions(records).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "GNUSparseFile.0/real", &data[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let members = read(&tar).unwrap();
        assert_eq!((members[0].path.as_slice(), members[0].size), (&b"real"[..], 8192));
        assert_eq!(members[0].extents, Some(vec![(0, 3), (4096, 2)]));
    }
}
