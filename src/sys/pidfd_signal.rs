//! `pidfd_send_signal(2)` for any signal number, the real-time ones included.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends `signal` (1..=64) to the process that `pidfd` refers to.
///
/// # Errors
/// `ESRCH` when the process is gone, `EPERM` when it may not be signalled.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for the whole call (it is borrowed), the info pointer may be null by the
    // man page, and the call reads no other memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
