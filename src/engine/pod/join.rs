//! What a container that joins a pod gets from it, and which of its own wishes contradict that.

use super::super::container::PodInputs;
use super::super::request::CreateContainer;
use super::super::request::pod::{CreatePod, DEFAULT_SHARES, JoinPod};
use super::super::{Engine, Error, Result};
use super::up;
use crate::base::{PodId, PodName, Undo};
use crate::state::pod::Pod;
use crate::state::record::{CgroupnsMode, HostSpec, IpcMode, Membership, NetworkMode, PidMode, RestartPolicy, SecuritySpec, UsernsMode};
use std::borrow::Cow;

impl Engine {
    /// The request as it is with the pod's part in it, and the pod; unchanged without `--pod`. A `new:` pod is made here.
    ///
    /// # Errors
    /// There is no such pod, or the request asks for what belongs to the pod.
    pub(in crate::engine) fn join_pod<'a>(&self, request: &'a CreateContainer) -> Result<(Cow<'a, CreateContainer>, Option<Pod>)> {
        let Some(join) = &request.pod else { return Ok((Cow::Borrowed(request), None)) };
        let mut request = request.clone();
        let pod = if join.new { self.create_pod(&new_pod(&mut request, join)?)? } else { self.find_pod(&join.pod)? };
        settle(&mut request, &pod)?;
        Ok((Cow::Owned(request), Some(pod)))
    }

    /// A pod that was made for a container which then cannot be made goes again.
    pub(in crate::engine) fn undo_new_pod(&self, id: &PodId, undo: &mut Undo<'static>) {
        let (privilege, registry, id) = (self.privilege.clone(), self.registry.clone(), id.clone());
        undo.push("a new pod", move || Engine::open(privilege, registry)?.remove_pod(id.as_str(), true, Some(0)).map(drop));
    }

    /// What the OCI config of a member needs to know.
    pub(in crate::engine) fn pod_inputs(&self, membership: &Membership) -> Result<PodInputs> {
        let pod = self.db.pod(&membership.pod)?.ok_or_else(|| Error::no_such("pod", membership.pod.as_str()))?;
        let live_dir = self.privilege.roots.live_pod(&pod.id);
        Ok(PodInputs { live_dir, uts: membership.uts, no_hosts: pod.spec.no_hosts && pod.spec.shares.net })
    }
}

/// `new:NAME`: network, ports and name servers move from the container to the pod.
fn new_pod(request: &mut CreateContainer, join: &JoinPod) -> Result<CreatePod> {
    let name: PodName = join.pod.parse().map_err(|error: crate::base::IdError| Error::invalid(error.to_string()))?;
    let host = &mut request.host;
    if let NetworkMode::Container(_) = host.network {
        return refuse("conflicting options: --pod new: and --network container:", "use the network of the other container without a pod");
    }
    let of_pod = HostSpec {
        network: std::mem::take(&mut host.network),
        ports: std::mem::take(&mut host.ports),
        dns: std::mem::take(&mut host.dns),
        dns_search: std::mem::take(&mut host.dns_search),
        dns_options: std::mem::take(&mut host.dns_options),
        extra_hosts: std::mem::take(&mut host.extra_hosts),
        mac_address: host.mac_address.take(),
        ..HostSpec::default()
    };
    let hostname = request.hostname.take();
    if let Some(join) = &mut request.pod {
        join.given.network = false;
    }
    Ok(CreatePod { name: Some(name), hostname, shares: DEFAULT_SHARES, share_parent: true, host: of_pod, ..CreatePod::default() })
}

fn refuse<T>(message: impl Into<String>, hint: &str) -> Result<T> {
    Err(Error::Invalid { message: message.into(), hint: Some(hint.to_owned()) })
}

/// Writes the pod's part into a request (pure).
///
/// # Errors
/// The first wish that only the pod can have.
fn settle(request: &mut CreateContainer, pod: &Pod) -> Result<()> {
    let Some(join) = request.pod.clone() else { return Ok(()) };
    let (given, shares, of_pod) = (join.given, pod.spec.shares, &pod.spec.host);
    let host = &mut request.host;
    if shares.net {
        require_no_network(host, given.network, pod)?;
        host.network = if of_pod.network == NetworkMode::Host { NetworkMode::Host } else { NetworkMode::Pod };
    }
    let any = shares.net || shares.ipc || shares.uts || shares.pid || shares.cgroup;
    if any && host.userns != UsernsMode::Host {
        return refuse(
            format!("conflicting options: --pod {} and a private user namespace: its root would have no rights in what the pod shares", pod.name),
            "drop --uidmap and --gidmap, or make the pod with --share none",
        );
    }
    if shares.ipc && !given.ipc {
        if host.shm_size != 0 {
            return refuse("conflicting options: --shm-size and a pod that shares /dev/shm", "give --shm-size to pod create");
        }
        host.ipc = IpcMode::Pod;
    }
    if !given.pid {
        host.pid = match of_pod.pid {
            PidMode::Host => PidMode::Host,
            _ if shares.pid => PidMode::Pod,
            _ => std::mem::take(&mut host.pid),
        };
    }
    if shares.cgroup && !given.cgroup {
        host.cgroupns = Some(CgroupnsMode::Pod);
    }
    let uts = shares.uts && !given.uts;
    if uts {
        if request.hostname.is_some() {
            return refuse("conflicting options: --hostname and a pod that shares its host name", "give --hostname to pod create");
        }
        request.hostname = Some(pod.spec.hostname.clone());
    }
    host.uts_host |= of_pod.uts_host && !given.uts;
    if !given.restart && !host.auto_remove && host.restart == RestartPolicy::No {
        host.restart = of_pod.restart.clone();
    }
    if pod.spec.share_parent {
        if !host.cgroup_parent.is_empty() {
            return refuse("conflicting options: --cgroup-parent and a pod whose group is the parent", "make the pod with --share-parent=false");
        }
        host.cgroup_parent = up::group_path(pod);
    }
    host.devices.extend(of_pod.devices.iter().cloned());
    host.device_rules.extend(of_pod.device_rules.iter().cloned());
    if host.security == SecuritySpec::default() {
        host.security = of_pod.security.clone();
    }
    let membership = Membership { pod: pod.id.clone(), uts, init: join.init };
    request.pod = Some(JoinPod { membership: Some(membership), ..join });
    Ok(())
}

fn require_no_network(host: &HostSpec, network: bool, pod: &Pod) -> Result<()> {
    let wishes = [
        (network, "--network"),
        (!host.ports.is_empty(), "--publish"),
        (host.publish_all, "--publish-all"),
        (!host.dns.is_empty() || !host.dns_search.is_empty() || !host.dns_options.is_empty(), "--dns"),
        (!host.extra_hosts.is_empty(), "--add-host"),
        (host.mac_address.is_some(), "--mac-address"),
        (!host.links.is_empty(), "--link"),
    ];
    match wishes.into_iter().find(|(wished, _)| *wished) {
        None => Ok(()),
        Some((_, flag)) => refuse(
            format!("conflicting options: {flag} and --pod {}: the network belongs to the pod", pod.name),
            &format!("give {flag} to pod create, or to run with --pod new:NAME"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PodId, Timestamp};
    use crate::engine::request::pod::{Given, parse};
    use crate::state::pod::{PodPhase, PodSpec, Shares};

    fn pod(shares: Shares) -> Pod {
        let host = HostSpec { restart: RestartPolicy::Always, ..HostSpec::default() };
        Pod {
            id: PodId::random(),
            name: "web".parse().unwrap(),
            created: Timestamp::now(),
            phase: PodPhase::Created,
            started: Timestamp::NEVER,
            endpoints: Vec::new(),
            published: Vec::new(),
            spec: PodSpec { hostname: "web".to_owned(), shares, share_parent: true, host, ..PodSpec::default() },
        }
    }

    fn settled(shares: Shares, edit: impl Fn(&mut CreateContainer)) -> Result<CreateContainer> {
        let mut request = CreateContainer { pod: Some(parse("web").unwrap()), ..CreateContainer::default() };
        edit(&mut request);
        settle(&mut request, &pod(shares)).map(|()| request)
    }

    #[test]
    fn a_member_gets_what_the_pod_shares_and_nothing_else() {
        let request = settled(DEFAULT_SHARES, |_| {}).unwrap();
        let host = &request.host;
        assert_eq!((&host.network, &host.ipc, &host.pid), (&NetworkMode::Pod, &IpcMode::Pod, &PidMode::Private));
        assert!(request.hostname.as_deref() == Some("web") && host.restart == RestartPolicy::Always && host.cgroup_parent.starts_with("/rcon/pod-"));
        assert!(request.pod.unwrap().membership.unwrap().uts);
        let request = settled(Shares { pid: true, ..Shares::default() }, |r| r.hostname = Some("own".to_owned())).unwrap();
        assert_eq!((&request.host.network, &request.host.ipc, &request.host.pid), (&NetworkMode::Bridge, &IpcMode::Private, &PidMode::Pod));
        assert_eq!(request.hostname.as_deref(), Some("own"));
        let typed = settled(DEFAULT_SHARES, |r| {
            r.pod.as_mut().unwrap().given = Given { ipc: true, restart: true, ..Given::default() };
        });
        let typed = typed.unwrap().host;
        assert_eq!((typed.ipc, typed.restart), (IpcMode::Private, RestartPolicy::No));
    }

    #[test]
    fn what_belongs_to_the_pod_is_refused_by_name() {
        type Edit<'a> = &'a dyn Fn(&mut CreateContainer);
        let cases: [(&str, Edit<'_>); 7] = [
            ("--publish-all", &|r| r.host.publish_all = true),
            ("--network", &|r| r.pod.as_mut().unwrap().given.network = true),
            ("--dns", &|r| r.host.dns.push("1.1.1.1".to_owned())),
            ("--hostname", &|r| r.hostname = Some("x".to_owned())),
            ("--cgroup-parent", &|r| r.host.cgroup_parent = "x".to_owned()),
            ("--shm-size", &|r| r.host.shm_size = 1),
            ("user namespace", &|r| r.host.userns = UsernsMode::Mapped { uids: Vec::new(), gids: Vec::new() }),
        ];
        for (flag, edit) in cases {
            let message = settled(DEFAULT_SHARES, edit).unwrap_err().to_string();
            assert!(message.contains(flag), "{flag}: {message}");
        }
        assert!(settled(Shares::default(), |r| r.host.publish_all = true).is_ok());
    }
}
