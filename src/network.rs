//! # network
//! ## Lives here
//! Netlink messages, network namespaces, the default bridge, veth endpoints, nftables (own table `rcon`), published ports, resolv.conf and hosts text.
//! ## Invariants
//! - Only objects with our names are touched; rules of others are neither read nor changed.
//! - Publishing a port is one element in a kernel map; every function is idempotent.
//! ## Not here
//! Leases (rows of `state`), which container gets what (`engine`).
//! ## Decisions
//! - Own netlink writer (blocking, ~1 ms for a whole endpoint) instead of rtnetlink (async; no reactor on the path of `run`).

use crate::base::ErrorKind;
use crate::state::record::{Network, PortMapping, PublishedPort};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};

/// STUB errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// A fresh network namespace held by its fd (no name, no mount), loopback up.
pub struct Netns {
    pub fd: OwnedFd,
    /// Routing netlink socket opened inside.
    pub(crate) socket: OwnedFd,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Names the host side of the veth: `rc` + 12 hex digits of the container id.
    pub container: crate::base::ContainerId,
    pub address: Ipv4Addr,
    pub mac: Option<[u8; 6]>,
}

/// A host port held by a bound (not listening) socket, so that no other process can take it.
pub struct HeldPort {
    pub port: PublishedPort,
    pub socket: OwnedFd,
}

/// Creates a network namespace on a throw-away thread and brings `lo` up; sets net.ipv4.ip_unprivileged_port_start=0 and ping_group_range inside like Docker.
pub fn create_netns() -> Result<Netns, Error> {
    unimplemented!()
}

/// A private subnet (/20 out of 172.16/12, then 10/8, …) that no route of the host overlaps, as the record of the default bridge `rcon0`.
pub fn choose_default(name: &str) -> Result<Network, Error> {
    unimplemented!()
}

/// Makes sure that bridge, address, forwarding, NAT table and maps stand (fast no-op when they do). `published` re-creates the port elements if the table had to be made anew; it is called only then.
#[allow(unused_variables)]
pub fn ensure(network: &Network, published: &mut dyn FnMut() -> Vec<(Ipv4Addr, PublishedPort)>) -> Result<(), Error> {
    unimplemented!()
}

/// Joins a namespace to the bridge: veth pair, address, default route.
#[allow(unused_variables)]
pub fn attach(network: &Network, netns: &Netns, endpoint: &Endpoint) -> Result<(), Error> {
    unimplemented!()
}

/// MAC address of an endpoint without an explicit one (derived from its IPv4 address, `02:42:…`).
pub fn mac_for(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// Takes host ports for the mappings: binds one socket each (first free port of a range, an ephemeral one for none). `Err` names the port and, if it can be found, the process that holds it.
#[allow(unused_variables)]
pub fn hold_ports(mappings: &[PortMapping]) -> Result<Vec<HeldPort>, Error> {
    unimplemented!()
}

/// Adds the port elements for a container address (idempotent).
#[allow(unused_variables)]
pub fn publish(address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), Error> {
    unimplemented!()
}

/// Removes them and flushes stale UDP connection tracking; missing ones are fine.
#[allow(unused_variables)]
pub fn unpublish(address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), Error> {
    unimplemented!()
}

/// Received/sent bytes of `eth0` inside a process's network namespace: (rx, tx). Reads /proc/PID/net/dev.
#[allow(unused_variables)]
pub fn traffic(pid: i32) -> Option<(u64, u64)> {
    unimplemented!()
}

/// Text of a container's /etc/resolv.conf: the host's (loopback servers replaced by real ones, comments kept out) with the overrides.
#[allow(unused_variables)]
pub fn resolv_conf(host_text: &str, systemd_text: Option<&str>, host_network: bool, dns: &[String], search: &[String], options: &[String]) -> String {
    unimplemented!()
}

/// Text of a container's /etc/hosts.
#[allow(unused_variables)]
pub fn hosts(hostname: &str, domainname: &str, address: Option<Ipv4Addr>, extra: &[(String, IpAddr)]) -> String {
    unimplemented!()
}

/// Joins an existing process's namespace fd: /proc/PID/ns/net.
#[allow(unused_variables)]
pub fn netns_of(pid: i32) -> Result<OwnedFd, Error> {
    unimplemented!()
}

/// Removes host-side leftovers of ours: `rc*` links whose peer is gone and are not in `live` (host link names), and port elements not in `published`. Returns what it removed.
#[allow(unused_variables)]
pub fn sweep(live: &[String], published: &[(Ipv4Addr, PublishedPort)]) -> Result<Vec<String>, Error> {
    unimplemented!()
}

#[allow(unused_variables)]
fn _unused(_: BorrowedFd<'_>) {}
