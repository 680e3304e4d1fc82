//! Joining a container's network namespace to its networks: by the starting command, or, where the namespace belongs to the
//! user namespace of init and is new with each start, by the monitor.

use super::super::cni::is_cni;
use super::super::{Error, Result};
use super::reserve::networks_of;
use crate::base::{ContainerId, Roots};
use crate::network::{self, EndpointPlan, Netns};
use crate::state::record::{Container, Endpoint, Network, PublishedPort, primary};
use crate::state::{Addresses, Db, Publication};

/// Whose endpoints they are: a container's or a pod's.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Joining<'a> {
    pub id: &'a ContainerId,
    pub endpoints: &'a [Endpoint],
    pub published: &'a [PublishedPort],
}

impl<'a> From<&'a Container> for Joining<'a> {
    fn from(record: &'a Container) -> Self {
        Joining { id: &record.id, endpoints: &record.endpoints, published: &record.published }
    }
}

/// Devices, endpoints and published ports, as leased in the record.
///
/// # Errors
/// What the kernel refuses; the endpoint is taken back.
pub(in crate::engine) fn connect(db: &Db, who: &Joining<'_>, netns: &Netns, networks: &[Network]) -> Result<()> {
    for endpoint in who.endpoints.iter().filter(|endpoint| !is_cni(endpoint)) {
        let network = of(networks, endpoint)?;
        attach(db, who.id, netns, network, endpoint)?;
    }
    publish(who)
}

/// One endpoint; the network's device is made if it does not stand.
///
/// # Errors
/// As [`connect`].
pub(in crate::engine) fn attach(db: &Db, id: &ContainerId, netns: &Netns, network: &Network, endpoint: &Endpoint) -> Result<()> {
    ensure(db, network)?;
    Ok(network::attach(network, netns, &plan(id, endpoint))?)
}

fn plan(id: &ContainerId, endpoint: &Endpoint) -> EndpointPlan {
    EndpointPlan {
        container: id.clone(),
        interface: endpoint.interface.clone(),
        ipv4: endpoint.ipv4,
        ipv6: endpoint.ipv6,
        mac: Some(endpoint.mac),
        default_route: endpoint.gateway,
    }
}

/// Device and rules of a network; when the table had to be made anew, the elements of all networks and published ports.
///
/// # Errors
/// What the kernel refuses.
pub(in crate::engine) fn ensure(db: &Db, network: &Network) -> Result<()> {
    network::ensure(network, &Kept(db))
}

/// Asked only when a table has to be made anew.
struct Kept<'a>(&'a Db);

impl network::Kept for Kept<'_> {
    type Error = Error;

    fn networks(&self) -> Result<Vec<Network>> {
        Ok(self.0.networks()?)
    }

    fn published(&self) -> Result<Vec<(Addresses, PublishedPort)>> {
        Ok(self.0.published()?.into_iter().map(|Publication { target, port, .. }| (target, port)).collect())
    }
}

/// The default route of a running container goes to its primary endpoint.
///
/// # Errors
/// The kernel refuses.
pub(in crate::engine) fn route_by(id: &ContainerId, netns: &Netns, networks: &[Network], primary: Option<&Endpoint>) -> Result<()> {
    let Some(endpoint) = primary else { return Ok(()) };
    Ok(network::set_default_route(of(networks, endpoint)?, netns, &plan(id, endpoint))?)
}

/// Where published ports lead. On a CNI network that is its plugins' affair.
fn target(endpoints: &[Endpoint]) -> Option<Addresses> {
    primary(endpoints).filter(|endpoint| !is_cni(endpoint)).map(|endpoint| Addresses { ipv4: endpoint.ipv4, ipv6: endpoint.ipv6 })
}

/// Whether all of these ports can lead to the primary endpoint: not without one, nor where it lacks the family of one of them.
pub(in crate::engine) fn can_carry(endpoints: &[Endpoint], published: &[PublishedPort]) -> bool {
    target(endpoints).is_some_and(|target| published.iter().all(|port| network::leads(target, port)))
}

/// Leads the published ports to the primary endpoint.
///
/// # Errors
/// The kernel refuses.
pub(in crate::engine) fn publish(who: &Joining<'_>) -> Result<()> {
    match target(who.endpoints) {
        Some(targets) if !who.published.is_empty() => Ok(network::publish(targets, who.published)?),
        _ => Ok(()),
    }
}

/// Takes the published ports away. Idempotent.
///
/// # Errors
/// The kernel refuses.
pub(in crate::engine) fn unpublish(endpoints: &[Endpoint], published: &[PublishedPort]) -> Result<()> {
    match target(endpoints) {
        Some(targets) if !published.is_empty() => Ok(network::unpublish(targets, published)?),
        _ => Ok(()),
    }
}

/// Takes the ports away that a container has without a record that can be read. Idempotent.
///
/// # Errors
/// The database's or kernel's failure.
pub(in crate::engine) fn unpublish_leased(db: &Db, id: &ContainerId) -> Result<()> {
    let leased = db.published()?.into_iter().filter(|leased| leased.owner == *id);
    leased.into_iter().try_for_each(|leased| Ok(network::unpublish(leased.target, &[leased.port])?))
}

/// Takes all endpoints off their networks. Idempotent.
///
/// # Errors
/// The kernel refuses.
pub(in crate::engine) fn detach_all(db: &Db, id: &ContainerId, endpoints: &[Endpoint]) -> Result<()> {
    for endpoint in endpoints {
        if let Some(network) = db.network(&endpoint.network)? {
            network::detach(&network, id, None)?;
        }
    }
    Ok(())
}

/// Takes an endpoint of a running container off its network. Idempotent.
///
/// # Errors
/// The kernel refuses.
pub(in crate::engine) fn detach(id: &ContainerId, network: &Network, netns: &Netns, endpoint: &Endpoint) -> Result<()> {
    Ok(network::detach(network, id, Some((netns, &endpoint.interface)))?)
}

fn of<'a>(networks: &'a [Network], endpoint: &Endpoint) -> Result<&'a Network> {
    networks.iter().find(|network| network.name == endpoint.network).ok_or_else(|| Error::no_such("network", &endpoint.network))
}

/// The same from the monitor, whose child `pid` waits at its gate; with `--network none` only loopback comes up.
///
/// # Errors
/// As [`connect`]; the database's failure.
pub(super) fn connect_init(roots: &Roots, id: &ContainerId, pid: i32) -> Result<()> {
    let netns = network::open_netns(pid)?;
    let db = Db::open(roots)?;
    let record = db.container(id)?.ok_or_else(|| Error::no_such("container", id.as_str()))?;
    if !record.spec.host.is_networked() {
        return Ok(());
    }
    if record.endpoints.is_empty() && !record.spec.host.attachments().is_empty() {
        return Err(Error::conflict(format!("container {} has no address any more", record.name)));
    }
    connect(&db, &(&record).into(), &netns, &networks_of(&db, &record.endpoints)?)
}
