//! A read-only view of our own binary for stages to run from, so that no container can write it through
//! `/proc/PID/exe` (CVE-2019-5736).

use super::error::{At, Error, Failure};
use super::root::clone_tree;
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fstatvfs, memfd_create, open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const SELF: &str = "/proc/self/exe";

/// A descriptor to execute (`execveat` with an empty path, or `/proc/self/fd/N`) instead of our path: a
/// detached read-only mount of the binary; a sealed copy in memory where that is not permitted.
/// When the process already runs from such a view, that same view.
///
/// # Errors
/// The step that failed, in the fallback.
pub fn protected_exe() -> Result<OwnedFd, Error> {
    let own = open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open our own binary")?;
    if fstatvfs(&own).is_ok_and(|status| status.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Ok(own);
    }
    match read_only_view() {
        Some(view) => Ok(view),
        None => Ok(sealed_copy()?),
    }
}

/// None where mounting is not permitted, or the binary is not on a mount of this namespace (a memfd).
fn read_only_view() -> Option<OwnedFd> {
    let view = clone_tree(Path::new(SELF), false).ok()?;
    let attributes = libc::MOUNT_ATTR_RDONLY;
    let read_only = MountAttr { set: attributes, ..MountAttr::default() };
    mount_setattr(view.as_fd(), &read_only, false).ok()?;
    Some(view)
}

fn sealed_copy() -> Result<OwnedFd, Failure> {
    let copy = memfd_create("rcon", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).at("make a memory file")?;
    let mut source = std::fs::File::open(SELF).at("open our own binary")?;
    let mut target = std::fs::File::from(copy);
    std::io::copy(&mut source, &mut target).at("copy our own binary")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&target, seals).at("seal the copy of our own binary")?;
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::protected_exe;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_view_cannot_be_written() {
        let view = protected_exe().unwrap();
        let path = format!("/proc/self/fd/{}", view.as_raw_fd());
        let error = std::fs::OpenOptions::new().write(true).open(path).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
    }
}
