//! Links by rtnetlink: bridges, veth pairs, macvlan and ipvlan interfaces.
//!
//! Invariants: every function acts in the network namespace of the socket it is given. Our links carry an alias that says
//! whose they are; the kernel takes one only for a link that exists, so it travels in a second message.

use super::message::{self, ACK, Attributes, Batch, CREATE, EXCLUSIVE, attributes, family_header};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(super) const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_MACVLAN_MODE`, `IFLA_IPVLAN_MODE` and `IFLA_VLAN_ID`.
const MODE: u16 = 1;

/// Size of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;

/// Index of the loopback link, which is the first of every namespace.
pub(super) const LOOPBACK: u32 = 1;

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
    pub(super) alias: String,
}

/// How a link is in a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    /// Index of the bridge.
    pub(super) bridge: u32,
    /// It does not reach other isolated ports.
    pub(super) isolated: bool,
}

/// One host side of a veth pair to be made, its peer in another namespace.
pub(super) struct Pair<'a> {
    pub(super) host_name: &'a str,
    pub(super) alias: &'a str,
    /// None: in no bridge.
    pub(super) port: Option<Port>,
    pub(super) mtu: u32,
    pub(super) peer_namespace: BorrowedFd<'a>,
    pub(super) peer_name: &'a str,
    pub(super) peer_mac: [u8; 6],
}

/// A link that is made on top of another one.
pub(super) enum Upper {
    /// Its mode is one bit (`linux/if_link.h`).
    Macvlan {
        mode: u32,
    },
    Ipvlan {
        mode: u16,
    },
    Vlan {
        id: u16,
    },
}

impl Upper {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Upper::Macvlan { .. } => "macvlan",
            Upper::Ipvlan { .. } => "ipvlan",
            Upper::Vlan { .. } => "vlan",
        }
    }

    fn write(&self, a: &mut Attributes<'_>) {
        match self {
            Upper::Macvlan { mode } => a.number(MODE, *mode),
            Upper::Ipvlan { mode: number } | Upper::Vlan { id: number } => a.put(MODE, &number.to_ne_bytes()),
        }
    }
}

pub(super) fn ifinfomsg(index: u32, flags: u32) -> [u8; IFINFOMSG] {
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
        alias: found.find_text(IFLA_IFALIAS).unwrap_or_default().to_owned(),
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

pub(super) fn set_alias(fd: BorrowedFd<'_>, index: u32, alias: &str) -> Result<(), NetlinkError> {
    message::request(fd, RTM_NEWLINK, &ifinfomsg(index, 0), |a| a.text(IFLA_IFALIAS, alias)).map(drop)
}

/// Puts a link into a bridge.
pub(super) fn set_master(fd: BorrowedFd<'_>, link: &Link, port: Port) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(link.index, 0), |a| a.number(IFLA_MASTER, port.bridge));
    port_message(&mut batch, &link.name, &link.alias, port);
    batch.run(fd).map(drop)
}

/// Names a bridge port's owner, and lets it send frames back where they came from. Where bridged packets pass iptables
/// (`net.bridge.bridge-nf-call-iptables`), a container that calls its own published port is redirected
/// within the bridge and would else never hear itself.
fn port_message(batch: &mut Batch, name: &str, alias: &str, port: Port) {
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.text(IFLA_IFALIAS, alias);
        a.nest(IFLA_LINKINFO, |a| {
            a.text(IFLA_INFO_SLAVE_KIND, "bridge");
            a.nest(IFLA_INFO_SLAVE_DATA, |a| {
                a.put(IFLA_BRPORT_MODE, &[1]);
                if port.isolated {
                    a.put(IFLA_BRPORT_ISOLATED, &[1]);
                }
            });
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

/// Makes a bridge or a dummy, down, so that its settings precede its first packet.
pub(super) fn create(fd: BorrowedFd<'_>, kind: &str, name: &str, alias: &str, shape: Option<([u8; 6], u32)>) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        if let Some((mac, mtu)) = shape {
            a.put(IFLA_ADDRESS, &mac);
            a.number(IFLA_MTU, mtu);
        }
        a.nest(IFLA_LINKINFO, |a| a.text(IFLA_INFO_KIND, kind));
    });
    batch.run(fd)?;
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.text(IFLA_IFALIAS, alias);
    });
    batch.run(fd).map(drop)
}

/// Makes a veth pair in one datagram: the host side up and in the bridge, the peer in its namespace.
pub(super) fn create_pair(fd: BorrowedFd<'_>, pair: &Pair<'_>) -> Result<(), NetlinkError> {
    let namespace = number(pair.peer_namespace);
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfomsg(0, IFF_UP), |a| {
        a.text(IFLA_IFNAME, pair.host_name);
        a.number(IFLA_MTU, pair.mtu);
        a.number(IFLA_MASTER, pair.port.map_or(0, |port| port.bridge));
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
    if let Some(port) = pair.port {
        port_message(&mut batch, pair.host_name, pair.alias, port);
    }
    batch.run(fd).map(drop)
}

/// Makes a link on top of `parent`, down; with `namespace`, there.
pub(super) fn create_upper(
    fd: BorrowedFd<'_>,
    upper: &Upper,
    parent: u32,
    name: &str,
    namespace: Option<BorrowedFd<'_>>,
    mac: Option<[u8; 6]>,
    mtu: Option<u32>,
) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfomsg(0, 0), |a| {
        a.text(IFLA_IFNAME, name);
        a.number(IFLA_LINK, parent);
        if let Some(mac) = mac {
            a.put(IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = mtu {
            a.number(IFLA_MTU, mtu);
        }
        if let Some(namespace) = namespace {
            a.number(IFLA_NET_NS_FD, number(namespace));
        }
        a.nest(IFLA_LINKINFO, |a| {
            a.text(IFLA_INFO_KIND, upper.kind());
            a.nest(IFLA_INFO_DATA, |a| upper.write(a));
        });
    });
    batch.run(fd).map(drop)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("invariant: open descriptors are not negative")
}
