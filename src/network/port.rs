//! Published ports: holding them on the host, and the elements that redirect them.
//!
//! Invariant: a held port is a bound socket that never listens, so that no program can take the port and
//! none of its packets is answered here: the redirection comes before local delivery.

use super::HeldPort;
use super::bridge::{is_missing, netfilter_socket};
use super::conntrack;
use super::error::{Context, Error};
use super::firewall::{self, Element};
use crate::state::record::{PortMapping, Protocol, PublishedPort};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

/// Takes host ports for the mappings: binds one socket each (first free port of a range, an ephemeral one
/// for none), all or none.
///
/// # Errors
/// A taken port, with the process that holds it if that can be found; an IPv6 host address.
pub fn hold_ports(mappings: &[PortMapping]) -> Result<Vec<HeldPort>, Error> {
    mappings.iter().map(hold).collect()
}

fn hold(mapping: &PortMapping) -> Result<HeldPort, Error> {
    let address = match mapping.host_ip {
        None => Ipv4Addr::UNSPECIFIED,
        Some(IpAddr::V4(address)) => address,
        Some(address @ IpAddr::V6(_)) => return Err(Error::Ipv6Publication(address)),
    };
    let (first, last) = mapping.host_ports.unwrap_or((0, 0));
    for port in first..=last {
        match bind(address, port, mapping.protocol) {
            Ok((socket, host_port)) => {
                let port = PublishedPort { host_ip: mapping.host_ip, host_port, container_port: mapping.container_port, protocol: mapping.protocol };
                return Ok(HeldPort { port, socket });
            }
            Err(Errno::ADDRINUSE) => {}
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
    mapping.host_ip.map_or_else(|| ports.clone(), |ip| format!("{ip}:{ports}"))
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// No SO_REUSEADDR: two bound sockets that do not listen would share the port.
fn bind(address: Ipv4Addr, port: u16, protocol: Protocol) -> Result<(OwnedFd, u16), Errno> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

/// The program and pid that hold a port, for the error text; looked for only then.
fn holder(port: u16, protocol: Protocol) -> Option<(String, i32)> {
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
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

fn elements(address: Ipv4Addr, ports: &[PublishedPort]) -> Result<Vec<Element>, Error> {
    let element =
        |port: &PublishedPort| Element::new(address, port).ok_or_else(|| Error::Ipv6Publication(port.host_ip.unwrap_or(IpAddr::V4(address))));
    ports.iter().map(element).collect()
}

/// Adds the port elements for a container address in one transaction (idempotent; one that redirects
/// elsewhere is replaced). UDP flows that the host tracked before the port was published are forgotten,
/// else their packets would go on missing the container.
///
/// # Errors
/// The table is missing (see [`super::ensure`]) or the kernel refuses.
pub fn publish(address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let socket = netfilter_socket()?;
    firewall::add(socket.as_fd(), &elements(address, ports)?).on("publish ports of", &address.to_string())?;
    conntrack::forget_untranslated(socket.as_fd(), ports).on("flush connection tracking of", &address.to_string())
}

/// Removes them and forgets the UDP flows they redirected; missing ones are fine.
///
/// # Errors
/// The kernel refuses.
pub fn unpublish(address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let socket = netfilter_socket()?;
    match firewall::remove(socket.as_fd(), &elements(address, ports)?) {
        Err(error) if is_missing(&error) => {}
        other => other.on("unpublish ports of", &address.to_string())?,
    }
    conntrack::forget_redirected(socket.as_fd(), address, ports).on("flush connection tracking of", &address.to_string())
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
    fn a_taken_port_names_its_holder_and_ipv6_is_refused() {
        let mapping = |host_ip: &str, host_ports| PortMapping {
            host_ip: Some(host_ip.parse().expect("invariant: literal")),
            host_ports,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let Err(error) = hold_ports(&[mapping("127.0.0.1", Some((port, port)))]) else { panic!("held a taken port") };
        let text = error.to_string();
        assert!(text.starts_with(&format!("port 127.0.0.1:{port}/tcp is already in use by ")), "{text}");
        assert!(text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
        let held = hold_ports(&[mapping("127.0.0.1", Some((port, port.saturating_add(20)))), mapping("127.0.0.1", None)]).expect("free ports");
        assert!(held[0].port.host_port > port && held[1].port.host_port != 0);
        assert!(std::net::TcpListener::bind(("127.0.0.1", held[0].port.host_port)).is_err());
        let Err(error) = hold_ports(&[mapping("::1", None)]) else { panic!("IPv6 held") };
        assert!(error.to_string().contains("::1"));
    }
}
