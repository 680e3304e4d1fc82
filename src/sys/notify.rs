//! The supervisor's notification socket (sd_notify(3)).

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Says `READY=1` to the process that `NOTIFY_SOCKET` names; nothing without one.
///
/// # Errors
/// The socket cannot be used.
pub fn ready() -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    // "@" stands for the abstract name space.
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest)?,
        _ => SocketAddrUnix::new(&name)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, b"READY=1", SendFlags::NOSIGNAL, &address)?;
    Ok(())
}
