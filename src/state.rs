//! # state
//! ## Lives here
//! Durable records (containers, images, layers, volumes, networks) and the leases that a record owns
//! (name, address, published ports) in one SQLite database under the data root; migrations.
//! ## Invariants
//! - A lease is taken in the same transaction as the record that owns it and dies with it.
//! - Every stored document carries a version; an unknown newer schema is refused, never touched.
//! ## Not here
//! Live facts (pids, sockets): they are files of `monitor` under the run root. Decisions about records: `engine`.
//! ## Decisions
//! - rusqlite, bundled, WAL, `synchronous=NORMAL` (FULL for what the user was promised), no checkpoint on
//!   close: `run --rm` syncs nothing. Rejected: JSON files per object (Docker's way): no transaction over
//!   name, address and port.

pub mod record;

use crate::base::{ContainerId, ContainerName, ErrorKind, Roots, VolumeName};
use record::{Container, Image, Layer, Network, Volume};
use std::net::Ipv4Addr;

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// STUB: the owner of this room replaces these variants.
    #[error("{0}")]
    Stub(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// An open database (one connection). Cheap to open (< 1 ms); every process opens its own.
pub struct Db {}

/// Handed to the closure of [`Db::write`]: one immediate transaction.
pub struct Tx<'a> {
    _db: &'a Db,
}

#[allow(unused_variables)]
impl Db {
    /// Opens (creating and migrating when needed) the database of these roots.
    pub fn open(roots: &Roots) -> Result<Self, Error> {
        unimplemented!()
    }
    /// Runs `work` in one IMMEDIATE transaction (waits for other writers up to 30 s) and commits if it is Ok.
    /// `durable`: synced to disk before returning (what the user was promised); otherwise a crash of the
    /// *machine* may lose it, a crash of the process may not.
    pub fn write<T, E: From<Error>>(&self, durable: bool, work: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        unimplemented!()
    }
    // Reads (each a consistent snapshot).
    pub fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        unimplemented!()
    }
    /// All containers, newest first.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        unimplemented!()
    }
    /// By full id, else exact name, else unique id prefix. `Err(Error::Ambiguous…)` for an ambiguous prefix.
    pub fn find_container(&self, text: &str) -> Result<Option<Container>, Error> {
        unimplemented!()
    }
    pub fn image(&self, id: &str) -> Result<Option<Image>, Error> {
        unimplemented!()
    }
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        unimplemented!()
    }
    /// (full normalised reference, image id) rows: tags `docker.io/library/busybox:latest` and digests `docker.io/library/busybox@sha256:…`.
    pub fn names(&self) -> Result<Vec<(String, String)>, Error> {
        unimplemented!()
    }
    /// Image id a full normalised reference points to.
    pub fn image_named(&self, reference: &str) -> Result<Option<String>, Error> {
        unimplemented!()
    }
    /// Images whose id (hex) starts with this prefix.
    pub fn images_by_prefix(&self, hex: &str) -> Result<Vec<String>, Error> {
        unimplemented!()
    }
    pub fn layer(&self, chain_id: &str) -> Result<Option<Layer>, Error> {
        unimplemented!()
    }
    /// Many layers, in the order asked; a missing one is an error.
    pub fn layers(&self, chain_ids: &[String]) -> Result<Vec<Layer>, Error> {
        unimplemented!()
    }
    pub fn all_layers(&self) -> Result<Vec<Layer>, Error> {
        unimplemented!()
    }
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>, Error> {
        unimplemented!()
    }
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        unimplemented!()
    }
    /// Ids of containers whose spec mounts this volume.
    pub fn volume_users(&self, name: &VolumeName) -> Result<Vec<ContainerId>, Error> {
        unimplemented!()
    }
    pub fn network(&self, name: &str) -> Result<Option<Network>, Error> {
        unimplemented!()
    }
    /// Every published port in force with its owner.
    pub fn published(&self) -> Result<Vec<(ContainerId, Ipv4Addr, record::PublishedPort)>, Error> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Tx<'_> {
    /// Inserts a new container (spec, name, and image/volume references). `Err(Error::NameTaken{name, holder})` if the name is held.
    pub fn insert_container(&self, container: &Container) -> Result<(), Error> {
        unimplemented!()
    }
    /// Writes back everything but name and leases. Missing row: `Err`.
    pub fn update_container(&self, container: &Container) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        unimplemented!()
    }
    pub fn rename_container(&self, id: &ContainerId, name: &ContainerName) -> Result<(), Error> {
        unimplemented!()
    }
    /// Removes the row with its name, references and leases.
    pub fn delete_container(&self, id: &ContainerId) -> Result<(), Error> {
        unimplemented!()
    }
    /// Leases the lowest free address of the network (not network, gateway or broadcast address), or says it is full. Idempotent per owner.
    pub fn lease_address(&self, network: &Network, owner: &ContainerId) -> Result<Ipv4Addr, Error> {
        unimplemented!()
    }
    /// Records a published port; `Err(Error::PortTaken{port, holder})` if another container holds it (0.0.0.0 conflicts with every address).
    pub fn lease_port(&self, owner: &ContainerId, port: &record::PublishedPort) -> Result<(), Error> {
        unimplemented!()
    }
    /// Gives back address and ports of a container.
    pub fn release_leases(&self, owner: &ContainerId) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn put_image(&self, image: &Image) -> Result<(), Error> {
        unimplemented!()
    }
    /// Points a full normalised reference at an image (moves it silently).
    pub fn put_name(&self, reference: &str, image_id: &str) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn delete_name(&self, reference: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// Removes the image row; refused while names or containers refer to it.
    pub fn delete_image(&self, id: &str) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn put_layer(&self, layer: &Layer) -> Result<(), Error> {
        unimplemented!()
    }
    /// Deletes rows of layers no image refers to and returns them (their directories are then removed by the caller).
    pub fn delete_unused_layers(&self) -> Result<Vec<Layer>, Error> {
        unimplemented!()
    }
    /// Inserts; returns false if the name existed already (then nothing changed).
    pub fn insert_volume(&self, volume: &Volume) -> Result<bool, Error> {
        unimplemented!()
    }
    /// Removes; `Err(Error::VolumeInUse{name, holders})` while containers refer to it.
    pub fn delete_volume(&self, name: &VolumeName) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn put_network(&self, network: &Network) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn network(&self, name: &str) -> Result<Option<Network>, Error> {
        unimplemented!()
    }
}
