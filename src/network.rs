//! # network
//! ## Lives here
//! Netlink messages, network namespaces, the default bridge, veth endpoints, nftables (own table `rcon`), published ports, resolv.conf and hosts text.
//! ## Invariants
//! - Only objects with our names are touched; rules of others are neither read nor changed.
//! - Host-side work happens in the network namespace of the calling thread (sockets, sysctl paths).
//! - Publishing a port is one element in a kernel map; every function is idempotent.
//! ## Not here
//! Leases (rows of `state`), which container gets what (`engine`).
//! ## Decisions
//! - Own netlink writer (blocking, ~1 ms for a whole endpoint) instead of rtnetlink (async; no reactor on the path of `run`).
//! - Own nftables messages. Rejected: executing `nft` or `iptables` (a process, a parser and a package for each rule).
//! - A flushed or stale table is found by the next command (marker, object and rule counts) and made anew in
//!   one transaction, instead of a watching process: there is no daemon. Between a flush and that command
//!   published ports are closed and `route_localnet` is unguarded.
//! - A drop is final across nftables tables: where another firewall's FORWARD policy drops, our accept cannot
//!   override it. We do not touch its rules; the administrator allows the bridge there.
//! - A namespace that belongs to a container's user namespace cannot be made beforehand: `open_netns` prepares it from
//!   outside once its init exists. The default path keeps making namespaces beside the transaction.
//! - The default bridge has no IPv6: containers get none, and a publication on an IPv6 address is refused.
//! - Port holders have no SO_REUSEADDR (two bound sockets that do not listen would share the port), so a port
//!   that a host program just left can be refused until its TIME_WAIT ends.

mod bridge;
mod conntrack;
mod error;
mod firewall;
mod link;
mod nftables;
mod port;
mod resolver;
#[cfg(test)]
mod tests;

pub use bridge::{attach, choose_default, create_netns, ensure, netns_of, open_netns, traffic};
pub use error::Error;
pub use port::{hold_ports, publish, unpublish};
pub use resolver::{hosts, resolv_conf, valid_host_entry};

use crate::state::record::PublishedPort;
use crate::sys::netlink::message;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

/// A fresh network namespace held by its fd (no name, no mount), loopback up.
#[derive(Debug)]
pub struct Netns {
    pub fd: OwnedFd,
    /// Routing netlink socket opened inside.
    pub(crate) socket: OwnedFd,
}

/// What joins a container to a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Names the host side of the veth: `rc` + 12 hex digits of the container id.
    pub container: crate::base::ContainerId,
    pub address: Ipv4Addr,
    /// None: [`mac_for`] the address.
    pub mac: Option<[u8; 6]>,
}

/// A host port held by a bound (not listening) socket, so that no other process can take it.
#[derive(Debug)]
pub struct HeldPort {
    pub port: PublishedPort,
    pub socket: OwnedFd,
}

/// MAC address of an endpoint without an explicit one (derived from its IPv4 address, `02:42:…`).
pub fn mac_for(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}
