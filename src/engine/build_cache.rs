//! The cache of builds: what it takes, and giving it back.
//!
//! Invariant: what a build uses is held by a lock that is asked before anything goes; what killed builds left is held by
//! nobody. What the end of each build asks (is it too much?) is answered by records alone.

mod order;
mod policy;
mod select;

use super::observe::{tree_usage, tree_usage_until};
use super::*;
use crate::base::{Cancel, fs, held};
use crate::oci::Digest;
use crate::state::build::{CacheKind, CacheRecord};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub use policy::{CacheLimits, CachePolicy};
pub use select::CacheFilters;

/// In the build area: files that were fetched, each with what is remembered of it, under the digits of its address.
pub const DOWNLOADS: &str = "downloads";
/// In the build area: the file of digests of files of contexts.
pub const DIGESTS: &str = "digests";
/// Before the name of a directory in that of a cache mount that is not yet what is mounted.
pub const MAKING: &str = "making-";

/// A record of the cache and what it takes.
#[derive(Debug, Clone)]
pub struct CacheUsage {
    pub record: CacheRecord,
    /// Bytes on disk.
    pub size: u64,
    /// An image needs its layer too: to forget it frees nothing.
    pub shared: bool,
    /// A build uses it now.
    pub in_use: bool,
}

impl Engine {
    /// Where builds keep what is no layer.
    pub fn build_area(&self) -> PathBuf {
        self.privilege.roots.data.join("build")
    }

    /// Where the directories of cache mounts are, each under the digits of its key.
    pub fn cache_mounts(&self) -> PathBuf {
        self.build_area().join("mounts")
    }

    fn downloads(&self) -> PathBuf {
        self.build_area().join(DOWNLOADS)
    }

    /// Removes the temporary trees of killed builds.
    pub fn sweep_trees(&self) {
        held::sweep(&self.build_area().join("trees"), "");
    }

    /// Notes what the cache mounts take that were used since then, or of which nobody knows what they take. False: the wish
    /// to end came first.
    pub(super) fn measure_cache_mounts(&self, since: Timestamp) -> Result<bool> {
        // The wish of a build that has failed has come already, from the step that failed.
        let cancel = if self.cancel.is_cancelled() { Cancel::default() } else { self.cancel.clone() };
        for record in self.db.cache_records()? {
            if record.kind == CacheKind::Mount && (record.size == 0 || record.used >= since) {
                // What cannot be measured counts nothing.
                let size = tree_usage_until(&self.cache_mounts().join(digits(&record.key)), &cancel).unwrap_or(0);
                if cancel.is_cancelled() {
                    return Ok(false);
                }
                self.db.write(false, |tx| tx.size_cache(&record.key, size))?;
            }
        }
        Ok(true)
    }

    /// Notes that a file is kept whose address has this digest.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub fn note_download(&self, address: &Digest, description: &str, size: u64) -> Result<()> {
        let (key, now) = (address.to_string(), Timestamp::now());
        let description = description.to_owned();
        let record = CacheRecord { key, chain_id: None, below: None, kind: CacheKind::Download, description, created: now, used: now, uses: 0, size };
        Ok(self.db.write(false, |tx| if tx.use_cache(&record.key, now)? { tx.size_cache(&record.key, size) } else { tx.put_cache(&record) })?)
    }

    /// Every record, the one used longest ago first.
    ///
    /// # Errors
    /// The database cannot be read. A directory that cannot be measured counts nothing.
    pub fn build_cache(&self) -> Result<Vec<CacheUsage>> {
        self.cache_usage(true)
    }

    /// `measured`: on disk, and not as the records say.
    fn cache_usage(&self, measured: bool) -> Result<Vec<CacheUsage>> {
        let shared = self.db.layers_of_images()?;
        let downloads = if measured { self.measured_downloads() } else { HashMap::new() };
        let downloading = is_locked(&self.downloads());
        let mut found = Vec::new();
        for record in self.db.cache_records()? {
            let layer = record.chain_id.as_deref().map(|chain| self.db.layer(chain)).transpose()?.flatten();
            let mount = (record.kind == CacheKind::Mount).then(|| self.cache_mounts().join(digits(&record.key)));
            let size = match &layer {
                Some(row) if measured => tree_usage(&self.privilege.roots.layers().join(&row.dir)).unwrap_or(0),
                Some(row) => row.size,
                None if record.kind == CacheKind::Download && measured => downloads.get(digits(&record.key)).copied().unwrap_or(0),
                None if measured => mount.as_deref().map_or(0, |path| tree_usage(path).unwrap_or(0)),
                None => record.size,
            };
            found.push(CacheUsage {
                size,
                shared: record.chain_id.as_ref().is_some_and(|chain| shared.contains(chain)),
                in_use: if record.kind == CacheKind::Download { downloading } else { mount.as_deref().is_some_and(is_locked) },
                record,
            });
        }
        found.extend(self.digests_usage());
        found.sort_by_key(|usage| usage.record.used);
        Ok(found)
    }

    /// Bytes on disk by the digits of the address.
    fn measured_downloads(&self) -> HashMap<String, u64> {
        let mut sizes = HashMap::new();
        for entry in std::fs::read_dir(self.downloads()).into_iter().flatten().flatten() {
            let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            *sizes.entry(address_digits(&name).to_owned()).or_default() += meta.blocks() * 512;
        }
        sizes
    }

    /// The file of digests, which has no record.
    fn digests_usage(&self) -> Option<CacheUsage> {
        let meta = std::fs::metadata(self.build_area().join(DIGESTS)).ok()?;
        let at = Timestamp::from_nanos(meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()));
        let (key, description) = (Digest::of(DIGESTS.as_bytes()).to_string(), "digests of files in build contexts".to_owned());
        let size = meta.blocks() * 512;
        let record = CacheRecord { key, chain_id: None, below: None, kind: CacheKind::Digests, description, created: at, used: at, uses: 0, size };
        Some(CacheUsage { record, size, shared: false, in_use: false })
    }

    /// Those that fit the filters.
    ///
    /// # Errors
    /// The database.
    pub fn filtered_build_cache(&self, filters: &CacheFilters) -> Result<Vec<CacheUsage>> {
        let mut found = self.build_cache()?;
        found.retain(|usage| filters.fits(usage));
        Ok(found)
    }

    /// Forgets records and frees what only they needed, those used longest ago first and a step before those that it starts
    /// from, until what is left is within the limits; and what killed builds left. Without `all` those that images share stay, for they cost nothing.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn prune_build_cache(&self, all: bool, limits: &CacheLimits, filters: &CacheFilters) -> Result<Pruned> {
        let usage = self.build_cache()?;
        let total = own_size(&usage);
        let mut pruned = self.prune_to(usage, all, limits.keep(total, self.disk()?.1), filters)?;
        self.sweep_trees();
        pruned.reclaimed += self.sweep_unrecorded()?;
        Ok(pruned)
    }

    /// After a build that began then: prunes the cache if it takes more than the settings allow.
    ///
    /// # Errors
    /// The database; what cannot be removed.
    pub fn collect_build_cache(&self, began: Timestamp) -> Result<Pruned> {
        if !self.cache_policy.gc || !self.measure_cache_mounts(began)? {
            return Ok(Pruned::default());
        }
        let (disk, free) = self.disk()?;
        let limits = self.cache_policy.limits(disk);
        let total = self.db.cache_size()?;
        match limits.keep(total, free) {
            Some(keep) if total > keep => {
                let pruned = self.prune_to(self.cache_usage(false)?, false, Some(keep), &CacheFilters::default())?;
                tracing::debug!("the build cache had {total} bytes, {keep} may stay: {} records are gone", pruned.deleted.len());
                Ok(pruned)
            }
            _ => Ok(Pruned::default()),
        }
    }

    /// Size of the disk below the data root, and what is free of it.
    fn disk(&self) -> Result<(u64, u64)> {
        use crate::base::fs::Context as _;
        let data = &self.privilege.roots.data;
        let stat = rustix::fs::statvfs(data).on("ask for the free space of", data)?;
        Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn prune_to(&self, mut usage: Vec<CacheUsage>, all: bool, keep: Option<u64>, filters: &CacheFilters) -> Result<Pruned> {
        let mut total = own_size(&usage);
        let mut records: HashMap<String, usize> = HashMap::new();
        usage.iter().filter_map(|usage| usage.record.chain_id.clone()).for_each(|chain| *records.entry(chain).or_default() += 1);
        order::leaves_first(&mut usage);
        let mut pruned = Pruned::default();
        for usage in usage {
            if usage.in_use || (usage.shared && !all) || !filters.fits(&usage) {
                continue;
            }
            if keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if !self.forget(&usage, &mut pruned)? {
                continue;
            }
            // A layer goes with the last of its records.
            let left = usage.record.chain_id.as_ref().and_then(|chain| records.get_mut(chain));
            let is_last = left.is_none_or(|left| {
                *left -= 1;
                *left == 0
            });
            if is_last && !usage.shared {
                total = total.saturating_sub(usage.size);
            }
        }
        pruned.reclaimed += crate::image::collect_garbage(&self.privilege.roots, &self.db, false)?;
        Ok(pruned)
    }

    /// False: a build has begun to use it meanwhile.
    fn forget(&self, usage: &CacheUsage, pruned: &mut Pruned) -> Result<bool> {
        let key = &usage.record.key;
        match usage.record.kind {
            CacheKind::Regular => drop(self.db.write(false, |tx| tx.delete_cache(key))?),
            CacheKind::Digests => {
                fs::remove_file(&self.build_area().join(DIGESTS))?;
                pruned.reclaimed += usage.size;
            }
            CacheKind::Download => {
                let Some(_held) = held::lock(&self.downloads(), FlockOperation::NonBlockingLockExclusive)? else { return Ok(false) };
                self.db.write(false, |tx| tx.delete_cache(key))?;
                pruned.reclaimed += self.remove_downloads(&|known| known == digits(key))?;
            }
            CacheKind::Mount => {
                let path = self.cache_mounts().join(digits(key));
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let held = open(&path, flags, Mode::empty()).ok();
                if let Some(held) = &held
                    && flock(held, FlockOperation::NonBlockingLockExclusive).is_err()
                {
                    return Ok(false);
                }
                self.db.write(false, |tx| tx.delete_cache(key))?;
                fs::remove_tree(&path)?;
                pruned.reclaimed += usage.size;
            }
        }
        pruned.deleted.push(digits(key).chars().take(25).collect());
        Ok(true)
    }

    /// Removes files whose address has such digits; their lock is ours. Bytes that they took.
    fn remove_downloads(&self, which: &dyn Fn(&str) -> bool) -> Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.downloads()).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| which(address_digits(name))) {
                bytes += entry.metadata().map_or(0, |meta| meta.blocks() * 512);
                fs::remove_file(&entry.path())?;
            }
        }
        Ok(bytes)
    }

    /// Removes what builds were killed over before they recorded it: cache mounts, and files that were fetched.
    fn sweep_unrecorded(&self) -> Result<u64> {
        let is_known = |name: &str| -> Result<bool> { Ok(self.db.cache_record(&format!("sha256:{name}"))?.is_some()) };
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.cache_mounts()).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            held::sweep(&path, MAKING);
            // Who makes one records it under its lock: asked again once it is ours.
            if !is_known(&name)?
                && let Some(_nobodys) = held::lock(&path, FlockOperation::NonBlockingLockExclusive)?
                && !is_known(&name)?
            {
                bytes += tree_usage(&path).unwrap_or(0);
                fs::remove_tree(&path)?;
            }
        }
        if let Some(_held) = held::lock(&self.downloads(), FlockOperation::NonBlockingLockExclusive)? {
            let records = self.db.cache_records()?;
            let known: HashSet<&str> = records.iter().map(|record| digits(&record.key)).collect();
            bytes += self.remove_downloads(&|digits| !known.contains(digits))?;
        }
        Ok(bytes)
    }
}

/// What the cache holds alone; a layer of several records counts once.
fn own_size(usage: &[CacheUsage]) -> u64 {
    let mut seen = HashSet::new();
    let mut is_new = |usage: &CacheUsage| usage.record.chain_id.as_ref().is_none_or(|chain| seen.insert(chain.clone()));
    usage.iter().filter(|usage| !usage.shared && is_new(usage)).map(|usage| usage.size).sum()
}

/// Of the name of a file that was fetched: those of its address.
fn address_digits(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// The hexadecimal digits of a key.
pub fn digits(key: &str) -> &str {
    key.split_once(':').map_or(key, |(_, digits)| digits)
}

fn is_locked(path: &Path) -> bool {
    let held = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    held.is_ok_and(|held| flock(&held, FlockOperation::NonBlockingLockExclusive).is_err())
}
