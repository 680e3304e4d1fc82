//! Leases: which container or pod has which address of which network, and which published port.
//!
//! Invariant: a lease is taken and given back in the transaction that changes its owner's record, and unique keys decide between
//! two owners. A network with an endpoint on it cannot be removed.

use super::read::{self, all, one};
use super::record::{Network, Pool, Protocol, PublishedPort};
use super::{Db, Error, Tx};
use crate::base::ContainerId;
use crate::base::address::{mask4, mask6, masked};
use rusqlite::Row;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of an endpoint, or those that its owner wants; None where the network has none of the family, or any will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl From<Ipv4Addr> for Addresses {
    fn from(address: Ipv4Addr) -> Self {
        Addresses { ipv4: Some(address), ipv6: None }
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.ipv4, self.ipv6) {
            (Some(ipv4), Some(ipv6)) => write!(f, "{ipv4} and {ipv6}"),
            (Some(ipv4), None) => ipv4.fmt(f),
            (None, Some(ipv6)) => ipv6.fmt(f),
            (None, None) => f.write_str("a container without address"),
        }
    }
}

/// A published port in force and the endpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub owner: ContainerId,
    pub target: Addresses,
    pub port: PublishedPort,
}

impl Tx<'_> {
    /// Leases addresses of the network: those that are wanted, else the lowest free of each family that it has. An owner that has
    /// them already keeps them. With `target` its published ports lead there.
    ///
    /// # Errors
    /// [`Error::AddressTaken`]; [`Error::NetworkFull`] when none is free.
    pub fn lease_endpoint(&self, network: &Network, owner: &ContainerId, wanted: Addresses, target: bool) -> Result<Addresses, Error> {
        if let Some(held) = endpoint(self.db, &network.name, owner)? {
            return Ok(held);
        }
        let leased = Addresses { ipv4: self.choose_ipv4(network, wanted.ipv4)?, ipv6: self.choose_ipv6(network, wanted.ipv6)? };
        self.run(
            || format!("lease an endpoint of network \"{}\" to container {}", network.name, owner.short()),
            "INSERT INTO endpoints (network, owner, ipv4, ipv6, target) VALUES (?1, ?2, ?3, ?4, ?5)",
            (&network.name, owner.as_str(), leased.ipv4.map(Ipv4Addr::to_bits), leased.ipv6.map(|ip| ip.octets()), target),
        )?;
        Ok(leased)
    }

    fn choose_ipv4(&self, network: &Network, wanted: Option<Ipv4Addr>) -> Result<Option<Ipv4Addr>, Error> {
        let sql = "SELECT ipv4 FROM endpoints WHERE network=?1 AND ipv4 IS NOT NULL ORDER BY ipv4";
        let leased: Vec<u128> = all(self.db, "addresses", sql, [&network.name], |row| row.get::<_, u32>(0).map(u128::from))?;
        let found = choose(network, network.pools4(), &leased, wanted.map(IpAddr::V4))?;
        Ok(found.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }))
    }

    fn choose_ipv6(&self, network: &Network, wanted: Option<Ipv6Addr>) -> Result<Option<Ipv6Addr>, Error> {
        if !network.has_ipv6() {
            return Ok(None);
        }
        let sql = "SELECT ipv6 FROM endpoints WHERE network=?1 AND ipv6 IS NOT NULL ORDER BY ipv6";
        let leased: Vec<u128> = all(self.db, "addresses", sql, [&network.name], |row| row.get::<_, [u8; 16]>(0).map(u128::from_be_bytes))?;
        let found = choose(network, network.pools6(), &leased, wanted.map(IpAddr::V6))?;
        Ok(found.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }))
    }

    /// Gives back the endpoint of one network; one that is not there is fine.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn release_endpoint(&self, network: &str, owner: &ContainerId) -> Result<(), Error> {
        let what = || format!("release the endpoint of container {} in network \"{network}\"", owner.short());
        self.run(what, "DELETE FROM endpoints WHERE network=?1 AND owner=?2", (network, owner.as_str())).map(drop)
    }

    /// Has the owner's published ports lead to its endpoint of this network (None: to none).
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn retarget_ports(&self, owner: &ContainerId, network: Option<&str>) -> Result<(), Error> {
        let what = || format!("lead the ports of container {} elsewhere", owner.short());
        self.run(what, "UPDATE endpoints SET target=(network IS ?2) WHERE owner=?1", (owner.as_str(), network)).map(drop)
    }

    /// Records a published port (0.0.0.0, `::` and none conflict with every address of their family).
    /// The same port leased again by its owner is fine.
    ///
    /// # Errors
    /// [`Error::PortTaken`] if it is held.
    pub fn lease_port(&self, owner: &ContainerId, port: &PublishedPort) -> Result<(), Error> {
        let protocol = port.protocol.name();
        for row in ports_numbered(self.db, protocol, port.host_port)? {
            let other = row.port(self.db)?;
            if row.owner == owner.as_str() && other == *port {
                return Ok(());
            }
            if overlap(other.host_ip, port.host_ip) {
                return Err(Error::PortTaken { port: port.clone(), holder: read::container_id(self.db, row.owner)? });
            }
        }
        self.run(
            || format!("lease port {}/{protocol} to container {}", port.host_port, owner.short()),
            "INSERT INTO ports (protocol, host_port, host_ip, container_port, owner) VALUES (?1, ?2, ?3, ?4, ?5)",
            (protocol, port.host_port, port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(), port.container_port, owner.as_str()),
        )?;
        Ok(())
    }

    /// Gives back the published ports of a container that keeps its addresses.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn release_ports(&self, owner: &ContainerId) -> Result<(), Error> {
        self.run(|| format!("release the ports of container {}", owner.short()), "DELETE FROM ports WHERE owner=?1", [owner.as_str()]).map(drop)
    }

    /// Gives back addresses and ports of a container.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn release_leases(&self, owner: &ContainerId) -> Result<(), Error> {
        let what = || format!("release the leases of container {}", owner.short());
        self.run(what, "DELETE FROM endpoints WHERE owner=?1", [owner.as_str()])?;
        self.run(what, "DELETE FROM ports WHERE owner=?1", [owner.as_str()])?;
        Ok(())
    }

    /// Inserts a network that is new.
    ///
    /// # Errors
    /// [`Error::NetworkExists`].
    pub fn insert_network(&self, network: &Network) -> Result<(), Error> {
        if read::network(self.db, &network.name)?.is_some() {
            return Err(Error::NetworkExists { name: network.name.clone() });
        }
        self.put_network(network)
    }

    /// Removes a network that nobody is on; a missing one is fine.
    ///
    /// # Errors
    /// [`Error::NetworkInUse`].
    pub fn delete_network(&self, name: &str) -> Result<(), Error> {
        let holders = members(self.db, name)?;
        if !holders.is_empty() {
            return Err(Error::NetworkInUse { name: name.to_owned(), holders });
        }
        self.run(|| format!("delete network \"{name}\""), "DELETE FROM networks WHERE name=?1", [name]).map(drop)
    }

    /// Who is on a network, as this transaction sees it.
    ///
    /// # Errors
    /// As [`Tx::container`].
    pub fn network_members(&self, network: &str) -> Result<Vec<ContainerId>, Error> {
        members(self.db, network)
    }

    /// Every network, as this transaction sees them.
    ///
    /// # Errors
    /// As [`Tx::container`].
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        read::networks(self.db)
    }
}

impl Db {
    /// Every published port in force and where it leads (ports of an owner without an endpoint lead nowhere and are left out).
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn published(&self) -> Result<Vec<Publication>, Error> {
        let sql = "SELECT p.owner, p.protocol, p.host_ip, p.host_port, p.container_port, e.ipv4, e.ipv6 \
                   FROM ports p JOIN endpoints e ON e.owner=p.owner AND e.target ORDER BY p.host_port, p.protocol, p.host_ip";
        let rows = all(self, "published ports", sql, [], |row| Ok((PortRow::from(row)?, addresses(row, 5)?)))?;
        rows.into_iter()
            .map(|(row, target)| Ok(Publication { owner: read::container_id(self, row.owner.clone())?, target, port: row.port(self)? }))
            .collect()
    }

    /// Who has an endpoint of the network: containers, pods and steps of builds.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn network_members(&self, network: &str) -> Result<Vec<ContainerId>, Error> {
        members(self, network)
    }

    /// The networks that anybody is on, by name.
    ///
    /// # Errors
    /// As [`Db::container`].
    pub fn networks_in_use(&self) -> Result<Vec<String>, Error> {
        all(self, "endpoints", "SELECT DISTINCT network FROM endpoints ORDER BY network", [], |row| row.get(0))
    }
}

fn members(db: &Db, network: &str) -> Result<Vec<ContainerId>, Error> {
    let what = format!("who is on network \"{network}\"");
    let ids: Vec<String> = all(db, &what, "SELECT owner FROM endpoints WHERE network=?1 ORDER BY owner", [network], |row| row.get(0))?;
    ids.into_iter().map(|id| read::container_id(db, id)).collect()
}

fn addresses(row: &Row<'_>, first: usize) -> rusqlite::Result<Addresses> {
    Ok(Addresses {
        ipv4: row.get::<_, Option<u32>>(first)?.map(Ipv4Addr::from_bits),
        ipv6: row.get::<_, Option<[u8; 16]>>(first + 1)?.map(Ipv6Addr::from),
    })
}

fn endpoint(db: &Db, network: &str, owner: &ContainerId) -> Result<Option<Addresses>, Error> {
    let what = || format!("the address of container {}", owner.short());
    one(db, what, "SELECT ipv4, ipv6 FROM endpoints WHERE owner=?1 AND network=?2", (owner.as_str(), network), |row| addresses(row, 0))
}

/// One row of the table of ports.
struct PortRow {
    owner: String,
    protocol: String,
    host_ip: String,
    host_port: u16,
    container_port: u16,
}

impl PortRow {
    fn from(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(PortRow { owner: row.get(0)?, protocol: row.get(1)?, host_ip: row.get(2)?, host_port: row.get(3)?, container_port: row.get(4)? })
    }

    fn port(&self, db: &Db) -> Result<PublishedPort, Error> {
        let damaged = |what, value: &str| Error::Damaged { what, value: value.to_owned(), path: db.path.clone() };
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| damaged("host address", text))?),
        };
        let protocol = Protocol::named(&self.protocol).ok_or_else(|| damaged("protocol", &self.protocol))?;
        Ok(PublishedPort { host_ip, host_port: self.host_port, container_port: self.container_port, protocol })
    }
}

/// The ports of one protocol and number, whatever their address.
fn ports_numbered(db: &Db, protocol: &str, number: u16) -> Result<Vec<PortRow>, Error> {
    let sql = "SELECT owner, protocol, host_ip, host_port, container_port FROM ports WHERE protocol=?1 AND host_port=?2";
    all(db, "published ports", sql, (protocol, number), PortRow::from)
}

/// Whether sockets bound to these addresses (None: all) would collide.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())),
    }
}

/// The wanted address if nobody has it, else the lowest free of the first pool with one. None: the network has no such pool.
fn choose<'a>(network: &Network, pools: impl Iterator<Item = &'a Pool>, leased: &[u128], wanted: Option<IpAddr>) -> Result<Option<IpAddr>, Error> {
    let full = || Error::NetworkFull { network: network.name.clone() };
    if let Some(wanted) = wanted {
        let held = leased.binary_search(&bits(wanted)).is_ok() || network.pools.iter().any(|pool| pool.gateway == Some(wanted));
        return if held { Err(Error::AddressTaken { address: wanted, network: network.name.clone() }) } else { Ok(Some(wanted)) };
    }
    let mut any = false;
    for pool in pools {
        any = true;
        if let Some(address) = lowest_free(pool, leased) {
            return Ok(Some(address));
        }
    }
    if any { Err(full()) } else { Ok(None) }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The lowest address of the pool's range that is neither in `leased` (ascending), gateway nor another's. In the subnet's own range
/// the network address and, for IPv4, the broadcast address are nobody's.
fn lowest_free(pool: &Pool, leased: &[u128]) -> Option<IpAddr> {
    let span = |(network, prefix): (IpAddr, u8)| {
        let first = bits(masked(network, prefix));
        let host = if network.is_ipv4() { u128::from(!mask4(prefix)) } else { !mask6(prefix) };
        (first, first | host)
    };
    let (lowest, highest) = span((pool.subnet, pool.prefix));
    let (first, last) = pool.range.map_or((lowest, highest), span);
    let mut others: Vec<u128> = pool.auxiliary.values().chain(&pool.gateway).map(|address| bits(*address)).collect();
    if highest > lowest + 1 {
        others.push(lowest);
        others.extend(pool.is_ipv4().then_some(highest));
    }
    let mut candidate = first;
    let mut held = leased.iter().copied().skip_while(|held| *held < first).peekable();
    while candidate <= last {
        if held.next_if_eq(&candidate).is_none() && !others.contains(&candidate) {
            return Some(if pool.is_ipv4() {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(candidate).ok()?))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(candidate))
            });
        }
        candidate = candidate.checked_add(1)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_lowest_address_that_nobody_has() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let pool = |subnet: &str, prefix, range: Option<(&str, u8)>, aux: Option<&str>| Pool {
            subnet: ip(subnet),
            prefix,
            gateway: None,
            range: range.map(|(network, prefix)| (ip(network), prefix)),
            auxiliary: aux.map(|address| ("x".to_owned(), ip(address))).into_iter().collect(),
        };
        for (pool, leased, first) in [
            (pool("10.0.0.0", 24, None, None), vec![], Some("10.0.0.1")),
            (pool("10.0.0.0", 24, None, Some("10.0.0.1")), vec!["10.0.0.2"], Some("10.0.0.3")),
            (pool("10.0.0.0", 24, Some(("10.0.0.128", 30)), None), vec!["10.0.0.1", "10.0.0.128"], Some("10.0.0.129")),
            (pool("10.0.0.0", 24, Some(("10.0.0.252", 30)), None), vec!["10.0.0.252", "10.0.0.253", "10.0.0.254"], None),
            (pool("10.0.0.0", 31, None, None), vec![], Some("10.0.0.0")),
            (pool("10.0.0.9", 32, None, None), vec!["10.0.0.9"], None),
            (pool("fd00:1::", 64, None, Some("fd00:1::1")), vec!["fd00:1::2"], Some("fd00:1::3")),
            (pool("fd00:1::", 127, None, None), vec!["fd00:1::"], Some("fd00:1::1")),
            (pool("fd00:1::8", 128, None, None), vec!["fd00:1::8"], None),
        ] {
            let leased: Vec<u128> = leased.into_iter().map(|text| bits(ip(text))).collect();
            assert_eq!(lowest_free(&pool, &leased), first.map(ip), "{pool:?} {leased:?}");
        }
    }

    #[test]
    fn a_wanted_address_is_had_or_refused() {
        let mut network = Network::new("n", super::super::record::Driver::Bridge, BTreeMap::new());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        network.pools.push(Pool { subnet: ip("10.0.0.0"), prefix: 24, gateway: Some(ip("10.0.0.1")), range: None, auxiliary: BTreeMap::new() });
        let leased = [bits(ip("10.0.0.7"))];
        assert_eq!(choose(&network, network.pools4(), &leased, Some(ip("10.0.0.9"))).unwrap(), Some(ip("10.0.0.9")));
        for taken in ["10.0.0.7", "10.0.0.1"] {
            assert!(matches!(choose(&network, network.pools4(), &leased, Some(ip(taken))), Err(Error::AddressTaken { .. })), "{taken}");
        }
        assert_eq!(choose(&network, network.pools6(), &[], None).unwrap(), None);
    }
}
