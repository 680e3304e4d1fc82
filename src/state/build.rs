//! The cache of builds: what a step with a certain key resulted in.
//!
//! Invariant: a row that names a layer goes with the layer's row; a layer that a row names is not garbage.

use super::read::{all, one};
use super::{Db, Error, Tx};
use crate::base::Timestamp;
use rusqlite::Row;

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// Digest of all that decides the result.
    pub key: String,
    /// The layer that the step adds (its chain id, which tells those below too). None: it adds none, or it is a directory.
    pub chain_id: Option<String>,
    /// The chain id of the layer that the step starts from.
    pub below: Option<String>,
    pub kind: CacheKind,
    /// What the step did, for people.
    pub description: String,
    pub created: Timestamp,
    pub used: Timestamp,
    pub uses: u64,
    /// Bytes of what is not a layer: those of a layer are in its own record. 0 for a cache mount: not measured since it was used.
    pub size: u64,
}

/// What a record stands for, in BuildKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// The layer of an instruction.
    Regular,
    /// The directory of a cache mount.
    Mount,
    /// A file that an ADD has fetched.
    Download,
    /// Digests of files of contexts: no record, but known by its place.
    Digests,
}

impl CacheKind {
    pub const ALL: [CacheKind; 4] = [CacheKind::Regular, CacheKind::Mount, CacheKind::Download, CacheKind::Digests];

    pub fn name(self) -> &'static str {
        match self {
            CacheKind::Regular => "regular",
            CacheKind::Mount => "exec.cachemount",
            CacheKind::Download => "source.http",
            CacheKind::Digests => "internal",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

const COLUMNS: &str = "key, chain_id, kind, description, created, used, uses, size, below";

fn record(row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
    let kind: String = row.get(2)?;
    let uses: i64 = row.get(6)?;
    Ok(CacheRecord {
        key: row.get(0)?,
        chain_id: row.get(1)?,
        kind: CacheKind::named(&kind).unwrap_or(CacheKind::Regular),
        description: row.get(3)?,
        created: Timestamp::from_nanos(row.get(4)?),
        used: Timestamp::from_nanos(row.get(5)?),
        uses: uses.unsigned_abs(),
        size: row.get::<_, i64>(7)?.unsigned_abs(),
        below: row.get(8)?,
    })
}

impl Db {
    /// What a key resulted in.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn cache_record(&self, key: &str) -> Result<Option<CacheRecord>, Error> {
        one(self, || "a record of the build cache".to_owned(), &format!("SELECT {COLUMNS} FROM build_cache WHERE key=?1"), [key], record)
    }

    /// All of them, the one used longest ago first.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn cache_records(&self) -> Result<Vec<CacheRecord>, Error> {
        all(self, "the build cache", &format!("SELECT {COLUMNS} FROM build_cache ORDER BY used, key"), [], record)
    }

    /// Chain ids of the layers that images need: of those a record of the cache holds nothing alone.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn layers_of_images(&self) -> Result<std::collections::HashSet<String>, Error> {
        Ok(all(self, "the layers of images", "SELECT DISTINCT chain_id FROM image_layers", [], |row| row.get(0))?.into_iter().collect())
    }
}

impl Db {
    /// Bytes of what the cache holds alone, as its records say; a layer of several records counts once.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn cache_size(&self) -> Result<u64, Error> {
        let sql = "SELECT COALESCE((SELECT SUM(size) FROM build_cache WHERE chain_id IS NULL), 0) \
             + COALESCE((SELECT SUM(json_extract(l.document, '$.size')) FROM layers l \
             WHERE EXISTS (SELECT 1 FROM build_cache c WHERE c.chain_id = l.chain_id) \
             AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.chain_id = l.chain_id)), 0)";
        let sum = one(self, || "the size of the build cache".to_owned(), sql, [], |row| row.get::<_, i64>(0))?;
        Ok(sum.unwrap_or(0).unsigned_abs())
    }
}

impl Tx<'_> {
    /// Writes down a result; one with the same key is replaced.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_cache(&self, record: &CacheRecord) -> Result<(), Error> {
        self.run(
            || "write to the build cache".to_owned(),
            &format!("INSERT OR REPLACE INTO build_cache ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"),
            (
                &record.key,
                &record.chain_id,
                record.kind.name(),
                &record.description,
                record.created.nanos(),
                record.used.nanos(),
                i64::try_from(record.uses).unwrap_or(i64::MAX),
                i64::try_from(record.size).unwrap_or(i64::MAX),
                &record.below,
            ),
        )
        .map(drop)
    }

    /// A build used it. False: there is no such record.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn use_cache(&self, key: &str, now: Timestamp) -> Result<bool, Error> {
        let sql = "UPDATE build_cache SET used=?2, uses=uses+1 WHERE key=?1";
        Ok(self.run(|| "note a use of the build cache".to_owned(), sql, (key, now.nanos()))? == 1)
    }

    /// What a directory or file takes now.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn size_cache(&self, key: &str, size: u64) -> Result<(), Error> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.run(|| "note a size of the build cache".to_owned(), "UPDATE build_cache SET size=?2 WHERE key=?1", (key, size)).map(drop)
    }

    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_cache(&self, key: &str) -> Result<bool, Error> {
        Ok(self.run(|| "delete from the build cache".to_owned(), "DELETE FROM build_cache WHERE key=?1", [key])? == 1)
    }
}
