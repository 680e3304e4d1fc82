//! The server of one container: its sockets, what it is waiting for, and one step at a time. Who polls is not known here.
//!
//! Invariants: nothing blocks; all that a client can make us keep is bounded (questions on their way, connections, bytes of
//! each); a turn ends after a bounded number of messages.

use super::answer::{self, Outcome, Shuffle, Zone};
use super::exchange::{DATAGRAM, Exchange, Step};
use super::message::{self, Code};
use super::names::Names;
use super::stream::Stream;
use super::upstreams::Upstreams;
use super::{ADDRESS, Plan, redirect};
use crate::network::Error;
use crate::network::error::Context;
use crate::sys::netns;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Questions on their way to other servers, each with up to three sockets; the oldest fails for one more.
pub(super) const MOST_EXCHANGES: usize = 128;
/// TCP connections; the oldest is closed for one more.
const MOST_STREAMS: usize = 32;
/// Messages in one turn: the container's output must not wait behind a flood of questions.
const BATCH: usize = 64;
/// Before the next try when no connection can be accepted.
const REST: Duration = Duration::from_millis(200);
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
const UDP: u64 = 0;
const TCP: u64 = 1;
/// Room that the answer buffer keeps: most answers need less.
const KEPT: usize = 512;

#[derive(Debug)]
struct Sockets {
    /// Device and inode of the network namespace.
    namespace: (u64, u64),
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Answers the queries of one container.
#[derive(Debug)]
pub struct Server {
    zones: Vec<(String, Names)>,
    forward: bool,
    upstreams: Upstreams,
    host_resolv_conf: PathBuf,
    sockets: Option<Sockets>,
    exchanges: VecDeque<Exchange>,
    streams: VecDeque<Stream>,
    /// No connection is accepted before: there was no descriptor for it.
    rests_until: Option<Instant>,
    /// The last one given.
    token: u64,
    order: Shuffle,
    out: Vec<u8>,
}

impl Server {
    pub fn new(plan: Plan) -> Self {
        Server::with_host(plan, HOST_RESOLV_CONF.into())
    }

    pub(super) fn with_host(plan: Plan, host_resolv_conf: PathBuf) -> Self {
        let mut seed = [0; 8];
        // Without it the order of addresses is the same for all servers.
        let seeded = getrandom(&mut seed[..], GetRandomFlags::empty()).is_ok();
        tracing::debug!("the order of addresses is {}", if seeded { "random" } else { "fixed" });
        let mut server = Server {
            zones: Vec::new(),
            forward: false,
            upstreams: Upstreams::new(&[], host_resolv_conf.clone()),
            host_resolv_conf,
            sockets: None,
            exchanges: VecDeque::new(),
            streams: VecDeque::new(),
            rests_until: None,
            token: TCP,
            order: Shuffle::new(u64::from_ne_bytes(seed)),
            out: Vec::new(),
        };
        server.follow(plan);
        server
    }

    /// From now on another plan. Questions on their way come to their end.
    pub fn follow(&mut self, plan: Plan) {
        self.upstreams = Upstreams::new(&plan.servers, self.host_resolv_conf.clone());
        self.forward = plan.forward;
        self.zones = plan.networks.into_iter().map(|network| (network.name, Names::new(network.names))).collect();
    }

    /// Opens the sockets in a network namespace and leads queries to them; nothing if they are there already. Those in another
    /// one are closed. Several servers may be in one namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, the kernel takes no table, or another program has the port.
    pub fn open(&mut self, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let failed = |operation| move |source: io::Error| Error::Namespace { operation, source };
        let facts = rustix::fs::fstat(namespace).map_err(io::Error::from).map_err(failed("look at a"))?;
        let identity = (facts.st_dev, facts.st_ino);
        if self.sockets.as_ref().is_some_and(|sockets| sockets.namespace == identity) {
            return Ok(());
        }
        self.close();
        let (udp, tcp) = netns::inside(namespace, || -> Result<(OwnedFd, OwnedFd), Error> {
            let sockets = (socket(SocketType::DGRAM)?, socket(SocketType::STREAM)?);
            redirect::make().on("redirect queries to", "127.0.0.11")?;
            Ok(sockets)
        })
        .map_err(failed("enter a"))??;
        self.sockets = Some(Sockets { namespace: identity, udp: udp.into(), tcp: tcp.into() });
        Ok(())
    }

    /// Closes all sockets within the container's namespace, which may end then.
    pub fn close(&mut self) {
        self.sockets = None;
        self.exchanges.clear();
        self.streams.clear();
    }

    /// Every descriptor to be polled, with a token for [`Server::ready`].
    pub fn sources<'a>(&'a self, add: &mut dyn FnMut(u64, BorrowedFd<'a>, PollFlags)) {
        let Some(sockets) = &self.sockets else { return };
        add(UDP, sockets.udp.as_fd(), PollFlags::IN);
        if self.rests_until.is_none() {
            add(TCP, sockets.tcp.as_fd(), PollFlags::IN);
        }
        for (token, socket) in self.exchanges.iter().flat_map(Exchange::sockets) {
            add(token, socket.as_fd(), PollFlags::IN);
        }
        for (token, socket, read, write) in self.streams.iter().flat_map(Stream::sockets) {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, read);
            wanted.set(PollFlags::OUT, write);
            add(token, socket.as_fd(), wanted);
        }
    }

    /// When [`Server::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.exchanges.iter().map(|exchange| exchange.deadline).chain(self.streams.iter().map(Stream::deadline)).chain(self.rests_until).min()
    }

    /// The descriptor of this token is ready in some way. A token that is gone is fine.
    pub fn ready(&mut self, token: u64) {
        let now = Instant::now();
        match token {
            UDP => self.datagrams(now),
            TCP => self.accept(now),
            _ => {
                if let Some(index) = self.exchanges.iter().position(|exchange| exchange.sockets().any(|(t, _)| t == token)) {
                    let step = self.exchanges[index].receive(token, &mut self.upstreams, &mut self.token, now);
                    self.settle(index, step);
                } else if let Some(index) = self.streams.iter().position(|stream| stream.token == token || stream.relays(token)) {
                    self.converse(index, token, now);
                }
            }
        }
    }

    /// Does what is due.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|until| *until > now);
        for index in (0..self.exchanges.len()).rev() {
            if self.exchanges[index].deadline <= now {
                let step = self.exchanges[index].expire(&mut self.upstreams, &mut self.token, now);
                self.settle(index, step);
            }
        }
        for index in (0..self.streams.len()).rev() {
            if self.streams[index].deadline() <= now {
                let result = self.streams[index].expire(&mut self.upstreams, &mut self.token, now);
                self.answered(index, result, now);
                self.questions(index, now);
            }
        }
    }

    fn datagrams(&mut self, now: Instant) {
        let mut buffer = [0; DATAGRAM + 1];
        let mut looked = false;
        for _ in 0..BATCH {
            let Some(sockets) = &self.sockets else { return };
            let (length, client) = match sockets.udp.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if !std::mem::replace(&mut looked, true) {
                self.zones.iter_mut().for_each(|(_, names)| names.look());
            }
            let query = &buffer[..length];
            if length > DATAGRAM {
                continue;
            }
            match self.answer(query, false) {
                Outcome::Ignored => {}
                Outcome::Answered => self.send(client),
                Outcome::Foreign if self.forward => self.pass_on(client, query, now),
                Outcome::Foreign => {
                    message::refuse(query, Code::ServerFailure, &mut self.out);
                    self.send(client);
                }
            }
        }
    }

    fn answer(&mut self, query: &[u8], stream: bool) -> Outcome {
        let zones: Vec<Zone<'_>> = self.zones.iter().map(|(name, names)| Zone { name, table: names.table() }).collect();
        answer::answer(query, &zones, stream, &mut self.order, &mut self.out)
    }

    /// Sends the answer buffer. A client that cannot take it is like one that does not: it asks again.
    fn send(&mut self, client: SocketAddr) {
        if let Some(sockets) = &self.sockets
            && let Err(error) = sockets.udp.send_to(&self.out, client)
        {
            tracing::debug!("an answer could not be sent: {error}");
        }
        self.out.clear();
        self.out.shrink_to(KEPT);
    }

    fn pass_on(&mut self, client: SocketAddr, query: &[u8], now: Instant) {
        if self.exchanges.len() >= MOST_EXCHANGES {
            self.settle(0, Step::Failed);
        }
        let (exchange, step) = Exchange::begin(client, query, &mut self.upstreams, &mut self.token, now);
        self.exchanges.push_back(exchange);
        self.settle(self.exchanges.len() - 1, step);
    }

    /// Ends an exchange if it is at its end.
    fn settle(&mut self, index: usize, step: Step) {
        match step {
            Step::Waits => return,
            Step::Done(answer) => self.out = answer,
            Step::Failed => message::refuse(self.exchanges[index].query(), Code::ServerFailure, &mut self.out),
        }
        if let Some(exchange) = self.exchanges.remove(index) {
            self.send(exchange.client);
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(sockets) = &self.sockets else { return };
            let socket = match sockets.tcp.accept() {
                Ok((socket, _)) => socket,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // No descriptor is left: one is given up, and a busy loop must not come of it.
                    tracing::warn!("cannot accept a connection for name queries: {error}");
                    self.streams.pop_front();
                    self.rests_until = Some(now + REST);
                    return;
                }
            };
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            if self.streams.len() >= MOST_STREAMS {
                self.streams.pop_front();
            }
            self.token += 1;
            self.streams.push_back(Stream::new(self.token, socket, now));
        }
    }

    /// A connection, or that to the server which its question went to, is ready.
    fn converse(&mut self, index: usize, token: u64, now: Instant) {
        let stream = &mut self.streams[index];
        if stream.token == token {
            stream.serve(now);
        } else {
            let result = stream.relay(&mut self.upstreams, &mut self.token, now);
            self.answered(index, result, now);
        }
        self.questions(index, now);
    }

    /// A relayed question has its answer, or (the error) gets none.
    fn answered(&mut self, index: usize, result: Option<Result<Vec<u8>, Vec<u8>>>, now: Instant) {
        match result {
            None => {}
            Some(Ok(answer)) => self.streams[index].answer(&answer, now),
            Some(Err(query)) => {
                message::refuse(&query, Code::ServerFailure, &mut self.out);
                self.streams[index].answer(&self.out, now);
            }
        }
    }

    /// Takes the questions that have arrived on a connection, and forgets one that is closed.
    fn questions(&mut self, index: usize, now: Instant) {
        let mut left = BATCH;
        while let Some(query) = self.streams[index].question() {
            self.zones.iter_mut().for_each(|(_, names)| names.look());
            match self.answer(&query, true) {
                Outcome::Ignored => self.streams[index].closed = true,
                Outcome::Answered => self.streams[index].answer(&self.out, now),
                Outcome::Foreign => {
                    let asked = self.forward && self.streams[index].forward(query.clone(), &mut self.upstreams, &mut self.token, now);
                    if !asked {
                        message::refuse(&query, Code::ServerFailure, &mut self.out);
                        self.streams[index].answer(&self.out, now);
                    }
                }
            }
            left -= 1;
            if left == 0 {
                // Nobody asks so much at once over one connection.
                self.streams[index].closed = true;
            }
        }
        if self.streams[index].closed {
            self.streams.remove(index);
        }
        self.out.clear();
        self.out.shrink_to(KEPT);
    }
}

/// A socket at our address, which other servers in the same namespace (of other members of a pod) may share.
fn socket(kind: SocketType) -> Result<OwnedFd, Error> {
    let address = SocketAddr::from((ADDRESS, redirect::PORT));
    let made = || -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        if kind == SocketType::STREAM {
            // What is left of connections of a server that has died.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &address)?;
        if kind == SocketType::STREAM {
            listen(&socket, 16)?;
        }
        Ok(socket)
    };
    let protocol = if kind == SocketType::STREAM { "tcp" } else { "udp" };
    made().map_err(|source| Error::Bind { port: address.to_string(), protocol, source })
}
