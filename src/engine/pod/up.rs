//! Bringing a pod up: leases in one transaction, then what it holds, its files and its control group.

use super::super::container::{self, Joining};
use super::super::{Engine, Error, Result, events};
use super::{down, hold, pause};
use crate::base::{ContainerId, PodId, Timestamp, Undo};
use crate::monitor::Live;
use crate::network::{self, HeldPort};
use crate::runtime::cgroup::Group;
use crate::runtime::cgroup_namespace;
use crate::state::pod::{Pod, PodPhase};
use crate::state::record::{PortMapping, PublishedPort};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::AsFd;

/// Where the pod's control groups are; those of its members are below.
pub(super) fn group_path(pod: &Pod) -> String {
    let parent = match pod.spec.host.cgroup_parent.trim_matches('/') {
        "" => "rcon",
        parent => parent,
    };
    format!("/{parent}/pod-{}", pod.id)
}

impl Engine {
    /// Brings a pod up unless it is. Cheap when it is: a look at the record and at what it holds. Gives sockets that keep its
    /// host ports from other programs, for the monitor of the member that starts.
    ///
    /// # Errors
    /// It is being removed, was started where its namespaces cannot be reached from here, or cannot be brought up.
    pub(in crate::engine) fn pod_up(&self, id: &PodId) -> Result<Vec<HeldPort>> {
        let roots = &self.privilege.roots;
        let gone = || Error::no_such("pod", id.as_str());
        let pod = self.db.pod(id)?.ok_or_else(gone)?;
        down::want_up(roots, id)?;
        if pod.phase == PodPhase::Started && hold::observe(roots, &pod)? == hold::Held::Here {
            return self.hold_again(&pod);
        }
        let _lock = container::lock(roots, id)?;
        let mut pod = self.db.pod(id)?.ok_or_else(gone)?;
        match pod.phase {
            PodPhase::Removing => return Err(Error::conflict(format!("pod {} is being removed", pod.name))),
            PodPhase::Created | PodPhase::Stopped => {}
            PodPhase::Started | PodPhase::Stopping => match hold::observe(roots, &pod)? {
                hold::Held::Here if pod.phase == PodPhase::Started => return self.hold_again(&pod),
                hold::Held::Elsewhere => return Err(elsewhere(&pod)),
                _ => pod = down::end(&self.db, roots, pod)?,
            },
        }
        self.bring_pod_up(pod)
    }

    /// The sockets of a pod's ports: copies of those that a member's monitor holds, and what nobody holds is taken anew. So
    /// they are held as long as one member lives that was started while they were.
    fn hold_again(&self, pod: &Pod) -> Result<Vec<HeldPort>> {
        let mut wanted = pod.spec.host.ports.clone();
        let mut held: Vec<HeldPort> = Vec::new();
        if wanted.is_empty() {
            return Ok(held);
        }
        for member in self.db.pod_members(&pod.id)? {
            held.extend(self.copies_of_member(&member.id, &pod.published));
            let is_held = |port: &PortMapping| {
                let same = |held: &PublishedPort| (held.host_ip, Some((held.host_port, held.host_port)), held.protocol);
                held.iter().any(|held| same(&held.port) == (port.host_ip, port.host_ports, port.protocol))
            };
            wanted.retain(|port| !is_held(port));
            if wanted.is_empty() {
                return Ok(held);
            }
        }
        // What another program has taken meanwhile leads to the pod all the same.
        let ipv6 = self.leads_to_ipv6(pod)?;
        held.extend(wanted.iter().filter_map(|port| network::hold_ports(std::slice::from_ref(port), ipv6).ok()).flatten());
        Ok(held)
    }

    fn leads_to_ipv6(&self, pod: &Pod) -> Result<bool> {
        Ok(container::gateway_network(self.wanted_networks(&pod.spec.host)?).is_some_and(|network| network.has_ipv6()))
    }

    /// Copies of those sockets of these ports that the monitor of a member holds.
    fn copies_of_member(&self, member: &ContainerId, ports: &[PublishedPort]) -> Vec<HeldPort> {
        let live_dir = self.privilege.roots.live(member);
        let Some(pid) = Live::read(&live_dir).and_then(|live| Pid::from_raw(live.monitor_pid)) else { return Vec::new() };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Vec::new() };
        // The lock is looked at after the descriptor was opened: the number still was the monitor's.
        if !crate::monitor::is_alive(&live_dir) {
            return Vec::new();
        }
        network::copies_of(process.as_fd(), pid.as_raw_nonzero().get(), ports)
    }

    /// Takes the host ports of a pod that comes up. It may have gone down under a member that waits for its next run: that
    /// one's monitor still has the sockets of before, and copies of them serve as well.
    fn take_ports(&self, pod: &Pod) -> Result<Vec<HeldPort>> {
        let wanted = &pod.spec.host.ports;
        let ipv6 = self.leads_to_ipv6(pod)?;
        if let Ok(held) = network::hold_ports(wanted, ipv6) {
            return Ok(held);
        }
        let fixed = |port: &PortMapping| {
            let (host_port, last) = port.host_ports?;
            let publication = PublishedPort { host_ip: port.host_ip, host_port, container_port: port.container_port, protocol: port.protocol };
            (host_port == last).then_some(publication)
        };
        let before: Vec<PublishedPort> = wanted.iter().filter_map(fixed).collect();
        let members = self.db.pod_members(&pod.id)?;
        let mut copies: Vec<HeldPort> = members.iter().flat_map(|member| self.copies_of_member(&member.id, &before)).collect();
        let mut held = Vec::with_capacity(wanted.len());
        for port in wanted {
            let copy = fixed(port).and_then(|port| copies.iter().position(|copy| copy.port == port));
            match copy {
                Some(copy) => held.push(copies.swap_remove(copy)),
                None => held.extend(network::hold_ports(std::slice::from_ref(port), ipv6)?),
            }
        }
        Ok(held)
    }

    /// The caller holds the pod's lock.
    fn bring_pod_up(&self, mut pod: Pod) -> Result<Vec<HeldPort>> {
        let bridged = pod.spec.shares.net && pod.spec.host.is_networked();
        let held = if bridged { self.take_ports(&pod)? } else { Vec::new() };
        let wanted = if bridged { self.wanted_networks(&pod.spec.host)? } else { Vec::new() };
        pod.phase = PodPhase::Started;
        pod.started = Timestamp::now();
        self.db.write(false, |tx| -> Result<()> {
            (pod.endpoints, pod.published) = container::lease_endpoints(tx, &wanted, &pod.id, &held)?;
            Ok(tx.update_pod(&pod)?)
        })?;
        container::failpoint_at("engine.pod.reserved")?;
        let mut undo = Undo::new();
        let (db, roots) = (&self.db, &self.privilege.roots);
        let started = pod.clone();
        undo.push("the start of a pod", move || down::end(db, roots, started).map(drop));
        self.make(&pod)?;
        undo.commit();
        self.emit([events::of_pod(&pod, "start")]);
        Ok(held)
    }

    fn make(&self, pod: &Pod) -> Result<()> {
        let roots = &self.privilege.roots;
        hold::release(roots, &pod.id)?;
        let netns = hold::make(roots, pod)?;
        container::failpoint_at("engine.pod.namespaces")?;
        let mut pod = pod.clone();
        if netns.is_some() && pod.endpoints.iter().any(super::super::cni::is_cni) {
            let (id, path, published) = (pod.id.clone(), roots.live_pod(&pod.id).join(hold::NET), pod.published.clone());
            self.attach_cni(&id, &path, &pod.spec.host, &mut pod.endpoints, &published)?;
            self.db.write(false, |tx| tx.update_pod(&pod))?;
        }
        let pod = &pod;
        let networks = self.networks_of(&pod.endpoints)?;
        if let Some(netns) = &netns {
            let who = Joining { id: &pod.id, endpoints: &pod.endpoints, published: &pod.published };
            container::connect_endpoints(&self.db, &who, netns, &networks)?;
            super::super::network::refresh_names(&self.db, roots, &networks)?;
        }
        container::failpoint_at("engine.pod.network")?;
        let host = &pod.spec.host;
        let directory = roots.pod(&pod.id);
        crate::base::fs::create_dir_all(&directory, 0o700)?;
        let with_dns = self.with_given_dns(&pod.id, host, &pod.endpoints)?;
        container::write_etc(&with_dns, "", &pod.endpoints, &directory, &pod.spec.hostname, &networks, &[])?;
        let facts = container::HostFacts::read();
        let limits = container::resources_section(&host.resources, &facts)?;
        let group = Group::create_above(&group_path(pod), Some(&limits))?;
        if pod.spec.shares.cgroup {
            // Before the first member's group: from then on no process can be in the pod's own (v2).
            let namespace = cgroup_namespace(|pid| group.join_all(pid).map_err(Error::from))?;
            hold::keep(&roots.live_pod(&pod.id).join(hold::CGROUP), namespace.as_fd())?;
        }
        container::failpoint_at("engine.pod.group")?;
        if pod.spec.shares.pid {
            pause::start(roots, pod)?;
        }
        container::failpoint_at("engine.pod.held")?;
        hold::mark(roots, &pod.id)
    }
}

fn elsewhere(pod: &Pod) -> Error {
    Error::Conflict {
        message: format!("pod {} was started in another mount namespace: its namespaces cannot be reached from here", pod.name),
        hint: Some("use it from where it was started, or stop it there".to_owned()),
    }
}
