//! `--console-socket`: the terminal's master goes to the caller by SCM_RIGHTS.

use crate::cli::failure::Failure;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendmsg, socket_with,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
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

/// Sends the master, with its name as the message (as `runc` does).
///
/// # Errors
/// Nobody listens on the socket.
pub fn send(path: &Path, master: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::caused(format!("cannot send the terminal to console socket \"{}\"", path.display()), &error);
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(failed(rustix::io::Errno::NOBUFS));
    }
    sendmsg(&socket, &[IoSlice::new(b"/dev/pts/ptmx")], &mut control, SendFlags::NOSIGNAL).map_err(failed)?;
    Ok(())
}
