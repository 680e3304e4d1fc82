//! `--add-host name:ip`, `name=ip`, `name:[v6]`, and the value `host-gateway`.

use super::FlagError;
use std::net::IpAddr;

/// Parses one `--add-host` value into (name, address or `host-gateway`).
///
/// # Errors
/// No name or no address.
pub fn parse(text: &str) -> Result<(String, String), FlagError> {
    let wrong = |reason: &str| FlagError::new("--add-host", text, reason);
    // The first separator counts, so that an IPv6 address may follow without brackets.
    let at = text.find(['=', ':']).ok_or_else(|| wrong("expected name:address"))?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong("the host name is missing or contains blanks"));
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), address.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let ip: IpAddr = bare.parse().map_err(|_| wrong("the address is not an IP address or host-gateway"))?;
    Ok((name.to_owned(), ip.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_host_grammar() {
        for (text, name, ip) in [
            ("a:1.2.3.4", "a", "1.2.3.4"),
            ("a=::1", "a", "::1"),
            ("a:[fe80::1]", "a", "fe80::1"),
            ("a:::1", "a", "::1"),
            ("h:host-gateway", "h", "host-gateway"),
        ] {
            assert_eq!(parse(text), Ok((name.to_owned(), ip.to_owned())), "{text}");
        }
        for bad in ["", "a", ":1.2.3.4", "a:", "a:x", "a b:1.2.3.4"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
