//! Birth of an init stage in a user namespace while other namespaces are joined by path.
//!
//! Invariant: a path is joined with the caller's rights (a network namespace made on the host belongs to the host), and only
//! where they do not suffice with those of the user namespace. Who gives up the former for the latter is a process of its
//! own, outside of the container's pid namespace, that is gone before the stage acts.

use super::channel::Channel;
use super::error::{At, Failure};
use super::plan::{Namespaces, Plan};
use super::{credentials, init};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::move_into_link_name_space;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const USER: u64 = libc::CLONE_NEWUSER as u64;
const MOUNT: u64 = libc::CLONE_NEWNS as u64;

/// True if the stage cannot join by itself: namespaces that are made together with, or after, joining a user namespace must
/// belong to it, and what is joined beside a new one mostly does not.
pub(super) fn needed(namespaces: &Namespaces) -> bool {
    namespaces.joins(libc::CLONE_NEWUSER) || (namespaces.new & USER != 0 && namespaces.join.iter().any(|(kind, _)| *kind != MOUNT))
}

/// Joins and clones the stage as the caller's own sibling, which returns; this process ends. A mount namespace is left
/// to the stage: it changes what paths mean.
pub(super) fn cross(plan: &Plan, joins: &[(u64, OwnedFd)], pid: Option<BorrowedFd<'_>>, channel: &Channel, proof: SingleThreaded) {
    let failure = match join(plan, joins, pid, proof) {
        Ok(Forked::Child) => return,
        Ok(Forked::Parent { pid, pidfd }) => match channel.born(pid, pidfd.as_fd()) {
            Ok(()) => sys::exit(0),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    // If the parent is gone there is nobody to tell.
    drop(channel.fail(&failure));
    sys::exit(125)
}

fn join(plan: &Plan, joins: &[(u64, OwnedFd)], pid: Option<BorrowedFd<'_>>, proof: SingleThreaded) -> Result<Forked, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
    let enter = |fd: BorrowedFd<'_>| move_into_link_name_space(fd, None);
    let user = joins.iter().find(|(kind, _)| *kind == USER);
    let others = joins.iter().filter(|(kind, _)| *kind != USER && *kind != MOUNT).map(|(_, fd)| fd.as_fd());
    let mut later = Vec::new();
    // Of a pid namespace only what is born later is part.
    for fd in others.chain(pid) {
        match enter(fd) {
            Err(Errno::PERM) if user.is_some() => later.push(fd),
            other => other.at("join a namespace by path")?,
        }
    }
    if let Some((_, user)) = user {
        credentials::raise_limits(None, &plan.process);
        enter(user.as_fd()).at("join the user namespace")?;
        init::become_root()?;
    }
    for fd in later {
        enter(fd).at("join a namespace by path")?;
    }
    fork(proof, plan.namespaces.new | libc::CLONE_PARENT as u64, None).at("clone the init stage")
}

/// The ids, seen from here, of what is root in the user namespace of process `pid`, our child; None if nothing is.
pub(super) fn root_of(pid: i32) -> Result<Option<(u32, u32)>, Failure> {
    let outside = |name: &str| -> Result<Option<u32>, Failure> {
        let path = format!("/proc/{pid}/{name}");
        let text = std::fs::read_to_string(&path).at_path("read", Path::new(&path))?;
        Ok(text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("0")).then(|| words.next()?.parse().ok()).flatten()
        }))
    };
    Ok(outside("uid_map")?.zip(outside("gid_map")?))
}
