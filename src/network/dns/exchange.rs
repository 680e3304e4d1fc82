//! A question that came over UDP and was passed on: which servers were asked, and what became of it.
//!
//! Invariants: each try has a socket of its own, connected to its server (the kernel drops what others send) and so with a
//! random port, and an id that nobody can guess; what comes back counts only if id and question are those of the try.

use super::message;
use super::upstreams::Upstreams;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Questions in all, if nobody answers: to each server once, to fewer servers again.
const TRIES: usize = 3;
/// Between two of them. All are over before the client asks again, which it does after 5 s (resolv.conf(5)); answers that
/// come later than this count as well.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Longest datagram that is read; what is longer is asked for again over TCP.
pub(super) const DATAGRAM: usize = 4096;

#[derive(Debug)]
struct Try {
    token: u64,
    /// None: it failed.
    socket: Option<UdpSocket>,
    id: u16,
    server: SocketAddr,
}

/// A client's question on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: SocketAddr,
    query: Box<[u8]>,
    servers: Vec<SocketAddr>,
    tries: Vec<Try>,
    pub(super) deadline: Instant,
    /// What a server said that could not help.
    refusal: Option<Vec<u8>>,
}

/// What becomes of an exchange.
#[derive(Debug)]
pub(super) enum Step {
    /// It waits on.
    Waits,
    /// This is for the client.
    Done(Vec<u8>),
    Failed,
}

impl Exchange {
    /// Asks the first server.
    pub(super) fn begin(client: SocketAddr, query: &[u8], upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> (Self, Step) {
        let servers = upstreams.in_order(now);
        let mut exchange = Exchange { client, query: query.into(), servers, tries: Vec::new(), deadline: now, refusal: None };
        let step = exchange.go_on(upstreams, tokens, now);
        (exchange, step)
    }

    /// Asks the next server that has not been asked, and any that fails at once along with it.
    fn go_on(&mut self, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> Step {
        while self.tries.len() < self.servers.len() {
            match self.ask(tokens, now) {
                Ok(()) => return Step::Waits,
                Err(server) => upstreams.shun(server, now),
            }
        }
        if self.tries.iter().any(|t| t.socket.is_some()) { Step::Waits } else { self.give_up() }
    }

    fn give_up(&mut self) -> Step {
        self.refusal.take().map_or(Step::Failed, Step::Done)
    }

    /// One try; the error is the server that cannot be asked.
    fn ask(&mut self, tokens: &mut u64, now: Instant) -> Result<(), SocketAddr> {
        let server = self.servers[self.tries.len() % self.servers.len()];
        *tokens += 1;
        let sent = send(&self.query, server);
        self.deadline = now + PATIENCE;
        let (socket, id) = sent.map_or((None, 0), |(socket, id)| (Some(socket), id));
        let asked = socket.is_some();
        self.tries.push(Try { token: *tokens, socket, id, server });
        if asked { Ok(()) } else { Err(server) }
    }

    /// Nobody has answered in time.
    pub(super) fn expire(&mut self, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> Step {
        if let Some(last) = self.tries.last().filter(|last| last.socket.is_some()) {
            upstreams.shun(last.server, now);
        }
        while self.tries.len() < TRIES.max(self.servers.len()) {
            match self.ask(tokens, now) {
                Ok(()) => return Step::Waits,
                Err(server) => upstreams.shun(server, now),
            }
        }
        self.give_up()
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = (u64, &UdpSocket)> {
        self.tries.iter().filter_map(|t| t.socket.as_ref().map(|socket| (t.token, socket)))
    }

    /// The socket of a try is readable.
    pub(super) fn receive(&mut self, token: u64, upstreams: &mut Upstreams, tokens: &mut u64, now: Instant) -> Step {
        let Some(index) = self.tries.iter().position(|t| t.token == token) else { return Step::Waits };
        let mut buffer = [0; DATAGRAM + 1];
        loop {
            let tried = &mut self.tries[index];
            let Some(socket) = &tried.socket else { return Step::Waits };
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                // Nobody listens there, or there is no way.
                Err(_) => {
                    let server = tried.server;
                    tried.socket = None;
                    upstreams.shun(server, now);
                    return self.go_on(upstreams, tokens, now);
                }
            };
            if !message::is_answer(&buffer[..length], tried.id, &self.query) {
                continue;
            }
            upstreams.trust(tried.server);
            let mut answer = buffer[..length].to_vec();
            if length > DATAGRAM {
                message::truncate(&mut answer);
            }
            message::set_id(&mut answer, message::id(&self.query));
            if !message::is_failure(&answer) {
                return Step::Done(answer);
            }
            tried.socket = None;
            self.refusal = Some(answer);
            return self.go_on(upstreams, tokens, now);
        }
    }

    /// The question as the client sent it.
    pub(super) fn query(&self) -> &[u8] {
        &self.query
    }
}

/// Sends the question under a new id from a new socket.
fn send(query: &[u8], server: SocketAddr) -> io::Result<(UdpSocket, u16)> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    let mut id = [0; 2];
    getrandom(&mut id[..], GetRandomFlags::empty())?;
    let id = u16::from_ne_bytes(id);
    let mut bytes = query.to_vec();
    message::set_id(&mut bytes, id);
    socket.send(&bytes)?;
    Ok((socket, id))
}
