//! Netlink messages: a writer for batches of messages with nested attributes, and a bounded reader.
//!
//! Invariant: lengths are filled in when a message or nest closes, everything is padded to 4 bytes;
//! the reader never looks past a length the kernel gave.

use super::{self as netlink, Answers, Ending, HEADER, MOST_MESSAGES, NetlinkError};
use std::os::fd::BorrowedFd;

pub const REQUEST: u16 = 0x1;
pub const ACK: u16 = 0x4;
pub const EXCLUSIVE: u16 = 0x200;
pub const REPLACE: u16 = 0x100;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// Attempts at a dump before we say that the tables do not hold still.
const DUMP_ATTEMPTS: usize = 16;

/// Messages that travel in one datagram.
pub struct Batch {
    bytes: Vec<u8>,
    first: u32,
    count: u32,
    last_start: usize,
}

impl Batch {
    pub fn new() -> Self {
        Batch { bytes: Vec::with_capacity(1024), first: netlink::reserve_sequence(), count: 0, last_start: 0 }
    }

    /// Appends a message: fixed `header` of its family, then the attributes `body` writes.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], body: impl FnOnce(&mut Attributes<'_>)) {
        assert!(self.count < MOST_MESSAGES, "invariant: callers split batches of unbounded length");
        let start = self.bytes.len();
        self.last_start = start;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.first.wrapping_add(self.count).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        body(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).expect("invariant: messages are small");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.count += 1;
    }

    /// Asks for an acknowledgement of the message written last.
    pub fn acknowledge_last(&mut self) {
        let at = self.last_start + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | ACK;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Sends the messages, each of which asks for an acknowledgement, and returns the data answers.
    pub fn run(self, fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let last = self.first.wrapping_add(self.count - 1);
        netlink::exchange(fd, &self.bytes, self.first, last, Ending::LastAck)
    }

    /// Appends a question that is answered by a dump.
    pub fn dump(&mut self, kind: u16, header: &[u8], body: impl FnOnce(&mut Attributes<'_>)) {
        self.message(kind, DUMP, header, body);
    }

    /// Sends questions, the last of which is a [`Batch::dump`], and returns the answers to each; an interrupted dump is not
    /// repeated ([`Answers::interrupted`]).
    pub fn ask(self, fd: BorrowedFd<'_>) -> Result<Answers, NetlinkError> {
        netlink::converse(fd, &self.bytes, self.first, self.first.wrapping_add(self.count - 1), Ending::Done)
    }

    /// Sends a transaction whose last-but-one message (before the end marker) asks for the acknowledgement.
    pub fn run_transaction(self, fd: BorrowedFd<'_>) -> Result<(), NetlinkError> {
        let last = self.first.wrapping_add(self.count - 2);
        netlink::exchange(fd, &self.bytes, self.first, last, Ending::Transaction).map(drop)
    }
}

/// One message with an acknowledgement; returns its data answers.
pub fn request(fd: BorrowedFd<'_>, kind: u16, header: &[u8], body: impl FnOnce(&mut Attributes<'_>)) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(kind, ACK, header, body);
    batch.run(fd)
}

/// A consistent dump: begun anew when the kernel says that the table changed meanwhile.
pub fn dump(fd: BorrowedFd<'_>, kind: u16, header: &[u8], body: impl Fn(&mut Attributes<'_>)) -> Result<Vec<Vec<u8>>, NetlinkError> {
    for _ in 0..DUMP_ATTEMPTS {
        let mut batch = Batch::new();
        batch.message(kind, DUMP, header, &body);
        match netlink::exchange(fd, &batch.bytes, batch.first, batch.first, Ending::Done) {
            Err(NetlinkError::Interrupted) => {}
            other => return other,
        }
    }
    Err(NetlinkError::Interrupted)
}

/// Writes attributes into the open message.
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("invariant: our attributes are below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(self.0);
    }

    /// A number in host byte order (rtnetlink).
    pub fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order (nfnetlink).
    pub fn network_number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with its closing NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.put(kind | NESTED, &[]);
        body(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).expect("invariant: our attributes are below 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// A fixed structure in the middle of a nest (the peer's `ifinfomsg`).
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        pad(self.0);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes of a message behind a family header of `header` bytes.
pub fn attributes(message: &[u8], header: usize) -> Reader<'_> {
    Reader(message.get(HEADER + header..).unwrap_or_default())
}

/// The fixed family header of a message.
pub fn family_header(message: &[u8]) -> &[u8] {
    message.get(HEADER..).unwrap_or_default()
}

/// Iterates over attributes: (type without flags, value).
#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The attributes within an attribute.
    pub fn within(value: &'a [u8]) -> Self {
        Reader(value)
    }

    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }

    pub fn find_nested(self, kind: u16) -> Option<Reader<'a>> {
        self.find(kind).map(Reader)
    }

    pub fn find_text(self, kind: u16) -> Option<&'a str> {
        let value = self.find(kind)?;
        std::str::from_utf8(value.split(|&b| b == 0).next()?).ok()
    }

    pub fn find_number(self, kind: u16) -> Option<u32> {
        self.find(kind).and_then(|v| v.try_into().ok()).map(u32::from_ne_bytes)
    }

    pub fn find_network_number(self, kind: u16) -> Option<u32> {
        self.find(kind).and_then(|v| v.try_into().ok()).map(u32::from_be_bytes)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, kind) = match self.0 {
            [a, b, c, d, ..] => (usize::from(u16::from_ne_bytes([*a, *b])), u16::from_ne_bytes([*c, *d])),
            _ => return None,
        };
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_read_back() {
        let mut batch = Batch::new();
        batch.message(0x20, 0, &[1, 2, 3, 4], |a| {
            a.text(1, "eth0");
            a.nest(2, |a| {
                a.number(3, 7);
                a.network_number(4, 8);
            });
        });
        assert_eq!(family_header(&batch.bytes)[..4], [1, 2, 3, 4]);
        let read = attributes(&batch.bytes, 4);
        assert_eq!(read.find_text(1), Some("eth0"));
        let nested = read.find_nested(2);
        assert_eq!(nested.and_then(|n| n.find_number(3)), Some(7));
        assert_eq!(nested.and_then(|n| n.find_network_number(4)), Some(8));
        assert_eq!(u32::from_ne_bytes(batch.bytes[..4].try_into().unwrap_or_default()) as usize, batch.bytes.len());
    }

    #[test]
    fn lying_lengths_end_the_reader() {
        for bytes in [&[200, 0, 1, 0, 9][..], &[2, 0, 1, 0], &[0, 0, 0, 0], &[4], &[8, 0, 1, 0, 1]] {
            assert_eq!(Reader(bytes).count(), 0, "{bytes:?}");
        }
    }
}
