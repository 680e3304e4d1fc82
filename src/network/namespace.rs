//! Network namespaces of containers, and kernel parameters, which belong to a namespace.

use super::Netns;
use super::error::{Context, Error};
use super::link;
use crate::base::fs;
use crate::sys::netlink::{self, Family};
use crate::sys::netns;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(super) fn route_socket() -> Result<OwnedFd, Error> {
    netlink::open(Family::Route).on("open", "routing netlink")
}

pub(super) fn netfilter_socket() -> Result<OwnedFd, Error> {
    netlink::open(Family::Netfilter).on("open", "netfilter netlink")
}

/// Creates a network namespace on a throw-away thread and brings `lo` up; low ports and ping need no
/// privilege inside, and interfaces that come later have no IPv6 unless their network has (a container must not learn
/// addresses from router advertisements).
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
    let socket = inside(fd.as_fd(), prepare)??;
    Ok(Netns { fd, socket })
}

/// A namespace that is in use, as it is: to connect it to a network, or take it off one.
///
/// # Errors
/// It cannot be entered.
pub fn enter_netns(fd: OwnedFd) -> Result<Netns, Error> {
    let socket = inside(fd.as_fd(), route_socket)??;
    Ok(Netns { fd, socket })
}

/// Runs `work` on a throw-away thread in the namespace.
pub(super) fn inside<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    netns::inside(fd, work).map_err(|source| Error::Namespace { operation: "enter a", source })
}

/// The network namespace of a process.
///
/// # Errors
/// There is no such process, or it may not be looked at.
pub fn netns_of(pid: i32) -> Result<OwnedFd, Error> {
    rustix::fs::open(format!("/proc/{pid}/ns/net"), rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| Error::NoProcess { pid, source: e.into() })
}

/// In a fresh namespace: loopback up, no IPv6 for what comes later. Returns a routing socket of it.
fn prepare() -> Result<OwnedFd, Error> {
    let socket = route_socket()?;
    link::set_up(socket.as_fd(), link::LOOPBACK).on("bring up", "lo")?;
    set_ipv6("default", "disable_ipv6", "1")?;
    Ok(socket)
}

fn path(parameter: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(parameter)
}

/// Writes a kernel parameter of the calling thread's network namespace (`/proc/sys/net` follows the opener).
pub(super) fn set(parameter: &str, value: &str) -> Result<(), Error> {
    fs::write(&path(parameter), value.as_bytes()).map_err(Error::Parameter)
}

pub(super) fn read(parameter: &str) -> Result<String, Error> {
    fs::read(&path(parameter)).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).map_err(Error::Parameter)
}

/// Whether there is a device of that name: its parameters are a directory.
pub(super) fn knows(device: &str) -> bool {
    path("net/ipv4/conf").join(device).is_dir()
}

/// A parameter of an interface; a kernel without IPv6 has none of IPv6.
pub(super) fn set_ipv6(interface: &str, parameter: &str, value: &str) -> Result<(), Error> {
    match set(&format!("net/ipv6/conf/{interface}/{parameter}"), value) {
        Err(Error::Parameter(error)) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// IPv6 on an interface with the addresses that it is given and no others: none from router advertisements, and none is asked
/// for before it is used.
pub(super) fn enable_ipv6(interface: &str) -> Result<(), Error> {
    if !has_ipv6() {
        return Err(Error::NoIpv6);
    }
    [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")].iter().try_for_each(|(parameter, value)| set_ipv6(interface, parameter, value))
}

fn has_ipv6() -> bool {
    path("net/ipv6/conf").is_dir()
}

/// Received and sent bytes of all interfaces but loopback inside a process's network namespace: (rx, tx).
pub fn traffic(pid: i32) -> Option<(u64, u64)> {
    parse_traffic(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

fn parse_traffic(text: &str) -> Option<(u64, u64)> {
    let interfaces = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let counted = interfaces.filter_map(|(_, numbers)| {
        let numbers: Vec<&str> = numbers.split_ascii_whitespace().collect();
        Some((numbers.first()?.parse::<u64>().ok()?, numbers.get(8)?.parse::<u64>().ok()?))
    });
    counted.reduce(|a, b| (a.0.saturating_add(b.0), a.1.saturating_add(b.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_reads_received_and_sent() {
        let text =
            "Inter-|   Receive  |  Transmit\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 1234 5 0 0 0 0 0 0 5678 9 0 0 0 0 0 0\n";
        assert_eq!(parse_traffic(text), Some((1234, 5678)));
        assert_eq!(parse_traffic(&format!("{text}  eth1: 1 5 0 0 0 0 0 0 2 9 0 0 0 0 0 0\n")), Some((1235, 5680)));
        assert_eq!(parse_traffic("lo: 1"), None);
    }
}
