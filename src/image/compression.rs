//! How an archive that a user hands us is compressed: layers of images are plain, gzip or zstd (`stream`), files of
//! people also bzip2 and xz.

use super::layer::UnpackError;
use super::{Limits, stream};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// The archive without its compression, which its first bytes tell.
///
/// # Errors
/// The input cannot be read, or its compression cannot begin.
pub fn decompressor<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = input.fill_buf()?;
    if head.starts_with(b"BZh") {
        return Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(input)));
    }
    if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        return Ok(Box::new(lzma_rust2::XzReader::new(input, true)));
    }
    stream::decompressor(input)
}

/// As [`decompressor`], for an archive that may be a bomb: what comes out is held against what went in, while it comes out.
///
/// # Errors
/// As [`decompressor`]; a read that goes beyond the limits fails with [`UnpackError::Expansion`] inside.
pub fn bounded<'a>(input: impl BufRead + 'a, limits: Limits) -> io::Result<impl Read + 'a> {
    let taken = Rc::new(Cell::new(0));
    let output = decompressor(Counted { input, taken: taken.clone() })?;
    Ok(Bounded { output, taken, given: 0, limits })
}

/// Compressed bytes, counted as they are taken.
struct Counted<R> {
    input: R,
    taken: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.taken.set(self.taken.get().saturating_add(count as u64));
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken.set(self.taken.get().saturating_add(amount as u64));
        self.input.consume(amount);
    }
}

struct Bounded<R> {
    output: R,
    taken: Rc<Cell<u64>>,
    given: u64,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        self.given = self.given.saturating_add(count as u64);
        let (limit, key) = self.limits.uncompressed(self.taken.get());
        if self.given > limit {
            return Err(io::Error::other(UnpackError::Expansion { limit, key }));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | bzip2` and `printf hello | xz`.
    const BZIP2: &[u8] = &[
        0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x19, 0x31, 0x65, 0x3d, 0x00, 0x00, 0x00, 0x81, 0x00, 0x02, 0x44, 0xa0, 0x00,
        0x21, 0x9a, 0x68, 0x33, 0x4d, 0x07, 0x33, 0x8b, 0xb9, 0x22, 0x9c, 0x28, 0x48, 0x0c, 0x98, 0xb2, 0x9e, 0x80,
    ];
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5,
        0xa3, 0x01, 0x00, 0x04, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x00, 0x00, 0x00, 0x00, 0xb1, 0x37, 0xb9, 0xdb, 0xe5, 0xda, 0x1e, 0x9b, 0x00, 0x01,
        0x1d, 0x05, 0xb8, 0x2d, 0x80, 0xaf, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

    #[test]
    fn what_expands_too_far_is_stopped_on_its_way() {
        let zeros = zstd::encode_all(&vec![0; 1 << 20][..], 1).unwrap();
        let read = |bytes: &[u8], limits: Limits| {
            let mut out = Vec::new();
            let read = bounded(bytes, limits).unwrap().read_to_end(&mut out);
            (out.len(), read.err().map(|error| error.downcast::<UnpackError>().unwrap().to_string()))
        };
        let limits = Limits { expansion_ratio: 10, expansion_allowance: 100_000, ..Limits::default() };
        let (length, error) = read(&zeros, limits);
        assert!(length <= 100_000 + 10 * zeros.len() && error.unwrap().contains("max_expansion_ratio and expansion_allowance"));
        assert_eq!(read(&zeros, Limits::default()), (1 << 20, None));
        let small = Limits { layer_size: 9, ..Limits::default() };
        assert!(read(b"more than nine", small).1.unwrap().contains("max_layer_size"));
        assert_eq!(read(BZIP2, small).0, 5);
    }

    #[test]
    fn archives_of_people() {
        for (name, bytes) in [("bzip2", BZIP2), ("xz", XZ), ("plain", b"hello".as_slice())] {
            let mut text = String::new();
            decompressor(bytes).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello", "{name}");
        }
        let mut out = Vec::new();
        assert!(decompressor(&XZ[..XZ.len() - 20]).unwrap().read_to_end(&mut out).is_err());
    }
}
