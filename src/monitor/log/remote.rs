//! `journald` and `syslog`: records as messages to a socket, which never blocks the monitor.
//!
//! What the receiver does not take at once waits in a bounded queue. When it is full, the container waits (the monitor
//! reads no more output) for a while; after that, or at once with `mode=non-blocking`, lines are dropped and counted.

use super::options::{Address, Format, Syslog};
use crate::base::Timestamp;
use crate::monitor::Error;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with};
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the container waits for a receiver that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to reach a receiver that is gone.
const RETRY: Duration = Duration::from_secs(1);
/// Where systemd-journald listens (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How messages look.
pub(super) enum Style {
    /// The fields that every message has, encoded.
    Journald {
        fields: Vec<u8>,
    },
    Syslog {
        spec: Syslog,
        tag: String,
        host: String,
    },
}

/// One record, as a sink gets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// 1 stdout, 2 stderr.
    pub stream: u8,
    /// With its line feed, unless it is a part of a line.
    pub data: &'a [u8],
    pub at: Timestamp,
}

pub(super) struct Remote {
    style: Style,
    address: Address,
    /// Looked up once, at the start: a name server that hangs must not stop the container later.
    resolved: Option<SocketAddr>,
    socket: Option<OwnedFd>,
    stream: bool,
    queue: VecDeque<Vec<u8>>,
    /// Bytes in the queue.
    waiting: usize,
    /// Bytes of the first message that were sent (streams).
    sent: usize,
    limit: usize,
    blocking: bool,
    /// Since when the queue has been full.
    full_since: Option<Instant>,
    retry: Option<Instant>,
    dropped: u64,
}

impl Remote {
    /// journald: `fields` are upper-case names and values of every message.
    pub(super) fn journald(fields: &BTreeMap<String, String>, limit: u64, blocking: bool) -> Result<Self, Error> {
        let mut encoded = Vec::new();
        for (name, value) in fields {
            field(&mut encoded, name, value.as_bytes());
        }
        let address = Address::Unix { path: JOURNAL.to_owned(), datagram: Some(true) };
        Remote::open(Style::Journald { fields: encoded }, address, limit, blocking)
    }

    pub(super) fn syslog(spec: Syslog, tag: String, limit: u64, blocking: bool) -> Result<Self, Error> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let address = spec.address.clone();
        Remote::open(Style::Syslog { spec, tag, host }, address, limit, blocking)
    }

    pub(super) fn open(style: Style, address: Address, limit: u64, blocking: bool) -> Result<Self, Error> {
        let mut remote = Remote {
            style,
            address,
            resolved: None,
            socket: None,
            stream: false,
            queue: VecDeque::new(),
            waiting: 0,
            sent: 0,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            blocking,
            full_since: None,
            retry: None,
            dropped: 0,
        };
        // A log that cannot be reached at all is told at the start.
        remote.connect().map_err(|error| Error::LogReceiver { address: remote.address_text(), source: error.into() })?;
        Ok(remote)
    }

    fn address_text(&self) -> String {
        match &self.address {
            Address::Udp(host) => format!("udp://{host}"),
            Address::Tcp(host) => format!("tcp://{host}"),
            Address::Unix { path, .. } => format!("unix://{path}"),
        }
    }

    fn connect(&mut self) -> Result<(), rustix::io::Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let begun = |result: Result<(), rustix::io::Errno>| match result {
            // The rest is seen at the first message.
            Err(rustix::io::Errno::INPROGRESS) => Ok(()),
            other => other,
        };
        let (socket, stream) = match &self.address {
            Address::Udp(host) | Address::Tcp(host) => {
                let address = self.resolved.or_else(|| resolve(host)).ok_or(rustix::io::Errno::HOSTUNREACH)?;
                self.resolved = Some(address);
                let stream = matches!(self.address, Address::Tcp(_));
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = socket_with(family, if stream { SocketType::STREAM } else { SocketType::DGRAM }, flags, None)?;
                begun(connect(&socket, &address))?;
                (socket, stream)
            }
            Address::Unix { path, datagram } => {
                let address = rustix::net::SocketAddrUnix::new(path.as_str())?;
                let open = |kind| -> Result<OwnedFd, rustix::io::Errno> {
                    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
                    connect(&socket, &address)?;
                    Ok(socket)
                };
                match open(SocketType::DGRAM) {
                    Err(rustix::io::Errno::PROTOTYPE) if datagram.is_none() => (open(SocketType::STREAM)?, true),
                    other => (other?, false),
                }
            }
        };
        (self.socket, self.stream, self.sent) = (Some(socket), stream, 0);
        Ok(())
    }

    /// Sends a record, or puts it into the queue, or drops it.
    pub(super) fn put(&mut self, record: Record<'_>) {
        let message = self.message(record);
        let fits = self.waiting + message.len() <= self.limit || self.queue.is_empty();
        if !fits && (!self.blocking || self.has_waited()) {
            self.dropped += 1;
            return;
        }
        self.waiting += message.len();
        self.queue.push_back(message);
        self.flush();
        let full = self.waiting >= self.limit;
        self.full_since = if full { self.full_since.or_else(|| Some(Instant::now())) } else { None };
    }

    fn has_waited(&self) -> bool {
        self.full_since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// The socket to wait for, while something waits for it.
    pub(super) fn waits_for(&self) -> Option<&OwnedFd> {
        self.socket.as_ref().filter(|_| !self.queue.is_empty())
    }

    /// How long the container's output has to stay where it is; None: it may come.
    pub(super) fn holds_back(&self) -> Option<Duration> {
        if !self.blocking || self.waiting < self.limit {
            return None;
        }
        let left = PATIENCE.saturating_sub(self.full_since?.elapsed());
        (!left.is_zero()).then(|| if self.socket.is_some() { left } else { left.min(RETRY) })
    }

    /// When to try again to reach the receiver.
    pub(super) fn retries_in(&self) -> Option<Duration> {
        (self.socket.is_none() && !self.queue.is_empty()).then(|| RETRY.saturating_sub(self.retry.map_or(RETRY, |at| at.elapsed())))
    }

    /// Lines dropped since the last call.
    pub(super) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Sends what the receiver takes.
    pub(super) fn flush(&mut self) {
        while !self.queue.is_empty() {
            if self.socket.is_none() {
                if self.retry.is_some_and(|at| at.elapsed() < RETRY) {
                    return;
                }
                self.retry = Some(Instant::now());
                if self.connect().is_err() {
                    return;
                }
            }
            let (Some(socket), Some(first)) = (&self.socket, self.queue.front()) else { return };
            let length = first.len();
            match send(socket, &first[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) if self.stream && self.sent + count < length => self.sent += count,
                Ok(_) => self.pop(),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return,
                Err(rustix::io::Errno::MSGSIZE) => {
                    self.pop();
                    self.dropped += 1;
                }
                // What became of an earlier message; this one was not tried yet.
                Err(rustix::io::Errno::CONNREFUSED) if matches!(self.address, Address::Udp(_)) => {}
                // The other side is gone: a message that was sent in part is sent again in whole.
                Err(_) => (self.socket, self.sent) = (None, 0),
            }
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.waiting -= message.len();
        }
        self.sent = 0;
        if self.waiting < self.limit {
            self.full_since = None;
        }
    }

    /// The container has ended: what the receiver does not take within `patience` is dropped.
    pub(super) fn finish(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.flush();
        while let Some(socket) = self.waits_for() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = crate::monitor::relay::timespec(left);
            let ready = rustix::event::poll(&mut [rustix::event::PollFd::new(socket, rustix::event::PollFlags::OUT)], Some(&timeout));
            if left.is_zero() || matches!(ready, Ok(0)) {
                break;
            }
            self.flush();
        }
        self.dropped += self.queue.len() as u64;
        self.queue.clear();
        (self.waiting, self.sent) = (0, 0);
    }

    fn message(&self, record: Record<'_>) -> Vec<u8> {
        match &self.style {
            Style::Journald { fields } => journal_message(fields, record),
            Style::Syslog { spec, tag, host } => syslog_message(spec, tag, host, record, self.stream),
        }
    }
}

fn resolve(host: &str) -> Option<SocketAddr> {
    host.to_socket_addrs().ok()?.next()
}

/// The native protocol (systemd, JOURNAL_NATIVE_PROTOCOL): `NAME=value`, or for values with line feeds the name, a length
/// in 8 bytes and the value.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn journal_message(fields: &[u8], record: Record<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.len() + record.data.len() + 96);
    let text = record.data.strip_suffix(b"\n");
    field(&mut out, "MESSAGE", text.unwrap_or(record.data));
    out.extend_from_slice(if record.stream == 2 { b"PRIORITY=3\n" } else { b"PRIORITY=6\n" });
    if text.is_none() {
        out.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
    }
    field(&mut out, "SYSLOG_TIMESTAMP", record.at.to_string().as_bytes());
    out.extend_from_slice(fields);
    out
}

fn syslog_message(spec: &Syslog, tag: &str, host: &str, record: Record<'_>, stream: bool) -> Vec<u8> {
    let severity = if record.stream == 2 { 3 } else { 6 };
    let priority = u32::from(spec.facility) * 8 + severity;
    let pid = rustix::process::getpid();
    let pid = pid.as_raw_nonzero();
    let zoned = jiff::Timestamp::from_nanosecond(i128::from(record.at.nanos())).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    let header = match spec.format {
        Format::Local => format!("<{priority}>{} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S")),
        // RFC 3164, 4.1: the time in the form of ctime(3).
        Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S")),
        Format::Rfc5424 => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", zoned.strftime("%Y-%m-%dT%H:%M:%S%:z")),
        Format::Rfc5424Micro => format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", zoned.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z")),
    };
    let mut out = header.into_bytes();
    out.extend_from_slice(record.data.strip_suffix(b"\n").unwrap_or(record.data));
    if !stream {
        return out;
    }
    if matches!(spec.format, Format::Rfc5424 | Format::Rfc5424Micro) {
        // RFC 6587, 3.4.1: octet counting.
        let mut framed = format!("{} ", out.len()).into_bytes();
        framed.append(&mut out);
        return framed;
    }
    out.push(b'\n');
    out
}
