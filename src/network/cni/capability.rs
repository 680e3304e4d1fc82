//! Capability arguments: what a container asks of a network in words that plugins agree on (CNI, CONVENTIONS.md).
//!
//! Invariant: a plugin gets only what its configuration declares, and what nobody would obey is refused.

use super::config::NetworkConfig;
use super::error::Error;
use crate::state::record::PublishedPort;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What one attachment asks for. Empty and None: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// `portMappings`.
    pub ports: Vec<PublishedPort>,
    /// `ips`: addresses to be given, with the prefix length if it is known.
    pub ips: Vec<(IpAddr, Option<u8>)>,
    /// `mac`.
    pub mac: Option<[u8; 6]>,
    /// `bandwidth`.
    pub bandwidth: Option<Bandwidth>,
    /// `dns`: a hint, which a network may leave to the container's own resolv.conf.
    pub dns: Option<Dns>,
    /// `aliases`: more names of the container on this network.
    pub aliases: Vec<String>,
}

/// Limits in bits a second and bits; 0: none. Ingress is what the container receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub ingress_rate: u64,
    pub ingress_burst: u64,
    pub egress_rate: u64,
    pub egress_burst: u64,
}

/// What resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Wishes {
    /// The arguments by the names of their capabilities.
    ///
    /// # Errors
    /// One is asked for that no plugin of the network declares.
    pub(super) fn arguments(&self, network: &NetworkConfig) -> Result<Map<String, Value>, Error> {
        let mut arguments = Map::new();
        for (capability, what, value, required) in self.values() {
            let Some(value) = value else { continue };
            if network.is_capable(capability) {
                arguments.insert(capability.to_owned(), value);
            } else if required {
                return Err(Error::Incapable { network: network.name.clone(), what, capability, path: network.path.clone() });
            }
        }
        Ok(arguments)
    }

    /// Capability, what a user calls it, its argument, and whether it must be obeyed.
    fn values(&self) -> [(&'static str, &'static str, Option<Value>, bool); 6] {
        let some = |value: Value, there: bool| there.then_some(value);
        let ports: Vec<Value> = self.ports.iter().map(mapping).collect();
        let ips: Vec<String> = self.ips.iter().map(|(ip, prefix)| prefix.map_or_else(|| ip.to_string(), |prefix| format!("{ip}/{prefix}"))).collect();
        let dns = self.dns.as_ref().map(|dns| json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}));
        [
            ("portMappings", "published ports", some(Value::Array(ports), !self.ports.is_empty()), true),
            ("ips", "an address", some(json!(ips), !self.ips.is_empty()), true),
            ("mac", "a MAC address", self.mac.map(|mac| json!(mac.map(|byte| format!("{byte:02x}")).join(":"))), true),
            ("bandwidth", "a bandwidth", self.bandwidth.map(limits), true),
            ("aliases", "aliases", some(json!(self.aliases), !self.aliases.is_empty()), true),
            ("dns", "name servers", dns, false),
        ]
    }
}

fn mapping(port: &PublishedPort) -> Value {
    let mut mapping = json!({"hostPort": port.host_port, "containerPort": port.container_port, "protocol": port.protocol});
    if let Some(ip) = port.host_ip {
        mapping["hostIP"] = json!(ip.to_string());
    }
    mapping
}

/// A rate needs a burst and the other way round; a direction without a limit has neither.
fn limits(bandwidth: Bandwidth) -> Value {
    let mut limits = Map::new();
    for (name, rate, burst) in
        [("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst), ("egress", bandwidth.egress_rate, bandwidth.egress_burst)]
    {
        if rate > 0 {
            limits.insert(format!("{name}Rate"), json!(rate));
            limits.insert(format!("{name}Burst"), json!(if burst > 0 { burst } else { i32::MAX.unsigned_abs().into() }));
        }
    }
    Value::Object(limits)
}
