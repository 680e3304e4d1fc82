//! # image
//! ## Lives here
//! Registry client, content store (blobs by digest), layers unpacked one directory each, docker-archive and OCI-layout
//! archives, garbage collection.
//! ## Invariants
//! - An image record exists only when every byte was verified: manifest digest, config digest, blob digests, DiffIDs.
//! - A layer is visible by its database row; a directory without a row is swept unless its lock is held.
//! ## Not here
//! Container roots (`runtime`), which image a user means by an id prefix in use by containers (`engine`).

use crate::base::{ErrorKind, Roots};
use crate::oci::{Platform, Reference};
use crate::runtime::Overlay;
use crate::state::{Db, record};
use std::io::{Read, Write};

/// STUB errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// What happens to one layer or blob; the caller renders it.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A line of talk: `latest: Pulling from library/busybox`.
    Note(String),
    /// A layer (short id) is known: total compressed bytes.
    Layer { id: String, total: u64 },
    Exists { id: String },
    Downloading { id: String, done: u64 },
    /// Unpacked and verified.
    Done { id: String },
    /// Waiting before a retry.
    Retrying { id: String, seconds: u64, why: String },
}

pub struct Pulled {
    pub image: record::Image,
    pub digest: String,
    /// False: it was already up to date.
    pub changed: bool,
}

/// How registries are reached; read by `cli` from the environment and config files.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Text of `~/.docker/config.json`, if it exists.
    pub docker_config: Option<String>,
    /// Registries that may be spoken to in plain HTTP besides loopback ones.
    pub insecure: Vec<String>,
    /// registry → mirror base URLs, tried in order before it.
    pub mirrors: std::collections::BTreeMap<String, Vec<String>>,
}

#[allow(unused_variables)]
/// Pulls a reference: resolve, verify, unpack several layers at once, record. Starts its own small reactor.
pub fn pull(roots: &Roots, db: &Db, registry: &RegistryConfig, reference: &Reference, platform: &Platform, progress: &(dyn Fn(Progress) + Sync)) -> Result<Pulled, Error> {
    unimplemented!()
}

/// Loads a docker-archive or OCI layout tar (plain, gzip or zstd). Returns (reference if named, image).
#[allow(unused_variables)]
pub fn load(roots: &Roots, db: &Db, archive: &mut (dyn Read + Send), platform: &Platform, progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<(Option<Reference>, record::Image)>, Error> {
    unimplemented!()
}

/// Writes images as one tar that is an OCI layout and a docker-archive at once.
#[allow(unused_variables)]
pub fn save(roots: &Roots, db: &Db, images: &[(Vec<Reference>, record::Image)], out: &mut dyn Write) -> Result<(), Error> {
    unimplemented!()
}

/// Overlay lowers of an image (top first), with `upper: None`.
#[allow(unused_variables)]
pub fn overlay(roots: &Roots, db: &Db, image: &record::Image) -> Result<Overlay, Error> {
    unimplemented!()
}

/// Deletes layers and blobs that nothing refers to (after an image record was removed), and abandoned partial unpacks. Returns freed bytes.
#[allow(unused_variables)]
pub fn collect_garbage(roots: &Roots, db: &Db) -> Result<u64, Error> {
    unimplemented!()
}
