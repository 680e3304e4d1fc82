//! Networks: create, list, remove, prune, and who is on them.
//!
//! A network is its row. Its device is made when the first endpoint comes and goes with the network; endpoints are rows that
//! live and die with the start of their container or pod (`state`), so that a network in use is never removed.

mod check;
mod membership;
mod moving;
mod names;
mod range;

pub(in crate::engine) use membership::{INTERFACE_NAME, check_attachment};
pub(in crate::engine) use names::{plan as resolver_plan, refresh as refresh_names};

use super::*;
use crate::engine::{events, filter};
use crate::network;
use record::{Attachment, DEFAULT_NETWORK, Driver, Network, Pool};
use std::collections::BTreeMap;
use std::net::IpAddr;

const KNOWN: &[&str] = &["driver", "id", "label", "label!", "name", "scope", "type", "dangling", "until"];
const KNOWN_PRUNE: &[&str] = &["until", "label", "label!"];
/// Names that mean more than a network of that name.
const RESERVED: [&str; 6] = [DEFAULT_NETWORK, "default", "host", "none", "container", "pod"];

/// One subnet that `network create` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub address: IpAddr,
    pub prefix: u8,
}

/// What `network create` asks for.
#[derive(Debug, Clone, Default)]
pub struct CreateNetwork {
    pub name: String,
    /// None: bridge.
    pub driver: Option<Driver>,
    pub subnets: Vec<Subnet>,
    pub gateways: Vec<IpAddr>,
    pub ranges: Vec<Subnet>,
    /// Addresses that are others', by name.
    pub auxiliary: Vec<(String, IpAddr)>,
    pub internal: bool,
    pub no_ipv4: bool,
    /// None: where the host has IPv6 and the driver is bridge.
    pub ipv6: Option<bool>,
    pub attachable: bool,
    pub no_dns: bool,
    pub labels: Vec<(String, String)>,
    pub options: Vec<(String, String)>,
}

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// `Invalid` for a malformed name, option or address; `Conflict` for a name or subnet that is in use.
    pub fn create_network(&self, request: &CreateNetwork) -> Result<Network> {
        check_name(&request.name)?;
        let driver = request.driver.unwrap_or(Driver::Bridge);
        let mut network = Network::new(&request.name, driver, request.options.iter().cloned().collect());
        network.internal = request.internal;
        network.attachable = request.attachable;
        network.dns = !request.no_dns;
        network.labels = request.labels.iter().cloned().collect();
        network.pools = asked_pools(request)?;
        let network = self.db.write(true, |tx| -> Result<Network> {
            // All under the lock, so that two at once do not choose the same range.
            let (mut network, others) = (network.clone(), tx.networks()?);
            refuse_obstacles(&network, &others)?;
            add_pools(&mut network, request, &others)?;
            network.check_options().map_err(|error| Error::invalid(error.to_string()))?;
            check_device(&network, &others)?;
            others.iter().try_for_each(|other| refuse_overlap(&network, other))?;
            tx.insert_network(&network)?;
            Ok(network)
        })?;
        self.emit([events::network(&network, "create")]);
        Ok(network)
    }

    /// A network by name, full id or unambiguous beginning of the id. The default bridge's record is chosen if it is not there yet.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`.
    pub fn find_network(&self, name: &str) -> Result<Network> {
        if matches!(name, DEFAULT_NETWORK | "default") {
            return self.default_bridge();
        }
        if let Some(network) = self.db.network(name)? {
            return Ok(network);
        }
        let mut fits: Vec<Network> = self.db.networks()?;
        fits.retain(|network| !name.is_empty() && network.id.starts_with(name));
        match fits.len() {
            0 => self.cni_network(name),
            1 => Ok(fits.remove(0)),
            _ => Err(Error::Invalid {
                message: format!("network {name} is ambiguous ({} matches found on name)", fits.len()),
                hint: Some("give more digits of the id, or the name".to_owned()),
            }),
        }
    }

    /// All networks by name, the default bridge among them, with filters `driver`, `id`, `name` (parts), `label`, `label!`, `scope`,
    /// `type` (`builtin` or `custom`), `dangling`, `until`. `host` and `none` are no networks of ours: the front door shows them.
    ///
    /// # Errors
    /// `Invalid` names an unknown key or a malformed value.
    pub fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        filter::require_known(filters, KNOWN)?;
        let dangling = filter::boolean(filters, "dangling")?;
        let until = filter::until(filters)?;
        if let Some(kind) = filter::values(filters, "type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
            return Err(Error::invalid(format!("invalid filter \"type={kind}\": expected builtin or custom")));
        }
        let mut networks = self.db.networks()?;
        if !networks.iter().any(Network::is_default) {
            networks.push(self.default_bridge()?);
        }
        for network in self.cni_networks()? {
            // One of ours goes before it.
            if !networks.iter().any(|other| other.name == network.name) {
                networks.push(network);
            }
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let used = self.db.networks_in_use()?;
        networks.retain(|network| {
            dangling.is_none_or(|wanted| wanted == (!used.contains(&network.name) && !network.is_default()))
                && filter::any(filters, "driver", |driver| network.driver.name() == driver)
                && filter::any(filters, "id", |id| network.id.contains(id))
                && filter::any(filters, "name", |name| network.name.contains(name))
                && filter::any(filters, "scope", |scope| scope == "local")
                && filter::any(filters, "type", |kind| (kind == "builtin") == network.is_default())
                && until.is_none_or(|until| network.created <= until)
                && filter::labels_match(filters, &network.labels)
        });
        Ok(networks)
    }

    /// Removes a network that nobody is on, with its device.
    ///
    /// # Errors
    /// `NoSuch`; `Forbidden` for the default bridge; `Conflict` names who is on it.
    pub fn remove_network(&self, name: &str) -> Result<Network> {
        let network = self.find_network(name)?;
        if network.is_default() {
            return Err(Error::Invalid {
                message: format!("{} is a pre-defined network and cannot be removed", network.name),
                hint: Some("it takes no device while no container is on it".to_owned()),
            });
        }
        if network.driver == Driver::Cni {
            return Err(Error::Invalid {
                message: format!("{} is a CNI network and cannot be removed", network.name),
                hint: Some(format!("remove its configuration in {}", self.cni.config_dir.display())),
            });
        }
        self.settle_members(&network.name)?;
        let holders = self.db.network_members(&network.name)?;
        if !holders.is_empty() {
            return Err(Error::Conflict {
                message: format!("network {} id {} has active endpoints: {}", network.name, network.id, self.names_of(&holders)?.join(", ")),
                hint: Some("stop these, or disconnect them: rcon network disconnect".to_owned()),
            });
        }
        self.delete_network(&network)?;
        Ok(network)
    }

    fn delete_network(&self, network: &Network) -> Result<()> {
        self.db.write(true, |tx| tx.delete_network(&network.name))?;
        // What a crash leaves of it here is found by `system check`.
        network::remove(network)?;
        names::forget(&self.privilege.roots, network)?;
        self.emit([events::network(network, "destroy")]);
        Ok(())
    }

    /// Removes all networks that nobody is on, but not the default bridge. Their names.
    ///
    /// # Errors
    /// `Invalid` for a filter; the first that could not be removed, after all others were.
    pub fn prune_networks(&self, filters: &Filters) -> Result<Vec<String>> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let until = filter::until(filters)?;
        let (mut removed, mut failure) = (Vec::new(), None);
        for network in self.db.networks()? {
            if network.is_default() || until.is_some_and(|until| network.created > until) || !filter::labels_match(filters, &network.labels) {
                continue;
            }
            self.settle_members(&network.name)?;
            if !self.db.network_members(&network.name)?.is_empty() {
                continue;
            }
            match self.delete_network(&network) {
                Ok(()) => removed.push(network.name),
                // Somebody came to it meanwhile.
                Err(Error::State(crate::state::Error::NetworkInUse { .. })) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Ends those who are recorded on it but live no more, so that they do not hold it.
    fn settle_members(&self, name: &str) -> Result<()> {
        for id in self.db.network_members(name)? {
            if let Some(record) = self.db.container(&id)? {
                self.settle(record)?;
            } else if let Some(pod) = self.db.pod(&id)? {
                self.settle_pod(pod)?;
            }
        }
        Ok(())
    }

    /// Makes devices, rules and published ports of all networks in use anew where they are gone (`nft flush ruleset`, a deleted
    /// bridge): what a firewall's reload hook calls. The networks that were looked at.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reload_networks(&self) -> Result<Vec<String>> {
        let used = self.db.networks_in_use()?;
        let mut reloaded = Vec::new();
        for name in used {
            if let Some(network) = self.db.network(&name)? {
                super::container::ensure_network(&self.db, &network)?;
                reloaded.push(name);
            }
        }
        Ok(reloaded)
    }
}

fn host_has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if RESERVED.contains(&name) {
        return Err(Error::Invalid {
            message: format!("operation is not permitted on predefined {name} network"),
            hint: Some("choose another name".to_owned()),
        });
    }
    if name.is_empty() || name.len() > 255 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        return Err(Error::invalid(format!("invalid network name \"{name}\": only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed, 255 characters at most")));
    }
    Ok(())
}

/// The pools of the subnets that were named, each with its gateway, range and addresses of others.
fn asked_pools(request: &CreateNetwork) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for subnet in &request.subnets {
        let pool = Pool { subnet: subnet.address, prefix: subnet.prefix, gateway: None, range: None, auxiliary: BTreeMap::new() };
        if subnet.address.is_multicast() || subnet.address.is_loopback() {
            return Err(Error::invalid(format!("--subnet: addresses of {}/{} cannot be those of containers", pool.subnet, pool.prefix)));
        }
        if let Some(other) = pools.iter().find(|other| other.overlaps(&pool)) {
            let text = format!("subnets {}/{} and {}/{} overlap", other.subnet, other.prefix, pool.subnet, pool.prefix);
            return Err(Error::invalid(format!("--subnet: {text}")));
        }
        if request.no_ipv4 && pool.is_ipv4() {
            return Err(Error::invalid("--subnet: an IPv4 subnet and --ipv4=false exclude each other"));
        }
        if request.ipv6 == Some(false) && !pool.is_ipv4() {
            return Err(Error::invalid("--subnet: an IPv6 subnet and --ipv6=false exclude each other"));
        }
        pools.push(pool);
    }
    let of = |flag: &str, address: IpAddr| -> Result<usize> {
        let found = pools.iter().position(|pool| pool.contains(address));
        found.ok_or_else(|| Error::invalid(format!("{flag}: no matching subnet for {address}")))
    };
    let mut gateways = Vec::new();
    for gateway in &request.gateways {
        gateways.push((of("--gateway", *gateway)?, *gateway));
    }
    let mut ranges = Vec::new();
    for range in &request.ranges {
        ranges.push((of("--ip-range", range.address)?, (range.address, range.prefix)));
    }
    let mut others = Vec::new();
    for (name, address) in &request.auxiliary {
        others.push((of("--aux-address", *address)?, (name.clone(), *address)));
    }
    for (index, gateway) in gateways {
        if pools[index].is_nobodys(gateway) {
            return Err(Error::invalid(format!("--gateway: {gateway} is the subnet's own address or its broadcast address")));
        }
        if pools[index].gateway.replace(gateway).is_some() {
            return Err(Error::invalid(format!("--gateway: cannot configure multiple gateways ({gateway}) on the same subnet")));
        }
    }
    for (index, range) in ranges {
        if range.1 < pools[index].prefix {
            return Err(Error::invalid(format!("--ip-range: {}/{} is larger than its subnet", range.0, range.1)));
        }
        if pools[index].range.replace(range).is_some() {
            return Err(Error::invalid("--ip-range: cannot configure multiple ranges on the same subnet"));
        }
    }
    for (index, (name, address)) in others {
        if pools[index].gateway == Some(address) {
            return Err(Error::invalid(format!("--aux-address: {address} of {name} is the gateway")));
        }
        pools[index].auxiliary.insert(name, address);
    }
    Ok(pools)
}

/// What was not named: free ranges of the families that the network is to have, and gateways.
fn add_pools(network: &mut Network, request: &CreateNetwork, others: &[Network]) -> Result<()> {
    let bridged = network.driver == Driver::Bridge;
    if network.pool4().is_none() && !request.no_ipv4 {
        network.pools.insert(0, network::choose_subnet(others)?);
    }
    let wanted = request.ipv6.unwrap_or_else(|| bridged && host_has_ipv6());
    if network.pool6().is_none() && wanted {
        if !host_has_ipv6() {
            return Err(Error::invalid("--ipv6: the kernel of this host has no IPv6"));
        }
        network.pools.push(network::choose_ula());
    }
    if network.pools.is_empty() {
        return Err(Error::invalid("--ipv4=false: a network needs IPv4 or IPv6"));
    }
    for pool in &mut network.pools {
        let largest = if pool.is_ipv4() { 30 } else { 126 };
        if bridged && pool.prefix > largest {
            return Err(Error::invalid(format!("--subnet: {}/{} has no room for a gateway and a container", pool.subnet, pool.prefix)));
        }
        if pool.gateway.is_none() && (bridged || !request.internal) && pool.prefix <= largest {
            let range = pool.range.map_or(pool.subnet, |(first, _)| if first == pool.subnet { pool.subnet } else { first });
            let mut gateway = after(if bridged { pool.subnet } else { range });
            while pool.auxiliary.values().any(|others| *others == gateway) {
                gateway = after(gateway);
            }
            if !pool.contains(gateway) || pool.is_nobodys(gateway) {
                return Err(Error::invalid(format!("--aux-address: {}/{} has no address left for a gateway", pool.subnet, pool.prefix)));
            }
            pool.gateway = Some(gateway);
        }
    }
    Ok(())
}

/// The next address.
fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits().saturating_add(1)).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits().saturating_add(1)).into(),
    }
}

/// Ranges that were asked for must not be in the way of the host's own routes and addresses.
fn refuse_obstacles(network: &Network, others: &[Network]) -> Result<()> {
    // Networks on one wire may share its range: what is given out twice is refused by `refuse_overlap`.
    let bridged = network.driver == Driver::Bridge;
    for pool in network.pools.iter().filter(|_| bridged) {
        if let Some(obstacle) = network::obstacle(pool, others, &network.device)? {
            return Err(Error::Conflict {
                message: format!("invalid pool request: pool {}/{} overlaps with {obstacle}", pool.subnet, pool.prefix),
                hint: Some("choose another --subnet, or none".to_owned()),
            });
        }
    }
    Ok(())
}

fn refuse_overlap(network: &Network, other: &Network) -> Result<()> {
    // Two macvlan networks may divide one subnet of the wire between them.
    if network.driver != Driver::Bridge && other.driver != Driver::Bridge && network.device != other.device {
        return Ok(());
    }
    let overlap = network.pools.iter().find_map(|pool| other.pools.iter().find(|held| held.overlaps(pool)).map(|held| (pool, held)));
    match overlap {
        Some((pool, held)) if other.name != network.name => Err(Error::Conflict {
            message: format!(
                "invalid pool request: pool {}/{} overlaps with {}/{} of network {}",
                pool.subnet, pool.prefix, held.subnet, held.prefix, other.name
            ),
            hint: Some("choose another --subnet, or none".to_owned()),
        }),
        _ => Ok(()),
    }
}

fn check_device(network: &Network, others: &[Network]) -> Result<()> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    match others.iter().find(|other| other.driver == Driver::Bridge && other.device == network.device) {
        Some(other) => Err(Error::conflict(format!("the bridge {} is that of network {}", network.device, other.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (address, prefix) = text.split_once('/').unwrap();
        Subnet { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn what_belongs_to_a_subnet_is_found_by_its_address() {
        let request = CreateNetwork {
            subnets: vec![subnet("10.1.0.0/16"), subnet("fd00:1::/64")],
            gateways: vec!["fd00:1::9".parse().unwrap(), "10.1.0.9".parse().unwrap()],
            ranges: vec![subnet("10.1.7.0/24")],
            auxiliary: vec![("router".to_owned(), "10.1.7.1".parse().unwrap())],
            ..CreateNetwork::default()
        };
        let pools = asked_pools(&request).unwrap();
        assert_eq!(pools[0].gateway, Some("10.1.0.9".parse().unwrap()));
        assert_eq!(pools[1].gateway, Some("fd00:1::9".parse().unwrap()));
        assert_eq!(pools[0].range, Some(("10.1.7.0".parse().unwrap(), 24)));
        assert_eq!(pools[0].auxiliary["router"], "10.1.7.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn contradictions_are_named() {
        let base = || CreateNetwork { subnets: vec![subnet("10.1.0.0/16")], ..CreateNetwork::default() };
        type Change<'a> = &'a dyn Fn(&mut CreateNetwork);
        let table: [(Change<'_>, &str); 6] = [
            (&|r| r.subnets.push(subnet("10.1.2.0/24")), "overlap"),
            (&|r| r.gateways.push("10.2.0.1".parse().unwrap()), "--gateway: no matching subnet"),
            (&|r| r.gateways.extend(["10.1.0.1", "10.1.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap())), "multiple gateways"),
            (&|r| r.ranges.push(subnet("10.1.0.0/8")), "larger than its subnet"),
            (&|r| r.no_ipv4 = true, "--ipv4=false"),
            (&|r| r.auxiliary.push(("a".to_owned(), "192.0.2.1".parse().unwrap())), "--aux-address"),
        ];
        for (change, part) in table {
            let mut request = base();
            change(&mut request);
            let error = asked_pools(&request).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_are_dockers() {
        for good in ["web", "a_b.c-1", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "host", "bridge", "-a", "a b", "a/b", "ä"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
