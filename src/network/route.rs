//! Addresses and routes by rtnetlink, of both families.
//!
//! Invariant: every function acts in the network namespace of the socket it is given.

use super::link::{IFF_UP, RTM_NEWLINK, ifinfomsg};
use super::message::{self, ACK, Batch, CREATE, REPLACE, Reader, attributes, family_header};
use crate::base::address::{mask4, mask6};
use crate::state::record::Pool;
use crate::sys::netlink::NetlinkError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// In `struct ifaddrmsg`: the address is used at once, no neighbour is asked whether it has it (ours are leased).
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
/// Written by a program of the administrator at boot; what container tools use.
const RTPROT_BOOT: u8 = 3;
/// Learnt from a router advertisement.
const RTPROT_RA: u8 = 9;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

/// Sizes of the family headers.
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

/// An address with the length of its network's prefix, or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl Range {
    pub(super) fn new(address: impl Into<IpAddr>, prefix: u8) -> Self {
        Range { address: address.into(), prefix }
    }

    pub(super) fn overlaps(self, other: Range) -> bool {
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = mask4(self.prefix.min(other.prefix));
                a.to_bits() & mask == b.to_bits() & mask
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = mask6(self.prefix.min(other.prefix));
                a.to_bits() & mask == b.to_bits() & mask
            }
            _ => false,
        }
    }

    /// First address, and the one behind the last (None: there is none behind it).
    pub(super) fn bounds(self) -> (IpAddr, Option<IpAddr>) {
        match self.address {
            IpAddr::V4(address) => {
                let mask = mask4(self.prefix);
                let first = address.to_bits() & mask;
                (Ipv4Addr::from_bits(first).into(), (first | !mask).checked_add(1).map(|end| Ipv4Addr::from_bits(end).into()))
            }
            IpAddr::V6(address) => {
                let mask = mask6(self.prefix);
                let first = address.to_bits() & mask;
                (Ipv6Addr::from_bits(first).into(), (first | !mask).checked_add(1).map(|end| Ipv6Addr::from_bits(end).into()))
            }
        }
    }
}

impl From<&Pool> for Range {
    fn from(pool: &Pool) -> Self {
        Range { address: pool.subnet, prefix: pool.prefix }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The bytes of an address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn address_message(batch: &mut Batch, kind: u16, flags: u16, index: u32, range: Range) {
    let mut header = [0; IFADDRMSG];
    header[0] = family(range.address);
    header[1] = range.prefix;
    if range.address.is_ipv6() {
        header[2] = IFA_F_NODAD;
    }
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(range.address);
    batch.message(kind, flags | ACK, &header, |a| {
        a.put(IFA_LOCAL, &bytes);
        a.put(IFA_ADDRESS, &bytes);
        if let (RTM_NEWADDR, IpAddr::V4(address)) = (kind, range.address) {
            a.put(IFA_BROADCAST, &(address.to_bits() | !mask4(range.prefix)).to_be_bytes());
        }
    });
}

/// Gives a link its addresses (nothing happens if it has them) and brings it up.
pub(super) fn set_addresses(fd: BorrowedFd<'_>, index: u32, ranges: &[Range]) -> Result<(), NetlinkError> {
    configure(fd, index, ranges, &[], false)
}

pub(super) fn remove_address(fd: BorrowedFd<'_>, index: u32, range: Range) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    address_message(&mut batch, RTM_DELADDR, 0, index, range);
    batch.run(fd).map(drop)
}

/// Addresses, up and default routes of a container's interface, in one datagram; `by_link`: default routes of both families
/// lead to the link itself.
pub(super) fn configure(fd: BorrowedFd<'_>, index: u32, ranges: &[Range], gateways: &[IpAddr], by_link: bool) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    for range in ranges {
        address_message(&mut batch, RTM_NEWADDR, CREATE | REPLACE, index, *range);
    }
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(index, IFF_UP), |_| ());
    for gateway in gateways {
        default_route(&mut batch, family(*gateway), Some(*gateway), index);
    }
    if by_link {
        for range in ranges {
            default_route(&mut batch, family(range.address), None, index);
        }
    }
    batch.run(fd).map(drop)
}

/// Makes a link that is up the way out; another default route of that family is replaced.
pub(super) fn set_default(fd: BorrowedFd<'_>, index: u32, gateways: &[IpAddr]) -> Result<(), NetlinkError> {
    if gateways.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for gateway in gateways {
        default_route(&mut batch, family(*gateway), Some(*gateway), index);
    }
    batch.run(fd).map(drop)
}

fn default_route(batch: &mut Batch, family: u8, gateway: Option<IpAddr>, index: u32) {
    let scope = if gateway.is_none() && family == AF_INET { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    let header: [u8; RTMSG] = [family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0];
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |a| {
        if let Some(gateway) = gateway {
            a.put(RTA_GATEWAY, &octets(gateway));
        }
        a.number(RTA_OIF, index);
    });
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Addresses of all links: (interface index, address with prefix).
pub(super) fn addresses(fd: BorrowedFd<'_>) -> Result<Vec<(u32, Range)>, NetlinkError> {
    let replies = message::dump(fd, RTM_GETADDR, &[0; IFADDRMSG], |_| ())?;
    let parse = |reply: &Vec<u8>| {
        let head = family_header(reply).get(..IFADDRMSG)?;
        let found = attributes(reply, IFADDRMSG);
        let address = found.find(IFA_LOCAL).or_else(|| found.find(IFA_ADDRESS)).and_then(address)?;
        Some((u32::from_ne_bytes([head[4], head[5], head[6], head[7]]), Range { address, prefix: head[1] }))
    };
    Ok(replies.iter().filter_map(parse).collect())
}

/// A route of any table; the default route has prefix 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) range: Range,
    pub(super) device: Option<u32>,
    pub(super) advertised: bool,
}

pub(super) fn routes(fd: BorrowedFd<'_>) -> Result<Vec<Route>, NetlinkError> {
    let replies = message::dump(fd, RTM_GETROUTE, &[0; RTMSG], |_| ())?;
    let parse = |reply: &Vec<u8>| {
        let head = family_header(reply).get(..RTMSG)?;
        let anywhere: IpAddr = match head[0] {
            AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let found: Reader<'_> = attributes(reply, RTMSG);
        let address = found.find(RTA_DST).and_then(address).unwrap_or(anywhere);
        Some(Route { range: Range { address, prefix: head[1] }, device: found.find_number(RTA_OIF), advertised: head[5] == RTPROT_RA })
    };
    Ok(replies.iter().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (address, prefix) = text.split_once('/').unwrap();
        Range { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let table = [
            ("172.17.0.0/20", "172.17.3.0/24", true),
            ("172.17.0.0/20", "172.17.16.0/20", false),
            ("10.0.0.0/8", "10.255.0.0/20", true),
            ("192.0.2.2/32", "172.17.0.0/20", false),
            ("0.0.0.0/0", "172.17.0.0/20", true),
            ("fd00::/8", "fd12:3::/64", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
            ("::/0", "172.17.0.0/20", false),
        ];
        for (a, b, expected) in table {
            assert_eq!(range(a).overlaps(range(b)), expected, "{a} {b}");
            assert_eq!(range(b).overlaps(range(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn bounds_are_the_first_address_and_the_one_behind_the_last() {
        for (of, first, behind) in [
            ("172.17.3.9/20", "172.17.0.0", Some("172.17.16.0")),
            ("255.255.0.0/16", "255.255.0.0", None),
            ("fd00:1::5/64", "fd00:1::", Some("fd00:1:0:1::")),
            ("10.0.0.1/32", "10.0.0.1", Some("10.0.0.2")),
        ] {
            assert_eq!(range(of).bounds(), (first.parse().unwrap(), behind.map(|text| text.parse().unwrap())), "{of}");
        }
    }
}
