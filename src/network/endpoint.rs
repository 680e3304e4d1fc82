//! Joining namespaces to networks, before a container starts and while it runs, and taking them off.
//!
//! Invariant: the host side of a veth pair is found by its name alone, which follows from container and network; its alias
//! says the same in words.

use super::direct;
use super::error::{Context, Error};
use super::link::{self, Link, Pair, Port};
use super::namespace::{self, route_socket};
use super::route::{self, Range};
use super::{EndpointPlan, Netns, mac_for, upper};
use crate::base::ContainerId;
use crate::state::record::{Driver, Network};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::os::fd::AsFd;

/// Hexadecimal digits behind `rc` in the name of a host side.
const DIGITS: usize = 12;

/// Name of the host side of a container's veth pair: of its id on the default network, of both ids on others.
pub fn host_link(container: &ContainerId, network: &Network) -> String {
    if network.is_default() {
        return default_link(container);
    }
    let digest = Sha256::new().chain_update(container.as_str()).chain_update(&network.id).finalize();
    let digits: String = digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    format!("rc{digits}")
}

fn default_link(container: &ContainerId) -> String {
    format!("rc{}", container.short())
}

/// A locally administered address that follows from an id, for what has no IP address.
pub(super) fn mac_from(id: &str) -> [u8; 6] {
    let digest = Sha256::digest(id);
    [0x02, 0x42, digest[0], digest[1], digest[2], digest[3]]
}

/// Whose a host side is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// Made by a version that knew one network only.
    Unnamed,
    Named {
        container: String,
        network: String,
    },
}

impl Owner {
    /// None: not a host side of ours.
    pub(super) fn of(link: &Link) -> Option<Owner> {
        let digits = link.name.strip_prefix("rc").unwrap_or_default();
        if link.kind != "veth" || digits.len() != DIGITS || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let Some(rest) = link.alias.strip_prefix("rcon ") else { return Some(Owner::Unnamed) };
        let (container, network) = rest.split_once(" on ")?;
        Some(Owner::Named { container: container.to_owned(), network: network.to_owned() })
    }

    pub(super) fn is_on(&self, network: &Network) -> bool {
        match self {
            Owner::Unnamed => network.is_default(),
            Owner::Named { network: id, .. } => *id == network.id,
        }
    }
}

fn alias(container: &ContainerId, network: &Network) -> String {
    format!("rcon {container} on {}", network.id)
}

pub(super) fn port_of(network: &Network, bridge: u32) -> Port {
    Port { bridge, isolated: !network.inter_container() }
}

/// Joins a namespace to a network: interface, addresses, and the default routes if the plan has them. A left-over link of the
/// same name is removed first; on failure the interface is taken back.
///
/// # Errors
/// The bridge or parent is missing, or the kernel refuses a part.
pub fn attach(network: &Network, netns: &Netns, plan: &EndpointPlan) -> Result<(), Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    match network.driver {
        Driver::Bridge => {}
        Driver::Macvlan | Driver::Ipvlan => {
            upper::create(fd, network, netns, plan)?;
            return configure(network, netns, plan).inspect_err(|_| take_back(netns.socket.as_fd(), &plan.interface));
        }
        Driver::Cni => return Err(Error::NotOurs(network.name.clone())),
    }
    let name = host_link(&plan.container, network);
    let bridge = link::find(fd, &network.device).on("look up", &network.device)?.ok_or_else(|| Error::MissingLink(network.device.clone()))?;
    let pair = Pair {
        host_name: &name,
        alias: &alias(&plan.container, network),
        port: Some(port_of(network, bridge.index)),
        mtu: bridge.mtu,
        peer_namespace: netns.fd.as_fd(),
        peer_name: &plan.interface,
        peer_mac: plan.mac.unwrap_or_else(|| default_mac(network, plan)),
    };
    match link::create_pair(fd, &pair) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            link::remove(fd, &name).on("remove left-over", &name)?;
            link::create_pair(fd, &pair).on("create", &name)?;
        }
        other => other.on("create", &name)?,
    }
    let joined = direct::join(fd, network, bridge.index, &name, pair.peer_mac);
    joined.and_then(|()| configure(network, netns, plan)).inspect_err(|_| take_back(fd, &name))
}

fn take_back(fd: std::os::fd::BorrowedFd<'_>, name: &str) {
    if let Err(left) = link::remove(fd, name) {
        tracing::warn!("cannot take back link {name}: {left}");
    }
}

/// MAC address of an endpoint whose plan names none.
pub(super) fn default_mac(network: &Network, plan: &EndpointPlan) -> [u8; 6] {
    let address = plan.ipv4.map(IpAddr::V4).or(plan.ipv6.map(IpAddr::V6));
    address.map_or_else(|| mac_from(&format!("{}{}", plan.container, network.id)), mac_for)
}

fn configure(network: &Network, netns: &Netns, plan: &EndpointPlan) -> Result<(), Error> {
    let interface = plan.interface.as_str();
    if plan.ipv6.is_some() {
        namespace::inside(netns.fd.as_fd(), || namespace::enable_ipv6(interface))??;
    }
    let inside = netns.socket.as_fd();
    let peer = link::find(inside, interface).on("look up", interface)?.ok_or_else(|| Error::MissingLink(interface.to_owned()))?;
    let addresses = [plan.ipv4.map(IpAddr::V4), plan.ipv6.map(IpAddr::V6)];
    let ranges: Vec<Range> = addresses.into_iter().flatten().map(|address| range_of(network, address)).collect::<Result<_, _>>()?;
    let gateways = if plan.default_route { gateways(network, &ranges) } else { Vec::new() };
    let by_link = plan.default_route && upper::routes_by_link(network);
    route::configure(inside, peer.index, &ranges, if by_link { &[] } else { &gateways }, by_link).on("configure", interface)
}

fn range_of(network: &Network, address: IpAddr) -> Result<Range, Error> {
    let pool = network.pool_of(address).ok_or_else(|| Error::OutsideOfPools { address, network: network.name.clone() })?;
    Ok(Range { address, prefix: pool.prefix })
}

/// Gateways of the pools that the addresses lie in; a network without a way out has none.
fn gateways(network: &Network, addresses: &[Range]) -> Vec<IpAddr> {
    if network.internal {
        return Vec::new();
    }
    addresses.iter().filter_map(|range| network.pool_of(range.address)?.gateway).collect()
}

/// Makes an interface of a running container the way out, in place of another: after the network with the highest
/// priority was connected or taken off. A network without a way out changes nothing.
///
/// # Errors
/// There is no such interface, or the kernel refuses.
pub fn set_default_route(network: &Network, netns: &Netns, plan: &EndpointPlan) -> Result<(), Error> {
    let inside = netns.socket.as_fd();
    let interface = plan.interface.as_str();
    let found = link::find(inside, interface).on("look up", interface)?.ok_or_else(|| Error::MissingLink(interface.to_owned()))?;
    let addresses = [plan.ipv4.map(IpAddr::V4), plan.ipv6.map(IpAddr::V6)];
    let ranges: Vec<Range> = addresses.into_iter().flatten().map(|address| Range { address, prefix: 0 }).collect();
    route::set_default(inside, found.index, &gateways(network, &ranges)).on("set the default route by", interface)
}

/// Takes a container off a network, wherever its namespace is held; a missing link is fine. `inside` is its namespace and the
/// interface there, by which alone macvlan and ipvlan are found.
///
/// # Errors
/// The kernel refuses.
pub fn detach(network: &Network, container: &ContainerId, inside: Option<(&Netns, &str)>) -> Result<(), Error> {
    match (network.driver, inside) {
        (Driver::Bridge, _) => {
            let socket = route_socket()?;
            let name = host_link(container, network);
            link::remove(socket.as_fd(), &name).on("remove", &name).map(drop)
        }
        (_, Some((netns, interface))) => link::remove(netns.socket.as_fd(), interface).on("remove", interface).map(drop),
        // It goes with the namespace.
        (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn host_sides_are_named_after_container_and_network_and_known_by_alias() {
        let id = ContainerId::random();
        let network = |name: &str| Network::new(name, Driver::Bridge, BTreeMap::new());
        let (default, a, b) = (network("bridge"), network("a"), network("b"));
        assert_eq!(host_link(&id, &default), format!("rc{}", id.short()));
        let names = [&default, &a, &b].map(|network| host_link(&id, network));
        assert!(names.iter().all(|name| name.len() == 14) && names[0] != names[1] && names[1] != names[2], "{names:?}");
        let link = |name: &str, alias: &str| Link {
            index: 1,
            name: name.to_owned(),
            up: true,
            mtu: 1500,
            master: None,
            kind: "veth".to_owned(),
            alias: alias.to_owned(),
        };
        let owner = Owner::of(&link(&names[1], &alias(&id, &a))).unwrap();
        assert!(owner.is_on(&a) && !owner.is_on(&b) && !owner.is_on(&default));
        assert!(Owner::of(&link(&names[0], "")).unwrap().is_on(&default));
        for (name, alias) in [("rcon0", ""), ("rc0123456789aX", ""), ("veth01234567890", ""), (names[1].as_str(), "rcon something")] {
            assert_eq!(Owner::of(&link(name, alias)), None, "{name} {alias}");
        }
    }
}
