//! The built-in PID 1 (`--init`): starts the real process, forwards signals to it, reaps every orphan, and
//! ends with the real process's code. No exec, no descriptors, the same user and capabilities as its child.

use super::credentials::Final;
use super::error::{At, Failure};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::own_strings::OwnStrings;
use crate::sys::process;
use rustix::process::WaitOptions;

/// Goes on as the real process (Ok) in the child; the reaper itself never returns. It executes nothing, so the engine's
/// arguments and environment would be its own for good: they are erased.
pub(super) fn split(proof: SingleThreaded, terminal: bool, rights: &Final, strings: &OwnStrings) -> Result<(), Failure> {
    process::block_signals();
    match fork(proof, 0, None).at("fork the container's process")? {
        Forked::Child => {
            // Its own process group, so that signals typed at the terminal reach it once.
            rustix::process::setpgid(None, None).at("make a process group")?;
            if terminal {
                rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()).at("take the terminal's foreground")?;
            }
            process::reset_signals();
            Ok(())
        }
        Forked::Parent { pid, pidfd } => {
            drop(pidfd);
            strings.replace("rcon-init", proof);
            if rights.drop_to_final().is_err() {
                process::exit(125);
            }
            reap(pid)
        }
    }
}

fn reap(child: i32) -> ! {
    if process::close_others(3, &[]).and_then(|()| process::close_standard()).is_err() {
        process::exit(125);
    }
    loop {
        let number = process::wait_signal();
        if number == libc::SIGCHLD {
            collect(child);
        } else {
            // Nobody to report to; ESRCH means that SIGCHLD is on its way.
            drop(process::kill(child, number));
        }
    }
}

/// Reaps all that is dead; leaves with the child's code when it is among them.
fn collect(child: i32) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() != child {
            continue;
        }
        if let Some(code) = status.exit_status() {
            process::exit(code);
        }
        if let Some(signal) = status.terminating_signal() {
            process::exit(128 + signal);
        }
    }
}
