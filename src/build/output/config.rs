//! The configuration of the image that came out.

use crate::base::Timestamp;
use crate::build::cache::{BUILDKIT_INLINE, INLINE};
use crate::build::epoch::Epoch;
use crate::build::stage::Finished;
use crate::build::state::ImageState;
use serde_json::{Value, json};

/// Unknown fields of the base's configuration stay; everything that tells how the image was made is ours. Instructions that
/// made no files have the time of what was before them, so that an unchanged build is the same image; with an epoch all that
/// this build did has that time. `inline`: what the image tells of the cache; that of a base does not tell of it.
pub fn document(state: &ImageState, finished: &Finished, diff_ids: &[String], epoch: Option<Epoch>, inline: Option<Value>) -> Vec<u8> {
    let base = finished.history.base.as_ref().and_then(|base| serde_json::from_slice::<Value>(base).ok());
    let mut document = base.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let object = document.as_object_mut().expect("invariant: an object, as just made sure");
    for key in ["container", "container_config", "docker_version", "id", "parent", "parent_id", "author", INLINE, BUILDKIT_INLINE] {
        object.remove(key);
    }
    let mut history = object.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut created = object.get("created").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER);
    // The first time of a build on nothing is that of its first files.
    let first = finished.history.entries.iter().find_map(|entry| entry.created);
    if created.is_never() {
        created = first.unwrap_or(created);
    }
    let shown = |created: Timestamp| epoch.map_or_else(|| created.to_string(), |epoch| epoch.to_string());
    for entry in &finished.history.entries {
        created = entry.created.unwrap_or(created);
        let mut step = json!({ "created": shown(created), "created_by": entry.created_by, "comment": "buildkit.dockerfile.v0" });
        if entry.empty {
            step["empty_layer"] = json!(true);
        }
        history.push(step);
    }
    object.insert("created".to_owned(), json!(shown(created)));
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
    if let Some(inline) = inline {
        document[INLINE] = inline;
    }
    serde_json::to_vec(&document).expect("invariant: a config document is JSON")
}
