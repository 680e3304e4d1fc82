//! Netlink sockets: sending, receiving with sequence and sender checks, and the kernel's answers turned into errors.
//!
//! Invariant: a reply is handed out only if the kernel sent it and it carries a sequence number of the
//! request; a dump the kernel calls inconsistent (`NLM_F_DUMP_INTR`) is reported as such, never used.
#![allow(unsafe_code)]

pub mod message;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Size of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// The message answers a request with data; types below it are control messages.
const NLMSG_MIN_TYPE: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Larger than any message the kernel builds for a dump (it fills at most 32 KiB at once).
const BUFFER: usize = 128 * 1024;
/// Most messages one request may hold: the distance between two reservations of sequence numbers.
pub const MOST_MESSAGES: u32 = 4096;

static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// Which kernel subsystem a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot {operation} a netlink socket")]
    Socket {
        operation: &'static str,
        #[source]
        source: Errno,
    },
    /// The kernel's answer to one message; `text` is its extended acknowledgement, if it gave one.
    #[error("the kernel refused message {index}{}{text}", if text.is_empty() { "" } else { ": " })]
    Refused {
        index: u32,
        text: String,
        #[source]
        errno: Errno,
    },
    #[error("the kernel's netlink answer is malformed")]
    Malformed,
    #[error("the tables changed during each of several attempts to read them")]
    Interrupted,
}

impl NetlinkError {
    /// The error number, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Socket { source, .. } => Some(*source),
            NetlinkError::Refused { errno, .. } => Some(*errno),
            NetlinkError::Malformed | NetlinkError::Interrupted => None,
        }
    }
}

/// Opens a socket in the network namespace of the calling thread; it stays there whoever uses it.
///
/// # Errors
/// The subsystem is missing or the process has no descriptor left.
pub fn open(family: Family) -> Result<OwnedFd, NetlinkError> {
    let protocol = match family {
        Family::Route => None,
        Family::Netfilter => Some(netlink::NETFILTER),
    };
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
        .map_err(|source| NetlinkError::Socket { operation: "open", source })?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the fd is open, and the option value is a live c_int whose size is passed with it.
        let result = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t)
        };
        if result < 0 {
            return Err(NetlinkError::Socket { operation: "configure", source: last_errno() });
        }
    }
    Ok(fd)
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Reserves [`MOST_MESSAGES`] sequence numbers and returns the first, so that a late answer to an
/// earlier request on the same socket never matches.
pub fn reserve_sequence() -> u32 {
    SEQUENCE.fetch_add(MOST_MESSAGES, Ordering::Relaxed)
}

/// How the answers to a request end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Each message asks for an acknowledgement; the last one ends it.
    LastAck,
    /// As `LastAck`, but a refusal of the first message (the transaction's begin) ends it too.
    Transaction,
    /// A dump: ends with `NLMSG_DONE`.
    Done,
}

/// What the kernel said to each message of a request, by the message's number in it.
#[derive(Debug, Default)]
pub struct Answers {
    /// Answers that carry data, headers included.
    pub replies: Vec<(u32, Vec<u8>)>,
    pub refusals: Vec<(u32, NetlinkError)>,
    /// The tables changed during a dump, of which nothing may be believed then.
    pub interrupted: bool,
}

impl Answers {
    /// Those to one message.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn take(&mut self, index: u32) -> Result<Vec<Vec<u8>>, NetlinkError> {
        if let Some(at) = self.refusals.iter().position(|(refused, _)| *refused == index) {
            return Err(self.refusals.swap_remove(at).1);
        }
        Ok(self.replies.extract_if(.., |(of, _)| *of == index).map(|(_, reply)| reply).collect())
    }
}

/// Sends messages `first..=last` and collects the answers that carry data, headers included.
///
/// # Errors
/// The first refusal of the kernel (all answers are read before), or a socket failure.
pub fn exchange(fd: BorrowedFd<'_>, request: &[u8], first: u32, last: u32, ending: Ending) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let answers = converse(fd, request, first, last, ending)?;
    match answers.refusals.into_iter().next() {
        Some((_, error)) => Err(error),
        None if answers.interrupted => Err(NetlinkError::Interrupted),
        None => Ok(answers.replies.into_iter().map(|(_, reply)| reply).collect()),
    }
}

/// The same, with the answers told apart.
///
/// # Errors
/// A socket failure.
pub fn converse(fd: BorrowedFd<'_>, request: &[u8], first: u32, last: u32, ending: Ending) -> Result<Answers, NetlinkError> {
    send(fd, request)?;
    let mut buffer = vec![0u8; BUFFER];
    let mut answers = Answers::default();
    loop {
        let length = receive(fd, &mut buffer)?;
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER {
            let header = Header::read(rest)?;
            let message = &rest[..header.length];
            rest = &rest[header.length.next_multiple_of(4).min(rest.len())..];
            let index = header.sequence.wrapping_sub(first);
            if index > last.wrapping_sub(first) {
                continue;
            }
            answers.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match header.kind {
                NLMSG_ERROR | NLMSG_DONE => {
                    if let Some(error) = refused(message, &header, index)? {
                        answers.refusals.push((index, error));
                        if ending == Ending::Transaction && index == 0 {
                            return Ok(answers);
                        }
                    }
                    if header.sequence == last {
                        return Ok(answers);
                    }
                }
                kind if kind >= NLMSG_MIN_TYPE => answers.replies.push((index, message.to_vec())),
                _ => {}
            }
        }
    }
}

struct Header {
    length: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, NetlinkError> {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = word(0) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(NetlinkError::Malformed);
        }
        Ok(Header { length, kind: half(4), flags: half(6), sequence: word(8) })
    }
}

/// The refusal an error or done message carries; None for an acknowledgement.
fn refused(message: &[u8], header: &Header, index: u32) -> Result<Option<NetlinkError>, NetlinkError> {
    let Some(code) = message.get(HEADER..HEADER + 4) else {
        // A done message without a code is a plain end.
        return if header.kind == NLMSG_DONE { Ok(None) } else { Err(NetlinkError::Malformed) };
    };
    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
    if code >= 0 {
        return Ok(None);
    }
    let attributes = if header.kind == NLMSG_DONE {
        HEADER + 4
    } else if header.flags & NLM_F_CAPPED != 0 {
        HEADER + 4 + HEADER
    } else {
        let original = message.get(HEADER + 4..).ok_or(NetlinkError::Malformed)?;
        HEADER + 4 + original.get(..4).map_or(0, |l| u32::from_ne_bytes([l[0], l[1], l[2], l[3]]) as usize).next_multiple_of(4)
    };
    let text = if header.flags & NLM_F_ACK_TLVS != 0 { extended_text(message.get(attributes..).unwrap_or_default()) } else { String::new() };
    Ok(Some(NetlinkError::Refused { index, text, errno: Errno::from_raw_os_error(code.saturating_neg()) }))
}

fn extended_text(mut rest: &[u8]) -> String {
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        if length < 4 || length > rest.len() {
            break;
        }
        if kind == NLMSGERR_ATTR_MSG {
            return String::from_utf8_lossy(&rest[4..length]).trim_end_matches('\0').to_owned();
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    String::new()
}

fn send(fd: BorrowedFd<'_>, request: &[u8]) -> Result<(), NetlinkError> {
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    let sent = rustix::io::retry_on_intr(|| rustix::net::sendto(fd, request, SendFlags::empty(), &kernel))
        .map_err(|source| NetlinkError::Socket { operation: "send to", source })?;
    if sent == request.len() { Ok(()) } else { Err(NetlinkError::Socket { operation: "send to", source: Errno::MSGSIZE }) }
}

/// One datagram of the kernel; those of other processes (nl_pid other than 0) are dropped.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, NetlinkError> {
    loop {
        // SAFETY: all bytes zero is a valid sockaddr_nl.
        let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut from_length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the buffer and the address are live and exclusively borrowed for the call, and their
        // true sizes are passed; MSG_TRUNC changes the returned length, not how much is written.
        let received = unsafe {
            libc::recvfrom(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC, (&raw mut from).cast(), &raw mut from_length)
        };
        let Ok(length) = usize::try_from(received) else {
            match last_errno() {
                Errno::INTR => continue,
                source => return Err(NetlinkError::Socket { operation: "receive from", source }),
            }
        };
        if length > buffer.len() {
            return Err(NetlinkError::Socket { operation: "receive from", source: Errno::MSGSIZE });
        }
        if from.nl_pid == 0 {
            return Ok(length);
        }
    }
}
