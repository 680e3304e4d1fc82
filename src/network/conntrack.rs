//! Forgetting UDP flows by ctnetlink: connection tracking remembers where a flow goes, so a changed
//! publication would not reach clients that keep sending.
//!
//! Invariant: only UDP flows of the given published ports are removed.

use super::message::{self, Attributes, Reader, attributes};
use crate::state::record::{Protocol, PublishedPort};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const HEADER: [u8; 4] = [2, 0, 0, 0];
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_SRC: u16 = 1;
const CTA_IP_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// IPS_SRC_NAT | IPS_DST_NAT.
const TRANSLATED: u32 = 0x30;
const UDP: u8 = 17;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
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
    let address = |kind| ip.find(kind).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(Ipv4Addr::from);
    let port = |kind| protocol.find(kind).and_then(|v| v.try_into().ok()).map(u16::from_be_bytes);
    Some(Tuple {
        source: (address(CTA_IP_SRC)?, port(CTA_PROTO_SRC_PORT)?),
        destination: (address(CTA_IP_DST)?, port(CTA_PROTO_DST_PORT)?),
        protocol: *protocol.find(CTA_PROTO_NUM)?.first()?,
    })
}

fn parse(reply: &[u8]) -> Option<Flow<'_>> {
    let found = attributes(reply, HEADER.len());
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
        Some(IpAddr::V4(ip)) if !ip.is_unspecified() => ip == address,
        _ => true,
    };
    flow.original.protocol == UDP && number == port.host_port && addressed
}

/// Flows to the ports which are translated in no way: they began before the port was published.
pub(super) fn forget_untranslated(fd: BorrowedFd<'_>, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    forget(fd, ports, |flow, port| arrives_at(flow, port) && flow.status & TRANSLATED == 0)
}

/// Flows that the ports' elements redirected to the container.
pub(super) fn forget_redirected(fd: BorrowedFd<'_>, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    forget(fd, ports, |flow, port| arrives_at(flow, port) && flow.reply.source == (address, port.container_port))
}

fn forget(fd: BorrowedFd<'_>, ports: &[PublishedPort], doomed: impl Fn(&Flow<'_>, &PublishedPort) -> bool) -> Result<(), NetlinkError> {
    let ports: Vec<&PublishedPort> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let replies = message::dump(fd, GET, &HEADER, |_| ())?;
    for flow in replies.iter().filter_map(|reply| parse(reply)) {
        if !ports.iter().any(|port| doomed(&flow, port)) {
            continue;
        }
        let body = |a: &mut Attributes<'_>| {
            a.nest(CTA_TUPLE_ORIG, |a| a.raw(flow.tuple));
            if let Some(id) = flow.id {
                a.put(CTA_ID, id);
            }
        };
        match message::request(fd, DELETE, &HEADER, body) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            other => drop(other?),
        }
    }
    Ok(())
}
