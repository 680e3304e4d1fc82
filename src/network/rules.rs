//! What our tables `ip rcon` and `ip6 rcon` hold: chains, sets, rules, and the elements of a network and of a published port.
//!
//! Invariants: the rules do not depend on which networks exist; a network is a few elements, a published port is one.
//! `route_localnet` of a bridge is never set without the guard chain.

use super::nftables::{Element, Family, Field, Shape, Transaction, interface_key};
use super::route::{Range, octets};
use crate::state::record::{Network, Protocol, PublishedPort};
use std::net::{IpAddr, Ipv6Addr};

/// Bumped with every change of [`write`]; an older table is replaced by the next command.
pub(super) const VERSION: u32 = 4;
/// Chains and sets of the table (its kernel use count).
pub(super) const OBJECTS: u32 = 13;
/// Rules written by [`write`].
pub(super) const fn count(family: Family) -> usize {
    match family {
        Family::V4 => 18,
        Family::V6 => 15,
    }
}

const PORTS: &str = "ports";
const PORTS_AT: &str = "ports_at";
/// Our bridges.
const BRIDGES: &str = "bridges";
/// (bridge, bridge) of those whose containers reach each other.
const WITHIN: &str = "within";
/// Bridges without a way out or in.
const INTERNAL: &str = "internal";
const SUBNETS: &str = "subnets";
/// Subnets that leave the host with an address of the host.
const MASQUERADED: &str = "masqueraded";
/// Addresses that nobody outside may name: the subnets of networks that masquerade or are internal. Answers to the others come
/// back to addresses of the subnet, so that of those it is the gateways.
const GUARDED: &str = "guarded";
/// All sets and maps, by the order of their ids.
pub(super) const SETS: [(&str, Shape); 8] = [
    (PORTS, Shape::Ports),
    (PORTS_AT, Shape::PortsAt),
    (BRIDGES, Shape::Interfaces),
    (WITHIN, Shape::InterfacePairs),
    (INTERNAL, Shape::Interfaces),
    (SUBNETS, Shape::Subnets),
    (MASQUERADED, Shape::Subnets),
    (GUARDED, Shape::Subnets),
];

const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
/// 127.0.0.0/8
const LOOPBACK: [u8; 1] = [127];

/// Writes chains, sets and rules into a new table.
pub(super) fn write(t: &mut Transaction, family: Family) {
    t.chain("guard", "filter", HOOK_PREROUTING, -300);
    t.chain("prerouting", "nat", HOOK_PREROUTING, -100);
    t.chain("output", "nat", HOOK_OUTPUT, -100);
    t.chain("postrouting", "nat", HOOK_POSTROUTING, 100);
    t.chain("forward", "filter", HOOK_FORWARD, 0);
    for (id, (name, shape)) in (1..).zip(SETS) {
        t.set(name, id, shape);
    }
    write_guard(t, family);
    write_redirection(t, family);
    write_masquerading(t, family);
    write_forwarding(t);
}

fn write_guard(t: &mut Transaction, family: Family) {
    // route_localnet of a bridge must not open 127/8 to anything but the loopback device (CVE-2020-8558). The kernel itself
    // drops ::1 from any other device (ip6_rcv_core).
    if family == Family::V4 {
        for field in [Field::Destination, Field::Source] {
            t.rule("guard", |r| {
                r.begins_with(field, &LOOPBACK);
                r.input_is("lo", false);
                r.drop_packet();
            });
        }
    }
    // Containers are reached through published ports only; before translation their addresses are nobody's business. (Those of
    // networks that do not masquerade are left to the forward chain.)
    t.rule("guard", |r| {
        r.input_is("lo", false);
        r.input_in(BRIDGES, false);
        r.address_in(Field::Destination, GUARDED);
        r.drop_packet();
    });
}

fn write_redirection(t: &mut Transaction, family: Family) {
    for chain in ["prerouting", "output"] {
        for (map, by_address) in [(PORTS_AT, true), (PORTS, false)] {
            t.rule(chain, |r| {
                // An answer to ::1 that comes in by another device is dropped (rt6_need_strict): a refused connection, after
                // which clients try 127.0.0.1, is better than one that times out.
                if family == Family::V6 {
                    r.destination_is_not(Ipv6Addr::LOCALHOST.into());
                }
                r.destination_is_local();
                r.redirect_by(map, by_address);
            });
        }
    }
}

fn write_masquerading(t: &mut Transaction, family: Family) {
    t.rule("postrouting", |r| {
        r.output_in(BRIDGES, false);
        r.address_in(Field::Source, MASQUERADED);
        r.masquerade();
    });
    // The host's own 127.0.0.1 clients: the container can only answer to an address of the bridge.
    if family == Family::V4 {
        t.rule("postrouting", |r| {
            r.output_in(BRIDGES, true);
            r.begins_with(Field::Source, &LOOPBACK);
            r.masquerade();
        });
    }
    // A container that reaches a published port of its own or another bridge: the answer must pass the translation.
    t.rule("postrouting", |r| {
        r.output_in(BRIDGES, true);
        r.destination_translated();
        r.address_in(Field::Source, SUBNETS);
        r.masquerade();
    });
}

fn write_forwarding(t: &mut Transaction) {
    t.rule("forward", |r| {
        r.established_or_related();
        r.accept();
    });
    t.rule("forward", |r| {
        r.way_in(WITHIN);
        r.accept();
    });
    t.rule("forward", |r| {
        r.input_in(INTERNAL, true);
        r.drop_packet();
    });
    t.rule("forward", |r| {
        r.output_in(INTERNAL, true);
        r.drop_packet();
    });
    t.rule("forward", |r| {
        r.destination_translated();
        r.accept();
    });
    // From another network, from outside, or between containers that are not to reach each other.
    t.rule("forward", |r| {
        r.output_in(BRIDGES, true);
        r.drop_packet();
    });
    // Its bridge is gone: it must not leave by the default route.
    t.rule("forward", |r| {
        r.address_in(Field::Destination, SUBNETS);
        r.drop_packet();
    });
    t.rule("forward", |r| {
        r.input_in(BRIDGES, true);
        r.accept();
    });
}

/// Whether a network has anything in the table of that family.
pub(super) fn concerns(family: Family, network: &Network) -> bool {
    network.driver == crate::state::record::Driver::Bridge && (family == Family::V4 || network.has_ipv6())
}

/// The element that stands if the network's elements do.
pub(super) fn sign_of(network: &Network) -> Element {
    member(BRIDGES, &interface_key(&network.device))
}

/// All elements of a network.
pub(super) fn of_network(family: Family, network: &Network) -> Vec<Element> {
    let name = interface_key(&network.device);
    let mut elements = Vec::new();
    for pool in network.pools.iter().filter(|pool| Family::of(pool.subnet) == family) {
        let range = Range::from(pool);
        let gateway = pool.gateway.map(|address| Range { address, prefix: if pool.is_ipv4() { 32 } else { 128 } });
        let open = !network.masquerades() && !network.internal;
        let masqueraded = (network.masquerades() && !network.internal).then_some(range);
        for (set, range) in [(SUBNETS, Some(range)), (MASQUERADED, masqueraded), (GUARDED, if open { gateway } else { Some(range) })] {
            let Some((first, behind)) = range.map(Range::bounds) else { continue };
            elements.push(member(set, &octets(first)));
            elements.extend(behind.map(|behind| Element { end: true, ..member(set, &octets(behind)) }));
        }
    }
    if network.inter_container() {
        elements.push(member(WITHIN, &[name, name].concat()));
    }
    if network.internal {
        elements.push(member(INTERNAL, &name));
    }
    elements.push(sign_of(network));
    elements
}

fn member(set: &'static str, key: &[u8]) -> Element {
    Element { set, key: key.to_vec(), data: None, end: false }
}

/// The element that redirects a published port to a container's address, of the same family.
pub(super) fn of_port(target: IpAddr, port: &PublishedPort) -> Element {
    let mut key = Vec::with_capacity(24);
    let set = match port.host_ip {
        Some(ip) if !ip.is_unspecified() => {
            key.extend_from_slice(&octets(ip));
            PORTS_AT
        }
        _ => PORTS,
    };
    key.extend_from_slice(&[protocol_number(port.protocol), 0, 0, 0]);
    key.extend_from_slice(&port.host_port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    let mut data = octets(target);
    data.extend_from_slice(&port.container_port.to_be_bytes());
    data.extend_from_slice(&[0, 0]);
    Element { set, key, data: Some(data), end: false }
}

pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
