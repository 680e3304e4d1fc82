//! `create` and `start`: the parent's side of the init stage, and the stage's entry.

use super::channel::{self, Answer, Channel};
use super::entry::{self, Streams};
use super::error::{At, Error, Failure};
use super::listener::{self, Agent};
use super::plan::{Plan, Request};
use super::stage::Stage;
use super::{Create, Gate, Init, cgroup, credentials, crossing, hooks, join, label, mapped, terminal};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::namespace::unshare;
use crate::sys::process as sys;
use oci_spec::runtime::ContainerState;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, WaitId, WaitIdOptions, dumpable_behavior, pidfd_send_signal, set_dumpable_behavior, waitid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the stage takes with it from the parent.
struct Luggage<'a> {
    plan: &'a Plan,
    streams: Streams,
    /// Namespaces to join: flag and descriptor, in order.
    joins: Vec<(u64, OwnedFd)>,
    pid_namespace: Option<OwnedFd>,
    /// See [`crossing`].
    crosses: bool,
    netns: Option<BorrowedFd<'a>>,
    reaper: bool,
    gate: Gate,
    preserved: u32,
    proof: SingleThreaded,
}

/// See [`super::create`]; without a group the stage stays in the caller's.
pub(super) fn create(request: Create<'_>, group: Option<&cgroup::Group>) -> Result<Init, Error> {
    let proof = SingleThreaded::check().ok_or(Error::Threads)?;
    let terminal = matches!(request.stdio, super::Stdio::Terminal { .. });
    let plan = Plan::compile(&Request {
        spec: request.spec,
        root: request.root,
        bundle: request.bundle,
        no_pivot: request.no_pivot,
        user: request.user,
        keyring: request.keyring,
        terminal,
        netns: request.netns.is_some(),
        state: request.state,
    })?;
    let agent = Agent::of(request.spec, request.state, ContainerState::Created)?;
    let (joins, pid_namespace) = open_namespaces(&plan.namespaces.join)?;
    let streams = Streams::new(request.stdio)?;
    let luggage = Luggage {
        plan: &plan,
        streams,
        joins,
        pid_namespace,
        crosses: crossing::needed(&plan.namespaces),
        netns: request.netns,
        reaper: request.reaper,
        gate: request.gate,
        preserved: request.preserve_fds,
        proof,
    };
    let (ours, theirs) = Channel::pair()?;
    let born = group.and_then(cgroup::Group::clone_fd);
    let born = born.as_ref().map(AsFd::as_fd);
    let forked = if luggage.crosses {
        hidden(|| fork(proof, 0, born).at("clone the process that joins namespaces"))?
    } else {
        let pid_namespace = luggage.pid_namespace.as_ref().map(AsFd::as_fd);
        hidden(|| in_pid_namespace(pid_namespace, || fork(proof, plan.namespaces.new, born).at("clone the init stage")))?
    };
    match forked {
        Forked::Child => {
            drop(ours);
            if luggage.crosses {
                crossing::cross(&plan, &luggage.joins, luggage.pid_namespace.as_ref().map(AsFd::as_fd), &theirs, proof);
            }
            stage(&luggage, theirs)
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let (pid, pidfd) = if luggage.crosses { join::await_birth(&ours, pidfd.as_fd())? } else { (pid, pidfd) };
            let membership = Membership { group, accounting: request.accounting };
            let owned = give_streams(&luggage, pid).map_err(Error::from);
            drop(luggage);
            match owned.and_then(|()| attend(&ours, pid, &plan, &membership, proof)) {
                Ok(console) => Ok(Init { pid, pidfd, console, gate: ours, agent }),
                Err(error) => Err(bury(pidfd.as_fd(), error)),
            }
        }
    }
}

/// To root of the user namespace; whose ids that has can be seen in one that is joined.
fn give_streams(luggage: &Luggage<'_>, pid: i32) -> Result<(), Failure> {
    let namespaces = &luggage.plan.namespaces;
    let owner = if namespaces.joins(libc::CLONE_NEWUSER) { crossing::root_of(pid)? } else { namespaces.owner };
    luggage.streams.give_to(owner)
}

/// The groups that the stage joins.
struct Membership<'a> {
    group: Option<&'a cgroup::Group>,
    accounting: bool,
}

/// The parent's work while the stage mounts: id maps, groups, OOM score; then its answer.
fn attend(channel: &Channel, pid: i32, plan: &Plan, membership: &Membership<'_>, proof: SingleThreaded) -> Result<Option<OwnedFd>, Error> {
    if plan.namespaces.new & libc::CLONE_NEWUSER as u64 != 0 {
        credentials::raise_limits(Some(pid), &plan.process);
        write_proc(pid, "uid_map", &plan.namespaces.uid_map)?;
        write_proc(pid, "gid_map", &plan.namespaces.gid_map)?;
        channel.say(channel::MAPPED)?;
    }
    mapped::hand_over(channel, pid, plan, proof)?;
    score(pid, plan.process.oom_score_adj)?;
    if let Some(group) = membership.group {
        let joined = if membership.accounting { group.join_all(pid) } else { group.join(pid) };
        joined.map_err(Error::Cgroup)?;
    }
    plan.process.attributes.set_on(pid)?;
    channel.say(channel::JOINED)?;
    loop {
        match (channel.answer()?, &plan.hooks) {
            (Answer::Ready(console), _) => return Ok(console),
            (Answer::Failed(failure), _) => return Err(failure.into()),
            (Answer::Hooks, Some(hooks)) => {
                hooks::run_here(&hooks.runtime, &hooks.state, Some(pid), proof)?;
                channel.say(channel::HOOKS)?;
            }
            (Answer::End | Answer::Born(..) | Answer::Released | Answer::Hooks | Answer::Filter(_), _) => return Err(Error::Lost(String::new())),
        }
    }
}

pub(super) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    // One write: the kernel takes a map whole (user_namespaces(7)).
    let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", &path)?;
    rustix::io::write(&file, text.as_bytes()).at_path("write", &path).map(drop)
}

/// Sets the OOM score from outside, where nothing of the container can be in the way. Only root is refused when it may
/// not be lowered; who never could (rootless) gets what there is.
pub(super) fn score(pid: i32, value: Option<i32>) -> Result<(), Failure> {
    let Some(value) = value else { return Ok(()) };
    match write_proc(pid, "oom_score_adj", &value.to_string()) {
        Err(failure) if [libc::EACCES, libc::EPERM].contains(&failure.errno) && !rustix::process::geteuid().is_root() => Ok(()),
        Err(failure) => Err(Failure { text: format!("set process.oomScoreAdj to {value}"), ..failure }),
        other => other,
    }
}

/// Kills and reaps a stage that failed; a stage that died silently is described by how.
pub(super) fn bury(pidfd: BorrowedFd<'_>, error: Error) -> Error {
    // A process that is gone already needs no signal.
    pidfd_send_signal(pidfd, Signal::KILL).ok();
    let status = loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => break other.ok().flatten(),
        }
    };
    match (error, status) {
        (Error::Lost(_), Some(status)) => Error::Lost(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("ended with code {code} before it was ready"),
            (None, Some(signal)) => format!("was killed by signal {signal} before it was ready"),
            (None, None) => "ended before it was ready".to_owned(),
        }),
        (Error::Lost(_), None) => Error::Lost("ended before it was ready".to_owned()),
        (error, _) => error,
    }
}

/// Runs `act` while this process cannot be traced, so that its child is born so.
pub(super) fn hidden(act: impl FnOnce() -> Result<Forked, Failure>) -> Result<Forked, Failure> {
    let before = dumpable_behavior().at("read the dumpable flag")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide before the clone")?;
    let forked = act();
    // The kernel refuses to set "readable by root" by hand; such a process stays hidden.
    if !matches!(forked, Ok(Forked::Child)) && before == DumpableBehavior::Dumpable {
        set_dumpable_behavior(before).at("unhide after the clone")?;
    }
    forked
}

/// Runs `act`, a fork, with the children's pid namespace set: the child is then both the caller's own and the
/// namespace's, without a process in between.
pub(super) fn in_pid_namespace(target: Option<BorrowedFd<'_>>, act: impl FnOnce() -> Result<Forked, Failure>) -> Result<Forked, Failure> {
    let Some(target) = target else { return act() };
    let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open our pid namespace")?;
    // A pidfd names the namespaces of its process, a namespace descriptor itself.
    let flags = ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(target, flags).at("join the pid namespace")?;
    let forked = act();
    if !matches!(forked, Ok(Forked::Child)) {
        rustix::thread::move_into_thread_name_spaces(own.as_fd(), flags).at("return to our pid namespace")?;
    }
    forked
}

/// Opens the namespaces to join; the pid namespace apart.
#[allow(clippy::type_complexity)]
fn open_namespaces(list: &[(u64, PathBuf)]) -> Result<(Vec<(u64, OwnedFd)>, Option<OwnedFd>), Failure> {
    let (mut joins, mut pid) = (Vec::new(), None);
    for (kind, path) in list {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open namespace", path)?;
        if *kind == libc::CLONE_NEWPID as u64 {
            pid = Some(fd);
        } else {
            joins.push((*kind, fd));
        }
    }
    Ok((joins, pid))
}

/// The stage's whole life.
fn stage(luggage: &Luggage<'_>, channel: Channel) -> ! {
    let mut channel = channel;
    let failure = match build(luggage, &channel) {
        Ok(mut prepared) => match pass(luggage, &mut channel, &mut prepared) {
            Ok(()) => prepared.execute(&channel),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    // If the parent is gone there is nobody to tell.
    drop(channel.fail(&failure));
    sys::exit(125)
}

/// Waits at the gate. Behind it `channel` leads to whoever opened it.
fn pass(luggage: &Luggage<'_>, channel: &mut Channel, prepared: &mut entry::Prepared) -> Result<(), Failure> {
    let outlive = || rustix::process::set_parent_process_death_signal(None).at("let go of the parent");
    match &luggage.gate {
        Gate::Caller => channel.expect(channel::GO)?,
        Gate::Free => {
            channel.expect(channel::GO)?;
            outlive()?;
        }
        Gate::Socket(gate) => {
            channel.expect(channel::RELEASE)?;
            outlive()?;
            channel.released()?;
            *channel = Channel::accept(gate.as_fd())?;
        }
    }
    if luggage.reaper {
        prepared.reap(luggage.proof, luggage.streams.size().is_some())?;
    }
    if let Some(hooks) = &luggage.plan.hooks {
        prepared.run_hooks(hooks, luggage.proof, channel)?;
    }
    Ok(())
}

fn build(luggage: &Luggage<'_>, channel: &Channel) -> Result<entry::Prepared, Failure> {
    let plan = luggage.plan;
    let mut keep = luggage.streams.fds();
    keep.push(channel.fd());
    keep.extend(luggage.netns);
    keep.extend(luggage.joins.iter().map(|(_, fd)| fd.as_fd()));
    if let Gate::Socket(gate) = &luggage.gate {
        keep.push(gate.as_fd());
    }
    entry::begin(&keep, luggage.preserved)?;
    let labels = label::Attributes::open(&plan.process.labels)?;
    enter_namespaces(luggage, channel)?;
    let mut stage = Stage::new(channel, luggage.streams.size(), luggage.proof);
    stage.run(plan)?;
    let pty = stage.pty.take();
    drop(stage);
    plan.process.attributes.take()?;
    let prepared = match entry::prepare(&plan.process, &luggage.streams, pty.as_ref().map(|pty| pty.peer.as_fd()), labels, luggage.preserved) {
        Ok(prepared) => prepared,
        Err(failure) => {
            terminal::outlive(pty);
            return Err(failure);
        }
    };
    channel.ready(pty.as_ref().map(|pty| pty.master.as_fd()))?;
    Ok(prepared)
}

fn enter_namespaces(luggage: &Luggage<'_>, channel: &Channel) -> Result<(), Failure> {
    let namespaces = &luggage.plan.namespaces;
    for (kind, fd) in &luggage.joins {
        if !luggage.crosses || *kind == libc::CLONE_NEWNS as u64 {
            move_into_link_name_space(fd.as_fd(), None).at("join a namespace by path")?;
        }
    }
    if namespaces.new & libc::CLONE_NEWUSER as u64 != 0 {
        channel.expect(channel::MAPPED)?;
        become_root()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
    }
    if let Some(netns) = luggage.netns {
        move_into_link_name_space(netns, Some(rustix::thread::LinkNameSpaceType::Network)).at("join the network namespace")?;
    }
    if let Some(offsets) = &namespaces.time {
        enter_time(offsets)?;
    }
    Ok(())
}

/// Of the user namespace that this process is in.
pub(super) fn become_root() -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at("become root of the user namespace")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at("become root of the user namespace")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide the stage")
}

/// Offsets can be set only while nothing is inside; then the stage itself goes in.
fn enter_time(offsets: &str) -> Result<(), Failure> {
    unshare(UnshareFlags::NEWTIME).at("unshare time namespace")?;
    if !offsets.is_empty() {
        let path = Path::new("/proc/self/timens_offsets");
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", path)?;
        rustix::io::write(&file, offsets.as_bytes()).at_path("write", path)?;
    }
    let path = Path::new("/proc/self/ns/time_for_children");
    let own = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", path)?;
    move_into_link_name_space(own.as_fd(), None).at("enter the time namespace")
}

/// Opens the gate and waits for the outcome of `execve`.
pub(super) fn start(init: &mut Init) -> Result<(), Error> {
    init.gate.say(channel::GO)?;
    outcome(&init.gate, init.agent.as_ref())
}

/// Lets the waiting stage outlive this process.
pub(super) fn release(init: &Init) -> Result<(), Error> {
    init.gate.say(channel::RELEASE)?;
    match init.gate.answer()? {
        Answer::Released => Ok(()),
        Answer::Failed(failure) => Err(failure.into()),
        Answer::End | Answer::Ready(_) | Answer::Born(..) | Answer::Hooks | Answer::Filter(_) => Err(Error::Lost("ended at its gate".to_owned())),
    }
}

/// Opens the gate of another process's stage; `agent` is for its seccomp listener.
///
/// # Errors
/// As [`start`].
pub(super) fn open_gate(channel: Channel, agent: Option<&Agent>) -> Result<(), Error> {
    channel.say(channel::GO)?;
    outcome(&channel, agent)
}

/// What becomes of a stage behind its gate, or of an exec's that is ready.
pub(super) fn outcome(channel: &Channel, agent: Option<&Agent>) -> Result<(), Error> {
    let mut answer = channel.answer()?;
    while let Answer::Filter(process) = answer {
        listener::serve(channel, process.as_fd(), agent)?;
        answer = channel.answer()?;
    }
    match answer {
        Answer::End => Ok(()),
        Answer::Failed(failure) => Err(failure.into()),
        Answer::Ready(_) | Answer::Born(..) | Answer::Released | Answer::Hooks | Answer::Filter(_) => Err(Error::Lost("answered twice".to_owned())),
    }
}
