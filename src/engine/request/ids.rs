//! `--userns`, `--uidmap`, `--gidmap`: user namespaces on request.

use super::FlagError;
use crate::state::record::{IdMap, UsernsMode};

/// One mapping `container:host:size`.
fn parse_map(flag: &'static str, text: &str) -> Result<IdMap, FlagError> {
    let wrong = |reason: &str| FlagError::new(flag, text, reason);
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    let (container, host, size) = match numbers.as_deref() {
        Some([container, host]) => (*container, *host, 1),
        Some([container, host, size]) => (*container, *host, *size),
        _ => return Err(wrong("expected container:host:size")),
    };
    if size == 0 || container.checked_add(size).is_none() || host.checked_add(size).is_none() {
        return Err(wrong("the size must be positive and the ids below 2^32"));
    }
    Ok(IdMap { container, host, size })
}

/// The user namespace of a request. Maps of one kind serve the other kind too when that has none.
///
/// # Errors
/// An unsupported mode, a malformed or overlapping map, or maps together with `--userns host`.
pub fn parse(userns: Option<&str>, uids: &[String], gids: &[String]) -> Result<UsernsMode, FlagError> {
    let host = match userns {
        None | Some("") => false,
        Some("host") => true,
        Some(other) => return Err(FlagError::new("--userns", other, "expected host; a private one is asked for with --uidmap and --gidmap")),
    };
    if uids.is_empty() && gids.is_empty() {
        return Ok(UsernsMode::Host);
    }
    if host {
        return Err(FlagError::new("--userns", "host", "it conflicts with --uidmap and --gidmap"));
    }
    let list = |flag: &'static str, texts: &[String]| {
        let maps = texts.iter().map(|text| parse_map(flag, text)).collect::<Result<Vec<_>, _>>()?;
        match overlap(&maps) {
            Some(i) => Err(FlagError::new(flag, &texts[i], "it overlaps another map")),
            None => Ok(maps),
        }
    };
    let (mut uids, mut gids) = (list("--uidmap", uids)?, list("--gidmap", gids)?);
    if uids.is_empty() {
        uids.clone_from(&gids);
    } else if gids.is_empty() {
        gids.clone_from(&uids);
    }
    Ok(UsernsMode::Mapped { uids, gids })
}

/// Index of the first map that overlaps an earlier one on either side.
fn overlap(maps: &[IdMap]) -> Option<usize> {
    let meet = |a: u32, b: u32, size_a: u32, size_b: u32| a < b.saturating_add(size_b) && b < a.saturating_add(size_a);
    (0..maps.len()).find(|&i| {
        maps[..i].iter().any(|m| meet(m.container, maps[i].container, m.size, maps[i].size) || meet(m.host, maps[i].host, m.size, maps[i].size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_modes() {
        let map = |text: &str| vec![text.to_owned()];
        assert_eq!(parse(None, &[], &[]).unwrap(), UsernsMode::Host);
        assert_eq!(parse(Some("host"), &[], &[]).unwrap(), UsernsMode::Host);
        let UsernsMode::Mapped { uids, gids } = parse(None, &map("0:100000:65536"), &[]).unwrap() else { panic!() };
        assert_eq!((uids[0], uids.clone()), (IdMap { container: 0, host: 100_000, size: 65_536 }, gids));
        for bad in ["", "0", "0:1:0", "a:b:c", "0:1:2:3", "4294967295:0:2"] {
            assert!(parse(None, &map(bad), &[]).is_err(), "{bad}");
        }
        assert!(parse(None, &["0:0:10".into(), "5:100:10".into()], &[]).is_err());
        assert!(parse(Some("host"), &map("0:0:1"), &[]).is_err() && parse(Some("keep-id"), &[], &[]).is_err());
    }
}
