//! `network connect` and `disconnect`: for a container that does not run a change of its record, for one that runs of its
//! namespace, too.

use super::super::container;
use super::*;
use crate::base::ContainerId;
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
        let id = self.view(name)?.record.id;
        let _lock = container::lock(&self.privilege.roots, &id)?;
        let view = self.view_settled(&id)?;
        let before = view.record;
        check_connectable(&before, &network, attachment)?;
        let mut attachments = self.attachments_by_name(&before)?;
        if attachments.iter().any(|held| held.network == network.name) {
            return Err(Error::conflict(format!("endpoint with name {} already exists in network {}", before.name, network.name)));
        }
        let attachment = Attachment { network: network.name.clone(), ..attachment.clone() };
        attachments.push(attachment.clone());
        let mut now = before.clone();
        now.spec.host.attachments = Some(attachments);
        if view.pid == 0 {
            return Ok(self.db.write(true, |tx| tx.update_container(&now))?);
        }
        self.connect_running(&before, now, &network, &attachment)
    }

    fn connect_running(&self, before: &Container, mut now: Container, network: &Network, attachment: &Attachment) -> Result<()> {
        let networks = self.networks_of(&before.endpoints)?;
        let interface = container::free_interface(network, attachment, &before.endpoints)?;
        let all: Vec<&Network> = networks.iter().chain([network]).collect();
        let attachments = now.spec.host.attachments();
        // Nobody carries its ports so far: the first network that has the default route does.
        let comes_first = before.published.is_empty() && gateway_among(&attachments, &all) == Some(&network.name);
        let held = if comes_first { self.hold_anew(&now)? } else { Vec::new() };
        now.published.extend(held.iter().map(|held| held.port.clone()));
        self.change_networks(before, &mut now, held, false, &|tx, now| {
            now.endpoints.push(container::lease_endpoint(tx, network, attachment, &now.id, interface.clone(), false)?);
            choose_gateway(&attachments, &all, &mut now.endpoints);
            Ok(())
        })
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
        let id = self.view(name)?.record.id;
        let _lock = container::lock(&self.privilege.roots, &id)?;
        let view = self.view_settled(&id)?;
        let before = view.record;
        if before.spec.host.network == NetworkMode::Pod {
            return Err(of_pod(&before));
        }
        let mut attachments = self.attachments_by_name(&before)?;
        let count = attachments.len();
        attachments.retain(|held| held.network != network.name);
        if attachments.len() == count {
            return Err(Error::conflict(format!("container {} is not connected to network {}", before.name, network.name)));
        }
        let mut now = before.clone();
        now.spec.host.attachments = Some(attachments);
        now.endpoints.retain(|endpoint| endpoint.network != network.name);
        if view.pid == 0 || now.endpoints.len() == before.endpoints.len() {
            return Ok(self.db.write(true, |tx| tx.update_container(&now))?);
        }
        if network.driver == Driver::Cni {
            return Err(Error::conflict(format!("network {} is a CNI network: a container leaves it when it stops", network.name)));
        }
        let rest = self.networks_of(&now.endpoints)?;
        choose_gateway(&now.spec.host.attachments(), &rest.iter().collect::<Vec<_>>(), &mut now.endpoints);
        let moved = before.primary().map(|e| &e.id) != now.primary().map(|e| &e.id);
        if moved && !container::can_carry(&now.endpoints, &now.published) {
            if let Some(next) = now.primary().filter(|_| !now.published.is_empty()) {
                let (name, network) = (&now.name, &next.network);
                tracing::warn!("the published ports of container \"{name}\" cannot lead to network {network}: none is published any more");
            }
            now.published.clear();
        }
        self.change_networks(&before, &mut now, Vec::new(), force, &|_, _| Ok(()))
    }

    /// As seen by the holder of its lock, after what a killed command has left of a change.
    fn view_settled(&self, id: &ContainerId) -> Result<View> {
        let view = self.view(id.as_str())?;
        // Between two runs nobody can say what its namespace has.
        if view.record.phase == Phase::Started && view.pid == 0 {
            let message = format!("container {} is restarting", view.record.name);
            return Err(Error::Conflict { message, hint: Some("stop it first, or wait".to_owned()) });
        }
        if view.record.moving.is_none() {
            return Ok(view);
        }
        self.finish_move(view.record)?;
        self.view(id.as_str())
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
}

/// Which of these has the default route, and so the published ports.
fn gateway_among<'a>(attachments: &[Attachment], networks: &[&'a Network]) -> Option<&'a String> {
    let priority = |network: &Network| attachments.iter().find(|a| a.is_to(network)).map_or(0, |a| a.priority);
    container::gateway_of(networks.iter().map(|network| (priority(network), *network))).map(|at| &networks[at].name)
}

fn choose_gateway(attachments: &[Attachment], networks: &[&Network], endpoints: &mut [Endpoint]) {
    let chosen = gateway_among(attachments, networks);
    for endpoint in endpoints {
        endpoint.gateway = chosen == Some(&endpoint.network);
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
