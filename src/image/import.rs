//! Importing: a tar of files becomes an image of one layer; and committing: it becomes the top layer of another image.
//!
//! The tar is written down without its compression while it is hashed: only then its DiffID is known, with which the
//! layer is verified and named like any other.

use super::commit::{self, Candidate, Fresh};
use super::content::{self, Ingest, LayerDir};
use super::layer::UnpackError;
use super::lock::Lock;
use super::stream::{self, Expected};
use super::{Error, RegistryConfig, compression, garbage, space};
use crate::base::Roots;
use crate::base::fs::Context;
use crate::oci::{Algorithm, Descriptor, Digest, DigestHasher, Reference, media};
use crate::state::{Db, record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};

/// Bytes moved at once.
const PIECE: usize = 256 << 10;

/// Makes an image of the files in a tar (plain, gzip, bzip2, xz or zstd). `config` makes the config document, given the
/// DiffID of the one layer.
///
/// # Errors
/// The tar is empty or malformed, or the host cannot store it.
pub fn import(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    archive: &mut (dyn Read + Send),
    config: impl FnOnce(&Digest) -> Vec<u8>,
    name: Option<&Reference>,
) -> Result<record::Image, Error> {
    settings.usable()?;
    let full = |error| space::explain(roots, "the archive", &[], error);
    let mut spool = Spool::new(roots, db)?;
    fill(&mut spool, archive).map_err(full)?;
    add_layer(roots, db, settings, None, Some(spool), |diff_id| config(diff_id.expect("invariant: the layer was given")), name).map_err(full)
}

/// Records an image: the layers of `base` and, if given, one more on top of them. `config` makes the config document, given
/// the DiffID of the new layer.
///
/// # Errors
/// The tar is malformed, a layer of `base` is missing, or the host cannot store it.
pub fn add_layer(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    base: Option<&record::Image>,
    layer: Option<Spool>,
    config: impl FnOnce(Option<&Digest>) -> Vec<u8>,
    name: Option<&Reference>,
) -> Result<record::Image, Error> {
    let shown = name.map_or_else(|| "the image".to_owned(), Reference::familiar);
    let mut blobs = base.map(|base| blobs_of(db, &base.layers)).transpose()?.unwrap_or_default();
    let layer = layer.map(Spool::finish);
    if let Some(layer) = &layer {
        blobs.push(descriptor(layer.diff_id.clone(), layer.size, media::OCI_LAYER));
    }
    let config = config(layer.as_ref().map(|layer| &layer.diff_id));
    let (document, layers) = commit::plan(settings.limits, &shown, &config, blobs)?;
    let mut fresh = Vec::new();
    for missing in commit::missing(roots, db, &layers, &|_| {})? {
        let Some(layer) = layer.as_ref().filter(|_| missing.position + 1 == layers.len()) else {
            return Err(Error::Vanished(missing.layer.chain.to_string()));
        };
        let dir = LayerDir::new(roots)?;
        let tar = File::open(layer.ingest.path()).on("open", layer.ingest.path())?;
        let expected = Expected { layer: layer.diff_id.short().to_owned(), blob: None, diff_id: layer.diff_id.clone(), limits: settings.limits };
        let unpacked = stream::unpack(tar, &expected, &dir.diff())?;
        fresh.push(Fresh { missing, dir, unpacked });
    }
    let mut in_use = None;
    if let Some(layer) = layer {
        in_use = Some(layer.in_use);
        if fresh.iter().any(|fresh| settings.keep_blobs || !fresh.dir.can_reassemble()) {
            layer.ingest.keep(roots, &layer.diff_id)?;
        }
    }
    let names = name.iter().map(ToString::to_string).collect();
    let candidate = Candidate { id: Digest::of(&config), config, document, manifest: None, layers, names };
    let image = commit::commit(roots, db, &candidate, fresh, None)?;
    drop(in_use);
    Ok(image)
}

fn descriptor(digest: Digest, size: u64, media_type: &str) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

/// The blobs that layers (chain ids, base first) came from; one whose blob nobody knows stands for itself.
///
/// # Errors
/// A layer has no usable record.
pub fn blobs_of(db: &Db, layers: &[String]) -> Result<Vec<Descriptor>, Error> {
    let blob = |row: record::Layer| {
        let name = row.blob.as_ref().unwrap_or(&row.diff_id);
        let digest = name.parse().map_err(|_| Error::Vanished(row.chain_id.clone()))?;
        Ok(descriptor(digest, row.blob_size, &row.media_type))
    };
    db.layers(layers)?.into_iter().map(blob).collect()
}

/// The tar of a layer, written down and hashed on its way into the store. Nothing is unpacked before it is whole.
pub struct Spool {
    ingest: Ingest,
    hasher: DigestHasher,
    size: u64,
    in_use: Lock,
}

/// A spooled tar that is whole.
struct Spooled {
    ingest: Ingest,
    diff_id: Digest,
    size: u64,
    in_use: Lock,
}

impl Spool {
    /// # Errors
    /// The store cannot be prepared, or the file made.
    pub fn new(roots: &Roots, db: &Db) -> Result<Self, Error> {
        content::prepare(roots)?;
        garbage::abandoned(roots, db)?;
        let in_use = content::in_use(roots)?;
        Ok(Spool { ingest: Ingest::new(roots)?, hasher: DigestHasher::new(Algorithm::Sha256), size: 0, in_use })
    }

    fn finish(self) -> Spooled {
        Spooled { ingest: self.ingest, diff_id: self.hasher.finish(), size: self.size, in_use: self.in_use }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.ingest.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.ingest.file.flush()
    }
}

/// Writes the plain tar down.
fn fill(spool: &mut Spool, archive: &mut (dyn Read + Send)) -> Result<(), Error> {
    let unreadable = |e| Error::ArchiveRead(UnpackError::Read(e));
    let mut input = compression::decompressor(BufReader::with_capacity(PIECE, archive)).map_err(unreadable)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                let written = spool.write_all(&buffer[..n]);
                written.on("write", spool.ingest.path())?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    if spool.size == 0 {
        return Err(Error::Archive("it is empty".to_owned()));
    }
    Ok(())
}
