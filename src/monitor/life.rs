//! The monitor's life: gate, run, exit, pause, again.
//!
//! Order at an exit, which callers rely on: all output, `Exited`, clean-up, `finished`, live facts gone,
//! lock free, `Gone`.

use super::checks::Health;
use super::peer::Peer;
use super::readiness::Herald;
use super::resolver::{MakeResolver, Resolver};
use super::run::{Failure, Made, Maker, Run, Streams};
use super::stdin::Stdin;
use super::stop::Stop;
use super::{Cause, Config, Event, Exit, FailureKind, Lifecycle, Live, live, log};
use crate::base::{Timestamp, failpoint};
use crate::runtime::cgroup::OomWatch;
use rustix::event::PollFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long output may stay away after every process of the container was killed (its pipe then is held by a
/// process that is not of the container).
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long an attached client other than the creator may take to read the last messages.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a container must run before it joins the hierarchies that only count: on cgroup v1 the first attach waits
/// some 10 ms for an RCU grace period, during which nothing is relayed and an exit is not seen.
const SETTLE: Duration = Duration::from_millis(60);

/// One container's monitor. `config.spec` is null: only `run::Containers` sees it.
pub(super) struct Monitor<'a> {
    pub(super) config: Config,
    pub(super) lock: File,
    pub(super) listener: OwnedFd,
    pub(super) log: Option<log::Writer>,
    /// Sockets of published ports, until the end is recorded; None from then on.
    pub(super) held: Option<Vec<OwnedFd>>,
    pub(super) lifecycle: Box<dyn Lifecycle + 'a>,
    pub(super) make_resolver: &'a MakeResolver,
    pub(super) resolver: Option<Box<dyn Resolver>>,
    pub(super) herald: Option<Herald>,
    /// Init of the present run.
    pub(super) pid: Option<i32>,
    pub(super) peers: Vec<Peer>,
    pub(super) health: Option<Health>,
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) stdin: Option<Stdin>,
    pub(super) console: Option<OwnedFd>,
    pub(super) gate: Option<Gate>,
    /// Its creator has left it at its gate on purpose: others may open it.
    pub(super) kept: bool,
    pub(super) stop: Stop,
    /// Init has ended: what is left in the pipes is read whoever holds back (it is bounded by the pipes).
    pub(super) draining: bool,
    restart_count: u32,
    /// Until the run settles, and where memory is not counted: none.
    pub(super) oom: Option<OomWatch>,
    /// Kills of earlier runs, and of this one as far as they were told.
    oom_before: u64,
    oom_told: u64,
}

/// What became of the creator's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Start,
    Abandon,
    /// The creator died before it decided.
    Lost,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(
        config: Config,
        lock: File,
        listener: OwnedFd,
        log: Option<log::Writer>,
        lifecycle: Box<dyn Lifecycle + 'a>,
        make_resolver: &'a MakeResolver,
        creator: Peer,
    ) -> Self {
        Monitor {
            config,
            lock,
            listener,
            log,
            held: Some(Vec::new()),
            lifecycle,
            make_resolver,
            resolver: None,
            herald: None,
            pid: None,
            peers: vec![creator],
            health: None,
            outputs: [None, None],
            stdin: None,
            console: None,
            gate: None,
            kept: false,
            stop: Stop::default(),
            draining: false,
            restart_count: 0,
            oom: None,
            oom_before: 0,
            oom_told: 0,
        }
    }

    /// Runs the container to its final end.
    pub(super) fn run(mut self, make: &mut Maker<'_>) {
        let Made { mut run, streams } = match make() {
            Ok(made) => made,
            Err(failure) => return self.not_started(&failure),
        };
        self.take_streams(streams);
        if let Err(message) = self.connected(run.pid()) {
            self.tell(&Event::Failed { kind: FailureKind::Other, message });
            return self.tear_down(run.as_mut());
        }
        // Requests that came right behind the configuration.
        self.serve(0, PollFlags::empty());
        self.tell(&Event::Created { pid: run.pid() });
        match self.await_gate(run.as_ref()) {
            Gate::Start => drop(failpoint::hit("monitor.gate.open")),
            Gate::Abandon if self.kept => return self.never_ran(run.as_mut(), 0, None),
            Gate::Abandon => return self.tear_down(run.as_mut()),
            Gate::Lost => return self.never_ran(run.as_mut(), 128, Some("the command that was starting the container died")),
        }
        if let Err(failure) = run.start() {
            self.tell(&Event::Failed { kind: failure.kind, message: failure.message.clone() });
            return if self.kept { self.never_ran(run.as_mut(), failure.exit_code(), Some(&failure.message)) } else { self.tear_down(run.as_mut()) };
        }
        failpoint::hit("monitor.gate.opened").ok();
        let (exit, error) = self.live(run, make);
        self.record(&exit, error.as_deref());
        self.leave();
    }

    /// From the first start to the last exit.
    fn live(&mut self, mut run: Box<dyn Run>, make: &mut Maker<'_>) -> (Exit, Option<String>) {
        loop {
            let started = Instant::now();
            self.announce(run.as_mut());
            if !self.watch(run.as_ref(), Some(SETTLE)) {
                self.settle(run.as_mut());
                self.watch(run.as_ref(), None);
            }
            let restart = self.end_health();
            let exit = self.ended(run.as_mut());
            // Requests that were sent before the end count: a stop is announced before its signal.
            self.turn(None, Some(Duration::ZERO));
            let cause = match restart {
                _ if self.stays_down() => Cause::Stop,
                _ if self.restarts_for_another() => Cause::Restart,
                cause => cause,
            };
            if let Some(killed) = self.stop.forsaken() {
                self.lifecycle.forsaken(killed);
            }
            if cause != Cause::Stop {
                self.stop = Stop::default();
            }
            let pause = self.lifecycle.exited(&exit, started.elapsed(), cause);
            self.tell(&Event::Exited { exit, restarting: pause.is_some() });
            self.clear(run.as_mut());
            let cgroup = run.group();
            drop(run);
            let Some(pause) = pause else { return (exit, None) };
            match self.restart(pause, &exit, cgroup, make) {
                Ok(again) => run = again,
                Err(error) => return (exit, error),
            }
        }
    }

    /// Waits and makes the next run; `Err`: there is none (and why, if it failed).
    fn restart(
        &mut self,
        mut pause: Duration,
        exit: &Exit,
        cgroup: crate::runtime::cgroup::Group,
        make: &mut Maker<'_>,
    ) -> Result<Box<dyn Run>, Option<String>> {
        let none = Live { pid: None, start_ticks: 0, started: Timestamp::NEVER, ..self.facts(0, cgroup) };
        let mut facts = Live { last_exit: exit.code, last_end: exit.at, ..none };
        loop {
            facts.next_start = Some(Timestamp::now().after(pause));
            self.publish(&facts);
            let deadline = Instant::now() + pause;
            while !self.stays_down() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                self.turn(None, Some(left));
            }
            if self.stays_down() {
                self.tell(&Event::Exited { exit: *exit, restarting: false });
                return Err(None);
            }
            let failure = match self.make_again(make) {
                Ok(Some(run)) => return Ok(run),
                // Back to the test above.
                Ok(None) => continue,
                Err(failure) => failure,
            };
            match self.lifecycle.restart_failed(&failure.message) {
                Some(next) => pause = next,
                None => {
                    self.tell(&Event::Exited { exit: *exit, restarting: false });
                    return Err(Some(failure.message));
                }
            }
        }
    }

    /// What a run needs before its gate opens, once its namespaces are there.
    fn connected(&mut self, pid: i32) -> Result<(), String> {
        self.lifecycle.created(pid)?;
        self.begin_resolver(pid)
    }

    /// None: the user stopped it meanwhile.
    fn make_again(&mut self, make: &mut Maker<'_>) -> Result<Option<Box<dyn Run>>, Failure> {
        let Made { mut run, streams } = make()?;
        self.take_streams(streams);
        // A stop that came while it was made wins.
        self.turn(None, Some(Duration::ZERO));
        if self.stays_down() {
            self.clear(run.as_mut());
            return Ok(None);
        }
        let connected = self.connected(run.pid()).map_err(|message| Failure { kind: FailureKind::Other, message });
        match connected.and_then(|()| run.start()) {
            Ok(()) => {
                self.restart_count = self.restart_count.saturating_add(1);
                Ok(Some(run))
            }
            Err(failure) => {
                self.clear(run.as_mut());
                Err(failure)
            }
        }
    }

    /// What is known of a process that has just been made.
    fn facts(&self, pid: i32, cgroup: crate::runtime::cgroup::Group) -> Live {
        Live {
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: Some(pid),
            start_ticks: live::start_ticks(pid),
            started: Timestamp::NEVER,
            restart_count: self.restart_count,
            last_exit: 0,
            waiting: false,
            last_end: Timestamp::NEVER,
            oom_kills: self.oom_told,
            next_start: None,
            cgroup,
        }
    }

    /// The program runs: says so to the disk, the clients and the engine.
    fn announce(&mut self, run: &mut dyn Run) {
        let at = Timestamp::now();
        let pid = run.pid();
        let facts = Live { started: at, ..self.facts(pid, run.group()) };
        self.begin_health();
        self.stop.begin(self.config.time_limit);
        self.publish(&facts);
        // First: whatever a client does next is told after the start.
        self.lifecycle.started(pid, at, self.restart_count);
        self.tell_started();
        self.tell(&Event::Started { pid, at });
    }

    /// Relays until init has ended (true), or until `limit` has passed since the call (false).
    fn watch(&mut self, run: &dyn Run, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            self.check_health(run);
            self.check_stop(run);
            let now = Instant::now();
            let next = [deadline, self.next_check(), self.stop.deadline()].into_iter().flatten().min();
            if self.turn(Some(run), next.map(|next| next.saturating_duration_since(now))).exited {
                return true;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return false;
            }
        }
    }

    /// What a container that stays needs and one that ends at once does not.
    fn settle(&mut self, run: &mut dyn Run) {
        if let Err(failure) = run.settle() {
            tracing::warn!("container {}: {}", self.config.id.short(), failure.message);
        }
        self.oom = run.oom_watch();
        // Those before the watch began.
        self.look_for_oom(run);
        crate::sys::heap::trim();
    }

    /// Kills that were counted since the last look: tells everybody.
    pub(super) fn look_for_oom(&mut self, run: &dyn Run) {
        if self.note_oom(run.oom_kills())
            && let Some(facts) = Live::read_own(&self.config.live_dir)
        {
            self.publish(&Live { oom_kills: self.oom_told, ..facts });
        }
    }

    /// `kills` of the present run; true: there are new ones.
    fn note_oom(&mut self, kills: u64) -> bool {
        let all = self.oom_before + kills;
        let new = all > self.oom_told;
        if new {
            self.oom_told = all;
            self.lifecycle.oom(all);
        }
        new
    }

    fn publish(&self, facts: &Live) {
        if let Err(error) = facts.publish(&self.config.live_dir) {
            tracing::warn!("{error}");
        }
    }

    /// Reaps init and relays the rest of its output.
    fn ended(&mut self, run: &mut dyn Run) -> Exit {
        let code = exit_code(run);
        let at = Timestamp::now();
        self.oom = None;
        let kills = run.oom_kills();
        self.note_oom(kills);
        self.oom_before = self.oom_before.max(self.oom_told);
        let oom_killed = kills > 0;
        self.stdin = None;
        self.draining = true;
        let mut killed = false;
        while self.outputs.iter().any(Option::is_some) {
            let wait = if killed { LAST_WORDS } else { Duration::ZERO };
            if self.turn(None, Some(wait)).idle {
                if killed {
                    tracing::warn!("container {}: a foreign process keeps its output open", self.config.id.short());
                    self.outputs = [None, None];
                } else {
                    // Not reached with a PID namespace: its other processes died before init was reaped.
                    self.kill_all(run);
                    killed = true;
                }
            }
        }
        self.draining = false;
        self.console = None;
        if let Some(log) = &mut self.log {
            log.finish();
        }
        Exit { code, oom_killed, at }
    }

    fn kill_all(&self, run: &mut dyn Run) {
        if let Err(failure) = run.kill_all() {
            tracing::warn!("container {}: {}", self.config.id.short(), failure.message);
        }
    }

    /// Ends and removes what is left of a run.
    fn clear(&mut self, run: &mut dyn Run) {
        self.end_resolver();
        self.kill_all(run);
        if let Err(failure) = run.delete() {
            tracing::warn!("container {}: {}", self.config.id.short(), failure.message);
        }
        // An init that never ran was killed with its group; its status is of no interest, but a restart policy may
        // make many of them. One that ran was reaped already.
        waitid(WaitId::PidFd(run.pidfd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
        self.outputs = [None, None];
        self.stdin = None;
        self.console = None;
    }

    /// A run that never started: the creator takes back what it did.
    fn tear_down(mut self, run: &mut dyn Run) {
        self.clear(run);
        self.leave();
    }

    fn not_started(mut self, failure: &Failure) {
        self.tell(&Event::Failed { kind: failure.kind, message: failure.message.clone() });
        self.leave();
    }

    /// Removes the live facts, frees the lock, says `Gone` and waits until it was heard.
    fn leave(mut self) {
        self.resolver = None;
        // Whoever connected up to now still gets an answer.
        self.turn(None, Some(Duration::ZERO));
        // Those of a run that never started. Whoever finds no facts (or hears `Gone`) may publish the same ports.
        self.held = None;
        for error in live::remove(&self.config.live_dir) {
            tracing::warn!("{error}");
        }
        failpoint::hit("monitor.leave.facts").ok();
        self.accept();
        if let Err(error) = rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock) {
            tracing::warn!("cannot free the lock of container {}: {error}", self.config.id.short());
        }
        self.tell(&Event::Gone);
        let deadline = Instant::now() + FAREWELL;
        loop {
            self.peers.retain(|peer| !peer.closed && peer.waiting() > 0);
            let patient = self.peers.iter().any(|peer| peer.creator);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.peers.is_empty() || (!patient && left.is_zero()) {
                return;
            }
            self.turn(None, if patient { None } else { Some(left) });
        }
    }

    fn take_streams(&mut self, streams: Streams) {
        self.outputs = [streams.stdout, streams.stderr];
        self.stdin = streams.stdin.filter(|_| self.config.open_stdin).map(Stdin::new);
        self.console = streams.console;
    }

    fn await_gate(&mut self, run: &dyn Run) -> Gate {
        let mut told = false;
        loop {
            if let Some(gate) = self.gate {
                return gate;
            }
            if self.kept && (self.stays_down() || self.stop.forsaken().is_some()) {
                return Gate::Abandon;
            }
            if self.kept && !std::mem::replace(&mut told, true) {
                self.publish(&Live { waiting: true, ..self.facts(run.pid(), run.group()) });
                self.tell(&Event::Held);
            }
            if !self.kept && !self.peers.iter().any(|peer| peer.creator) {
                return Gate::Lost;
            }
            // Whoever waits with it has an eye on it; one that is left alone may be killed unseen.
            if self.turn(Some(run).filter(|_| self.kept), None).exited {
                return Gate::Abandon;
            }
        }
    }

    /// The end of one whose program was never executed, and whose creator does not take back what it did.
    fn never_ran(mut self, run: &mut dyn Run, code: i32, error: Option<&str>) {
        self.clear(run);
        self.record(&Exit { code, oom_killed: false, at: Timestamp::now() }, error);
        self.leave();
    }

    /// Whoever reads that it has ended may publish the same ports at once: they are free before.
    fn record(&mut self, exit: &Exit, error: Option<&str>) {
        self.held = None;
        self.lifecycle.finished(exit, error);
    }

    fn tell(&mut self, event: &Event) {
        self.peers.iter_mut().for_each(|peer| peer.tell(event));
        self.drop_closed();
    }
}

/// 0..=255, or 128+n for signal n. Waits: a pidfd may be readable a moment before the reaping is possible.
fn exit_code(run: &dyn Run) -> i32 {
    loop {
        match waitid(WaitId::PidFd(run.pidfd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255);
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("cannot reap process {}: {error}", run.pid());
                return 255;
            }
        }
    }
}
