//! The cache of builds: what it takes, and giving it back.

use super::observe::tree_usage;
use super::*;
use crate::base::fs;
use crate::engine::filter;
use crate::state::build::{CacheKind, CacheRecord};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::path::PathBuf;

const KNOWN: &[&str] = &["until", "unused-for", "type", "id", "inuse", "shared"];

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
    /// Where the directories of cache mounts are, each under the digits of its key.
    pub fn cache_mounts(&self) -> PathBuf {
        self.privilege.roots.data.join("build").join("mounts")
    }

    /// Every record, the one used longest ago first.
    ///
    /// # Errors
    /// The database cannot be read. A directory that cannot be measured counts nothing.
    pub fn build_cache(&self) -> Result<Vec<CacheUsage>> {
        let shared = self.db.layers_of_images()?;
        let mut found = Vec::new();
        for record in self.db.cache_records()? {
            let layer = record.chain_id.as_deref().map(|chain| self.db.layer(chain)).transpose()?.flatten();
            let directory = match (&layer, record.kind) {
                (Some(row), _) => Some(self.privilege.roots.layers().join(&row.dir)),
                (None, CacheKind::Regular) => None,
                (None, _) => Some(self.cache_mounts().join(digits(&record.key))),
            };
            found.push(CacheUsage {
                size: directory.as_deref().map_or(0, |path| tree_usage(path).unwrap_or(0)),
                shared: record.chain_id.as_ref().is_some_and(|chain| shared.contains(chain)),
                in_use: record.kind != CacheKind::Regular && directory.as_deref().is_some_and(is_locked),
                record,
            });
        }
        Ok(found)
    }

    /// Those that fit the filters.
    ///
    /// # Errors
    /// `Invalid` for a filter; the database.
    pub fn filtered_build_cache(&self, filters: &Filters) -> Result<Vec<CacheUsage>> {
        filter::require_known(filters, KNOWN)?;
        let mut found = Vec::new();
        for usage in self.build_cache()? {
            if matches(&usage, filters)? {
                found.push(usage);
            }
        }
        Ok(found)
    }

    /// Forgets records and frees what only they needed. Without `all` those that images share stay, for they cost nothing.
    /// `keep`: bytes that may stay, of those used last.
    ///
    /// # Errors
    /// `Invalid` for a filter; what cannot be removed.
    pub fn prune_build_cache(&self, all: bool, keep: Option<u64>, filters: &Filters) -> Result<Pruned> {
        filter::require_known(filters, KNOWN)?;
        let usage = self.build_cache()?;
        let mut total: u64 = usage.iter().filter(|usage| !usage.shared).map(|usage| usage.size).sum();
        let mut pruned = Pruned::default();
        for usage in usage {
            if usage.in_use || (usage.shared && !all) || !matches(&usage, filters)? {
                continue;
            }
            if keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if self.forget(&usage, &mut pruned)? && !usage.shared {
                total = total.saturating_sub(usage.size);
            }
        }
        pruned.reclaimed += crate::image::collect_garbage(&self.privilege.roots, &self.db, false)?;
        Ok(pruned)
    }

    /// False: a build has begun to use it meanwhile.
    fn forget(&self, usage: &CacheUsage, pruned: &mut Pruned) -> Result<bool> {
        let key = &usage.record.key;
        if usage.record.kind == CacheKind::Regular {
            self.db.write(false, |tx| tx.delete_cache(key))?;
        } else {
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
        pruned.deleted.push(digits(key).chars().take(25).collect());
        Ok(true)
    }
}

/// The hexadecimal digits of a key.
pub fn digits(key: &str) -> &str {
    key.split_once(':').map_or(key, |(_, digits)| digits)
}

fn is_locked(path: &Path) -> bool {
    let held = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    held.is_ok_and(|held| flock(&held, FlockOperation::NonBlockingLockExclusive).is_err())
}

fn matches(usage: &CacheUsage, filters: &Filters) -> Result<bool> {
    let now = Timestamp::now();
    for (key, value) in filters {
        let fits = match key.as_str() {
            "until" | "unused-for" => {
                let before = filter::parse_time(value, now)
                    .ok_or_else(|| Error::invalid(format!("invalid filter '{key}={value}': not a time or duration")))?;
                usage.record.used < before
            }
            "type" => usage.record.kind.name() == value,
            "id" => digits(&usage.record.key).starts_with(value.as_str()),
            "inuse" => usage.in_use == (value != "false"),
            _ => usage.shared == (value != "false"),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
