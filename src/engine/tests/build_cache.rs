//! What the cache of builds may take, and what killed builds left.

use super::*;
use crate::base::Space;
use crate::state::build::{CacheKind, CacheRecord};
use rustix::fs::FlockOperation;

/// A record of the cache that was used at that time.
fn record(name: &str, kind: CacheKind, (chain_id, below): (Option<&str>, Option<&str>), used: i64) -> CacheRecord {
    let (at, owned) = (Timestamp::from_nanos(used), |chain: Option<&str>| chain.map(str::to_owned));
    let (chain_id, below, description) = (owned(chain_id), owned(below), String::new());
    CacheRecord { key: name.to_owned(), chain_id, below, kind, description, created: at, used: at, uses: 0, size: 0 }
}

/// A cache mount of 8 KiB that was used at that time.
fn mount(bed: &Bed, used: i64) -> String {
    let key = format!("sha256:{used:064x}");
    let data = bed.engine.cache_mounts().join(cache_digits(&key)).join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), [1; 8192]).unwrap();
    bed.engine.db.write(false, |tx| tx.put_cache(&record(&key, CacheKind::Mount, (None, None), used))).unwrap();
    key
}

#[test]
fn a_build_leaves_no_more_than_the_settings_allow() {
    let mut bed = Bed::new();
    let keys: Vec<String> = (1..=4).map(|used| mount(&bed, used)).collect();
    assert!(bed.engine.measure_cache_mounts(Timestamp::now()).unwrap());
    let each = bed.engine.db.cache_size().unwrap() / 4;
    assert!(each >= 8192);
    // Within the limits nothing goes; nor with too few bytes free, as long as it is what is reserved.
    let usual = CachePolicy { min_free_space: Some(Space::Percent(100)), reserved_space: Some(Space::Bytes(4 * each)), ..CachePolicy::default() };
    bed.engine.cache_policy = usual;
    assert!(bed.engine.collect_build_cache(Timestamp::now()).unwrap().deleted.is_empty());
    bed.engine.cache_policy = CachePolicy { gc: false, reserved_space: Some(Space::Bytes(0)), ..usual };
    assert!(bed.engine.collect_build_cache(Timestamp::now()).unwrap().deleted.is_empty());
    // The one used longest ago is in use: the next goes.
    let first = bed.engine.cache_mounts().join(cache_digits(&keys[0]));
    let held = crate::base::held::lock(&first, FlockOperation::LockShared).unwrap();
    let most = Some(Space::Bytes(3 * each));
    bed.engine.cache_policy =
        CachePolicy { max_used_space: most, reserved_space: Some(Space::Bytes(0)), min_free_space: Some(Space::Bytes(0)), gc: true };
    assert_eq!(bed.engine.collect_build_cache(Timestamp::now()).unwrap().deleted.len(), 1);
    drop(held);
    let left: Vec<String> = bed.engine.build_cache().unwrap().into_iter().map(|usage| usage.record.key).collect();
    assert_eq!(left, [&keys[0], &keys[2], &keys[3]].map(Clone::clone));
    assert_eq!((bed.engine.db.cache_size().unwrap(), bed.engine.collect_build_cache(Timestamp::now()).unwrap().deleted.len()), (3 * each, 0));
}

#[test]
fn downloads_and_digests_are_counted_and_pruned() {
    let bed = Bed::new();
    let area = bed.engine.build_area();
    let address = crate::oci::Digest::of(b"http://host/file");
    std::fs::create_dir_all(area.join(DOWNLOADS)).unwrap();
    let files = [format!("{}.json", address.hex()), format!("{}.0123", address.hex()), "feed.0123".to_owned()];
    files.iter().for_each(|name| std::fs::write(area.join(DOWNLOADS).join(name), [1; 4096]).unwrap());
    std::fs::write(area.join(DIGESTS), [1; 4096]).unwrap();
    bed.engine.note_download(&address, "ADD http://host/file", 4096).unwrap();
    bed.engine.note_download(&address, "ADD http://host/file", 4096).unwrap();
    let usage = bed.engine.build_cache().unwrap();
    let mut seen: Vec<_> = usage.iter().map(|one| (one.record.kind.name(), one.size, one.record.uses)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("internal", 4096, 0), ("source.http", 8192, 1)]);
    // A build looks at one: it stays, and so does what nobody has recorded yet.
    let held = crate::base::held::lock(&area.join(DOWNLOADS), FlockOperation::LockShared).unwrap();
    let prune = || bed.engine.prune_build_cache(false, &CacheLimits::default(), &CacheFilters::default()).unwrap();
    assert_eq!(prune().deleted.len(), 1);
    assert!(!area.join(DIGESTS).exists() && std::fs::read_dir(area.join(DOWNLOADS)).unwrap().count() == 3);
    drop(held);
    let pruned = prune();
    assert_eq!((pruned.deleted.len(), pruned.reclaimed), (1, 12288));
    assert_eq!(std::fs::read_dir(area.join(DOWNLOADS)).unwrap().count(), 0);
}

#[test]
fn what_killed_builds_left_is_removed_and_what_living_ones_hold_stays() {
    let bed = Bed::new();
    let (area, mounts) = (bed.engine.build_area(), bed.engine.cache_mounts());
    let recorded = mounts.join(cache_digits(&mount(&bed, 1)));
    let dirs = [area.join("trees/dead"), area.join("trees/living"), mounts.join("dead"), mounts.join("living"), recorded.join("making-dead")];
    dirs.iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
    let _held: Vec<_> = [1, 3].map(|at| crate::base::held::lock(&dirs[at], FlockOperation::LockExclusive).unwrap()).into();
    let filters = CacheFilters::read(&[("type".to_owned(), "regular".to_owned())]).unwrap();
    bed.engine.prune_build_cache(false, &CacheLimits::default(), &filters).unwrap();
    assert_eq!(dirs.map(|dir| dir.exists()), [false, true, false, true, false]);
    assert!(recorded.join("data/file").exists(), "the filter does not mean it");
}

#[test]
fn what_others_start_from_goes_after_them_and_a_layer_with_its_last_record() {
    let mut bed = Bed::new();
    let layers = ["one", "two", "three", "other"];
    let image = bed.image(1, &layers, &[]);
    bed.engine.db.write(false, |tx| tx.delete_image(&image)).unwrap();
    let steps = [
        ("one", Some("chain-one"), None, 1),
        ("two", Some("chain-two"), Some("chain-one"), 2),
        ("three", Some("chain-three"), Some("chain-two"), 9),
        ("again", Some("chain-three"), Some("chain-two"), 3),
        ("nothing", None, Some("chain-two"), 3),
        ("other", Some("chain-other"), None, 5),
    ];
    for (name, chain, below, used) in steps {
        bed.engine.db.write(false, |tx| tx.put_cache(&record(name, CacheKind::Regular, (chain, below), used))).unwrap();
    }
    // Each layer has one byte, whatever names it.
    assert_eq!(bed.engine.db.cache_size().unwrap(), 4);
    for (most, expected) in [(3, "again one three two"), (2, "one two"), (1, "one")] {
        let (max_used_space, nothing) = (Some(Space::Bytes(most)), Some(Space::Bytes(0)));
        bed.engine.cache_policy = CachePolicy { max_used_space, reserved_space: nothing, min_free_space: nothing, gc: true };
        bed.engine.collect_build_cache(Timestamp::now()).unwrap();
        let mut left: Vec<String> = bed.engine.db.cache_records().unwrap().into_iter().map(|record| record.key).collect();
        left.sort_unstable();
        assert_eq!((left.join(" ").as_str(), bed.engine.db.cache_size().unwrap()), (expected, most));
    }
}

#[test]
fn a_mount_is_measured_if_it_was_used_or_nobody_knows_what_it_takes() {
    let bed = Bed::new();
    let keys = [mount(&bed, 1), mount(&bed, 2), mount(&bed, 3)];
    keys[..2].iter().for_each(|key| bed.engine.db.write(false, |tx| tx.size_cache(key, 7)).unwrap());
    let sizes = || keys.each_ref().map(|key| bed.engine.db.cache_record(key).unwrap().unwrap().size);
    assert_eq!(sizes(), [7, 7, 0]);
    bed.engine.collect_build_cache(Timestamp::from_nanos(2)).unwrap();
    let [old, used, unknown] = sizes();
    assert!(old == 7 && used >= 8192 && unknown == used, "{:?}", sizes());
}
