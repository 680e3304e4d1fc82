//! `--userns`, `--uidmap`, `--gidmap`: user namespaces on request.

use super::FlagError;
use crate::state::record::{AutoUserns, IdMap, UsernsMode};

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
/// An unsupported mode, a malformed or overlapping map, or maps together with `--userns`.
pub fn parse(userns: Option<&str>, uids: &[String], gids: &[String]) -> Result<UsernsMode, FlagError> {
    let mode = userns.filter(|text| !text.is_empty());
    if let Some(text) = mode.filter(|text| *text != "private") {
        let parsed = parse_mode(text)?;
        if !uids.is_empty() || !gids.is_empty() {
            return Err(FlagError::new("--userns", text, "it conflicts with --uidmap and --gidmap"));
        }
        return Ok(parsed);
    }
    if uids.is_empty() && gids.is_empty() {
        return match mode {
            Some(text) => Err(FlagError::new("--userns", text, "give the maps with --uidmap and --gidmap, or use auto")),
            None => Ok(UsernsMode::Host),
        };
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

fn parse_mode(text: &str) -> Result<UsernsMode, FlagError> {
    let wrong = |reason: &str| FlagError::new("--userns", text, reason);
    let (mode, options) = text.split_once(':').map_or((text, None), |(mode, options)| (mode, Some(options)));
    match (mode, options) {
        ("host", None) => Ok(UsernsMode::Host),
        ("auto", options) => parse_auto(text, options.unwrap_or_default()).map(UsernsMode::Auto),
        ("container", Some(name)) if !name.is_empty() => {
            Ok(UsernsMode::Container { id: name.to_owned(), root: String::new(), uids: Vec::new(), gids: Vec::new() })
        }
        ("container", _) => Err(wrong("the container is missing after \"container:\"")),
        // Podman refuses both to root, too: they are about the id of the user who has no other.
        ("keep-id" | "nomap", _) => Err(wrong(
            "this mode is about the ids of a user without rights and means nothing for root: use auto, --uidmap and --gidmap, \
             or mount with idmap, uid= and gid= to have other owners shown",
        )),
        ("ns", Some(path)) if path.starts_with('/') => Ok(UsernsMode::Path { path: path.into(), uids: Vec::new(), gids: Vec::new() }),
        ("ns", _) => Err(wrong("expected ns: and the absolute path of a user namespace, such as /proc/PID/ns/user")),
        _ => Err(wrong("expected host, auto, container:NAME or ns:PATH; or give the maps with --uidmap and --gidmap")),
    }
}

/// `size=N`, `uidmapping=C:H:N`, `gidmapping=C:H:N`, separated by commas.
fn parse_auto(text: &str, options: &str) -> Result<AutoUserns, FlagError> {
    let mut auto = AutoUserns::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => {
                let size = value.parse().ok().filter(|size| *size > 0);
                auto.size = Some(size.ok_or_else(|| FlagError::new("--userns", text, format!("invalid size \"{value}\"")))?);
            }
            Some(("uidmapping", value)) => auto.uids.push(parse_map("--userns auto:uidmapping", value)?),
            Some(("gidmapping", value)) => auto.gids.push(parse_map("--userns auto:gidmapping", value)?),
            _ => return Err(FlagError::new("--userns", text, format!("unknown option \"{option}\": expected size, uidmapping or gidmapping"))),
        }
    }
    if overlap(&auto.uids).is_some() || overlap(&auto.gids).is_some() {
        return Err(FlagError::new("--userns", text, "its maps overlap"));
    }
    Ok(auto)
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
        assert_eq!(parse(Some("auto"), &[], &[]).unwrap(), UsernsMode::Auto(AutoUserns::default()));
        let UsernsMode::Auto(auto) = parse(Some("auto:size=9,uidmapping=1:7:2,gidmapping=0:5:1"), &[], &[]).unwrap() else { panic!() };
        assert_eq!((auto.size, auto.uids, auto.gids.len()), (Some(9), vec![IdMap { container: 1, host: 7, size: 2 }], 1));
        assert!(matches!(parse(Some("container:a"), &[], &[]), Ok(UsernsMode::Container { .. })));
        assert!(matches!(parse(Some("ns:/run/ns"), &[], &[]), Ok(UsernsMode::Path { path, .. }) if path == std::path::Path::new("/run/ns")));
        assert!(parse(Some("private"), &map("0:5:9"), &[]).is_ok());
        for (bad, word) in [
            ("auto:x=1", "unknown option"),
            ("auto:size=0", "size"),
            ("auto:uidmapping=0:0:2,uidmapping=1:5:1", "overlap"),
            ("container:", "missing"),
            ("keep-id:uid=5", "for root"),
            ("nomap", "for root"),
            ("ns:x", "absolute"),
            ("ns", "absolute"),
            ("private", "--uidmap"),
            ("x", "expected host"),
        ] {
            let error = parse(Some(bad), &[], &[]).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!(parse(Some("host"), &map("0:0:1"), &[]).is_err() && parse(Some("keep-id"), &[], &[]).is_err());
    }
}
