//! `network connect` and `disconnect`: for a container that does not run a change of its record, for one that runs of its
//! namespace, too.

use super::super::container::{self, Joining};
use super::*;
use crate::base::Undo;
use crate::monitor;
use crate::state::record::{Container, Endpoint, NetworkMode, Phase};

/// Option of an endpoint: how its interface is called in the container.
pub(in crate::engine) const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

impl Engine {
    /// Brings a container to one more network.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if it is there already or shares the network of something else; what the kernel refuses (then it is as
    /// before).
    pub fn connect_network(&self, network: &str, name: &str, attachment: &Attachment) -> Result<()> {
        check_kind(network, "container can only be connected to host network and to none when it is created (--network)")?;
        let network = self.find_network(network)?;
        let id = self.find(name)?.id;
        let _lock = container::lock(&self.privilege.roots, &id)?;
        let view = self.view(id.as_str())?;
        let mut record = view.record;
        check_connectable(&record, &network, attachment)?;
        let mut attachments = self.attachments_by_name(&record)?;
        if attachments.iter().any(|held| held.network == network.name) {
            return Err(Error::conflict(format!("endpoint with name {} already exists in network {}", record.name, network.name)));
        }
        let attachment = Attachment { network: network.name.clone(), ..attachment.clone() };
        attachments.push(attachment.clone());
        record.spec.host.attachments = Some(attachments);
        if view.pid == 0 {
            return Ok(self.db.write(true, |tx| tx.update_container(&record))?);
        }
        self.connect_running(record, view.pid, &network, &attachment)
    }

    fn connect_running(&self, mut record: Container, pid: i32, network: &Network, attachment: &Attachment) -> Result<()> {
        let netns = self.netns_of_running(&record, pid)?;
        let before = record.clone();
        let networks = self.networks_of(&record.endpoints)?;
        let interface = container::free_interface(network, attachment, &record.endpoints)?;
        record.endpoints = self.db.write(true, |tx| -> Result<Vec<Endpoint>> {
            let mut endpoints = record.endpoints.clone();
            endpoints.push(container::lease_endpoint(tx, network, attachment, &record.id, interface.clone(), false)?);
            let all: Vec<&Network> = networks.iter().chain([network]).collect();
            choose_gateway(&record.spec.host.attachments(), &all, &mut endpoints);
            tx.retarget_ports(&record.id, endpoints.iter().find(|e| e.gateway).map(|e| e.network.as_str()))?;
            tx.update_container(&Container { endpoints: endpoints.clone(), ..record.clone() })?;
            Ok(endpoints)
        })?;
        container::failpoint_at("engine.network.connect.leased")?;
        let mut undo = Undo::new();
        let (db, id) = (&self.db, before.id.clone());
        let (former, name) = (before.clone(), network.name.clone());
        undo.push("the endpoint's lease", move || {
            db.write(true, |tx| -> Result<()> {
                tx.release_endpoint(&name, &former.id)?;
                tx.retarget_ports(&former.id, former.primary().map(|e| e.network.as_str()))?;
                Ok(tx.update_container(&former)?)
            })
        });
        let endpoint = record.endpoints.last().cloned().ok_or_else(|| Error::conflict("no endpoint was leased"))?;
        let (device, gone, held) = (network, endpoint.clone(), &netns);
        undo.push("the endpoint", move || container::detach(&id, device, held, &gone));
        container::attach_endpoint(&self.db, &record.id, &netns, network, &endpoint)?;
        container::failpoint_at("engine.network.connect.attached")?;
        let all: Vec<Network> = networks.into_iter().chain([network.clone()]).collect();
        self.move_gateway(&before, &record, &netns, &all)?;
        undo.commit();
        self.tell_of_networks(&before, &record, &all)?;
        self.emit([events::of_network(&record.id, network, "connect")]);
        // The monitor holds ports from its start on.
        if before.endpoints.is_empty() && record.published.is_empty() && container::publishes(&record.spec) {
            let name = &record.name;
            tracing::warn!("container \"{name}\" began without a network: its ports are published when it is restarted (rcon restart {name})");
        }
        Ok(())
    }

    /// Takes a container off a network, also off one that is gone, which a container that does not run may still ask for. `force`:
    /// what cannot be taken off or told does not hold the lease.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if it is not there; what the kernel refuses.
    pub fn disconnect_network(&self, network: &str, name: &str, force: bool) -> Result<()> {
        check_kind(network, "container cannot be disconnected from host network and from none: these are chosen when it is created (--network)")?;
        let network = match self.find_network(network) {
            Err(gone @ Error::NoSuch { .. }) => return self.forget_network(network, name, gone),
            other => other?,
        };
        let id = self.find(name)?.id;
        let _lock = container::lock(&self.privilege.roots, &id)?;
        let view = self.view(id.as_str())?;
        let before = view.record;
        let mut record = before.clone();
        if record.spec.host.network == NetworkMode::Pod {
            return Err(of_pod(&record));
        }
        let mut attachments = self.attachments_by_name(&record)?;
        let count = attachments.len();
        attachments.retain(|held| held.network != network.name);
        if attachments.len() == count {
            return Err(Error::conflict(format!("container {} is not connected to network {}", record.name, network.name)));
        }
        record.spec.host.attachments = Some(attachments);
        let gone = record.endpoints.iter().position(|endpoint| endpoint.network == network.name).map(|at| record.endpoints.remove(at));
        let rest = self.networks_of(&record.endpoints)?;
        choose_gateway(&record.spec.host.attachments(), &rest.iter().collect::<Vec<_>>(), &mut record.endpoints);
        if let Some(endpoint) = gone.as_ref().filter(|_| view.pid != 0) {
            if network.driver == Driver::Cni {
                return Err(Error::conflict(format!("network {} is a CNI network: a container leaves it when it stops", network.name)));
            }
            let taken_off = self.take_off(&before, view.pid, &network, endpoint);
            past(taken_off, force)?;
        }
        container::failpoint_at("engine.network.disconnect.detached")?;
        self.db.write(true, |tx| -> Result<()> {
            tx.release_endpoint(&network.name, &record.id)?;
            tx.retarget_ports(&record.id, record.primary().map(|e| e.network.as_str()))?;
            Ok(tx.update_container(&record)?)
        })?;
        if view.pid != 0 {
            let moved = self.netns_of_running(&record, view.pid).and_then(|netns| self.move_gateway(&before, &record, &netns, &rest));
            past(moved, force)?;
            past(self.tell_of_networks(&before, &record, &rest), force)?;
            names::refresh(&self.db, &self.privilege.roots, std::slice::from_ref(&network))?;
            self.emit([events::of_network(&record.id, &network, "disconnect")]);
        }
        Ok(())
    }

    /// Its link, with the ports that lead there.
    fn take_off(&self, record: &Container, pid: i32, network: &Network, endpoint: &Endpoint) -> Result<()> {
        if endpoint.gateway {
            container::unpublish(&record.endpoints, &record.published)?;
        }
        container::detach(&record.id, network, &self.netns_of_running(record, pid)?, endpoint)
    }

    fn forget_network(&self, network: &str, name: &str, gone: Error) -> Result<()> {
        let id = self.find(name)?.id;
        let _lock = container::lock(&self.privilege.roots, &id)?;
        let mut record = self.view(id.as_str())?.record;
        let mut attachments = self.attachments_by_name(&record)?;
        let count = attachments.len();
        attachments.retain(|held| held.network != network);
        if attachments.len() == count {
            return Err(gone);
        }
        record.spec.host.attachments = Some(attachments);
        Ok(self.db.write(true, |tx| tx.update_container(&record))?)
    }

    /// What it asks for, with the networks' own names (it may have been typed by id).
    fn attachments_by_name(&self, record: &Container) -> Result<Vec<Attachment>> {
        let named = |attachment: Attachment| match self.find_network(&attachment.network) {
            Ok(network) => Ok(Attachment { network: network.name, ..attachment }),
            // A network that is gone keeps its place until it is disconnected.
            Err(Error::NoSuch { .. }) => Ok(attachment),
            Err(error) => Err(error),
        };
        record.spec.host.attachments().into_iter().map(named).collect()
    }

    /// The namespace of its init, which must still be the one that its monitor has.
    fn netns_of_running(&self, record: &Container, pid: i32) -> Result<network::Netns> {
        let netns = network::enter_netns(network::netns_of(pid)?)?;
        if monitor::is_alive(&self.privilege.roots.live(&record.id)) && record.phase == Phase::Started {
            return Ok(netns);
        }
        Err(Error::conflict(format!("container {} ended meanwhile", record.name)))
    }

    /// Default route and published ports go where the record says now.
    fn move_gateway(&self, before: &Container, now: &Container, netns: &network::Netns, networks: &[Network]) -> Result<()> {
        let (former, primary) = (before.primary(), now.primary());
        if former.map(|e| &e.id) == primary.map(|e| &e.id) {
            return Ok(());
        }
        container::route_by(&now.id, netns, networks, primary)?;
        container::unpublish(&before.endpoints, &before.published)?;
        container::publish(&Joining { id: &now.id, endpoints: &now.endpoints, published: &now.published })
    }

    /// Names on its networks, its own files and its resolver follow.
    fn tell_of_networks(&self, before: &Container, record: &Container, networks: &[Network]) -> Result<()> {
        names::refresh(&self.db, &self.privilege.roots, networks)?;
        container::follow_in_etc(&self.privilege.roots.container(&record.id), before, record, networks)?;
        // One that has had no network with names has no resolver, and needs none.
        let had_names = self.networks_of(&before.endpoints)?.iter().any(|network| network.dns);
        if !had_names && !networks.iter().any(|network| network.dns) {
            return Ok(());
        }
        container::follow_networks(&self.privilege.roots, record, networks)
    }
}

/// A failure that `--force` goes past.
fn past(result: Result<()>, force: bool) -> Result<()> {
    match result {
        Err(error) if force => {
            tracing::warn!("disconnect: {error}");
            Ok(())
        }
        other => other,
    }
}

fn choose_gateway(attachments: &[Attachment], networks: &[&Network], endpoints: &mut [Endpoint]) {
    let priority = |network: &Network| attachments.iter().find(|a| a.is_to(network)).map_or(0, |a| a.priority);
    let chosen = container::gateway_of(networks.iter().map(|network| (priority(network), *network))).map(|at| networks[at].name.clone());
    for endpoint in endpoints {
        endpoint.gateway = chosen.as_ref() == Some(&endpoint.network);
    }
}

fn of_pod(record: &Container) -> Error {
    Error::Conflict {
        message: format!("container {} has the network of its pod", record.name),
        hint: Some("the networks of a pod are chosen when it is created".to_owned()),
    }
}

/// `host` and `none` are networks to who lists and inspects them, but nothing is joined to them later.
fn check_kind(network: &str, refusal: &str) -> Result<()> {
    if matches!(network, "host" | "none") { Err(Error::conflict(refusal)) } else { Ok(()) }
}

fn check_connectable(record: &Container, network: &Network, attachment: &Attachment) -> Result<()> {
    match &record.spec.host.network {
        NetworkMode::Pod => return Err(of_pod(record)),
        NetworkMode::Host => return Err(Error::conflict("container cannot be connected to host network and to another one")),
        NetworkMode::None => {
            let message = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
            return Err(Error::conflict(message));
        }
        NetworkMode::Container(_) => {
            let message = "container sharing network namespace with another container or host cannot be connected to any other network";
            return Err(Error::conflict(message));
        }
        NetworkMode::Bridge | NetworkMode::Named(_) => {}
    }
    if network.driver == Driver::Cni {
        return Err(Error::invalid(format!("network {} is a CNI network: containers are attached to it at their start (--network)", network.name)));
    }
    check_attachment(network, attachment)
}

/// Whether the network can give what is asked of it.
pub(in crate::engine) fn check_attachment(network: &Network, attachment: &Attachment) -> Result<()> {
    if network.is_default() {
        if attachment.ipv4.is_some() || attachment.ipv6.is_some() {
            return Err(Error::invalid("invalid config for network bridge: user specified IP address is supported on user defined networks only"));
        }
        if !attachment.aliases.is_empty() {
            return Err(Error::invalid("network-scoped alias is supported only for containers in user defined networks"));
        }
    }
    let addresses = attachment.ipv4.map(IpAddr::V4).into_iter().chain(attachment.ipv6.map(IpAddr::V6));
    for address in addresses {
        // Whether CNI plugins give an address, only they know.
        if network.driver != Driver::Cni && network.pool_of(address).is_none() {
            let message = format!("invalid config for network {}: no configured subnet contains IP address {address}", network.name);
            return Err(Error::invalid(message));
        }
        if network.pool_of(address).is_some_and(|pool| pool.is_nobodys(address)) {
            let message = format!("invalid config for network {}: {address} is the network's own address or its broadcast address", network.name);
            return Err(Error::invalid(message));
        }
        let others = network.pool_of(address).and_then(|pool| pool.auxiliary.iter().find(|(_, held)| **held == address));
        if let Some((owner, _)) = others {
            return Err(Error::conflict(format!("invalid config for network {}: {address} belongs to {owner} (--aux-address)", network.name)));
        }
    }
    if let Some(name) = attachment.options.get(INTERFACE_NAME)
        && (!record::is_interface_name(name) || name == "lo")
    {
        return Err(Error::invalid(format!("driver-opt {INTERFACE_NAME}: \"{name}\" is not the name of an interface")));
    }
    if let Some(key) = attachment.options.keys().find(|key| *key != INTERFACE_NAME) {
        return Err(Error::invalid(format!("--driver-opt: endpoints of network {} have no option \"{key}\"", network.name)));
    }
    Ok(())
}
