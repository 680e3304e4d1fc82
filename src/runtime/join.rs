//! `exec`: one process, born in the container's groups, that joins its namespaces and executes.
//!
//! Invariant: nothing of the caller's is open in a process that the container can see.

use super::channel::{self, Answer, Channel};
use super::enter;
use super::entry::{self, Streams};
use super::error::{At, Error, Failure};
use super::init::{bury, hidden, outcome, score};
use super::listener::{self, Agent};
use super::plan;
use super::process::{self, ProcessPlan};
use super::stage::chroot;
use super::{Exec, Running, cgroup, credentials, label, resctrl, terminal};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::own_strings::OwnStrings;
use crate::sys::process as sys;
use oci_spec::runtime::{ContainerState, LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// See [`super::exec`].
pub(super) fn exec(request: Exec<'_>, group: Option<&cgroup::Group>) -> Result<Running, Error> {
    let proof = SingleThreaded::check().ok_or(Error::Threads)?;
    let Exec { process, user, keyring, spec, .. } = request;
    let plan = process::compile(&process::Request { process, user, spec, defaults: spec.process().as_ref(), keyring })?;
    let mut agent = Agent::of(spec, request.state, ContainerState::Running)?;
    if let Some(agent) = &mut agent {
        agent.init = Some(listener::pid_of(request.init_pidfd)?);
    }
    let namespaces = listed(request.spec);
    // Its root is then only its processes' and must be taken over.
    let chrooted = !namespaces.contains(ThreadNameSpaceType::MOUNT);
    let (streams, preserved) = (Streams::new(request.stdio)?, request.preserve_fds);
    streams.give_to(plan::owner(request.spec.linux().as_ref()))?;
    let (ours, theirs) = Channel::pair()?;
    let born = group.and_then(cgroup::Group::clone_fd);
    let forked = plan.attributes.on_initial_cpus(|| hidden(|| fork(proof, 0, born.as_ref().map(AsFd::as_fd)).at("clone the exec stage")))?;
    match forked {
        Forked::Child => {
            drop(ours);
            door(&Door { plan: &plan, namespaces, chrooted, init: request.init_pidfd, streams: &streams, preserved }, &theirs, proof)
        }
        Forked::Parent { pidfd: door, .. } => {
            drop((theirs, streams));
            let (pid, pidfd) = behind(&ours, door)?;
            let parent = Parent { channel: &ours, plan: &plan, group, classes: request.resctrl, agent: agent.as_ref() };
            match parent.attend(pid) {
                Ok(console) => Ok(Running { pid, pidfd, console }),
                Err(error) => Err(bury(pidfd.as_fd(), error)),
            }
        }
    }
}

/// The stage proper that a first stage, which is reaped, has made.
///
/// # Errors
/// Why there is none; no process is left then.
pub(super) fn behind(channel: &Channel, door: OwnedFd) -> Result<(i32, OwnedFd), Error> {
    let born = birth(channel).map_err(|error| bury(door.as_fd(), error))?;
    reap(door.as_fd())?;
    Ok(born)
}

/// Waits until the stage proper is there; a failure of its own may be heard before.
fn birth(channel: &Channel) -> Result<(i32, OwnedFd), Error> {
    let mut failed = None;
    loop {
        match (channel.answer()?, failed.take()) {
            (Answer::Born(pid, pidfd), None) => return Ok((pid, pidfd)),
            (Answer::Born(_, pidfd), Some(failure)) => return Err(bury(pidfd.as_fd(), failure)),
            (Answer::Failed(failure), None) => failed = Some(failure.into()),
            (Answer::End, Some(failure)) => return Err(failure),
            (Answer::End, None) => return Err(Error::Lost(String::new())),
            _ => return Err(Error::Lost("answered twice".to_owned())),
        }
    }
}

pub(super) fn reap(pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)).at("wait for the first exec stage")?;
    Ok(())
}

/// Those of the config, which are made or joined for the container. The others are those of who created it: mostly also
/// ours, and perhaps not ours to join.
fn listed(spec: &Spec) -> ThreadNameSpaceType {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let kinds = list.into_iter().flatten().map(|namespace| match namespace.typ() {
        LinuxNamespaceType::Mount => ThreadNameSpaceType::MOUNT,
        LinuxNamespaceType::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
        LinuxNamespaceType::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        LinuxNamespaceType::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        LinuxNamespaceType::User => ThreadNameSpaceType::USER,
        LinuxNamespaceType::Pid => ThreadNameSpaceType::PROCESS_ID,
        LinuxNamespaceType::Network => ThreadNameSpaceType::NETWORK,
        LinuxNamespaceType::Time => ThreadNameSpaceType::TIME,
    });
    kinds.fold(ThreadNameSpaceType::empty(), |all, kind| all | kind)
}

/// Joins what the init may have; joining one that is also ours changes nothing. A user namespace that is ours cannot be
/// joined again, so it must be listed. Who is root in a user namespace only may not join those of the host: there it must
/// do to be in what is listed.
fn join_namespaces(init: BorrowedFd<'_>, listed: ThreadNameSpaceType) -> Result<(), Failure> {
    let mostly = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    let joined = match move_into_thread_name_spaces(init, listed | mostly) {
        Err(Errno::PERM) if !listed.is_empty() && !listed.contains(mostly) => move_into_thread_name_spaces(init, listed),
        other => other,
    };
    joined.at("join the container's namespaces")
}

/// The root of the container's first process.
fn root_of(init: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{}/root", listener::pid_of(init)?);
    let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at_path("open", Path::new(&path))?;
    // It has not been reaped meanwhile: the number was its own.
    listener::pid_of(init).map(|_| root)
}

/// What the parent does its part with.
struct Parent<'a> {
    channel: &'a Channel,
    plan: &'a ProcessPlan,
    group: Option<&'a cgroup::Group>,
    classes: Option<&'a resctrl::Group>,
    agent: Option<&'a Agent>,
}

impl Parent<'_> {
    /// The parent's work while the stage prepares: OOM score, groups, scheduling; then its answers.
    fn attend(&self, pid: i32) -> Result<Option<OwnedFd>, Error> {
        score(pid, self.plan.oom_score_adj)?;
        if let Some(group) = self.group {
            group.join(pid).map_err(Error::Cgroup)?;
        }
        if let Some(classes) = self.classes {
            classes.join(pid)?;
        }
        self.plan.attributes.set_on(pid)?;
        self.channel.say(channel::JOINED)?;
        let console = match self.channel.answer()? {
            Answer::Ready(console) => console,
            Answer::Failed(failure) => return Err(failure.into()),
            Answer::End | Answer::Born(..) | Answer::Released | Answer::Hooks | Answer::Filter(_) => return Err(Error::Lost(String::new())),
        };
        outcome(self.channel, self.agent).map(|()| console)
    }
}

/// What the stages of an exec take with them.
struct Door<'a> {
    plan: &'a ProcessPlan,
    namespaces: ThreadNameSpaceType,
    chrooted: bool,
    init: BorrowedFd<'a>,
    streams: &'a Streams,
    preserved: u32,
}

/// The first stage stays outside of the container's pid namespace: there it lets go of every descriptor of the
/// caller (its database!) and enters the other namespaces. Only then is the stage proper born inside, as the
/// caller's child. A process of the container with CAP_SYS_PTRACE can look into that one (CVE-2016-9962).
fn door(door: &Door<'_>, channel: &Channel, proof: SingleThreaded) -> ! {
    let failure = match enter(door, channel, proof) {
        Ok(Forked::Parent { pid, pidfd }) => match channel.born(pid, pidfd.as_fd()) {
            Ok(()) => sys::exit(0),
            Err(failure) => failure,
        },
        Ok(Forked::Child) => match build(door, channel) {
            Ok(prepared) => prepared.execute(channel),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    // If the parent is gone there is nobody to tell.
    drop(channel.fail(&failure));
    sys::exit(125)
}

fn enter(door: &Door<'_>, channel: &Channel, proof: SingleThreaded) -> Result<Forked, Failure> {
    let Door { plan, namespaces, chrooted, init, streams, preserved } = *door;
    let mut keep = streams.fds();
    keep.extend([channel.fd(), init]);
    entry::begin(&keep, preserved, true)?;
    streams.settle()?;
    OwnStrings::find().at("find our arguments")?.replace("rcon-exec", proof);
    if namespaces.contains(ThreadNameSpaceType::USER) {
        credentials::raise_limits(None, plan);
    }
    let root = if chrooted { Some(root_of(init)?) } else { None };
    // Of its pid namespace only what is born later is part.
    join_namespaces(init, namespaces)?;
    if namespaces.contains(ThreadNameSpaceType::USER) {
        enter::become_owner()?;
    }
    if let Some(root) = root {
        chroot(root.as_fd())?;
    }
    fork(proof, libc::CLONE_PARENT as u64, None).at("clone the exec stage into the container")
}

fn build(door: &Door<'_>, channel: &Channel) -> Result<entry::Prepared, Failure> {
    let Door { plan, streams, preserved, .. } = *door;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
    rustix::process::setsid().at("make a session")?;
    let pty = match streams.size() {
        Some((columns, rows)) => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open the root")?;
            Some(terminal::open(root.as_fd(), columns, rows)?)
        }
        None => None,
    };
    let labels = label::Attributes::open_inside(&plan.labels)?;
    let prepared = match entry::prepare(plan, streams, pty.as_ref().map(|pty| pty.peer.as_fd()), labels, preserved) {
        Ok(prepared) => prepared,
        Err(failure) => {
            terminal::outlive(pty);
            return Err(failure);
        }
    };
    channel.expect(channel::JOINED)?;
    plan.attributes.take()?;
    channel.ready(pty.as_ref().map(|pty| pty.master.as_fd()))?;
    // From here on the process may outlive who asked for it.
    rustix::process::set_parent_process_death_signal(None).at("let go of the parent")?;
    Ok(prepared)
}
