//! How much the cache of builds may take, in BuildKit's terms: `[build]` of the settings, and the flags of `builder prune`.

use crate::base::Space;
use crate::base::settings::{SettingsError, Table};

/// BuildKit's defaults (`cmd/buildkitd/config`): so much of the disk, but at most so many bytes.
const RESERVED: (Space, u64) = (Space::Percent(10), 10_000_000_000);
const MAX_USED: (Space, u64) = (Space::Percent(80), 100_000_000_000);
const MIN_FREE: (Space, u64) = (Space::Percent(20), u64::MAX);

/// `[build]`: what is asked for at the end of each build; None: the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// The cache is looked after at all.
    pub gc: bool,
    pub reserved_space: Option<Space>,
    pub max_used_space: Option<Space>,
    pub min_free_space: Option<Space>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        CachePolicy { gc: true, reserved_space: None, max_used_space: None, min_free_space: None }
    }
}

impl CachePolicy {
    pub(in crate::engine) fn read(&mut self, table: &mut Table<'_>) -> Result<(), SettingsError> {
        let Some(mut section) = table.table("build")? else { return Ok(()) };
        if let Some(gc) = section.boolean("gc")? {
            self.gc = gc;
        }
        let (older, reserved) = (section.space("keep_storage")?, section.space("reserved_space")?);
        if older.is_some() && reserved.is_some() {
            return Err(section.wrong("keep_storage is the older name of reserved_space: give one of them"));
        }
        self.reserved_space = reserved.or(older).or(self.reserved_space);
        self.max_used_space = section.space("max_used_space")?.or(self.max_used_space);
        self.min_free_space = section.space("min_free_space")?.or(self.min_free_space);
        section.finish()
    }

    /// On a disk of so many bytes.
    pub fn limits(&self, disk: u64) -> CacheLimits {
        let bytes = |own: Option<Space>, (usual, most): (Space, u64)| own.map_or_else(|| usual.of(disk).min(most), |own| own.of(disk));
        CacheLimits {
            reserved: bytes(self.reserved_space, RESERVED),
            max_used: bytes(self.max_used_space, MAX_USED),
            min_free: bytes(self.min_free_space, MIN_FREE),
        }
    }
}

/// In bytes; 0: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheLimits {
    /// So much always stays.
    pub reserved: u64,
    /// More than that goes.
    pub max_used: u64,
    /// As long as less of the disk is free, more goes.
    pub min_free: u64,
}

impl CacheLimits {
    /// How much of `total` may stay on a disk with so much space left. None: no limit is given.
    pub fn keep(&self, total: u64, free: u64) -> Option<u64> {
        if *self == CacheLimits::default() {
            return None;
        }
        let most = match (self.max_used, self.min_free) {
            // What is reserved is all that is asked for.
            (0, 0) => 0,
            (0, _) => u64::MAX,
            (most, _) => most,
        };
        let excess = self.min_free.saturating_sub(free);
        let most = if excess > 0 { most.min(total.saturating_sub(excess)) } else { most };
        Some(most.max(self.reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::Source;

    #[test]
    fn what_may_stay_is_what_buildkit_keeps() {
        let keep = |reserved, max_used, min_free, total, free| CacheLimits { reserved, max_used, min_free }.keep(total, free);
        for (limits, expected) in [
            (keep(0, 0, 0, 50, 9), None),
            (keep(20, 0, 0, 50, 9), Some(20)),
            (keep(0, 30, 0, 50, 9), Some(30)),
            (keep(20, 30, 0, 50, 9), Some(30)),
            // More must be free, but not at the cost of what is reserved.
            (keep(0, 30, 29, 50, 9), Some(30)),
            (keep(0, 45, 29, 50, 9), Some(30)),
            (keep(40, 45, 29, 50, 9), Some(40)),
            (keep(0, 45, 99, 50, 9), Some(0)),
            // Enough is free: nothing needs to go.
            (keep(0, 0, 5, 50, 9), Some(u64::MAX)),
            (keep(0, 0, 19, 50, 9), Some(40)),
        ] {
            assert_eq!(limits, expected);
        }
    }

    #[test]
    fn sizes_and_shares_are_read() {
        let read = |text: &str| {
            let (source, mut policy) = (Source::of(text), CachePolicy::default());
            source.table().and_then(|mut table| policy.read(&mut table)).map(|()| policy).map_err(|error| error.to_string())
        };
        let usual = CachePolicy::default();
        assert_eq!(usual.limits(50_000_000_000), CacheLimits { reserved: 5_000_000_000, max_used: 40_000_000_000, min_free: 10_000_000_000 });
        assert_eq!(usual.limits(1_000_000_000_000), CacheLimits { reserved: 10_000_000_000, max_used: 100_000_000_000, min_free: 200_000_000_000 });
        let own = read("[build]\nkeep_storage='5%'\nmax_used_space='2GiB'\nmin_free_space=0\ngc=false").unwrap();
        assert_eq!((own.gc, own.limits(1000)), (false, CacheLimits { reserved: 50, max_used: 2 << 30, min_free: 0 }));
        for (text, words) in [
            ("[build]\nkeep_storage=1\nreserved_space=1", "older name"),
            ("[build]\nmax_used_space='101%'", "line 2: build.max_used_space"),
            ("[build]\nmax_used_spaec=1", "did you mean max_used_space?"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
