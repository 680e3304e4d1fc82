//! Network addresses: what a prefix covers, and MAC addresses as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bits of an IPv4 network.
pub fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0)
}

/// The bits of an IPv6 network.
pub fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128u32.saturating_sub(prefix.into())).unwrap_or(0)
}

/// The network that an address is of.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & mask4(prefix)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask6(prefix)).into(),
    }
}

/// Why a text is no MAC address of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    #[error("expected six octets like 02:42:ac:11:00:02")]
    Form,
    #[error("it is a multicast address")]
    Multicast,
}

/// Six octets in hexadecimal, with colons or dashes.
///
/// # Errors
/// Another form, or an address of a group.
pub fn parse_mac(text: &str) -> Result<[u8; 6], MacError> {
    let mut octets = [0; 6];
    let mut parts = text.split([':', '-']);
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())).ok_or(MacError::Form)?;
        *octet = u8::from_str_radix(part, 16).map_err(|_| MacError::Form)?;
    }
    if parts.next().is_some() {
        return Err(MacError::Form);
    }
    // The lowest bit of the first octet marks a group.
    if octets[0] & 1 == 0 { Ok(octets) } else { Err(MacError::Multicast) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_unicast() {
        assert_eq!(parse_mac("02:42:ac:11:00:02"), Ok([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(parse_mac("02-42-AC-11-00-02"), Ok([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:zz", "2:42:ac:11:0:2", "02:42:ac:11:00:+2"] {
            assert_eq!(parse_mac(bad), Err(MacError::Form), "{bad}");
        }
        assert_eq!(parse_mac("01:00:5e:00:00:01"), Err(MacError::Multicast));
    }

    #[test]
    fn prefixes_cover() {
        for (address, prefix, network) in [
            ("10.1.2.3", 16, "10.1.0.0"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("10.1.2.3", 32, "10.1.2.3"),
            ("fd00::1:2", 64, "fd00::"),
            ("fd00::1:2", 0, "::"),
            ("fd00::1:2", 128, "fd00::1:2"),
        ] {
            assert_eq!(masked(address.parse().unwrap(), prefix), network.parse::<IpAddr>().unwrap(), "{address}/{prefix}");
        }
    }
}
