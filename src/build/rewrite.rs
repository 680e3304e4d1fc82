//! `rewrite-timestamp`: the layers of a build with no file younger than SOURCE_DATE_EPOCH.
//!
//! A layer is copied with other times and recorded like the result of a step, so that the next build with the same epoch
//! finds it. Layers of the base stay what they are. The steps themselves know nothing of it: their cache does not depend on
//! the epoch, which changes with every commit.

use super::cache::Layers;
use super::epoch::Epoch;
use super::error::{Error, Result};
use super::key::Key;
use crate::base::{Timestamp, copy_tree};
use crate::engine::Engine;
use crate::image::{self, Draft};
use crate::oci::Digest;
use crate::state::build::{CacheKind, CacheRecord};
use crate::state::record::Layer;

/// The layers, the lowest `base` of which stay.
///
/// # Errors
/// A layer cannot be read, or copied.
pub fn rewrite(engine: &Engine, layers: &Layers, base: usize, epoch: Epoch) -> Result<Layers> {
    let mut made: Layers = layers[..base.min(layers.len())].to_vec();
    for row in engine.db.layers(&layers[made.len()..])? {
        let mut key = Key::new("rewrite", made.last().map(String::as_str));
        key.field("layer", &row.diff_id);
        key.field("latest", epoch.seconds().to_string());
        let key = key.finish().digest;
        let _turn = image::turn(&engine.privilege.roots, &key, &engine.cancel)?;
        let chain = match find(engine, &made, &key)? {
            Some(chain) => chain,
            None => copy(engine, &made, &key, &row, epoch)?,
        };
        made.push(chain);
    }
    Ok(made)
}

/// The chain id of a layer that was made before and is still there.
fn find(engine: &Engine, below: &Layers, key: &Digest) -> Result<Option<String>> {
    let Some(chain) = engine.db.cache_record(key.as_str())?.and_then(|record| record.chain_id) else { return Ok(None) };
    let whole = [below.as_slice(), std::slice::from_ref(&chain)].concat();
    if !image::is_complete(&engine.privilege.roots, &engine.db, &whole)? {
        return Ok(None);
    }
    engine.db.write(false, |tx| tx.use_cache(key.as_str(), Timestamp::now()))?;
    Ok(Some(chain))
}

fn copy(engine: &Engine, below: &Layers, key: &Digest, row: &Layer, epoch: Epoch) -> Result<String> {
    let roots = &engine.privilege.roots;
    let draft = Draft::new(roots, &engine.db)?;
    copy_tree::copy_layer(&roots.layers().join(&row.dir).join("diff"), &draft.upper(), epoch.seconds(), &engine.cancel)?;
    let sealed = draft.seal(below, &engine.db, &engine.registry.limits, &engine.cancel)?;
    let now = Timestamp::now();
    let record = |chain: &str| CacheRecord {
        key: key.to_string(),
        chain_id: Some(chain.to_owned()),
        below: below.last().cloned(),
        kind: CacheKind::Regular,
        description: format!("rewrite-timestamp of {}", row.diff_id),
        created: now,
        used: now,
        uses: 0,
        size: 0,
    };
    let row = sealed.record(roots, &engine.db, &engine.cancel, |tx, row| tx.put_cache(&record(&row.chain_id)).map_err(Error::from))?;
    Ok(row.chain_id)
}
