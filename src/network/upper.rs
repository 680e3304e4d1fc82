//! macvlan and ipvlan: interfaces on top of a device of the host, made within the container's namespace.
//!
//! Invariant: of parents, only those that we made (a VLAN of a device, or a dummy for a network without one) are ever removed;
//! they carry our alias.

use super::bridge::alias;
use super::error::{Context, Error};
use super::link::{self, Link, Upper};
use super::namespace::route_socket;
use super::{EndpointPlan, Netns};
use crate::state::record::{Driver, IpvlanMode, MacvlanMode, Network};
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// The device below the network's interfaces; without a parent, a dummy that leads nowhere.
fn parent_name(network: &Network) -> String {
    if network.device.is_empty() { format!("rc-{}", network.id.get(..12).unwrap_or_default()) } else { network.device.clone() }
}

/// `eth0.10`: VLAN 10 of eth0.
fn vlan(name: &str) -> Option<(&str, u16)> {
    let (base, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| VLANS.contains(id))?;
    (!base.is_empty()).then_some((base, id))
}

fn of_kind<T>(result: Result<T, NetlinkError>, kind: &'static str, object: &str) -> Result<T, Error> {
    match result {
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Err(Error::NoSuchKind { kind, source: error }),
        other => other.on("create", object),
    }
}

/// The parent, made if it is one that we make.
///
/// # Errors
/// There is none, it cannot be one, or the kernel refuses.
pub(super) fn ensure_parent(network: &Network) -> Result<(), Error> {
    let socket = route_socket()?;
    let fd = socket.as_fd();
    let name = parent_name(network);
    let parent = match link::find(fd, &name).on("look up", &name)? {
        Some(parent) => parent,
        None => make_parent(fd, network, &name)?,
    };
    check_parent(network, &parent)?;
    if parent.up || !is_ours(network, &parent) { Ok(()) } else { link::set_up(fd, parent.index).on("bring up", &name) }
}

fn make_parent(fd: BorrowedFd<'_>, network: &Network, name: &str) -> Result<Link, Error> {
    if network.device.is_empty() {
        of_kind(link::create(fd, "dummy", name, &alias(network), None), "dummy", name)?;
    } else {
        let (base, id) = vlan(name).ok_or_else(|| Error::NoParent { network: network.name.clone(), device: name.to_owned() })?;
        let below = link::find(fd, base).on("look up", base)?;
        let below = below.ok_or_else(|| Error::NoParent { network: network.name.clone(), device: base.to_owned() })?;
        match link::create_upper(fd, &Upper::Vlan { id }, below.index, name, None, None, None) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            other => of_kind(other, "vlan", name)?,
        }
    }
    let made = link::find(fd, name).on("look up", name)?.ok_or_else(|| Error::MissingLink(name.to_owned()))?;
    if made.alias.is_empty() {
        link::set_alias(fd, made.index, &alias(network)).on("name the owner of", name)?;
    }
    Ok(Link { alias: alias(network), ..made })
}

fn is_ours(network: &Network, parent: &Link) -> bool {
    parent.alias == alias(network)
}

fn check_parent(network: &Network, parent: &Link) -> Result<(), Error> {
    let other = match network.driver {
        Driver::Macvlan => "ipvlan",
        _ => "macvlan",
    };
    let unfit = if parent.index == link::LOOPBACK {
        Some("the loopback device cannot be one")
    } else if parent.kind == other {
        Some("it is of the other kind")
    } else if parent.master.is_some() {
        Some("it belongs to a bridge or bond")
    } else {
        None
    };
    match unfit {
        Some(reason) => Err(Error::UnfitParent { network: network.name.clone(), device: parent.name.clone(), reason }),
        None => Ok(()),
    }
}

fn upper(network: &Network) -> Upper {
    // Numbers of `enum macvlan_mode` and of `enum ipvlan_mode`.
    if network.driver == Driver::Ipvlan {
        let mode = match network.ipvlan_mode() {
            IpvlanMode::L2 => 0,
            IpvlanMode::L3 => 1,
            IpvlanMode::L3s => 2,
        };
        return Upper::Ipvlan { mode };
    }
    let mode = match network.macvlan_mode() {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    };
    Upper::Macvlan { mode }
}

/// Layer 3 modes know no neighbours: everything leaves by the link itself.
pub(super) fn routes_by_link(network: &Network) -> bool {
    network.driver == Driver::Ipvlan && network.ipvlan_mode() != IpvlanMode::L2 && !network.internal
}

/// Makes the interface in the container's namespace, down.
pub(super) fn create(fd: BorrowedFd<'_>, network: &Network, netns: &Netns, plan: &EndpointPlan) -> Result<(), Error> {
    let name = parent_name(network);
    let parent = link::find(fd, &name).on("look up", &name)?.ok_or_else(|| Error::MissingLink(name.clone()))?;
    let upper = upper(network);
    // All interfaces of an ipvlan have the address of the parent.
    let mac = match upper {
        Upper::Macvlan { .. } => Some(plan.mac.unwrap_or_else(|| super::endpoint::default_mac(network, plan))),
        _ => None,
    };
    let interface = plan.interface.as_str();
    let made = link::create_upper(fd, &upper, parent.index, interface, Some(netns.fd.as_fd()), mac, network.mtu());
    match made {
        Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::INVAL)) && network.driver == Driver::Macvlan => {
            let reason = "another interface uses it in a way that excludes this one (passthru has its parent alone)";
            tracing::debug!("{name}: {error}");
            Err(Error::UnfitParent { network: network.name.clone(), device: name, reason })
        }
        other => of_kind(other, upper.kind(), interface),
    }
}

/// Removes the parent if it is one that we made.
pub(super) fn remove_parent(fd: BorrowedFd<'_>, network: &Network) -> Result<(), Error> {
    let name = parent_name(network);
    let parent = link::find(fd, &name).on("look up", &name)?;
    if parent.is_some_and(|parent| is_ours(network, &parent)) {
        link::remove(fd, &name).on("remove", &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::vlan;

    #[test]
    fn a_vlan_is_named_by_its_device_and_number() {
        for (name, expected) in
            [("eth0.10", Some(("eth0", 10))), ("a.b.4094", Some(("a.b", 4094))), ("eth0", None), ("eth0.0", None), ("eth0.4095", None), (".5", None)]
        {
            assert_eq!(vlan(name), expected, "{name}");
        }
    }
}
