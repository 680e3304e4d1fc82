//! The ids that `--userns auto` lends out, and the maps made of them.

use super::super::{Engine, Result};
use crate::state::Tx;
use crate::state::record::{Container, HostSpec, IdMap, UsernsMode};
use std::path::Path;

/// Ids of a container that does not say how many it needs: every id that 16 bits can name.
const SIZE: u32 = 65_536;
/// Whose ids in /etc/subuid and /etc/subgid are meant for containers (Podman's name for it).
const NAME: &str = "containers";
/// Without settings and without such an entry: a range that neither login tools nor systemd give to anybody
/// (systemd's UIDS-GIDS.md, "Summary").
const POOL: (u32, u32) = (0x7000_0000, 0x0FFE_0000);

impl Engine {
    /// The ranges that ids are lent from, as first id and size.
    pub(super) fn id_pool(&self) -> Vec<(u32, u32)> {
        if !self.id_pool.is_empty() {
            return self.id_pool.clone();
        }
        let of = |path: &str| ranges(&std::fs::read_to_string(Path::new(path)).unwrap_or_default());
        let both = common(&of("/etc/subuid"), &of("/etc/subgid"));
        if both.is_empty() { vec![POOL] } else { both }
    }
}

/// Lends ids to a container that asks for them, in the transaction of its record, which has its maps after that.
///
/// # Errors
/// The pool has no room left.
pub(super) fn lend(tx: &Tx<'_>, record: &mut Container, pool: &[(u32, u32)]) -> Result<()> {
    let UsernsMode::Auto(auto) = &record.spec.host.userns else { return Ok(()) };
    let size = auto.size.unwrap_or(SIZE);
    let needed = gaps(size, &auto.uids).max(gaps(size, &auto.gids));
    let first = if needed == 0 { 0 } else { tx.lease_ids(pool, needed, &record.id)? };
    let asked = auto.clone();
    record.spec.host.userns = UsernsMode::Mapped { uids: filled(size, &asked.uids, first), gids: filled(size, &asked.gids, first) };
    record.spec.host.auto_userns = Some(asked);
    Ok(())
}

/// Ids are lent to one container only: a copy of its settings asks for its own.
pub(super) fn ask_again(host: &mut HostSpec) {
    if let Some(auto) = host.auto_userns.take() {
        host.userns = UsernsMode::Auto(auto);
    }
}

/// Ids below `size` that no given map has.
fn gaps(size: u32, given: &[IdMap]) -> u32 {
    pieces(size, given).iter().map(|(_, length)| length).sum()
}

/// First id and length of what lies between the given maps.
fn pieces(size: u32, given: &[IdMap]) -> Vec<(u32, u32)> {
    let mut sorted: Vec<&IdMap> = given.iter().collect();
    sorted.sort_by_key(|map| map.container);
    let (mut at, mut found) = (0, Vec::new());
    for map in sorted {
        let until = map.container.min(size);
        if until > at {
            found.push((at, until - at));
        }
        at = at.max(map.container + map.size);
    }
    if size > at {
        found.push((at, size - at));
    }
    found
}

/// The given maps, and the rest from `first` on.
fn filled(size: u32, given: &[IdMap], first: u32) -> Vec<IdMap> {
    let mut maps = given.to_vec();
    let mut host = first;
    for (container, length) in pieces(size, given) {
        maps.push(IdMap { container, host, size: length });
        host += length;
    }
    maps.sort_by_key(|map| map.container);
    maps
}

/// The ranges of [`NAME`] in a file of the form of subuid(5).
fn ranges(text: &str) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let (name, first, size) = (fields.next()?, fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse::<u32>().ok()?);
        (name == NAME && size > 0).then_some((first, size))
    };
    text.lines().filter_map(line).collect()
}

/// What both have.
fn common(a: &[(u32, u32)], b: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let end = |(first, size): (u32, u32)| u64::from(first) + u64::from(size);
    let mut found = Vec::new();
    for one in a {
        for other in b {
            let first = one.0.max(other.0);
            let size = end(*one).min(end(*other)).saturating_sub(u64::from(first));
            found.extend(u32::try_from(size).ok().filter(|size| *size > 0).map(|size| (first, size)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    #[test]
    fn given_maps_are_kept_and_the_rest_is_lent() {
        assert_eq!(filled(10, &[], 100), [map(0, 100, 10)]);
        assert_eq!(filled(10, &[map(3, 7, 2)], 100), [map(0, 100, 3), map(3, 7, 2), map(5, 103, 5)]);
        assert_eq!(filled(10, &[map(8, 7, 5), map(0, 1, 1)], 100), [map(0, 1, 1), map(1, 100, 7), map(8, 7, 5)]);
        assert_eq!((gaps(10, &[map(3, 7, 2)]), gaps(10, &[map(0, 5, 20)]), gaps(10, &[map(50, 5, 1)])), (8, 0, 10));
    }

    #[test]
    fn the_pool_is_what_both_files_have() {
        let text = "root:1:5\ncontainers:100000:1000\n# x\ncontainers:bad\ncontainers:300000:10\n";
        assert_eq!(ranges(text), [(100_000, 1000), (300_000, 10)]);
        assert_eq!(common(&[(100, 50), (300, 10)], &[(120, 200)]), [(120, 30), (300, 10)]);
        assert_eq!(common(&[(0, 10)], &[(10, 10)]), []);
    }
}
