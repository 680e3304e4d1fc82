//! A client's TCP connection: one question after the other, answered here or relayed to a server over TCP.
//!
//! Invariant: no more is read while an answer is under way, so that what a client can make us keep is one question and
//! one answer.

use super::message;
use super::upstreams::Upstreams;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take for a question or for reading an answer.
const IDLE: Duration = Duration::from_secs(10);
/// How long a server may take, all in all.
const PATIENCE: Duration = Duration::from_secs(3);
const CHUNK: usize = 4096;

/// One end of a conversation in messages with a length before each (RFC 1035, 4.2.2).
#[derive(Debug)]
struct Pipe {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Pipe {
    fn new(socket: TcpStream) -> Self {
        Pipe { socket, input: Vec::new(), output: Vec::new() }
    }

    fn put(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).expect("invariant: messages are below 64 KiB");
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(message);
    }

    /// Writes what can be written.
    fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            if done == self.output.len() {
                break Ok(());
            }
            match self.socket.write(&self.output[done..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.output.drain(..done);
        result
    }

    /// Reads once; an error also at the end of the stream.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; CHUNK];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next complete message.
    fn take(&mut self) -> Option<Vec<u8>> {
        let &[a, b, ..] = &self.input[..] else { return None };
        let end = 2 + usize::from(u16::from_be_bytes([a, b]));
        let message = self.input.get(2..end)?.to_vec();
        if self.input.len() == end {
            self.input = Vec::new();
        } else {
            self.input.drain(..end);
        }
        Some(message)
    }
}

/// A question that a server was asked over TCP.
#[derive(Debug)]
struct Relay {
    token: u64,
    pipe: Pipe,
    server: SocketAddr,
    /// Those that have not been asked.
    others: Vec<SocketAddr>,
    query: Vec<u8>,
    deadline: Instant,
    refusal: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) token: u64,
    client: Pipe,
    relay: Option<Relay>,
    deadline: Instant,
    pub(super) closed: bool,
}

impl Stream {
    pub(super) fn new(token: u64, socket: TcpStream, now: Instant) -> Self {
        Stream { token, client: Pipe::new(socket), relay: None, deadline: now + IDLE, closed: false }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.relay.as_ref().map_or(self.deadline, |relay| relay.deadline)
    }

    /// The client's socket and the server's, with what is awaited: to read, to write.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (u64, &TcpStream, bool, bool)> {
        let client = (self.token, &self.client.socket, self.relay.is_none() && self.client.output.is_empty(), !self.client.output.is_empty());
        let relay = self.relay.as_ref().map(|relay| (relay.token, &relay.pipe.socket, relay.pipe.output.is_empty(), !relay.pipe.output.is_empty()));
        [client].into_iter().chain(relay)
    }

    /// The client's socket is ready. Whole questions are taken with [`Stream::question`].
    pub(super) fn serve(&mut self, now: Instant) {
        let result = match (self.client.output.is_empty(), &self.relay) {
            (true, None) => self.client.fill(),
            (false, _) => self.client.flush(),
            // Nothing is awaited of it: it is broken, and would be ready for ever.
            (true, Some(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.closed |= result.is_err();
        self.deadline = now + IDLE;
    }

    /// The next question, unless an answer is under way.
    pub(super) fn question(&mut self) -> Option<Vec<u8>> {
        if self.closed || self.relay.is_some() || !self.client.output.is_empty() { None } else { self.client.take() }
    }

    pub(super) fn answer(&mut self, message: &[u8], now: Instant) {
        self.relay = None;
        self.client.put(message);
        self.closed |= self.client.flush().is_err();
        self.deadline = now + IDLE;
    }

    /// Asks the servers; false: none can be asked.
    pub(super) fn forward(&mut self, query: Vec<u8>, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> bool {
        let servers = upstreams.in_order(now);
        self.ask(query, servers, None, upstreams, tokens, now).is_ok()
    }

    /// The error is a refusal that came before, if any did.
    fn ask(
        &mut self,
        query: Vec<u8>,
        servers: Vec<SocketAddr>,
        refusal: Option<Vec<u8>>,
        upstreams: &mut Upstreams,
        tokens: &mut u64,
        now: Instant,
    ) -> Result<(), Option<Vec<u8>>> {
        let mut servers = servers.into_iter();
        for server in servers.by_ref() {
            let Ok(socket) = dial(server) else {
                upstreams.shun(server, now);
                continue;
            };
            *tokens += 1;
            let mut pipe = Pipe::new(socket);
            pipe.put(&query);
            let others = servers.collect();
            self.relay = Some(Relay { token: *tokens, pipe, server, others, query, deadline: now + PATIENCE, refusal });
            return Ok(());
        }
        self.relay = None;
        Err(refusal)
    }

    /// Whether the socket is that of the server this client's question was passed on to.
    pub(super) fn relays(&self, token: u64) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.token == token)
    }

    /// The server's socket is ready; the message is for the client, and no message a failure.
    pub(super) fn relay(&mut self, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> Option<Result<Vec<u8>, Vec<u8>>> {
        let relay = self.relay.as_mut()?;
        let moved = if relay.pipe.output.is_empty() { relay.pipe.fill() } else { relay.pipe.flush() };
        if moved.is_err() {
            return self.next_server(None, upstreams, tokens, now);
        }
        let answer = relay.pipe.take()?;
        if !message::is_answer(&answer, message::id(&relay.query), &relay.query) {
            return self.next_server(None, upstreams, tokens, now);
        }
        upstreams.trust(relay.server);
        if message::is_failure(&answer) {
            return self.next_server(Some(answer), upstreams, tokens, now);
        }
        Some(Ok(answer))
    }

    /// `Err` holds the question that nobody answers.
    fn next_server(
        &mut self,
        refusal: Option<Vec<u8>>,
        upstreams: &mut Upstreams,
        tokens: &mut u64,
        now: Instant,
    ) -> Option<Result<Vec<u8>, Vec<u8>>> {
        let relay = self.relay.take()?;
        if refusal.is_none() {
            upstreams.shun(relay.server, now);
        }
        let query = relay.query.clone();
        match self.ask(relay.query, relay.others, refusal.or(relay.refusal), upstreams, tokens, now) {
            Ok(()) => None,
            Err(refusal) => Some(refusal.ok_or(query)),
        }
    }

    /// The deadline has passed: the server is given up, or the client is.
    pub(super) fn expire(&mut self, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> Option<Result<Vec<u8>, Vec<u8>>> {
        if self.relay.is_none() {
            self.closed = true;
            return None;
        }
        self.next_server(None, upstreams, tokens, now)
    }
}

/// A connection that is being made.
fn dial(server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}
