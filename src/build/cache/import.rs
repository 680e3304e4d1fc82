//! Results from elsewhere (`--cache-from`): looked for when there is none here, fetched only when one is found, and recorded
//! like those that were made here. Nothing that is wrong with a cache keeps a build from succeeding without it.

use super::document::{self, Found};
use super::option::CacheFrom;
use super::{Solved, Work, record};
use crate::build::error::{Error, Result};
use crate::build::progress::{Begun, Event, Numbers, Sink, Warning};
use crate::engine::Engine;
use crate::image::CacheSource;
use crate::oci::{Digest, Platform};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// The caches of one build, in the order in which they were named.
#[derive(Default)]
pub struct Imports(Vec<Import>);

struct Import {
    source: CacheSource,
    found: HashMap<Digest, Found>,
    /// A layer could not be had: it is not asked again.
    given_up: AtomicBool,
}

impl Imports {
    /// Reads what each cache holds. One that cannot be used is told and left out.
    pub fn read(engine: &Engine, wanted: &[CacheFrom], platforms: &[Platform], (sink, numbers): (Sink<'_>, &Numbers)) -> Self {
        let mut imports = Vec::new();
        for CacheFrom(origin) in wanted {
            let begun = Begun::new(sink, numbers, &engine.cancel, format!("importing the cache of {origin}"));
            let source = CacheSource::new(origin, &engine.registry, &engine.cancel);
            match read(engine, &source, platforms) {
                Ok(found) => {
                    begun.say(&format!("{} results", found.len()));
                    imports.push(Import { source, found, given_up: AtomicBool::new(false) });
                }
                Err(_) if engine.cancel.is_cancelled() => {}
                Err(why) => {
                    begun.say(&format!("WARNING: {why}"));
                    sink(Event::Warning(warning(&source, why)));
                }
            }
            begun.done();
        }
        Imports(imports)
    }

    /// The result of a step, if a cache has it and its layer can be had.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn find(&self, engine: &Engine, work: &Work<'_>) -> Result<Option<Solved>> {
        let asked = self.0.iter().filter(|import| !import.given_up.load(Ordering::Relaxed));
        for (import, found) in asked.filter_map(|import| Some((import, import.found.get(&work.key.digest)?))) {
            match import.take(engine, work, found) {
                Ok(solved) => return Ok(Some(solved)),
                Err(_) if engine.cancel.is_cancelled() => return Err(Error::Cancelled),
                Err(error) => {
                    let first = !import.given_up.swap(true, Ordering::Relaxed);
                    let why = format!("its result of {} cannot be had: {}", work.description, chain(&error));
                    work.begun.say(&format!("WARNING: the cache of {}: {why}", import.source.origin));
                    if first {
                        work.begun.warn(warning(&import.source, why));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Import {
    fn take(&self, engine: &Engine, work: &Work<'_>, found: &Found) -> Result<Solved> {
        let mut layers = work.below.to_vec();
        let mut layer = None;
        match &found.layer {
            None => engine.db.write(false, |tx| tx.put_cache(&record(work, None, found.created)))?,
            Some(wanted) => {
                work.begun.say(&format!("from the cache of {}: {}", self.source.origin, wanted.blob.digest.short()));
                let place = (&engine.privilege.roots, &engine.db);
                self.source.layer::<Error>(place, work.below, wanted, |tx, chain| {
                    layer = Some(chain.to_owned());
                    Ok(tx.put_cache(&record(work, layer.clone(), found.created))?)
                })?;
            }
        }
        layers.extend(layer.clone());
        Ok(Solved { key: work.key.clone(), layers, added: layer.is_some(), cached: true, created: found.created })
    }
}

/// What all manifests of a cache hold together, or why it cannot be used.
fn read(engine: &Engine, source: &CacheSource, platforms: &[Platform]) -> std::result::Result<HashMap<Digest, Found>, String> {
    let manifests = source.read(&engine.db, platforms).map_err(|error| chain(&error))?;
    let mut found = HashMap::new();
    for manifest in &manifests {
        for (key, result) in document::parse(manifest)?.results {
            found.entry(key).or_insert(result);
        }
    }
    Ok(found)
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn warning(source: &CacheSource, why: String) -> Warning {
    Warning { rule: "CacheNotUsed", text: why, place: format!("--cache-from {}", source.origin), excerpt: String::new() }
}
