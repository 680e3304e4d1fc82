//! pod create: checks, volumes, directory; then one transaction makes name, record and references.

use super::super::container::{self, OperationLock};
use super::super::request::CreateContainer;
use super::super::request::pod::CreatePod;
use super::super::{Engine, Error, Result, events};
use super::duplicate;
use crate::base::fs::Context;
use crate::base::{PodId, PodName, Timestamp, Undo};
use crate::network;
use crate::state::pod::{Pod, PodPhase, PodSpec};
use crate::state::record::{Network, NetworkMode, PortMapping, UsernsMode, Volume};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

/// Tries at finding a free generated name.
const NAME_TRIES: u32 = 20;
/// Version of [`PodSpec`] documents.
const SPEC_VERSION: u32 = 1;

impl Engine {
    /// Makes a pod; nothing of it is up until it or a member is started.
    ///
    /// # Errors
    /// The request contradicts itself or the host, or the name is taken.
    pub fn create_pod(&self, request: &CreatePod) -> Result<Pod> {
        check(request)?;
        if let (true, Some(name)) = (request.replace, &request.name)
            && let Some(old) = self.db.find_pod(name.as_str())?.filter(|old| old.name == *name)
        {
            self.remove_pod(old.id.as_str(), true, None)?;
        }
        let mut inherited = Vec::new();
        for from in &request.volumes_from {
            inherited.push((self.find(&from.container)?.spec.mounts, from.read_only));
        }
        let merged = container::merge_mounts(&request.mounts, &inherited, &[], &BTreeMap::new())?;
        let mut warnings = Vec::new();
        container::prepare_binds(&request.mounts, &mut warnings)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let mut host = request.host.clone();
        host.volumes_from = request.volumes_from.iter().map(|from| from.text.clone()).collect();
        let network = container::gateway_network(self.wanted_networks(&host)?);
        host.ports = settle_ports(host.ports, network.as_ref())?;
        let mut pod = Pod {
            id: PodId::random(),
            name: request.name.clone().unwrap_or_else(|| generate(0)),
            created: Timestamp::now(),
            phase: PodPhase::Created,
            started: Timestamp::NEVER,
            endpoints: Vec::new(),
            published: Vec::new(),
            spec: PodSpec {
                version: SPEC_VERSION,
                hostname: String::new(),
                labels: request.labels.clone(),
                shares: request.shares,
                mounts: merged.mounts,
                no_hosts: request.no_hosts,
                share_parent: request.share_parent,
                exit_policy: request.exit_policy,
                command: request.command.clone(),
                host,
            },
        };
        let lock = container::lock(&self.privilege.roots, &pod.id)?;
        let mut undo = Undo::new();
        self.make_pod_volumes(&merged.volumes, &lock, &mut undo)?;
        container::failpoint_at("engine.pod.volumes")?;
        self.insert_pod(&mut pod, request, &merged.volumes)?;
        undo.commit();
        self.emit([events::of_pod(&pod, "create")]);
        container::failpoint_at("engine.pod.recorded")?;
        Ok(pod)
    }

    fn insert_pod(&self, pod: &mut Pod, request: &CreatePod, volumes: &[Volume]) -> Result<()> {
        for attempt in 1.. {
            // The name of the pod is its host name, unless another was given.
            pod.spec.hostname = request.hostname.clone().unwrap_or_else(|| duplicate::default_hostname(&pod.name));
            let result = self.db.write(true, |tx| -> Result<()> {
                for volume in volumes {
                    tx.insert_volume(volume)?;
                }
                Ok(tx.insert_pod(pod)?)
            });
            match result {
                Err(Error::State(crate::state::Error::NameTaken { .. })) if request.name.is_none() && attempt <= NAME_TRIES => {
                    pod.name = generate(attempt)
                }
                Err(Error::State(crate::state::Error::NameTaken { .. })) => return Err(self.pod_name_conflict(&pod.name)?),
                other => return other,
            }
        }
        unreachable!("invariant: the last try returns")
    }

    pub(super) fn pod_name_conflict(&self, name: &PodName) -> Result<Error> {
        let holder = match self.db.find_pod(name.as_str())? {
            Some(pod) if pod.name == *name => format!("pod \"{}\"", pod.id),
            _ => "a container".to_owned(),
        };
        Ok(Error::Conflict {
            message: format!("the pod name \"{name}\" is already in use by {holder}"),
            hint: Some("choose another name, or take its place with --replace".to_owned()),
        })
    }

    /// Directories of volumes that do not exist yet; their rows come with the pod's.
    fn make_pod_volumes(&self, volumes: &[Volume], lock: &OperationLock, undo: &mut Undo<'static>) -> Result<()> {
        for volume in volumes {
            if self.db.volume(&volume.name)?.is_some() {
                continue;
            }
            let data = self.volume_mountpoint(&volume.name);
            let directory = self.privilege.roots.volumes().join(volume.name.as_str());
            lock.note_volume(&volume.name)?;
            self.finish_rename_from(&volume.name)?;
            // Without a row, whatever lies here is debris of a command that died.
            crate::base::fs::remove_tree(&directory)?;
            crate::base::fs::create_dir_all(&directory, 0o700)?;
            undo.push("volume directory", move || crate::base::fs::remove_tree(&directory));
            crate::base::fs::create_dir_all(&data, 0o755)?;
            // mkdir(2) applied our umask.
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).on("change the mode of", &data)?;
        }
        Ok(())
    }
}

/// The words of a container's name serve.
fn generate(attempt: u32) -> PodName {
    let name = container::generate_name(attempt);
    name.as_str().parse().expect("invariant: both kinds of names have one grammar")
}

/// A port that was left open is chosen now: what a pod publishes is fixed with it.
fn settle_ports(mut ports: Vec<PortMapping>, network: Option<&Network>) -> Result<Vec<PortMapping>> {
    if let Some(network) = network {
        container::bind_ports(&mut ports, network);
    }
    let ipv6 = network.is_some_and(Network::has_ipv6);
    let settle = |mapping: PortMapping| {
        let fixed = mapping.host_ports.is_some_and(|(first, last)| first == last);
        if fixed {
            return Ok(mapping);
        }
        let held = network::hold_ports(std::slice::from_ref(&mapping), ipv6)?;
        let port = held.first().map(|held| held.port.host_port);
        Ok(PortMapping { host_ports: port.map(|port| (port, port)), ..mapping })
    };
    ports.into_iter().map(settle).collect()
}

fn refuse<T>(message: impl Into<String>, hint: &str) -> Result<T> {
    Err(Error::Invalid { message: message.into(), hint: Some(hint.to_owned()) })
}

/// Checks a request as far as it can be checked without other objects.
fn check(request: &CreatePod) -> Result<()> {
    let (host, shares) = (&request.host, request.shares);
    // What a pod says about network, names and limits follows the rules of a container that says the same.
    let alike = CreateContainer { hostname: request.hostname.clone(), host: host.clone(), ..CreateContainer::default() };
    container::check_request(&alike, &container::HostFacts::read())?;
    container::check_hosts(host)?;
    let network = [
        (host.network != NetworkMode::Bridge, "--network"),
        (!host.ports.is_empty(), "--publish"),
        (!host.dns.is_empty() || !host.dns_search.is_empty() || !host.dns_options.is_empty(), "--dns"),
        (!host.extra_hosts.is_empty(), "--add-host"),
        (host.mac_address.is_some(), "--mac-address"),
        (request.no_hosts, "--no-hosts"),
        (host.sysctls.keys().any(|key| key.starts_with("net")), "--sysctl net.*"),
    ];
    if let Some((_, flag)) = network.into_iter().find(|(given, _)| *given && !shares.net) {
        return refuse(format!("conflicting options: {flag} and a pod that shares no network"), "add net to --share");
    }
    match host.network {
        NetworkMode::Container(_) | NetworkMode::Pod => return refuse("a pod cannot join the network of a container", "use bridge, host or none"),
        NetworkMode::Host | NetworkMode::None if !host.ports.is_empty() => {
            return refuse("conflicting options: --publish and the network mode", "publish ports on the bridge network, or drop --publish");
        }
        _ => {}
    }
    for (given, flag, shared, word) in [
        (request.hostname.is_some(), "--hostname", shares.uts, "uts"),
        (host.shm_size != 0, "--shm-size", shares.ipc, "ipc"),
        (host.sysctls.keys().any(|key| !key.starts_with("net")), "--sysctl", shares.ipc, "ipc"),
    ] {
        if given && !shared {
            return refuse(format!("conflicting options: {flag} and a pod that does not share it"), &format!("add {word} to --share"));
        }
    }
    if host.sysctls.keys().any(|key| key.replace('/', ".") == "kernel.domainname") {
        return refuse("sysctl \"kernel.domainname\" is not allowed for a pod", "give --domainname to a container");
    }
    if shares.cgroup && !request.share_parent {
        return refuse(
            "conflicting options: --share cgroup and --share-parent=false: its root is the group of the pod",
            "leave cgroup out of --share",
        );
    }
    if host.uts_host && shares.uts {
        return refuse("conflicting options: --uts host and a shared UTS namespace", "leave uts out of --share");
    }
    if host.userns != UsernsMode::Host {
        return refuse("a pod with a user namespace is not supported", "give --uidmap and --gidmap to containers outside of pods");
    }
    if !request.share_parent && host.resources != crate::state::record::Resources::default() {
        return refuse("conflicting options: limits of the pod and --share-parent=false", "limit the containers instead");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::pod::DEFAULT_SHARES;
    use crate::state::pod::Shares;
    use crate::state::record::Protocol;

    fn checked(edit: impl Fn(&mut CreatePod)) -> std::result::Result<(), String> {
        let mut request = CreatePod { shares: DEFAULT_SHARES, share_parent: true, ..CreatePod::default() };
        edit(&mut request);
        check(&request).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_shared_cannot_be_set() {
        assert_eq!(checked(|_| {}), Ok(()));
        let none = |r: &mut CreatePod| r.shares = Shares::default();
        let port = PortMapping { host_ip: None, host_ports: Some((80, 80)), container_port: 80, protocol: Protocol::Tcp };
        type Edit<'a> = &'a dyn Fn(&mut CreatePod);
        let cases: [(&str, Edit<'_>); 8] = [
            ("--publish", &|r| r.host.ports.push(port.clone())),
            ("--network", &|r| r.host.network = NetworkMode::Host),
            ("--dns", &|r| r.host.dns.push("1.1.1.1".to_owned())),
            ("--no-hosts", &|r| r.no_hosts = true),
            ("--hostname", &|r| r.hostname = Some("x".to_owned())),
            ("--shm-size", &|r| r.host.shm_size = 1),
            ("--sysctl", &|r| drop(r.host.sysctls.insert("kernel.shmmax".to_owned(), "1".to_owned()))),
            ("--sysctl net", &|r| drop(r.host.sysctls.insert("net.core.somaxconn".to_owned(), "1".to_owned()))),
        ];
        for (flag, edit) in cases {
            let message = checked(|r| {
                none(r);
                edit(r);
            });
            assert!(message.as_ref().is_err_and(|text| text.contains(flag)), "{flag}: {message:?}");
            if flag != "--network" {
                assert_eq!(checked(edit), Ok(()), "{flag}");
            }
        }
        assert!(
            checked(|r| {
                r.host.network = NetworkMode::Host;
                r.host.ports.push(port.clone());
            })
            .is_err()
        );
        assert!(
            checked(|r| {
                r.share_parent = false;
                r.host.resources.memory = Some(1 << 30);
            })
            .is_err()
        );
        assert!(checked(|r| r.host.resources.memory = Some(1)).is_err());
    }
}
