//! Address ranges for new networks.
//!
//! Invariant: a range chosen here overlaps no route, address or name server of the host and no network given.

use super::error::{Context, Error};
use super::link;
use super::namespace::route_socket;
use super::route::{self, Range};
use crate::state::record::{Driver, Network, Pool};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

/// Device of the default network.
pub(super) const BRIDGE: &str = "rcon0";
const PREFIX: u8 = 20;
const ULA_PREFIX: u8 = 64;

/// The record of the default bridge with a range that neither the host nor one of the networks has. A bridge of ours that already
/// stands keeps its range.
///
/// # Errors
/// The tables cannot be read, or no range is free.
pub fn choose_default(name: &str, networks: &[Network]) -> Result<Network, Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let standing = link::find(fd, BRIDGE).on("look up", BRIDGE)?;
    let kept = match standing {
        Some(bridge) => {
            let addresses = route::addresses(fd).on("list", "addresses")?;
            let own = addresses.into_iter().find(|(index, range)| *index == bridge.index && range.address.is_ipv4() && range.prefix == PREFIX);
            own.map(|(_, range)| range.bounds().0)
        }
        None => None,
    };
    let pool = match kept {
        Some(IpAddr::V4(subnet)) => pool_at(subnet),
        _ => choose_subnet(networks)?,
    };
    Ok(Network { device: BRIDGE.to_owned(), pools: vec![pool], ..Network::new(name, Driver::Bridge, BTreeMap::new()) })
}

/// A private /20 whose first address is the gateway.
///
/// # Errors
/// The tables cannot be read, or no range is free.
pub fn choose_subnet(networks: &[Network]) -> Result<Pool, Error> {
    let mut taken: Vec<Range> = of_host()?.into_iter().map(|(range, _)| range).collect();
    taken.extend(networks.iter().flat_map(|network| &network.pools).map(Range::from));
    taken.extend(name_servers().into_iter().map(|address| Range { address, prefix: if address.is_ipv4() { 32 } else { 128 } }));
    first_free(&taken).map(pool_at).ok_or(Error::NoFreeSubnet)
}

fn pool_at(subnet: Ipv4Addr) -> Pool {
    let gateway = Some(Ipv4Addr::from_bits(subnet.to_bits() + 1).into());
    Pool { subnet: subnet.into(), prefix: PREFIX, gateway, range: None, auxiliary: BTreeMap::new() }
}

/// A unique local /64 whose first address is the gateway: global and subnet id at random (RFC 4193, 3.2).
pub fn choose_ula() -> Pool {
    let mut bytes = [0u8; 16];
    let mut filled = 1;
    while filled < 8 {
        filled += getrandom(&mut bytes[filled..8], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes[0] = 0xfd;
    let subnet = Ipv6Addr::from(bytes);
    let gateway = Some(Ipv6Addr::from_bits(subnet.to_bits() | 1).into());
    Pool { subnet: subnet.into(), prefix: ULA_PREFIX, gateway, range: None, auxiliary: BTreeMap::new() }
}

/// What a range that a user asks for is in the way of: one of the networks, or a route or address of the host, but for the
/// devices of the networks themselves and `own` (the parent of macvlan and ipvlan, whose range it shares).
///
/// # Errors
/// The host's tables cannot be read.
pub fn obstacle(wanted: &Pool, networks: &[Network], own: &str) -> Result<Option<String>, Error> {
    let range = Range::from(wanted);
    let of_network = networks.iter().find_map(|network| {
        let pool = network.pools.iter().find(|pool| pool.overlaps(wanted))?;
        Some(format!("{} of network {}", Range::from(pool), network.name))
    });
    if of_network.is_some() {
        return Ok(of_network);
    }
    let ours = |device: &str| device == own || networks.iter().any(|network| network.device == device);
    let found = of_host()?.into_iter().find(|(taken, device)| taken.overlaps(range) && !ours(device));
    Ok(found.map(|(taken, device)| format!("{taken} of the host's device {device}")))
}

/// Routes (but the default ones) and addresses, with the names of their devices.
fn of_host() -> Result<Vec<(Range, String)>, Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let links = link::list(fd).on("list", "links")?;
    let name = |index: Option<u32>| links.iter().find(|link| Some(link.index) == index).map(|link| link.name.clone()).unwrap_or_default();
    let routes = route::routes(fd).on("list", "routes")?;
    let mut found: Vec<(Range, String)> = routes.into_iter().filter(|r| r.range.prefix > 0).map(|r| (r.range, name(r.device))).collect();
    let addresses = route::addresses(fd).on("list", "addresses")?;
    found.extend(addresses.into_iter().map(|(index, range)| (range, name(Some(index)))));
    Ok(found)
}

/// Docker gives its networks 172.17.0.0/16 and on, podman 10.88.0.0/16 and on, both of what no device has at that moment; a network
/// of ours has no device until somebody is on it. So that nobody's choice meets it, ours begin at the other end. Last is
/// 172.31.0.0/16, where Amazon's private clouds are by default.
fn first_free(taken: &[Range]) -> Option<Ipv4Addr> {
    let blocks = [([172, 17, 0, 0], 14 * 16), ([10, 0, 0, 0], 4096), ([192, 168, 0, 0], 16), ([172, 31, 0, 0], 16)];
    blocks
        .into_iter()
        .flat_map(|(start, count)| (0..count).rev().map(move |i: u32| Ipv4Addr::from(u32::from_be_bytes(start) + (i << (32 - u32::from(PREFIX))))))
        .find(|&address| !taken.iter().any(|range| range.overlaps(Range::new(address, PREFIX))))
}

/// Whether the bridge of a network stands: a look at a file, for the path of `run`.
pub fn stands(network: &Network) -> bool {
    super::namespace::knows(&network.device)
}

/// A bridge of somebody else that got the range of a network which has no device yet, or none any more since the host started.
///
/// # Errors
/// The host's tables cannot be read.
pub fn rival(network: &Network) -> Result<Option<String>, Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let links = link::list(fd).on("list", "links")?;
    let bridges: Vec<&link::Link> = links.iter().filter(|link| link.kind == "bridge" && link.name != network.device).collect();
    let addresses = route::addresses(fd).on("list", "addresses")?;
    let found = addresses.into_iter().find_map(|(index, range)| {
        let bridge = bridges.iter().find(|bridge| bridge.index == index)?;
        network.pools.iter().any(|pool| Range::from(pool).overlaps(range)).then(|| format!("{range} of bridge {}", bridge.name))
    });
    Ok(found)
}

/// Name servers of the host; a file that cannot be read names none.
fn name_servers() -> Vec<IpAddr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_range_avoids_everything_taken() {
        let range = |text: &str, prefix| Range::new(text.parse::<IpAddr>().unwrap(), prefix);
        let table: [(&[Range], Ipv4Addr); 5] = [
            (&[], Ipv4Addr::new(172, 30, 240, 0)),
            (&[range("172.30.0.0", 16)], Ipv4Addr::new(172, 29, 240, 0)),
            (&[range("172.16.0.0", 12), range("fd00::", 8)], Ipv4Addr::new(10, 255, 240, 0)),
            (&[range("172.16.0.0", 12), range("10.0.0.0", 8), range("192.168.250.1", 32)], Ipv4Addr::new(192, 168, 224, 0)),
            (
                &[
                    range("172.16.0.0", 13),
                    range("172.24.0.0", 14),
                    range("172.28.0.0", 15),
                    range("172.30.0.0", 16),
                    range("10.0.0.0", 8),
                    range("192.168.0.0", 16),
                ],
                Ipv4Addr::new(172, 31, 240, 0),
            ),
        ];
        for (taken, expected) in table {
            assert_eq!(first_free(taken), Some(expected), "{taken:?}");
        }
        assert_eq!(first_free(&[range("172.16.0.0", 12), range("10.0.0.0", 8), range("192.168.0.0", 16)]), None);
    }

    #[test]
    fn unique_local_ranges_differ() {
        let (a, b) = (choose_ula(), choose_ula());
        assert!(!a.overlaps(&b));
        let IpAddr::V6(subnet) = a.subnet else { panic!("{a:?}") };
        assert_eq!((subnet.octets()[0], &subnet.octets()[8..], a.prefix), (0xfd, &[0u8; 8][..], 64));
        assert!(a.contains(a.gateway.unwrap()));
    }
}
