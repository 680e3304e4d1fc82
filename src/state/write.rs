//! Transactions: every change of records and leases.

use super::record::{Container, Image, Layer, MountKind, Network, Phase, UsernsMode, VerifiedImage, Volume};
use super::{Db, Error, Tx, read, reserve};
use crate::base::{ContainerId, ContainerName, VolumeName};
use rusqlite::Params;
use serde::Serialize;
use std::cell::RefCell;

/// See [`Db::write`].
pub(super) fn transaction<T, E: From<Error>>(db: &Db, durable: bool, work: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
    let run = |operation: &'static str, sql: &str| {
        let full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        let again = |error| {
            // A failed commit may have rolled back: then the next command profits from the space.
            let open = sql != "COMMIT" || !db.connection.is_autocommit();
            if full(&error) && reserve::spend(db) && open { db.connection.execute_batch(sql) } else { Err(error) }
        };
        db.connection.execute_batch(sql).or_else(again).map_err(Error::sqlite(operation, &db.path))
    };
    reserve::give_in_time(db);
    // `synchronous` can only change outside of a transaction.
    run("begin a transaction", if durable { "PRAGMA synchronous=FULL; BEGIN IMMEDIATE" } else { "BEGIN IMMEDIATE" })?;
    let tx = Tx { db, inserted: RefCell::default() };
    let outcome = work(&tx).and_then(|value| {
        tx.check_references()?;
        run("commit a transaction", "COMMIT")?;
        Ok(value)
    });
    if outcome.is_err() && !db.connection.is_autocommit() {
        // The first error is what the caller must see; closing the connection rolls back just the same.
        if let Err(error) = run("roll back a transaction", "ROLLBACK") {
            tracing::warn!("{error}");
        }
    }
    if durable {
        run("relax the sync mode", "PRAGMA synchronous=NORMAL")?;
    }
    outcome
}

impl Tx<'_> {
    /// What a container inserted here refers to must exist at the end of the transaction.
    fn check_references(&self) -> Result<(), Error> {
        for container in self.inserted.borrow().iter() {
            if let Some(name) = read::missing_volume(self.db, container)? {
                return Err(Error::VolumeMissing { name, container: container.clone() });
            }
        }
        Ok(())
    }

    /// Executes one statement and returns the number of rows it changed.
    pub(super) fn run(&self, what: impl FnOnce() -> String, sql: &str, params: impl Params) -> Result<usize, Error> {
        let run = || self.db.connection.prepare(sql)?.execute(params);
        run().map_err(|source| Error::sqlite(what(), &self.db.path)(source))
    }

    pub(super) fn text(&self, object: impl FnOnce() -> String, value: &impl Serialize) -> Result<String, Error> {
        serde_json::to_string(value).map_err(|source| Error::Document { object: object(), path: self.db.path.clone(), source })
    }

    /// Inserts a new container (spec, name, and image/volume references).
    ///
    /// # Errors
    /// [`Error::NameTaken`] if the name is held; [`Error::ImageMissing`] if its image (when it names one)
    /// is not there; at commit [`Error::VolumeMissing`] if a volume it mounts has no record.
    pub fn insert_container(&self, container: &Container) -> Result<(), Error> {
        let what = || format!("insert container \"{}\"", container.name);
        if let Some(holder) = read::any_name_holder(self.db, container.name.as_str())? {
            return Err(Error::NameTaken { name: container.name.to_string(), holder });
        }
        let image = &container.spec.image_id;
        if !image.is_empty() && !read::exists(self.db, "image", "SELECT 1 FROM images WHERE id=?1", image)? {
            return Err(Error::ImageMissing { id: image.clone() });
        }
        let text = self.text(|| format!("container \"{}\"", container.name), container)?;
        self.run(
            what,
            "INSERT INTO containers (id, name, image_id, created, phase, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (container.id.as_str(), container.name.as_str(), image, container.created.nanos(), phase_text(container.phase), text),
        )?;
        for mount in &container.spec.mounts {
            if let MountKind::Volume { name, .. } = &mount.kind {
                let sql = "INSERT OR IGNORE INTO container_volumes (container, volume) VALUES (?1, ?2)";
                self.run(what, sql, (container.id.as_str(), name.as_str()))?;
            }
            if let MountKind::Image { id, .. } = &mount.kind {
                if !read::exists(self.db, "image", "SELECT 1 FROM images WHERE id=?1", id)? {
                    return Err(Error::ImageMissing { id: id.clone() });
                }
                let sql = "INSERT OR IGNORE INTO container_images (container, image) VALUES (?1, ?2)";
                self.run(what, sql, (container.id.as_str(), id))?;
            }
        }
        if let Some(membership) = &container.spec.pod {
            self.insert_member(&container.id, &membership.pod)?;
        }
        self.inserted.borrow_mut().push(container.id.clone());
        Ok(())
    }

    /// Writes back everything but name and leases.
    ///
    /// # Errors
    /// [`Error::ContainerMissing`] if it was removed.
    pub fn update_container(&self, container: &Container) -> Result<(), Error> {
        let text = self.text(|| format!("container {}", container.id.short()), container)?;
        let changed = self.run(
            || format!("update container {}", container.id.short()),
            "UPDATE containers SET phase=?2, document=?3 WHERE id=?1",
            (container.id.as_str(), phase_text(container.phase), text),
        )?;
        self.present(changed, &container.id)
    }

    fn present(&self, changed: usize, id: &ContainerId) -> Result<(), Error> {
        if changed == 0 { Err(Error::ContainerMissing { id: id.clone() }) } else { Ok(()) }
    }

    /// One container by full id, as this transaction sees it.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn container(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        read::container(self.db, id)
    }

    /// Gives a container another name; its own name is fine.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if another container holds it; [`Error::ContainerMissing`].
    pub fn rename_container(&self, id: &ContainerId, name: &ContainerName) -> Result<(), Error> {
        match read::any_name_holder(self.db, name.as_str())? {
            Some(holder) if holder != *id => return Err(Error::NameTaken { name: name.to_string(), holder }),
            _ => {}
        }
        let what = || format!("rename container {} to \"{name}\"", id.short());
        let changed = self.run(what, "UPDATE containers SET name=?2 WHERE id=?1", (id.as_str(), name.as_str()))?;
        self.present(changed, id)
    }

    /// Removes the row with its name, references and leases; a missing one is fine.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_container(&self, id: &ContainerId) -> Result<(), Error> {
        let what = || format!("delete container {}", id.short());
        self.release_leases(id)?;
        self.run(what, "DELETE FROM container_volumes WHERE container=?1", [id.as_str()])?;
        self.run(what, "DELETE FROM container_images WHERE container=?1", [id.as_str()])?;
        self.run(what, "DELETE FROM id_ranges WHERE owner=?1", [id.as_str()])?;
        self.run(what, "DELETE FROM containers WHERE id=?1", [id.as_str()])?;
        Ok(())
    }

    /// Inserts an image, or replaces the one with this id.
    ///
    /// # Errors
    /// [`Error::LayerMissing`] if one of its layers was removed meanwhile: unpack it again.
    pub fn put_image(&self, image: &Image) -> Result<(), Error> {
        let what = || format!("insert image {}", image.id);
        for chain_id in &image.layers {
            if !read::exists(self.db, "layer", "SELECT 1 FROM layers WHERE chain_id=?1", chain_id)? {
                return Err(Error::LayerMissing { chain_id: chain_id.clone() });
            }
        }
        self.run(
            what,
            "INSERT OR REPLACE INTO images (id, config, manifest_digest, manifest, manifest_type, size, created, pulled) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                &image.id,
                &image.config,
                &image.manifest_digest,
                &image.manifest,
                &image.manifest_type,
                i64::try_from(image.size).unwrap_or(i64::MAX),
                image.created.nanos(),
                image.pulled.nanos(),
            ),
        )?;
        self.run(what, "DELETE FROM image_layers WHERE image_id=?1", [&image.id])?;
        for (position, chain_id) in (0i64..).zip(&image.layers) {
            let sql = "INSERT INTO image_layers (image_id, position, chain_id) VALUES (?1, ?2, ?3)";
            self.run(what, sql, (&image.id, position, chain_id))?;
        }
        Ok(())
    }

    /// Points a full normalised reference at an image (moves it silently).
    ///
    /// # Errors
    /// [`Error::ImageMissing`] if there is no such image.
    pub fn put_name(&self, reference: &str, image_id: &str) -> Result<(), Error> {
        if !read::exists(self.db, "image", "SELECT 1 FROM images WHERE id=?1", image_id)? {
            return Err(Error::ImageMissing { id: image_id.to_owned() });
        }
        let sql = "INSERT OR REPLACE INTO names (reference, image_id) VALUES (?1, ?2)";
        self.run(|| format!("name image {image_id} {reference}"), sql, (reference, image_id)).map(|_| ())
    }

    /// Remembers a verified signature; it goes with its image.
    ///
    /// # Errors
    /// [`Error::ImageMissing`] if there is no such image.
    pub fn put_verified_image(&self, verified: &VerifiedImage) -> Result<(), Error> {
        let VerifiedImage { image, repository, identity, digest, key } = verified;
        if !read::exists(self.db, "image", "SELECT 1 FROM images WHERE id=?1", image)? {
            return Err(Error::ImageMissing { id: image.clone() });
        }
        let sql = "INSERT OR REPLACE INTO verified_images (image_id, repository, identity, key, digest) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.run(|| format!("record a signature of image {image}"), sql, (image, repository, identity, key, digest)).map(|_| ())
    }

    /// Removes a reference; a missing one is fine.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_name(&self, reference: &str) -> Result<(), Error> {
        self.run(|| format!("delete image name {reference}"), "DELETE FROM names WHERE reference=?1", [reference]).map(|_| ())
    }

    /// Removes the image row; a missing one is fine.
    ///
    /// # Errors
    /// [`Error::ImageInUse`] while names or containers refer to it.
    pub fn delete_image(&self, id: &str) -> Result<(), Error> {
        let (names, containers) = read::image_users(self.db, id)?;
        if !names.is_empty() || !containers.is_empty() {
            return Err(Error::ImageInUse { id: id.to_owned(), names, containers });
        }
        let what = || format!("delete image {id}");
        self.run(what, "DELETE FROM image_layers WHERE image_id=?1", [id])?;
        self.run(what, "DELETE FROM images WHERE id=?1", [id]).map(|_| ())
    }

    /// Inserts a layer or replaces the one with this chain id.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_layer(&self, layer: &Layer) -> Result<(), Error> {
        let text = self.text(|| format!("layer {}", layer.chain_id), layer)?;
        let sql = "INSERT OR REPLACE INTO layers (chain_id, document) VALUES (?1, ?2)";
        self.run(|| format!("insert layer {}", layer.chain_id), sql, (&layer.chain_id, text)).map(|_| ())
    }

    /// Removes the row of a layer whose files are damaged or lost, also while images refer to it: they cannot be used
    /// until the layer is there again. A missing one is fine.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_layer(&self, chain_id: &str) -> Result<(), Error> {
        self.run(|| format!("delete layer {chain_id}"), "DELETE FROM layers WHERE chain_id=?1", [chain_id]).map(|_| ())
    }

    /// Deletes rows of layers no image refers to and returns them (their directories are then removed by the caller).
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_unused_layers(&self) -> Result<Vec<Layer>, Error> {
        let run = || {
            let sql = "DELETE FROM layers WHERE chain_id NOT IN (SELECT chain_id FROM image_layers) \
                       AND chain_id NOT IN (SELECT chain_id FROM build_cache WHERE chain_id IS NOT NULL) RETURNING document";
            self.db.connection.prepare(sql)?.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        };
        let texts = run().map_err(Error::sqlite("delete unused layers", &self.db.path))?;
        texts.iter().map(|text| read::document(self.db, || "an unused layer".to_owned(), text)).collect()
    }

    /// Inserts; returns false if the name existed already (then nothing changed).
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn insert_volume(&self, volume: &Volume) -> Result<bool, Error> {
        let text = self.text(|| format!("volume \"{}\"", volume.name), volume)?;
        let sql = "INSERT OR IGNORE INTO volumes (name, document) VALUES (?1, ?2)";
        Ok(self.run(|| format!("insert volume \"{}\"", volume.name), sql, (volume.name.as_str(), text))? == 1)
    }

    /// Removes; a missing one is fine.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`] while containers refer to it.
    pub fn delete_volume(&self, name: &VolumeName) -> Result<(), Error> {
        let holders = read::volume_users(self.db, name)?;
        if !holders.is_empty() {
            return Err(Error::VolumeInUse { name: name.clone(), holders });
        }
        self.run(|| format!("delete volume \"{name}\""), "DELETE FROM volumes WHERE name=?1", [name.as_str()]).map(|_| ())
    }

    /// Lends a container `size` host ids out of `pool` (ranges as first id and size): the lowest that nobody has. It has
    /// them until its row is deleted, and until none that joined its user namespace is left.
    ///
    /// # Errors
    /// [`Error::IdsExhausted`] when no range of that size is free.
    pub fn lease_ids(&self, pool: &[(u32, u32)], size: u32, owner: &ContainerId) -> Result<u32, Error> {
        let mut leased = read::id_ranges(self.db)?;
        leased.extend(joined(&read::containers(self.db)?));
        leased.sort_unstable();
        let first = lowest_gap(pool, &leased, size).ok_or(Error::IdsExhausted { size })?;
        let what = || format!("lend ids to container {}", owner.short());
        self.run(what, "INSERT INTO id_ranges (owner, first, size) VALUES (?1, ?2, ?3)", (owner.as_str(), first, size))?;
        Ok(first)
    }

    /// Inserts a network or replaces the one with this name.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_network(&self, network: &Network) -> Result<(), Error> {
        let text = self.text(|| format!("network \"{}\"", network.name), network)?;
        let sql = "INSERT OR REPLACE INTO networks (name, document) VALUES (?1, ?2)";
        self.run(|| format!("insert network \"{}\"", network.name), sql, (&network.name, text)).map(|_| ())
    }

    /// One network by name, as this transaction sees it.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn network(&self, name: &str) -> Result<Option<Network>, Error> {
        read::network(self.db, name)
    }
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Created => "created",
        Phase::Started => "started",
        Phase::Exited => "exited",
        Phase::Removing => "removing",
        Phase::Restarting => "restarting",
    }
}

/// Host ids of containers in the user namespace of another one, which may be gone, or in one that is not of a container.
fn joined(containers: &[Container]) -> Vec<(u32, u32)> {
    let of = |container: &Container| match &container.spec.host.userns {
        UsernsMode::Container { uids, gids, .. } | UsernsMode::Path { uids, gids, .. } => {
            uids.iter().chain(gids).map(|map| (map.host, map.size)).collect()
        }
        _ => Vec::new(),
    };
    containers.iter().flat_map(of).collect()
}

/// The first of `size` ids within one range of the pool that overlap nothing in `leased` (ascending).
fn lowest_gap(pool: &[(u32, u32)], leased: &[(u32, u32)], size: u32) -> Option<u32> {
    let size = u64::from(size);
    pool.iter().find_map(|(start, length)| {
        let end = u64::from(*start) + u64::from(*length);
        let mut candidate = u64::from(*start);
        for (first, held) in leased {
            let (first, held) = (u64::from(*first), u64::from(*held));
            if candidate + size <= first {
                break;
            }
            candidate = candidate.max(first + held);
        }
        // The last id is nobody's.
        (candidate + size <= end.min(u64::from(u32::MAX))).then(|| u32::try_from(candidate).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::lowest_gap;

    #[test]
    fn the_lowest_range_that_nobody_has() {
        let pool = [(100, 50), (1000, 100)];
        for (leased, size, first) in [
            (vec![], 50, Some(100)),
            (vec![], 51, Some(1000)),
            (vec![(100, 10)], 40, Some(110)),
            (vec![(100, 10), (130, 20)], 20, Some(110)),
            (vec![(100, 10), (130, 20)], 21, Some(1000)),
            (vec![(100, 10), (100, 40)], 5, Some(140)),
            (vec![(90, 20), (1000, 100)], 41, None),
            (vec![(0, 2000)], 1, None),
        ] {
            assert_eq!(lowest_gap(&pool, &leased, size), first, "{leased:?} {size}");
        }
        assert_eq!(lowest_gap(&[(u32::MAX - 5, 6)], &[], 6), None, "the last id is nobody's");
    }
}
