//! From unpacked layers to records: which layers are missing, the fix-ups that need the layers below, and the
//! one transaction that makes an image visible.

use super::bytes;
use super::content::{self, LayerDir};
use super::durable::{self, Behind};
use super::layer::{self, Unpacked};
use super::lock::Lock;
use super::{Error, Limits, Progress};
use crate::base::{Roots, Timestamp};
use crate::oci::{Descriptor, Digest, ImageDocument, chain_ids};
use crate::state::{Db, Tx, record};
use std::path::PathBuf;

/// One layer of an image, as its config and manifest name it.
#[derive(Debug, Clone)]
pub struct Planned {
    pub chain: Digest,
    pub diff_id: Digest,
    /// The blob it comes from.
    pub blob: Descriptor,
    pub limits: Limits,
}

/// A layer that is not there yet; its lock is ours.
#[derive(Debug)]
pub struct Missing {
    pub position: usize,
    pub layer: Planned,
    /// Directory of a layer with the same tar on top of other layers: its bytes need not be fetched.
    pub twin: Option<String>,
    lock: Lock,
}

/// A layer just unpacked.
pub struct Fresh {
    pub missing: Missing,
    pub dir: LayerDir,
    pub unpacked: Unpacked,
}

/// How often a pull or load plans anew when another process removed a layer meanwhile.
pub const REPLANS: usize = 3;

/// An image to be recorded.
pub struct Candidate {
    /// Digest of the config.
    pub id: Digest,
    pub config: Vec<u8>,
    pub document: ImageDocument,
    pub manifest: Option<(Digest, Vec<u8>, String)>,
    pub layers: Vec<Planned>,
    /// Full references that shall point to it.
    pub names: Vec<String>,
}

/// Reads a config and pairs its DiffIDs with the blobs of the manifest.
///
/// # Errors
/// The config is no image config, or the two disagree, or there is more than the limits allow.
pub fn plan(limits: Limits, reference: &str, config: &[u8], blobs: Vec<Descriptor>) -> Result<(ImageDocument, Vec<Planned>), Error> {
    let wrong = |why: String| Error::Config { reference: reference.to_owned(), why };
    let document: ImageDocument = serde_json::from_slice(config).map_err(|e| wrong(e.to_string()))?;
    if !matches!(document.rootfs.kind.as_str(), "" | "layers") {
        return Err(wrong(format!("its root filesystem has the unknown type \"{}\"", document.rootfs.kind.escape_default())));
    }
    let diff_ids = document.rootfs.diff_ids.iter().map(|text| text.parse()).collect::<Result<Vec<Digest>, _>>();
    let diff_ids = diff_ids.map_err(|e| wrong(e.to_string()))?;
    if diff_ids.len() != blobs.len() {
        return Err(wrong(format!("it names {} layers, the manifest {}", diff_ids.len(), blobs.len())));
    }
    limits.check(reference, &blobs)?;
    let chain = chain_ids(&diff_ids);
    let layers = chain.into_iter().zip(diff_ids).zip(blobs).map(|((chain, diff_id), blob)| Planned { chain, diff_id, blob, limits });
    Ok((document, layers.collect()))
}

/// Takes the locks of the layers that are not there, base first (the same order in every process: no deadlock).
/// A layer that another process is making is waited for.
///
/// # Errors
/// Database or lock files.
pub fn missing(roots: &Roots, db: &Db, layers: &[Planned], progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<Missing>, Error> {
    durable::settle(roots, db, &layers.iter().map(|layer| layer.chain.to_string()).collect::<Vec<_>>())?;
    let mut missing = Vec::new();
    for (position, layer) in layers.iter().enumerate() {
        let id = layer.blob.digest.short().to_owned();
        if is_there(roots, db, &layer.chain)? {
            progress(Progress::Exists { id });
            continue;
        }
        let lock = match content::try_chain(roots, &layer.chain)? {
            Some(lock) => lock,
            None => {
                progress(Progress::Note(format!("{id}: waiting for another process that fetches it")));
                content::wait_chain(roots, &layer.chain)?
            }
        };
        if is_there(roots, db, &layer.chain)? {
            progress(Progress::Exists { id });
            continue;
        }
        missing.push(Missing { position, layer: layer.clone(), twin: None, lock });
    }
    if !missing.is_empty() {
        let rows = db.all_layers()?;
        for missing in &mut missing {
            let same = |row: &&record::Layer| row.diff_id == missing.layer.diff_id.as_str();
            let usable = |row: &&record::Layer| bytes::can_reassemble(&roots.layers().join(&row.dir));
            missing.twin = rows.iter().filter(same).find(usable).map(|row| row.dir.clone());
        }
    }
    Ok(missing)
}

/// The layer has a row, and its directory was not lost.
fn is_there(roots: &Roots, db: &Db, chain: &Digest) -> Result<bool, Error> {
    Ok(db.layer(chain.as_str())?.is_some_and(|row| diff_path(roots, &row.dir).is_dir()))
}

/// Every layer of a recorded image is here.
///
/// # Errors
/// Database.
pub fn all_there(roots: &Roots, db: &Db, image: &record::Image) -> Result<bool, Error> {
    durable::settle(roots, db, &image.layers)?;
    for chain in &image.layers {
        if db.layer(chain)?.is_none_or(|row| !diff_path(roots, &row.dir).is_dir()) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub fn diff_path(roots: &Roots, dir: &str) -> PathBuf {
    roots.layers().join(dir).join("diff")
}

/// Finishes the fresh layers and records everything in one transaction. A layer's record names its blob if that is in
/// the content store by now. Everything is on disk then, unless the layers are to be synced `behind`.
///
/// # Errors
/// [`Error::Vanished`] when a layer that was there has been removed meanwhile: plan again.
pub fn commit(roots: &Roots, db: &Db, candidate: &Candidate, mut fresh: Vec<Fresh>, behind: Option<&Behind>) -> Result<record::Image, Error> {
    fresh.sort_by_key(|fresh| fresh.missing.position);
    let chain: Vec<String> = candidate.layers.iter().map(|layer| layer.chain.to_string()).collect();
    let rows = finish(roots, db, &candidate.layers, &mut fresh)?;
    if behind.is_none() && !fresh.is_empty() {
        content::sync(roots)?;
    }
    let (manifest_digest, manifest, manifest_type) = match &candidate.manifest {
        Some((digest, bytes, kind)) => (Some(digest.to_string()), Some(bytes.clone()), Some(kind.clone())),
        None => (None, None, None),
    };
    let image = record::Image {
        id: candidate.id.to_string(),
        config: candidate.config.clone(),
        manifest_digest,
        manifest,
        manifest_type,
        layers: chain,
        size: rows.iter().map(|row| row.size).sum(),
        created: candidate.document.created.as_deref().and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER),
        pulled: Timestamp::now(),
    };
    crate::base::failpoint::hit("image.commit.before_record").map_err(|e| Error::Start { what: "the record", source: Box::new(e) })?;
    db.write(behind.is_none(), |tx| {
        put_layers(tx, db, &rows, &fresh, behind)?;
        tx.put_image(&image)?;
        for name in &candidate.names {
            tx.put_name(name, &image.id)?;
        }
        Ok::<(), Error>(())
    })?;
    for fresh in fresh {
        fresh.dir.keep();
        drop(fresh.missing.lock);
    }
    Ok(image)
}

/// Finishes one fresh layer over others that are there and records it, with what `also` writes in the same transaction.
///
/// # Errors
/// As [`commit`].
pub fn commit_layer<E: From<Error> + From<crate::state::Error>>(
    roots: &Roots,
    db: &Db,
    layers: &[Planned],
    fresh: Fresh,
    behind: Option<&Behind>,
    also: impl FnOnce(&Tx<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut fresh = vec![fresh];
    let rows = finish(roots, db, layers, &mut fresh)?;
    if behind.is_none() {
        content::sync(roots).map_err(Error::from)?;
    }
    let hit = crate::base::failpoint::hit("image.commit.before_layer");
    hit.map_err(|e| Error::Start { what: "the record of a layer", source: Box::new(e) })?;
    db.write(behind.is_none(), |tx| {
        put_layers(tx, db, &rows, &fresh, behind)?;
        also(tx)
    })?;
    for fresh in fresh {
        fresh.dir.keep();
        drop(fresh.missing.lock);
    }
    Ok(())
}

/// Writes the rows of the fresh layers; the others must still be there.
fn put_layers(tx: &Tx<'_>, db: &Db, rows: &[record::Layer], fresh: &[Fresh], behind: Option<&Behind>) -> Result<(), Error> {
    for (position, row) in rows.iter().enumerate() {
        if fresh.iter().any(|fresh| fresh.missing.position == position) {
            tx.put_layer(row)?;
            match behind {
                Some(behind) => tx.put_unsynced(&behind.note(row))?,
                None => tx.synced(&row.chain_id, &row.dir)?,
            }
        } else if db.layer(&row.chain_id)?.is_none_or(|now| now.dir != row.dir) {
            return Err(Error::Vanished(row.chain_id.clone()));
        }
    }
    Ok(())
}

/// The rows of all layers, base first; fix-ups are applied to the fresh ones in that order.
fn finish(roots: &Roots, db: &Db, layers: &[Planned], fresh: &mut [Fresh]) -> Result<Vec<record::Layer>, Error> {
    let mut rows: Vec<record::Layer> = Vec::with_capacity(layers.len());
    let mut fresh = fresh.iter_mut().peekable();
    for (position, layer) in layers.iter().enumerate() {
        let Some(made) = fresh.next_if(|fresh| fresh.missing.position == position) else {
            let row = db.layer(layer.chain.as_str())?.ok_or_else(|| Error::Vanished(layer.chain.to_string()))?;
            rows.push(row);
            continue;
        };
        let lowers: Vec<PathBuf> = rows.iter().rev().map(|row| diff_path(roots, &row.dir)).collect();
        let copied = layer::apply_fixups(&made.unpacked.fixups, &made.dir.diff(), &lowers);
        let copied = copied.map_err(|source| Error::Layer { layer: layer.blob.digest.short().to_owned(), source })?;
        rows.push(record::Layer {
            chain_id: layer.chain.to_string(),
            diff_id: layer.diff_id.to_string(),
            blob: content::has_blob(roots, &layer.blob.digest).then(|| layer.blob.digest.to_string()),
            blob_size: layer.blob.size,
            media_type: layer.blob.media_type.clone(),
            dir: made.dir.name.clone(),
            size: made.unpacked.size + copied,
            tar_size: made.unpacked.tar_size,
        });
    }
    Ok(rows)
}
