//! # state
//! ## Lives here
//! Durable records (containers, pods, images, layers, volumes, networks) and the leases that a record owns
//! (name, address, published ports) in one SQLite database under the data root; migrations. The event journal beside it.
//! ## Invariants
//! - A lease is taken in the same transaction as the record that owns it and dies with it.
//! - Every stored document carries a version; an unknown newer schema is refused, never touched.
//! - Pods and containers share one set of names; a pod with members cannot be deleted.
//! - A damaged record costs that record only: lists leave it out and name it. A damaged file is never written to.
//! ## Not here
//! Live facts (pids, sockets): they are files of `monitor` under the run root. Decisions about records: `engine`.
//! ## Decisions
//! - rusqlite, bundled, WAL, `synchronous=NORMAL` (FULL for what the user was promised), no checkpoint on
//!   close: `run --rm` syncs nothing. Rejected: JSON files per object (Docker's way): no transaction over
//!   name, address and port.
//! - The log is folded back by [`Db::checkpoint_if_large`], which callers run off the hot path
//!   (the monitors, after the user has his answer); a command does it only when the log is huge.
//! - Events are lines appended to segment files (`events`), not rows: writing one down costs a handful of system calls and no
//!   transaction, every process can follow them with inotify, and the oldest go with their segment. Rejected: a table (a
//!   write transaction per event on the path of `run`), the system's journal (not on every host).
//! - Creation and migration run under a `flock` of the data root, so that twenty first commands at once
//!   make one database.

pub mod build;
mod error;
pub mod events;
pub mod index;
mod lease;
mod open;
pub mod pod;
mod read;
pub mod record;
mod reserve;
mod rewrite;
mod schema;
pub mod secret;
pub mod sources;
#[cfg(test)]
mod tests;
pub mod unsynced;
mod write;

pub use error::Error;
pub use lease::{Addresses, Publication};

use crate::base::{ContainerId, Roots, VolumeName};
use record::{Container, Image, Layer, Network, Volume};
use rusqlite::Connection;
use std::cell::RefCell;
use std::path::PathBuf;

/// Bytes of write-ahead log from which folding it back pays ([`Db::checkpoint_if_large`]): the first command after a quiet
/// moment reads the whole log (0.3 ms a MiB), and a folding syncs.
const LARGE_WAL: u64 = 1 << 20;

/// Bytes of log from which a command itself folds it back when it ends: monitors do it at the end of containers, and where
/// many start and none ends, the log would grow without limit, and with it the time of every first command.
const HUGE_WAL: u64 = 4 << 20;

/// An open database (one connection). Cheap to open (< 1 ms); every process opens its own.
pub struct Db {
    connection: Connection,
    path: PathBuf,
    /// Schema version at opening, before migrations; 0: the database was made.
    found_version: i64,
}

/// Handed to the closure of [`Db::write`]: one immediate transaction.
pub struct Tx<'a> {
    db: &'a Db,
    /// Containers inserted so far: their volumes must exist when the transaction commits.
    inserted: RefCell<Vec<ContainerId>>,
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = open::checkpoint(self, HUGE_WAL) {
            tracing::debug!("{error}");
        }
    }
}

/// What has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Containers,
    Pods,
    Volumes,
    Networks,
}

impl Db {
    /// Opens (creating and migrating when needed) the database of these roots. The data root is made
    /// with mode 0700.
    ///
    /// # Errors
    /// [`Error::TooNew`] when a newer rcon wrote it (nothing is touched then); otherwise what could not
    /// be done to the file.
    pub fn open(roots: &Roots) -> Result<Self, Error> {
        open::open(roots)
    }

    /// Runs `work` in one IMMEDIATE transaction (waits for other writers up to 30 s) and commits if it is Ok.
    /// `durable`: synced to disk before returning (what the user was promised); otherwise a crash of the
    /// *machine* may lose it, a crash of the process may not.
    ///
    /// # Errors
    /// What `work` returned (then nothing was changed), or why the transaction could not begin or commit.
    pub fn write<T, E: From<Error>>(&self, durable: bool, work: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        write::transaction(self, durable, work)
    }

    /// Folds the write-ahead log into the database file if it has grown past 1 MiB; does nothing while
    /// others use the log. It syncs to disk: call it after the user has his answer.
    ///
    /// # Errors
    /// Why the log could not be folded back.
    pub fn checkpoint_if_large(&self) -> Result<(), Error> {
        open::checkpoint(self, LARGE_WAL)
    }

    /// What SQLite's own check finds wrong with the file, in its words; nothing when it is sound.
    ///
    /// # Errors
    /// Why the check cannot run.
    pub fn faults(&self) -> Result<Vec<String>, Error> {
        read::faults(self)
    }

    // Reads (each a consistent snapshot).

    /// One container by full id.
    ///
    /// # Errors
    /// Why the database cannot be read (so for every read below).
    pub fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        read::container(self, id)
    }

    /// All containers, newest first. A record that cannot be read is left out, and a warning names it.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        read::containers(self)
    }

    /// Those whose phase is `Started`, `Removing` or `Restarting`, newest first, found by an index: the only ones that live
    /// facts say anything about.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn active_containers(&self) -> Result<Vec<Container>, Error> {
        read::active_containers(self)
    }

    /// Ids of all containers, also of those whose record cannot be read.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn container_ids(&self) -> Result<Vec<ContainerId>, Error> {
        read::container_ids(self)
    }

    /// Names of everything of one kind, sorted.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn names_of(&self, kind: Named) -> Result<Vec<String>, Error> {
        read::names_of(self, kind)
    }

    /// Version of the schema that this connection found, and the one that it has now.
    pub fn schema(&self) -> (i64, i64) {
        (self.found_version, schema::VERSION)
    }

    /// As [`Db::find_container`], but the record itself may be unreadable.
    ///
    /// # Errors
    /// As [`Db::find_container`].
    pub fn find_id(&self, text: &str) -> Result<Option<ContainerId>, Error> {
        read::find_id(self, text)
    }

    /// By full id, else exact name, else unique id prefix.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] for a prefix of several ids; else as [`Db::container`].
    pub fn find_container(&self, text: &str) -> Result<Option<Container>, Error> {
        read::find_container(self, text)
    }

    /// One image by its full id (`sha256:…`).
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn image(&self, id: &str) -> Result<Option<Image>, Error> {
        read::image(self, id)
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        read::images(self)
    }

    /// (full normalised reference, image id) rows: tags `docker.io/library/busybox:latest` and digests
    /// `docker.io/library/busybox@sha256:…`, sorted by reference.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn names(&self) -> Result<Vec<(String, String)>, Error> {
        read::names(self)
    }

    /// Image id a full normalised reference points to.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn image_named(&self, reference: &str) -> Result<Option<String>, Error> {
        read::image_named(self, reference)
    }

    /// Digests of the public keys with which this image was verified for a repository under an identity scope.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn verified_keys(&self, image: &str, repository: &str, identity: &str) -> Result<Vec<String>, Error> {
        read::verified_keys(self, image, repository, identity)
    }

    /// Images whose id (hex) starts with this prefix; empty for a text that is not hexadecimal.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn images_by_prefix(&self, hex: &str) -> Result<Vec<String>, Error> {
        read::images_by_prefix(self, hex)
    }

    /// One layer by its chain id.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn layer(&self, chain_id: &str) -> Result<Option<Layer>, Error> {
        read::layer(self, chain_id)
    }

    /// Many layers, in the order asked.
    ///
    /// # Errors
    /// [`Error::LayerMissing`] for the first that is not there; else as [`Db::container`].
    pub fn layers(&self, chain_ids: &[String]) -> Result<Vec<Layer>, Error> {
        chain_ids.iter().map(|chain_id| self.layer(chain_id)?.ok_or_else(|| Error::LayerMissing { chain_id: chain_id.clone() })).collect()
    }

    /// Every layer.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn all_layers(&self) -> Result<Vec<Layer>, Error> {
        read::all_layers(self)
    }

    /// One volume.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>, Error> {
        read::volume(self, name)
    }

    /// All volumes by name.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        read::volumes(self)
    }

    /// Ids of containers whose spec mounts this volume.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn volume_users(&self, name: &VolumeName) -> Result<Vec<ContainerId>, Error> {
        read::volume_users(self, name)
    }

    /// One network by name.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn network(&self, name: &str) -> Result<Option<Network>, Error> {
        read::network(self, name)
    }

    /// Every network by name.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        read::networks(self)
    }
}
