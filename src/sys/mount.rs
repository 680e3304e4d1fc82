//! `mount_setattr(2)`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// With `MOUNT_ATTR_IDMAP`: the user namespace's descriptor.
    pub userns_fd: u64,
}

/// Changes the mount that `mount` refers to, and with `recursive` all mounts below it, atomically.
///
/// # Errors
/// What mount_setattr(2) says.
pub fn mount_setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal, `attr` has the layout and size of the kernel's struct
    // and is only read.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, std::ptr::from_ref(attr), size_of::<MountAttr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
