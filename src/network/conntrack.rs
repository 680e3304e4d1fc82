//! Forgetting UDP flows by ctnetlink: connection tracking remembers where a flow goes, so a changed
//! publication would not reach clients that keep sending.
//!
//! Invariant: only UDP flows of the given published ports are removed.

use super::Addresses;
use super::message::{self, Attributes, Reader, attributes};
use crate::state::record::{Protocol, PublishedPort};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Size of `struct nfgenmsg`; of all families: all zero.
const HEADER: usize = 4;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_SRC: u16 = 1;
const CTA_IP_DST: u16 = 2;
const CTA_IPV6_SRC: u16 = 3;
const CTA_IPV6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// IPS_SRC_NAT | IPS_DST_NAT.
const TRANSLATED: u32 = 0x30;
const UDP: u8 = 17;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    protocol: u8,
}

struct Flow<'a> {
    original: Tuple,
    reply: Tuple,
    status: u32,
    tuple: &'a [u8],
    id: Option<&'a [u8]>,
}

fn parse_tuple(value: Reader<'_>) -> Option<Tuple> {
    let ip = value.find_nested(CTA_TUPLE_IP)?;
    let protocol = value.find_nested(CTA_TUPLE_PROTO)?;
    let address = |v4, v6| {
        let short = || ip.find(v4).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(IpAddr::from);
        short().or_else(|| ip.find(v6).and_then(|v| <[u8; 16]>::try_from(v).ok()).map(IpAddr::from))
    };
    let port = |kind| protocol.find(kind).and_then(|v| v.try_into().ok()).map(u16::from_be_bytes);
    Some(Tuple {
        source: (address(CTA_IP_SRC, CTA_IPV6_SRC)?, port(CTA_PROTO_SRC_PORT)?),
        destination: (address(CTA_IP_DST, CTA_IPV6_DST)?, port(CTA_PROTO_DST_PORT)?),
        protocol: *protocol.find(CTA_PROTO_NUM)?.first()?,
    })
}

fn parse(reply: &[u8]) -> Option<Flow<'_>> {
    let found = attributes(reply, HEADER);
    Some(Flow {
        original: parse_tuple(found.find_nested(CTA_TUPLE_ORIG)?)?,
        reply: parse_tuple(found.find_nested(CTA_TUPLE_REPLY)?)?,
        status: found.find_network_number(CTA_STATUS)?,
        tuple: found.find(CTA_TUPLE_ORIG)?,
        id: found.find(CTA_ID),
    })
}

/// The flow came in at this published port.
fn arrives_at(flow: &Flow<'_>, port: &PublishedPort) -> bool {
    let (address, number) = flow.original.destination;
    let addressed = match port.host_ip {
        Some(ip) if ip.is_unspecified() => ip.is_ipv4() == address.is_ipv4(),
        Some(ip) => ip == address,
        None => true,
    };
    flow.original.protocol == UDP && number == port.host_port && addressed
}

/// Flows to the ports which are translated in no way: they began before the port was published.
pub(super) fn forget_untranslated(fd: BorrowedFd<'_>, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    forget(fd, ports, |flow, port| arrives_at(flow, port) && flow.status & TRANSLATED == 0)
}

/// Flows that the ports' elements redirected to the container.
pub(super) fn forget_redirected(fd: BorrowedFd<'_>, targets: Addresses, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    forget(fd, ports, |flow, port| {
        if !arrives_at(flow, port) {
            return false;
        }
        let (address, number) = flow.reply.source;
        number == port.container_port && (targets.ipv4.map(IpAddr::V4) == Some(address) || targets.ipv6.map(IpAddr::V6) == Some(address))
    })
}

fn forget(fd: BorrowedFd<'_>, ports: &[PublishedPort], doomed: impl Fn(&Flow<'_>, &PublishedPort) -> bool) -> Result<(), NetlinkError> {
    let ports: Vec<&PublishedPort> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let replies = message::dump(fd, GET, &[0; HEADER], |_| ())?;
    for flow in replies.iter().filter_map(|reply| parse(reply)) {
        if !ports.iter().any(|port| doomed(&flow, port)) {
            continue;
        }
        let family = if flow.original.source.0.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 };
        let header = [family, 0, 0, 0];
        let body = |a: &mut Attributes<'_>| {
            a.nest(CTA_TUPLE_ORIG, |a| a.raw(flow.tuple));
            if let Some(id) = flow.id {
                a.put(CTA_ID, id);
            }
        };
        match message::request(fd, DELETE, &header, body) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            other => drop(other?),
        }
    }
    Ok(())
}
