//! Links, addresses and routes by rtnetlink.
//!
//! Invariant: every function acts in the network namespace of the socket it is given.

use super::message::{self, ACK, Batch, CREATE, EXCLUSIVE, REPLACE, Reader, attributes, family_header};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
/// Written by a program of the administrator at boot; what container tools use.
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// Sizes of the family headers.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

/// What we need to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mtu: u32,
    pub(super) master: Option<u32>,
    /// `veth`, `bridge`, …; empty for hardware.
    pub(super) kind: String,
}

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

impl Range {
    pub(super) fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    pub(super) fn overlaps(self, other: Range) -> bool {
        let mask = self.mask() & other.mask();
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }

    fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }
}

/// One host side of a veth pair to be made, its peer in another namespace.
pub(super) struct Pair<'a> {
    pub(super) host_name: &'a str,
    /// Index of the bridge; 0 for none.
    pub(super) master: u32,
    pub(super) mtu: u32,
    pub(super) peer_namespace: BorrowedFd<'a>,
    pub(super) peer_name: &'a str,
    pub(super) peer_mac: [u8; 6],
}

fn ifinfomsg(index: u32, flags: u32) -> [u8; IFINFOMSG] {
    let mut header = [0; IFINFOMSG];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let header = family_header(message).get(..IFINFOMSG)?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let found = attributes(message, IFINFOMSG);
    let kind = found.find_nested(IFLA_LINKINFO).and_then(|info| info.find_text(IFLA_INFO_KIND)).unwrap_or_default();
    Some(Link {
        index: word(4),
        name: found.find_text(IFLA_IFNAME)?.to_owned(),
        up: word(8) & IFF_UP != 0,
        mtu: found.find_number(IFLA_MTU).unwrap_or(0),
        master: found.find_number(IFLA_MASTER),
        kind: kind.to_owned(),
    })
}

/// The link of that name; None if there is none.
pub(super) fn find(fd: BorrowedFd<'_>, name: &str) -> Result<Option<Link>, NetlinkError> {
    match message::request(fd, RTM_GETLINK, &ifinfomsg(0, 0), |a| a.text(IFLA_IFNAME, name)) {
        Ok(replies) => Ok(replies.iter().find_map(|reply| parse_link(reply))),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn list(fd: BorrowedFd<'_>) -> Result<Vec<Link>, NetlinkError> {
    Ok(message::dump(fd, RTM_GETLINK, &ifinfomsg(0, 0), |_| ())?.iter().filter_map(|reply| parse_link(reply)).collect())
}

pub(super) fn set_up(fd: BorrowedFd<'_>, index: u32) -> Result<(), NetlinkError> {
    message::request(fd, RTM_NEWLINK, &ifinfomsg(index, IFF_UP), |_| ()).map(drop)
}

/// Puts a link into a bridge.
pub(super) fn set_master(fd: BorrowedFd<'_>, link: &Link, master: u32) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(link.index, 0), |a| a.number(IFLA_MASTER, master));
    hairpin_message(&mut batch, &link.name);
    batch.run(fd).map(drop)
}

/// Lets a bridge port send frames back where they came from. Where bridged packets pass iptables
/// (`net.bridge.bridge-nf-call-iptables`), a container that calls its own published port is redirected
/// within the bridge and would else never hear itself.
fn hairpin_message(batch: &mut Batch, name: &str) {
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.nest(IFLA_LINKINFO, |a| {
            a.text(IFLA_INFO_SLAVE_KIND, "bridge");
            a.nest(IFLA_INFO_SLAVE_DATA, |a| a.put(IFLA_BRPORT_MODE, &[1]));
        });
    });
}

/// Removes a link; a missing one is fine. Returns whether it was there.
pub(super) fn remove(fd: BorrowedFd<'_>, name: &str) -> Result<bool, NetlinkError> {
    match message::request(fd, RTM_DELLINK, &ifinfomsg(0, 0), |a| a.text(IFLA_IFNAME, name)) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a bridge, down, so that its settings precede its first packet.
pub(super) fn create_bridge(fd: BorrowedFd<'_>, name: &str, mac: [u8; 6], mtu: u32) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.put(IFLA_ADDRESS, &mac);
        a.number(IFLA_MTU, mtu);
        a.nest(IFLA_LINKINFO, |a| a.text(IFLA_INFO_KIND, "bridge"));
    });
    batch.run(fd).map(drop)
}

/// Makes a veth pair in one datagram: the host side up and in the bridge, the peer in its namespace.
pub(super) fn create_pair(fd: BorrowedFd<'_>, pair: &Pair<'_>) -> Result<(), NetlinkError> {
    let namespace = u32::try_from(pair.peer_namespace.as_raw_fd()).expect("invariant: open descriptors are not negative");
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfomsg(0, IFF_UP), |a| {
        a.text(IFLA_IFNAME, pair.host_name);
        a.number(IFLA_MTU, pair.mtu);
        a.number(IFLA_MASTER, pair.master);
        a.nest(IFLA_LINKINFO, |a| {
            a.text(IFLA_INFO_KIND, "veth");
            a.nest(IFLA_INFO_DATA, |a| {
                a.nest(VETH_INFO_PEER, |a| {
                    a.raw(&ifinfomsg(0, 0));
                    a.text(IFLA_IFNAME, pair.peer_name);
                    a.put(IFLA_ADDRESS, &pair.peer_mac);
                    a.number(IFLA_MTU, pair.mtu);
                    a.number(IFLA_NET_NS_FD, namespace);
                });
            });
        });
    });
    if pair.master != 0 {
        hairpin_message(&mut batch, pair.host_name);
    }
    batch.run(fd).map(drop)
}

fn address_message(batch: &mut Batch, kind: u16, flags: u16, index: u32, range: Range) {
    let mut header = [0; IFADDRMSG];
    header[0] = AF_INET;
    header[1] = range.prefix;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch.message(kind, flags | ACK, &header, |a| {
        a.put(IFA_LOCAL, &range.address.octets());
        a.put(IFA_ADDRESS, &range.address.octets());
        if kind == RTM_NEWADDR {
            a.put(IFA_BROADCAST, &range.broadcast().octets());
        }
    });
}

/// Gives a link its address (nothing happens if it has it) and brings it up.
pub(super) fn set_address(fd: BorrowedFd<'_>, index: u32, range: Range) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    address_message(&mut batch, RTM_NEWADDR, CREATE | REPLACE, index, range);
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(index, IFF_UP), |_| ());
    batch.run(fd).map(drop)
}

pub(super) fn remove_address(fd: BorrowedFd<'_>, index: u32, range: Range) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    address_message(&mut batch, RTM_DELADDR, 0, index, range);
    batch.run(fd).map(drop)
}

/// Address, up and default route of a container's interface, in one datagram.
pub(super) fn configure_endpoint(fd: BorrowedFd<'_>, index: u32, range: Range, gateway: Ipv4Addr) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    address_message(&mut batch, RTM_NEWADDR, CREATE | REPLACE, index, range);
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(index, IFF_UP), |_| ());
    let header: [u8; RTMSG] = [AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0];
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |a| {
        a.put(RTA_GATEWAY, &gateway.octets());
        a.number(RTA_OIF, index);
    });
    batch.run(fd).map(drop)
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// IPv4 addresses: (interface index, address with prefix).
pub(super) fn addresses(fd: BorrowedFd<'_>) -> Result<Vec<(u32, Range)>, NetlinkError> {
    let mut header = [0; IFADDRMSG];
    header[0] = AF_INET;
    let replies = message::dump(fd, RTM_GETADDR, &header, |_| ())?;
    let parse = |reply: &Vec<u8>| {
        let head = family_header(reply).get(..IFADDRMSG)?;
        let found = attributes(reply, IFADDRMSG);
        let address = found.find(IFA_LOCAL).or_else(|| found.find(IFA_ADDRESS)).and_then(ipv4)?;
        Some((u32::from_ne_bytes([head[4], head[5], head[6], head[7]]), Range { address, prefix: head[1] }))
    };
    Ok(replies.iter().filter_map(parse).collect())
}

/// IPv4 routes of all tables: ranges (the default route has prefix 0) and their interfaces.
pub(super) fn routes(fd: BorrowedFd<'_>) -> Result<Vec<(Range, Option<u32>)>, NetlinkError> {
    let mut header = [0; RTMSG];
    header[0] = AF_INET;
    let replies = message::dump(fd, RTM_GETROUTE, &header, |_| ())?;
    let parse = |reply: &Vec<u8>| {
        let head = family_header(reply).get(..RTMSG)?;
        let found: Reader<'_> = attributes(reply, RTMSG);
        let address = found.find(RTA_DST).and_then(ipv4).unwrap_or(Ipv4Addr::UNSPECIFIED);
        Some((Range { address, prefix: head[1] }, found.find_number(RTA_OIF)))
    };
    Ok(replies.iter().filter_map(parse).collect())
}

/// Index of the loopback link, which is the first of every namespace.
pub(super) const LOOPBACK: u32 = 1;

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let range = |text: &str, prefix| Range { address: text.parse().expect("invariant: literal"), prefix };
        let table = [
            (range("172.17.0.0", 20), range("172.17.3.0", 24), true),
            (range("172.17.0.0", 20), range("172.17.16.0", 20), false),
            (range("10.0.0.0", 8), range("10.255.0.0", 20), true),
            (range("192.0.2.2", 32), range("172.17.0.0", 20), false),
            (range("0.0.0.0", 0), range("172.17.0.0", 20), true),
        ];
        for (a, b, expected) in table {
            assert_eq!(a.overlaps(b), expected, "{a:?} {b:?}");
            assert_eq!(b.overlaps(a), expected, "{b:?} {a:?}");
        }
    }
}
