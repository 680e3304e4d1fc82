//! Device nodes and links of the container's /dev.

use super::{Error, Step};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use std::path::{Path, PathBuf};

/// Name, minor number (major 1 but for tty): the devices that every container has (OCI config-linux, default devices).
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) struct DeviceStep {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum DeviceKind {
    Character,
    Block,
    Fifo,
}

pub(super) fn device_steps(linux: Option<&Linux>) -> Result<Vec<Step>, Error> {
    let mut devices: Vec<DeviceStep> = DEFAULT_DEVICES
        .iter()
        .map(|(name, major, minor)| DeviceStep {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Character,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        let step = device_step(device)?;
        devices.retain(|known| known.path != step.path);
        devices.push(step);
    }
    Ok(devices.into_iter().map(Step::Device).collect())
}

fn device_step(device: &LinuxDevice) -> Result<DeviceStep, Error> {
    let path = device.path().clone();
    let wrong = |what: &str| Error::Invalid(format!("device \"{}\" has {what}", path.display()));
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(wrong("no absolute path"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(wrong("no type that can be made")),
    };
    // Numbers that are left out read as 0, which no device has.
    if kind != DeviceKind::Fifo && (device.major(), device.minor()) == (0, 0) {
        return Err(wrong("no major and minor numbers, which only a fifo (type \"p\") does without"));
    }
    // -1 is nobody's: chown(2) would leave the owner as it is.
    if device.uid() == Some(u32::MAX) || device.gid() == Some(u32::MAX) {
        return Err(wrong("an owner that no user or group can be"));
    }
    let number = |value: i64| u32::try_from(value).map_err(|_| wrong("an invalid number"));
    let (major, minor) = if kind == DeviceKind::Fifo { (0, 0) } else { (number(device.major())?, number(device.minor())?) };
    Ok(DeviceStep {
        kind,
        major,
        minor,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

pub(super) fn link_steps() -> [Step; 6] {
    [
        Step::Link("/dev/ptmx", "pts/ptmx"),
        Step::Link("/dev/fd", "/proc/self/fd"),
        Step::Link("/dev/stdin", "/proc/self/fd/0"),
        Step::Link("/dev/stdout", "/proc/self/fd/1"),
        Step::Link("/dev/stderr", "/proc/self/fd/2"),
        Step::Link("/dev/core", "/proc/kcore"),
    ]
}
