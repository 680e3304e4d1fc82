//! Steps and their results: found by their key, here or in a cache elsewhere, or made once, by whoever comes first.
//!
//! Invariant: a record is written in the transaction that records its layer; of two builds that want the same result one makes
//! it while the other waits.

mod document;
mod export;
mod import;
mod option;

pub use document::{BUILDKIT_INLINE, INLINE, inline};
pub use export::export;
pub use import::Imports;
pub use option::{CacheFrom, CacheTo};

use super::error::{Error, Result};
use super::key::StepKey;
use super::progress::Begun;
use super::shared::Shared;
use crate::base::Timestamp;
use crate::engine::Engine;
use crate::image::{self, Draft};
use crate::state::build::{CacheKind, CacheRecord};

/// A tree of layers (chain ids, base first).
pub type Layers = Vec<String>;

/// How a step's result was had.
pub struct Solved {
    pub key: StepKey,
    /// The tree after the step.
    pub layers: Layers,
    /// It added a layer.
    pub added: bool,
    pub cached: bool,
    /// When the result was made: an unchanged build gives the same history.
    pub created: Timestamp,
}

/// A step that has its result, for caches elsewhere.
#[derive(Debug, Clone)]
pub struct Step {
    pub key: StepKey,
    pub description: String,
    pub created: Timestamp,
    /// The chain id of the layer that it added.
    pub layer: Option<String>,
}

/// A step that changes files.
pub struct Work<'a> {
    pub key: StepKey,
    /// For people: `RUN make`.
    pub description: &'a str,
    pub below: &'a [String],
    /// A result that is there is not looked for (`--no-cache`), unless this build has made it.
    pub anew: bool,
    pub shared: &'a Shared,
    pub begun: &'a Begun<'a>,
}

/// The result of a step that changes files. `make` writes into the draft and says whether there is a layer at all.
///
/// # Errors
/// What `make` said; the store or the database.
pub fn solve(engine: &Engine, work: &Work<'_>, make: impl FnOnce(&Draft) -> Result<bool>) -> Result<Solved> {
    if let Some(found) = find(engine, work)? {
        return Ok(found);
    }
    let roots = &engine.privilege.roots;
    let _turn = image::turn(roots, &work.key.digest, &engine.cancel)?;
    // Another build may have made it while we waited.
    if let Some(found) = find(engine, work)? {
        return Ok(found);
    }
    if !work.anew
        && let Some(imports) = work.shared.imports()
        && let Some(found) = imports.find(engine, work)?
    {
        return Ok(found);
    }
    let draft = Draft::new(roots, &engine.db)?;
    let changed = make(&draft)?;
    let made = || work.shared.note_made(&work.key.digest);
    let now = Timestamp::now();
    let key = work.key.clone();
    if !changed {
        engine.db.write(false, |tx| tx.put_cache(&record(work, None, now)))?;
        made();
        return Ok(Solved { key, layers: work.below.to_vec(), added: false, cached: false, created: now });
    }
    let sealed = draft.seal(work.below, &engine.db, &engine.registry.limits, &engine.cancel)?;
    let row = sealed
        .record(roots, &engine.db, &engine.cancel, |tx, row| tx.put_cache(&record(work, Some(row.chain_id.clone()), now)).map_err(Error::from))?;
    made();
    Ok(Solved { key, layers: [work.below, &[row.chain_id]].concat(), added: true, cached: false, created: now })
}

fn record(work: &Work<'_>, chain_id: Option<String>, created: Timestamp) -> CacheRecord {
    CacheRecord {
        key: work.key.digest.to_string(),
        chain_id,
        below: work.below.last().cloned(),
        kind: CacheKind::Regular,
        description: work.description.to_owned(),
        created,
        used: Timestamp::now(),
        uses: 0,
        size: 0,
    }
}

/// A recorded result whose layers are all there.
fn find(engine: &Engine, work: &Work<'_>) -> Result<Option<Solved>> {
    if work.anew && !work.shared.has_made(&work.key.digest) {
        return Ok(None);
    }
    let key = work.key.digest.to_string();
    let Some(record) = engine.db.cache_record(&key)? else { return Ok(None) };
    let (mut layers, created) = (work.below.to_vec(), record.created);
    let added = record.chain_id.is_some();
    layers.extend(record.chain_id);
    if added && !image::is_complete(&engine.privilege.roots, &engine.db, &layers)? {
        return Ok(None);
    }
    engine.db.write(false, |tx| tx.use_cache(&key, Timestamp::now()))?;
    Ok(Some(Solved { key: work.key.clone(), layers, added, cached: true, created }))
}
