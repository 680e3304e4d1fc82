//! Importing: a tar of files becomes an image of one layer.
//!
//! The tar is written down without its compression while it is hashed: only then its DiffID is known, with which the
//! layer is verified and named like any other.

use super::commit::{self, Candidate, Fresh};
use super::content::{self, Ingest, LayerDir};
use super::layer::UnpackError;
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
    content::prepare(roots)?;
    garbage::abandoned(roots, db)?;
    let in_use = content::in_use(roots)?;
    let full = |error| space::explain(roots, "the archive", &[], error);
    let (ingest, diff_id, size) = spool(roots, archive).map_err(full)?;
    let config = config(&diff_id);
    let shown = name.map_or_else(|| "the image".to_owned(), Reference::familiar);
    let blob = Descriptor { media_type: media::OCI_LAYER.to_owned(), digest: diff_id.clone(), size, platform: None, annotations: BTreeMap::new() };
    let (document, layers) = commit::plan(settings.limits, &shown, &config, vec![blob])?;
    let mut fresh = Vec::new();
    for missing in commit::missing(roots, db, &layers, &|_| {})? {
        let dir = LayerDir::new(roots)?;
        let tar = File::open(ingest.path()).on("open", ingest.path())?;
        let expected = Expected { layer: diff_id.short().to_owned(), blob: None, diff_id: diff_id.clone(), limits: settings.limits };
        let unpacked = stream::unpack(tar, &expected, &dir.diff()).map_err(full)?;
        fresh.push(Fresh { missing, dir, unpacked });
    }
    if fresh.iter().any(|fresh| settings.keep_blobs || !fresh.dir.can_reassemble()) {
        ingest.keep(roots, &diff_id)?;
    } else {
        drop(ingest);
    }
    let names = name.iter().map(ToString::to_string).collect();
    let candidate = Candidate { id: Digest::of(&config), config, document, manifest: None, layers, names };
    let image = commit::commit(roots, db, &candidate, fresh).map_err(full)?;
    drop(in_use);
    Ok(image)
}

/// Writes the plain tar down; returns it with its digest and length.
fn spool(roots: &Roots, archive: &mut (dyn Read + Send)) -> Result<(Ingest, Digest, u64), Error> {
    let unreadable = |e| Error::ArchiveRead(UnpackError::Read(e));
    let mut input = compression::decompressor(BufReader::with_capacity(PIECE, archive)).map_err(unreadable)?;
    let mut ingest = Ingest::new(roots)?;
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; PIECE];
    let mut size = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
                let written = ingest.file.write_all(&buffer[..n]);
                written.on("write", ingest.path())?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    if size == 0 {
        return Err(Error::Archive("it is empty".to_owned()));
    }
    Ok((ingest, hasher.finish(), size))
}
