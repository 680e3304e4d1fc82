//! Lists and documents of images, and their names.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use crate::engine::{Engine, ImageView};
use crate::oci::{ImageDocument, Reference};
use hyper::StatusCode;
use serde_json::{Value, json};

pub fn list(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    // Of API 1.24 and older.
    filters.extend(call.query.text("filter").map(|name| ("reference".to_owned(), name.to_owned())));
    let shared = call.query.flag("shared-size");
    call.engine(|engine| Ok(Reply::ok(summaries(engine, &engine.images(&filters)?, shared)?)))
}

/// The rows of a list; `sizes`: with what they share and who uses them.
///
/// # Errors
/// What cannot be read.
pub fn summaries(engine: &Engine, views: &[ImageView], sizes: bool) -> Result<Vec<Value>, Refusal> {
    let usage = if sizes { Some(engine.disk_usage()?) } else { None };
    let row = |view: &ImageView| {
        let image = &view.image;
        let labels =
            serde_json::from_slice::<ImageDocument>(&image.config).ok().and_then(|document| document.config).and_then(|config| config.labels);
        let of = usage.as_ref().and_then(|usage| usage.images.iter().find(|one| one.view.image.id == image.id));
        json!({
            "Id": image.id,
            "ParentId": "",
            "RepoTags": view.tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "RepoDigests": view.digests.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "Created": image.created.nanos() / 1_000_000_000,
            "Size": of.map_or(image.size, |one| one.shared + one.unique),
            "SharedSize": of.map_or(json!(-1), |one| json!(one.shared)),
            "Labels": labels.unwrap_or_default(),
            "Containers": if sizes { json!(view.containers) } else { json!(-1) },
        })
    };
    Ok(views.iter().map(row).collect())
}

pub fn inspect(call: Call, name: &str) -> Answer {
    call.engine(|engine| Ok(Reply::ok(engine.inspect_image(name)?)))
}

pub fn history(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        let step = |step: &crate::engine::Step| {
            json!({
                "Id": step.id.as_deref().unwrap_or("<missing>"), "Created": step.created.nanos() / 1_000_000_000, "CreatedBy": step.created_by,
                "Tags": if step.tags.is_empty() { Value::Null } else { json!(step.tags) }, "Size": step.size, "Comment": step.comment,
            })
        };
        Ok(Reply::ok(engine.history(name)?.iter().map(step).collect::<Vec<_>>()))
    })
}

pub fn tag(call: Call, name: &str) -> Answer {
    let repository = call.query.text("repo").ok_or_else(|| Refusal::invalid("the name (repo) is missing"))?;
    let target = call.query.text("tag").map_or(repository.to_owned(), |tag| format!("{repository}:{tag}"));
    call.engine(|engine| {
        engine.tag(name, &target)?;
        Ok(Reply::Empty(StatusCode::CREATED))
    })
}

pub fn remove(call: Call, name: &str) -> Answer {
    let force = call.query.flag("force");
    call.engine(|engine| {
        let removed = engine.remove_image(name, force)?;
        let lines = |lines: &[String], kind: &str| lines.iter().map(|line| json!({kind: word(line)})).collect::<Vec<_>>();
        let mut rows = lines(&removed.untagged, "Untagged");
        rows.extend(lines(&removed.deleted, "Deleted"));
        Ok(Reply::ok(rows))
    })
}

/// What is behind `Untagged: ` or `Deleted: `.
fn word(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(_, word)| word)
}

pub fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    call.engine(|engine| {
        let pruned = engine.prune_images(false, &filters)?;
        let row = |line: &String| json!({if line.starts_with("untagged: ") { "Untagged" } else { "Deleted" }: word(line)});
        Ok(Reply::ok(json!({"ImagesDeleted": pruned.deleted.iter().map(row).collect::<Vec<_>>(), "SpaceReclaimed": pruned.reclaimed})))
    })
}

pub fn search(call: Call) -> Answer {
    let term = call.query.text("term").ok_or_else(|| Refusal::invalid("the term is missing"))?.to_owned();
    let limit = call.query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(25);
    let filters = call.query.filters()?;
    let engine = super::transfer::with_credentials(&call)?;
    let found = engine.search(&term, limit, &filters)?;
    let row = |one: &crate::image::Found| json!({"name": one.name, "description": one.description, "star_count": one.star_count, "is_official": one.is_official, "is_automated": false});
    Ok(Reply::ok(found.iter().map(row).collect::<Vec<_>>()))
}

/// What a registry has of an image, without pulling it.
pub fn distribution(call: Call, name: &str) -> Answer {
    let engine = super::transfer::with_credentials(&call)?;
    let views = engine.inspect_manifest(None, name, false, false)?;
    let members = engine.inspect_manifest(None, name, true, false)?;
    let Some(first) = views.first() else { return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no such image: {name}"))) };
    Ok(Reply::ok(json!({
        "Descriptor": {"mediaType": first.media_type, "digest": first.digest, "size": first.bytes.len()},
        "Platforms": members.iter().filter_map(|view| view.platform.as_ref()).collect::<Vec<_>>(),
    })))
}
