//! The monitor's life: gate, run, exit, pause, again; and one `poll` turn that moves everything.
//!
//! Order at an exit, which callers rely on: all output, `Exited`, clean-up, `finished`, live facts gone,
//! lock free, `Gone`.

use super::frame::Request;
use super::peer::Peer;
use super::run::{Failure, Made, Maker, Run, Streams, non_blocking};
use super::stdin::Stdin;
use super::{Config, Event, Exit, FailureKind, Lifecycle, Live, live, log};
use crate::base::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How much is read from a stream at once.
const CHUNK: usize = 32 << 10;
/// How long output may stay away after every process of the container was killed (its pipe then is held by a
/// process that is not of the container).
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long an attached client other than the creator may take to read the last messages.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a container must run before it joins the hierarchies that only count: on cgroup v1 the first attach waits
/// some 10 ms for an RCU grace period, during which nothing is relayed and an exit is not seen.
const SETTLE: Duration = Duration::from_millis(60);

/// Connected clients at a time; others wait in the socket's queue. Keeps descriptors and buffers bounded.
const MOST_PEERS: usize = 256;
/// Before the next try when the kernel is out of memory.
const SHORTAGE: Duration = Duration::from_millis(20);

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// One container's monitor. `config.spec` is null: only `run::Containers` sees it.
pub(super) struct Monitor<'a> {
    pub(super) config: Config,
    pub(super) lock: File,
    pub(super) listener: OwnedFd,
    pub(super) log: Option<log::Writer>,
    /// Sockets of published ports, until the very end.
    pub(super) held: Vec<OwnedFd>,
    pub(super) lifecycle: Box<dyn Lifecycle + 'a>,
    peers: Vec<Peer>,
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<Stdin>,
    console: Option<OwnedFd>,
    gate: Option<Gate>,
    stop_requested: bool,
    /// Init has ended: what is left in the pipes is read whoever holds back (it is bounded by the pipes).
    draining: bool,
    restart_count: u32,
}

/// What became of the creator's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Start,
    Abandon,
    /// The creator died before it decided.
    Lost,
}

/// What one turn saw.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// Init has ended.
    exited: bool,
    /// Nothing happened before the timeout.
    idle: bool,
}

/// Which descriptor an entry of the poll set stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Init,
    Listener,
    Stdin,
    Output(usize),
    Peer(usize),
}

impl<'a> Monitor<'a> {
    pub(super) fn new(
        config: Config,
        lock: File,
        listener: OwnedFd,
        log: Option<log::Writer>,
        lifecycle: Box<dyn Lifecycle + 'a>,
        creator: Peer,
    ) -> Self {
        Monitor {
            config,
            lock,
            listener,
            log,
            held: Vec::new(),
            lifecycle,
            peers: vec![creator],
            outputs: [None, None],
            stdin: None,
            console: None,
            gate: None,
            stop_requested: false,
            draining: false,
            restart_count: 0,
        }
    }

    /// Runs the container to its final end.
    pub(super) fn run(mut self, make: &mut Maker<'_>) {
        let Made { mut run, streams } = match make() {
            Ok(made) => made,
            Err(failure) => return self.not_started(&failure),
        };
        self.take_streams(streams);
        if let Err(message) = self.lifecycle.created(run.pid()) {
            self.tell(&Event::Failed { kind: FailureKind::Other, message });
            return self.tear_down(run.as_mut());
        }
        // Requests that came right behind the configuration.
        self.serve(0, PollFlags::empty());
        self.tell(&Event::Created { pid: run.pid() });
        match self.await_gate() {
            Gate::Start => {}
            Gate::Abandon => return self.tear_down(run.as_mut()),
            Gate::Lost => {
                self.clear(run.as_mut());
                let exit = Exit { code: 128, oom_killed: false, at: Timestamp::now() };
                self.lifecycle.finished(&exit, Some("the command that was starting the container died"));
                return self.leave();
            }
        }
        if let Err(failure) = run.start() {
            self.tell(&Event::Failed { kind: failure.kind, message: failure.message });
            return self.tear_down(run.as_mut());
        }
        let (exit, error) = self.live(run, make);
        self.lifecycle.finished(&exit, error.as_deref());
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
            let exit = self.ended(run.as_mut());
            // Requests that were sent before the end count: a stop is announced before its signal.
            self.turn(None, Some(Duration::ZERO));
            let pause = self.lifecycle.exited(&exit, started.elapsed(), self.stop_requested);
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
        let facts = Live {
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: None,
            start_ticks: 0,
            started: Timestamp::NEVER,
            restart_count: self.restart_count,
            last_exit: exit.code,
            last_end: exit.at,
            cgroup,
        };
        self.publish(&facts);
        loop {
            let deadline = Instant::now() + pause;
            while !self.stop_requested {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                self.turn(None, Some(left));
            }
            if self.stop_requested {
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

    /// None: the user stopped it meanwhile.
    fn make_again(&mut self, make: &mut Maker<'_>) -> Result<Option<Box<dyn Run>>, Failure> {
        let Made { mut run, streams } = make()?;
        self.take_streams(streams);
        // A stop that came while it was made wins.
        self.turn(None, Some(Duration::ZERO));
        if self.stop_requested {
            self.clear(run.as_mut());
            return Ok(None);
        }
        let connected = self.lifecycle.created(run.pid()).map_err(|message| Failure { kind: FailureKind::Other, message });
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

    /// The program runs: says so to the disk, the clients and the engine.
    fn announce(&mut self, run: &mut dyn Run) {
        let at = Timestamp::now();
        let pid = run.pid();
        let facts = Live {
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: Some(pid),
            start_ticks: live::start_ticks(pid),
            started: at,
            restart_count: self.restart_count,
            last_exit: 0,
            last_end: Timestamp::NEVER,
            cgroup: run.group(),
        };
        self.publish(&facts);
        self.tell(&Event::Started { pid, at });
        self.lifecycle.started(pid, at, self.restart_count);
    }

    /// Relays until init has ended (true), or until `limit` has passed since the call (false).
    fn watch(&mut self, run: &dyn Run, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.turn(Some(run), left).exited {
                return true;
            }
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
        }
    }

    /// What a container that stays needs and one that ends at once does not.
    fn settle(&self, run: &mut dyn Run) {
        if let Err(failure) = run.settle() {
            tracing::warn!("container {}: {}", self.config.id.short(), failure.message);
        }
        crate::sys::heap::trim();
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
        let oom_killed = run.oom_killed();
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
        // Whoever connected up to now still gets an answer.
        self.turn(None, Some(Duration::ZERO));
        for error in live::remove(&self.config.live_dir) {
            tracing::warn!("{error}");
        }
        self.accept();
        // Whoever hears `Gone` may publish the same ports.
        self.held.clear();
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

    fn await_gate(&mut self) -> Gate {
        loop {
            if let Some(gate) = self.gate {
                return gate;
            }
            if !self.peers.iter().any(|peer| peer.creator) {
                return Gate::Lost;
            }
            self.turn(None, None);
        }
    }

    fn tell(&mut self, event: &Event) {
        self.peers.iter_mut().for_each(|peer| peer.tell(event));
        self.peers.retain(|peer| !peer.closed);
    }

    /// Waits for something to happen (up to `timeout`) and handles all of it.
    fn turn(&mut self, run: Option<&dyn Run>, timeout: Option<Duration>) -> Turn {
        let ready = match self.wait(run, timeout) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Turn::default(),
            Err(error) => {
                // The kernel lacks memory for a moment: no reason to take the container down.
                tracing::warn!("container {}: cannot wait for events: {error}", self.config.id.short());
                std::thread::sleep(SHORTAGE);
                return Turn::default();
            }
        };
        let mut turn = Turn { exited: false, idle: ready.is_empty() };
        for (source, flags) in ready {
            match source {
                Source::Init => turn.exited = true,
                Source::Listener => self.accept(),
                Source::Stdin => self.feed(),
                Source::Output(index) => self.relay(index),
                Source::Peer(index) => self.serve(index, flags),
            }
        }
        self.peers.retain(|peer| !peer.closed);
        turn
    }

    fn wait(&self, run: Option<&dyn Run>, timeout: Option<Duration>) -> Result<Vec<(Source, PollFlags)>, rustix::io::Errno> {
        let mut sources = Vec::with_capacity(5 + self.peers.len());
        let mut fds = Vec::with_capacity(5 + self.peers.len());
        if let Some(run) = run {
            sources.push(Source::Init);
            fds.push(PollFd::from_borrowed_fd(run.pidfd(), PollFlags::IN));
        }
        if self.peers.len() < MOST_PEERS {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|stdin| stdin.has_pending()) {
            sources.push(Source::Stdin);
            fds.push(PollFd::new(&stdin.pipe, PollFlags::OUT));
        }
        if self.draining || !self.peers.iter().any(Peer::holds_back) {
            for (index, output) in self.outputs.iter().enumerate() {
                if let Some(output) = output {
                    sources.push(Source::Output(index));
                    fds.push(PollFd::new(output, PollFlags::IN));
                }
            }
        }
        let stdin_full = self.stdin.as_ref().is_some_and(Stdin::is_full);
        for (index, peer) in self.peers.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            if !(stdin_full && peer.stdin) {
                wanted |= PollFlags::IN;
            }
            if peer.waiting() > 0 {
                wanted |= PollFlags::OUT;
            }
            sources.push(Source::Peer(index));
            fds.push(PollFd::new(&peer.socket, wanted));
        }
        poll(&mut fds, timeout.map(timespec).as_ref())?;
        Ok(sources.into_iter().zip(fds.iter().map(PollFd::revents)).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn accept(&mut self) {
        while self.peers.len() < MOST_PEERS {
            let socket = match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!("container {}: cannot accept a client: {error}", self.config.id.short());
                    return;
                }
            };
            let own = rustix::process::geteuid().as_raw();
            match crate::sys::peer::user_id(socket.as_fd()) {
                Ok(user) if user == 0 || user == own => self.peers.push(Peer::new(socket, false)),
                Ok(user) => tracing::warn!("container {}: refused a client of user {user}", self.config.id.short()),
                Err(error) => tracing::warn!("container {}: cannot tell who a client is: {error}", self.config.id.short()),
            }
        }
    }

    /// Moves one chunk of output: to the log first, then to the clients.
    fn relay(&mut self, index: usize) {
        let Some(output) = &self.outputs[index] else { return };
        let mut buffer = [0u8; CHUNK];
        match rustix::io::read(output, &mut buffer[..]) {
            Ok(count) if count > 0 => {
                let stream = if index == 1 { 2 } else { 1 };
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer[..count]);
                }
                let mut wanting = self.peers.iter_mut().filter(|peer| if index == 1 { peer.stderr } else { peer.stdout }).peekable();
                if wanting.peek().is_some() {
                    let data = buffer[..count].to_vec();
                    let event = if index == 1 { Event::Stderr(data) } else { Event::Stdout(data) };
                    wanting.for_each(|peer| peer.tell(&event));
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // End of a pipe; EIO: the last holder of the terminal is gone (pty(7)).
            Ok(_) | Err(_) => self.outputs[index] = None,
        }
    }

    fn feed(&mut self) {
        if let Some(stdin) = &mut self.stdin
            && !stdin.flush()
        {
            self.stdin = None;
        }
    }

    fn serve(&mut self, index: usize, flags: PollFlags) {
        let peer = &mut self.peers[index];
        if flags.contains(PollFlags::OUT) {
            peer.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            peer.receive();
        }
        while let Some(request) = self.peers[index].request() {
            self.obey(index, request);
        }
        if self.peers[index].closed && std::mem::take(&mut self.peers[index].stdin) {
            self.stdin_ended();
        }
    }

    fn obey(&mut self, index: usize, request: Request) {
        let peer = &mut self.peers[index];
        match request {
            Request::Start if peer.creator && self.gate.is_none() => self.gate = Some(Gate::Start),
            Request::Abandon if peer.creator && self.gate.is_none() => self.gate = Some(Gate::Abandon),
            Request::Attach { stdout, stderr, stdin } => {
                (peer.stdout, peer.stderr) = (stdout, stderr);
                peer.stdin |= stdin && self.config.open_stdin;
            }
            Request::Stdin(data) if peer.stdin => {
                if let Some(stdin) = &mut self.stdin {
                    stdin.push(&data);
                }
                self.feed();
            }
            Request::StdinEnd if peer.stdin => {
                peer.stdin = false;
                self.stdin_ended();
            }
            // After its end or without having attached: there is nowhere to write to.
            Request::Stdin(_) | Request::StdinEnd => {}
            Request::Resize { columns, rows } => self.resize(columns, rows),
            Request::StopRequested => self.stop_requested = true,
            Request::Config { .. } | Request::Descriptors | Request::Start | Request::Abandon => {
                tracing::warn!("a client of the monitor sent a request that only its creator may send once; it is dropped");
                peer.closed = true;
            }
        }
    }

    /// A writer of stdin is done.
    fn stdin_ended(&mut self) {
        if self.config.stdin_once
            && self.console.is_none()
            && let Some(stdin) = &mut self.stdin
        {
            stdin.end();
            self.feed();
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        let Some(console) = &self.console else { return };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = rustix::termios::tcsetwinsize(console, size) {
            tracing::warn!("cannot resize the terminal of container {}: {error}", self.config.id.short());
        }
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

/// The listening socket of a live directory (mode 0600 by way of its directory and of the umask below).
pub(super) fn listen(live_dir: &std::path::Path) -> Result<OwnedFd, super::Error> {
    use crate::base::fs::Context;
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket_with};
    let path = live_dir.join(live::SOCKET);
    crate::base::fs::remove_file(&path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).on("make the socket", &path)?;
    let (_directory, address) = super::client::address(live_dir).on("open", live_dir)?;
    // The file gets the mode of the socket's inode less the umask (unix(7)).
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600)).on("restrict", &path)?;
    bind(&socket, &address).on("bind", &path)?;
    listen(&socket, 128).on("listen on", &path)?;
    non_blocking(&socket)?;
    Ok(socket)
}
