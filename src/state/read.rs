//! The queries. They serve [`Db`] and, inside a transaction, [`super::Tx`] alike.

use super::record::{Container, Image, Layer, Network, Volume};
use super::{Db, Error};
use crate::base::{ContainerId, Timestamp, VolumeName};
use rusqlite::{OptionalExtension, Params, Row};
use serde::de::DeserializeOwned;

/// At most one row.
pub(super) fn one<T>(
    db: &Db,
    what: impl Fn() -> String,
    sql: &str,
    params: impl Params,
    map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    let run = || db.connection.prepare(sql)?.query_row(params, map).optional();
    run().map_err(|source| Error::sqlite(format!("read {}", what()), &db.path)(source))
}

/// All rows.
pub(super) fn all<T>(db: &Db, what: &str, sql: &str, params: impl Params, map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, Error> {
    let run = || db.connection.prepare(sql)?.query_map(params, map)?.collect::<rusqlite::Result<Vec<T>>>();
    run().map_err(|source| Error::sqlite(format!("read {what}"), &db.path)(source))
}

/// See [`Db::faults`].
pub(super) fn faults(db: &Db) -> Result<Vec<String>, Error> {
    let run = || db.connection.prepare("PRAGMA integrity_check(20)")?.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>();
    let mut lines = run().map_err(Error::sqlite("check the database", &db.path))?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

pub(super) fn document<T: DeserializeOwned>(db: &Db, object: impl FnOnce() -> String, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Document { object: object(), path: db.path.clone(), source })
}

pub(super) fn container_id(db: &Db, text: String) -> Result<ContainerId, Error> {
    text.parse().map_err(|_| Error::Damaged { what: "container id", value: text, path: db.path.clone() })
}

/// The name column is the truth (a rename changes nothing else).
pub(super) fn to_container(db: &Db, name: &str, text: &str) -> Result<Container, Error> {
    let mut container: Container = document(db, || format!("container \"{name}\""), text)?;
    if container.name.as_str() != name {
        container.name = name.parse().map_err(|_| Error::Damaged { what: "container name", value: name.to_owned(), path: db.path.clone() })?;
    }
    Ok(container)
}

pub(super) fn pair(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

pub(super) fn container(db: &Db, id: &ContainerId) -> Result<Option<Container>, Error> {
    let what = || format!("container {}", id.short());
    one(db, what, "SELECT name, document FROM containers WHERE id=?1", [id.as_str()], pair)?
        .map(|(name, text)| to_container(db, &name, &text))
        .transpose()
}

/// A damaged record is left out and told about: one of them must not hide all others.
pub(super) fn containers(db: &Db) -> Result<Vec<Container>, Error> {
    newest_first(db, "containers", "SELECT name, document FROM containers", |name, error| {
        tracing::warn!("container \"{name}\" is left out: {error} (`rcon rm -f {name}` removes what is left of it)");
    })
}

/// Containers whose documents can be read, from name and document. Read where SQLite has them, and sorted here: its sorter takes the
/// documents along, and writes a file when they are many.
fn newest_first(db: &Db, what: &str, sql: &str, damaged: impl Fn(&str, Error)) -> Result<Vec<Container>, Error> {
    let row = |row: &Row<'_>| {
        let name = row.get_ref(0)?.as_str()?;
        Ok(to_container(db, name, row.get_ref(1)?.as_str()?).map_err(|error| damaged(name, error)).ok())
    };
    let mut containers: Vec<Container> = all(db, what, sql, [], row)?.into_iter().flatten().collect();
    containers.sort_unstable_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.as_str().cmp(b.id.as_str())));
    Ok(containers)
}

/// See [`Db::container_ids`].
pub(super) fn container_ids(db: &Db) -> Result<Vec<ContainerId>, Error> {
    let ids = all(db, "containers", "SELECT id FROM containers ORDER BY id", [], |row| row.get(0))?;
    ids.into_iter().map(|id| container_id(db, id)).collect()
}

/// Damaged ones are left out; [`containers`] tells about them.
pub(super) fn active_containers(db: &Db) -> Result<Vec<Container>, Error> {
    let sql = "SELECT name, document FROM containers WHERE phase IN ('started', 'removing', 'restarting')";
    newest_first(db, "active containers", sql, |_, _| ())
}

pub(super) fn find_container(db: &Db, text: &str) -> Result<Option<Container>, Error> {
    match find_id(db, text)? {
        Some(id) => container(db, &id),
        None => Ok(None),
    }
}

/// By full id, else exact name, else unique id prefix; the record itself is not looked at.
pub(super) fn find_id(db: &Db, text: &str) -> Result<Option<ContainerId>, Error> {
    if let Ok(id) = text.parse::<ContainerId>()
        && exists(db, "container", "SELECT 1 FROM containers WHERE id=?1", id.as_str())?
    {
        return Ok(Some(id));
    }
    let what = || format!("container \"{text}\"");
    if let Some(id) = name_holder(db, text)? {
        return Ok(Some(id));
    }
    if text.is_empty() || text.len() >= 64 || !is_hex(text) {
        return Ok(None);
    }
    // "g" follows every hexadecimal digit.
    let fits: Vec<String> =
        all(db, &what(), "SELECT id FROM containers WHERE id>=?1 AND id<?2 ORDER BY id LIMIT 50", [text, &format!("{text}g")], |row| row.get(0))?;
    let mut fits = fits.into_iter().map(|id| container_id(db, id)).collect::<Result<Vec<_>, _>>()?;
    match fits.len() {
        0 => Ok(None),
        1 => Ok(Some(fits.remove(0))),
        _ => Err(Error::Ambiguous { prefix: text.to_owned(), fits }),
    }
}

pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

const IMAGE: &str = "SELECT id, config, manifest_digest, manifest, manifest_type, size, created, pulled FROM images";

fn to_image(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        id: row.get(0)?,
        config: row.get(1)?,
        manifest_digest: row.get(2)?,
        manifest: row.get(3)?,
        manifest_type: row.get(4)?,
        layers: Vec::new(),
        size: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
        created: Timestamp::from_nanos(row.get(6)?),
        pulled: Timestamp::from_nanos(row.get(7)?),
    })
}

fn with_layers(db: &Db, mut image: Image) -> Result<Image, Error> {
    let what = format!("the layers of image {}", image.id);
    image.layers = all(db, &what, "SELECT chain_id FROM image_layers WHERE image_id=?1 ORDER BY position", [&image.id], |row| row.get(0))?;
    Ok(image)
}

pub(super) fn image(db: &Db, id: &str) -> Result<Option<Image>, Error> {
    let found = one(db, || format!("image {id}"), &format!("{IMAGE} WHERE id=?1"), [id], to_image)?;
    found.map(|image| with_layers(db, image)).transpose()
}

pub(super) fn images(db: &Db) -> Result<Vec<Image>, Error> {
    let rows = all(db, "images", &format!("{IMAGE} ORDER BY created DESC, id"), [], to_image)?;
    rows.into_iter().map(|image| with_layers(db, image)).collect()
}

pub(super) fn names(db: &Db) -> Result<Vec<(String, String)>, Error> {
    all(db, "image names", "SELECT reference, image_id FROM names ORDER BY reference", [], pair)
}

pub(super) fn image_named(db: &Db, reference: &str) -> Result<Option<String>, Error> {
    one(db, || format!("image name {reference}"), "SELECT image_id FROM names WHERE reference=?1", [reference], |row| row.get(0))
}

pub(super) fn verified_keys(db: &Db, image: &str, repository: &str, identity: &str) -> Result<Vec<String>, Error> {
    let what = format!("the verified signatures of image {image}");
    let sql = "SELECT key FROM verified_images WHERE image_id=?1 AND repository=?2 AND identity=?3 ORDER BY key";
    all(db, &what, sql, [image, repository, identity], |row| row.get(0))
}

pub(super) fn images_by_prefix(db: &Db, hex: &str) -> Result<Vec<String>, Error> {
    if !is_hex(hex) {
        return Ok(Vec::new());
    }
    let from = format!("sha256:{hex}");
    all(db, "images", "SELECT id FROM images WHERE id>=?1 AND id<?2 ORDER BY id", [&from, &format!("{from}g")], |row| row.get(0))
}

pub(super) fn layer(db: &Db, chain_id: &str) -> Result<Option<Layer>, Error> {
    let what = || format!("layer {chain_id}");
    let text: Option<String> = one(db, what, "SELECT document FROM layers WHERE chain_id=?1", [chain_id], |row| row.get(0))?;
    text.map(|text| document(db, what, &text)).transpose()
}

pub(super) fn all_layers(db: &Db) -> Result<Vec<Layer>, Error> {
    let rows = all(db, "layers", "SELECT chain_id, document FROM layers ORDER BY chain_id", [], pair)?;
    rows.into_iter().map(|(chain_id, text)| document(db, || format!("layer {chain_id}"), &text)).collect()
}

pub(super) fn volume(db: &Db, name: &VolumeName) -> Result<Option<Volume>, Error> {
    let what = || format!("volume \"{name}\"");
    let text: Option<String> = one(db, what, "SELECT document FROM volumes WHERE name=?1", [name.as_str()], |row| row.get(0))?;
    text.map(|text| document(db, what, &text)).transpose()
}

pub(super) fn volumes(db: &Db) -> Result<Vec<Volume>, Error> {
    let rows = all(db, "volumes", "SELECT name, document FROM volumes ORDER BY name", [], pair)?;
    rows.into_iter().map(|(name, text)| document(db, || format!("volume \"{name}\""), &text)).collect()
}

pub(super) fn volume_users(db: &Db, name: &VolumeName) -> Result<Vec<ContainerId>, Error> {
    let sql = "SELECT container FROM container_volumes WHERE volume=?1 ORDER BY container";
    let ids: Vec<String> = all(db, &format!("the users of volume \"{name}\""), sql, [name.as_str()], |row| row.get(0))?;
    ids.into_iter().map(|id| container_id(db, id)).collect()
}

pub(super) fn network(db: &Db, name: &str) -> Result<Option<Network>, Error> {
    let what = || format!("network \"{name}\"");
    let text: Option<String> = one(db, what, "SELECT document FROM networks WHERE name=?1", [name], |row| row.get(0))?;
    text.map(|text| document(db, what, &text)).transpose()
}

pub(super) fn networks(db: &Db) -> Result<Vec<Network>, Error> {
    let rows = all(db, "networks", "SELECT name, document FROM networks ORDER BY name", [], pair)?;
    rows.into_iter().map(|(name, text)| document(db, || format!("network \"{name}\""), &text)).collect()
}

pub(super) fn name_holder(db: &Db, name: &str) -> Result<Option<ContainerId>, Error> {
    let what = || format!("container \"{name}\"");
    let id: Option<String> = one(db, what, "SELECT id FROM containers WHERE name=?1", [name], |row| row.get(0))?;
    id.map(|id| container_id(db, id)).transpose()
}

/// See [`Db::names_of`].
pub(super) fn names_of(db: &Db, kind: super::Named) -> Result<Vec<String>, Error> {
    let table = match kind {
        super::Named::Containers => "containers",
        super::Named::Pods => "pods",
        super::Named::Volumes => "volumes",
        super::Named::Networks => "networks",
    };
    all(db, table, &format!("SELECT name FROM {table} ORDER BY name"), [], |row| row.get(0))
}

/// The container or pod that has this name: they share one set of names.
pub(super) fn any_name_holder(db: &Db, name: &str) -> Result<Option<ContainerId>, Error> {
    let sql = "SELECT id FROM containers WHERE name=?1 UNION ALL SELECT id FROM pods WHERE name=?1";
    let id: Option<String> = one(db, || format!("who is called \"{name}\""), sql, [name], |row| row.get(0))?;
    id.map(|id| container_id(db, id)).transpose()
}

/// Names (also of indexes that have it) and containers that refer to an image.
pub(super) fn image_users(db: &Db, id: &str) -> Result<(Vec<String>, Vec<ContainerId>), Error> {
    let what = format!("the users of image {id}");
    let sql = "SELECT reference FROM names WHERE image_id=?1 UNION SELECT name FROM index_members WHERE image_id=?1 ORDER BY 1";
    let names = all(db, &what, sql, [id], |row| row.get(0))?;
    let ids: Vec<String> = all(
        db,
        &what,
        "SELECT id FROM containers WHERE image_id=?1 UNION SELECT container FROM container_images WHERE image=?1 ORDER BY 1",
        [id],
        |row| row.get(0),
    )?;
    let containers = ids.into_iter().map(|id| container_id(db, id)).collect::<Result<_, _>>()?;
    Ok((names, containers))
}

/// Host ids lent out, as first id and size, ascending.
pub(super) fn id_ranges(db: &Db) -> Result<Vec<(u32, u32)>, Error> {
    all(db, "the lent ids", "SELECT first, size FROM id_ranges ORDER BY first", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The first volume that this container refers to and that does not exist.
pub(super) fn missing_volume(db: &Db, id: &ContainerId) -> Result<Option<String>, Error> {
    let sql = "SELECT volume FROM container_volumes WHERE container=?1 AND volume NOT IN (SELECT name FROM volumes) LIMIT 1";
    one(db, || format!("the volumes of container {}", id.short()), sql, [id.as_str()], |row| row.get(0))
}

pub(super) fn exists(db: &Db, what: &str, sql: &str, key: &str) -> Result<bool, Error> {
    Ok(one(db, || format!("{what} {key}"), sql, [key], |_| Ok(()))?.is_some())
}
