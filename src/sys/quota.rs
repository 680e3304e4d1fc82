//! Limits of a directory: project quotas (quotactl_fd(2), ioctl_xfs_fsgetxattr(2)) and quota groups of btrfs.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct fsxattr` (include/uapi/linux/fs.h).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory is of its project.
const INHERIT: u32 = 0x200;

/// `struct if_dqblk` (include/uapi/linux/quota.h).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Quota {
    /// In blocks of 1 KiB; 0: none.
    hard_blocks: u64,
    soft_blocks: u64,
    /// Bytes in use.
    space: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `QCMD(Q_GETQUOTA, PRJQUOTA)`, `QCMD(Q_SETQUOTA, PRJQUOTA)`.
const GET: u32 = (0x80_0007 << 8) | 2;
const SET: u32 = (0x80_0008 << 8) | 2;
/// `QIF_BLIMITS | QIF_ILIMITS`.
const LIMITS: u32 = 1 | 4;

/// `struct btrfs_ioctl_qgroup_limit_args` (include/uapi/linux/btrfs.h).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct GroupLimit {
    /// 0: that of the subvolume itself.
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `_IOR(0x94, 43, struct btrfs_ioctl_qgroup_limit_args)`.
const QGROUP_LIMIT: libc::Ioctl = 0x8030_942b_u32 as libc::Ioctl;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const MAX_REFERENCED: u64 = 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Subvolume {
    fd: i64,
    name: [u8; 4088],
}

/// `_IOW(0x94, 14, struct btrfs_ioctl_vol_args)`.
const SUBVOL_CREATE: libc::Ioctl = 0x5000_940e;

fn done(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the request fills a structure of this layout and size, which lives through the call.
    done(unsafe { libc::ioctl(file.as_raw_fd(), FSGETXATTR, &raw mut attributes) })?;
    Ok(attributes)
}

/// The project that a file or directory is of; 0: none.
///
/// # Errors
/// ENOTTY, EOPNOTSUPP: the file system has no projects.
pub fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    attributes(file).map(|attributes| attributes.project)
}

/// Makes an empty directory, and all that is made in it, part of a project.
///
/// # Errors
/// As [`project`].
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the request reads a structure of this layout and size, which lives through the call.
    done(unsafe { libc::ioctl(directory.as_raw_fd(), FSSETXATTR, &raw const attributes) })
}

fn quotactl(file: BorrowedFd<'_>, command: u32, project: u32, quota: &mut Quota) -> io::Result<()> {
    // SAFETY: both commands read or fill a structure of this layout, which lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, std::ptr::from_mut(quota)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether nothing is of a project on this file system, and nothing limits it.
///
/// # Errors
/// ENOSYS: the kernel has no quotas for this file system. ESRCH: they are not turned on.
pub fn is_free(file: BorrowedFd<'_>, project: u32) -> io::Result<bool> {
    let mut quota = Quota::default();
    match quotactl(file, GET, project, &mut quota) {
        // XFS has nothing about a project that nobody uses.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(error) => Err(error),
        Ok(()) => Ok([quota.space, quota.inodes, quota.hard_blocks, quota.hard_inodes].iter().all(|number| *number == 0)),
    }
}

/// Limits bytes (rounded up to 1 KiB) and inodes of a project; 0 is no limit.
///
/// # Errors
/// As [`is_free`].
pub fn limit_project(file: BorrowedFd<'_>, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    let mut quota = Quota { hard_blocks: bytes.div_ceil(1024), hard_inodes: inodes, valid: LIMITS, ..Quota::default() };
    quotactl(file, SET, project, &mut quota)
}

/// Makes a subvolume of btrfs in a directory.
///
/// # Errors
/// ENOTTY: it is no btrfs; what mkdir(2) says.
pub fn make_subvolume(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut arguments = Subvolume { fd: 0, name: [0; 4088] };
    // The last byte stays NUL.
    let space = arguments.name.len() - 1;
    let bytes = name.as_bytes();
    if bytes.len() > space || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    arguments.name[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the request reads a structure of this layout and size with a terminated name.
    done(unsafe { libc::ioctl(parent.as_raw_fd(), SUBVOL_CREATE, &raw const arguments) })
}

/// Limits what a subvolume of btrfs refers to.
///
/// # Errors
/// ENOTCONN: quotas are not turned on. ENOTTY: it is no btrfs.
pub fn limit_subvolume(subvolume: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let limit = GroupLimit { flags: MAX_REFERENCED, referenced: bytes, ..GroupLimit::default() };
    // SAFETY: the request reads a structure of this layout and size, which lives through the call.
    done(unsafe { libc::ioctl(subvolume.as_raw_fd(), QGROUP_LIMIT, &raw const limit) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Quota>(), size_of::<GroupLimit>(), size_of::<Subvolume>()), (28, 72, 48, 4096));
    }

    #[test]
    fn what_has_no_quotas_says_so() {
        let file = std::fs::File::open("/proc").unwrap();
        assert!(project(file.as_fd()).is_err() && is_free(file.as_fd(), 7).is_err() && limit_subvolume(file.as_fd(), 1).is_err());
        assert!(make_subvolume(file.as_fd(), "x").is_err() && limit_project(file.as_fd(), 7, 1, 0).is_err());
    }
}
