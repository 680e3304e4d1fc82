//! One connection to a message bus, or to systemd itself: blocking, without a thread, with a deadline for every answer.

use super::wire::{self, Message, Target};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

/// How long an answer, or the end of a job, may take (as `systemctl` waits for an answer).
const PATIENCE: Duration = Duration::from_secs(30);

/// Signals kept while another message is waited for.
const KEPT: usize = 256;

/// What can go wrong on the way to systemd.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no message bus: DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR are not set")]
    NoAddress,
    #[error("the message bus refused us: {0}")]
    Refused(String),
    #[error("lost the connection to the message bus")]
    Lost(#[source] io::Error),
    #[error("no answer from the message bus within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("malformed message from the message bus")]
    Malformed,
    #[error("{message} ({name})")]
    Remote { name: String, message: String },
    #[error("the job ended with \"{0}\"")]
    Job(String),
}

/// Where systemd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A message bus: D-Bus server addresses, `unix:path=…;…`.
    Bus(String),
    /// systemd's own socket, without a bus in between.
    Direct(String),
}

#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Without a bus in between: there is no one to address, and every signal comes to us.
    direct: bool,
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// [`BusError::Connect`], [`BusError::Refused`].
    pub(super) fn connect(address: &Address) -> Result<Self, BusError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut bus = Bus::open(address)?;
        let mut answer = bus.authenticate(&format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n"), 1)?;
        // In a user namespace our uid has another number outside: then we are whoever the socket says.
        if answer.starts_with("REJECTED") {
            bus = Bus::open(address)?;
            answer = bus.authenticate("\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", 2)?;
        }
        if !answer.starts_with("OK ") {
            return Err(BusError::Refused(answer));
        }
        if !bus.direct {
            let target = Target { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS, member: "Hello" };
            bus.call(target, "", &[])?;
        }
        Ok(bus)
    }

    fn open(address: &Address) -> Result<Self, BusError> {
        let (stream, direct) = match address {
            Address::Bus(list) => (open(list)?, false),
            Address::Direct(path) => {
                let failed = |source| BusError::Connect { address: path.clone(), source };
                (UnixStream::connect(path).map_err(failed)?, true)
            }
        };
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(BusError::Lost)?;
        }
        Ok(Bus { stream, serial: 0, direct, signals: VecDeque::new() })
    }

    /// Asks the bus for the signals of a rule.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(super) fn watch(&mut self, rule: &str) -> Result<(), BusError> {
        if self.direct {
            return Ok(());
        }
        let mut body = wire::Writer::default();
        body.text(rule);
        let target = Target { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS, member: "AddMatch" };
        self.call(target, "s", &body.finish()).map(drop)
    }

    /// SASL EXTERNAL: the peer's credentials say who we are (D-Bus specification, *Authentication Protocol*). All is said at
    /// once, as systemd's own clients do: systemd may sleep over a message that comes in one piece with `BEGIN`, so `BEGIN`
    /// must be with it before the first message leaves. The last of `answers` lines decides.
    fn authenticate(&mut self, words: &str, answers: usize) -> Result<String, BusError> {
        self.send(words.as_bytes())?;
        let mut answer = self.line()?;
        for _ in 1..answers {
            if answer.starts_with("DATA") {
                answer = self.line()?;
            }
        }
        Ok(answer)
    }

    /// A line of the introduction.
    fn line(&mut self) -> Result<String, BusError> {
        let mut line = Vec::new();
        // Byte by byte, for nothing behind the line may be taken; there are two or three of them in a connection's life.
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(lost)?;
            line.push(byte[0]);
            if line.len() > 4096 {
                return Err(BusError::Malformed);
            }
        }
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.stream.write_all(bytes).map_err(lost)
    }

    /// Calls a method and waits for its answer. Signals that come meanwhile are kept for [`Bus::signal`].
    ///
    /// # Errors
    /// [`BusError::Remote`] with the answer's error; [`BusError::Silent`], [`BusError::Lost`].
    pub(super) fn call(&mut self, target: Target<'_>, signature: &str, body: &[u8]) -> Result<Message, BusError> {
        self.serial += 1;
        let serial = self.serial;
        let target = Target { destination: target.destination.filter(|_| !self.direct), ..target };
        self.send(&wire::call(serial, target, signature, body))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                wire::MESSAGE_RETURN if message.reply_to == Some(serial) => return Ok(message),
                wire::MESSAGE_ERROR if message.reply_to == Some(serial) => {
                    let text = message.body().text().filter(|_| message.signature.starts_with('s'));
                    return Err(BusError::Remote { name: message.error, message: text.unwrap_or_else(|| "failed".to_owned()) });
                }
                wire::MESSAGE_SIGNAL => {
                    if self.signals.len() == KEPT {
                        self.signals.pop_front();
                    }
                    self.signals.push_back(message);
                }
                _ => {}
            }
        }
    }

    /// Waits for a signal for which `wanted` has an answer.
    ///
    /// # Errors
    /// [`BusError::Silent`], [`BusError::Lost`].
    pub(super) fn signal<T>(&mut self, mut wanted: impl FnMut(&Message) -> Option<T>) -> Result<T, BusError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(kept) => kept,
                None => self.receive(deadline)?,
            };
            if message.kind == wire::MESSAGE_SIGNAL
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, BusError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(BusError::Silent);
        }
        self.stream.set_read_timeout(Some(left)).map_err(BusError::Lost)?;
        let mut prefix = [0; wire::PREFIX];
        self.stream.read_exact(&mut prefix).map_err(lost)?;
        let total = wire::total(&prefix).ok_or(BusError::Malformed)?;
        let mut bytes = prefix.to_vec();
        bytes.resize(total, 0);
        self.stream.read_exact(&mut bytes[wire::PREFIX..]).map_err(lost)?;
        Message::parse(&bytes).ok_or(BusError::Malformed)
    }
}

/// A socket whose time is up says "try again".
fn lost(error: io::Error) -> BusError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => BusError::Silent,
        _ => BusError::Lost(error),
    }
}

/// Name, and interface, of the bus itself.
const BUS: &str = "org.freedesktop.DBus";

/// Opens the first address of a list that works (D-Bus specification, *Server Addresses*).
fn open(list: &str) -> Result<UnixStream, BusError> {
    let failed = |source| BusError::Connect { address: list.to_owned(), source };
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for address in list.split(';') {
        let Some(keys) = address.strip_prefix("unix:") else { continue };
        for (key, value) in keys.split(',').filter_map(|pair| pair.split_once('=')) {
            let value = unescape(value);
            let tried = match key {
                "path" => UnixStream::connect(OsString::from_vec(value)),
                "abstract" => SocketAddr::from_abstract_name(value).and_then(|address| UnixStream::connect_addr(&address)),
                _ => continue,
            };
            match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
    }
    Err(failed(last))
}

/// Undoes `%2f`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
