//! Which records of the cache go first.
//!
//! Invariant: a record goes before those whose layers it starts from. Keys name the layers below, so that a step whose
//! beginning is forgotten is never found again.

use super::CacheUsage;
use crate::base::Timestamp;
use std::collections::HashMap;

/// The one used longest ago first, each before what it starts from: that counts as used as lately as whatever starts from it.
pub(super) fn leaves_first(usage: &mut [CacheUsage]) {
    let records = || usage.iter().map(|usage| &usage.record);
    let below: HashMap<&str, Option<&str>> = records().filter_map(|record| Some((record.chain_id.as_deref()?, record.below.as_deref()))).collect();
    // Layers from the record's own down; no chain has more of them than there are.
    let chain = |usage: &CacheUsage| -> Vec<String> {
        let top = usage.record.chain_id.as_deref().or(usage.record.below.as_deref());
        let known = std::iter::successors(top, |chain| below.get(chain).copied().flatten());
        known.take_while(|chain| below.contains_key(chain)).take(below.len()).map(str::to_owned).collect()
    };
    let mut latest: HashMap<String, Timestamp> = HashMap::new();
    for one in usage.iter() {
        for layer in chain(one) {
            let used = latest.entry(layer).or_insert(one.record.used);
            *used = (*used).max(one.record.used);
        }
    }
    let place = |usage: &CacheUsage| {
        let own = usage.record.chain_id.as_ref().and_then(|chain| latest.get(chain)).copied();
        // What adds no layer is above the one that it starts from.
        let depth = 2 * chain(usage).len() + usize::from(usage.record.chain_id.is_none());
        (own.unwrap_or(usage.record.used), std::cmp::Reverse(depth))
    };
    let mut places: HashMap<String, _> = usage.iter().map(|usage| (usage.record.key.clone(), place(usage))).collect();
    usage.sort_by_cached_key(|usage| places.remove(&usage.record.key));
}
