//! `unshare(2)` without the descriptor table, fresh namespaces on a throw-away thread, and who owns a namespace.
#![allow(unsafe_code)]

use rustix::io;
use rustix::thread::UnshareFlags;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Leaves the shared objects named by `flags`. CLONE_FILES is refused (EINVAL): descriptors would then
/// mean different files on different threads, which the types of this crate cannot express.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::Errno::INVAL);
    }
    // SAFETY: the only unsound flag, FILES, was refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Runs `work` on a throw-away thread in fresh namespaces of these kinds: other threads stay where they are.
///
/// # Errors
/// No thread can be made, or what unshare(2) says.
pub fn in_new<T: Send>(kinds: UnshareFlags, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let make = || unshare(kinds).map_err(std::io::Error::from).map(|()| work());
        match std::thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, make)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The user namespace that owns a namespace (ioctl_nsfs(2), `NS_GET_USERNS`).
///
/// # Errors
/// EPERM when it is outside of our own, EINVAL or ENOTTY for what is no namespace.
pub fn owner(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: this request takes no argument and touches no memory of ours.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO));
    }
    // SAFETY: a result that is not negative is a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::owner;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_owner_of_our_pid_namespace_is_known() {
        let namespace = std::fs::File::open("/proc/self/ns/pid").unwrap();
        let found = std::fs::File::from(owner(namespace.as_fd()).unwrap()).metadata().unwrap();
        // Of a namespace of the whole machine: the machine's own, or that of the container that tests run in.
        assert!(found.ino() != 0);
        assert!(owner(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
