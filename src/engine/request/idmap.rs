//! The options of a mount that change whose files it shows: `idmap[=uids=…;gids=…]`, `uid=`, `gid=`.

use crate::state::record::{MountIdmap, ShownMap};

/// `idmap` without a value: by the container's user namespace. With one: `uids=DISK-SHOWN-SIZE[#…][;gids=…]`, where a `@`
/// before a triple says that SHOWN is an id of the container. Maps of one kind serve the other too when that has none.
///
/// # Errors
/// Why the text is no map.
pub fn parse(value: Option<&str>) -> Result<MountIdmap, String> {
    let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(MountIdmap::Container) };
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';') {
        let list = match part.split_once('=') {
            Some(("uids", list)) => list.split('#').map(triple).collect::<Result<Vec<_>, _>>().map(|maps| uids = maps),
            Some(("gids", list)) => list.split('#').map(triple).collect::<Result<Vec<_>, _>>().map(|maps| gids = maps),
            _ => Err(format!("invalid idmap \"{part}\": expected uids=DISK-SHOWN-SIZE or gids=DISK-SHOWN-SIZE")),
        };
        list?;
    }
    if uids.is_empty() {
        uids.clone_from(&gids);
    } else if gids.is_empty() {
        gids.clone_from(&uids);
    }
    Ok(MountIdmap::Maps { uids, gids })
}

fn triple(text: &str) -> Result<ShownMap, String> {
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let numbers: Option<Vec<u32>> = numbers.split('-').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([disk, shown, size]) if *size > 0 && disk.checked_add(*size).is_some() && shown.checked_add(*size).is_some() => {
            Ok(ShownMap { disk: *disk, shown: *shown, size: *size, relative })
        }
        _ => Err(format!("invalid idmap \"{text}\": expected DISK-SHOWN-SIZE with ids below 2^32")),
    }
}

/// `uid=N` or `gid=N`: the owner of the mounted directory is shown as that.
///
/// # Errors
/// The value is no id, or another map was given before.
pub fn owner(idmap: &mut Option<MountIdmap>, key: &str, value: &str) -> Result<(), String> {
    let id: u32 = value.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(|| format!("invalid {key} \"{value}\": expected a number"))?;
    match idmap.get_or_insert(MountIdmap::Owner { uid: None, gid: None }) {
        MountIdmap::Owner { uid, .. } if key == "uid" && uid.is_none() => *uid = Some(id),
        MountIdmap::Owner { gid, .. } if key == "gid" && gid.is_none() => *gid = Some(id),
        _ => return Err(format!("\"{key}={value}\" contradicts or repeats another mapping of ids")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_checked() {
        assert_eq!(parse(None), Ok(MountIdmap::Container));
        let map = |disk, shown, size, relative| ShownMap { disk, shown, size, relative };
        let Ok(MountIdmap::Maps { uids, gids }) = parse(Some("uids=0-1-10#@10-11-10;gids=0-100-10")) else { panic!() };
        assert_eq!((uids, gids), (vec![map(0, 1, 10, false), map(10, 11, 10, true)], vec![map(0, 100, 10, false)]));
        let Ok(MountIdmap::Maps { uids, gids }) = parse(Some("gids=0-5-1")) else { panic!() };
        assert_eq!((uids, gids), (vec![map(0, 5, 1, false)], vec![map(0, 5, 1, false)]));
        for bad in ["x", "uids", "uids=", "uids=1", "uids=1-2", "uids=1-2-0", "uids=a-b-c", "uids=4294967295-0-1", "uids=0-0-1;x=0-0-1"] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_are_told_once() {
        let mut idmap = None;
        owner(&mut idmap, "uid", "5").unwrap();
        owner(&mut idmap, "gid", "6").unwrap();
        assert_eq!(idmap, Some(MountIdmap::Owner { uid: Some(5), gid: Some(6) }));
        assert!(owner(&mut idmap, "uid", "5").is_err() && owner(&mut None, "uid", "x").is_err());
        assert!(owner(&mut Some(MountIdmap::Container), "uid", "5").is_err());
    }
}
