//! `--network`, `--mac-address`, `--dns`, `--ip`: how a container joins networks.

use super::FlagError;
use crate::base::address;
use crate::engine::network::INTERFACE_NAME;
use crate::state::record::{Attachment, DEFAULT_NETWORK, NetworkMode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FLAG: &str = "--network";

/// What flags beside `--network` say of the first network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    pub mac: Option<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub aliases: Vec<String>,
}

/// Mode and networks; None: only the one that the mode says, with nothing special.
pub type Chosen = (NetworkMode, Option<Vec<Attachment>>);

/// Merges all `--network` values with the flags beside them.
///
/// # Errors
/// A malformed value; modes that exclude each other; a network twice; a flag beside a mode that has no networks, or one that says
/// again what the value says already.
pub fn choose(values: &[String], given: &Given) -> Result<Chosen, FlagError> {
    let mut asked = values.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    if asked.is_empty() {
        asked.push((NetworkMode::Bridge, Attachment { network: DEFAULT_NETWORK.to_owned(), ..Attachment::default() }));
    }
    let wrong = |reason: String| FlagError::new(FLAG, values.last().map_or("", String::as_str), reason);
    let networked = |mode: &NetworkMode| matches!(mode, NetworkMode::Bridge | NetworkMode::Named(_));
    if asked.len() > 1 && !asked.iter().all(|(mode, _)| networked(mode)) {
        return Err(wrong("conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()));
    }
    let twice = asked.iter().enumerate().find(|(at, (_, one))| asked[..*at].iter().any(|(_, before)| before.network == one.network));
    if let Some((_, (_, attachment))) = twice {
        return Err(wrong(format!("network \"{}\" is specified multiple times", attachment.network)));
    }
    let (mode, first) = &mut asked[0];
    apply(first, given)?;
    if !networked(mode) {
        // `--mac-address` beside such a mode is the engine's to refuse, which knows all that may say one.
        let flag = [(first.ipv4.is_some(), "--ip"), (first.ipv6.is_some(), "--ip6"), (!first.aliases.is_empty(), "--network-alias")];
        if let Some((_, flag)) = flag.into_iter().find(|(set, _)| *set) {
            return Err(FlagError::new(flag, &name(mode), "conflicting options: this network mode has no addresses and names of its own"));
        }
        return Ok((mode.clone(), None));
    }
    let mode = mode.clone();
    let attachments: Vec<Attachment> = asked.into_iter().map(|(_, attachment)| attachment).collect();
    let plain = |one: &Attachment| *one == Attachment { network: one.network.clone(), mac: one.mac.clone(), ..Attachment::default() };
    let implied = attachments.len() == 1 && plain(&attachments[0]) && attachments[0].mac == given.mac;
    Ok((mode, if implied { None } else { Some(attachments) }))
}

/// The flags beside `--network` are about its first value.
fn apply(first: &mut Attachment, given: &Given) -> Result<(), FlagError> {
    if let Some(mac) = &given.mac {
        first.mac.get_or_insert_with(|| mac.clone());
    }
    if let Some(address) = given.ipv4
        && first.ipv4.replace(address).is_some()
    {
        return Err(twice("--ip", &address.to_string()));
    }
    if let Some(address) = given.ipv6
        && first.ipv6.replace(address).is_some()
    {
        return Err(twice("--ip6", &address.to_string()));
    }
    if let (Some(alias), true) = (given.aliases.first(), !first.aliases.is_empty()) {
        return Err(twice("--network-alias", alias));
    }
    first.aliases.extend(given.aliases.iter().cloned());
    Ok(())
}

fn twice(flag: &'static str, text: &str) -> FlagError {
    FlagError::new(flag, text, "conflicting options: the value of --network says it, too")
}

/// Parses one `--network` value: a mode or the name of a network, the long form `name=NAME,alias=…,ip=…`, or podman's
/// `NAME:alias=…,ip=…`.
///
/// # Errors
/// An unknown option or a malformed value, by its name.
fn parse(text: &str) -> Result<(NetworkMode, Attachment), FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let mut attachment = Attachment::default();
    let mut mode = None;
    let behind = text.split_once(':').filter(|(before, _)| *before != "container" && !before.contains('='));
    if let Some((before, options)) = behind {
        mode = Some(self::mode(before).map_err(wrong)?);
        for field in options.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(|| wrong(format!("unknown option \"{field}\"")))?;
            podman_option(&mut attachment, key, value).map_err(wrong)?;
        }
    } else if !text.contains('=') {
        mode = Some(self::mode(text).map_err(wrong)?);
    } else {
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("name", value)) => mode = Some(self::mode(value).map_err(wrong)?),
                Some((key, value)) => option(&mut attachment, key, value).map_err(wrong)?,
                None => return Err(wrong(format!("unknown option \"{field}\""))),
            }
        }
    }
    let mode = mode.ok_or_else(|| wrong("name= is missing".to_owned()))?;
    let network = match &mode {
        NetworkMode::Bridge => DEFAULT_NETWORK.to_owned(),
        other => name(other),
    };
    Ok((mode, Attachment { network, ..attachment }))
}

/// One `key=value` of the long form.
fn option(attachment: &mut Attachment, key: &str, value: &str) -> Result<(), String> {
    match key {
        "mac-address" => attachment.mac = Some(parse_mac(value).map_err(|error| error.reason)?),
        "alias" if valid_alias(value) => attachment.aliases.push(value.to_owned()),
        "alias" => return Err(format!("alias \"{value}\" is not one word")),
        "ip" => attachment.ipv4 = Some(value.parse().map_err(|_| format!("ip \"{value}\" is not an IPv4 address"))?),
        "ip6" => attachment.ipv6 = Some(value.parse().map_err(|_| format!("ip6 \"{value}\" is not an IPv6 address"))?),
        "gw-priority" => attachment.priority = value.parse().map_err(|_| format!("gw-priority \"{value}\" is not a number"))?,
        "driver-opt" => {
            let (key, value) = value.split_once('=').ok_or_else(|| format!("driver-opt \"{value}\" is not key=value"))?;
            attachment.options.insert(key.to_owned(), value.to_owned());
        }
        "link-local-ip" => return Err("the option link-local-ip is not supported: addresses come from the subnets of the network".to_owned()),
        _ => return Err(format!("unknown option \"{key}={value}\"")),
    }
    Ok(())
}

/// One `key=value` behind a name.
fn podman_option(attachment: &mut Attachment, key: &str, value: &str) -> Result<(), String> {
    match key {
        "mac" => option(attachment, "mac-address", value),
        "interface_name" => option(attachment, "driver-opt", &format!("{INTERFACE_NAME}={value}")),
        "ip" if value.contains(':') => option(attachment, "ip6", value),
        "ip" | "ip6" | "alias" => option(attachment, key, value),
        _ => Err(format!("unknown option \"{key}={value}\"")),
    }
}

fn valid_alias(text: &str) -> bool {
    crate::network::valid_host_entry(text) && text.len() <= 253
}

/// A name of `--network-alias`.
///
/// # Errors
/// Not one word.
pub fn parse_alias(text: &str) -> Result<String, FlagError> {
    if valid_alias(text) { Ok(text.to_owned()) } else { Err(FlagError::new("--network-alias", text, "it is not one word")) }
}

/// An IPv4 address of `--ip`.
///
/// # Errors
/// Not an IPv4 address.
pub fn parse_ip(text: &str) -> Result<Ipv4Addr, FlagError> {
    text.parse().map_err(|_| FlagError::new("--ip", text, "it is not an IPv4 address"))
}

/// An IPv6 address of `--ip6`.
///
/// # Errors
/// Not an IPv6 address.
pub fn parse_ip6(text: &str) -> Result<Ipv6Addr, FlagError> {
    text.parse().map_err(|_| FlagError::new("--ip6", text, "it is not an IPv6 address"))
}

fn mode(text: &str) -> Result<NetworkMode, String> {
    match text {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        "" => Err("the name is missing".to_owned()),
        _ => match text.strip_prefix("container:") {
            Some("") => Err("the container is missing after \"container:\"".to_owned()),
            Some(container) => Ok(NetworkMode::Container(container.to_owned())),
            None => Ok(NetworkMode::Named(text.to_owned())),
        },
    }
}

/// The mode as the user types it.
pub fn name(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Named(name) => name.clone(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::Pod => "pod".to_owned(),
    }
}

/// A unicast MAC address in lower case with colons.
///
/// # Errors
/// Not six octets in hexadecimal, or a multicast address.
pub fn parse_mac(text: &str) -> Result<String, FlagError> {
    let octets = address::parse_mac(text).map_err(|error| FlagError::new("--mac-address", text, error.to_string()))?;
    Ok(octets.map(|octet| format!("{octet:02x}")).join(":"))
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

    fn chosen(values: &[&str], given: &Given) -> Result<Chosen, FlagError> {
        choose(&values.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), given)
    }

    #[test]
    fn network_grammar() {
        let none = Given::default();
        for (text, mode) in [
            ("bridge", NetworkMode::Bridge),
            ("default", NetworkMode::Bridge),
            ("host", NetworkMode::Host),
            ("none", NetworkMode::None),
            ("container:web", NetworkMode::Container("web".into())),
            ("name=host", NetworkMode::Host),
            ("mynet", NetworkMode::Named("mynet".into())),
            ("name=mynet", NetworkMode::Named("mynet".into())),
        ] {
            assert_eq!(chosen(&[text], &none), Ok((mode, None)), "{text}");
        }
        assert_eq!(chosen(&[], &none), Ok((NetworkMode::Bridge, None)));
        let (mode, attachments) =
            chosen(&["name=mynet,alias=db,alias=sql,ip=10.0.0.9,ip6=fd00::9,mac-address=02:42:AC:11:00:02,gw-priority=3", "other"], &none).unwrap();
        let attachments = attachments.unwrap();
        assert_eq!((mode, attachments.len()), (NetworkMode::Named("mynet".into()), 2));
        assert_eq!((attachments[0].aliases.len(), attachments[0].priority, attachments[0].mac.as_deref()), (2, 3, Some("02:42:ac:11:00:02")));
        assert_eq!((attachments[0].ipv4, attachments[1].network.as_str()), (Some(Ipv4Addr::new(10, 0, 0, 9)), "other"));
        let (mode, attachments) = chosen(&["mynet:ip=10.0.0.9,ip=fd00::9,mac=02:42:AC:11:00:02,interface_name=lan0,alias=db"], &none).unwrap();
        let one = attachments.unwrap().remove(0);
        assert_eq!((mode, one.network.as_str(), one.aliases.as_slice()), (NetworkMode::Named("mynet".into()), "mynet", &["db".to_owned()][..]));
        assert_eq!((one.ipv4, one.ipv6), (Some(Ipv4Addr::new(10, 0, 0, 9)), Some("fd00::9".parse().unwrap())));
        assert_eq!((one.mac.as_deref(), one.options[INTERFACE_NAME].as_str()), (Some("02:42:ac:11:00:02"), "lan0"));
        for bad in [
            "",
            "mynet:",
            "mynet:x=1",
            "mynet:ip=1",
            ":ip=10.0.0.9",
            "container:",
            "name=bridge,ip=1.2.3",
            "mac-address=02:42:ac:11:00:02",
            "name=bridge,x",
            "name=a,alias=b c",
            "name=a,link-local-ip=169.254.1.1",
        ] {
            assert!(chosen(&[bad], &none).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_beside_are_about_the_first_network() {
        let given = Given { ipv4: Some(Ipv4Addr::new(10, 0, 0, 9)), aliases: vec!["db".to_owned()], ..Given::default() };
        let (_, attachments) = chosen(&["a", "b"], &given).unwrap();
        let attachments = attachments.unwrap();
        assert_eq!((attachments[0].ipv4, attachments[1].ipv4), (given.ipv4, None));
        for bad in [&["name=a,ip=10.0.0.8"][..], &["name=a,alias=x"], &["host"], &["none"], &["container:x"], &["a", "a"], &["a", "host"]] {
            assert!(chosen(bad, &given).is_err(), "{bad:?}");
        }
        let mac = Given { mac: Some("02:42:ac:11:00:02".to_owned()), ..Given::default() };
        assert_eq!(chosen(&["bridge"], &mac), Ok((NetworkMode::Bridge, None)));
    }

    #[test]
    fn addresses() {
        for bad in ["", "02:42", "01:00:00:00:00:00", "02:42:ac:11:00:zz", "2:42:ac:11:00:02"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
        assert!(parse_dns("1.1.1.1").is_ok() && parse_dns("2606:4700::1111").is_ok() && parse_dns("dns").is_err());
    }
}
