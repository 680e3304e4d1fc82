//! A network, what a user asks of one for a container, and what a started container has of it.
//!
//! Invariant: options are stored as Docker names them; the readers here give their meaning, and [`Network::check_options`]
//! refuses at create what no reader understands.

use crate::base::address::{mask4, mask6, masked};
use crate::base::{Timestamp, random_hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name of the network that containers are on when they ask for none.
pub const DEFAULT_NETWORK: &str = "bridge";
/// Smallest MTU that IPv4 may have (RFC 791) and IPv6 must have (RFC 8200).
const LEAST_MTU: u32 = 68;
const LEAST_MTU_IPV6: u32 = 1280;
const MOST_MTU: u32 = 65535;
/// Bytes of an interface name without its NUL (`IFNAMSIZ`).
const INTERFACE_NAME: usize = 15;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const DIRECT: &str = "rcon.direct";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const MTU: &str = "com.docker.network.driver.mtu";
const SHORT_MTU: &str = "mtu";
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    Macvlan,
    Ipvlan,
    Cni,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Cni => "cni",
        }
    }
}

/// Addresses of one family that a network may give out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network address.
    pub subnet: IpAddr,
    pub prefix: u8,
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Part of the subnet that addresses are leased from; None: all of it.
    #[serde(default)]
    pub range: Option<(IpAddr, u8)>,
    /// Addresses in it that belong to others, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl Pool {
    pub fn is_ipv4(&self) -> bool {
        self.subnet.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        covers((self.subnet, self.prefix), address)
    }

    pub fn overlaps(&self, other: &Pool) -> bool {
        self.contains(other.subnet) || other.contains(self.subnet)
    }

    /// The network address and, for IPv4, the broadcast address: no device can have them, where there are others.
    pub fn is_nobodys(&self, address: IpAddr) -> bool {
        let (host, all) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits() & !mask4(self.prefix)), u128::from(!mask4(self.prefix))),
            IpAddr::V6(address) => (address.to_bits() & !mask6(self.prefix), !mask6(self.prefix)),
        };
        all > 1 && (host == 0 || (self.is_ipv4() && host == all))
    }
}

fn covers((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    masked(network, prefix) == masked(address, prefix)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Network {
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    pub created: Timestamp,
    pub driver: Driver,
    /// The bridge device, or the parent of macvlan and ipvlan (empty: none).
    pub device: String,
    pub pools: Vec<Pool>,
    /// No way out of it and none in.
    pub internal: bool,
    /// Containers on it find each other by name.
    pub dns: bool,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

/// Any form that a network was ever stored in: at first there was only a bridge with one range.
#[derive(Deserialize)]
struct Stored {
    name: String,
    id: String,
    created: Timestamp,
    driver: Option<Driver>,
    #[serde(alias = "bridge")]
    device: String,
    #[serde(default)]
    pools: Vec<Pool>,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    dns: bool,
    #[serde(default)]
    attachable: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    subnet: Option<Ipv4Addr>,
    prefix: Option<u8>,
    gateway: Option<Ipv4Addr>,
}

impl From<Stored> for Network {
    fn from(stored: Stored) -> Self {
        let mut pools = stored.pools;
        if let (true, Some(subnet), Some(prefix)) = (pools.is_empty(), stored.subnet, stored.prefix) {
            let gateway = stored.gateway.map(IpAddr::V4);
            pools.push(Pool { subnet: subnet.into(), prefix, gateway, range: None, auxiliary: BTreeMap::new() });
        }
        Network {
            name: stored.name,
            id: stored.id,
            created: stored.created,
            driver: stored.driver.unwrap_or(Driver::Bridge),
            device: stored.device,
            pools,
            internal: stored.internal,
            dns: stored.dns,
            attachable: stored.attachable,
            labels: stored.labels,
            options: stored.options,
        }
    }
}

/// How the interfaces of a macvlan network see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    Private,
    Vepa,
    Bridge,
    Passthru,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    L2,
    L3,
    L3s,
}

/// An option of `network create --opt` that has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("networks of driver {driver} have no option \"{option}\"")]
    Unknown { driver: &'static str, option: String },
    #[error("option {option} must be {expected}, not \"{value}\"")]
    Value { option: String, value: String, expected: &'static str },
}

impl Network {
    /// One without addresses, made now. A bridge device is named as the options say, or after the id.
    pub fn new(name: &str, driver: Driver, options: BTreeMap<String, String>) -> Self {
        let id = random_hex(64);
        let device = match driver {
            Driver::Bridge => options.get(BRIDGE_NAME).cloned().unwrap_or_else(|| format!("rc-{}", &id[..12])),
            Driver::Macvlan | Driver::Ipvlan => options.get(PARENT).cloned().unwrap_or_default(),
            Driver::Cni => String::new(),
        };
        Network {
            name: name.to_owned(),
            id,
            created: Timestamp::now(),
            driver,
            device,
            pools: Vec::new(),
            internal: false,
            dns: name != DEFAULT_NETWORK,
            attachable: false,
            labels: BTreeMap::new(),
            options,
        }
    }

    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_NETWORK
    }

    pub fn pools4(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(|pool| pool.is_ipv4())
    }

    pub fn pools6(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(|pool| !pool.is_ipv4())
    }

    /// The first IPv4 pool; a bridge has no other.
    pub fn pool4(&self) -> Option<&Pool> {
        self.pools4().next()
    }

    pub fn pool6(&self) -> Option<&Pool> {
        self.pools6().next()
    }

    /// The pool that an address lies in.
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.contains(address))
    }

    pub fn has_ipv6(&self) -> bool {
        self.pool6().is_some()
    }

    pub fn gateway4(&self) -> Option<Ipv4Addr> {
        self.pools4().find_map(|pool| match pool.gateway {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            _ => None,
        })
    }

    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        self.pools6().find_map(|pool| match pool.gateway {
            Some(IpAddr::V6(gateway)) => Some(gateway),
            _ => None,
        })
    }

    fn flag(&self, option: &str, default: bool) -> bool {
        self.options.get(option).and_then(|value| parse_flag(value)).unwrap_or(default)
    }

    /// Packets that leave the network get an address of the host.
    pub fn masquerades(&self) -> bool {
        self.flag(MASQUERADE, true)
    }

    /// Containers of the network reach each other.
    pub fn inter_container(&self) -> bool {
        self.flag(ICC, true)
    }

    /// Whether frames between its containers go from link to link, past the bridge; None: where nobody looks at bridged frames.
    pub fn direct(&self) -> Option<bool> {
        if !self.inter_container() {
            return Some(false);
        }
        self.options.get(DIRECT).and_then(|value| parse_flag(value))
    }

    /// Host address of publications that name none.
    pub fn host_binding(&self) -> Option<Ipv4Addr> {
        self.options.get(HOST_BINDING)?.parse().ok()
    }

    pub fn mtu(&self) -> Option<u32> {
        [MTU, SHORT_MTU].iter().find_map(|option| self.options.get(*option)).and_then(|value| value.parse().ok()).filter(|mtu| *mtu > 0)
    }

    /// Beginning of interface names in containers: `eth`.
    pub fn interface_prefix(&self) -> &str {
        self.options.get(INTERFACE_PREFIX).map_or("eth", String::as_str)
    }

    pub fn macvlan_mode(&self) -> MacvlanMode {
        self.options.get(MACVLAN_MODE).and_then(|value| parse_macvlan_mode(value)).unwrap_or(MacvlanMode::Bridge)
    }

    pub fn ipvlan_mode(&self) -> IpvlanMode {
        self.options.get(IPVLAN_MODE).and_then(|value| parse_ipvlan_mode(value)).unwrap_or(IpvlanMode::L2)
    }

    /// Whether all options are ones of the driver and have a meaning.
    ///
    /// # Errors
    /// The first that has none.
    pub fn check_options(&self) -> Result<(), OptionError> {
        self.options.iter().try_for_each(|(option, value)| self.check_option(option, value))
    }

    fn check_option(&self, option: &str, value: &str) -> Result<(), OptionError> {
        let least = if self.has_ipv6() { LEAST_MTU_IPV6 } else { LEAST_MTU };
        let (good, expected) = match (self.driver, option) {
            (Driver::Bridge, DIRECT) if !self.inter_container() => (parse_flag(value) == Some(false), "false, as enable_icc is"),
            (Driver::Bridge, MASQUERADE | ICC | DIRECT | DEFAULT_BRIDGE) => (parse_flag(value).is_some(), "true or false"),
            (Driver::Bridge, HOST_BINDING) => (value.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            (Driver::Bridge, BRIDGE_NAME) | (Driver::Macvlan | Driver::Ipvlan, PARENT) => {
                (is_interface_name(value), "the name of a network device (1 to 15 bytes, no blanks, no slash)")
            }
            (Driver::Macvlan, MACVLAN_MODE) => (parse_macvlan_mode(value).is_some(), "bridge, vepa, private or passthru"),
            (Driver::Ipvlan, IPVLAN_MODE) => (parse_ipvlan_mode(value).is_some(), "l2, l3 or l3s"),
            (Driver::Bridge | Driver::Macvlan | Driver::Ipvlan, INTERFACE_PREFIX) => {
                let numbered = value.len() + 2 <= INTERFACE_NAME && !value.ends_with(|c: char| c.is_ascii_digit());
                (
                    is_interface_name(value) && numbered && value != "lo",
                    "the beginning of an interface name, at most 13 bytes, without a digit at its end",
                )
            }
            (Driver::Bridge | Driver::Macvlan | Driver::Ipvlan, MTU | SHORT_MTU) => {
                let good = value.parse::<u32>().is_ok_and(|mtu| mtu == 0 || (least..=MOST_MTU).contains(&mtu));
                (good, if self.has_ipv6() { "a number from 1280 to 65535 (IPv6 needs 1280), or 0" } else { "a number from 68 to 65535, or 0" })
            }
            _ => return Err(OptionError::Unknown { driver: self.driver.name(), option: option.to_owned() }),
        };
        if good { Ok(()) } else { Err(OptionError::Value { option: option.to_owned(), value: value.to_owned(), expected }) }
    }
}

/// As Go's `strconv.ParseBool`, which is what Docker takes.
fn parse_flag(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn parse_macvlan_mode(value: &str) -> Option<MacvlanMode> {
    match value {
        "" | "bridge" => Some(MacvlanMode::Bridge),
        "private" => Some(MacvlanMode::Private),
        "vepa" => Some(MacvlanMode::Vepa),
        "passthru" => Some(MacvlanMode::Passthru),
        _ => None,
    }
}

fn parse_ipvlan_mode(value: &str) -> Option<IpvlanMode> {
    match value {
        "" | "l2" => Some(IpvlanMode::L2),
        "l3" => Some(IpvlanMode::L3),
        "l3s" => Some(IpvlanMode::L3s),
        _ => None,
    }
}

/// Whether a network device can have this name.
pub fn is_interface_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'"' | b'*');
    (1..=INTERFACE_NAME).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(plain)
}

/// What the user asked of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Its name or id, as typed.
    pub network: String,
    pub aliases: Vec<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mac: Option<String>,
    pub options: BTreeMap<String, String>,
    /// The network with the highest has the default route.
    pub priority: i32,
}

impl Attachment {
    /// Whether it names this network, by its name or the beginning of its id.
    pub fn is_to(&self, network: &Network) -> bool {
        self.network == network.name || (!self.network.is_empty() && network.id.starts_with(&self.network))
    }
}

/// What a started container has of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    pub network_id: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name of the interface in the container.
    pub interface: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mac: [u8; 6],
    /// The default route goes this way, and published ports lead here.
    #[serde(default)]
    pub gateway: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(driver: Driver, option: &str, value: &str) -> Network {
        Network::new("n", driver, BTreeMap::from([(option.to_owned(), value.to_owned())]))
    }

    #[test]
    fn the_first_and_the_last_address_of_a_subnet_are_nobodys() {
        for (subnet, prefix, address, nobodys) in [
            ("10.1.0.0", 24, "10.1.0.0", true),
            ("10.1.0.0", 24, "10.1.0.255", true),
            ("10.1.0.0", 24, "10.1.0.254", false),
            ("10.1.0.0", 16, "10.1.0.255", false),
            ("10.1.0.0", 31, "10.1.0.0", false),
            ("10.1.0.0", 32, "10.1.0.0", false),
            ("fd00::", 64, "fd00::", true),
            ("fd00::", 64, "fd00::ffff:ffff:ffff:ffff", false),
        ] {
            let pool = Pool { subnet: subnet.parse().unwrap(), prefix, gateway: None, range: None, auxiliary: BTreeMap::new() };
            assert_eq!(pool.is_nobodys(address.parse().unwrap()), nobodys, "{address} of {subnet}/{prefix}");
        }
    }

    #[test]
    fn the_first_form_of_the_document_is_still_read() {
        let text =
            r#"{"name":"bridge","id":"ab","created":1714557600000000000,"bridge":"rcon0","subnet":"172.18.0.0","prefix":20,"gateway":"172.18.0.1"}"#;
        let network: Network = serde_json::from_str(text).unwrap();
        assert!(network.is_default() && !network.dns && !network.has_ipv6());
        assert_eq!((network.driver, network.device.as_str()), (Driver::Bridge, "rcon0"));
        assert_eq!(network.gateway4(), Some(Ipv4Addr::new(172, 18, 0, 1)));
        assert_eq!(network.pool4().map(|pool| (pool.subnet, pool.prefix)), Some((IpAddr::from([172, 18, 0, 0]), 20)));
        let today = serde_json::to_string(&network).unwrap();
        assert!(today.contains(r#""driver":"bridge""#), "{today}");
        assert_eq!(serde_json::from_str::<Network>(&today).unwrap(), network);
    }

    #[test]
    fn pools_hold_the_addresses_of_their_family() {
        let pool = |subnet: &str, prefix| Pool { subnet: subnet.parse().unwrap(), prefix, gateway: None, range: None, auxiliary: BTreeMap::new() };
        for (subnet, prefix, address, held) in [
            ("10.1.0.0", 16, "10.1.255.255", true),
            ("10.1.0.0", 16, "10.2.0.0", false),
            ("0.0.0.0", 0, "192.0.2.1", true),
            ("10.1.0.1", 32, "10.1.0.1", true),
            ("fd00:1::", 64, "fd00:1::ffff", true),
            ("fd00:1::", 64, "fd00:2::1", false),
            ("0.0.0.0", 0, "fd00:1::1", false),
        ] {
            assert_eq!(pool(subnet, prefix).contains(address.parse().unwrap()), held, "{subnet}/{prefix} {address}");
        }
        assert!(pool("10.0.0.0", 8).overlaps(&pool("10.1.0.0", 16)) && pool("10.1.0.0", 16).overlaps(&pool("10.0.0.0", 8)));
    }

    #[test]
    fn options_are_those_of_the_driver_and_have_a_meaning() {
        for (driver, option, value) in [
            (Driver::Bridge, ICC, "false"),
            (Driver::Bridge, DIRECT, "true"),
            (Driver::Bridge, SHORT_MTU, "9000"),
            (Driver::Bridge, BRIDGE_NAME, "lan0"),
            (Driver::Macvlan, PARENT, "eth0.10"),
            (Driver::Macvlan, MACVLAN_MODE, "vepa"),
            (Driver::Ipvlan, IPVLAN_MODE, "l3s"),
        ] {
            assert_eq!(with(driver, option, value).check_options(), Ok(()), "{option}={value}");
        }
        for (driver, option, value, text) in [
            (Driver::Bridge, DIRECT, "auto", "option rcon.direct must be true or false, not \"auto\""),
            (Driver::Bridge, ICC, "no", "option com.docker.network.bridge.enable_icc must be true or false, not \"no\""),
            (Driver::Bridge, MTU, "40", "option com.docker.network.driver.mtu must be a number from 68 to 65535, or 0, not \"40\""),
            (Driver::Bridge, PARENT, "eth0", "networks of driver bridge have no option \"parent\""),
            (Driver::Macvlan, "macvlan-mode", "vepa", "networks of driver macvlan have no option \"macvlan-mode\""),
        ] {
            assert_eq!(with(driver, option, value).check_options().unwrap_err().to_string(), text);
        }
        let mut apart = with(Driver::Bridge, ICC, "false");
        apart.options.insert(DIRECT.to_owned(), "true".to_owned());
        assert_eq!(apart.check_options().unwrap_err().to_string(), "option rcon.direct must be false, as enable_icc is, not \"true\"");
        for name in ["", "a b", "a/b", "..", "0123456789abcdef"] {
            assert!(with(Driver::Bridge, BRIDGE_NAME, name).check_options().is_err(), "{name:?}");
        }
    }

    #[test]
    fn devices_are_named_by_option_or_id() {
        assert_eq!(with(Driver::Bridge, BRIDGE_NAME, "lan0").device, "lan0");
        assert_eq!(with(Driver::Macvlan, PARENT, "eth0").device, "eth0");
        let plain = Network::new("n", Driver::Bridge, BTreeMap::new());
        assert_eq!(plain.device, format!("rc-{}", &plain.id[..12]));
        assert!(plain.dns && plain.masquerades() && plain.inter_container() && plain.mtu().is_none());
        assert!(!with(Driver::Bridge, MASQUERADE, "0").masquerades());
    }
}
