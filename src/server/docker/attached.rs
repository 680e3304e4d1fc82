//! The streams of a container on a client's connection: Docker's framing, and attaches that wait for a start.

use crate::base::{ContainerId, DetachKeys};
use crate::engine::AttachStreams;
use crate::monitor::{Client, Event};
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Streams without a terminal, one frame after another (API 1.42 and newer; older clients get the same bytes under the raw name).
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Bytes of a client's input that are read at once: small enough that the monitor's socket takes them without waiting.
const CHUNK: usize = 16 << 10;
/// How often an attach that waits for a start looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(200);

/// The name of a stream's form.
pub fn content_type(tty: bool, version: (u32, u32)) -> &'static str {
    if tty || version < (1, 42) { RAW } else { MULTIPLEXED }
}

/// The head of a frame: which stream, and how many bytes follow.
pub fn frame(stream: u8, length: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

/// An attach whose container does not run yet.
pub struct Pending {
    pub streams: AttachStreams,
    sender: SyncSender<Client>,
}

impl Pending {
    /// Hands over the connection to the monitor.
    pub fn connect(self, client: Client) {
        // A client that has gone needs none.
        drop(self.sender.send(client));
    }
}

/// What waits for containers to be started by this server.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<ContainerId, Vec<Pending>>>);

impl Waiting {
    pub fn add(&self, id: &ContainerId, streams: AttachStreams) -> Receiver<Client> {
        let (sender, receiver) = sync_channel(1);
        super::locked(&self.0).entry(id.clone()).or_default().push(Pending { streams, sender });
        receiver
    }

    /// Those of a container, which is about to be started or is gone.
    pub fn take(&self, id: &ContainerId) -> Vec<Pending> {
        super::locked(&self.0).remove(id).unwrap_or_default()
    }
}

/// Until the container is started; None: the start failed, or the client has left.
pub fn await_start(receiver: &Receiver<Client>, stream: &UnixStream) -> Option<Client> {
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(client) => return Some(client),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if has_left(stream) => return None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

fn has_left(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0) && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The container did, or the client.
    Over,
    /// The client typed the detach keys.
    Detached,
}

/// A client's connection on one side, a container's monitor on the other.
pub struct Session {
    pub client: Client,
    pub stream: UnixStream,
    pub tty: bool,
    pub streams: AttachStreams,
    pub keys: DetachKeys,
    /// The client's input as far as it was read.
    pub pending: Vec<u8>,
}

impl Session {
    pub fn new(client: Client, stream: UnixStream, read: Bytes, tty: bool, streams: AttachStreams, keys: DetachKeys) -> Self {
        Session { client, stream, tty, streams, keys, pending: read.to_vec() }
    }

    /// Relays until one side ends.
    pub fn run(mut self) -> End {
        let mut reading = true;
        let mut closing = false;
        loop {
            match self.drain() {
                Ok(true) => {}
                Ok(false) | Err(_) => return End::Over,
            }
            if !self.pending.is_empty() && self.send_input() {
                return End::Detached;
            }
            if closing && self.streams.stdin {
                closing = false;
                // A monitor that takes no more has told why, which is read next.
                drop(self.client.close_stdin());
            }
            let (from_client, from_monitor) = {
                let wants = if reading { PollFlags::IN } else { PollFlags::empty() };
                let mut fds = [PollFd::from_borrowed_fd(self.client.fd(), PollFlags::IN), PollFd::new(&self.stream, wants)];
                match poll(&mut fds, None) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return End::Over,
                }
                (fds[1].revents(), !fds[0].revents().is_empty())
            };
            if !reading && !from_monitor && from_client.intersects(PollFlags::HUP | PollFlags::ERR) {
                return End::Over;
            }
            if reading && !from_client.is_empty() {
                let mut buffer = vec![0; CHUNK];
                match self.stream.read(&mut buffer) {
                    Ok(count) if count > 0 => self.pending.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    _ => {
                        reading = false;
                        closing = true;
                        self.pending.extend(self.keys.flush());
                    }
                }
            }
        }
    }

    /// Sends on what the client typed. True: the detach keys were among it.
    fn send_input(&mut self) -> bool {
        let mut data = std::mem::take(&mut self.pending);
        if !self.streams.stdin {
            return false;
        }
        let mut detached = false;
        if self.tty {
            (data, detached) = self.keys.feed(&data);
        }
        for chunk in data.chunks(CHUNK) {
            if let Err(error) = self.client.write_stdin(chunk) {
                // What it sent before tells why.
                tracing::debug!("the monitor takes no input: {error}");
                break;
            }
        }
        detached
    }

    /// Handles every message of the monitor that is here. False: there will be no more.
    fn drain(&mut self) -> io::Result<bool> {
        loop {
            match self.client.next(Some(Duration::ZERO)) {
                Ok(None) => return Ok(true),
                Ok(Some(Event::Stdout(data))) if self.streams.stdout => self.write(1, &data)?,
                Ok(Some(Event::Stderr(data))) if self.streams.stderr => self.write(2, &data)?,
                Ok(Some(Event::Exited { restarting: true, .. })) => {}
                Ok(Some(Event::Exited { .. } | Event::Failed { .. } | Event::Gone)) | Err(_) => return Ok(false),
                Ok(Some(_)) => {}
            }
        }
    }

    fn write(&mut self, stream: u8, data: &[u8]) -> io::Result<()> {
        if !self.tty {
            self.stream.write_all(&frame(stream, data.len()))?;
        }
        self.stream.write_all(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(frame(2, 0x0102_0304), [2, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!((content_type(false, (1, 42)), content_type(true, (1, 45)), content_type(false, (1, 41))), (MULTIPLEXED, RAW, RAW));
    }

    #[test]
    fn an_attach_ends_with_its_client_or_a_failed_start() {
        let waiting = Waiting::default();
        let id: ContainerId = "a".repeat(64).parse().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let receiver = waiting.add(&id, AttachStreams::default());
        assert_eq!(waiting.take(&id).len(), 1);
        assert!(await_start(&receiver, &ours).is_none(), "the start has dropped it");
        let receiver = waiting.add(&id, AttachStreams::default());
        drop(theirs);
        assert!(await_start(&receiver, &ours).is_none(), "the client has left");
    }
}
