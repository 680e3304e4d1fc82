//! Networks in `inspect`: Docker's document of a network, and what a container's says of its own.

use super::*;
use crate::base::ContainerId;
use crate::state::record::{Attachment, Endpoint, primary};

impl Engine {
    /// Docker's document of a network.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`.
    pub fn inspect_network(&self, name: &str) -> Result<Value> {
        if matches!(name, "host" | "none") {
            return self.builtin_network(name);
        }
        let network = self.with_cni_pools(self.find_network(name)?)?;
        let mut containers = Map::new();
        let mut put = |id: &ContainerId, name: &str, endpoints: &[Endpoint]| {
            if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.network == network.name) {
                containers.insert(id.as_str().to_owned(), member(&network, name, endpoint));
            }
        };
        for id in self.db.network_members(&network.name)? {
            if let Some(record) = self.db.container(&id)? {
                put(&id, record.name.as_str(), &record.endpoints);
            } else if let Some(pod) = self.db.pod(&id)? {
                put(&id, pod.name.as_str(), &pod.endpoints);
            }
        }
        Ok(document(&network, containers))
    }
}

fn document(network: &Network, containers: Map<String, Value>) -> Value {
    let mut options = network.options.clone();
    if network.is_default() {
        options.entry("com.docker.network.bridge.name".to_owned()).or_insert_with(|| network.device.clone());
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv4": network.pool4().is_some(),
        "EnableIPv6": network.has_ipv6(),
        "IPAM": {
            "Driver": "default",
            "Options": null,
            "Config": network.pools.iter().map(pool).collect::<Vec<_>>(),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": options,
        "Labels": network.labels,
    })
}

fn pool(pool: &Pool) -> Value {
    let mut out = json!({ "Subnet": format!("{}/{}", pool.subnet, pool.prefix) });
    let mut put = |key: &str, value: Value| out.as_object_mut().expect("invariant: built as an object").insert(key.to_owned(), value);
    if let Some((range, prefix)) = pool.range {
        put("IPRange", json!(format!("{range}/{prefix}")));
    }
    if let Some(gateway) = pool.gateway {
        put("Gateway", json!(gateway.to_string()));
    }
    if !pool.auxiliary.is_empty() {
        put("AuxiliaryAddresses", json!(pool.auxiliary));
    }
    out
}

fn member(network: &Network, name: &str, endpoint: &Endpoint) -> Value {
    let with_prefix = |address: Option<IpAddr>| address.map(|address| format!("{address}/{}", prefix(Some(network), address))).unwrap_or_default();
    json!({
        "Name": name,
        "EndpointID": endpoint.id,
        "MacAddress": mac(endpoint),
        "IPv4Address": with_prefix(endpoint.ipv4.map(IpAddr::V4)),
        "IPv6Address": with_prefix(endpoint.ipv6.map(IpAddr::V6)),
    })
}

fn prefix(network: Option<&Network>, address: IpAddr) -> u8 {
    network.and_then(|network| network.pool_of(address)).map_or(if address.is_ipv4() { 32 } else { 128 }, |pool| pool.prefix)
}

/// `02:42:ac:11:00:02`.
fn mac(endpoint: &Endpoint) -> String {
    endpoint.mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// One of `NetworkSettings.Networks`.
fn of_container(record: &record::Container, attachment: Option<&Attachment>, network: Option<&Network>, endpoint: Option<&Endpoint>) -> Value {
    let aliases = attachment.map(|attachment| attachment.aliases.clone()).unwrap_or_default();
    let asked = |address: Option<IpAddr>| address.map(|address| address.to_string());
    let ipam = attachment.filter(|a| a.ipv4.is_some() || a.ipv6.is_some()).map(|attachment| {
        let mut ipam = Map::new();
        ipam.extend(asked(attachment.ipv4.map(IpAddr::V4)).map(|text| ("IPv4Address".to_owned(), json!(text))));
        ipam.extend(asked(attachment.ipv6.map(IpAddr::V6)).map(|text| ("IPv6Address".to_owned(), json!(text))));
        Value::Object(ipam)
    });
    let named = network.is_some_and(|network| network.dns);
    let short = record.id.short().to_owned();
    let names = || {
        let mut names = vec![record.name.to_string()];
        names.extend(aliases.iter().cloned());
        names.push(short);
        names.push(record.spec.hostname.clone());
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        names
    };
    let v4 = endpoint.and_then(|endpoint| endpoint.ipv4);
    let v6 = endpoint.and_then(|endpoint| endpoint.ipv6);
    json!({
        "IPAMConfig": ipam,
        "Links": null,
        "Aliases": if aliases.is_empty() { Value::Null } else { json!(aliases) },
        "MacAddress": endpoint.map(mac).unwrap_or_default(),
        "DriverOpts": null,
        "GwPriority": attachment.map_or(0, |attachment| attachment.priority),
        "NetworkID": network.map(|network| network.id.as_str()).unwrap_or_default(),
        "EndpointID": endpoint.map(|endpoint| endpoint.id.as_str()).unwrap_or_default(),
        "Gateway": v4.and_then(|_| network?.gateway4()).map(|gateway| gateway.to_string()).unwrap_or_default(),
        "IPAddress": v4.map(|address| address.to_string()).unwrap_or_default(),
        "IPPrefixLen": v4.map_or(0, |address| prefix(network, address.into())),
        "IPv6Gateway": v6.and_then(|_| network?.gateway6()).map(|gateway| gateway.to_string()).unwrap_or_default(),
        "GlobalIPv6Address": v6.map(|address| address.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": v6.map_or(0, |address| prefix(network, address.into())),
        "DNSNames": if named { json!(names()) } else { Value::Null },
    })
}

pub(super) fn settings(facts: &Facts<'_>) -> Value {
    let view = facts.view;
    let record = &view.record;
    let host = &record.spec.host;
    let running = view.pid != 0;
    let endpoints: &[Endpoint] = if running { &record.endpoints } else { &[] };
    let known = |name: &str| facts.networks.iter().find(|network| network.name == name || network.id == name);
    let mut networks = Map::new();
    match host.network {
        NetworkMode::Host => drop(networks.insert("host".to_owned(), of_container(record, None, None, None))),
        NetworkMode::None => drop(networks.insert("none".to_owned(), of_container(record, None, None, None))),
        // A member of a pod is reached where its pod is.
        NetworkMode::Pod => networks.extend(endpoints.iter().map(|e| (e.network.clone(), of_container(record, None, known(&e.network), Some(e))))),
        NetworkMode::Container(_) => {}
        NetworkMode::Bridge | NetworkMode::Named(_) => {
            for attachment in host.attachments() {
                let network = known(&attachment.network);
                let name = network.map_or(attachment.network.as_str(), |network| network.name.as_str());
                let endpoint = endpoints.iter().find(|endpoint| endpoint.network == name);
                networks.insert(name.to_owned(), of_container(record, Some(&attachment), network, endpoint));
            }
        }
    }
    // Docker's old keys at the top are of the default bridge alone; scripts read them for whatever has the default route.
    let first = primary(endpoints).map(|endpoint| of_container(record, None, known(&endpoint.network), Some(endpoint)));
    let of_first = |key: &str, without: Value| first.as_ref().map_or(without, |endpoint| endpoint[key].clone());
    json!({
        "Bridge": "",
        "SandboxID": if running { record.id.as_str() } else { "" },
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": if running { ports(record) } else { json!({}) },
        "SandboxKey": if running { format!("/proc/{}/ns/net", view.pid) } else { String::new() },
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": of_first("EndpointID", json!("")),
        "Gateway": of_first("Gateway", json!("")),
        "GlobalIPv6Address": of_first("GlobalIPv6Address", json!("")),
        "GlobalIPv6PrefixLen": of_first("GlobalIPv6PrefixLen", json!(0)),
        "IPAddress": of_first("IPAddress", json!("")),
        "IPPrefixLen": of_first("IPPrefixLen", json!(0)),
        "IPv6Gateway": of_first("IPv6Gateway", json!("")),
        "MacAddress": of_first("MacAddress", json!("")),
        "Networks": networks,
    })
}
