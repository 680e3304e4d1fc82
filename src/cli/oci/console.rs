//! `--console-socket` and `--pidfd-socket`: descriptors that go to the caller by SCM_RIGHTS.

use crate::cli::failure::Failure;
use crate::sys::rights;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Checks that the flag and the config agree before anything is made.
///
/// # Errors
/// A terminal with nobody to take it, or a taker without a terminal.
pub fn check(terminal: bool, detached: bool, socket: Option<&PathBuf>) -> Result<(), Failure> {
    match (terminal, detached, socket) {
        (true, true, None) => Err(Failure::invalid(format!("cannot allocate tty if {} will detach without setting console socket", super::NAME))),
        (false, _, Some(_)) | (_, false, Some(_)) => {
            Err(Failure::invalid(format!("cannot use console socket if {} will not detach or allocate tty", super::NAME)))
        }
        _ => Ok(()),
    }
}

/// Sends the terminal's master, with its name as the message (as `runc` does).
///
/// # Errors
/// Nobody listens on the socket.
pub fn send(path: &Path, master: &OwnedFd) -> Result<(), Failure> {
    pass(path, b"/dev/ptmx", master)
        .map_err(|error| Failure::caused(format!("cannot send the terminal to console socket \"{}\"", path.display()), &error))
}

/// Sends a descriptor of the process, our own child, with the kind of process as the message (as `runc` does): `standard` for a container's
/// first process, `setns` for a further one.
///
/// # Errors
/// Nobody listens on the socket.
pub fn send_pidfd(path: &Path, kind: &str, pid: i32) -> Result<(), Failure> {
    let failed = |error| Failure::caused(format!("cannot send process {pid} to pidfd socket \"{}\"", path.display()), &error);
    let pid = Pid::from_raw(pid).ok_or_else(|| failed(Errno::SRCH))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    pass(path, kind.as_bytes(), &pidfd).map_err(failed)
}

fn pass(path: &Path, message: &[u8], fd: &OwnedFd) -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    rights::send(&socket, message, &[fd.as_fd()]).map(drop)
}
