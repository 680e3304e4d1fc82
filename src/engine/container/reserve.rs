//! What a start reserves in one transaction: the name (of a new container), addresses, published ports; and, beside it, the
//! sockets that hold the host ports and a fresh network namespace.

use super::super::network::{INTERFACE_NAME, check_attachment};
use super::super::{Engine, Error, Result, cni};
use super::create::{self, Prepared};
use super::oci_config;
use crate::base::address::parse_mac;
use crate::base::{ContainerId, Timestamp, random_hex};
use crate::network::{self, HeldPort, Netns};
use crate::state::record::{
    Attachment, Container, DEFAULT_NETWORK, Driver, Endpoint, HostSpec, Network, NetworkMode, Phase, PortMapping, Protocol, PublishedPort,
};
use crate::state::{Addresses, Tx};
use std::net::Ipv6Addr;
use std::thread::JoinHandle;

/// A network namespace that is being made, or is made already.
pub(super) enum NetnsAhead {
    Making(JoinHandle<std::result::Result<Netns, network::Error>>),
    Made(Netns),
}

impl NetnsAhead {
    pub(super) fn finish(self) -> Result<Netns> {
        match self {
            NetnsAhead::Made(netns) => Ok(netns),
            NetnsAhead::Making(thread) => match thread.join() {
                Ok(made) => Ok(made?),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// A network that a container or pod asks for, with what it asks of it.
pub(in crate::engine) type Wanted = (Attachment, Network);

impl Engine {
    pub(super) fn reserve_new(&self, prepared: &mut Prepared, held: &[HeldPort]) -> std::result::Result<Container, Reserve> {
        let wanted = self.wanted_networks(&prepared.record.spec.host).map_err(|error| Reserve::Start(Box::new(error)))?;
        // Tells the two kinds of failure inside one transaction apart.
        let inserted = std::cell::Cell::new(false);
        let result = self.commit_new(prepared, |tx, prepared| {
            let mut record = prepared.record.clone();
            mark_started(&mut record);
            inserted.set(false);
            create::insert(tx, &mut record, &prepared.volumes, &prepared.id_pool)?;
            inserted.set(true);
            lease(tx, &mut record, &wanted, held)?;
            Ok(record)
        });
        result.map_err(|error| if inserted.get() { Reserve::Start(Box::new(error)) } else { Reserve::Create(Box::new(error)) })
    }

    pub(super) fn reserve_existing(&self, record: &mut Container, held: &[HeldPort]) -> Result<()> {
        let wanted = self.wanted_networks(&record.spec.host)?;
        let mut started = record.clone();
        mark_started(&mut started);
        self.db.write(false, |tx| -> Result<()> {
            tx.update_container(&started)?;
            lease(tx, &mut started, &wanted, held)
        })?;
        *record = started;
        Ok(())
    }

    /// The records of the networks that it asks for. That of the default bridge is chosen now if this is the first that needs it.
    pub(in crate::engine) fn wanted_networks(&self, host: &HostSpec) -> Result<Vec<Wanted>> {
        let look_up = |attachment: Attachment| {
            let network = self.with_own_range(self.find_network(&attachment.network)?)?;
            check_attachment(&network, &attachment)?;
            if network.driver == Driver::Cni && oci_config::netns_of_init(host) {
                return Err(Error::invalid(format!("conflicting options: --userns and --network {}: CNI plugins do not work there", network.name)));
            }
            Ok((attachment, network))
        };
        host.attachments().into_iter().map(look_up).collect()
    }

    /// The records of networks on which there are endpoints, in their order.
    pub(in crate::engine) fn networks_of(&self, endpoints: &[Endpoint]) -> Result<Vec<Network>> {
        networks_of(&self.db, endpoints)
    }

    /// The default bridge's record; chosen and kept now if this is the first that asks for it.
    pub(in crate::engine) fn default_bridge(&self) -> Result<Network> {
        if let Some(network) = self.db.network(DEFAULT_NETWORK)? {
            return Ok(network);
        }
        self.db.write(false, |tx| -> Result<Network> {
            if let Some(network) = tx.network(DEFAULT_NETWORK)? {
                // Another process was first.
                return Ok(network);
            }
            // Chosen within the transaction, so that no network that is being created gets the same range.
            let chosen = network::choose_default(DEFAULT_NETWORK, &tx.networks()?)?;
            tx.put_network(&chosen)?;
            Ok(chosen)
        })
    }

    /// Takes the host ports of a running container that has got a network, by what its spec says by now.
    pub(in crate::engine) fn hold_anew(&self, record: &Container) -> Result<Vec<HeldPort>> {
        hold(record, || Ok(gateway_network(self.wanted_networks(&record.spec.host)?)))
    }

    /// Takes the host ports of a container, or holds those of its pod with it; the pod is brought up if it is not.
    pub(super) fn hold_ports(&self, record: &Container) -> Result<Vec<HeldPort>> {
        let first = || Ok(gateway_network(self.wanted_networks(&record.spec.host)?));
        let Some(membership) = &record.spec.pod else { return hold(record, first) };
        let of_pod = self.pod_up(&membership.pod)?;
        if record.spec.host.network == NetworkMode::Pod { Ok(of_pod) } else { hold(record, first) }
    }
}

/// Which half of `run`'s transaction failed.
pub(super) enum Reserve {
    Create(Box<Error>),
    Start(Box<Error>),
}

fn mark_started(record: &mut Container) {
    record.moving = None;
    record.phase = Phase::Started;
    record.started = Timestamp::now();
    record.exit_code = 0;
    record.oom_killed = false;
    record.oom_kills = 0;
    record.log_lost = 0;
    record.error.clear();
    record.restart_count = 0;
    record.stopped_by_user = false;
}

/// Addresses and ports, in the transaction that marks the record as started.
fn lease(tx: &Tx<'_>, record: &mut Container, wanted: &[Wanted], held: &[HeldPort]) -> Result<()> {
    if let Some(membership) = &record.spec.pod {
        tx.require_pod_up(&membership.pod)?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    (record.endpoints, record.published) = lease_endpoints(tx, wanted, &record.id, held)?;
    // The document shows what was leased; the lease rows decide.
    Ok(tx.update_container(record)?)
}

/// Endpoints and ports of a container or pod.
pub(in crate::engine) fn lease_endpoints(
    tx: &Tx<'_>,
    wanted: &[Wanted],
    owner: &ContainerId,
    held: &[HeldPort],
) -> Result<(Vec<Endpoint>, Vec<PublishedPort>)> {
    let gateway = gateway_of(wanted.iter().map(|(attachment, network)| (attachment.priority, network)));
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(wanted.len());
    for (index, (attachment, chosen)) in wanted.iter().enumerate() {
        let network = match tx.network(&chosen.name)? {
            Some(network) => network,
            None if chosen.driver == Driver::Cni => chosen.clone(),
            None => return Err(Error::no_such("network", &chosen.name)),
        };
        let interface = free_interface(&network, attachment, &endpoints)?;
        endpoints.push(lease_endpoint(tx, &network, attachment, owner, interface, gateway == Some(index))?);
    }
    let published: Vec<PublishedPort> = held.iter().map(|h| h.port.clone()).collect();
    for port in &published {
        tx.lease_port(owner, port)?;
    }
    Ok((endpoints, published))
}

/// One endpoint.
pub(in crate::engine) fn lease_endpoint(
    tx: &Tx<'_>,
    network: &Network,
    attachment: &Attachment,
    owner: &ContainerId,
    interface: String,
    gateway: bool,
) -> Result<Endpoint> {
    // Published ports on a CNI network are its plugins' to lead.
    let addresses = Addresses { ipv4: attachment.ipv4, ipv6: attachment.ipv6 };
    let Addresses { ipv4, ipv6 } = tx.lease_endpoint(network, owner, addresses, gateway && network.driver != Driver::Cni)?;
    let mac = match (&attachment.mac, ipv4, ipv6) {
        (Some(text), ..) => parse_mac(text).map_err(|error| Error::invalid(format!("invalid MAC address \"{text}\": {error}")))?,
        (None, Some(address), _) => network::mac_for(address.into()),
        (None, None, Some(address)) => network::mac_for(address.into()),
        // A network that gives no addresses: any that nobody has.
        (None, None, None) => network::mac_for(Ipv6Addr::from_bits(u128::from_str_radix(&random_hex(32), 16).unwrap_or_default()).into()),
    };
    Ok(Endpoint { network: network.name.clone(), network_id: network.id.clone(), id: random_hex(64), interface, ipv4, ipv6, mac, gateway })
}

/// The network that published ports lead to.
pub(in crate::engine) fn gateway_network(mut wanted: Vec<Wanted>) -> Option<Network> {
    let gateway = gateway_of(wanted.iter().map(|(attachment, network)| (attachment.priority, network)))?;
    Some(wanted.swap_remove(gateway).1)
}

/// Publications that name no address get that of the network's option, if it has it.
pub(in crate::engine) fn bind(mappings: &mut [PortMapping], network: &Network) {
    let Some(address) = network.host_binding().filter(|address| !address.is_unspecified()) else { return };
    for mapping in mappings.iter_mut().filter(|mapping| mapping.host_ip.is_none()) {
        mapping.host_ip = Some(address.into());
    }
}

/// Which network has the default route: that of the highest priority, rather one with a way out, the first by name (Docker's rule).
pub(in crate::engine) fn gateway_of<'a>(networks: impl Iterator<Item = (i32, &'a Network)>) -> Option<usize> {
    let order = |(_, (priority, network)): &(usize, (i32, &Network))| (std::cmp::Reverse(*priority), network.internal, network.name.clone());
    networks.enumerate().min_by_key(order).map(|(index, _)| index)
}

/// The name that is asked for, or the first that is not in use: `eth0`.
///
/// # Errors
/// The name that is asked for is another interface's.
pub(in crate::engine) fn free_interface(network: &Network, attachment: &Attachment, endpoints: &[Endpoint]) -> Result<String> {
    let taken = |name: &str| endpoints.iter().any(|endpoint| endpoint.interface == name);
    match attachment.options.get(INTERFACE_NAME) {
        Some(name) if taken(name) => Err(Error::conflict(format!("driver-opt {INTERFACE_NAME}: the container has an interface {name} already"))),
        Some(name) => Ok(name.clone()),
        None => {
            let mut names = (0u32..).map(|number| format!("{}{number}", network.interface_prefix()));
            Ok(names.find(|name| !taken(name)).expect("invariant: the numbers do not end"))
        }
    }
}

/// The records of networks on which there are endpoints, in their order; one that is gone is left out.
pub(in crate::engine) fn networks_of(db: &crate::state::Db, endpoints: &[Endpoint]) -> Result<Vec<Network>> {
    let mut networks = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let listed = db.network(&endpoint.network)?;
        networks.extend(listed.or_else(|| cni::is_cni(endpoint).then(|| cni::record_of(&endpoint.network, Vec::new()))));
    }
    Ok(networks)
}

/// Making a network namespace takes a millisecond or more: it runs beside the transaction and the files.
pub(super) fn spawn_netns(record: &Container) -> Option<NetnsAhead> {
    let host = &record.spec.host;
    let ours = (host.is_networked() || host.network == NetworkMode::None) && !oci_config::netns_of_init(host);
    ours.then(|| NetnsAhead::Making(std::thread::spawn(network::create_netns)))
}

/// Takes the host ports: `-p`, and with `-P` each exposed port that `-p` does not name.
fn hold(record: &Container, first: impl Fn() -> Result<Option<Network>>) -> Result<Vec<HeldPort>> {
    let host = &record.spec.host;
    if !host.is_networked() {
        return Ok(Vec::new());
    }
    let mut mappings = host.ports.clone();
    if host.publish_all {
        for text in &record.spec.exposed {
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let found = Protocol::named(protocol);
            let protocol = found.ok_or_else(|| Error::invalid(format!("cannot publish {text}: protocol {protocol} is not supported")))?;
            let Ok(container_port) = port.parse::<u16>() else { continue };
            if !mappings.iter().any(|m| m.container_port == container_port && m.protocol == protocol) {
                mappings.push(PortMapping { host_ip: None, host_ports: None, container_port, protocol });
            }
        }
    }
    if mappings.is_empty() {
        return Ok(Vec::new());
    }
    let Some(network) = first()? else { return Ok(Vec::new()) };
    bind(&mut mappings, &network);
    Ok(network::hold_ports(&mappings, network.has_ipv6())?)
}
