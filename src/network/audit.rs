//! What the kernel has of us that no record owns, and what of others is in our way.
//!
//! Invariant: records are written before what they own is made, so the kernel is read first: what it has and the records have
//! not is left over. Where a bridge of another engine (on other roots) is in use, only what lies in our own networks is judged.

use super::endpoint::{self, Owner};
use super::error::{Context, Error};
use super::firewall;
use super::link::{self, Link};
use super::message::{self, attributes, family_header};
use super::namespace::{netfilter_socket, route_socket};
use super::nftables::{self, Element, Family};
use super::{Addresses, bridge, port, rules, subnet};
use crate::base::ContainerId;
use crate::state::record::{Network, PublishedPort};
use std::net::IpAddr;
use std::os::fd::AsFd;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_FORWARD: u32 = 2;
const DROP: u32 = 0;

/// What the records own.
#[derive(Debug, Clone, Default)]
pub struct Owned {
    pub networks: Vec<Network>,
    /// Started containers and pods, with the ids of the networks that they are on.
    pub endpoints: Vec<(ContainerId, String)>,
    pub published: Vec<(Addresses, PublishedPort)>,
}

/// Something of ours in the kernel that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Link(String),
    Bridge(String),
    Element(Family, Element),
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Link(name) => write!(f, "link {name} of no container"),
            Kind::Bridge(name) => write!(f, "bridge {name} of no network"),
            Kind::Element(family, element) => {
                write!(f, "element of {} in set {} of nftables table {} rcon", shown(&element.key), element.set, family.name())
            }
        }
    }
}

fn shown(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Links, bridges and firewall elements of ours that no record owns. `owned` is asked after the kernel was.
///
/// # Errors
/// The kernel's tables cannot be read.
pub fn audit(owned: &mut dyn FnMut() -> Owned) -> Result<Vec<Leftover>, Error> {
    let socket = route_socket()?;
    let links = link::list(socket.as_fd()).on("list", "links")?;
    let socket = netfilter_socket()?;
    let mut standing = Vec::new();
    for family in [Family::V4, Family::V6] {
        let elements = firewall::elements(socket.as_fd(), family).on("list", "firewall elements")?;
        standing.extend(elements.into_iter().map(|element| (family, element)));
    }
    let owned = owned();
    let mut found: Vec<Leftover> = links.iter().filter_map(|link| leftover(link, &links, &owned)).collect();
    let foreign = links.iter().any(|link| is_foreign(link, &links, &owned));
    for (family, element) in standing {
        if !is_owned(family, &element, &owned) && (!foreign || leads_to_us(&element, &owned)) {
            found.push(Leftover(Kind::Element(family, element)));
        }
    }
    Ok(found)
}

fn leftover(link: &Link, links: &[Link], owned: &Owned) -> Option<Leftover> {
    if let Some(owner) = Owner::of(link) {
        let network = owned.networks.iter().find(|network| owner.is_on(network))?;
        let is_owned = owned.endpoints.iter().any(|(container, id)| *id == network.id && endpoint::host_link(container, network) == link.name);
        return (!is_owned).then(|| Leftover(Kind::Link(link.name.clone())));
    }
    (is_orphan(link, owned) && !is_foreign(link, links, owned)).then(|| Leftover(Kind::Bridge(link.name.clone())))
}

/// A bridge that carries our alias, of no network we know.
fn is_orphan(link: &Link, owned: &Owned) -> bool {
    link.kind == "bridge" && link.alias.starts_with("rcon network ") && !owned.networks.iter().any(|network| bridge::alias(network) == link.alias)
}

/// One that is in use, or the default bridge, which engines on several roots share: an engine that had no container yet finds that of
/// another one.
fn is_foreign(link: &Link, links: &[Link], owned: &Owned) -> bool {
    is_orphan(link, owned) && (link.name == subnet::BRIDGE || links.iter().any(|port| port.master == Some(link.index)))
}

fn is_owned(family: Family, element: &Element, owned: &Owned) -> bool {
    let of_networks = owned.networks.iter().filter(|network| rules::concerns(family, network));
    of_networks.into_iter().any(|network| rules::of_network(family, network).contains(element))
        || owned.published.iter().any(|(targets, port)| port::elements(*targets, port, family).as_ref() == Some(element))
}

fn leads_to_us(element: &Element, owned: &Owned) -> bool {
    let address = match element.data.as_deref() {
        Some([a, b, c, d, _, _, _, _]) => IpAddr::from([*a, *b, *c, *d]),
        Some(data) => match data.get(..16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
            Some(bytes) => IpAddr::from(bytes),
            None => return false,
        },
        None => return false,
    };
    owned.networks.iter().any(|network| network.pool_of(address).is_some())
}

/// Removes what an audit found; what is gone already is fine.
///
/// # Errors
/// The kernel refuses.
pub fn mend(leftovers: &[Leftover]) -> Result<(), Error> {
    let route = route_socket()?;
    for Leftover(kind) in leftovers {
        if let Kind::Link(name) | Kind::Bridge(name) = kind {
            link::remove(route.as_fd(), name).on("remove", name)?;
        }
    }
    let socket = netfilter_socket()?;
    for family in [Family::V4, Family::V6] {
        let of_family = |leftover: &Leftover| match &leftover.0 {
            Kind::Element(of, element) if *of == family => Some(element.clone()),
            _ => None,
        };
        let elements: Vec<Element> = leftovers.iter().filter_map(of_family).collect();
        match firewall::remove(socket.as_fd(), family, &elements) {
            Err(error) if bridge::is_missing(&error) => {}
            other => other.on("remove", "firewall elements")?,
        }
    }
    Ok(())
}

/// Chains of other nftables tables (those of iptables-nft among them) that drop forwarded packets which none of their rules
/// accepts: containers have a way out, and published ports a way in, only as far as those rules let them.
///
/// # Errors
/// The chains cannot be listed.
pub fn forward_blockers() -> Result<Vec<String>, Error> {
    let socket = netfilter_socket()?;
    // Of all families: number 0.
    let chains = message::dump(socket.as_fd(), nftables::kind(nftables::GET_CHAIN), &[0; nftables::NFGENMSG], |_| ());
    Ok(chains.on("list", "firewall chains")?.iter().filter_map(|reply| blocker(reply)).collect())
}

fn blocker(reply: &[u8]) -> Option<String> {
    let family = match family_header(reply).first()? {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let found = attributes(reply, nftables::NFGENMSG);
    let (table, name) = (found.find_text(CHAIN_TABLE)?, found.find_text(CHAIN_NAME)?);
    let hook = found.find_nested(CHAIN_HOOK)?.find_network_number(HOOK_NUMBER)?;
    let policy = found.find_network_number(CHAIN_POLICY)?;
    (hook == HOOK_FORWARD && policy == DROP && table != firewall::NAME).then(|| format!("chain {name} of table {family} {table}"))
}
