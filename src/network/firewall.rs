//! Our nftables table `ip rcon`: its rules, its generation marker, and the elements that publish ports.
//!
//! Invariants: no other table is read or changed. The table is made by one transaction that carries a
//! marker (a table comment with version, bridge and subnet); marker, object count and rule count together
//! tell whether it stands. `route_localnet` of the bridge is never set without the guard chain.

use super::link::Range;
use super::message::{self, CREATE, EXCLUSIVE, Reader, attributes};
use super::nftables::{self, Field, Transaction};
use crate::state::record::{Network, Protocol, PublishedPort};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

const NAME: &str = "rcon";
const PORTS: &str = "ports";
const PORTS_AT: &str = "ports_at";
/// Bumped with every change of [`write_rules`]; an older table is replaced by the next command.
const VERSION: u32 = 1;
/// Chains and maps of the table (its kernel use count).
const OBJECTS: u32 = 7;
/// Rules written by [`write_rules`].
const RULES: usize = 15;
/// Elements per transaction: keeps a batch below the socket's send buffer.
const CHUNK: usize = 500;

const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const LOOPBACK: [u8; 4] = [127, 0, 0, 0];
const LOOPBACK_MASK: u32 = 0xff00_0000;

/// One element: map, key and what it redirects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl Element {
    /// None for a publication on an IPv6 address, which holding the port refuses.
    pub(super) fn new(address: Ipv4Addr, port: &PublishedPort) -> Option<Element> {
        let mut key = Vec::with_capacity(12);
        let set = match port.host_ip {
            None => PORTS,
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => PORTS,
            Some(IpAddr::V4(ip)) => {
                key.extend_from_slice(&ip.octets());
                PORTS_AT
            }
            Some(IpAddr::V6(_)) => return None,
        };
        key.extend_from_slice(&[protocol_number(port.protocol), 0, 0, 0]);
        key.extend_from_slice(&port.host_port.to_be_bytes());
        key.extend_from_slice(&[0, 0]);
        let mut data = address.octets().to_vec();
        data.extend_from_slice(&port.container_port.to_be_bytes());
        data.extend_from_slice(&[0, 0]);
        Some(Element { set, key, data })
    }
}

pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// What the kernel says of our table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Missing,
    /// Another version, another subnet, or someone took rules out.
    Stale {
        handle: [u8; 8],
    },
    Current,
}

fn marker(network: &Network) -> Vec<u8> {
    let text = format!("rcon rules {VERSION} {} {}/{}", network.bridge, network.subnet, network.prefix);
    // The form of nft's table comments: type 0, length, text with its NUL.
    let mut bytes = vec![0, u8::try_from(text.len() + 1).expect("invariant: interface names and addresses are short")];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

pub(super) fn standing(fd: BorrowedFd<'_>, network: &Network) -> Result<Standing, NetlinkError> {
    let replies = match message::request(fd, nftables::kind(nftables::GET_TABLE), &nftables::header(), |a| a.text(nftables::TABLE, NAME)) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Standing::Missing),
        other => other?,
    };
    let Some(found) = replies.first().map(|reply| attributes(reply, nftables::NFGENMSG)) else { return Ok(Standing::Missing) };
    let handle = found.find(nftables::TABLE_HANDLE).and_then(|h| h.try_into().ok()).ok_or(NetlinkError::Malformed)?;
    let same = found.find(nftables::TABLE_USERDATA) == Some(&marker(network)[..]) && found.find_network_number(nftables::TABLE_USE) == Some(OBJECTS);
    if !same {
        return Ok(Standing::Stale { handle });
    }
    let rules = message::dump(fd, nftables::kind(nftables::GET_RULE), &nftables::header(), |a| a.text(nftables::TABLE, NAME))?;
    Ok(if rules.len() == RULES { Standing::Current } else { Standing::Stale { handle } })
}

/// Makes the table in one transaction, in place of the stale one if there is one.
///
/// EEXIST or ENOENT mean that another process was faster: look again.
pub(super) fn make(fd: BorrowedFd<'_>, network: &Network, stale: Option<[u8; 8]>) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    if let Some(handle) = stale {
        transaction.message(nftables::DELETE_TABLE, 0, NAME, |a| a.put(nftables::TABLE_HANDLE, &handle));
    }
    transaction.message(nftables::NEW_TABLE, CREATE | EXCLUSIVE, NAME, |a| a.put(nftables::TABLE_USERDATA, &marker(network)));
    write_rules(&mut transaction, network);
    transaction.commit(fd)
}

fn write_rules(t: &mut Transaction, network: &Network) {
    let bridge = network.bridge.as_str();
    let range = Range { address: network.subnet, prefix: network.prefix };
    let (subnet, mask) = (network.subnet.octets(), range.mask());
    t.chain(NAME, "guard", "filter", HOOK_PREROUTING, -300);
    t.chain(NAME, "prerouting", "nat", HOOK_PREROUTING, -100);
    t.chain(NAME, "output", "nat", HOOK_OUTPUT, -100);
    t.chain(NAME, "postrouting", "nat", HOOK_POSTROUTING, 100);
    t.chain(NAME, "forward", "filter", HOOK_FORWARD, 0);
    t.map(NAME, PORTS, 1, false);
    t.map(NAME, PORTS_AT, 2, true);

    // route_localnet of the bridge must not open 127/8 to anything but the loopback device (CVE-2020-8558).
    for field in [Field::Destination, Field::Source] {
        t.rule(NAME, "guard", |r| {
            r.input_is("lo", false);
            r.within(field, LOOPBACK, LOOPBACK_MASK);
            r.drop_packet();
        });
    }
    // Containers are reached through published ports only; before translation their addresses are nobody's business.
    t.rule(NAME, "guard", |r| {
        r.input_is(bridge, false);
        r.input_is("lo", false);
        r.within(Field::Destination, subnet, mask);
        r.drop_packet();
    });
    for chain in ["prerouting", "output"] {
        for (map, id, by_address) in [(PORTS_AT, 2, true), (PORTS, 1, false)] {
            t.rule(NAME, chain, |r| {
                r.destination_is_local();
                r.redirect_by(map, id, by_address);
            });
        }
    }
    write_masquerading(t, bridge, subnet, mask);
    write_forwarding(t, bridge, subnet, mask);
}

fn write_masquerading(t: &mut Transaction, bridge: &str, subnet: [u8; 4], mask: u32) {
    t.rule(NAME, "postrouting", |r| {
        r.within(Field::Source, subnet, mask);
        r.output_is(bridge, false);
        r.masquerade();
    });
    // The host's own 127.0.0.1 clients: the container can only answer to an address of the bridge.
    t.rule(NAME, "postrouting", |r| {
        r.output_is(bridge, true);
        r.within(Field::Source, LOOPBACK, LOOPBACK_MASK);
        r.masquerade();
    });
    // A container that reaches a published port of its own bridge: the answer must pass the translation.
    t.rule(NAME, "postrouting", |r| {
        r.output_is(bridge, true);
        r.destination_translated();
        r.within(Field::Source, subnet, mask);
        r.masquerade();
    });
}

fn write_forwarding(t: &mut Transaction, bridge: &str, subnet: [u8; 4], mask: u32) {
    t.rule(NAME, "forward", |r| {
        r.established_or_related();
        r.accept();
    });
    t.rule(NAME, "forward", |r| {
        r.destination_translated();
        r.accept();
    });
    t.rule(NAME, "forward", |r| {
        r.input_is(bridge, true);
        r.accept();
    });
    t.rule(NAME, "forward", |r| {
        r.within(Field::Destination, subnet, mask);
        r.drop_packet();
    });
    t.rule(NAME, "forward", |r| {
        r.output_is(bridge, true);
        r.drop_packet();
    });
}

/// Adds elements; one that redirects elsewhere is replaced.
pub(super) fn add(fd: BorrowedFd<'_>, elements: &[Element]) -> Result<(), NetlinkError> {
    for chunk in elements.chunks(CHUNK) {
        let mut transaction = Transaction::new();
        for element in chunk {
            transaction.element(nftables::NEW_ELEMENT, NAME, element.set, &element.key, Some(&element.data));
        }
        match transaction.commit(fd) {
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::BUSY)) => replace(fd, chunk)?,
            other => other?,
        }
    }
    Ok(())
}

/// One transaction in which those elements that stand with another value are taken out first.
fn replace(fd: BorrowedFd<'_>, elements: &[Element]) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    for element in elements {
        if lookup(fd, element)?.is_some_and(|data| data != element.data) {
            transaction.element(nftables::DELETE_ELEMENT, NAME, element.set, &element.key, None);
        }
    }
    for element in elements {
        transaction.element(nftables::NEW_ELEMENT, NAME, element.set, &element.key, Some(&element.data));
    }
    transaction.commit(fd)
}

/// Removes those of the elements that stand with exactly this value.
pub(super) fn remove(fd: BorrowedFd<'_>, elements: &[Element]) -> Result<(), NetlinkError> {
    for chunk in elements.chunks(CHUNK) {
        let mut standing = Vec::new();
        for element in chunk {
            if lookup(fd, element)?.is_some_and(|data| data == element.data) {
                standing.push(element);
            }
        }
        match delete(fd, &standing) {
            // Another process removed one of them meanwhile: one by one, so that the others go.
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                for element in standing {
                    match delete(fd, &[element]) {
                        Err(error) if error.errno() == Some(Errno::NOENT) => {}
                        other => other?,
                    }
                }
            }
            other => other?,
        }
    }
    Ok(())
}

fn delete(fd: BorrowedFd<'_>, elements: &[&Element]) -> Result<(), NetlinkError> {
    if elements.is_empty() {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    for element in elements {
        transaction.element(nftables::DELETE_ELEMENT, NAME, element.set, &element.key, None);
    }
    transaction.commit(fd)
}

/// The value that stands under the element's key.
fn lookup(fd: BorrowedFd<'_>, element: &Element) -> Result<Option<Vec<u8>>, NetlinkError> {
    let replies = message::request(fd, nftables::kind(nftables::GET_ELEMENT), &nftables::header(), |a| {
        a.text(nftables::TABLE, NAME);
        nftables::write_element(a, element.set, &element.key, None);
    });
    match replies {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(replies) => Ok(replies.iter().flat_map(|reply| parse_elements(reply, element.set)).map(|e| e.data).next()),
    }
}

fn parse_elements(reply: &[u8], set: &'static str) -> Vec<Element> {
    let value = |item: Reader<'_>, kind: u16| item.find_nested(kind).and_then(|v| v.find(nftables::VALUE)).map(<[u8]>::to_vec);
    let Some(list) = attributes(reply, nftables::NFGENMSG).find_nested(nftables::ELEMENTS) else { return Vec::new() };
    list.filter_map(|(_, item)| {
        let item = Reader::within(item);
        Some(Element { set, key: value(item, nftables::ELEMENT_KEY)?, data: value(item, nftables::ELEMENT_DATA)? })
    })
    .collect()
}
