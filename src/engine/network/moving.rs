//! A change of the networks of a running container: interfaces, default route, published ports, what its monitor and its files know.
//!
//! Invariant: the record says first what is to be, and keeps what was (`Container::moving`) until all of it is done; the leases of
//! both stand until then. Each step may be done twice, so that whoever meets the record of a killed command goes on from it, or
//! goes back if that fails. The end of the container takes away what both have.

use super::super::container::{self, Joining};
use super::*;
use crate::monitor;
use crate::network::{HeldPort, Netns};
use crate::state::Tx;
use crate::state::record::{Container, Endpoint, Networked, Phase, PortMapping, PublishedPort};

/// From what it had to what its record says.
struct Move<'a> {
    from: &'a Networked,
    to: &'a Container,
    /// The sockets of ports that are new; None: somebody else has begun this, and what is to be held is taken anew.
    held: Option<Vec<HeldPort>>,
    /// A step that fails does not stop the others.
    force: bool,
}

impl Engine {
    /// Changes the networks of a running container to what `now` says. `lease` takes, in the transaction that notes the change, what
    /// it needs besides what it has.
    ///
    /// # Errors
    /// A step fails (then it is as before, unless `force`); the container has ended.
    pub(super) fn change_networks(
        &self,
        before: &Container,
        now: &mut Container,
        held: Vec<HeldPort>,
        force: bool,
        lease: &dyn Fn(&Tx<'_>, &mut Container) -> Result<()>,
    ) -> Result<()> {
        let from = before.networked();
        *now = self.db.write(true, |tx| -> Result<Container> {
            still_runs(tx, before)?.ok_or_else(|| ended(before))?;
            let mut now = now.clone();
            lease(tx, &mut now)?;
            note(tx, &mut now, &from)?;
            Ok(now)
        })?;
        let noted = container::failpoint_at("engine.network.move.noted");
        let done = noted.and_then(|()| self.carry_out(&Move { from: &from, to: now, held: Some(held), force }));
        self.end_or_go_back(&from, now, past(done, force), force)
    }

    /// Completes a change that a killed command has begun, or takes it back. The caller holds the operation lock. One that is
    /// between two runs waits for the next.
    ///
    /// # Errors
    /// Neither can be done.
    pub(in crate::engine) fn finish_move(&self, now: Container) -> Result<()> {
        let Some(from) = now.moving.clone() else { return Ok(()) };
        if self.pid_of(&now).is_none() {
            return Ok(());
        }
        let done = self.carry_out(&Move { from: &from, to: &now, held: None, force: false });
        self.end_or_go_back(&from, &now, done, false)
    }

    fn end_or_go_back(&self, from: &Networked, now: &Container, done: Result<()>, force: bool) -> Result<()> {
        let Err(error) = done else {
            let told = self.tell(from, now).and_then(|()| container::failpoint_at("engine.network.move.told"));
            self.complete(from, now)?;
            self.emit_move(from, now)?;
            return past(told, force);
        };
        if let Err(second) = self.go_back(from, now) {
            // It stays noted: the next command tries again, and the end of the container takes all of it.
            tracing::warn!("cannot take back the change of networks of container \"{}\": {}", now.name, container::describe(&second));
        }
        Err(error)
    }

    fn go_back(&self, from: &Networked, now: &Container) -> Result<()> {
        let failed = now.networked();
        let mut to = Container { endpoints: from.endpoints.clone(), published: from.published.clone(), moving: None, ..now.clone() };
        to.spec.host.attachments.clone_from(&from.attachments);
        let runs = self.db.write(true, |tx| -> Result<bool> {
            let runs = still_runs(tx, now)?.is_some();
            if runs {
                note(tx, &mut to, &failed)?;
            }
            Ok(runs)
        })?;
        if !runs {
            return self.complete(&failed, &to);
        }
        self.carry_out(&Move { from: &failed, to: &to, held: None, force: false })?;
        self.tell(&failed, &to)?;
        self.complete(&failed, &to)
    }

    /// What the kernel and the monitor have. New comes before old, so that ports that move are never away.
    fn carry_out(&self, step: &Move<'_>) -> Result<()> {
        let Move { from, to, force, .. } = *step;
        let Some(pid) = self.pid_of(to) else { return Err(ended(to)) };
        let netns = self.netns_of_running(to, pid)?;
        let networks = self.networks_of(&to.all_endpoints())?;
        let of = |endpoint: &Endpoint| networks.iter().find(|network| network.name == endpoint.network);
        for endpoint in missing(&to.endpoints, &from.endpoints) {
            let network = of(endpoint).ok_or_else(|| Error::no_such("network", &endpoint.network))?;
            if step.held.is_none() {
                container::detach(&to.id, network, &netns, endpoint)?;
            }
            past(container::attach_endpoint(&self.db, &to.id, &netns, network, endpoint), force)?;
        }
        container::failpoint_at("engine.network.move.attached")?;
        past(self.lead(from, to, &netns, &networks), force)?;
        container::failpoint_at("engine.network.move.led")?;
        past(self.hand_over(step), force)?;
        container::failpoint_at("engine.network.move.handed")?;
        for endpoint in missing(&from.endpoints, &to.endpoints) {
            if let Some(network) = of(endpoint) {
                past(container::detach(&to.id, network, &netns, endpoint), force)?;
            }
        }
        container::failpoint_at("engine.network.move.detached")
    }

    /// Default route and published ports go where the record says now.
    fn lead(&self, from: &Networked, to: &Container, netns: &Netns, networks: &[Network]) -> Result<()> {
        let (former, primary) = (record::primary(&from.endpoints), to.primary());
        let elsewhere = former.map(|e| &e.id) != primary.map(|e| &e.id);
        if elsewhere {
            container::route_by(&to.id, netns, networks, primary)?;
        }
        if elsewhere || from.published != to.published {
            container::publish(&Joining { id: &to.id, endpoints: &to.endpoints, published: &to.published })?;
            container::unpublish(&from.endpoints, &from.published)?;
        }
        Ok(())
    }

    fn hand_over(&self, step: &Move<'_>) -> Result<()> {
        let Move { from, to, .. } = *step;
        let roots = &self.privilege.roots;
        if from.published == to.published {
            return Ok(());
        }
        if to.published.is_empty() {
            // They lead nowhere any more: what the monitor goes on holding is only not free.
            return past(container::reserve_ports(roots, to, &[]), true);
        }
        match &step.held {
            Some(held) => container::reserve_ports(roots, to, held),
            None => {
                let held = take_anew(to);
                // Nothing could be taken: the monitor has them all.
                if held.is_empty() { Ok(()) } else { container::reserve_ports(roots, to, &held) }
            }
        }
    }

    /// Names on its networks, its own files and its resolver follow.
    fn tell(&self, from: &Networked, to: &Container) -> Result<()> {
        names::refresh(&self.db, &self.privilege.roots, &self.networks_of(&to.all_endpoints())?)?;
        let networks = self.networks_of(&to.endpoints)?;
        let before = Container { endpoints: from.endpoints.clone(), ..to.clone() };
        container::follow_in_etc(&self.privilege.roots.container(&to.id), &before, to, &networks)?;
        // One that has had no network with names has no resolver, and needs none.
        let had_names = self.networks_of(&from.endpoints)?.iter().any(|network| network.dns);
        if !had_names && !networks.iter().any(|network| network.dns) {
            return Ok(());
        }
        container::follow_networks(&self.privilege.roots, to, &networks)
    }

    /// Gives back the leases of what it had only before. If it has ended meanwhile, its end may not have seen all of this.
    fn complete(&self, from: &Networked, to: &Container) -> Result<()> {
        // Whatever loses this loses the container's run, too.
        let runs = self.db.write(false, |tx| -> Result<bool> {
            let Some(mut now) = still_runs(tx, to)? else { return Ok(false) };
            for endpoint in missing(&from.endpoints, &to.endpoints) {
                tx.release_endpoint(&endpoint.network, &to.id)?;
            }
            if to.published.is_empty() {
                tx.release_ports(&to.id)?;
            }
            now.moving = None;
            tx.update_container(&now)?;
            Ok(true)
        })?;
        if !runs {
            container::unpublish(&to.endpoints, &to.published)?;
            container::unpublish(&from.endpoints, &from.published)?;
            names::refresh(&self.db, &self.privilege.roots, &self.networks_of(&to.all_endpoints())?)?;
        }
        Ok(())
    }

    fn emit_move(&self, from: &Networked, to: &Container) -> Result<()> {
        for (those, action) in [(missing(&to.endpoints, &from.endpoints), "connect"), (missing(&from.endpoints, &to.endpoints), "disconnect")] {
            let those: Vec<Endpoint> = those.cloned().collect();
            self.emit(self.networks_of(&those)?.iter().map(|network| events::of_network(&to.id, network, action)));
        }
        Ok(())
    }

    fn pid_of(&self, record: &Container) -> Option<i32> {
        monitor::Live::read(&self.privilege.roots.live(&record.id)).and_then(|live| live.pid)
    }

    /// The namespace of its init, which must still be the one that its monitor has.
    fn netns_of_running(&self, record: &Container, pid: i32) -> Result<Netns> {
        let netns = network::enter_netns(network::netns_of(pid)?)?;
        if monitor::is_alive(&self.privilege.roots.live(&record.id)) && record.phase == Phase::Started { Ok(netns) } else { Err(ended(record)) }
    }
}

/// Those of `these` that are not among `those`.
fn missing<'a>(these: &'a [Endpoint], those: &'a [Endpoint]) -> impl Iterator<Item = &'a Endpoint> {
    these.iter().filter(|endpoint| those.iter().all(|other| other.id != endpoint.id))
}

/// Its record, if the run that is meant is not over.
fn still_runs(tx: &Tx<'_>, record: &Container) -> Result<Option<Container>> {
    let now = tx.container(&record.id)?;
    Ok(now.filter(|now| now.phase == Phase::Started && now.started == record.started))
}

fn note(tx: &Tx<'_>, now: &mut Container, from: &Networked) -> Result<()> {
    now.moving = Some(Box::new(from.clone()));
    for port in &now.published {
        tx.lease_port(&now.id, port)?;
    }
    let carrier = now.primary().filter(|_| !now.published.is_empty());
    tx.retarget_ports(&now.id, carrier.map(|endpoint| endpoint.network.as_str()))?;
    Ok(tx.update_container(now)?)
}

/// What another program has taken meanwhile leads to the container all the same.
fn take_anew(record: &Container) -> Vec<HeldPort> {
    let ipv6 = record.primary().is_some_and(|endpoint| endpoint.ipv6.is_some());
    let mapping = |port: &PublishedPort| PortMapping {
        host_ip: port.host_ip,
        host_ports: Some((port.host_port, port.host_port)),
        container_port: port.container_port,
        protocol: port.protocol,
    };
    record.published.iter().filter_map(|port| network::hold_ports(&[mapping(port)], ipv6).ok()).flatten().collect()
}

fn ended(record: &Container) -> Error {
    Error::conflict(format!("container {} ended meanwhile", record.name))
}

/// A failure that `--force` goes past.
fn past(result: Result<()>, force: bool) -> Result<()> {
    match result {
        Err(error) if force => {
            tracing::warn!("disconnect: {}", container::describe(&error));
            Ok(())
        }
        other => other,
    }
}
