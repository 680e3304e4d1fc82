//! `-p/--publish` and `--expose`: port grammars of Docker's command line.
//!
//! Short form `[ip:][host]:container[/protocol]` or `container[/protocol]`, where host and container may be
//! ranges; long form `target=80,published=8080,protocol=tcp`.

use super::FlagError;
use crate::state::record::{PortMapping, Protocol};
use std::net::IpAddr;

const PUBLISH: &str = "--publish";
const EXPOSE: &str = "--expose";

/// The publications that one `-p` value asks for (several for a range).
///
/// # Errors
/// The value does not follow the grammar, or asks for SCTP.
pub fn parse_publish(text: &str) -> Result<Vec<PortMapping>, FlagError> {
    let wrong = |reason: String| FlagError::new(PUBLISH, text, reason);
    if text.contains('=') {
        return parse_long(text).map_err(wrong);
    }
    let (address, protocol) = split_protocol(text).map_err(wrong)?;
    let (ip, host, container) = split_address(address).map_err(wrong)?;
    let container = parse_range(container).map_err(wrong)?;
    expand(ip, parse_host(host).map_err(wrong)?, container, protocol).map_err(wrong)
}

/// The exposed ports (`80/tcp`) of one `--expose` value.
///
/// # Errors
/// The value is not a port or a range with an optional protocol.
pub fn parse_expose(text: &str) -> Result<Vec<String>, FlagError> {
    let wrong = |reason: String| FlagError::new(EXPOSE, text, reason);
    let (ports, protocol) = split_protocol(text).map_err(wrong)?;
    let (first, last) = parse_range(ports).map_err(wrong)?;
    Ok((first..=last).map(|port| format!("{port}/{}", name(protocol))).collect())
}

/// `tcp`, `udp` or `sctp`.
pub fn name(protocol: Protocol) -> &'static str {
    protocol.name()
}

fn parse_long(text: &str) -> Result<Vec<PortMapping>, String> {
    let (mut target, mut published, mut protocol, mut ip) = (None, None, Protocol::Tcp, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("\"{field}\" is not key=value"))?;
        match key {
            "target" => target = Some(parse_range(value)?),
            "published" => published = parse_host(value)?,
            "protocol" => protocol = parse_protocol(value)?,
            "host_ip" | "host-ip" | "ip" => ip = Some(parse_ip(value)?),
            // Without a swarm every publication is on this host.
            "mode" if value == "host" || value == "ingress" => {}
            _ => return Err(format!("unknown key \"{key}\": expected target, published, protocol or host_ip")),
        }
    }
    let target = target.ok_or("target= is missing")?;
    expand(ip, published, target, protocol)
}

fn expand(ip: Option<IpAddr>, host: Option<(u16, u16)>, container: (u16, u16), protocol: Protocol) -> Result<Vec<PortMapping>, String> {
    let count = container.1 - container.0;
    let mapping = |host_ports, container_port| PortMapping { host_ip: ip, host_ports, container_port, protocol };
    match host {
        None => Ok((container.0..=container.1).map(|port| mapping(None, port)).collect()),
        Some(range) if count == 0 => Ok(vec![mapping(Some(range), container.0)]),
        Some((first, last)) if last - first == count => Ok((0..=count).map(|i| mapping(Some((first + i, first + i)), container.0 + i)).collect()),
        Some(_) => Err("the ranges of host and container ports differ in length".to_owned()),
    }
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, protocol)) => Ok((rest, parse_protocol(protocol)?)),
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    Protocol::named(&text.to_ascii_lowercase()).ok_or_else(|| format!("unknown protocol \"{text}\": expected tcp, udp or sctp"))
}

/// (address, host part, container part) of the short form without its protocol.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, ports) = rest.split_once("]:").ok_or("an IPv6 address must be written as [address]:host:container")?;
        let (host, container) = ports.split_once(':').ok_or("no container port after the address")?;
        return Ok((Some(parse_ip(ip)?), host, container));
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [container] => Ok((None, "", container)),
        [host, container] => Ok((None, host, container)),
        ["", host, container] => Ok((None, host, container)),
        [ip, host, container] => Ok((Some(parse_ip(ip)?), host, container)),
        _ => Err("too many colons; an IPv6 address must be in brackets".to_owned()),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| format!("\"{text}\" is not an IP address"))
}

/// The ports of the host; None: any free one, which 0 asks for as nothing does.
fn parse_host(text: &str) -> Result<Option<(u16, u16)>, String> {
    if text.is_empty() || text == "0" { Ok(None) } else { parse_range(text).map(Some) }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ if text.is_empty() => Err("the container port is missing".to_owned()),
        _ => Err(format!("\"{text}\" is not a port (1-65535)")),
    };
    let Some((first, last)) = text.split_once('-') else { return port(text).map(|port| (port, port)) };
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok((first, last)) } else { Err(format!("the range {text} runs backwards")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let one = |m: &PortMapping| {
            let ip = m.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            let host = m.host_ports.map_or("?".to_owned(), |(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
            format!("{ip} {host} {}/{}", m.container_port, name(m.protocol))
        };
        parse_publish(text).map_or_else(|_| "error".to_owned(), |all| all.iter().map(one).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn publish_grammar() {
        for (text, expected) in [
            ("80", "* ? 80/tcp"),
            ("8080:80", "* 8080 80/tcp"),
            (":80", "* ? 80/tcp"),
            ("0:80", "* ? 80/tcp"),
            ("127.0.0.1:0:80/udp", "127.0.0.1 ? 80/udp"),
            ("target=80,published=0", "* ? 80/tcp"),
            ("8080:80/udp", "* 8080 80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1 8080 80/tcp"),
            ("127.0.0.1::80", "127.0.0.1 ? 80/tcp"),
            ("[::1]:8080:80", "::1 8080 80/tcp"),
            ("[::1]::80/UDP", "::1 ? 80/udp"),
            ("8000-8001:80-81", "* 8000 80/tcp; * 8001 81/tcp"),
            ("8000-8010:80", "* 8000-8010 80/tcp"),
            ("80-81/udp", "* ? 80/udp; * ? 81/udp"),
            ("target=80,published=8080", "* 8080 80/tcp"),
            ("published=53,target=53,protocol=udp", "* 53 53/udp"),
            ("65535:65535", "* 65535 65535/tcp"),
            ("3868:3868/SCTP", "* 3868 3868/sctp"),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
        for bad in [
            "",
            "x",
            "80:0",
            "0-1:80-81",
            "80:",
            "70000:80",
            "1:2:3:4",
            "::1:80:80",
            "80/x",
            "8000-8002:80-81",
            "90-80",
            "published=80",
            "target=80,x=1",
            "300.0.0.1:1:1",
            "-80",
        ] {
            assert_eq!(show(bad), "error", "{bad}");
        }
        assert!(parse_publish("80/dccp").unwrap_err().to_string().contains("dccp"));
    }

    #[test]
    fn expose_grammar() {
        assert_eq!(parse_expose("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(parse_expose("8080:80").is_err());
    }
}
