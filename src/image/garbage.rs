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

pub fn collect(roots: &Roots, db: &Db) -> Result<u64, Error> {
    content::prepare(roots)?;
    let unused = db.write(true, |tx| tx.delete_unused_layers().map_err(Error::from))?;
    let mut freed = 0;
    for layer in &unused {
        freed += remove(&roots.layers().join(&layer.dir))?;
    }
    // Whoever pulls or loads now relies on things no record names yet; the next collection takes the rest.
    let Some(_sweep) = content::sweep(roots)? else { return Ok(freed) };
    freed += sweep_layers(roots, db)?;
    freed += sweep_ingest(roots)?;
    freed += sweep_blobs(roots, db)?;
    Ok(freed)
}

fn children(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", path)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    Ok(paths.on("list", path)?)
}

fn sweep_layers(roots: &Roots, db: &Db) -> Result<u64, Error> {
    let known: HashSet<String> = db.all_layers()?.into_iter().map(|layer| layer.dir).collect();
    let mut freed = 0;
    for path in children(&roots.layers())? {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name));
        if !named && is_free(&path.join("lock"))? {
            freed += remove(&path)?;
        }
    }
    Ok(freed)
}

fn sweep_ingest(roots: &Roots) -> Result<u64, Error> {
    let mut freed = 0;
    for path in children(&roots.ingest())? {
        let partial = path.extension().is_some_and(|extension| extension == content::PARTIAL);
        let young = || {
            let changed = std::fs::symlink_metadata(&path).and_then(|m| m.modified());
            changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < PARTIAL_LIFETIME))
        };
        if is_free(&path)? && !(partial && young()) {
            freed += remove(&path)?;
        }
    }
    Ok(freed)
}

fn sweep_blobs(roots: &Roots, db: &Db) -> Result<u64, Error> {
    let mut needed: HashSet<Digest> = HashSet::new();
    needed.extend(db.all_layers()?.iter().filter_map(|layer| layer.blob.as_deref()?.parse().ok()));
    for image in db.images()? {
        let manifest = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice::<Manifest>(bytes).ok());
        needed.extend(manifest.into_iter().flat_map(|manifest| manifest.layers).map(|layer| layer.digest));
    }
    let needed: HashSet<PathBuf> = needed.iter().map(|digest| content::blob_path(roots, digest)).collect();
    let mut freed = 0;
    for algorithm in ["sha256", "sha512"] {
        for path in children(&roots.data.join("blobs").join(algorithm))? {
            if !needed.contains(&path) {
                freed += remove(&path)?;
            }
        }
    }
    Ok(freed)
}

/// Nobody holds the lock of this file (or it is gone).
fn is_free(path: &Path) -> Result<bool, Error> {
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        other => other.on("open", path)?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e).on("lock", path).map_err(Error::from),
    }
}

/// Removes a file or tree; returns the bytes its blocks took.
fn remove(path: &Path) -> Result<u64, Error> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.on("read the metadata of", path)?,
    };
    if !meta.is_dir() {
        fs::remove_file(path)?;
        return Ok(meta.blocks() * 512);
    }
    let bytes = usage(path);
    fs::remove_tree(path)?;
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
