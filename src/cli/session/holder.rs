//! Who keeps the terminal of an exec open when nobody is attached to it (any more): a copy of this process that throws away
//! what is written there, until the exec has ended. Without it the exec would be hung up.

use super::Failure;
use crate::runtime::Running;
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Hands the terminal to such a process.
///
/// # Errors
/// It cannot be made.
pub fn hold(running: &Running, console: &OwnedFd) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::caused("cannot leave the command running", &e);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
    let proof = SingleThreaded::check().ok_or_else(|| failed(io::Error::other("this process has several threads")))?;
    if let Forked::Child = fork(proof, 0, None).map_err(failed)? {
        // Our caller's terminal, pipes and session are not this process's.
        let alone = rustix::process::setsid().is_ok()
            && rustix::stdio::dup2_stdin(&null).is_ok()
            && rustix::stdio::dup2_stdout(&null).is_ok()
            && rustix::stdio::dup2_stderr(&null).is_ok()
            && sys::close_others(3, &[console.as_fd(), running.pidfd.as_fd()]).is_ok();
        if alone {
            drain(running, console);
        }
        sys::exit(0);
    }
    Ok(())
}

fn drain(running: &Running, console: &OwnedFd) {
    let mut buffer = [0u8; 4096];
    loop {
        let mut fds = [PollFd::new(console, PollFlags::IN), PollFd::new(&running.pidfd, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        if !fds[0].revents().is_empty() {
            match rustix::io::read(console, &mut buffer[..]) {
                Ok(count) if count > 0 => {}
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // EIO: nobody has the other side open; one that opens it again is none of ours.
                Ok(_) | Err(_) => return,
            }
        }
    }
}
