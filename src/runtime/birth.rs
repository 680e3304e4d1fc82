//! A container inside a pid namespace that is there already (joined by path): who is in it, and may trace, must find
//! nothing of the host in our stage (CVE-2016-9962).
//!
//! Invariant: the stage does all its mounts outside. Inside are born only the process proper, when the host's tree is gone
//! and every descriptor but its own is closed, and before that, on kernels that need one, a messenger that has nothing.

use super::channel::{self, Answer, Channel};
use super::enter::Join;
use super::error::{At, Failure};
use super::plan::{Plan, Source, Step};
use super::root;
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::namespace::unshare;
use crate::sys::own_strings::OwnStrings;
use crate::sys::process as sys;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_set_fd, fsopen, mount_change, move_mount, unmount};
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the process is called until it executes its program.
const TITLE: &str = "rcon-init";

/// The first act of a stage that stays outside of `namespace`: opens one file system context for each procfs of the plan,
/// which is to show that namespace.
pub(super) fn prepare(plan: &Plan, namespace: &Join, proof: SingleThreaded) -> Result<Vec<OwnedFd>, Failure> {
    let procfs = |step: &&Step| matches!(step, Step::Mount(mount) if matches!(&mount.source, Source::Fresh { kind, .. } if kind == "proc"));
    plan.steps.iter().filter(procfs).map(|_| context(namespace, proof)).collect()
}

/// A procfs shows the pid namespace of who opens its context, or (since Linux 6.17) the one it is told.
fn context(namespace: &Join, proof: SingleThreaded) -> Result<OwnedFd, Failure> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).at("open procfs")?;
    match fsconfig_set_fd(&context, "pidns", namespace.fd()) {
        Ok(()) => Ok(context),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => context_from_inside(namespace, proof),
        Err(errno) => Err(Failure::step("open a procfs of the joined pid namespace", errno)),
    }
}

/// Has the context opened by a process inside the namespace.
fn context_from_inside(namespace: &Join, proof: SingleThreaded) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = Channel::pair()?;
    match fork(proof, 0, None).at("clone a messenger")? {
        Forked::Child => {
            drop(ours);
            if let Err(failure) = send_messenger(namespace, &theirs, proof) {
                // If the stage is gone there is nobody to tell.
                drop(theirs.fail(&failure));
            }
            sys::exit(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = ours.answer();
            wait(pidfd.as_fd())?;
            match answer? {
                Answer::Ready(Some(context)) => Ok(context),
                Answer::Failed(failure) => Err(failure),
                _ => Err(Failure::step("hear from the messenger", Errno::PIPE)),
            }
        }
    }
}

/// Leaves everything behind, then has its child open the context in the namespace: in an empty tree, with one right.
fn send_messenger(namespace: &Join, channel: &Channel, proof: SingleThreaded) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("follow the stage's death")?;
    OwnStrings::find().at("find our arguments")?.replace(TITLE, proof);
    sys::close_others(3, &[namespace.fd(), channel.fd()]).at("close inherited descriptors")?;
    sys::close_standard().at("close inherited descriptors")?;
    unshare(UnshareFlags::NEWNS).at("unshare mount namespace")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("make mounts private")?;
    let data = ["size=0".to_owned(), "nr_inodes=1".to_owned()];
    let empty = root::mount_fresh("tmpfs", None, &data, libc::MOUNT_ATTR_RDONLY).at("mount an empty directory")?;
    move_mount(&empty, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at("attach an empty directory")?;
    rustix::process::fchdir(&empty).at("enter an empty directory")?;
    rustix::process::pivot_root(".", ".").at("pivot to an empty directory")?;
    unmount(".", UnmountFlags::DETACH).at("detach the host's tree")?;
    rustix::process::chdir("/").at("enter an empty directory")?;
    drop(empty);
    namespace.enter()?;
    let only = CapabilitySet::SYS_ADMIN;
    let sets = CapabilitySets { effective: only, permitted: only, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at("set capabilities")?;
    match fork(proof, 0, None).at("clone a messenger")? {
        Forked::Child => {
            // The namespace is still open in this copy.
            sys::close_others(3, &[channel.fd()]).at("close inherited descriptors")?;
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).at("open a procfs of the joined pid namespace")?;
            channel.ready(Some(context.as_fd()))
        }
        Forked::Parent { pidfd, .. } => wait(pidfd.as_fd()),
    }
}

fn wait(pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)).at("wait for a messenger").map(drop)
}

/// What the process proper has; `strings` were found while the host's `/proc` was there.
pub(super) struct Belongings<'a> {
    pub channel: &'a Channel,
    pub keep: &'a [BorrowedFd<'a>],
    /// Descriptors from 3 on.
    pub preserved: u32,
    pub strings: &'a OwnStrings,
}

/// Goes on (Ok) as the process proper, born into the namespace that the stage has entered for its children, and a child of
/// the stage's parent; the stage itself tells the parent and ends.
pub(super) fn inside(own: &Belongings<'_>, proof: SingleThreaded) -> Result<(), Failure> {
    let Belongings { channel, keep, preserved, strings } = *own;
    strings.replace(TITLE, proof);
    sys::close_others(3 + preserved, keep).at("close descriptors of the host")?;
    match fork(proof, libc::CLONE_PARENT as u64, None).at("clone the process into the pid namespace")? {
        Forked::Child => {
            set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
            rustix::process::setsid().at("make a session")?;
            // Until the parent knows of this process, a failure of it would be taken for the first one's.
            channel.expect(channel::JOINED)
        }
        Forked::Parent { pid, pidfd } => {
            channel.born(pid, pidfd.as_fd())?;
            sys::exit(0)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Entries of a procfs whose context a messenger opened, for the tests of the room (which have a process alone).
    pub(in crate::runtime) fn pids_by_messenger(namespace: &Join) -> Vec<String> {
        let proof = SingleThreaded::check().unwrap();
        let context = context_from_inside(namespace, proof).unwrap();
        let fresh = root::Fresh { kind: "proc", source: None, data: &[], attributes: 0, iversion: false, context: Some(context) };
        let tree = fresh.mount().unwrap();
        let list = rustix::fs::openat(&tree, ".", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        let names = rustix::fs::Dir::read_from(&list).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.parse::<u32>().is_ok()).collect()
    }
}
