//! # network
//! ## Lives here
//! Netlink messages, network namespaces, bridges, macvlan and ipvlan, veth endpoints, nftables (own tables `ip rcon` and `ip6 rcon`),
//! published ports, free address ranges, resolv.conf and hosts text,
//! names on user networks (`dns`, with its own heading).
//! ## Invariants
//! - Only objects with our names are touched; rules of others are never changed, and of their chains only the policies are read.
//! - Host-side work happens in the network namespace of the calling thread (sockets, sysctl paths).
//! - The rules do not depend on which networks exist: a network is a few elements of sets, publishing a port is one element
//!   in a kernel map for each family; every function is idempotent.
//! ## Not here
//! Leases (rows of `state`), which container gets what (`engine`).
//! ## Decisions
//! - Own netlink writer (blocking, ~1 ms for a whole endpoint) instead of rtnetlink (async; no reactor on the path of `run`).
//! - Own nftables messages. Rejected: executing `nft` or `iptables` (a process, a parser and a package for each rule).
//! - A table for each family, that of IPv6 only once a network has it. Rejected: one `inet` table, which makes the kernel track
//!   the IPv6 connections of hosts that have no IPv6 network of ours.
//! - A flushed or stale table is found by the next command (marker, object and rule counts, the network's element, all in one
//!   datagram) and made anew in one transaction, instead of a watching process: there is no daemon. Between a flush and that
//!   command published ports are closed and `route_localnet` is unguarded.
//! - A drop is final across nftables tables: where another firewall's FORWARD policy drops, our accept cannot
//!   override it. We do not touch its rules; the administrator allows the bridge there ([`forward_blockers`] finds such chains).
//! - Policies of legacy iptables (`x_tables`, not nftables) are not among them: they are read by a socket option of its own for
//!   each table, in a form that follows the kernel's build, and the distributions of today have iptables on nftables.
//! - Ranges are chosen from the other end than Docker's and podman's, since a network has a device only while somebody is on it, and
//!   both look at devices alone. Rejected: a bridge for each network from its creation on, which holds the range until the next
//!   reboot only. Where a bridge of others got a range all the same ([`rival`]), the default network moves, others are refused.
//! - Frames between containers of one bridge go from link to link (`direct`: one look-up by eBPF at the ingress of the host's side),
//!   which is as fast as a pair of links without any bridge (0.97 x in throughput, where a bridge has 0.94; 1.04 x in a round trip,
//!   where it has 1.15). The price is that nothing on the bridge sees them: hence only where nobody asks to. Where the host has bridged frames pass iptables
//!   (`net.bridge.bridge-nf-call-iptables`: Kubernetes and `icc=false` of Docker need it; it costs some 5 % before any rule) or has
//!   an nftables table of the bridge family, they pass the bridge, and so they do before Linux 6.6. Both are looked at whenever a
//!   container joins and by a reload; the option `rcon.direct` of a network decides otherwise. Rejected: `notrack`, which would break others'
//!   translations; looking into `x_tables`' ebtables, whose kernel interface differs by build.
//! - `disconnect` removes the link before it returns, so that it is gone when it says so: the kernel waits for two or three of its
//!   grace periods there (20 to 30 ms). Rejected, as measured: moving the link into a namespace that is dropped (each end waits as long).
//! - Networks are isolated from each other, but a port that a container publishes is open to the containers of all networks
//!   that are not internal, as it is to everybody else; they are seen there with an address of the host.
//! - `enable_icc=false` is the isolation of bridge ports by the kernel. Rejected: rules, which see bridged frames only where
//!   `br_netfilter` is loaded.
//! - Forwarding is turned on for the whole host if it was off: the kernel asks for it on the uplinks too, where the answers come
//!   in. Rejected: dropping what the host forwards for others from then on, which is how Docker breaks other routers. Before
//!   IPv6 forwarding is turned on, interfaces with routes from router advertisements get `accept_ra=2`, else they would lose them.
//! - `[::1]:port` on the host is refused, not redirected: tried with DNAT and masquerading in OUTPUT, the request arrives, but the
//!   kernel drops the answer on its way in, because a route to a loopback address must be by the device that the packet came by
//!   (`rt6_need_strict`), and IPv6 has no `route_localnet`; a local route to ::1 by the bridge does not help. Clients that try
//!   `localhost` go on to 127.0.0.1 at once, as the held port refuses them.
//! - A namespace that belongs to a container's user namespace cannot be made beforehand: `open_netns` prepares it from
//!   outside once its init exists. The default path keeps making namespaces beside the transaction.
//! - Port holders have no SO_REUSEADDR (two bound sockets that do not listen would share the port), so a port
//!   that a host program just left can be refused until its TIME_WAIT ends. A port of both families is held by one IPv6 socket.

mod audit;
mod bridge;
pub mod cni;
mod conntrack;
mod direct;
pub mod dns;
mod endpoint;
mod error;
mod firewall;
mod link;
mod namespace;
mod nftables;
mod port;
mod resolver;
mod route;
mod rules;
mod subnet;
#[cfg(test)]
mod tests;
mod upper;

pub use audit::{Leftover, Owned, audit, forward_blockers, mend};
pub use bridge::{Kept, ensure, remove, take_down};
pub use endpoint::{attach, detach, set_default_route};
pub use error::Error;
pub use namespace::{create_netns, enter_netns, netns_of, open_netns, traffic};
pub use port::{copies_of, hold_ports, leads, publish, unpublish};
pub use resolver::{Servers, hosts, own_host_line, resolv_conf, valid_host_entry};
pub use subnet::{choose_default, choose_subnet, choose_ula, obstacle, rival, stands};

use crate::state::Addresses;
use crate::state::record::PublishedPort;
use crate::sys::netlink::message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

/// A fresh network namespace held by its fd (no name, no mount), loopback up.
#[derive(Debug)]
pub struct Netns {
    pub fd: OwnedFd,
    /// Routing netlink socket opened inside.
    pub(crate) socket: OwnedFd,
}

/// What joins a container to a network.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointPlan {
    pub container: crate::base::ContainerId,
    /// Name in the container: `eth0`.
    pub interface: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// None: [`mac_for`] the address.
    pub mac: Option<[u8; 6]>,
    /// The way out is by this network, if it has one.
    pub default_route: bool,
}

/// A host port held by a bound (not listening) socket, so that no other process can take it.
#[derive(Debug)]
pub struct HeldPort {
    pub port: PublishedPort,
    pub socket: OwnedFd,
}

/// MAC address of an endpoint without an explicit one (derived from the last four bytes of its address, `02:42:…`).
pub fn mac_for(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => [12, 13, 14, 15].map(|at: usize| address.octets()[at]),
    };
    [0x02, 0x42, a, b, c, d]
}
