//! `exec`: one process, born in the container's groups and pid namespace, that joins the rest and executes.

use super::channel::{self, Answer, Channel};
use super::entry::{self, Streams};
use super::error::{At, Error, Failure};
use super::init::{bury, hidden, in_pid_namespace, score};
use super::process::{self, ProcessPlan};
use super::{Exec, Running, cgroup, terminal};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// See [`super::exec`].
pub(super) fn exec(request: Exec<'_>, group: Option<&cgroup::Group>) -> Result<Running, Error> {
    let proof = SingleThreaded::check().ok_or(Error::Threads)?;
    let plan = process::compile(request.process, request.user, request.spec, request.spec.process().as_ref())?;
    let namespaces = namespaces(request.spec);
    let streams = Streams::new(request.stdio)?;
    let (ours, theirs) = Channel::pair()?;
    let born = group.and_then(cgroup::Group::clone_fd);
    let forked = hidden(|| {
        in_pid_namespace(Some(request.init_pidfd), || {
            fork(proof, 0, born.as_ref().map(AsFd::as_fd)).at("clone the exec stage")
        })
    })?;
    match forked {
        Forked::Child => {
            drop(ours);
            stage(&plan, namespaces, request.init_pidfd, &streams, &theirs)
        }
        Forked::Parent { pid, pidfd } => {
            drop((theirs, streams));
            match attend(&ours, pid, &plan, group) {
                Ok(console) => Ok(Running { pid, pidfd, console }),
                Err(error) => Err(bury(pidfd.as_fd(), error)),
            }
        }
    }
}

/// All that the init may have; joining one that is also ours changes nothing. A user namespace that is ours
/// cannot be joined again, so it must be listed.
fn namespaces(spec: &Spec) -> ThreadNameSpaceType {
    let mut flags = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for namespace in listed.into_iter().flatten() {
        match namespace.typ() {
            LinuxNamespaceType::User => flags |= ThreadNameSpaceType::USER,
            LinuxNamespaceType::Time => flags |= ThreadNameSpaceType::TIME,
            _ => {}
        }
    }
    flags
}

fn attend(channel: &Channel, pid: i32, plan: &ProcessPlan, group: Option<&cgroup::Group>) -> Result<Option<OwnedFd>, Error> {
    score(pid, plan.oom_score_adj)?;
    if let Some(group) = group {
        group.join(pid).map_err(Error::Cgroup)?;
    }
    channel.say(channel::JOINED)?;
    let console = match channel.answer()? {
        Answer::Ready(console) => console,
        Answer::Failed(failure) => return Err(failure.into()),
        Answer::End => return Err(Error::Lost(String::new())),
    };
    match channel.answer()? {
        Answer::End => Ok(console),
        Answer::Failed(failure) => Err(failure.into()),
        Answer::Ready(_) => Err(Error::Lost("answered twice".to_owned())),
    }
}

fn stage(plan: &ProcessPlan, namespaces: ThreadNameSpaceType, init: BorrowedFd<'_>, streams: &Streams, channel: &Channel) -> ! {
    let failure = match build(plan, namespaces, init, streams, channel) {
        Ok(prepared) => prepared.execute(),
        Err(failure) => failure,
    };
    // If the parent is gone there is nobody to tell.
    drop(channel.fail(&failure));
    sys::exit(125)
}

fn build(
    plan: &ProcessPlan,
    namespaces: ThreadNameSpaceType,
    init: BorrowedFd<'_>,
    streams: &Streams,
    channel: &Channel,
) -> Result<entry::Prepared, Failure> {
    let mut keep = streams.fds();
    keep.extend([channel.fd(), init]);
    entry::begin(&keep)?;
    let label = entry::open_label(plan)?;
    move_into_thread_name_spaces(init, namespaces).at("join the container's namespaces")?;
    if namespaces.contains(ThreadNameSpaceType::USER) {
        let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
        rustix::thread::set_thread_res_gid(gid, gid, gid).at("become root of the user namespace")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).at("become root of the user namespace")?;
    }
    let pty = match streams.size() {
        Some((columns, rows)) => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open the root")?;
            Some(terminal::open(root.as_fd(), columns, rows)?)
        }
        None => None,
    };
    let prepared = match entry::prepare(plan, streams, pty.as_ref().map(|pty| pty.peer.as_fd()), label) {
        Ok(prepared) => prepared,
        Err(failure) => {
            terminal::outlive(pty);
            return Err(failure);
        }
    };
    channel.expect(channel::JOINED)?;
    channel.ready(pty.as_ref().map(|pty| pty.master.as_fd()))?;
    // From here on the process may outlive who asked for it.
    rustix::process::set_parent_process_death_signal(None).at("let go of the parent")?;
    Ok(prepared)
}
