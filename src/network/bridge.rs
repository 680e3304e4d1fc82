//! Bridges: making and repairing them with their elements in our tables, and taking them away.
//!
//! Invariants: host-side work happens in the network namespace of the calling thread, with objects of our
//! names only (`rcon0`, `rc-` + 12 hex digits or a name that the user chose, tables `ip rcon` and `ip6 rcon`). A bridge that
//! does not carry our alias is not touched. A network's elements stand before its bridge and go after it.

use super::direct;
use super::endpoint::{self, Owner};
use super::error::{Context, Error};
use super::firewall::{self, Standing};
use super::link::{self, Link};
use super::namespace::{self, netfilter_socket, route_socket, set, set_ipv6};
use super::nftables::Family;
use super::route::{self, Range};
use super::{Addresses, mac_for, port, rules, upper};
use crate::state::record::{Driver, Network, PublishedPort};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// MTU if the host has no default route.
const DEFAULT_MTU: u32 = 1500;
/// How often a lost race for the firewall table is looked at again.
const RACES: u32 = 100;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// How often, and after how long, a bridge without an owner's name is looked at again.
const NAMINGS: u32 = 20;
const NAMING: Duration = Duration::from_millis(2);

/// What the records say, asked only when a table has to be made anew.
pub trait Kept {
    type Error: From<Error>;

    /// # Errors
    /// The records cannot be read.
    fn networks(&self) -> Result<Vec<Network>, Self::Error>;

    /// Publications in force; asked once the table stands, so that none is missed that another process adds meanwhile.
    ///
    /// # Errors
    /// The records cannot be read.
    fn published(&self) -> Result<Vec<(Addresses, PublishedPort)>, Self::Error>;
}

/// What our bridges have as alias.
pub(super) fn alias(network: &Network) -> String {
    format!("rcon network {}", network.id)
}

/// Makes sure that a network's device, address, forwarding and firewall elements stand; two questions when they do.
/// A table that had to be made anew gets the elements of all networks and published ports that are `kept`.
///
/// # Errors
/// What could not be made. Nothing is left half-open: the elements stand before the bridge is brought up.
pub fn ensure<K: Kept>(wanted: &Network, kept: &K) -> Result<(), K::Error> {
    match wanted.driver {
        Driver::Bridge => {}
        Driver::Macvlan | Driver::Ipvlan => return Ok(upper::ensure_parent(wanted)?),
        Driver::Cni => return Ok(()),
    }
    let remade = ensure_tables(wanted, kept)?;
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let bridge = link::find(fd, &wanted.device).on("look up", &wanted.device)?;
    match bridge {
        Some(bridge) if bridge.up && !remade && bridge.alias == alias(wanted) => {
            direct::heed(wanted, bridge.index);
            Ok(())
        }
        bridge => Ok(ensure_bridge(fd, wanted, bridge)?),
    }
}

/// Returns whether anything was missing.
fn ensure_tables<K: Kept>(wanted: &Network, kept: &K) -> Result<bool, K::Error> {
    let socket = netfilter_socket()?;
    let mut changed = false;
    for family in FAMILIES.into_iter().filter(|family| rules::concerns(*family, wanted)) {
        changed |= ensure_table(socket.as_fd(), family, wanted, kept)?;
    }
    Ok(changed)
}

fn ensure_table<K: Kept>(fd: BorrowedFd<'_>, family: Family, wanted: &Network, kept: &K) -> Result<bool, K::Error> {
    for attempt in 0..RACES {
        firewall::step_back(attempt.saturating_sub(1));
        // Asked for when it is needed: a table that stands needs one look.
        let generation = (attempt > 0).then(|| firewall::generation(fd)).transpose().on("read the generation of", "nftables")?;
        let stale = match firewall::standing(fd, family, wanted).on("read", "nftables table rcon")? {
            Standing::Current => return Ok(false),
            Standing::Lacking => {
                firewall::add(fd, family, &rules::of_network(family, wanted)).on("add firewall elements of", &wanted.name)?;
                return Ok(true);
            }
            Standing::Missing => None,
            Standing::Stale { handle } => Some(handle),
        };
        let Some(generation) = generation else { continue };
        let all = kept.networks()?;
        let others = all.iter().filter(|network| network.id != wanted.id && rules::concerns(family, network));
        let elements: Vec<_> = others.chain([wanted]).flat_map(|network| rules::of_network(family, network)).collect();
        match firewall::make(fd, family, generation, stale, &elements) {
            Err(error) if error.errno() == Some(Errno::RESTART) => tracing::debug!("firewall table changed meanwhile: {error}"),
            Err(source) => return Err(Error::Netlink { operation: "create", object: "nftables table rcon".to_owned(), source }.into()),
            Ok(()) => {
                let elements: Vec<_> = kept.published()?.iter().flat_map(|(targets, port)| port::elements(*targets, port, family)).collect();
                firewall::add(fd, family, &elements).on("restore", "published ports")?;
                return Ok(true);
            }
        }
    }
    Err(Error::Unstable.into())
}

fn ensure_bridge(fd: BorrowedFd<'_>, network: &Network, standing: Option<Link>) -> Result<(), Error> {
    let name = network.device.as_str();
    let made = standing.is_none();
    let bridge = match standing {
        Some(bridge) => bridge,
        None => create_bridge(fd, network)?,
    };
    if bridge.kind != "bridge" {
        return Err(Error::NotABridge(name.to_owned()));
    }
    let bridge = if network.is_default() { bridge } else { named(fd, bridge)? };
    if bridge.alias != alias(network) {
        // The default bridge had no alias at first, and its record is new after a reset. One that has our id for a name and no
        // owner yet was made by a command that was killed before it could say so.
        let by_id = bridge.alias.is_empty() && network.id.get(..12).is_some_and(|id| bridge.name == format!("rc-{id}"));
        if !network.is_default() && !by_id {
            return Err(Error::ForeignBridge { device: name.to_owned(), network: network.name.clone() });
        }
        link::set_alias(fd, bridge.index, &alias(network)).on("name the owner of", name)?;
    }
    if network.has_ipv6() {
        namespace::enable_ipv6(name)?;
        ensure_forwarding6(fd)?;
    } else {
        set_ipv6(name, "accept_ra", "0")?;
        set_ipv6(name, "disable_ipv6", "1")?;
    }
    if !network.internal {
        // The guard chain of our table stands already: see its first rules.
        set(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    }
    ensure_forwarding()?;
    let gateways = network.pools.iter().filter_map(|pool| Some(Range { address: pool.gateway?, prefix: pool.prefix }));
    let wanted: Vec<Range> = gateways.collect();
    for (index, range) in route::addresses(fd).on("list", "addresses")? {
        if index == bridge.index && !wanted.contains(&range) && !is_link_local(range) {
            route::remove_address(fd, index, range).on("remove an old address of", name)?;
        }
    }
    route::set_addresses(fd, bridge.index, &wanted).on("configure bridge", name)?;
    if made {
        rejoin(fd, network, bridge.index)?;
    }
    Ok(())
}

/// The bridge with its owner's name, which whoever makes one right now writes with its next message.
fn named(fd: BorrowedFd<'_>, mut bridge: Link) -> Result<Link, Error> {
    for _ in 0..NAMINGS {
        if !bridge.alias.is_empty() {
            break;
        }
        std::thread::sleep(NAMING);
        bridge = link::find(fd, &bridge.name).on("look up", &bridge.name)?.ok_or(Error::Unstable)?;
    }
    Ok(bridge)
}

fn create_bridge(fd: BorrowedFd<'_>, network: &Network) -> Result<Link, Error> {
    let name = network.device.as_str();
    let mtu = match network.mtu() {
        Some(mtu) => mtu,
        None => default_mtu(fd)?,
    };
    let address = network.gateway4().map(Into::into).or(network.gateway6().map(Into::into));
    let mac = address.map_or_else(|| endpoint::mac_from(&network.id), mac_for);
    match link::create(fd, "bridge", name, &alias(network), Some((mac, mtu))) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        other => other.on("create bridge", name)?,
    }
    link::find(fd, name).on("look up", name)?.ok_or_else(|| Error::MissingLink(name.to_owned()))
}

fn is_link_local(range: Range) -> bool {
    matches!(range.address, std::net::IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Turns IPv4 forwarding on; written only if it is off, because a write resets per-interface parameters.
fn ensure_forwarding() -> Result<(), Error> {
    const PARAMETER: &str = "net/ipv4/ip_forward";
    if namespace::read(PARAMETER)? == "1" { Ok(()) } else { set(PARAMETER, "1") }
}

/// Turns IPv6 forwarding on if it is off. The kernel would stop listening to router advertisements then: interfaces that have
/// routes from them are told to go on.
fn ensure_forwarding6(fd: BorrowedFd<'_>) -> Result<(), Error> {
    const PARAMETER: &str = "net/ipv6/conf/all/forwarding";
    if namespace::read(PARAMETER)? == "1" {
        return Ok(());
    }
    let routes = route::routes(fd).on("list", "routes")?;
    for link in link::list(fd).on("list", "links")? {
        let advertised = routes.iter().any(|route| route.advertised && route.device == Some(link.index));
        if advertised && namespace::read(&format!("net/ipv6/conf/{}/accept_ra", link.name))? == "1" {
            set_ipv6(&link.name, "accept_ra", "2")?;
        }
    }
    set(PARAMETER, "1")
}

/// Puts the endpoints of running containers back into a bridge that someone had deleted.
fn rejoin(fd: BorrowedFd<'_>, network: &Network, bridge: u32) -> Result<(), Error> {
    for link in link::list(fd).on("list", "links")? {
        if link.master.is_none() && Owner::of(&link).is_some_and(|owner| owner.is_on(network)) {
            direct::forget(link.index);
            link::set_master(fd, &link, endpoint::port_of(network, bridge)).on("rejoin", &link.name)?;
        }
    }
    Ok(())
}

/// MTU of the device of the default route, so that containers never send what the host must fragment.
fn default_mtu(fd: BorrowedFd<'_>) -> Result<u32, Error> {
    let routes = route::routes(fd).on("list", "routes")?;
    let devices: Vec<u32> = routes.into_iter().filter(|route| route.range.prefix == 0).filter_map(|route| route.device).collect();
    let links = link::list(fd).on("list", "links")?;
    let found = devices.iter().filter(|index| **index != link::LOOPBACK).find_map(|index| links.iter().find(|link| link.index == *index));
    Ok(found.map_or(DEFAULT_MTU, |link| link.mtu))
}

/// Removes a network's device and its elements; missing ones are fine. Nobody may be on it any more.
///
/// # Errors
/// The kernel refuses; the device is another's.
pub fn remove(network: &Network) -> Result<(), Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    match network.driver {
        Driver::Bridge => {}
        Driver::Macvlan | Driver::Ipvlan => return upper::remove_parent(fd, network),
        Driver::Cni => return Ok(()),
    }
    // The bridge first: while it stands without its elements, nothing guards its `route_localnet`.
    let bridge = link::find(fd, &network.device).on("look up", &network.device)?;
    if bridge.is_some_and(|bridge| bridge.kind == "bridge" && (network.is_default() || bridge.alias == alias(network))) {
        link::remove(fd, &network.device).on("remove", &network.device)?;
    }
    let socket = netfilter_socket()?;
    for family in FAMILIES.into_iter().filter(|family| rules::concerns(*family, network)) {
        match firewall::remove(socket.as_fd(), family, &rules::of_network(family, network)) {
            Err(error) if is_missing(&error) => {}
            other => other.on("remove firewall elements of", &network.name)?,
        }
    }
    Ok(())
}

/// Removes all networks' devices and our tables, unless endpoints are still there (those of an engine on other roots). Returns
/// whether it did. Idempotent.
///
/// # Errors
/// The kernel refuses.
pub fn take_down(all: &[Network]) -> Result<bool, Error> {
    let socket = route_socket()?;
    if link::list(socket.as_fd()).on("list", "links")?.iter().any(|link| Owner::of(link).is_some()) {
        return Ok(false);
    }
    all.iter().try_for_each(remove)?;
    let socket = netfilter_socket()?;
    for family in FAMILIES {
        match firewall::remove_table(socket.as_fd(), family) {
            Err(error) if is_missing(&error) => {}
            other => other.on("remove", "nftables table rcon")?,
        }
    }
    Ok(true)
}

/// Whether the failure of a message means that the object is not there.
pub(super) fn is_missing(error: &NetlinkError) -> bool {
    error.errno() == Some(Errno::NOENT)
}
