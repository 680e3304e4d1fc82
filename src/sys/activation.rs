//! Sockets that the supervisor hands over (sd_listen_fds(3)).
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

/// The first one (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// More than any unit has; a number beyond is not systemd's.
const MOST: u32 = 64;

/// The Unix sockets that systemd hands to this process. To be called once.
///
/// # Errors
/// One of them is not open, or is no listening Unix socket.
pub fn sockets() -> io::Result<Vec<UnixListener>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(MOST);
    (FIRST..).zip(0..count).map(|(number, _)| socket(number)).collect()
}

fn socket(number: RawFd) -> io::Result<UnixListener> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} of LISTEN_FDS {why}"));
    // SAFETY: only asked for its flags, by which the kernel says whether it is open at all.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| wrong("is not open"))?;
    // SAFETY: it is open, and by the protocol this process's alone; nothing else here has taken it, since a descriptor that is
    // opened gets the lowest free number (open(2)), and it was never free.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let is_unix = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX) && sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
    if !is_unix || sockopt::socket_acceptconn(&socket) != Ok(true) {
        return Err(wrong("is no listening Unix stream socket"));
    }
    Ok(socket.into())
}
