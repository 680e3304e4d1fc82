//! Published ports: holding them on the host, and the elements that redirect them.
//!
//! Invariant: a held port is a bound socket that never listens, so that no program can take the port and
//! none of its packets is answered here: the redirection comes before local delivery.

use super::bridge::is_missing;
use super::conntrack;
use super::error::{Context, Error};
use super::firewall;
use super::namespace::netfilter_socket;
use super::nftables::{Element, Family};
use super::rules::{self, protocol_number};
use super::{Addresses, HeldPort};
use crate::state::record::{PortMapping, Protocol, PublishedPort};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Takes host ports for the mappings: binds one socket each (first free port of a range, an ephemeral one
/// for none), all or none. `ipv6`: the container will have an IPv6 address, so that a mapping without a host address is for
/// both families.
///
/// # Errors
/// A taken port, with the process that holds it if that can be found; a host address that leads to no container's.
pub fn hold_ports(mappings: &[PortMapping], ipv6: bool) -> Result<Vec<HeldPort>, Error> {
    mappings.iter().map(|mapping| hold(mapping, ipv6)).collect()
}

fn hold(mapping: &PortMapping, ipv6: bool) -> Result<HeldPort, Error> {
    let address = match mapping.host_ip {
        None if ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        None => Ipv4Addr::UNSPECIFIED.into(),
        Some(address) => address,
    };
    let described = || mapping.host_ports.map_or_else(|| shown(mapping, 0, 0), |(first, last)| shown(mapping, first, last));
    if address == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        return Err(Error::Ipv6Loopback { port: described(), protocol: name(mapping.protocol) });
    }
    if address.is_ipv6() && !ipv6 {
        return Err(Error::NoTarget { port: described(), protocol: name(mapping.protocol), family: "IPv6" });
    }
    let (first, last) = mapping.host_ports.unwrap_or((0, 0));
    for port in first..=last {
        match bind(address, mapping.host_ip.is_none(), port, mapping.protocol) {
            Ok((socket, host_port)) => {
                let port = PublishedPort { host_ip: mapping.host_ip, host_port, container_port: mapping.container_port, protocol: mapping.protocol };
                return Ok(HeldPort { port, socket });
            }
            Err(Errno::ADDRINUSE) => {}
            Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if mapping.protocol == Protocol::Sctp => {
                return Err(Error::NoSctp { port: shown(mapping, port, port) });
            }
            Err(source) => return Err(Error::Bind { port: shown(mapping, port, port), protocol: name(mapping.protocol), source }),
        }
    }
    let holder = if first == last { holder(first, mapping.protocol) } else { None };
    Err(Error::PortTaken {
        port: shown(mapping, first, last),
        protocol: name(mapping.protocol),
        holder: holder.map(|(program, pid)| format!(" by {program} (pid {pid})")).unwrap_or_default(),
    })
}

fn shown(mapping: &PortMapping, first: u16, last: u16) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match mapping.host_ip {
        None => ports,
        Some(IpAddr::V4(ip)) => format!("{ip}:{ports}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{ports}"),
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// No SO_REUSEADDR: two bound sockets that do not listen would share the port. `both`: an IPv6 socket holds the port of IPv4
/// as well.
fn bind(address: IpAddr, both: bool, port: u16, protocol: Protocol) -> Result<(OwnedFd, u16), Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !both)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

/// Copies of the sockets with which a process holds these ports; those that it does not hold are left out. Whoever is not
/// allowed to look gets none.
pub fn copies_of(process: BorrowedFd<'_>, pid: i32, ports: &[PublishedPort]) -> Vec<HeldPort> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets = open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:")));
    let copies = sockets.filter_map(|fd| {
        let number = fd.file_name().to_str()?.parse().ok()?;
        let socket = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()?;
        let bound = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
        let protocol = sockopt::socket_protocol(&socket).ok()??.as_raw().get();
        let holds = |port: &&PublishedPort| {
            let there = port.host_ip.map_or(bound.ip().is_unspecified(), |address| address == bound.ip());
            there && port.host_port == bound.port() && protocol == u32::from(protocol_number(port.protocol))
        };
        ports.iter().find(holds).map(|port| HeldPort { port: port.clone(), socket })
    });
    copies.collect()
}

/// The program and pid that hold a port, for the error text; looked for only then.
fn holder(port: u16, protocol: Protocol) -> Option<(String, i32)> {
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        // Its file has another form, and says less.
        Protocol::Sctp => return None,
    };
    let inode = files.iter().find_map(|file| {
        // Not /proc/net, which is that of the process's first thread.
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
        inode_of(&text, port)
    })?;
    let wanted = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())).then_some(())?;
        let program = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((program.trim_end().to_owned(), pid))
    })
}

/// The inode of the socket bound to a local port in the text of `/proc/net/tcp` or `/proc/net/udp`.
fn inode_of(text: &str, port: u16) -> Option<u64> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        // 0A is LISTEN, 07 an unconnected UDP socket.
        let held = matches!(*fields.get(3)?, "0A" | "07") && u16::from_str_radix(local, 16).ok()? == port;
        held.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

/// The element of a publication in the table of that family.
pub(super) fn elements(targets: Addresses, port: &PublishedPort, family: Family) -> Option<Element> {
    let target: IpAddr = match family {
        Family::V4 => targets.ipv4?.into(),
        Family::V6 => targets.ipv6?.into(),
    };
    port.host_ip.is_none_or(|ip| Family::of(ip) == family).then(|| rules::of_port(target, port))
}

/// Whether a publication can lead there: an address of its family is there.
pub fn leads(targets: Addresses, port: &PublishedPort) -> bool {
    [Family::V4, Family::V6].into_iter().any(|family| elements(targets, port, family).is_some())
}

/// Elements of both tables.
fn all_elements(targets: Addresses, ports: &[PublishedPort]) -> [(Family, Vec<Element>); 2] {
    [Family::V4, Family::V6].map(|family| (family, ports.iter().filter_map(|port| elements(targets, port, family)).collect()))
}

/// Adds the port elements for a container's addresses in one transaction a family (idempotent; one that redirects
/// elsewhere is replaced). UDP flows that the host tracked before the port was published are forgotten,
/// else their packets would go on missing the container.
///
/// # Errors
/// The table is missing (see [`super::ensure`]) or the kernel refuses; the container has no address of the family of a port.
pub fn publish(targets: Addresses, ports: &[PublishedPort]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    for port in ports {
        if !leads(targets, port) {
            let family = if port.host_ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
            return Err(Error::NoTarget { port: port.host_port.to_string(), protocol: name(port.protocol), family });
        }
    }
    let socket = netfilter_socket()?;
    for (family, elements) in all_elements(targets, ports) {
        firewall::add(socket.as_fd(), family, &elements).on("publish ports of", &targets.to_string())?;
    }
    conntrack::forget_untranslated(socket.as_fd(), ports).on("flush connection tracking of", &targets.to_string())
}

/// Removes them and forgets the UDP flows they redirected; missing ones are fine.
///
/// # Errors
/// The kernel refuses.
pub fn unpublish(targets: Addresses, ports: &[PublishedPort]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let socket = netfilter_socket()?;
    for (family, elements) in all_elements(targets, ports) {
        match firewall::remove(socket.as_fd(), family, &elements) {
            Err(error) if is_missing(&error) => {}
            other => other.on("unpublish ports of", &targets.to_string())?,
        }
    }
    conntrack::forget_redirected(socket.as_fd(), targets, ports).on("flush connection tracking of", &targets.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inode_of_a_listening_port_is_found() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   1: 0100007F:0050 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 7 1\n";
        assert_eq!(inode_of(text, 8080), Some(4242));
        assert_eq!(inode_of(text, 80), None);
    }

    #[test]
    fn a_taken_port_names_its_holder_and_families_are_told_apart() {
        let mapping = |host_ip: &str, host_ports| PortMapping {
            host_ip: Some(host_ip.parse().expect("invariant: literal")),
            host_ports,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let Err(error) = hold_ports(&[mapping("127.0.0.1", Some((port, port)))], false) else { panic!("held a taken port") };
        let text = error.to_string();
        assert!(text.starts_with(&format!("port 127.0.0.1:{port}/tcp is already in use by ")), "{text}");
        assert!(text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
        let held = hold_ports(&[mapping("127.0.0.1", Some((port, port.saturating_add(20)))), mapping("127.0.0.1", None)], false).expect("free ports");
        assert!(held[0].port.host_port > port && held[1].port.host_port != 0);
        assert!(std::net::TcpListener::bind(("127.0.0.1", held[0].port.host_port)).is_err());
        let own = i32::try_from(std::process::id()).expect("a pid");
        let process = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).expect("ourselves");
        let other = PublishedPort { protocol: Protocol::Udp, ..held[0].port.clone() };
        let copies = copies_of(process.as_fd(), own, &[held[0].port.clone(), other]);
        assert_eq!(copies.iter().map(|copy| &copy.port).collect::<Vec<_>>(), [&held[0].port]);
        for (address, ipv6, text) in [
            ("::1", true, "cannot publish port [::1]:80/tcp: the kernel does not redirect the IPv6 loopback address"),
            ("fd00::1", false, "cannot publish port [fd00::1]:80/tcp: the container has no IPv6 address on its networks"),
        ] {
            let Err(error) = hold_ports(&[mapping(address, Some((80, 80)))], ipv6) else { panic!("{address} held") };
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_port_of_both_families_is_held_by_one_socket() {
        let mapping = PortMapping { host_ip: None, host_ports: None, container_port: 80, protocol: Protocol::Tcp };
        let held = hold_ports(std::slice::from_ref(&mapping), true).expect("a free port");
        let port = held[0].port.host_port;
        assert!(std::net::TcpListener::bind(("0.0.0.0", port)).is_err() && std::net::TcpListener::bind(("::", port)).is_err());
        let process = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).expect("ourselves");
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(copies_of(process.as_fd(), own, &[held[0].port.clone()]).len(), 1);
        let sctp = PortMapping { protocol: Protocol::Sctp, host_ports: Some((80, 80)), ..mapping };
        match hold_ports(&[sctp], false) {
            Ok(held) => assert_eq!(held[0].port.protocol, Protocol::Sctp),
            Err(error) => assert_eq!(error.to_string(), "cannot publish port 80/sctp: this kernel has no SCTP"),
        }
    }
}
