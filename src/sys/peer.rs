//! Who is at the other end of a local socket, and descriptors handed over by `execve`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// User id of the peer of a connected local socket (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// What getsockopt(2) says.
pub fn user_id(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(credentials(socket)?.uid)
}

/// The process that listens at the other end, as it was when it began to listen.
///
/// # Errors
/// What getsockopt(2) says.
pub fn process_id(socket: BorrowedFd<'_>) -> io::Result<i32> {
    Ok(credentials(socket)?.pid)
}

fn credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut credentials).cast(), &raw mut length) };
    if outcome == 0 { Ok(credentials) } else { Err(io::Error::last_os_error()) }
}

/// Takes ownership of an inherited descriptor, if it is a socket, and makes it close-on-exec. To be
/// called once, before any other descriptor is opened.
pub fn inherited_socket(number: i32) -> Option<OwnedFd> {
    inherited(number, libc::S_IFSOCK)
}

/// As [`inherited_socket`], for a directory.
pub fn inherited_directory(number: i32) -> Option<OwnedFd> {
    inherited(number, libc::S_IFDIR)
}

fn inherited(number: i32, kind: libc::mode_t) -> Option<OwnedFd> {
    // SAFETY: `stat` is plain data, written by fstat(2) only when it returns 0.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a live local; a closed descriptor is answered with EBADF.
    let known = unsafe { libc::fstat(number, &raw mut stat) } == 0;
    if !known || stat.st_mode & libc::S_IFMT != kind {
        return None;
    }
    // SAFETY: it is open (fstat succeeded), and by the callers' contract nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(descriptor)
}
