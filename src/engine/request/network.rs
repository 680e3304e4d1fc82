//! `--network`, `--mac-address`, `--dns`: how a container joins the network.

use super::FlagError;
use crate::state::record::NetworkMode;
use std::net::IpAddr;

const FLAG: &str = "--network";

/// Parses one `--network` value: the mode, and the MAC address of the long form.
///
/// # Errors
/// A user-defined network or an unknown option: neither is supported here, and both are named.
pub fn parse(text: &str) -> Result<(NetworkMode, Option<String>), FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    if !text.contains('=') {
        return Ok((mode(text).map_err(wrong)?, None));
    }
    let (mut name, mut mac) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("name", value)) => name = Some(mode(value).map_err(wrong)?),
            Some(("mac-address", value)) => mac = Some(parse_mac(value).map_err(|e| wrong(e.reason))?),
            Some((key @ ("alias" | "ip" | "ip6" | "link-local-ip" | "driver-opt" | "gw-priority"), _)) => {
                return Err(wrong(format!("the option {key} is only for user-defined networks, which are not supported")));
            }
            _ => return Err(wrong(format!("unknown option \"{field}\""))),
        }
    }
    Ok((name.ok_or_else(|| wrong("name= is missing".to_owned()))?, mac))
}

fn mode(text: &str) -> Result<NetworkMode, String> {
    match text {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ => match text.strip_prefix("container:") {
            Some("") => Err("the container is missing after \"container:\"".to_owned()),
            Some(container) => Ok(NetworkMode::Container(container.to_owned())),
            None => Err("user-defined networks are not supported; use bridge, host, none or container:NAME".to_owned()),
        },
    }
}

/// The mode as the user types it.
pub fn name(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(name) => format!("container:{name}"),
    }
}

/// A unicast MAC address in lower case with colons.
///
/// # Errors
/// Not six octets in hexadecimal, or a multicast address.
pub fn parse_mac(text: &str) -> Result<String, FlagError> {
    let wrong = |reason: &str| FlagError::new("--mac-address", text, reason);
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let octets: Option<Vec<u8>> = parts.iter().map(|part| if part.len() == 2 { u8::from_str_radix(part, 16).ok() } else { None }).collect();
    match octets {
        Some(octets) if octets.len() == 6 && octets[0] & 1 == 0 => Ok(octets.iter().map(|o| format!("{o:02x}")).collect::<Vec<_>>().join(":")),
        Some(octets) if octets.len() == 6 => Err(wrong("it is a multicast address")),
        _ => Err(wrong("expected six octets like 02:42:ac:11:00:02")),
    }
}

/// The address of a name server.
///
/// # Errors
/// Not an IP address.
pub fn parse_dns(text: &str) -> Result<String, FlagError> {
    text.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| FlagError::new("--dns", text, "it is not an IP address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_grammar() {
        for (text, mode) in [
            ("bridge", NetworkMode::Bridge),
            ("default", NetworkMode::Bridge),
            ("host", NetworkMode::Host),
            ("none", NetworkMode::None),
            ("container:web", NetworkMode::Container("web".into())),
            ("name=host", NetworkMode::Host),
        ] {
            assert_eq!(parse(text), Ok((mode, None)), "{text}");
        }
        assert_eq!(parse("name=bridge,mac-address=02:42:AC:11:00:02"), Ok((NetworkMode::Bridge, Some("02:42:ac:11:00:02".into()))));
        for bad in ["", "mynet", "container:", "name=bridge,ip=1.2.3.4", "name=mynet", "mac-address=02:42:ac:11:00:02", "name=bridge,x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for bad in ["", "02:42", "01:00:00:00:00:00", "02:42:ac:11:00:zz", "2:42:ac:11:00:02"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
        assert!(parse_dns("1.1.1.1").is_ok() && parse_dns("2606:4700::1111").is_ok() && parse_dns("dns").is_err());
    }
}
