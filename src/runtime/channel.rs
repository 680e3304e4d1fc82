//! The socket between a stage and its parent: datagrams of one word, a failure, or a terminal.
//!
//! Invariant: the stage's end is close-on-exec, so the end of the stream after the gate means that `execve`
//! succeeded; before it, that the stage is dead.

use super::error::{At, Failure, REPORT_LIMIT};
use crate::sys::rights;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, recvmsg, socket_with,
    socketpair,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Parent to stage: the id maps are written.
pub(super) const MAPPED: u8 = b'M';
/// Parent to stage: it is in its groups.
pub(super) const JOINED: u8 = b'J';
/// Parent to stage: the gate is open.
pub(super) const GO: u8 = b'G';
/// Stage to parent: all is mounted, the hooks of the runtime may run; and back: they have run.
pub(super) const HOOKS: u8 = b'H';
/// Parent to stage, with a descriptor: a detached mount.
const TREE: u8 = b'T';
/// Parent to stage: it may outlive the parent, and waits at its gate's socket.
pub(super) const RELEASE: u8 = b'L';
const RELEASED: u8 = b'l';
/// Stage to peer, with a descriptor of itself: it loads a filter now whose listener is to be handed over.
const FILTER: u8 = b'F';
const READY: u8 = b'R';
const BORN: u8 = b'B';

/// One end.
pub(super) struct Channel(OwnedFd);

/// What the parent hears.
pub(super) enum Answer {
    /// All is applied; the master of the terminal, if one was asked for.
    Ready(Option<OwnedFd>),
    Failed(Failure),
    /// See [`HOOKS`].
    Hooks,
    /// The stage has let go of the parent.
    Released,
    /// The process that loads a filter with a listener: [`super::listener::serve`] comes next.
    Filter(OwnedFd),
    /// The exec stage proper: its pid for us and a descriptor of it.
    Born(i32, OwnedFd),
    End,
}

impl Channel {
    pub fn pair() -> Result<(Channel, Channel), Failure> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).at("make a socket pair")?;
        Ok((Channel(a), Channel(b)))
    }

    /// The stage's side of a gate: waits for a connection that says [`GO`]; others are let go again.
    pub fn accept(gate: BorrowedFd<'_>) -> Result<Channel, Failure> {
        loop {
            match accept_with(gate, SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    let channel = Channel(connection);
                    if channel.expect(GO).is_ok() {
                        return Ok(channel);
                    }
                    // What the answer has touched of the program goes again.
                    crate::sys::heap::release_text();
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(Failure::step("wait at the gate", errno)),
            }
        }
    }

    /// The listening end of a gate, a socket file named `name` in `directory`.
    pub fn listen(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at("make the gate's socket")?;
        rustix::net::bind(&socket, &address(directory, name)?).at("bind the gate's socket")?;
        rustix::net::listen(&socket, 16).at("listen at the gate")?;
        Ok(socket)
    }

    /// Connects to a gate; None when no stage waits there.
    pub fn connect(directory: BorrowedFd<'_>, name: &str) -> Result<Option<Channel>, Failure> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at("make a socket")?;
        match rustix::net::connect(&socket, &address(directory, name)?) {
            Ok(()) => Ok(Some(Channel(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(Failure::step("connect to the gate", errno)),
        }
    }

    pub fn released(&self) -> Result<(), Failure> {
        self.send(&[RELEASED], None)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A word to the other end; one that is gone is noticed by the next read.
    pub fn say(&self, word: u8) -> Result<(), Failure> {
        self.send(&[word], None)
    }

    pub fn ready(&self, console: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        self.send(&[READY], console)
    }

    /// A detached mount that the other end cannot make itself.
    pub fn hand_over(&self, tree: BorrowedFd<'_>) -> Result<(), Failure> {
        self.send(&[TREE], Some(tree))
    }

    /// Waits for what [`Channel::hand_over`] sends.
    pub fn expect_tree(&self) -> Result<OwnedFd, Failure> {
        let mut buffer = [0; 8];
        match self.receive(&mut buffer)? {
            (1, Some(tree)) if buffer[0] == TREE => Ok(tree),
            _ => Err(Failure::step("receive a mount from the parent", Errno::PIPE)),
        }
    }

    pub fn born(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
        let [a, b, c, d] = pid.to_le_bytes();
        self.send(&[BORN, a, b, c, d], Some(pidfd))
    }

    pub fn filter(&self, process: BorrowedFd<'_>) -> Result<(), Failure> {
        self.send(&[FILTER], Some(process))
    }

    /// The next message as it is: its length, 0 at the end.
    pub fn hear(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.receive(buffer).map(|(length, _)| length)
    }

    pub fn fail(&self, failure: &Failure) -> Result<(), Failure> {
        self.send(&failure.encode(), None)
    }

    fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        match rights::send(&self.0, bytes, fd.as_slice()) {
            Ok(_) | Err(Errno::PIPE) => Ok(()),
            Err(errno) => Err(Failure::step("send to the other stage", errno)),
        }
    }

    /// Waits for exactly this word; another one, or the end, is an error.
    pub fn expect(&self, word: u8) -> Result<(), Failure> {
        let mut buffer = [0; 8];
        let (length, _) = self.receive(&mut buffer)?;
        if buffer.get(..length) == Some(&[word]) {
            return Ok(());
        }
        Err(Failure::step("hear from the parent", Errno::PIPE))
    }

    pub fn answer(&self) -> Result<Answer, Failure> {
        let mut buffer = vec![0; REPORT_LIMIT];
        let (length, fd) = self.receive(&mut buffer)?;
        match &buffer[..length] {
            [] => Ok(Answer::End),
            [READY] => Ok(Answer::Ready(fd)),
            [HOOKS] => Ok(Answer::Hooks),
            [RELEASED] => Ok(Answer::Released),
            [FILTER] => fd.map(Answer::Filter).ok_or_else(|| Failure::step("read the stage's report", Errno::PROTO)),
            [BORN, a, b, c, d] => match fd {
                Some(pidfd) => Ok(Answer::Born(i32::from_le_bytes([*a, *b, *c, *d]), pidfd)),
                None => Err(Failure::step("read the stage's report", Errno::PROTO)),
            },
            bytes => Failure::decode(bytes).map(Answer::Failed).ok_or_else(|| Failure::step("read the stage's report", Errno::PROTO)),
        }
    }

    /// Waits until the other end is gone. What it says before wakes nobody (who speaks would pay for that) and stays to be
    /// read.
    pub fn await_end(&self) -> Result<(), Failure> {
        // An end is reported to who asks for nothing, too (poll(2)).
        let mut end = [PollFd::new(&self.0, PollFlags::empty())];
        rustix::io::retry_on_intr(|| poll(&mut end, None)).at("wait for the other stage").map(drop)
    }

    /// What the stage has reported already, if it has failed.
    pub fn failed(&self) -> Option<Failure> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        let said = poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0);
        match said.then(|| self.answer()) {
            Some(Ok(Answer::Failed(failure))) => Some(failure),
            _ => None,
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Failure> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                // The other end died with a word of ours unread: reported once, before its last words.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(Failure::step("hear from the other stage", errno)),
            }
        };
        let mut passed = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                passed = fds.next();
            }
        }
        Ok((length, passed))
    }
}

/// Through a descriptor of its directory: a socket's path has 107 bytes at most, a state directory's may be longer.
fn address(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Failure> {
    use std::os::fd::AsRawFd;
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())).at("name the gate's socket")
}
