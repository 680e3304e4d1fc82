//! What is known about other places: which repositories hold the compressed forms of a layer, and the indexes
//! that `manifest create` is putting together.
//!
//! Both are hints or drafts: losing a row costs an upload or a command typed again, never an image.

use super::{Db, Error, Tx};
use serde::{Deserialize, Serialize};

/// Sightings that are kept of one layer.
const PER_LAYER: i64 = 32;
/// Sightings that are kept in all.
const IN_ALL: i64 = 20_000;

/// A repository that held a compressed form of a layer when it was pulled or pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSource {
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// As in references: `docker.io`, `localhost:5000`.
    pub registry: String,
    pub repository: String,
    /// Digest of the blob there.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    pub media_type: String,
}

/// An index in the making (`manifest create`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestList {
    pub version: u32,
    pub members: Vec<ListMember>,
}

/// One manifest of a [`ManifestList`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListMember {
    /// Full reference it was named by.
    pub reference: String,
    pub media_type: String,
    pub digest: String,
    /// The manifest as the registry gave it.
    pub manifest: String,
    pub os: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Db {
    /// Where a layer is known to be, latest sighting first.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn blob_sources(&self, diff_id: &str) -> Result<Vec<BlobSource>, Error> {
        let run = || {
            let sql = "SELECT registry, repository, digest, size, media_type FROM blob_sources WHERE diff_id=?1 ORDER BY rowid DESC";
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([diff_id], |row| {
                Ok(BlobSource {
                    diff_id: diff_id.to_owned(),
                    registry: row.get(0)?,
                    repository: row.get(1)?,
                    digest: row.get(2)?,
                    size: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                    media_type: row.get(4)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        run().map_err(Error::sqlite("read the sources of a layer", &self.path))
    }

    /// The index in the making under this full reference.
    ///
    /// # Errors
    /// Why the database cannot be read, or the record is damaged.
    pub fn manifest_list(&self, name: &str) -> Result<Option<ManifestList>, Error> {
        use rusqlite::OptionalExtension;
        let run = || {
            let sql = "SELECT document FROM manifest_lists WHERE name=?1";
            self.connection.prepare(sql)?.query_row([name], |row| row.get::<_, String>(0)).optional()
        };
        let text = run().map_err(Error::sqlite(format!("read manifest list {name}"), &self.path))?;
        text.map(|text| super::read::document(self, || format!("manifest list {name}"), &text)).transpose()
    }
}

impl Tx<'_> {
    /// Remembers sightings; old ones beyond the limits are forgotten.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_blob_sources(&self, sources: &[BlobSource]) -> Result<(), Error> {
        let run = || {
            let connection = &self.db.connection;
            for source in sources {
                connection
                    .prepare(
                        "INSERT OR REPLACE INTO blob_sources (diff_id, registry, repository, digest, size, media_type) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute((
                        &source.diff_id,
                        &source.registry,
                        &source.repository,
                        &source.digest,
                        i64::try_from(source.size).unwrap_or(i64::MAX),
                        &source.media_type,
                    ))?;
                let sql = "DELETE FROM blob_sources WHERE diff_id=?1 AND rowid NOT IN \
                           (SELECT rowid FROM blob_sources WHERE diff_id=?1 ORDER BY rowid DESC LIMIT ?2)";
                connection.prepare(sql)?.execute((&source.diff_id, PER_LAYER))?;
            }
            let sql = "DELETE FROM blob_sources WHERE rowid <= (SELECT max(rowid) FROM blob_sources) - ?1";
            connection.execute(sql, [IN_ALL])
        };
        run().map_err(Error::sqlite("remember the sources of layers", &self.db.path)).map(|_| ())
    }

    /// Writes the index in the making under this full reference.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_manifest_list(&self, name: &str, list: &ManifestList) -> Result<(), Error> {
        let object = || format!("manifest list {name}");
        let text = serde_json::to_string(list);
        let text = text.map_err(|source| Error::Document { object: object(), path: self.db.path.clone(), source })?;
        let run = || self.db.connection.execute("INSERT OR REPLACE INTO manifest_lists (name, document) VALUES (?1, ?2)", (name, text));
        run().map_err(Error::sqlite(format!("write {}", object()), &self.db.path)).map(|_| ())
    }

    /// Removes the index in the making; returns false if there was none.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_manifest_list(&self, name: &str) -> Result<bool, Error> {
        let run = || self.db.connection.execute("DELETE FROM manifest_lists WHERE name=?1", [name]);
        let removed = run().map_err(Error::sqlite(format!("remove manifest list {name}"), &self.db.path))?;
        Ok(removed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Privilege, random_hex};

    #[test]
    fn sightings_are_ordered_and_limited() {
        let path = std::env::temp_dir().join(format!("rcon-sources-{}", random_hex(8)));
        let db = Db::open(&Privilege::detect(Some(&path), Some(&path.join("run"))).roots).unwrap();
        let source = |n: i64, repository: &str| BlobSource {
            diff_id: "sha256:a".to_owned(),
            registry: "r".to_owned(),
            repository: repository.to_owned(),
            digest: format!("sha256:{n}"),
            size: 1,
            media_type: "t".to_owned(),
        };
        let write = |sources: Vec<BlobSource>| db.write(false, |tx| tx.put_blob_sources(&sources)).unwrap();
        write((0..40).map(|n| source(n, "x")).collect());
        write(vec![source(10, "x")]);
        let found = db.blob_sources("sha256:a").unwrap();
        assert_eq!((found.len() as i64, found[0].digest.as_str(), found[1].digest.as_str()), (PER_LAYER, "sha256:10", "sha256:39"));
        assert!(db.blob_sources("sha256:b").unwrap().is_empty());

        let list = ManifestList { version: 1, members: vec![ListMember { reference: "r/x:1".to_owned(), ..ListMember::default() }] };
        db.write(true, |tx| tx.put_manifest_list("r/l:1", &list)).unwrap();
        assert_eq!(db.manifest_list("r/l:1").unwrap(), Some(list));
        assert!(db.write(true, |tx| tx.delete_manifest_list("r/l:1")).unwrap());
        assert!(!db.write(true, |tx| tx.delete_manifest_list("r/l:1")).unwrap());
        std::fs::remove_dir_all(path).unwrap();
    }
}
