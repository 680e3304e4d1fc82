//! The nftables wire form of what our tables need: tables, chains, sets, maps, rules and their expressions.
//!
//! Invariant: a transaction is applied as a whole or not at all. The numbers are those of
//! `linux/netfilter/nf_tables.h`; the expressions are the ones `nft --debug=netlink` prints for the same rules.

use super::message::{APPEND, Attributes, Batch, CREATE};
use crate::sys::netlink::NetlinkError;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
pub(super) const DELETE_ELEMENT: u16 = 14;
pub(super) const GET_GENERATION: u16 = 16;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Size of `struct nfgenmsg`.
pub(super) const NFGENMSG: usize = 4;

/// First attribute of each message: the table's name.
pub(super) const TABLE: u16 = 1;
pub(super) const TABLE_USE: u16 = 3;
pub(super) const TABLE_HANDLE: u16 = 4;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
pub(super) const LIST_ITEM: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;
pub(super) const ELEMENT_FLAGS: u16 = 3;
/// `NFT_SET_ELEM_INTERVAL_END`: the key is the first behind an interval.
pub(super) const INTERVAL_END: u32 = 1;
pub(super) const VALUE: u16 = 1;
/// In the answer to `GET_GENERATION`.
pub(super) const GENERATION: u16 = 1;
/// In the message that begins a batch (`NFNL_BATCH_GENID`).
const BATCH_GENERATION: u16 = 1;
const VERDICT: u16 = 2;

/// The 16-byte registers 1 and 2; the 4-byte register 9 is the second quarter of register 1, 10 its third, and so on.
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const FIRST_WORD: u32 = 8;
/// Bytes of an interface name in a register.
pub(super) const NAME_LENGTH: usize = 16;

/// nft's numbers for types of keys, 6 bits each where they are concatenated.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_INTERFACE: u32 = 41;

/// What nft keeps with a set of interface names, by which it shows them: type 0 (order of bytes), length, 1 for the host's.
const HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

const META_INPUT: u32 = 6;
const META_OUTPUT: u32 = 7;
const META_PROTOCOL: u32 = 16;

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// As nft writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    fn address_type(self) -> u32 {
        match self {
            Family::V4 => TYPE_IPV4,
            Family::V6 => TYPE_IPV6,
        }
    }

    /// Bytes of an address.
    fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    fn offset(self, field: Field) -> u32 {
        match (self, field) {
            (Family::V4, Field::Source) => 12,
            (Family::V4, Field::Destination) => 16,
            (Family::V6, Field::Source) => 8,
            (Family::V6, Field::Destination) => 24,
        }
    }

    pub(super) fn header(self) -> [u8; NFGENMSG] {
        [self.number(), 0, 0, 0]
    }
}

pub(super) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// An interface name as a key.
pub(super) fn interface_key(name: &str) -> [u8; NAME_LENGTH] {
    let mut padded = [0; NAME_LENGTH];
    let length = name.len().min(NAME_LENGTH - 1);
    padded[..length].copy_from_slice(&name.as_bytes()[..length]);
    padded
}

/// What a set or map of ours has as keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Interfaces,
    /// (input, output)
    InterfacePairs,
    /// Intervals of addresses.
    Subnets,
    /// (protocol, port) to (address, port).
    Ports,
    /// (address, protocol, port) to (address, port).
    PortsAt,
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// What a map has under the key.
    pub(super) data: Option<Vec<u8>>,
    /// The key is the first behind an interval.
    pub(super) end: bool,
}

/// A batch for one table, between its begin and end markers.
pub(super) struct Transaction {
    batch: Batch,
    family: Family,
    table: &'static str,
}

impl Transaction {
    pub(super) fn new(family: Family, table: &'static str) -> Self {
        Self::begin(family, table, |_| ())
    }

    /// One that is refused as a whole, and before anything of it is looked at, once anybody has changed any rules since that
    /// generation (ERESTART).
    pub(super) fn of_generation(family: Family, table: &'static str, generation: u32) -> Self {
        Self::begin(family, table, |a| a.network_number(BATCH_GENERATION, generation))
    }

    fn begin(family: Family, table: &'static str, body: impl FnOnce(&mut Attributes<'_>)) -> Self {
        let mut batch = Batch::new();
        // The family header's last two bytes name the subsystem in network order.
        batch.message(BATCH_BEGIN, 0, &[0, 0, 0, 10], body);
        Transaction { batch, family, table }
    }

    pub(super) fn message(&mut self, message: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let table = self.table;
        self.batch.message(kind(message), flags, &self.family.header(), |a| {
            a.text(TABLE, table);
            body(a);
        });
    }

    pub(super) fn chain(&mut self, name: &str, kind: &str, hook: u32, priority: i32) {
        self.message(NEW_CHAIN, CREATE, |a| {
            a.text(3, name);
            a.text(7, kind);
            a.nest(4, |a| {
                a.network_number(1, hook);
                a.put(2, &priority.to_be_bytes());
            });
        });
    }

    pub(super) fn set(&mut self, name: &str, id: u32, shape: Shape) {
        const INTERVALS: u32 = 4;
        const IS_MAP: u32 = 8;
        let (address, bytes) = (self.family.address_type(), self.family.length());
        let name_length = NAME_LENGTH as u32;
        let port = TYPE_PROTOCOL << 6 | TYPE_PORT;
        let (flags, key, length) = match shape {
            Shape::Interfaces => (0, TYPE_INTERFACE, name_length),
            Shape::InterfacePairs => (0, TYPE_INTERFACE << 6 | TYPE_INTERFACE, 2 * name_length),
            Shape::Subnets => (INTERVALS, address, bytes),
            Shape::Ports => (IS_MAP, port, 8),
            Shape::PortsAt => (IS_MAP, address << 12 | port, bytes + 8),
        };
        self.message(NEW_SET, CREATE, |a| {
            a.text(2, name);
            a.network_number(3, flags);
            a.network_number(4, key);
            a.network_number(5, length);
            if flags == IS_MAP {
                a.network_number(6, address << 6 | TYPE_PORT);
                a.network_number(7, bytes + 4);
            }
            a.network_number(10, id);
            if shape == Shape::Interfaces {
                a.put(13, &HOST_ORDER);
            }
        });
    }

    pub(super) fn rule(&mut self, chain: &str, body: impl FnOnce(&mut Rule<'_, '_>)) {
        let family = self.family;
        self.message(NEW_RULE, CREATE | APPEND, |a| {
            a.text(2, chain);
            a.nest(4, |a| body(&mut Rule(a, family)));
        });
    }

    pub(super) fn add(&mut self, element: &Element) {
        self.message(NEW_ELEMENT, CREATE, |a| write_element(a, element, element.data.as_deref()));
    }

    pub(super) fn delete(&mut self, element: &Element) {
        self.message(DELETE_ELEMENT, 0, |a| write_element(a, element, None));
    }

    /// Sends the batch; the answer is that of the whole.
    pub(super) fn commit(mut self, fd: BorrowedFd<'_>) -> Result<(), NetlinkError> {
        self.batch.acknowledge_last();
        self.batch.message(BATCH_END, 0, &[0, 0, 0, 10], |_| ());
        self.batch.run_transaction(fd)
    }
}

/// Writes set name and one element (behind the table's name).
pub(super) fn write_element(a: &mut Attributes<'_>, element: &Element, data: Option<&[u8]>) {
    a.text(ELEMENTS_SET, element.set);
    a.nest(ELEMENTS, |a| {
        a.nest(LIST_ITEM, |a| {
            a.nest(ELEMENT_KEY, |a| a.put(VALUE, &element.key));
            if let Some(data) = data {
                a.nest(ELEMENT_DATA, |a| a.put(VALUE, data));
            }
            if element.end {
                a.network_number(ELEMENT_FLAGS, INTERVAL_END);
            }
        });
    });
}

/// An address field of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Source,
    Destination,
}

/// Writes the expressions of one rule, in order of evaluation.
pub(super) struct Rule<'a, 'b>(&'a mut Attributes<'b>, Family);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(LIST_ITEM, |a| {
            a.text(1, name);
            a.nest(2, body);
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expression("cmp", |a| {
            a.network_number(1, REGISTER);
            a.network_number(2, u32::from(!equal));
            a.nest(3, |a| a.put(VALUE, value));
        });
    }

    fn mask(&mut self, mask: &[u8; 4]) {
        self.expression("bitwise", |a| {
            a.network_number(1, REGISTER);
            a.network_number(2, REGISTER);
            a.network_number(3, 4);
            a.nest(4, |a| a.put(VALUE, mask));
            a.nest(5, |a| a.put(VALUE, &[0; 4]));
        });
    }

    fn load(&mut self, register: u32, base: u32, offset: u32, length: u32) {
        self.expression("payload", |a| {
            a.network_number(1, register);
            a.network_number(2, base);
            a.network_number(3, offset);
            a.network_number(4, length);
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |a| {
            a.network_number(2, key);
            a.network_number(1, register);
        });
    }

    fn lookup(&mut self, set: &str, is_in: bool) {
        self.expression("lookup", |a| {
            a.text(1, set);
            a.network_number(2, REGISTER);
            if !is_in {
                a.network_number(5, 1);
            }
        });
    }

    pub(super) fn input_is(&mut self, name: &str, equal: bool) {
        self.meta(META_INPUT, REGISTER);
        self.compare(equal, &interface_key(name));
    }

    pub(super) fn input_in(&mut self, set: &str, is_in: bool) {
        self.meta(META_INPUT, REGISTER);
        self.lookup(set, is_in);
    }

    pub(super) fn output_in(&mut self, set: &str, is_in: bool) {
        self.meta(META_OUTPUT, REGISTER);
        self.lookup(set, is_in);
    }

    /// The pair of input and output is one of the set.
    pub(super) fn way_in(&mut self, set: &str) {
        self.meta(META_INPUT, REGISTER);
        self.meta(META_OUTPUT, SECOND_REGISTER);
        self.lookup(set, true);
    }

    fn address(&mut self, field: Field) {
        self.load(REGISTER, 1, self.1.offset(field), self.1.length());
    }

    pub(super) fn address_in(&mut self, field: Field, set: &str) {
        self.address(field);
        self.lookup(set, true);
    }

    pub(super) fn destination_is_not(&mut self, address: IpAddr) {
        self.address(Field::Destination);
        self.compare(false, &super::route::octets(address));
    }

    /// The first `length` bytes of the address are those of the network `address`.
    pub(super) fn begins_with(&mut self, field: Field, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("invariant: at most the length of an address");
        self.load(REGISTER, 1, self.1.offset(field), length);
        self.compare(true, bytes);
    }

    /// Matches if the connection tracking word under `key` (0 state, 2 status) has one of `bits`.
    fn tracking(&mut self, key: u32, bits: u32) {
        self.expression("ct", |a| {
            a.network_number(2, key);
            a.network_number(1, REGISTER);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(false, &[0; 4]);
    }

    pub(super) fn established_or_related(&mut self) {
        self.tracking(0, 0x6);
    }

    pub(super) fn destination_translated(&mut self) {
        self.tracking(2, 0x20);
    }

    /// The destination address is one of this host's own.
    pub(super) fn destination_is_local(&mut self) {
        const RTN_LOCAL: u32 = 2;
        self.expression("fib", |a| {
            a.network_number(3, 2);
            a.network_number(2, 3);
            a.network_number(1, REGISTER);
        });
        self.compare(true, &RTN_LOCAL.to_ne_bytes());
    }

    /// Looks ((destination,) protocol, port) up in a map and redirects to what it says.
    pub(super) fn redirect_by(&mut self, map: &str, by_address: bool) {
        let words = self.1.length() / 4;
        let protocol = if by_address { FIRST_WORD + words } else { FIRST_WORD };
        if by_address {
            self.address(Field::Destination);
        }
        self.meta(META_PROTOCOL, protocol);
        self.load(protocol + 1, 2, 2, 2);
        self.expression("lookup", |a| {
            a.network_number(2, REGISTER);
            a.network_number(3, REGISTER);
            a.text(1, map);
        });
        let family = u32::from(self.1.number());
        self.expression("nat", |a| {
            a.network_number(1, 1);
            a.network_number(2, family);
            a.network_number(3, REGISTER);
            a.network_number(5, FIRST_WORD + words);
        });
    }

    pub(super) fn masquerade(&mut self) {
        self.expression("masq", |_| ());
    }

    fn verdict(&mut self, code: u32) {
        self.expression("immediate", |a| {
            a.network_number(1, 0);
            a.nest(2, |a| a.nest(VERDICT, |a| a.network_number(1, code)));
        });
    }

    pub(super) fn drop_packet(&mut self) {
        self.verdict(0);
    }

    pub(super) fn accept(&mut self) {
        self.verdict(1);
    }
}
