//! `create` and `start`: the parent's side of the init stage, and the stage's entry.

use super::channel::{self, Answer, Channel};
use super::enter::{self, Joins};
use super::entry::{self, Streams};
use super::error::{At, Error, Failure};
use super::listener::{self, Agent};
use super::plan::{Plan, Request};
use super::stage::Stage;
use super::userns::{self, write_proc};
use super::{Create, Gate, Init, birth, cgroup, credentials, hooks, join, label, mapped, net_devices, resctrl, terminal};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::netns::Ahead;
use crate::sys::own_strings::OwnStrings;
use crate::sys::process as sys;
use oci_spec::runtime::ContainerState;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, WaitId, WaitIdOptions, dumpable_behavior, pidfd_send_signal, set_dumpable_behavior, waitid};
use rustix::thread::move_into_link_name_space;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What the stage takes with it from the parent.
struct Luggage<'a> {
    plan: &'a Plan,
    streams: Streams,
    joins: Joins,
    /// Where our own arguments and environment are, for a stage that the container can see.
    strings: Option<OwnStrings>,
    netns: Option<BorrowedFd<'a>>,
    reaper: bool,
    gate: Gate,
    preserved: u32,
    proof: SingleThreaded,
}

/// See [`super::create`]; without a group the stage stays in the caller's.
pub(super) fn create(mut request: Create<'_>, group: Option<&cgroup::Group>) -> Result<Init, Error> {
    let mut plan = compile(&request)?;
    let made = match request.ahead.take().map(Ahead::finish) {
        Some(Ok(made)) => Some(made),
        Some(Err(_)) => {
            plan = compile(&request)?;
            None
        }
        None => None,
    };
    let netns = made.as_ref().map(AsFd::as_fd).or(request.netns);
    let proof = SingleThreaded::check().ok_or(Error::Threads)?;
    let agent = Agent::of(request.spec, request.state, ContainerState::Creating)?;
    let joins = Joins::open(&plan.namespaces)?;
    if joins.has_door() || plan.namespaces.owner.is_some() {
        plan.namespaces.adapt(userns::Rights::of_caller()?);
    }
    let streams = Streams::new(request.stdio)?;
    streams.give_to(plan.namespaces.owner)?;
    let devices_to = if plan.net_devices.is_empty() { None } else { network_to_join(&joins, netns)? };
    let gate = match request.gate {
        Gate::Open if is_awaited(&plan, &joins, &streams, agent.as_ref()) => Gate::Free,
        gate => gate,
    };
    let open = matches!(gate, Gate::Open);
    let seen = request.reaper || joins.last().is_some();
    let strings = seen.then(OwnStrings::find).transpose().at("find our arguments")?;
    let luggage = Luggage { plan: &plan, streams, joins, strings, netns, reaper: request.reaper, gate, preserved: request.preserve_fds, proof };
    let (ours, theirs) = Channel::pair()?;
    let forked = clone(&luggage, group)?;
    match forked {
        Forked::Child => {
            drop(ours);
            if luggage.joins.has_door() { door(&luggage, theirs) } else { stage(&luggage, theirs) }
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let (pid, pidfd) = if luggage.joins.has_door() { join::behind(&ours, pidfd)? } else { (pid, pidfd) };
            let two_stages = luggage.joins.last().is_some();
            drop(luggage);
            let parent = Parent {
                channel: &ours,
                plan: &plan,
                group,
                accounting: request.accounting,
                classes: request.resctrl,
                network: devices_to,
                two_stages,
                born: request.born.filter(|_| open),
                open,
                proof,
            };
            let mut child = (pid, pidfd);
            match parent.attend(&mut child) {
                Ok(console) => Ok(Init { pid: child.0, pidfd: child.1, console, gate: ours, open, agent }),
                Err(error) => Err(bury(child.1.as_fd(), error)),
            }
        }
    }
}

/// Whether something is to be done between the stage's word that it is ready and its program.
fn is_awaited(plan: &Plan, joins: &Joins, streams: &Streams, agent: Option<&Agent>) -> bool {
    plan.hooks.is_some() || joins.last().is_some() || joins.has_door() || streams.size().is_some() || agent.is_some()
}

fn clone(luggage: &Luggage<'_>, group: Option<&cgroup::Group>) -> Result<Forked, Failure> {
    let namespaces = &luggage.plan.namespaces;
    let born = group.and_then(cgroup::Group::clone_fd);
    let flags = if luggage.joins.has_door() { 0 } else { namespaces.new };
    let clone = || luggage.joins.around(|| fork(luggage.proof, flags, born.as_ref().map(AsFd::as_fd)).at("clone the init stage"));
    // Before its map is written, the files of a hidden process are closed to an unprivileged parent. Nobody who could look
    // into the stage is in its user namespace then.
    if namespaces.shown { clone() } else { hidden(clone) }
}

/// The plan of a request.
fn compile(request: &Create<'_>) -> Result<Plan, Error> {
    if request.resctrl.is_none() && request.spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some()) {
        return Err(Error::Unsupported("linux.intelRdt for this container".to_owned()));
    }
    Plan::compile(&Request {
        spec: request.spec,
        root: request.root,
        bundle: request.bundle,
        sources: request.sources,
        no_pivot: request.no_pivot,
        user: request.user,
        keyring: request.keyring,
        terminal: matches!(request.stdio, super::Stdio::Terminal { .. }),
        netns: request.netns.is_some() || request.ahead.is_some(),
        state: request.state,
    })
}

/// What the parent does its part with.
struct Parent<'a> {
    channel: &'a Channel,
    plan: &'a Plan,
    group: Option<&'a cgroup::Group>,
    accounting: bool,
    classes: Option<&'a resctrl::Group>,
    /// The network namespace for devices, when the stage joins one.
    network: Option<OwnedFd>,
    /// The stage that mounts is followed by the process proper (`birth.rs`).
    two_stages: bool,
    /// The stage does not wait at its gate, and who is told before it may go that far.
    open: bool,
    born: Option<&'a dyn Fn(i32) -> Result<(), Error>>,
    proof: SingleThreaded,
}

impl Parent<'_> {
    /// The parent's work while the stage mounts: id maps, network devices, groups, OOM score, hooks; then its answer.
    /// `child` is who it is, at any time.
    fn attend(&self, child: &mut (i32, OwnedFd)) -> Result<Option<OwnedFd>, Error> {
        let (channel, plan, pid) = (self.channel, self.plan, child.0);
        if plan.namespaces.new & libc::CLONE_NEWUSER as u64 != 0 {
            credentials::raise_limits(Some(pid), &plan.process);
            userns::write(pid, &plan.namespaces, plan.namespaces.rootless)?;
            channel.say(channel::MAPPED)?;
        }
        mapped::hand_over(channel, pid, plan, self.proof)?;
        score(pid, plan.process.oom_score_adj)?;
        // They go back if anything fails from here on.
        let devices = if plan.net_devices.is_empty() { None } else { Some(self.move_devices(pid)?) };
        if let Some(group) = self.group {
            let joined = if self.accounting { group.join_all(pid) } else { group.join(pid) };
            // A stage that has ended cannot be moved; why it has ended is what matters.
            joined.map_err(|error| channel.failed().map_or(Error::Cgroup(error), Error::from))?;
        }
        if let Some(classes) = self.classes {
            classes.join(pid)?;
        }
        if !self.two_stages {
            plan.process.attributes.set_on(pid)?;
        }
        self.born.map_or(Ok(()), |born| born(pid))?;
        channel.say(channel::JOINED)?;
        if self.open {
            channel.await_end()?;
        }
        let console = loop {
            match (channel.answer()?, &plan.hooks) {
                (Answer::Ready(console), _) => break console,
                (Answer::Failed(failure), _) => return Err(failure.into()),
                (Answer::Hooks, Some(hooks)) => {
                    hooks::run_here(&hooks.runtime, &hooks.state, Some(pid), self.proof)?;
                    channel.say(channel::HOOKS)?;
                }
                (Answer::Born(pid, pidfd), _) if self.two_stages => {
                    let first = std::mem::replace(child, (pid, pidfd));
                    join::reap(first.1.as_fd())?;
                    plan.process.attributes.set_on(pid)?;
                    channel.say(channel::JOINED)?;
                }
                (Answer::End | Answer::Born(..) | Answer::Released | Answer::Hooks | Answer::Filter(_), _) => return Err(Error::Lost(String::new())),
            }
        };
        if let Some(devices) = devices {
            devices.keep();
        }
        Ok(console)
    }

    fn move_devices(&self, pid: i32) -> Result<net_devices::Moved, Failure> {
        match &self.network {
            Some(network) => net_devices::enter(&self.plan.net_devices, network.as_fd()),
            None => {
                let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
                let own = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", &path)?;
                net_devices::enter(&self.plan.net_devices, own.as_fd())
            }
        }
    }
}

/// The network namespace that the stage is going to join; None when it is born in its own.
fn network_to_join(joins: &Joins, given: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>, Failure> {
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).at("duplicate the network namespace");
    given.or_else(|| joins.find(enter::NETWORK)).map(copy).transpose()
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
        Gate::Open => outlive()?,
        Gate::Socket(gate) => {
            channel.expect(channel::RELEASE)?;
            outlive()?;
            channel.released()?;
            // It may wait for long: only what it has written stays its own.
            crate::sys::heap::trim();
            crate::sys::heap::release_text();
            *channel = Channel::accept(gate.as_fd())?;
        }
    }
    if let (true, Some(strings)) = (luggage.reaper, &luggage.strings) {
        prepared.reap(luggage.proof, luggage.streams.size().is_some(), strings)?;
    }
    if let Some(hooks) = &luggage.plan.hooks {
        prepared.run_hooks(hooks, luggage.proof, channel)?;
    }
    Ok(())
}

/// Lets go of what is the parent's, but for what the stage needs.
fn begin(luggage: &Luggage<'_>, channel: &Channel) -> Result<(), Failure> {
    let mut keep = luggage.streams.fds();
    keep.push(channel.fd());
    keep.extend(luggage.netns);
    keep.extend(luggage.joins.fds());
    if let Gate::Socket(gate) = &luggage.gate {
        keep.push(gate.as_fd());
    }
    entry::begin(&keep, luggage.preserved, !luggage.plan.namespaces.shown)
}

/// A first stage that enters a user namespace, so that the stage proper is born there.
fn door(luggage: &Luggage<'_>, channel: Channel) -> ! {
    let pass = || {
        begin(luggage, &channel)?;
        credentials::raise_limits(None, &luggage.plan.process);
        luggage.joins.pass_door()?;
        let flags = luggage.plan.namespaces.new | libc::CLONE_PARENT as u64;
        fork(luggage.proof, flags, None).at("clone the init stage into the user namespace")
    };
    let failure = match pass() {
        Ok(Forked::Child) => stage(luggage, channel),
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

fn build(luggage: &Luggage<'_>, channel: &Channel) -> Result<entry::Prepared, Failure> {
    let plan = luggage.plan;
    begin(luggage, channel)?;
    let procfs = match luggage.joins.last() {
        Some(namespace) => {
            luggage.streams.settle()?;
            birth::prepare(plan, namespace, luggage.proof)?
        }
        None => Vec::new(),
    };
    // The process proper has attributes of its own.
    let labels = if luggage.joins.last().is_none() { label::Attributes::open(&plan.process.labels)? } else { label::Attributes::default() };
    enter_namespaces(luggage, channel)?;
    let mut stage = Stage::new(channel, luggage.streams.size(), luggage.joins.cgroup(), luggage.proof);
    stage.procfs = procfs;
    stage.run(plan)?;
    let pty = stage.pty.take();
    drop(stage);
    let labels = match luggage.joins.last() {
        Some(namespace) => inside(luggage, namespace, channel, pty.as_ref())?,
        None => labels,
    };
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

/// Goes on as the process proper, inside the pid namespace, and opens the attributes for its labels.
fn inside(luggage: &Luggage<'_>, namespace: &enter::Join, channel: &Channel, pty: Option<&terminal::Pty>) -> Result<label::Attributes, Failure> {
    let mut keep = luggage.streams.fds();
    keep.push(channel.fd());
    if let Gate::Socket(gate) = &luggage.gate {
        keep.push(gate.as_fd());
    }
    keep.extend(pty.iter().flat_map(|pty| [pty.master.as_fd(), pty.peer.as_fd()]));
    let strings = luggage.strings.as_ref().ok_or_else(|| Failure::invalid("the arguments of the stage were not found"))?;
    namespace.enter()?;
    birth::inside(&birth::Belongings { channel, keep: &keep, preserved: luggage.preserved, strings }, luggage.proof)?;
    label::Attributes::open_inside(&luggage.plan.process.labels)
}

fn enter_namespaces(luggage: &Luggage<'_>, channel: &Channel) -> Result<(), Failure> {
    let namespaces = &luggage.plan.namespaces;
    if !luggage.joins.has_door() {
        luggage.joins.enter()?;
    }
    if namespaces.new & libc::CLONE_NEWUSER as u64 != 0 {
        channel.expect(channel::MAPPED)?;
        enter::become_owner()?;
    }
    if let Some(netns) = luggage.netns {
        move_into_link_name_space(netns, Some(rustix::thread::LinkNameSpaceType::Network)).at("join the network namespace")?;
    }
    if let Some(offsets) = &namespaces.time {
        enter::make_time(offsets)?;
    }
    // Last: there may be no /proc in it.
    luggage.joins.mount().map_or(Ok(()), enter::Join::enter)
}

/// Opens the gate and waits for the outcome of `execve`.
pub(super) fn start(init: &mut Init) -> Result<(), Error> {
    if !init.open {
        init.gate.say(channel::GO)?;
    }
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
