//! The container's terminal: a pty of its own devpts, whose peer is had by ioctl, never by name.

use super::error::{At, Failure};
use super::{root, tree};
use rustix::fs::{FileType, OFlags, fstat, fstatfs};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `DEVPTS_SUPER_MAGIC` (include/uapi/linux/magic.h).
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends of a pty.
pub(super) struct Pty {
    pub master: OwnedFd,
    pub peer: OwnedFd,
}

/// Opens a new pty of the devpts at /dev/pts beneath `root`.
pub(super) fn open(root: BorrowedFd<'_>, columns: u16, rows: u16) -> Result<Pty, Failure> {
    let path = Path::new("/dev/pts/ptmx");
    let master = tree::open_plain(root, path, OFlags::RDWR | OFlags::NOCTTY).at_path("open", path)?;
    verify(master.as_fd(), "/dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).at("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).at("open the terminal's peer")?;
    verify(peer.as_fd(), "the terminal")?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).at("set the terminal's size")?;
    Ok(Pty { master, peer })
}

fn verify(fd: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let kind = FileType::from_raw_mode(fstat(fd).at("examine the terminal")?.st_mode);
    let system = fstatfs(fd).at("examine the terminal")?.f_type as u64;
    if kind == FileType::CharacterDevice && system == DEVPTS_MAGIC {
        return Ok(());
    }
    Err(Failure::invalid(format!("{name} in the container is not on a devpts")))
}

/// Binds the peer to /dev/console beneath `root`.
pub(super) fn bind_console(root: BorrowedFd<'_>, pty: &Pty) -> Result<(), Failure> {
    let target = tree::make(root, Path::new("/dev/console"), tree::Leaf::File)?;
    let mount = root::clone_fd(pty.peer.as_fd(), false).at("clone the console's mount")?;
    root::attach(mount.as_fd(), target.as_fd()).at("bind the terminal to /dev/console")
}

/// Makes the peer the controlling terminal and the three standard streams of this (session leader) process.
pub(super) fn take(peer: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::ioctl_tiocsctty(peer).at("take the controlling terminal")?;
    duplicate(peer, peer, peer)
}

/// Leaves the pty open until this process, a stage that failed, has ended: closing the master would hang up the stage
/// (its session leader) before it has told why.
pub(super) fn outlive(pty: Option<Pty>) {
    std::mem::forget(pty);
}

/// Puts three descriptors (all above 2) in the places of the standard streams.
pub(super) fn duplicate(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::stdio::dup2_stdin(stdin).at("set standard input")?;
    rustix::stdio::dup2_stdout(stdout).at("set standard output")?;
    rustix::stdio::dup2_stderr(stderr).at("set standard error")
}
