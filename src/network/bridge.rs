//! The default bridge: choosing its range, making and repairing it, joining containers to it.
//!
//! Invariant: host-side work happens in the network namespace of the calling thread, with objects of our
//! names only (`rcon0`, `rc` + 12 hex digits, table `ip rcon`).

use super::error::{Context, Error};
use super::firewall::{self, Element, Standing};
use super::link::{self, Link, Pair, Range};
use super::{Endpoint, Netns, mac_for};
use crate::base::fs;
use crate::base::{Timestamp, random_hex};
use crate::state::record::{Network, PublishedPort};
use crate::sys::netlink::{self, Family, NetlinkError};
use crate::sys::netns;
use rustix::io::Errno;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const BRIDGE: &str = "rcon0";
const ENDPOINT: &str = "eth0";
const PREFIX: u8 = 20;
/// MTU if the host has no default route.
const DEFAULT_MTU: u32 = 1500;
/// How often a lost race for the firewall table is looked at again.
const RACES: usize = 8;

pub(super) fn route_socket() -> Result<OwnedFd, Error> {
    netlink::open(Family::Route).on("open", "routing netlink")
}

pub(super) fn netfilter_socket() -> Result<OwnedFd, Error> {
    netlink::open(Family::Netfilter).on("open", "netfilter netlink")
}

/// Name of the host side of a container's veth pair.
pub fn host_link(container: &crate::base::ContainerId) -> String {
    format!("rc{}", container.short())
}

/// Creates a network namespace on a throw-away thread and brings `lo` up; low ports and ping need no
/// privilege inside, and interfaces that come later have no IPv6 (a container bridge without IPv6
/// addresses must not learn any from router advertisements).
///
/// # Errors
/// The kernel refuses the namespace, the loopback device or a parameter.
pub fn create_netns() -> Result<Netns, Error> {
    netns::in_new(|| {
        let fd = rustix::fs::open("/proc/thread-self/ns/net", rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .map_err(|e| Error::Namespace { operation: "open the new", source: e.into() })?;
        let socket = prepare()?;
        set("net/ipv4/ip_unprivileged_port_start", "0")?;
        set("net/ipv4/ping_group_range", "0 2147483647")?;
        Ok(Netns { fd, socket })
    })
    .map_err(|source| Error::Namespace { operation: "create a", source })?
}

/// The network namespace that a process was cloned with, prepared like one of [`create_netns`] but for the two
/// parameters that a container's configuration may set: they come with it. The process must be the caller's child,
/// not yet reaped: only then is the number its own.
///
/// # Errors
/// It cannot be entered, or the kernel refuses the loopback device or a parameter.
pub fn open_netns(pid: i32) -> Result<Netns, Error> {
    let fd = netns_of(pid)?;
    let socket = netns::inside(fd.as_fd(), prepare).map_err(|source| Error::Namespace { operation: "enter a", source })??;
    Ok(Netns { fd, socket })
}

/// In a fresh namespace: loopback up, no IPv6 for what comes later. Returns a routing socket of it.
fn prepare() -> Result<OwnedFd, Error> {
    let socket = route_socket()?;
    link::set_up(socket.as_fd(), link::LOOPBACK).on("bring up", "lo")?;
    set_ipv6("default/disable_ipv6", "1")?;
    Ok(socket)
}

/// Writes a kernel parameter of the calling thread's network namespace (`/proc/sys/net` follows the opener).
fn set(parameter: &str, value: &str) -> Result<(), Error> {
    fs::write(&Path::new("/proc/sys").join(parameter), value.as_bytes()).map_err(Error::Parameter)
}

/// The same for IPv6, which a kernel may lack as a whole.
fn set_ipv6(parameter: &str, value: &str) -> Result<(), Error> {
    match set(&format!("net/ipv6/conf/{parameter}"), value) {
        Err(Error::Parameter(error)) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A private /20 that no route, address or name server of the host overlaps, as the record of the default
/// bridge. A bridge of ours that already stands keeps its range.
///
/// # Errors
/// The tables cannot be read, or no range is free.
pub fn choose_default(name: &str) -> Result<Network, Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let addresses = link::addresses(fd).on("list", "addresses")?;
    let standing = link::find(fd, BRIDGE).on("look up", BRIDGE)?;
    let kept = standing.and_then(|bridge| addresses.iter().find(|(index, range)| *index == bridge.index && range.prefix == PREFIX));
    let subnet = match kept {
        Some((_, range)) => Ipv4Addr::from(u32::from(range.address) & range.mask()),
        None => {
            let routes = link::routes(fd).on("list", "routes")?;
            let mut taken: Vec<Range> = routes.into_iter().map(|(range, _)| range).filter(|range| range.prefix > 0).collect();
            taken.extend(addresses.into_iter().map(|(_, range)| range));
            taken.extend(name_servers().into_iter().map(|address| Range { address, prefix: 32 }));
            first_free(&taken).ok_or(Error::NoFreeSubnet)?
        }
    };
    Ok(Network {
        name: name.to_owned(),
        id: random_hex(64),
        created: Timestamp::now(),
        bridge: BRIDGE.to_owned(),
        subnet,
        prefix: PREFIX,
        gateway: Ipv4Addr::from(u32::from(subnet) + 1),
    })
}

fn first_free(taken: &[Range]) -> Option<Ipv4Addr> {
    let blocks = [(Ipv4Addr::new(172, 17, 0, 0), 15 * 16), (Ipv4Addr::new(10, 0, 0, 0), 4096), (Ipv4Addr::new(192, 168, 0, 0), 16)];
    blocks
        .into_iter()
        .flat_map(|(start, count)| (0..count).map(move |i: u32| Ipv4Addr::from(u32::from(start) + (i << (32 - u32::from(PREFIX))))))
        .find(|&address| !taken.iter().any(|range| range.overlaps(Range { address, prefix: PREFIX })))
}

/// IPv4 name servers of the host; a file that cannot be read names none.
fn name_servers() -> Vec<Ipv4Addr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect::<Vec<_>>()).collect()
}

/// Makes sure that bridge, address, forwarding, NAT table and maps stand; three questions when they do.
/// `published` re-creates the port elements if the table had to be made anew; it is called only then.
///
/// # Errors
/// What could not be made. Nothing is left half-open: the table stands before the bridge is brought up.
pub fn ensure(network: &Network, published: &mut dyn FnMut() -> Vec<(Ipv4Addr, PublishedPort)>) -> Result<(), Error> {
    let remade = ensure_table(network, published)?;
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let bridge = link::find(fd, &network.bridge).on("look up", &network.bridge)?;
    match bridge {
        Some(bridge) if bridge.up && !remade => Ok(()),
        bridge => ensure_bridge(fd, network, bridge),
    }
}

/// Returns whether the table was made anew.
fn ensure_table(network: &Network, published: &mut dyn FnMut() -> Vec<(Ipv4Addr, PublishedPort)>) -> Result<bool, Error> {
    let socket = netfilter_socket()?;
    let fd = socket.as_fd();
    for _ in 0..RACES {
        let stale = match firewall::standing(fd, network).on("read", "nftables table rcon")? {
            Standing::Current => return Ok(false),
            Standing::Missing => None,
            Standing::Stale { handle } => Some(handle),
        };
        match firewall::make(fd, network, stale) {
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::NOENT)) => tracing::debug!("firewall table changed meanwhile: {error}"),
            Err(source) => return Err(Error::Netlink { operation: "create", object: "nftables table rcon".to_owned(), source }),
            Ok(()) => {
                let elements: Vec<Element> = published().iter().filter_map(|(address, port)| Element::new(*address, port)).collect();
                firewall::add(fd, &elements).on("restore", "published ports")?;
                return Ok(true);
            }
        }
    }
    Err(Error::Unstable)
}

fn ensure_bridge(fd: BorrowedFd<'_>, network: &Network, standing: Option<Link>) -> Result<(), Error> {
    let name = network.bridge.as_str();
    let made = standing.is_none();
    let bridge = match standing {
        Some(bridge) => bridge,
        None => {
            let mtu = default_mtu(fd)?;
            match link::create_bridge(fd, name, mac_for(network.gateway), mtu) {
                Err(error) if error.errno() == Some(Errno::EXIST) => {}
                other => other.on("create bridge", name)?,
            }
            link::find(fd, name).on("look up", name)?.ok_or_else(|| Error::MissingLink(name.to_owned()))?
        }
    };
    if bridge.kind != "bridge" {
        return Err(Error::NotABridge(name.to_owned()));
    }
    set_ipv6(&format!("{name}/accept_ra"), "0")?;
    set_ipv6(&format!("{name}/disable_ipv6"), "1")?;
    // The guard chain of our table stands already: see its first rules.
    set(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    ensure_forwarding()?;
    let wanted = Range { address: network.gateway, prefix: network.prefix };
    for (index, range) in link::addresses(fd).on("list", "addresses")? {
        if index == bridge.index && range != wanted {
            link::remove_address(fd, index, range).on("remove an old address of", name)?;
        }
    }
    link::set_address(fd, bridge.index, wanted).on("configure bridge", name)?;
    if made {
        rejoin(fd, bridge.index)?;
    }
    Ok(())
}

/// Turns IPv4 forwarding on; written only if it is off, because a write resets per-interface parameters.
fn ensure_forwarding() -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let current = fs::read(path).map_err(Error::Parameter)?;
    if current.first() == Some(&b'1') { Ok(()) } else { fs::write(path, b"1").map_err(Error::Parameter) }
}

/// Puts the endpoints of running containers back into a bridge that someone had deleted.
fn rejoin(fd: BorrowedFd<'_>, bridge: u32) -> Result<(), Error> {
    for link in link::list(fd).on("list", "links")? {
        if is_endpoint(&link) && link.master.is_none() {
            link::set_master(fd, &link, bridge).on("rejoin", &link.name)?;
        }
    }
    Ok(())
}

fn is_endpoint(link: &Link) -> bool {
    let digits = link.name.strip_prefix("rc").unwrap_or_default();
    link.kind == "veth" && digits.len() == 12 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// MTU of the device of the default route, so that containers never send what the host must fragment.
fn default_mtu(fd: BorrowedFd<'_>) -> Result<u32, Error> {
    let routes = link::routes(fd).on("list", "routes")?;
    let device = routes.into_iter().find_map(|(range, device)| if range.prefix == 0 { device } else { None });
    let links = link::list(fd).on("list", "links")?;
    Ok(device.and_then(|index| links.into_iter().find(|link| link.index == index)).map_or(DEFAULT_MTU, |link| link.mtu))
}

/// Joins a namespace to the bridge: veth pair, address, default route. A left-over link of the same name
/// is removed first; on failure the pair is taken back.
///
/// # Errors
/// The bridge is missing, or the kernel refuses a part.
pub fn attach(network: &Network, netns: &Netns, endpoint: &Endpoint) -> Result<(), Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let name = host_link(&endpoint.container);
    let bridge = link::find(fd, &network.bridge).on("look up", &network.bridge)?.ok_or_else(|| Error::MissingLink(network.bridge.clone()))?;
    let pair = Pair {
        host_name: &name,
        master: bridge.index,
        mtu: bridge.mtu,
        peer_namespace: netns.fd.as_fd(),
        peer_name: ENDPOINT,
        peer_mac: endpoint.mac.unwrap_or_else(|| mac_for(endpoint.address)),
    };
    match link::create_pair(fd, &pair) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            link::remove(fd, &name).on("remove left-over", &name)?;
            link::create_pair(fd, &pair).on("create", &name)?;
        }
        other => other.on("create", &name)?,
    }
    configure(network, netns, endpoint).inspect_err(|_| {
        if let Err(left) = link::remove(fd, &name) {
            tracing::warn!("cannot take back link {name}: {left}");
        }
    })
}

fn configure(network: &Network, netns: &Netns, endpoint: &Endpoint) -> Result<(), Error> {
    let inside = netns.socket.as_fd();
    let peer = link::find(inside, ENDPOINT).on("look up", ENDPOINT)?.ok_or_else(|| Error::MissingLink(ENDPOINT.to_owned()))?;
    let range = Range { address: endpoint.address, prefix: network.prefix };
    link::configure_endpoint(inside, peer.index, range, network.gateway).on("configure", ENDPOINT)
}

/// The network namespace of a process.
///
/// # Errors
/// There is no such process, or it may not be looked at.
pub fn netns_of(pid: i32) -> Result<OwnedFd, Error> {
    rustix::fs::open(format!("/proc/{pid}/ns/net"), rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| Error::NoProcess { pid, source: e.into() })
}

/// Received and sent bytes of `eth0` inside a process's network namespace: (rx, tx).
pub fn traffic(pid: i32) -> Option<(u64, u64)> {
    parse_traffic(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

fn parse_traffic(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"))?;
    let numbers: Vec<&str> = line.split_ascii_whitespace().collect();
    Some((numbers.first()?.parse().ok()?, numbers.get(8)?.parse().ok()?))
}

/// Whether the failure of a message means that the object is not there.
pub(super) fn is_missing(error: &NetlinkError) -> bool {
    error.errno() == Some(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_range_avoids_everything_taken() {
        let range = |text: &str, prefix| Range { address: text.parse().expect("invariant: literal"), prefix };
        let table: [(&[Range], Ipv4Addr); 4] = [
            (&[], Ipv4Addr::new(172, 17, 0, 0)),
            (&[range("172.17.0.0", 16)], Ipv4Addr::new(172, 18, 0, 0)),
            (&[range("172.16.0.0", 12)], Ipv4Addr::new(10, 0, 0, 0)),
            (&[range("172.16.0.0", 12), range("10.0.0.0", 8), range("192.168.1.1", 32)], Ipv4Addr::new(192, 168, 16, 0)),
        ];
        for (taken, expected) in table {
            assert_eq!(first_free(taken), Some(expected), "{taken:?}");
        }
        assert_eq!(first_free(&[range("172.16.0.0", 12), range("10.0.0.0", 8), range("192.168.0.0", 16)]), None);
    }

    #[test]
    fn traffic_reads_received_and_sent() {
        let text =
            "Inter-|   Receive  |  Transmit\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 1234 5 0 0 0 0 0 0 5678 9 0 0 0 0 0 0\n";
        assert_eq!(parse_traffic(text), Some((1234, 5678)));
        assert_eq!(parse_traffic("lo: 1"), None);
    }
}
