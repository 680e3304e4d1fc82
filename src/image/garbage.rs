//! Garbage: layers and blobs no image refers to, and what killed pulls left behind.

use super::{Error, content};
use crate::base::Roots;
use crate::base::fs::{self, Context};
use crate::oci::{Digest, Manifest};
use crate::state::Db;
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An unfinished download is kept this long for the next pull to go on from it.
const PARTIAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// `all`: unfinished downloads of today, too.
pub fn collect(roots: &Roots, db: &Db, all: bool) -> Result<u64, Error> {
    content::prepare(roots)?;
    // A build goes on from layers that a removed image or record has named: they stay until none runs.
    let no_build = content::no_build(roots)?;
    let unused = match &no_build {
        Some(_) => db.write(true, |tx| tx.delete_unused_layers().map_err(Error::from))?,
        None => Vec::new(),
    };
    let mut freed = 0;
    for layer in &unused {
        freed += remove(&roots.layers().join(&layer.dir))?;
    }
    drop(no_build);
    // Whoever pulls or loads now relies on things no record names yet; the next collection takes the rest.
    let Some(_sweep) = content::sweep(roots)? else { return Ok(freed) };
    for path in unnamed_layers(roots, db)?.iter().chain(&useless_ingests(roots, db, all)?).chain(&unnamed_blobs(roots, db)?) {
        freed += remove(path)?;
    }
    content::sweep_locks(roots)?;
    Ok(freed)
}

/// Removes what killed pulls and loads left behind unless somebody is at work on the store: half-unpacked layers,
/// spooled files, downloads that are of no more use. Done before new bytes are fetched, so that a host whose pulls
/// are killed again and again does not fill up. What can be resumed stays.
///
/// # Errors
/// Database, or something cannot be removed.
pub fn abandoned(roots: &Roots, db: &Db) -> Result<u64, Error> {
    let Some(_sweep) = content::sweep(roots)? else { return Ok(0) };
    let mut freed = 0;
    for path in unnamed_layers(roots, db)?.iter().chain(&useless_ingests(roots, db, false)?) {
        freed += remove(path)?;
    }
    content::sweep_locks(roots)?;
    Ok(freed)
}

/// Bytes that a collection would free besides unused layers; None while somebody is at work on the store.
///
/// # Errors
/// Database, or a directory cannot be read.
pub fn leftovers(roots: &Roots, db: &Db) -> Result<Option<u64>, Error> {
    let Some(_sweep) = content::sweep(roots)? else { return Ok(None) };
    let mut bytes = 0;
    for path in unnamed_layers(roots, db)?.iter().chain(&unnamed_blobs(roots, db)?).chain(&useless_ingests(roots, db, false)?) {
        bytes += size(path)?;
    }
    Ok(Some(bytes))
}

fn children(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", path)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    Ok(paths.on("list", path)?)
}

/// Layer directories without a record that nobody is making.
fn unnamed_layers(roots: &Roots, db: &Db) -> Result<Vec<PathBuf>, Error> {
    let known: HashSet<String> = db.all_layers()?.into_iter().map(|layer| layer.dir).collect();
    let mut found = Vec::new();
    for path in children(&roots.layers())? {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name));
        if !named && is_free(&path.join("lock"))? {
            found.push(path);
        }
    }
    Ok(found)
}

/// Files on their way into the store that nobody holds and no pull will go on with; `all`: or could go on with.
fn useless_ingests(roots: &Roots, db: &Db, all: bool) -> Result<Vec<PathBuf>, Error> {
    let files = children(&roots.ingest())?;
    // The layers of recorded images are here: their downloads (of a pull killed right after its record) are done with.
    let done: HashSet<String> = if files.is_empty() { HashSet::new() } else { fetched_digits(db)? };
    let mut found = Vec::new();
    for path in files {
        let partial = path.extension().is_some_and(|extension| extension == content::PARTIAL)
            && !path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| done.contains(stem));
        let young = || {
            let changed = std::fs::symlink_metadata(&path).and_then(|m| m.modified());
            changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < PARTIAL_LIFETIME))
        };
        if is_free(&path)? && (all || !(partial && young())) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Digits of every layer blob that a recorded image names.
fn fetched_digits(db: &Db) -> Result<HashSet<String>, Error> {
    let mut digits = HashSet::new();
    for image in db.images()? {
        let manifest = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice::<Manifest>(bytes).ok());
        digits.extend(manifest.into_iter().flat_map(|manifest| manifest.layers).map(|layer| layer.digest.hex().to_owned()));
    }
    Ok(digits)
}

/// Blobs that no layer's record names.
fn unnamed_blobs(roots: &Roots, db: &Db) -> Result<Vec<PathBuf>, Error> {
    let rows = db.all_layers()?;
    let needed = rows.iter().filter_map(|layer| layer.blob.as_deref()?.parse::<Digest>().ok());
    let needed: HashSet<PathBuf> = needed.map(|digest| content::blob_path(roots, &digest)).collect();
    let mut found = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        found.extend(children(&roots.data.join("blobs").join(algorithm))?.into_iter().filter(|path| !needed.contains(path)));
    }
    Ok(found)
}

/// Nobody holds the lock of this file (or it is gone).
fn is_free(path: &Path) -> Result<bool, Error> {
    let file = match std::fs::File::open(path) {
        // No directory is above it: a stray file, which is nobody's.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(true),
        other => other.on("open", path)?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e).on("lock", path).map_err(Error::from),
    }
}

/// Bytes that the blocks of a file or tree take; nothing for a missing one.
fn size(path: &Path) -> Result<u64, Error> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Ok(Err(e).on("read the metadata of", path)?),
        Ok(meta) if meta.is_dir() => Ok(usage(path)),
        Ok(meta) => Ok(meta.blocks() * 512),
    }
}

/// Removes a file or tree; returns the bytes its blocks took.
fn remove(path: &Path) -> Result<u64, Error> {
    let bytes = size(path)?;
    if path.is_dir() {
        fs::remove_tree(path)?
    } else {
        fs::remove_file(path)?
    }
    Ok(bytes)
}

/// Bytes of the blocks below a directory that is about to go; what cannot be read counts as nothing.
fn usage(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => usage(&entry.path()),
        // A file of several names counts once in all.
        Ok(meta) => meta.blocks() * 512 / meta.nlink().max(1),
        Err(_) => 0,
    });
    sizes.sum()
}
