//! One `poll` turn of the monitor: moves output, input, requests and clients.

use super::checks::Health;
use super::frame::Request;
use super::life::{Gate, Monitor};
use super::log::Writer;
use super::peer::Peer;
use super::readiness::Herald;
use super::run::{Run, non_blocking};
use super::stdin::Stdin;
use super::{Event, live};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How much is read from a stream at once.
const CHUNK: usize = 32 << 10;
/// Connected clients at a time; others wait in the socket's queue. Keeps descriptors and buffers bounded.
const MOST_PEERS: usize = 256;
/// Before the next try when the kernel is out of memory.
const SHORTAGE: Duration = Duration::from_millis(20);

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// What one turn saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// Init has ended.
    pub(super) exited: bool,
    /// Nothing happened before the timeout.
    pub(super) idle: bool,
}

/// Which descriptor an entry of the poll set stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Init,
    Oom,
    Probe,
    Readiness,
    Listener,
    Stdin,
    Log,
    Output(usize),
    Peer(usize),
    /// With its token.
    Resolver(u64),
}

impl Monitor<'_> {
    /// Waits for something to happen (up to `timeout`) and handles all of it.
    pub(super) fn turn(&mut self, run: Option<&dyn Run>, timeout: Option<Duration>) -> Turn {
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
        self.resolver_due();
        for (source, flags) in ready {
            match source {
                Source::Init => turn.exited = true,
                Source::Oom => self.oom_reported(run),
                Source::Probe => self.probed(),
                Source::Readiness => self.pass_on(),
                Source::Listener => self.accept(),
                Source::Stdin => self.feed(),
                Source::Log => {}
                Source::Output(index) => self.relay(index),
                Source::Peer(index) => self.serve(index, flags),
                Source::Resolver(token) => self.resolver_ready(token),
            }
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.drop_closed();
        turn
    }

    fn wait(&self, run: Option<&dyn Run>, timeout: Option<Duration>) -> Result<Vec<(Source, PollFlags)>, rustix::io::Errno> {
        let mut sources = Vec::with_capacity(5 + self.peers.len());
        let mut fds = Vec::with_capacity(5 + self.peers.len());
        if let Some(run) = run {
            sources.push(Source::Init);
            fds.push(PollFd::from_borrowed_fd(run.pidfd(), PollFlags::IN));
            if let Some(watch) = &self.oom {
                let (fd, flags) = watch.source();
                sources.push(Source::Oom);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
            if let Some(probe) = self.health.as_ref().and_then(Health::probe) {
                sources.push(Source::Probe);
                fds.push(PollFd::from_borrowed_fd(probe, PollFlags::IN));
            }
        }
        if let Some(words) = self.herald.as_ref().and_then(Herald::source).filter(|_| !self.draining) {
            sources.push(Source::Readiness);
            fds.push(PollFd::from_borrowed_fd(words, PollFlags::IN));
        }
        if self.peers.len() < MOST_PEERS {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|stdin| stdin.has_pending()) {
            sources.push(Source::Stdin);
            fds.push(PollFd::new(&stdin.pipe, PollFlags::OUT));
        }
        if let Some(receiver) = self.log.as_ref().and_then(Writer::waits_for) {
            sources.push(Source::Log);
            fds.push(PollFd::new(receiver, PollFlags::OUT));
        }
        let log_full = self.log.as_ref().is_some_and(|log| log.holds_back().is_some());
        if self.draining || !(log_full || self.peers.iter().any(Peer::holds_back)) {
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
        // While the last output is awaited, nothing else ends the wait.
        let resolver = self.resolver.as_ref().filter(|_| !self.draining);
        if let Some(resolver) = resolver {
            resolver.sources(&mut |token, fd, wanted| {
                sources.push(Source::Resolver(token));
                fds.push(PollFd::from_borrowed_fd(fd, wanted));
            });
        }
        let due = resolver.and_then(|resolver| resolver.deadline()).map(|at| at.saturating_duration_since(Instant::now()));
        // A receiver that takes nothing is waited for only so long.
        let wake = self.log.as_ref().filter(|_| !self.draining).and_then(Writer::wakes_in);
        let timeout = timeout.into_iter().chain(wake).chain(due).min();
        poll(&mut fds, timeout.map(timespec).as_ref())?;
        Ok(sources.into_iter().zip(fds.iter().map(PollFd::revents)).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    pub(super) fn accept(&mut self) {
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

    fn oom_reported(&mut self, run: Option<&dyn Run>) {
        let (Some(run), Some(watch)) = (run, &mut self.oom) else { return };
        if let Err(error) = watch.new_kills() {
            tracing::warn!("container {}: cannot watch for OOM kills any more: {error}", self.config.id.short());
            self.oom = None;
        }
        self.look_for_oom(run);
    }

    fn feed(&mut self) {
        if let Some(stdin) = &mut self.stdin
            && !stdin.flush()
        {
            self.stdin = None;
        }
    }

    pub(super) fn serve(&mut self, index: usize, flags: PollFlags) {
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
            Request::Start if (peer.creator || self.kept) && self.gate.is_none() => self.gate = Some(Gate::Start),
            Request::Hold if peer.creator && self.gate.is_none() => self.kept = true,
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
            Request::StopRequested { grace, again } => self.stop_asked(index, grace, again),
            Request::Probe => self.probe_asked(index),
            Request::Resolve(plan) => self.resolve(index, &plan),
            // They wait for the request that says what they are.
            Request::Descriptors => {}
            Request::Ports(count) => self.reserve(index, count),
            Request::Config { .. } | Request::Start | Request::Hold | Request::Abandon => {
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
        } else {
            self.lifecycle.resized(columns, rows);
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
