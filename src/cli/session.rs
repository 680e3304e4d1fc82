//! The foreground session: relays between this terminal (or these pipes) and a container, until the process ends,
//! the user detaches, or nobody reads us any more.
//!
//! One single-threaded poll loop; no reactor. The terminal's modes are restored on every way out.

mod detach;
mod exec;
mod holder;
mod terminal;

pub use detach::DetachKeys;
pub use exec::{ExecIo, relay as relay_exec, relay_signals};
pub use holder::hold;
pub use terminal::{size as terminal_size, stdin_is_tty, stdout_is_tty};

use super::failure::Failure;
use crate::base::Signal;
use crate::monitor::{Client, Error, Event, FailureKind};
use crate::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;
use terminal::RawMode;

/// Bytes read from stdin at once: small enough that a writable socket takes them without blocking.
const CHUNK: usize = 16 << 10;

/// How long the monitor may take to record the end of a container.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Signals that are never forwarded: they are about this process (its children, pipes and terminal), or come
/// from its own faults.
const OWN_SIGNALS: &[i32] = &[
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
];

/// Signals that end this process when they are not forwarded; caught so that the terminal is restored first.
const ENDING_SIGNALS: &[i32] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// One session with a container's monitor.
pub struct Session<'a> {
    pub client: Client,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Keys that detach; only used with a terminal and stdin.
    pub detach: DetachKeys,
    /// Forwards a signal to the container's process; None: signals end this process.
    pub proxy: Option<&'a dyn Fn(Signal)>,
    /// The exit code by the record, where the monitor has gone without telling it.
    pub recorded: &'a dyn Fn() -> Result<i32, Failure>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// The user typed the detach keys, or only stdin was attached and it ended.
    Detached,
    /// Whoever read our output went away.
    OutputClosed,
    /// A signal asked this process to end.
    Signalled(i32),
}

impl End {
    /// The exit code of this process; tells the user that the container goes on where that may surprise.
    pub fn code(self, name: &str) -> ExitCode {
        match self {
            End::Exited(code) => ExitCode::from(code as u8),
            End::Detached => ExitCode::SUCCESS,
            End::OutputClosed => {
                super::output::talk(format_args!("warning: nobody reads the output any more; container \"{name}\" goes on"));
                ExitCode::from(141)
            }
            End::Signalled(number) => ExitCode::from(128u8.saturating_add(number as u8)),
        }
    }
}

/// The signals to catch.
pub fn caught(proxied: bool) -> Vec<i32> {
    let mut list: Vec<i32> =
        if proxied { (1..=31).chain(34..=64).filter(|number| !OWN_SIGNALS.contains(number)).collect() } else { ENDING_SIGNALS.to_vec() };
    list.push(libc::SIGWINCH);
    list
}

/// Which of our standard streams are still to be served.
struct Relay<'a> {
    session: Session<'a>,
    signals: SignalFd,
    /// stdin is still read.
    reading: bool,
    /// Bytes from stdin that the monitor has not taken yet.
    pending: Vec<u8>,
    /// Close the container's stdin once `pending` is gone.
    closing: bool,
    /// The last run has ended: the monitor releases everything now.
    over: bool,
}

impl Session<'_> {
    /// Relays until the end.
    ///
    /// # Errors
    /// The monitor was killed (exit code 125), or it could not start the process.
    pub fn run(self) -> Result<End, Failure> {
        let signals = SignalFd::block(&caught(self.proxy.is_some())).map_err(|e| Failure::caused("cannot catch signals", &e))?;
        let raw = if self.tty && self.stdin { RawMode::enter()? } else { None };
        let reading = self.stdin;
        let mut relay = Relay { session: self, signals, reading, pending: Vec::new(), closing: false, over: false };
        relay.resize();
        let end = relay.run();
        drop(raw);
        if relay.over {
            // The name, the ports and the record of a `--rm` container are free again when the command returns, as scripts
            // expect. A monitor that takes longer finishes on its own.
            if !relay.session.client.wait_gone(END_PATIENCE) {
                tracing::warn!("the container's monitor is still releasing what it held");
            }
        }
        end
    }
}

/// What the monitor says cannot be read.
fn lost(error: &crate::monitor::Error) -> Failure {
    Failure::caused("lost the container's monitor", error).with_code(super::failure::USAGE)
}

/// A message that the monitor does not take any more: the container has just ended, or the monitor is lost. What it
/// sent before tells which, so reading decides.
fn unsent(result: Result<(), crate::monitor::Error>) {
    if let Err(error) = result {
        tracing::debug!("the monitor takes no more messages: {error}");
    }
}

impl Relay<'_> {
    fn resize(&mut self) {
        if self.session.tty
            && let Some((columns, rows)) = terminal::size().filter(|(columns, _)| *columns > 0)
        {
            let sent = self.session.client.resize(columns, rows);
            unsent(sent);
        }
    }

    fn run(&mut self) -> Result<End, Failure> {
        // Messages may already be here from before the first poll.
        if let Some(end) = self.drain()? {
            return Ok(end);
        }
        loop {
            let (mut from_client, mut to_client, mut from_signals, mut from_stdin) = (false, false, false, false);
            {
                let stdin = io::stdin();
                let waits = if self.pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
                let client = self.session.client.fd();
                let mut fds = vec![PollFd::from_borrowed_fd(client, waits), PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
                if self.reading && self.pending.is_empty() {
                    fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
                }
                match poll(&mut fds, None) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(e) => return Err(Failure::caused("cannot wait for the container", &e)),
                }
                let ready = fds[0].revents();
                from_client |= ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
                to_client |= ready.contains(PollFlags::OUT);
                from_signals |= !fds[1].revents().is_empty();
                from_stdin |= fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
            }
            if from_client && let Some(end) = self.drain()? {
                return Ok(end);
            }
            if from_signals && let Some(end) = self.take_signals()? {
                return Ok(end);
            }
            if to_client {
                self.flush();
            }
            if from_stdin && self.read_stdin()? {
                return Ok(End::Detached);
            }
            if self.closing && self.pending.is_empty() {
                self.closing = false;
                let sent = self.session.client.close_stdin();
                unsent(sent);
                if !self.session.stdout && !self.session.stderr {
                    return Ok(End::Detached);
                }
            }
        }
    }

    /// Handles every message that is here.
    fn drain(&mut self) -> Result<Option<End>, Failure> {
        loop {
            let event = match self.session.client.next(Some(Duration::ZERO)) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(Error::Lost) => return self.untold(),
                Err(error) => return Err(lost(&error)),
            };
            if let Some(end) = self.take(event)? {
                return Ok(Some(end));
            }
        }
    }

    /// The monitor was killed, or it had told the end before this client came.
    fn untold(&self) -> Result<Option<End>, Failure> {
        (self.session.recorded)().map(|code| Some(End::Exited(code)))
    }

    fn take(&mut self, event: Event) -> Result<Option<End>, Failure> {
        let written = match event {
            Event::Stdout(data) if self.session.stdout => write_all(&mut io::stdout(), &data),
            // A terminal has one stream; whoever attached only stderr gets nothing, as with Docker.
            Event::Stderr(data) if self.session.stderr => write_all(&mut io::stderr(), &data),
            Event::Exited { exit, restarting } => {
                self.over = !restarting;
                return Ok(Some(End::Exited(exit.code)));
            }
            Event::Failed { kind, message } => {
                let code = match kind {
                    FailureKind::NotFound => 127,
                    FailureKind::NotExecutable => 126,
                    FailureKind::Invalid | FailureKind::Other => super::failure::USAGE,
                };
                return Err(Failure::invalid(message).with_code(code));
            }
            Event::Gone => return self.untold(),
            Event::Stdout(_) | Event::Stderr(_) | Event::Created { .. } | Event::Started { .. } => Ok(()),
            Event::Probed { .. } | Event::Resolving | Event::Held | Event::Reserved => Ok(()),
        };
        match written {
            Ok(()) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Some(End::OutputClosed)),
            Err(e) => Err(Failure::caused("cannot write the container's output", &e)),
        }
    }

    fn take_signals(&mut self) -> Result<Option<End>, Failure> {
        while let Some(number) = self.signals.next().map_err(|e| Failure::caused("cannot read signals", &e))? {
            if number == libc::SIGWINCH {
                self.resize();
                continue;
            }
            match (self.session.proxy, Signal::from_number(number)) {
                (Some(forward), Some(signal)) => forward(signal),
                _ => return Ok(Some(End::Signalled(number))),
            }
        }
        Ok(None)
    }

    /// Reads a chunk of stdin; true when the user typed the detach keys.
    fn read_stdin(&mut self) -> Result<bool, Failure> {
        let mut buffer = vec![0u8; CHUNK];
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that hung up, or a descriptor that is closed, is the end of input.
            Err(_) => 0,
        };
        if count == 0 {
            self.reading = false;
            self.pending.extend(self.session.detach.flush());
            self.closing = true;
            return Ok(false);
        }
        buffer.truncate(count);
        if !self.session.tty {
            self.pending = buffer;
            return Ok(false);
        }
        let (bytes, detached) = self.session.detach.feed(&buffer);
        self.pending = bytes;
        if detached {
            self.flush();
        }
        Ok(detached)
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let data = std::mem::take(&mut self.pending);
            let sent = self.session.client.write_stdin(&data);
            unsent(sent);
        }
    }
}

/// Waits until a non-blocking descriptor takes more.
fn await_room(out: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(out, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes and flushes, waiting where the descriptor is non-blocking.
fn write_all(out: &mut (impl Write + AsFd), mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match out.write(data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => data = &data[count..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => await_room(out)?,
            Err(e) => return Err(e),
        }
    }
    loop {
        match out.flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => await_room(out)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxied_signals() {
        let all = caught(true);
        for forwarded in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGTSTP, libc::SIGCONT, 34, 64] {
            assert!(all.contains(&forwarded), "{forwarded}");
        }
        for own in [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG, libc::SIGKILL, libc::SIGSTOP, 32, 33] {
            assert!(!all.contains(&own), "{own}");
        }
        assert!(all.contains(&libc::SIGWINCH) && caught(false).contains(&libc::SIGTERM));
    }
}
