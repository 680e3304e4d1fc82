//! Results for elsewhere (`--cache-to`): those of the stages that the image is made of, or of all.

use super::option::{CacheExport, CacheTo, Destination};
use super::{Step, document};
use crate::build::error::{Error, Result};
use crate::build::progress::{Begun, Numbers, Sink, Warning};
use crate::build::stage::Finished;
use crate::engine::Engine;
use crate::image::{self, CacheLayer, CacheOrigin, LayoutEntry};
use crate::oci::Digest;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Registry(reference) => f.write_str(&reference.familiar()),
            Destination::Layout { directory, tag } => write!(f, "{}:{tag}", directory.display()),
        }
    }
}

/// Writes the caches that are asked for. `own`: the stages that are the result; `all`: every stage that was built.
///
/// # Errors
/// A cache cannot be written, and that was not to be ignored.
pub fn export(
    engine: &Engine,
    wanted: &[CacheTo],
    (own, all): (&[Arc<Finished>], &[Arc<Finished>]),
    (sink, numbers): (Sink<'_>, &Numbers),
) -> Result<()> {
    for wanted in wanted {
        let CacheTo::Export(wanted) = wanted else { continue };
        let begun = Begun::new(sink, numbers, &engine.cancel, format!("exporting the cache to {}", wanted.to));
        let written = write(engine, wanted, if wanted.max { all } else { own }, &begun);
        let written = written.map_err(|source| Error::Cache { place: wanted.to.to_string(), source: Box::new(source) });
        match written {
            Err(error) if wanted.ignore_error && !engine.cancel.is_cancelled() => {
                let text = super::import::chain(&error);
                begun.say(&format!("WARNING: {text}"));
                begun.warn(Warning { rule: "CacheNotWritten", text, place: format!("--cache-to {}", wanted.to), excerpt: String::new() });
                begun.done();
            }
            other => begun.conclude(other)?,
        }
    }
    Ok(())
}

fn write(engine: &Engine, wanted: &CacheExport, stages: &[Arc<Finished>], begun: &Begun<'_>) -> Result<()> {
    let steps: Vec<Step> = stages.iter().flat_map(|finished| &finished.history.steps).cloned().collect();
    let layers = Layers::of(engine, &steps)?;
    if layers.chains.is_empty() {
        begun.say("there is nothing to export: no step has made a layer");
        return Ok(());
    }
    let export = image::CacheExport { config: document::config(&steps, &layers.diff_ids, &layers.places), layers: &layers.chains };
    let (roots, db) = (&engine.privilege.roots, &engine.db);
    let digest = match &wanted.to {
        Destination::Layout { directory, tag } => {
            let known = known(engine, directory, tag);
            image::write_cache((roots, db), &export, (directory, tag), (wanted.form, &engine.cancel), &known)?.digest
        }
        Destination::Registry(reference) => {
            let progress = |event: image::Progress| {
                if let image::Progress::Retrying { id, seconds, why } = event {
                    begun.say(&format!("{id}: retrying in {seconds} seconds: {why}"));
                }
            };
            image::push_cache((roots, db, &engine.registry), &export, reference, (wanted.form, &engine.cancel), &progress)?.digest
        }
    };
    begun.say(&format!("{} layers, {digest}", layers.chains.len()));
    Ok(())
}

/// Layers that an entry of a directory has already; none, if there is no such entry that can be used.
fn known(engine: &Engine, directory: &Path, tag: &str) -> Vec<CacheLayer> {
    let origin = CacheOrigin::Layout(directory.to_owned(), LayoutEntry::Tag(tag.to_owned()));
    let read = image::CacheSource::new(&origin, &engine.registry, &engine.cancel).read(&engine.db, &[]).unwrap_or_default();
    read.iter().filter_map(|manifest| document::parse(manifest).ok()).flat_map(|contents| contents.layers).collect()
}

/// The layers that steps add: what is the same tar over different layers is one of them.
#[derive(Default)]
struct Layers {
    chains: Vec<String>,
    diff_ids: Vec<Digest>,
    /// Of each chain id.
    places: HashMap<String, usize>,
}

impl Layers {
    fn of(engine: &Engine, steps: &[Step]) -> Result<Self> {
        let mut layers = Layers::default();
        let mut known: HashMap<Digest, usize> = HashMap::new();
        for chain in steps.iter().filter_map(|step| step.layer.as_ref()) {
            let row = engine.db.layer(chain)?.ok_or_else(|| image::Error::Vanished(chain.clone()))?;
            let diff_id: Digest = row.diff_id.parse().map_err(|_| image::Error::Vanished(chain.clone()))?;
            let place = *known.entry(diff_id.clone()).or_insert(layers.chains.len());
            if place == layers.chains.len() {
                layers.chains.push(chain.clone());
                layers.diff_ids.push(diff_id);
            }
            layers.places.insert(chain.clone(), place);
        }
        Ok(layers)
    }
}
