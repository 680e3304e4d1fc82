//! The nftables wire form of what our table needs: tables, chains, maps, rules and their expressions.
//!
//! Invariant: a transaction is applied as a whole or not at all. The numbers are those of
//! `linux/netfilter/nf_tables.h`; the expressions are the ones `nft --debug=netlink` prints for the same rules.

use super::message::{APPEND, Attributes, Batch, CREATE};
use crate::sys::netlink::NetlinkError;
use std::os::fd::BorrowedFd;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
pub(super) const DELETE_ELEMENT: u16 = 14;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const FAMILY_IPV4: u8 = 2;
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
pub(super) const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// The 16-byte register 1; register 9 is its second 4-byte quarter, register 10 the third.
const REGISTER: u32 = 1;
const SECOND_WORD: u32 = 9;
const THIRD_WORD: u32 = 10;

/// nft's numbers for the parts of a concatenated key, 6 bits each.
const TYPE_IPV4: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

pub(super) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

pub(super) fn header() -> [u8; NFGENMSG] {
    [FAMILY_IPV4, 0, 0, 0]
}

/// A batch between its begin and end markers.
pub(super) struct Transaction(Batch);

impl Transaction {
    pub(super) fn new() -> Self {
        let mut batch = Batch::new();
        // The family header's last two bytes name the subsystem in network order.
        batch.message(BATCH_BEGIN, 0, &[0, 0, 0, 10], |_| ());
        Transaction(batch)
    }

    pub(super) fn message(&mut self, message: u16, flags: u16, table: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.0.message(kind(message), flags, &header(), |a| {
            a.text(TABLE, table);
            body(a);
        });
    }

    pub(super) fn chain(&mut self, table: &str, name: &str, kind: &str, hook: u32, priority: i32) {
        self.message(NEW_CHAIN, CREATE, table, |a| {
            a.text(3, name);
            a.text(7, kind);
            a.nest(4, |a| {
                a.network_number(1, hook);
                a.put(2, &priority.to_be_bytes());
            });
        });
    }

    /// A map to (address, port); `by_address` puts the destination address before (protocol, port) in the key.
    pub(super) fn map(&mut self, table: &str, name: &str, id: u32, by_address: bool) {
        const IS_MAP: u32 = 8;
        let protocol_port = TYPE_PROTOCOL << 6 | TYPE_PORT;
        let (key, length) = if by_address { (TYPE_IPV4 << 12 | protocol_port, 12) } else { (protocol_port, 8) };
        self.message(NEW_SET, CREATE, table, |a| {
            a.text(2, name);
            a.network_number(3, IS_MAP);
            a.network_number(4, key);
            a.network_number(5, length);
            a.network_number(6, TYPE_IPV4 << 6 | TYPE_PORT);
            a.network_number(7, 8);
            a.network_number(10, id);
        });
    }

    pub(super) fn rule(&mut self, table: &str, chain: &str, body: impl FnOnce(&mut Rule<'_, '_>)) {
        self.message(NEW_RULE, CREATE | APPEND, table, |a| {
            a.text(2, chain);
            a.nest(4, |a| body(&mut Rule(a)));
        });
    }

    pub(super) fn element(&mut self, message: u16, table: &str, set: &str, key: &[u8], data: Option<&[u8]>) {
        let flags = if message == NEW_ELEMENT { CREATE } else { 0 };
        self.message(message, flags, table, |a| write_element(a, set, key, data));
    }

    /// Sends the batch; the answer is that of the whole.
    pub(super) fn commit(mut self, fd: BorrowedFd<'_>) -> Result<(), NetlinkError> {
        self.0.acknowledge_last();
        self.0.message(BATCH_END, 0, &[0, 0, 0, 10], |_| ());
        self.0.run_transaction(fd)
    }
}

/// Writes set name and one element (behind the table's name).
pub(super) fn write_element(a: &mut Attributes<'_>, set: &str, key: &[u8], data: Option<&[u8]>) {
    a.text(ELEMENTS_SET, set);
    a.nest(ELEMENTS, |a| {
        a.nest(LIST_ITEM, |a| {
            a.nest(ELEMENT_KEY, |a| a.put(VALUE, key));
            if let Some(data) = data {
                a.nest(ELEMENT_DATA, |a| a.put(VALUE, data));
            }
        });
    });
}

/// A packet field of the IPv4 header.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Source,
    Destination,
}

/// Writes the expressions of one rule, in order of evaluation.
pub(super) struct Rule<'a, 'b>(&'a mut Attributes<'b>);

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

    fn interface(&mut self, key: u32, name: &str, equal: bool) {
        let mut padded = [0; 16];
        let length = name.len().min(15);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.expression("meta", |a| {
            a.network_number(2, key);
            a.network_number(1, REGISTER);
        });
        self.compare(equal, &padded);
    }

    pub(super) fn input_is(&mut self, name: &str, equal: bool) {
        self.interface(6, name, equal);
    }

    pub(super) fn output_is(&mut self, name: &str, equal: bool) {
        self.interface(7, name, equal);
    }

    pub(super) fn within(&mut self, field: Field, address: [u8; 4], mask: u32) {
        let offset = match field {
            Field::Source => 12,
            Field::Destination => 16,
        };
        self.load(REGISTER, 1, offset, 4);
        self.mask(&mask.to_be_bytes());
        self.compare(true, &address);
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
    pub(super) fn redirect_by(&mut self, map: &str, id: u32, by_address: bool) {
        let (protocol, port) = if by_address { (SECOND_WORD, THIRD_WORD) } else { (REGISTER, SECOND_WORD) };
        if by_address {
            self.load(REGISTER, 1, 16, 4);
        }
        self.load(protocol, 1, 9, 1);
        self.load(port, 2, 2, 2);
        self.expression("lookup", |a| {
            a.network_number(2, REGISTER);
            a.network_number(3, REGISTER);
            a.text(1, map);
            a.network_number(4, id);
        });
        self.expression("nat", |a| {
            a.network_number(1, 1);
            a.network_number(2, u32::from(FAMILY_IPV4));
            a.network_number(3, REGISTER);
            a.network_number(5, SECOND_WORD);
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
