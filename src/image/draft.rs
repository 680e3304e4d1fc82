//! A layer that is made here: the upper directory of an overlay in which files are written, sealed as a layer when they are.
//!
//! Invariant: a draft belongs to its process; killed, it is swept like a layer that was being unpacked. Sealing reads each
//! file once for the DiffID and moves nothing.

use super::content::{self, LayerDir};
use super::durable::Behind;
use super::lock::Lock;
use super::{Error, Limits, commit, garbage, layer};
use crate::base::fs;
use crate::base::{Cancel, Roots};
use crate::oci::{Digest, chain_ids, media};
use crate::runtime::{Overlay, Upper};
use crate::state::{Db, Tx, record};
use std::path::PathBuf;

/// A layer being written.
pub struct Draft {
    dir: LayerDir,
    work: PathBuf,
    behind: Option<Behind>,
    _in_use: Lock,
}

/// A draft that nobody writes to any more, with its digest.
pub struct Sealed {
    dir: LayerDir,
    row: record::Layer,
    behind: Option<Behind>,
    _in_use: Lock,
}

impl Draft {
    /// # Errors
    /// The store cannot be prepared, or the directories made.
    pub fn new(roots: &Roots, db: &Db) -> Result<Self, Error> {
        content::prepare(roots)?;
        garbage::abandoned(roots, db)?;
        let in_use = content::in_use(roots)?;
        let behind = Behind::begin(roots)?;
        let dir = LayerDir::new(roots)?;
        let work = dir.diff().with_file_name("work");
        fs::create_dir_all(&work, 0o700)?;
        Ok(Draft { dir, work, behind, _in_use: in_use })
    }

    /// Where the files are written, in overlayfs form.
    pub fn upper(&self) -> PathBuf {
        self.dir.diff()
    }

    /// The tree of `below` (chain ids, base first) with this draft over it, to be mounted writable once at a time.
    ///
    /// # Errors
    /// A layer has no record.
    pub fn overlay(&self, roots: &Roots, db: &Db, below: &[String]) -> Result<Overlay, Error> {
        let mut overlay = stack(roots, db, below)?;
        // Its durability point is the store's own.
        overlay.upper = Some(Upper { upper: self.upper(), work: self.work.clone(), volatile: true });
        Ok(overlay)
    }

    /// Nothing is mounted on it any more: its layer on top of `below` (chain ids, base first).
    ///
    /// # Errors
    /// What was written cannot be in a layer, or cannot be read, or has too many holes.
    pub fn seal(self, below: &[String], db: &Db, limits: &Limits) -> Result<Sealed, Error> {
        fs::remove_tree(&self.work)?;
        let (diff_id, unpacked) = layer::describe(&self.dir.diff(), limits.holes).map_err(Error::Seal)?;
        let mut diff_ids = Vec::with_capacity(below.len() + 1);
        for row in db.layers(below)? {
            diff_ids.push(row.diff_id.parse().map_err(|_| Error::Vanished(row.chain_id.clone()))?);
        }
        diff_ids.push(diff_id.clone());
        let chain = chain_ids(&diff_ids).pop().expect("invariant: there is at least one layer");
        let row = record::Layer {
            chain_id: chain.to_string(),
            diff_id: diff_id.to_string(),
            blob: None,
            blob_size: unpacked.tar_size,
            media_type: media::OCI_LAYER.to_owned(),
            dir: self.dir.name.clone(),
            size: unpacked.size,
            tar_size: unpacked.tar_size,
        };
        Ok(Sealed { dir: self.dir, row, behind: self.behind, _in_use: self._in_use })
    }
}

impl Sealed {
    /// Records the layer, and in the same transaction what `also` writes. One with the same content that is there already
    /// takes its place. The files reach the disk behind the caller's back ([`sync_behind`]).
    ///
    /// # Errors
    /// Database, locks, [`Error::Cancelled`].
    pub fn record<E: From<Error> + From<crate::state::Error>>(
        self,
        roots: &Roots,
        db: &Db,
        cancel: &Cancel,
        also: impl FnOnce(&Tx<'_>, &record::Layer) -> Result<(), E>,
    ) -> Result<record::Layer, E> {
        let chain: Digest = self.row.chain_id.parse().map_err(|_| Error::Vanished(self.row.chain_id.clone()))?;
        let _turn = content::wait_chain_unless(roots, &chain, cancel)?;
        let there = db.layer(&self.row.chain_id)?.filter(|row| commit::diff_path(roots, &row.dir).is_dir());
        if self.behind.is_none() && there.is_none() {
            content::sync(roots).map_err(Error::from)?;
        }
        let row = there.clone().unwrap_or_else(|| self.row.clone());
        db.write(self.behind.is_none(), |tx| {
            if there.is_none() {
                tx.put_layer(&row)?;
                match &self.behind {
                    Some(behind) => tx.put_unsynced(&behind.note(&row))?,
                    None => tx.synced(&row.chain_id, &row.dir)?,
                }
            } else if db.layer(&row.chain_id)?.is_none_or(|now| now.dir != row.dir) {
                return Err(Error::Vanished(row.chain_id.clone()).into());
            }
            also(tx, &row)
        })?;
        if there.is_none() {
            self.dir.keep();
        }
        Ok(row)
    }
}

/// Has the layers that were recorded under this boot synced by a detached process.
///
/// # Errors
/// The data root cannot be opened, or the disk refused something.
pub fn sync_behind(roots: &Roots, db: &Db) -> Result<(), Error> {
    match Behind::begin(roots)? {
        Some(behind) => behind.start(roots, db),
        None => Ok(()),
    }
}

/// The tree of these layers (chain ids, base first), read-only.
///
/// # Errors
/// A layer has no record.
pub fn stack(roots: &Roots, db: &Db, layers: &[String]) -> Result<Overlay, Error> {
    let rows = db.layers(layers)?;
    if rows.len() != layers.len() {
        return Err(Error::Vanished(layers.last().cloned().unwrap_or_default()));
    }
    let lowers = rows.iter().rev().map(|row| PathBuf::from(&row.dir).join("diff")).collect();
    Ok(Overlay { layers_dir: roots.layers(), lowers, upper: None })
}

/// As long as this is held no layer is collected, whatever is removed meanwhile: those a build goes on from are named by it
/// alone once its base or the records of its steps are gone.
///
/// # Errors
/// The lock cannot be made.
pub fn hold_layers(roots: &Roots) -> Result<Lock, Error> {
    content::prepare(roots)?;
    Ok(content::building(roots)?)
}

/// Waits until no other process makes what this digest names (a layer by its chain id, the result of a step by its key), and
/// keeps others from it as long as the lock is held.
///
/// # Errors
/// [`Error::Cancelled`]; the lock cannot be made.
pub fn turn(roots: &Roots, digest: &Digest, cancel: &Cancel) -> Result<Lock, Error> {
    content::prepare(roots)?;
    content::wait_chain_unless(roots, digest, cancel)
}

/// Whether all layers are recorded and their directories are there; of an earlier boot only what reached the disk.
///
/// # Errors
/// Database, or the store cannot be read.
pub fn is_complete(roots: &Roots, db: &Db, layers: &[String]) -> Result<bool, Error> {
    if !super::durable::settle(roots, db, layers)? {
        return Ok(false);
    }
    for chain in layers {
        if db.layer(chain)?.is_none_or(|row| !commit::diff_path(roots, &row.dir).is_dir()) {
            return Ok(false);
        }
    }
    Ok(true)
}
