//! Sockets that the supervisor hands over (sd_listen_fds(3)).
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_setfd};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixListener;

/// The first one (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// The first socket that systemd hands to this process; None without one. To be called once.
pub fn socket() -> Option<UnixListener> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count == 0) {
        return None;
    }
    // SAFETY: by the protocol the descriptor is open and this process's alone; nothing else here has taken it, since a
    // descriptor that is opened gets the lowest free number (open(2)), and it was never free.
    let listener = unsafe { UnixListener::from_raw_fd(FIRST) };
    fcntl_setfd(&listener, FdFlags::CLOEXEC).ok()?;
    Some(listener)
}
