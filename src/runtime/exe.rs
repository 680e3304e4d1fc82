//! A read-only view of our own binary for stages to run from, so that no container can write it through
//! `/proc/PID/exe` (CVE-2019-5736).
//!
//! Known limit: a container that traces a stage can open the view for writing again and again. Each open is refused (EROFS), but the
//! kernel counts a writer until it is, so that somebody's exec of the binary may fail in that microsecond (ETXTBSY). A view that is
//! mapped to no owner would refuse earlier (EACCES), for the price of a user namespace per exec.

use super::error::{At, Error, Failure};
use super::root::clone_tree;
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fstatvfs, memfd_create, open};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const SELF: &str = "/proc/self/exe";
/// How the kernel shows the path of the sealed copy.
const IN_MEMORY: &[u8] = b"/memfd:rcon";

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

/// Goes on as a process that runs from the protected view: executes ourselves anew, with the same arguments,
/// unless that has been done. For a command that forks stages itself; call it before anything else is done.
///
/// # Errors
/// The view cannot be had or executed.
pub fn run_protected() -> Result<(), Error> {
    let own = open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open our own binary")?;
    let in_memory = std::fs::read_link(SELF).is_ok_and(|path| path.as_os_str().as_bytes().starts_with(IN_MEMORY));
    if in_memory || fstatvfs(&own).is_ok_and(|status| status.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Ok(());
    }
    let view = protected_exe()?;
    let text = |text: std::ffi::OsString| CString::new(text.into_vec()).map_err(|_| Failure::invalid("an argument contains a NUL byte"));
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    let pair = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
        name.push("=");
        name.push(value);
        text(name)
    };
    let environment = std::env::vars_os().map(pair).collect::<Result<Vec<_>, _>>()?;
    let path = text(format!("/proc/self/fd/{}", view.as_raw_fd()).into())?;
    let error = crate::sys::process::execve(&path, &arguments, &environment);
    Err(Failure::step("execute the protected view of our own binary", error).into())
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
