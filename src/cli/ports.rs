//! The PORTS column: published and exposed ports, consecutive ones merged into ranges.

use crate::engine::request::port::name;
use crate::state::record::{Protocol, PublishedPort};
use std::net::IpAddr;

/// One run of consecutive ports.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    ip: Option<IpAddr>,
    /// First host port; None when only exposed.
    host: Option<u16>,
    first: u16,
    last: u16,
    protocol: Protocol,
}

/// `0.0.0.0:80->80/tcp, 443/tcp`: published ports by address, then exposed ones that are not published.
pub fn column(published: &[PublishedPort], exposed: &[String]) -> String {
    let mut single: Vec<Run> = Vec::new();
    for port in published {
        let run =
            Run { ip: port.host_ip, host: Some(port.host_port), first: port.container_port, last: port.container_port, protocol: port.protocol };
        single.push(run);
    }
    for (port, protocol) in exposed.iter().filter_map(|text| parse(text)) {
        if !published.iter().any(|p| p.container_port == port && p.protocol == protocol) {
            single.push(Run { ip: None, host: None, first: port, last: port, protocol });
        }
    }
    single.sort_by_key(|run| (run.host.is_none(), run.protocol, run.ip, run.first, run.host));
    let mut runs: Vec<Run> = Vec::new();
    for port in single {
        match runs.last_mut() {
            Some(run) if follows(run, &port) => run.last = port.first,
            _ => runs.push(port),
        }
    }
    runs.sort_by_key(|run| (run.first, run.protocol));
    runs.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// An address as part of `address:port`.
pub fn address(ip: Option<IpAddr>) -> String {
    match ip {
        None => "0.0.0.0".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
    }
}

fn parse(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, Protocol::named(protocol)?))
}

fn follows(run: &Run, next: &Run) -> bool {
    let step = next.first.checked_sub(run.first);
    run.protocol == next.protocol
        && run.ip == next.ip
        && run.last.checked_add(1) == Some(next.first)
        && match (run.host, next.host) {
            (None, None) => true,
            (Some(host), Some(next)) => step.and_then(|step| host.checked_add(step)) == Some(next),
            _ => false,
        }
}

fn show(run: &Run) -> String {
    let range = |first: u16, length: u16| if length == 0 { first.to_string() } else { format!("{first}-{}", first + length) };
    let length = run.last - run.first;
    let container = format!("{}/{}", range(run.first, length), name(run.protocol));
    match run.host {
        None => container,
        Some(host) => format!("{}:{}->{container}", address(run.ip), range(host, length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: Option<&str>, host_port: u16, container_port: u16, protocol: Protocol) -> PublishedPort {
        PublishedPort { host_ip: ip.map(|ip| ip.parse().unwrap()), host_port, container_port, protocol }
    }

    #[test]
    fn ranges_are_merged() {
        use Protocol::{Tcp, Udp};
        let lo = Some("127.0.0.1");
        for (published, exposed, text) in [
            (vec![], vec![], ""),
            (vec![port(None, 8080, 80, Tcp)], vec!["80/tcp", "443/tcp"], "0.0.0.0:8080->80/tcp, 443/tcp"),
            (vec![port(None, 8001, 81, Tcp), port(None, 8000, 80, Tcp), port(None, 8002, 82, Tcp)], vec![], "0.0.0.0:8000-8002->80-82/tcp"),
            (vec![port(None, 8000, 80, Tcp), port(None, 9000, 81, Tcp)], vec![], "0.0.0.0:8000->80/tcp, 0.0.0.0:9000->81/tcp"),
            (vec![port(lo, 53, 53, Udp), port(lo, 53, 53, Tcp)], vec![], "127.0.0.1:53->53/tcp, 127.0.0.1:53->53/udp"),
            (vec![port(Some("::1"), 80, 80, Tcp)], vec![], "[::1]:80->80/tcp"),
            (vec![], vec!["82/tcp", "80/tcp", "81/tcp", "81/udp"], "80-82/tcp, 81/udp"),
            (vec![port(None, 65535, 65535, Tcp)], vec!["65534/tcp"], "65534/tcp, 0.0.0.0:65535->65535/tcp"),
        ] {
            let exposed: Vec<String> = exposed.into_iter().map(str::to_owned).collect();
            assert_eq!(column(&published, &exposed), text);
        }
    }
}
