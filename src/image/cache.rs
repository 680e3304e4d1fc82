//! Build caches outside of the store: a manifest over layers that are results of steps, in a registry or an OCI layout.
//!
//! It is an image manifest, which every registry keeps, whose config is no image's. What that config says is its writer's
//! matter (`build`); here it is bytes. Invariant: nothing is taken from a cache unverified: the manifest and its config by
//! their digests, a layer by the digest of its blob and by its DiffID, and all of it by the trust policy.

mod source;
#[cfg(test)]
mod tests;
mod write;

pub use source::CacheSource;
pub use write::{CacheExport, CacheForm, push_cache, write_cache};

use super::Error;
use crate::oci::{Descriptor, Digest, Document, INDEX_LIMIT, Index, LAYER_LIMIT, Manifest, Platform, Reference, media};
use std::fmt;
use std::path::PathBuf;

/// Media type of the config of a build cache.
pub const CACHE_CONFIG: &str = "application/vnd.rcon.buildcache.config.v1+json";
/// Begins the media types of BuildKit's.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.";
/// The name of an entry of a layout (image-spec annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheOrigin {
    Registry(Reference),
    /// An entry of an OCI layout in a directory.
    Layout(PathBuf, LayoutEntry),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutEntry {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for CacheOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheOrigin::Registry(reference) => f.write_str(&reference.familiar()),
            CacheOrigin::Layout(path, LayoutEntry::Tag(tag)) => write!(f, "{}:{tag}", path.display()),
            CacheOrigin::Layout(path, LayoutEntry::Digest(digest)) => write!(f, "{}@{digest}", path.display()),
        }
    }
}

/// A manifest that was read, with its config.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheManifest {
    /// [`CACHE_CONFIG`], or that of an image, which may have a cache inside.
    pub config_type: String,
    pub config: Vec<u8>,
    pub layers: Vec<Descriptor>,
}

/// One layer of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLayer {
    pub diff_id: Digest,
    pub blob: Descriptor,
}

/// The manifests behind one document: itself, or those of an index that suit the platforms. `fetch` reads and verifies.
///
/// # Errors
/// It is no cache and no image.
fn manifests(
    name: &str,
    document: Document,
    platforms: &[Platform],
    fetch: &dyn Fn(&Descriptor) -> Result<Vec<u8>, Error>,
) -> Result<Vec<Manifest>, Error> {
    let index = match document {
        Document::Manifest(manifest) => return Ok(vec![manifest]),
        Document::Index(index) => index,
    };
    if index.manifests.iter().any(|entry| entry.media_type.starts_with(BUILDKIT)) {
        return Err(foreign(name));
    }
    let mut wanted: Vec<&Descriptor> = Vec::new();
    for entry in platforms.iter().filter_map(|platform| index.select(platform)) {
        if !wanted.contains(&entry) {
            wanted.push(entry);
        }
    }
    if wanted.is_empty() {
        let wanted = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Error::Platform { reference: name.to_owned(), wanted, offered: index.platforms().join(", ") });
    }
    let manifest = |entry: &Descriptor| match parsed(name, &fetch(entry)?, Some(&entry.media_type))? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(unsupported(name, "its indexes are nested")),
    };
    wanted.into_iter().map(manifest).collect()
}

fn parsed(name: &str, bytes: &[u8], kind: Option<&str>) -> Result<Document, Error> {
    Document::parse(bytes, kind.filter(|kind| !kind.is_empty())).map_err(|source| Error::Manifest { reference: name.to_owned(), source })
}

/// Looks at the types before anything is fetched.
fn check(name: &str, manifest: &Manifest) -> Result<(), Error> {
    let kind = manifest.config.media_type.as_str();
    if kind.starts_with(BUILDKIT) {
        return Err(foreign(name));
    }
    if kind != CACHE_CONFIG && !media::is_image_config(kind) {
        let why = format!("its config has media type {}: this is neither a build cache of rcon nor an image", kind.escape_default());
        return Err(unsupported(name, &why));
    }
    manifest.layers.iter().try_for_each(|layer| media::layer(&layer.media_type).map(drop)).map_err(|why| unsupported(name, &why))
}

fn foreign(name: &str) -> Error {
    unsupported(name, "it is a cache of BuildKit, which names results by keys that only BuildKit can make")
}

fn unsupported(name: &str, why: &str) -> Error {
    Error::Unsupported { reference: name.to_owned(), why: why.to_owned() }
}

/// The entry of a layout's index; of several under one name the last.
fn entry<'i>(origin: &CacheOrigin, index: &'i Index, wanted: &LayoutEntry) -> Result<&'i Descriptor, Error> {
    if index.manifests.len() > INDEX_LIMIT {
        return Err(unsupported(&origin.to_string(), &format!("its index.json has more than {INDEX_LIMIT} entries")));
    }
    let is_wanted = |entry: &&Descriptor| match wanted {
        LayoutEntry::Tag(tag) => entry.annotations.get(REF_NAME) == Some(tag),
        LayoutEntry::Digest(digest) => entry.digest == *digest,
    };
    index.manifests.iter().rev().find(is_wanted).ok_or_else(|| {
        let names: Vec<&str> = index.manifests.iter().filter_map(|entry| entry.annotations.get(REF_NAME)).map(String::as_str).take(LISTED).collect();
        let there = if names.is_empty() { String::new() } else { format!(": there is {}", names.join(", ").escape_default()) };
        unsupported(&origin.to_string(), &format!("the directory has no such entry{there}"))
    })
}

/// Names of entries that a message lists.
const LISTED: usize = 10;

/// More layers than a manifest may have.
fn too_many(count: usize) -> Option<Error> {
    let message = format!("the cache has {count} layers, and a manifest no more than {LAYER_LIMIT}: export it with mode=min");
    (count > LAYER_LIMIT).then_some(Error::List { message, missing: false })
}
