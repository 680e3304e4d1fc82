//! One connected client, as the monitor sees it: a socket that never blocks it, half-received requests,
//! and a bounded amount of events on their way out.

use super::client::BATCH;
use super::frame::{Decoder, LIMIT, Malformed, Request};
use super::stop::Wish;
use super::{Event, FailureKind};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Bytes that may wait for a client before it holds the container back (the creator) or is dropped.
pub(super) const BUFFER: usize = 1 << 20;

pub(super) struct Peer {
    pub(super) socket: OwnedFd,
    pub(super) decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    /// Came in messages, and no request has said yet what they are.
    pub(super) descriptors: Vec<OwnedFd>,
    /// The one that spawned this monitor.
    pub(super) creator: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) stdin: bool,
    /// It waits for the result of a probe.
    pub(super) probe: bool,
    /// It waits for the end of the run.
    pub(super) wish: Option<Wish>,
    /// Nothing more is for it: closed when what waits is sent.
    closing: bool,
    pub(super) closed: bool,
}

impl Peer {
    pub(super) fn new(socket: OwnedFd, creator: bool) -> Self {
        Peer {
            socket,
            decoder: Decoder::new(LIMIT),
            out: Vec::new(),
            sent: 0,
            descriptors: Vec::new(),
            creator,
            stdout: false,
            stderr: false,
            stdin: false,
            probe: false,
            wish: None,
            closing: false,
            closed: false,
        }
    }

    /// Bytes not yet taken by the client's socket.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    /// An attached creator that does not keep up: the container waits for it.
    pub(super) fn holds_back(&self) -> bool {
        self.creator && (self.stdout || self.stderr) && !self.closed && self.waiting() >= BUFFER
    }

    /// Queues an event and sends what the socket takes.
    pub(super) fn tell(&mut self, event: &Event) {
        if self.closed || self.closing {
            return;
        }
        if !self.creator && self.waiting() >= BUFFER {
            let message = "this client read too slowly and was detached; the container goes on".to_owned();
            Event::Failed { kind: FailureKind::Other, message }.encode(&mut self.out);
            self.closing = true;
        } else {
            event.encode(&mut self.out);
        }
        self.flush();
    }

    /// Sends what the socket takes now.
    pub(super) fn flush(&mut self) {
        while !self.closed && self.waiting() > 0 {
            match send(&self.socket, &self.out[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => self.closed = true,
            }
        }
        if self.waiting() == 0 || self.closed {
            // Idle peers hold no memory.
            self.out = Vec::new();
            self.sent = 0;
            self.closed |= self.closing;
        } else if self.sent >= 64 << 10 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Receives what is there; an ended or broken connection closes the peer.
    pub(super) fn receive(&mut self) {
        let mut buffer = [0u8; 32 << 10];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags).map(|message| message.bytes) {
                Ok(0) => self.closed = true,
                Ok(count) => {
                    self.decoder.push(&buffer[..count]);
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(received) = message {
                            self.descriptors.extend(received);
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(_) => self.closed = true,
            }
            return;
        }
    }

    /// The next complete request; a malformed one closes the peer.
    pub(super) fn request(&mut self) -> Option<Request> {
        let request = self.decoder.next().and_then(|frame| frame.map(Request::decode).transpose());
        match request {
            Ok(request) => request,
            Err(Malformed(what)) => {
                tracing::warn!("a client of the monitor sent {what}; it is dropped");
                self.closed = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_slow_attacher_is_dropped_with_a_notice_and_the_creator_holds_back() {
        for creator in [false, true] {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            let mut peer = Peer::new(ours.into(), creator);
            peer.stdout = true;
            let chunk = Event::Stdout(vec![b'x'; 32 << 10]);
            let mut told = 0;
            while !peer.holds_back() && !peer.closing {
                peer.tell(&chunk);
                told += 1;
                assert!(told < 1000);
            }
            assert!(peer.waiting() < BUFFER + (64 << 10));
            assert_eq!(peer.holds_back(), creator);
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).unwrap();
                all
            });
            while peer.waiting() > 0 {
                peer.flush();
            }
            assert_eq!(peer.closed, !creator);
            drop(peer);
            let mut decoder = Decoder::new(LIMIT);
            decoder.push(&reader.join().unwrap());
            let mut events = 0;
            let mut last = None;
            while let Some(frame) = decoder.next().unwrap() {
                last = Some(Event::decode(frame).unwrap());
                events += 1;
            }
            assert_eq!(events, told);
            assert_eq!(matches!(last, Some(Event::Failed { .. })), !creator);
        }
    }
}
