//! What becomes of the stage that was built: an image of the store.

use super::error::Result;
use super::export;
use super::progress::Begun;
use super::request::BuildRequest;
use super::stage::Finished;
use super::state::ImageState;
use crate::base::Timestamp;
use crate::engine::Engine;
use crate::image;
use crate::oci::{Digest, Reference};
use serde_json::{Value, json};
use std::io::Write;

/// The image that came out.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its id: the digest of its configuration.
    pub image: String,
    pub names: Vec<Reference>,
    /// Of the manifest that was pushed.
    pub digest: Option<String>,
}

/// Records the image under its names, and writes what else is wanted.
///
/// # Errors
/// The store, the database, a destination, a registry.
pub fn deliver(engine: &Engine, request: &BuildRequest, finished: &Finished, out: &mut (dyn Write + Send), begun: &Begun<'_>) -> Result<Built> {
    let mut state = finished.state.clone();
    request.labels.iter().for_each(|(key, value)| state.label(key, value));
    let rows = engine.db.layers(&finished.layers)?;
    let diff_ids: Vec<String> = rows.into_iter().map(|row| row.diff_id).collect();
    let config = document(&state, finished, &diff_ids);
    let roots = &engine.privilege.roots;
    let names = export::names(&request.outputs, &request.tags);
    let known = engine.db.image(Digest::of(&config).as_str())?.is_some();
    let stored = names.as_deref().unwrap_or_default();
    let made = image::record_image(roots, &engine.db, &engine.registry, &finished.layers, config, stored)?;
    image::sync_behind(roots, &engine.db)?;
    engine.built(&made, stored);
    begun.say(&format!("image {}", made.id));
    stored.iter().for_each(|name| begun.say(&format!("naming to {name}")));
    let write = |output| export::write(engine, output, (&finished.layers, &made, &request.tags), out, begun);
    let written = request.outputs.iter().try_for_each(write);
    if names.is_none() && !known {
        // It was recorded only to be written somewhere else.
        match engine.db.write(false, |tx| tx.delete_image(&made.id)) {
            // Somebody has named it meanwhile.
            Ok(()) | Err(crate::state::Error::ImageInUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    written?;
    let digest = export::push(engine, &request.outputs, &request.tags, begun)?;
    Ok(Built { image: made.id, digest, names: stored.to_vec() })
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
