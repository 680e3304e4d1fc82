//! What becomes of the stages that were built: images of the store, and the index over them.

use super::attest::{self, Invocation, Materials};
use super::error::Result;
use super::product::{Made, Product};
use super::progress::Begun;
use super::request::BuildRequest;
use super::stage::Finished;
use super::state::ImageState;
use super::{export, platform};
use crate::base::Timestamp;
use crate::engine::Engine;
use crate::image;
use crate::oci::{Digest, Platform, Reference};
use crate::state::index::{ImageIndex, IndexMember};
use crate::state::record::Image;
use serde_json::{Value, json};
use std::io::Write;

/// The image that came out.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its id: the digest of its configuration; of several platforms that of their index.
    pub image: String,
    pub names: Vec<Reference>,
    /// Of the manifest or index that was pushed, or of the index that the names stand for.
    pub digest: Option<String>,
    /// It is an index over images of several platforms.
    pub several: bool,
}

/// What was built for one platform.
pub struct Outcome<'a> {
    pub finished: &'a Finished,
    /// The platform that was asked for; a stage may be for another.
    pub platform: &'a Platform,
    pub materials: &'a Materials,
}

/// Records the images under their names, and writes what else is wanted.
///
/// # Errors
/// The store, the database, a destination, a registry.
pub fn deliver(
    engine: &Engine,
    outcomes: &[Outcome<'_>],
    invocation: &Invocation<'_>,
    out: &mut (dyn Write + Send),
    begun: &Begun<'_>,
) -> Result<Built> {
    let request = invocation.request;
    let several = outcomes.len() > 1 || platform::always_index(request)?;
    let has_index = several || !request.attest.is_empty();
    let names = export::names(&request.outputs, &request.tags);
    let stored = names.as_deref().unwrap_or_default();
    let own = if has_index { &[] } else { stored };
    let (mut product, mut made_here) = (Product { images: Vec::new(), index: None }, Vec::new());
    let mut members = Vec::new();
    for outcome in outcomes {
        let config = config(engine, request, outcome.finished)?;
        let known = engine.db.image(Digest::of(&config).as_str())?.is_some();
        let attestations = attest::attest(engine, &request.attest, (outcome.finished, outcome.materials, invocation), &config, begun)?;
        let image = record(engine, outcome.finished, config, own, begun)?;
        if !known {
            made_here.push(image.id.clone());
        }
        // Of several platforms each keeps its place, whatever the last stage is for.
        let platform = if several { outcome.platform } else { &outcome.finished.platform };
        members.push(IndexMember { platform: platform.to_string(), image: image.id.clone(), attestations });
        product.images.push(Made { image, layers: &outcome.finished.layers, platform });
    }
    if has_index {
        product.index = Some(engine.put_index(stored, ImageIndex { members, ..ImageIndex::default() })?);
    }
    image::sync_behind(&engine.privilege.roots, &engine.db)?;
    engine.built(&product.default().image, stored);
    stored.iter().for_each(|name| begun.say(&format!("naming to {name}")));
    let write = |output| export::write(engine, output, (&product, &request.tags), out, begun);
    let written = request.outputs.iter().try_for_each(write);
    if names.is_none() {
        // They were recorded only to be written somewhere else.
        made_here.iter().try_for_each(|image| forget(engine, image))?;
    }
    written?;
    let pushed = export::push(engine, &request.outputs, &request.tags, begun)?;
    Ok(built(&product, several, (names.is_some(), stored), pushed))
}

fn record(engine: &Engine, finished: &Finished, config: Vec<u8>, names: &[Reference], begun: &Begun<'_>) -> Result<Image> {
    let made = image::record_image(&engine.privilege.roots, &engine.db, &engine.registry, &finished.layers, config, names)?;
    begun.say(&format!("image {}", made.id));
    Ok(made)
}

fn forget(engine: &Engine, image: &str) -> Result<()> {
    match engine.db.write(false, |tx| tx.delete_image(image)) {
        // Somebody has named it meanwhile.
        Ok(()) | Err(crate::state::Error::ImageInUse { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the user is told. An index in the store is found by its name: without one the images are told.
fn built(product: &Product<'_>, several: bool, (is_stored, names): (bool, &[Reference]), pushed: Option<String>) -> Built {
    let index = product.index.as_ref().map(|index| index.id.clone());
    let image = match &index {
        Some(index) if several && !(is_stored && names.is_empty()) => index.clone(),
        _ if several => product.images.iter().map(|made| made.image.id.as_str()).collect::<Vec<_>>().join("\n"),
        _ => product.default().image.id.clone(),
    };
    Built { image, digest: pushed.or(index), names: names.to_vec(), several }
}

fn config(engine: &Engine, request: &BuildRequest, finished: &Finished) -> Result<Vec<u8>> {
    let mut state = finished.state.clone();
    request.labels.iter().for_each(|(key, value)| state.label(key, value));
    let rows = engine.db.layers(&finished.layers)?;
    let diff_ids: Vec<String> = rows.into_iter().map(|row| row.diff_id).collect();
    Ok(document(&state, finished, &diff_ids))
}

/// The configuration of the image. Unknown fields of the base's stay; everything that tells how it was made is ours.
/// Instructions that made no files have the time of what was before them, so that an unchanged build is the same image.
fn document(state: &ImageState, finished: &Finished, diff_ids: &[String]) -> Vec<u8> {
    let base = finished.history.base.as_ref().and_then(|base| serde_json::from_slice::<Value>(base).ok());
    let mut document = base.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let object = document.as_object_mut().expect("invariant: an object, as just made sure");
    for key in ["container", "container_config", "docker_version", "id", "parent", "parent_id", "author"] {
        object.remove(key);
    }
    let mut history = object.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut created = object.get("created").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER);
    // The first time of a build on nothing is that of its first files.
    let first = finished.history.entries.iter().find_map(|entry| entry.created);
    if created.is_never() {
        created = first.unwrap_or(created);
    }
    for entry in &finished.history.entries {
        created = entry.created.unwrap_or(created);
        let mut step = json!({ "created": created.to_string(), "created_by": entry.created_by, "comment": "buildkit.dockerfile.v0" });
        if entry.empty {
            step["empty_layer"] = json!(true);
        }
        history.push(step);
    }
    object.insert("created".to_owned(), json!(created.to_string()));
    if let Some(author) = &state.author {
        object.insert("author".to_owned(), json!(author));
    }
    object.insert("architecture".to_owned(), json!(finished.platform.arch));
    object.insert("os".to_owned(), json!(finished.platform.os));
    match &finished.platform.variant {
        Some(variant) => drop(object.insert("variant".to_owned(), json!(variant))),
        None => drop(object.remove("variant")),
    }
    object.insert("config".to_owned(), serde_json::to_value(state.config()).expect("invariant: an image's defaults are plain data"));
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    object.insert("history".to_owned(), Value::Array(history));
    serde_json::to_vec(&document).expect("invariant: a config document is JSON")
}
