//! The bytes of a layer: its kept blob, or the uncompressed tar made again from the unpacked directory.
//!
//! Invariant: whoever reads to the end without an error has read bytes of the digest that its [`Outline`] names;
//! a directory that was changed behind our back shows as an error at the end, never as another layer.

use super::layer::split;
use super::{Error, content, stream};
use crate::base::Roots;
use crate::base::fs::Context;
use crate::oci::{Digest, DigestHasher, Manifest, media};
use crate::state::{Db, record};
use std::io::{self, Read};
use std::path::Path;

/// One layer as a stream.
pub struct LayerBytes {
    pub outline: Outline,
    /// Ends with [`Error::Damaged`] (within an `io::Error`) when the bytes are not those of the outline's digest.
    pub reader: Box<dyn Read + Send>,
}

/// What a layer's bytes will be, before they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// The media type of the kept blob, or of an uncompressed OCI layer.
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// False: it is the tar that the DiffID names.
    pub compressed: bool,
}

/// The layer directory holds what its tar can be made again from.
pub fn can_reassemble(layer: &Path) -> bool {
    layer.join(split::FILE).is_file()
}

/// The uncompressed tar of a layer directory. Its digest is for the caller to compare.
///
/// # Errors
/// The directory has no record of its tar, or that record cannot be read.
pub fn assemble(layer: &Path) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(split::assemble(layer)?))
}

/// The bytes of layer `index` (base first) of an image: the blob where it is kept, else its tar.
///
/// # Errors
/// The layer has no record, or neither its blob nor its tar can be had.
pub fn layer_bytes(roots: &Roots, db: &Db, image: &record::Image, index: usize) -> Result<LayerBytes, Error> {
    let outline = outline(roots, db, image, index)?;
    let reader = open(roots, db, image, index, &outline)?;
    Ok(LayerBytes { outline, reader })
}

fn row(db: &Db, image: &record::Image, index: usize) -> Result<record::Layer, Error> {
    let lost = || Error::Damaged { image: image.id.clone(), layer: format!("number {}", index + 1), why: "it has no record".to_owned() };
    let chain = image.layers.get(index).ok_or_else(lost)?;
    db.layer(chain)?.ok_or_else(lost)
}

/// What [`layer_bytes`] will give.
///
/// # Errors
/// As [`layer_bytes`].
pub fn outline(roots: &Roots, db: &Db, image: &record::Image, index: usize) -> Result<Outline, Error> {
    let row = row(db, image, index)?;
    if let Some(kept) = kept(roots, image, index, &row) {
        return Ok(kept);
    }
    plain_outline(roots, db, image, index)
}

/// The blob, if it is kept: the one of the image's own manifest before that of the layer's record (two images may
/// hold one tar differently compressed).
fn kept(roots: &Roots, image: &record::Image, index: usize, row: &record::Layer) -> Option<Outline> {
    let manifest: Option<Manifest> = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    let own = manifest.and_then(|manifest| manifest.layers.into_iter().nth(index)).map(|layer| (layer.media_type, layer.digest, layer.size));
    let recorded = || Some((row.media_type.clone(), row.blob.as_ref()?.parse().ok()?, row.blob_size));
    let candidates = [own, recorded()];
    let here = |(_, digest, size): &(String, Digest, u64)| {
        std::fs::metadata(content::blob_path(roots, digest)).is_ok_and(|meta| meta.is_file() && meta.len() == *size)
    };
    let (media_type, digest, size) = candidates.into_iter().flatten().find(here)?;
    let compressed = digest.as_str() != row.diff_id;
    Some(Outline { media_type, digest, size, compressed })
}

fn diff_id(image: &record::Image, row: &record::Layer) -> Result<Digest, Error> {
    let why = |e: &dyn std::fmt::Display| Error::Damaged { image: image.id.clone(), layer: row.diff_id.clone(), why: e.to_string() };
    row.diff_id.parse().map_err(|e| why(&e))
}

fn tar_of(roots: &Roots, image: &record::Image, row: &record::Layer) -> Result<Box<dyn Read + Send>, Error> {
    let path = roots.layers().join(&row.dir);
    if !can_reassemble(&path) {
        return Err(Error::BlobMissing { image: image.id.clone(), layer: row.diff_id.clone() });
    }
    let damaged = |e: io::Error| Error::Damaged { image: image.id.clone(), layer: row.diff_id.clone(), why: e.to_string() };
    assemble(&path).map_err(damaged)
}

/// The length of a tar whose record does not say it (layers of older stores): it is read once for that.
fn measure(roots: &Roots, image: &record::Image, row: &record::Layer, digest: &Digest) -> Result<u64, Error> {
    let mut reader = Verified::new(tar_of(roots, image, row)?, digest, image);
    io::copy(&mut reader, &mut io::sink()).map_err(|e| unwrapped(e, image, digest))
}

/// The uncompressed tar of layer `index` (base first), whatever is kept of it.
///
/// # Errors
/// As [`layer_bytes`].
pub fn plain_bytes(roots: &Roots, db: &Db, image: &record::Image, index: usize) -> Result<(Outline, Box<dyn Read>), Error> {
    let outline = plain_outline(roots, db, image, index)?;
    let row = row(db, image, index)?;
    let kept = kept(roots, image, index, &row).filter(|_| !can_reassemble(&roots.layers().join(&row.dir)));
    let input: Box<dyn Read> = match kept {
        Some(kept) => {
            let path = content::blob_path(roots, &kept.digest);
            let file = io::BufReader::new(std::fs::File::open(&path).on("open", &path)?);
            stream::decompressor(file).on("decompress", &path)?
        }
        None => tar_of(roots, image, &row)?,
    };
    let reader = Box::new(Verified::new(input, &outline.digest, image));
    Ok((outline, reader))
}

/// What [`plain_bytes`] will give.
///
/// # Errors
/// As [`layer_bytes`].
pub fn plain_outline(roots: &Roots, db: &Db, image: &record::Image, index: usize) -> Result<Outline, Error> {
    let row = row(db, image, index)?;
    let digest = diff_id(image, &row)?;
    let size = match row.tar_size {
        0 => measure(roots, image, &row, &digest)?,
        known => known,
    };
    Ok(Outline { media_type: media::OCI_LAYER.to_owned(), digest, size, compressed: false })
}

/// Opens what `outline` promised.
///
/// # Errors
/// It is gone meanwhile.
fn open(roots: &Roots, db: &Db, image: &record::Image, index: usize, outline: &Outline) -> Result<Box<dyn Read + Send>, Error> {
    let row = row(db, image, index)?;
    let input: Box<dyn Read + Send> = if outline.digest.as_str() == row.diff_id && !content::has_blob(roots, &outline.digest) {
        tar_of(roots, image, &row)?
    } else {
        let path = content::blob_path(roots, &outline.digest);
        Box::new(std::fs::File::open(&path).on("open", &path)?)
    };
    Ok(Box::new(Verified::new(input, &outline.digest, image)))
}

/// The failure that a reader of [`layer_bytes`] carried, or the plain one with the layer's name.
pub fn unwrapped(error: io::Error, image: &record::Image, digest: &Digest) -> Error {
    let why = error.to_string();
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(_) => Error::Damaged { image: image.id.clone(), layer: digest.to_string(), why },
    }
}

/// Passes bytes on and refuses the end of a stream that does not have the digest.
struct Verified<R> {
    input: R,
    hasher: Option<DigestHasher>,
    expected: Digest,
    image: String,
}

impl<R: Read> Verified<R> {
    fn new(input: R, expected: &Digest, image: &record::Image) -> Self {
        Verified { input, hasher: Some(DigestHasher::new(expected.algorithm())), expected: expected.clone(), image: image.id.clone() }
    }

    /// A read that failed, with the names of layer and image; an interrupted one stays what it is.
    fn named(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind == io::ErrorKind::Interrupted {
            return error;
        }
        io::Error::new(kind, Error::Damaged { image: self.image.clone(), layer: self.expected.to_string(), why: error.to_string() })
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer).map_err(|e| self.named(e))?;
        if n > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..n]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let actual = hasher.finish();
            if actual != self.expected {
                let why = format!("its content has the digest {actual}");
                let error = Error::Damaged { image: self.image.clone(), layer: self.expected.to_string(), why };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn other_bytes_are_an_error_at_the_end() {
        let image = record::Image {
            id: "sha256:0".to_owned(),
            config: Vec::new(),
            manifest_digest: None,
            manifest: None,
            manifest_type: None,
            layers: Vec::new(),
            size: 0,
            created: Timestamp::NEVER,
            pulled: Timestamp::NEVER,
        };
        let digest = Digest::of(b"right");
        let mut out = Vec::new();
        assert_eq!(Verified::new(b"right".as_slice(), &digest, &image).read_to_end(&mut out).unwrap(), 5);
        let error = Verified::new(b"wrong".as_slice(), &digest, &image).read_to_end(&mut out).unwrap_err();
        let error = unwrapped(error, &image, &digest);
        assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains(digest.as_str()), "{error}");
    }
}
