//! What `EXPOSE` says about ports.

/// `80`, `80/udp`, `8000-8002/tcp` as keys of `ExposedPorts`; an address and a port of the host in front, which mean
/// nothing in an image, are left out.
pub fn exposed_ports(word: &str) -> Option<Vec<String>> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let ports = ports.rsplit_once(':').map_or(ports, |(_, container)| container);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    if !ports.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return None;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok().filter(|port| *port > 0)?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::exposed_ports;

    #[test]
    fn ports_ranges_and_protocols() {
        for (word, expected) in [
            ("80", "80/tcp"),
            ("80/UDP", "80/udp"),
            ("8000-8002/sctp", "8000/sctp 8001/sctp 8002/sctp"),
            ("127.0.0.1:8080:80", "80/tcp"),
            ("[::1]:8080:80/udp", "80/udp"),
        ] {
            assert_eq!(exposed_ports(word).map(|ports| ports.join(" ")).as_deref(), Some(expected), "{word}");
        }
        for bad in ["", "0", "65536", "80/icmp", "81-80", "-", "a", "80/", "+80"] {
            assert_eq!(exposed_ports(bad), None, "{bad}");
        }
    }
}
