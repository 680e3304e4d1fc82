//! DNS messages (RFC 1035, RFC 6891): reading a query, writing an answer, and the few fields that a relay looks at.
//!
//! Invariants: no name is ever decompressed, so that a message can loop or grow nowhere; a query has exactly one question,
//! whose name is not compressed and at most 255 bytes long; an answer never exceeds the limit that it was begun with.

use std::net::IpAddr;

pub const HEADER: usize = 12;
/// Longest name on the wire (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: u8 = 63;
/// What a client without EDNS takes over UDP (RFC 1035, 2.3.4).
pub const PLAIN_LIMIT: usize = 512;
/// What we say that we take over UDP: no datagram of this size is fragmented anywhere.
const OWN_LIMIT: u16 = 1232;
/// Size of an OPT record without options.
const OPT: usize = 11;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;

pub const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
pub const TYPE_A: u16 = 1;
pub const TYPE_PTR: u16 = 12;
pub const TYPE_AAAA: u16 = 28;
pub const TYPE_SRV: u16 = 33;
const TYPE_OPT: u16 = 41;
pub const TYPE_ANY: u16 = 255;

/// Response codes (RFC 1035, 4.1.1; RFC 6891, 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError,
    FormatError,
    ServerFailure,
    NotImplemented,
    BadVersion,
}

impl Code {
    /// The part in the header; that in the OPT record.
    fn parts(self) -> (u8, u8) {
        match self {
            Code::NoError => (0, 0),
            Code::FormatError => (1, 0),
            Code::ServerFailure => (2, 0),
            Code::NotImplemented => (4, 0),
            Code::BadVersion => (0, 1),
        }
    }
}

/// A query that was read.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    header: [u8; HEADER],
    /// Name, type and class as they came.
    question: &'a [u8],
    pub kind: u16,
    pub class: u16,
    /// The UDP size that the client announces with EDNS.
    edns: Option<u16>,
}

/// Why a message is not a query that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// No header, or an answer: whoever sent it gets none.
    Nothing,
    With(Code),
}

impl<'a> Query<'a> {
    /// # Errors
    /// What its sender is to be told, if anything.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let header: [u8; HEADER] = bytes.get(..HEADER).and_then(|b| b.try_into().ok()).ok_or(Unreadable::Nothing)?;
        if header[2] & RESPONSE != 0 {
            return Err(Unreadable::Nothing);
        }
        if header[2] & OPCODE != 0 {
            return Err(Unreadable::With(Code::NotImplemented));
        }
        let format = Unreadable::With(Code::FormatError);
        if half(bytes, 4) != Some(1) {
            return Err(format);
        }
        let name = name_length(&bytes[HEADER..]).ok_or(format)?;
        let end = HEADER + name + 4;
        let (kind, class) = half(bytes, end - 4).zip(half(bytes, end - 2)).ok_or(format)?;
        let edns = find_edns(bytes, end).ok_or(format)?;
        if edns.is_some_and(|(_, version)| version != 0) {
            return Err(Unreadable::With(Code::BadVersion));
        }
        Ok(Query { header, question: &bytes[HEADER..end], kind, class, edns: edns.map(|(size, _)| size) })
    }

    /// The name with dots, lower case, without the last dot; None for one with a byte that no name of ours has.
    pub fn name<'b>(&self, space: &'b mut [u8; LONGEST_NAME]) -> Option<&'b [u8]> {
        let mut rest = self.question;
        let mut length = 0;
        loop {
            let (&size, after) = rest.split_first()?;
            if size == 0 {
                break;
            }
            let (label, next) = after.split_at_checked(usize::from(size))?;
            if length > 0 {
                space[length] = b'.';
                length += 1;
            }
            for &byte in label {
                if byte == b'.' || byte <= b' ' || byte == 0x7f {
                    return None;
                }
                space[length] = byte.to_ascii_lowercase();
                length += 1;
            }
            rest = next;
        }
        Some(&space[..length])
    }

    pub fn is_internet(&self) -> bool {
        self.class == CLASS_IN || self.class == CLASS_ANY
    }

    /// How long an answer over UDP may be.
    pub fn datagram_limit(&self) -> usize {
        self.edns.map_or(PLAIN_LIMIT, |size| usize::from(size).max(PLAIN_LIMIT))
    }
}

/// Length of an uncompressed name with its closing zero; None: it is none.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let size = *bytes.get(at)?;
        if size > LONGEST_LABEL {
            return None;
        }
        at += 1 + usize::from(size);
        if at > LONGEST_NAME {
            return None;
        }
        if size == 0 {
            return Some(at);
        }
    }
}

/// Where the name that begins at `at` ends in the message: a pointer ends it, and is not followed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let size = *bytes.get(at)?;
        match size {
            0 => return Some(at + 1),
            0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
            1..=LONGEST_LABEL => at += 1 + usize::from(size),
            _ => return None,
        }
        if at - start > LONGEST_NAME {
            return None;
        }
    }
}

/// Size and version of the OPT record behind the question, if there is one; None: the records are malformed, or it is
/// there twice.
#[expect(clippy::option_option, reason = "malformed and missing are two things")]
fn find_edns(bytes: &[u8], mut at: usize) -> Option<Option<(u16, u8)>> {
    let mut found = None;
    let others = u32::from(half(bytes, 6)?) + u32::from(half(bytes, 8)?);
    let records = others + u32::from(half(bytes, 10)?);
    // Each takes 11 bytes at least: a false count ends at the end of the message.
    for index in 0..records {
        let fixed = skip_name(bytes, at)?;
        let length = usize::from(half(bytes, fixed + 8)?);
        if index >= others && half(bytes, fixed)? == TYPE_OPT {
            let root = fixed == at + 1;
            if found.is_some() || !root {
                return None;
            }
            found = Some((half(bytes, fixed + 2)?, *bytes.get(fixed + 5)?));
        }
        at = fixed + 10 + length;
        if at > bytes.len() {
            return None;
        }
    }
    Some(found)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes)
}

/// An answer under construction, in a buffer that is used again and again.
pub struct Answer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    records: u16,
    truncated: bool,
    edns: Option<u8>,
}

impl<'a> Answer<'a> {
    /// The question again, no record yet.
    pub fn begin(query: &Query<'_>, code: Code, limit: usize, out: &'a mut Vec<u8>) -> Self {
        let (low, high) = code.parts();
        out.clear();
        out.extend_from_slice(&query.header[..2]);
        out.push(RESPONSE | query.header[2] & RECURSION_DESIRED);
        out.push(RECURSION_AVAILABLE | query.header[3] & CHECKING_DISABLED | low);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question);
        let edns = query.edns.map(|_| high);
        Answer { out, limit: limit - if edns.is_some() { OPT } else { 0 }, records: 0, truncated: false, edns }
    }

    /// Appends a record about the name of the question; what does not fit any more is left out, and the answer says so.
    fn record(&mut self, kind: u16, seconds: u32, data: &[u8]) {
        let length = u16::try_from(data.len()).expect("invariant: an address or a name");
        if self.truncated || self.out.len() + 12 + data.len() > self.limit || self.records == u16::MAX {
            self.truncated = true;
            return;
        }
        // A pointer to the name of the question (RFC 1035, 4.1.4).
        self.out.extend_from_slice(&[0xc0, 0x0c]);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&seconds.to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
        self.records += 1;
    }

    pub fn address(&mut self, address: IpAddr, seconds: u32) {
        match address {
            IpAddr::V4(address) => self.record(TYPE_A, seconds, &address.octets()),
            IpAddr::V6(address) => self.record(TYPE_AAAA, seconds, &address.octets()),
        }
    }

    /// A PTR record; a name that cannot be written on the wire is left out.
    pub fn pointer(&mut self, name: &str, seconds: u32) {
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            match u8::try_from(label.len()) {
                Ok(size @ 1..=LONGEST_LABEL) => wire.push(size),
                _ => return,
            }
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        if wire.len() <= LONGEST_NAME {
            self.record(TYPE_PTR, seconds, &wire);
        }
    }

    pub fn finish(self) {
        self.out[6..8].copy_from_slice(&self.records.to_be_bytes());
        if self.truncated {
            self.out[2] |= TRUNCATED;
        }
        if let Some(high) = self.edns {
            self.out[11] = 1;
            let [a, b] = OWN_LIMIT.to_be_bytes();
            self.out.extend_from_slice(&[0, 0, 41, a, b, high, 0, 0, 0, 0, 0]);
        }
    }
}

/// An answer without any record to a message that may be unreadable behind its header.
pub fn refuse(bytes: &[u8], code: Code, out: &mut Vec<u8>) {
    if let Ok(query) = Query::read(bytes) {
        return Answer::begin(&query, code, usize::MAX, out).finish();
    }
    let (low, high) = code.parts();
    out.clear();
    let Some(header) = bytes.get(..HEADER) else { return };
    out.extend_from_slice(&header[..2]);
    out.push(RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED));
    out.push(RECURSION_AVAILABLE | low);
    out.extend_from_slice(&[0; 8]);
    if high > 0 {
        out[11] = 1;
        let [a, b] = OWN_LIMIT.to_be_bytes();
        out.extend_from_slice(&[0, 0, 41, a, b, high, 0, 0, 0, 0, 0]);
    }
}

/// The id of a message that has a header.
pub fn id(bytes: &[u8]) -> u16 {
    half(bytes, 0).unwrap_or(0)
}

pub fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether this is the answer to a query that was sent under `id` (RFC 5452, 4.2): id, direction and question.
pub fn is_answer(answer: &[u8], id: u16, query: &[u8]) -> bool {
    let Some(header) = answer.get(..HEADER) else { return false };
    if self::id(header) != id || header[2] & RESPONSE == 0 || header[2] & OPCODE != 0 {
        return false;
    }
    match half(header, 4) {
        // A server that could not read the question may leave it out.
        Some(0) => header[3] & 0xf == Code::FormatError.parts().0 || header[3] & 0xf == Code::NotImplemented.parts().0,
        Some(1) => {
            let Some(name) = query.get(HEADER..).and_then(name_length) else { return false };
            let (ours, theirs) = (&query[HEADER..], answer.get(HEADER..HEADER + name + 4));
            theirs.is_some_and(|theirs| {
                ours.get(..name + 4).is_some_and(|ours| ours[..name].eq_ignore_ascii_case(&theirs[..name]) && ours[name..] == theirs[name..])
            })
        }
        _ => false,
    }
}

/// Whether another server may do better: it failed, or it refuses.
pub fn is_failure(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|byte| matches!(byte & 0xf, 2 | 4 | 5))
}

/// What is left of an answer that is too long: the client asks again over TCP.
pub fn truncate(answer: &mut Vec<u8>) {
    let end = answer.get(HEADER..).and_then(name_length).map_or(HEADER, |name| HEADER + name + 4);
    answer.truncate(end.min(answer.len()));
    if answer.len() >= HEADER {
        answer[2] |= TRUNCATED;
        answer[5] = u8::from(answer.len() > HEADER);
        answer[6..12].fill(0);
    }
}

/// The address of a reverse name, in lower case (RFC 1035, 3.5; RFC 3596, 2.5).
pub fn reverse_address(name: &[u8]) -> Option<IpAddr> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = labels.split('.');
        for octet in octets.iter_mut().rev() {
            let text = parts.next()?;
            *octet = text.parse().ok().filter(|octet: &u8| octet.to_string() == text)?;
        }
        return parts.next().is_none().then(|| octets.into());
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let mut octets = [0u8; 16];
    let mut parts = labels.split('.');
    for index in (0..32).rev() {
        let &[digit] = parts.next()?.as_bytes() else { return None };
        let digit = u8::try_from(char::from(digit).to_digit(16)?).ok()?;
        octets[index / 2] |= if index % 2 == 0 { digit << 4 } else { digit };
    }
    parts.next().is_none().then(|| octets.into())
}
