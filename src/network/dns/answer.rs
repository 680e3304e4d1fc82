//! What is answered here, and what is for others: pure, from a message and the names files to a message.

use super::message::{self, Answer, Code, Query, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_PTR, TYPE_SRV, Unreadable};
use super::table::{Found, Table};
use std::net::IpAddr;

/// Seconds that a client may keep an answer. Names follow containers, which come back with other addresses, and clients
/// balance over several holders by asking again; asking costs some 20 µs. Docker says 600.
pub const SECONDS: u32 = 10;
/// Longest answer over UDP of ours; the loopback device would take 64 KiB, but a client's buffer may not.
const LONGEST_DATAGRAM: usize = 4096;
/// Longest message over TCP.
pub const LONGEST_STREAM: usize = 0xffff;

/// A network of the container.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    pub name: &'a str,
    pub table: Table<'a>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is sent.
    Ignored,
    /// The answer is in the buffer.
    Answered,
    /// It is not about a container.
    Foreign,
}

/// A cheap source of numbers that decide about nothing but an order.
#[derive(Debug)]
pub struct Shuffle(u64);

impl Shuffle {
    pub fn new(seed: u64) -> Self {
        Shuffle(seed | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        // xorshift64 (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    fn shuffle(&mut self, list: &mut [IpAddr]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }
}

/// Answers what is about the containers of the zones.
pub fn answer(bytes: &[u8], zones: &[Zone<'_>], stream: bool, order: &mut Shuffle, out: &mut Vec<u8>) -> Outcome {
    let query = match Query::read(bytes) {
        Ok(query) => query,
        Err(Unreadable::Nothing) => return Outcome::Ignored,
        Err(Unreadable::With(code)) => {
            message::refuse(bytes, code, out);
            return Outcome::Answered;
        }
    };
    let mut space = [0; 255];
    let Some(name) = query.name(&mut space).filter(|_| query.is_internet()) else { return Outcome::Foreign };
    let limit = if stream { LONGEST_STREAM } else { query.datagram_limit().min(LONGEST_DATAGRAM) };
    if matches!(query.kind, TYPE_PTR | TYPE_ANY)
        && let Some(address) = message::reverse_address(name)
    {
        let Some((host, network)) = zones.iter().find_map(|zone| Some((zone.table.name_of(address)?, zone.name))) else { return Outcome::Foreign };
        let mut reply = Answer::begin(&query, Code::NoError, limit, out);
        reply.pointer(&format!("{host}.{network}"), SECONDS);
        reply.finish();
        return Outcome::Answered;
    }
    let Some(found) = find(zones, name) else {
        // A container has no services that could be asked for, but it exists: there is no such record.
        if query.kind == TYPE_SRV && find(zones, behind_service(name)).is_some() {
            Answer::begin(&query, Code::NoError, limit, out).finish();
            return Outcome::Answered;
        }
        return Outcome::Foreign;
    };
    let mut reply = Answer::begin(&query, Code::NoError, limit, out);
    let wanted = |address: &IpAddr| match query.kind {
        TYPE_A => address.is_ipv4(),
        TYPE_AAAA => address.is_ipv6(),
        TYPE_ANY => true,
        _ => false,
    };
    let mut addresses = found.addresses().filter(wanted);
    if let Some(first) = addresses.next() {
        match addresses.next() {
            None => reply.address(first, SECONDS),
            Some(second) => {
                let mut all: Vec<IpAddr> = [first, second].into_iter().chain(addresses).collect();
                order.shuffle(&mut all);
                all.into_iter().for_each(|address| reply.address(address, SECONDS));
            }
        }
    }
    reply.finish();
    Outcome::Answered
}

/// The first network that knows the name, as it stands or with a network's own name behind it.
fn find<'a>(zones: &[Zone<'a>], name: &[u8]) -> Option<Found<'a>> {
    let qualified = |zone: &Zone<'a>| {
        let head = name.len().checked_sub(zone.name.len() + 1)?;
        let ours = name[head] == b'.' && name[head + 1..].eq_ignore_ascii_case(zone.name.as_bytes());
        ours.then(|| zone.table.addresses(&name[..head])).flatten()
    };
    zones.iter().find_map(|zone| zone.table.addresses(name)).or_else(|| zones.iter().find_map(qualified))
}

/// `_port._protocol.name` without its first labels.
fn behind_service(mut name: &[u8]) -> &[u8] {
    while name.first() == Some(&b'_') {
        let Some(dot) = name.iter().position(|&b| b == b'.') else { break };
        name = &name[dot + 1..];
    }
    name
}
