//! User namespaces that exist only as a pair of id maps, for id-mapped mounts (mount_setattr(2)).

use super::channel::{self, Channel};
use super::error::{At, Failure};
use super::plan::Maps;
use super::userns::write_proc;
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A namespace with these maps. A child is born into it and ends as soon as the maps are written and the namespace is
/// held by descriptor: nobody ever acts in it.
pub(super) fn namespace(proof: SingleThreaded, maps: &Maps) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = Channel::pair()?;
    match fork(proof, libc::CLONE_NEWUSER as u64, None).at("clone into a user namespace for id maps")? {
        Forked::Child => {
            drop(ours);
            // The end of the other side is the awaited word.
            drop(theirs.expect(channel::GO));
            sys::exit(0)
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let made = hold(pid, maps);
            drop(ours);
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)).at("wait for the child of id maps")?;
            made
        }
    }
}

fn hold(pid: i32, maps: &Maps) -> Result<OwnedFd, Failure> {
    write_proc(pid, "uid_map", &maps.uid)?;
    write_proc(pid, "gid_map", &maps.gid)?;
    // Our own child, not yet reaped: the number is still its own.
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", Path::new(&path))
}
