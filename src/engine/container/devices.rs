//! Device nodes and device rules: `--device`, `--device-cgroup-rule`, `--privileged`.

use super::super::{Error, Result};
use crate::base::fs::FsError;
use crate::state::record::HostSpec;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Below `/dev` of the host: file systems that the container has its own of, and the console.
const NOT_SHARED: &[&str] = &["pts", "shm", "mqueue", "fd", "console", ".lxc", ".lxd-mounts", ".udev"];
/// `/dev` is two levels deep at most (`/dev/bus/usb/001/002` is four).
const DEPTH_LIMIT: usize = 6;

/// A device of the host as the container will see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HostDevice {
    pub path: PathBuf,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Subset of `rwm`.
    pub access: String,
}

/// Looks the asked-for devices up on the host.
///
/// # Errors
/// A device does not exist or is no device.
pub(super) fn look_up(host: &HostSpec) -> Result<Vec<HostDevice>> {
    let mut found = Vec::new();
    if host.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", 0, &mut found)?;
    }
    for device in &host.devices {
        if device.access.is_empty() || device.access.chars().any(|c| !matches!(c, 'r' | 'w' | 'm')) {
            return Err(Error::invalid(format!("invalid device mode \"{}\": only r, w and m are possible", device.access)));
        }
        let stat = std::fs::metadata(&device.host).map_err(|source| FsError { operation: "find device", path: device.host.clone(), source })?;
        if stat.is_dir() {
            walk(&device.host, &device.container, &device.access, 0, &mut found)?;
        } else {
            let Some(one) = describe(&stat, device.container.clone(), &device.access) else {
                return Err(Error::invalid(format!("{} is not a device", device.host.display())));
            };
            found.retain(|d| d.path != one.path);
            found.push(one);
        }
    }
    Ok(found)
}

fn describe(stat: &std::fs::Metadata, path: PathBuf, access: &str) -> Option<HostDevice> {
    let block = stat.file_type().is_block_device();
    if !block && !stat.file_type().is_char_device() {
        return None;
    }
    let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
    Some(HostDevice { path, block, major, minor, mode: stat.mode() & 0o7777, uid: stat.uid(), gid: stat.gid(), access: access.to_owned() })
}

fn walk(host: &Path, container: &Path, access: &str, depth: usize, found: &mut Vec<HostDevice>) -> Result<()> {
    let failed = |source| FsError { operation: "list", path: host.to_path_buf(), source };
    if depth > DEPTH_LIMIT {
        return Ok(());
    }
    for entry in std::fs::read_dir(host).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if NOT_SHARED.iter().any(|n| name == *n) {
            continue;
        }
        // Not followed: links in /dev point to devices that are listed anyway. Gone meanwhile: unplugged.
        let Ok(stat) = std::fs::symlink_metadata(entry.path()) else { continue };
        let target = container.join(&name);
        if stat.is_dir() {
            walk(&entry.path(), &target, access, depth + 1, found)?;
        } else if let Some(device) = describe(&stat, target, access) {
            found.retain(|d| d.path != device.path);
            found.push(device);
        }
    }
    Ok(())
}

/// The OCI `devices` section (the default nodes are the runtime's).
pub(super) fn nodes(devices: &[HostDevice]) -> Vec<LinuxDevice> {
    devices
        .iter()
        .map(|d| {
            let mut node = LinuxDevice::default();
            node.set_path(d.path.clone())
                .set_typ(if d.block { LinuxDeviceType::B } else { LinuxDeviceType::C })
                .set_major(i64::from(d.major))
                .set_minor(i64::from(d.minor))
                .set_file_mode(Some(d.mode))
                .set_uid(Some(d.uid))
                .set_gid(Some(d.gid));
            node
        })
        .collect()
}

fn rule(allow: bool, typ: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(typ)).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}

/// Device rules in order: deny all, Docker's defaults, the devices, the typed rules; or allow all (privileged).
pub(super) fn rules(host: &HostSpec, devices: &[HostDevice]) -> Result<Vec<LinuxDeviceCgroup>> {
    use LinuxDeviceType::{A, B, C};
    if host.privileged {
        return Ok(vec![rule(true, A, None, None, "rwm")]);
    }
    let mut rules = vec![rule(false, A, None, None, "rwm"), rule(true, C, None, None, "m"), rule(true, B, None, None, "m")];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, C, Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, C, Some(136), None, "rwm"));
    rules.extend(devices.iter().map(|d| rule(true, if d.block { B } else { C }, Some(i64::from(d.major)), Some(i64::from(d.minor)), &d.access)));
    for text in &host.device_rules {
        rules.push(parse_rule(text).ok_or_else(|| Error::Invalid {
            message: format!("invalid device cgroup rule \"{text}\""),
            hint: Some("give --device-cgroup-rule as 'c 42:* rmw'".to_owned()),
        })?);
    }
    Ok(rules)
}

fn parse_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [kind, numbers, access] = words.as_slice() else { return None };
    let typ = match *kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let number = |t: &str| if t == "*" { Some(None) } else { t.parse::<u32>().ok().map(|n| Some(i64::from(n))) };
    let (major, minor) = numbers.split_once(':')?;
    if access.chars().any(|c| !matches!(c, 'r' | 'w' | 'm')) {
        return None;
    }
    Some(rule(true, typ, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::Device;

    #[test]
    fn rules_are_read_strictly() {
        assert_eq!(parse_rule("c 42:* rmw").unwrap().major(), Some(42));
        for bad in ["", "c 42:*", "x 1:1 r", "c 1 r", "c 1:1 rx", "c -1:1 r"] {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn host_devices_are_found_and_files_refused() {
        let device = |path: &str| HostSpec {
            devices: vec![Device { host: path.into(), container: "/dev/x".into(), access: "rw".into() }],
            ..HostSpec::default()
        };
        let found = look_up(&device("/dev/null")).unwrap();
        assert_eq!((found[0].major, found[0].minor, found[0].block), (1, 3, false));
        assert_eq!(rules(&device("/dev/null"), &found).unwrap().len(), 13);
        assert!(look_up(&device("/etc/passwd")).is_err());
        assert!(look_up(&device("/dev/none")).is_err());
        let all = look_up(&HostSpec { privileged: true, ..HostSpec::default() }).unwrap();
        assert!(all.iter().any(|d| d.path == Path::new("/dev/null")) && !all.iter().any(|d| d.path.starts_with("/dev/pts")));
    }
}
