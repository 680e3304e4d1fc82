//! The size of a plain volume: a project of its own on ext4 and XFS, a subvolume with a quota group on btrfs.
//!
//! Nothing of it is recorded: the project's number stands on the directory, and a subvolume is its own group.

use super::driver::Place;
use crate::base::VolumeName;
use crate::base::fs::{Context, FsError};
use crate::base::{ErrorKind, copy_tree, random_hex};
use crate::engine::{Error, Result};
use crate::sys::quota;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Numbers of projects are ours from here on; /etc/projid begins with small ones.
const FIRST_PROJECT: u32 = 1 << 24;
/// Numbers tried before somebody else must have all of them.
const TRIES: usize = 16;
const ELSEWHERE: &str = "or limit a file system instead: -o type=tmpfs -o device=tmpfs -o o=size=N, or -o type=ext4 -o device=/dev/…";

/// The file systems that can do it (include/uapi/linux/magic.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    fn of(magic: u64) -> Option<Self> {
        match magic {
            0xEF53 => Some(Kind::Ext4),
            0x5846_5342 => Some(Kind::Xfs),
            0x9123_683E => Some(Kind::Btrfs),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "XFS",
            Kind::Btrfs => "btrfs",
        }
    }

    /// What turns quotas on, or what is wrong with the kernel.
    fn advice(self, error: &io::Error, path: &Path) -> String {
        let lacking = error.raw_os_error() == Some(libc::ENOSYS);
        let first = match self {
            Kind::Ext4 if lacking => "this kernel is built without quotas for ext4 (CONFIG_QFMT_V2)".to_owned(),
            Kind::Xfs if lacking => "this kernel is built without quotas for XFS (CONFIG_XFS_QUOTA)".to_owned(),
            Kind::Ext4 => "turn them on: tune2fs -O project,quota on the unmounted device, and the mount option prjquota (CONFIG_QFMT_V2)".to_owned(),
            Kind::Xfs => "turn them on with the mount option prjquota".to_owned(),
            Kind::Btrfs => format!("turn them on: btrfs quota enable {}", path.display()),
        };
        format!("{first}; {ELSEWHERE}")
    }
}

/// Gives a new, empty directory the limits of its volume.
///
/// # Errors
/// `Unsupported`, with the file system and the way out.
pub(in crate::engine) fn limit(place: &Place, name: &VolumeName, data: &Path) -> Result<()> {
    let Place::Directory { size, inodes, .. } = place else { return Ok(()) };
    if size.is_none() && inodes.is_none() {
        return Ok(());
    }
    let magic = rustix::fs::statfs(data).on("examine", data)?.f_type;
    // A magic number is 32 bits, which some types carry with a sign.
    let magic = u64::from(magic as u32);
    let Some(kind) = Kind::of(magic) else {
        return Err(Error::Invalid {
            message: format!("volume \"{name}\": size and inodes need quotas, which the file system of {} (type {magic:#x}) has not", data.display()),
            hint: Some(format!("put the data root on ext4 or XFS with project quotas, or on btrfs; {ELSEWHERE}")),
        });
    };
    // What stays when this volume is not made.
    let volumes = data.ancestors().nth(2).unwrap_or(data);
    let refused = |error: io::Error| Error::Failed {
        operation: format!("limit volume \"{name}\" by quotas of {} at {}: {}", kind.name(), volumes.display(), kind.advice(&error, volumes)),
        kind: ErrorKind::Unsupported,
        source: Box::new(error),
    };
    match (kind, size, inodes) {
        (Kind::Btrfs, _, Some(_)) => {
            Err(Error::Invalid { message: format!("volume \"{name}\": btrfs does not count inodes"), hint: Some("give a size alone".to_owned()) })
        }
        (Kind::Btrfs, size, None) => limit_subvolume(data, size.unwrap_or(0), refused),
        _ => limit_project(data, size.unwrap_or(0), inodes.unwrap_or(0)).map_err(refused),
    }
}

fn limit_project(data: &Path, size: u64, inodes: u64) -> io::Result<()> {
    let directory = open(data)?;
    for _ in 0..TRIES {
        let number = u32::from_str_radix(&random_hex(8), 16).expect("invariant: 8 hexadecimal digits");
        // Below the largest, which is nobody's.
        let project = FIRST_PROJECT | (number >> 1);
        if quota::is_free(directory.as_fd(), project)? {
            quota::set_project(directory.as_fd(), project)?;
            return quota::limit_project(directory.as_fd(), project, size, inodes);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// A subvolume takes the directory's place, with its mode.
fn limit_subvolume(data: &Path, size: u64, refused: impl Fn(io::Error) -> Error) -> Result<()> {
    let (Some(parent), Some(name)) = (data.parent(), data.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::invalid(format!("{} is no place for a volume", data.display())));
    };
    let status = std::fs::metadata(data).on("examine", data)?;
    std::fs::remove_dir(data).on("remove", data)?;
    let make = || quota::make_subvolume(open(parent)?.as_fd(), name);
    make().map_err(&refused)?;
    std::fs::set_permissions(data, status.permissions()).on("change the mode of", data)?;
    let limit = || quota::limit_subvolume(open(data)?.as_fd(), size);
    limit().map_err(refused)
}

fn open(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    copy_tree::open_directory(path).map_err(|error: FsError| error.source)
}

/// Lets go of a project whose directory is about to be removed; a quota group goes with its subvolume.
pub(in crate::engine) fn release(place: &Place, data: &Path) {
    let Place::Directory { size, inodes, .. } = place else { return };
    if size.is_none() && inodes.is_none() {
        return;
    }
    let free = || {
        let directory = open(data)?;
        match quota::project(directory.as_fd())? {
            number if number >= FIRST_PROJECT => quota::limit_project(directory.as_fd(), number, 0, 0),
            _ => Ok(()),
        }
    };
    // A limit on a number that nobody uses any more does no harm.
    if let Err(error) = free() {
        tracing::debug!("the quota of {} stays: {error}", data.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_limited_names_the_file_system_and_the_way_out() {
        let place = Place::Directory { owner: (None, None), size: Some(1 << 20), inodes: None };
        let name: VolumeName = "vol".parse().unwrap();
        let error = limit(&place, &name, Path::new("/proc")).unwrap_err();
        assert!(error.to_string().contains("/proc") && error.hint().unwrap().contains("type=tmpfs"), "{error}");
        let advice = |kind: Kind, code| kind.advice(&io::Error::from_raw_os_error(code), Path::new("/srv"));
        assert!(advice(Kind::Ext4, libc::ENOSYS).contains("CONFIG_QFMT_V2") && advice(Kind::Ext4, libc::ESRCH).contains("tune2fs"));
        assert!(advice(Kind::Xfs, libc::ESRCH).contains("prjquota") && advice(Kind::Btrfs, libc::ENOTCONN).contains("quota enable /srv"));
        assert!(limit(&Place::default(), &name, Path::new("/proc")).is_ok(), "nothing is asked for");
    }
}
