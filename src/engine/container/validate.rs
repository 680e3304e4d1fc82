//! Requests that contradict themselves or the host are refused before anything is made (pure: the host's facts are given).

use super::super::request::CreateContainer;
use super::super::{Error, Result};
use super::resources::{HostFacts, parse_set};
use crate::state::record::{HostSpec, IpcMode, NetworkMode, PidMode, Resources, RestartPolicy, UsernsMode};

/// Docker's floor of a memory limit: below it not even the init stage fits.
const MEMORY_FLOOR: u64 = 6 << 20;

fn refuse<T>(message: impl Into<String>, hint: &str) -> Result<T> {
    Err(Error::Invalid { message: message.into(), hint: Some(hint.to_owned()) })
}

/// Checks a request as far as it can be checked without other objects.
///
/// # Errors
/// The first contradiction, naming the flag to change.
pub(in crate::engine) fn request(request: &CreateContainer, facts: &HostFacts) -> Result<()> {
    let host = &request.host;
    resources(&host.resources, facts)?;
    if host.auto_remove && host.restart != RestartPolicy::No {
        return refuse("conflicting options: cannot specify both --restart and --rm", "drop one of the two flags");
    }
    for (flag, text) in [("--hostname", &request.hostname), ("--domainname", &request.domainname)] {
        if let Some(text) = text
            && (text.len() > 64 || text.chars().any(|c| c.is_control() || c.is_whitespace()))
        {
            return refuse(format!("invalid {flag} {text:?}: at most 64 characters, without blanks and control characters"), "choose another name");
        }
    }
    for (name, _) in &host.extra_hosts {
        if !crate::network::valid_host_entry(name) {
            return refuse(format!("invalid host name {name:?} in --add-host"), "give --add-host as name:ip");
        }
    }
    for text in host.dns.iter().chain(&host.dns_search).chain(&host.dns_options) {
        if !crate::network::valid_host_entry(text) {
            return refuse(format!("invalid DNS setting {text:?}"), "check --dns, --dns-search and --dns-option");
        }
    }
    network(request)?;
    namespaces(host)?;
    if request.rootfs.as_ref().is_some_and(|rootfs| !rootfs.overlay) && host.userns != UsernsMode::Host {
        return refuse(
            "conflicting options: --rootfs DIR and a private user namespace: what is in the directory belongs to other ids",
            "leave the directory as it is with --rootfs DIR:O, whose files are shown with the container's ids",
        );
    }
    sysctls(host)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!("invalid --oom-score-adj {}: it must be between -1000 and 1000", host.oom_score_adj), "choose a value in that range");
    }
    if host.cgroup_parent.split('/').any(|part| part == "..") || host.cgroup_parent.chars().any(char::is_control) {
        return refuse(format!("invalid --cgroup-parent {:?}", host.cgroup_parent), "give a path below the cgroup root");
    }
    if let Some(label) = host.security.label.iter().find(|l| *l != "disable") {
        return refuse(format!("--security-opt label={label} is not supported"), "only label=disable is accepted");
    }
    Ok(())
}

fn network(request: &CreateContainer) -> Result<()> {
    let host = &request.host;
    let published = !host.ports.is_empty() || host.publish_all;
    match &host.network {
        NetworkMode::Container(_) if request.hostname.is_some() => {
            refuse("conflicting options: hostname and the network mode", "drop --hostname: the name comes from the joined container")
        }
        NetworkMode::Container(_) if published => {
            refuse("conflicting options: port publishing and the container type network mode", "publish the ports on the joined container")
        }
        NetworkMode::Container(_) if !host.extra_hosts.is_empty() || !host.dns.is_empty() => {
            refuse("conflicting options: --add-host or --dns and the container type network mode", "set them on the joined container")
        }
        NetworkMode::Container(_) | NetworkMode::Host | NetworkMode::None if host.mac_address.is_some() => {
            refuse("conflicting options: --mac-address and the network mode", "drop --mac-address")
        }
        _ => Ok(()),
    }
}

pub(super) fn namespaces(host: &HostSpec) -> Result<()> {
    let joined = matches!(host.userns, UsernsMode::Container { .. });
    let (uids, gids) = match &host.userns {
        UsernsMode::Host => return Ok(()),
        UsernsMode::Auto(_) => return private(host, false),
        // Its maps are known when that container, or that namespace, has been found.
        UsernsMode::Container { uids, .. } | UsernsMode::Path { uids, .. } if uids.is_empty() => return Ok(()),
        UsernsMode::Mapped { uids, gids } | UsernsMode::Container { uids, gids, .. } | UsernsMode::Path { uids, gids, .. } => (uids, gids),
    };
    if uids.is_empty() || gids.is_empty() {
        return refuse("a user namespace needs uid and gid mappings", "check --userns");
    }
    for (flag, maps) in [("--uidmap", uids), ("--gidmap", gids)] {
        if !maps.iter().any(|m| m.container == 0) {
            return refuse(format!("a user namespace needs a mapping of the container's id 0: {flag}"), "add a mapping such as 0:100000:65536");
        }
    }
    private(host, joined)
}

/// Namespaces of others belong to other user namespaces, in which this container's root has no rights; unless it has
/// joined that of another container.
fn private(host: &HostSpec, joined: bool) -> Result<()> {
    let conflict = [
        (host.privileged, "--privileged"),
        (host.network == NetworkMode::Host, "--network host"),
        (host.pid == PidMode::Host, "--pid host"),
        (host.uts_host, "--uts host"),
        (!joined && matches!(host.network, NetworkMode::Container(_)), "--network container:"),
        (!joined && matches!(host.pid, PidMode::Container(_)), "--pid container:"),
        (host.ipc == IpcMode::Host, "--ipc host"),
        (!joined && matches!(host.ipc, IpcMode::Container(_)), "--ipc container:"),
    ];
    match conflict.iter().find(|(set, _)| *set) {
        Some((_, flag)) => {
            refuse(format!("conflicting options: {flag} and a private user namespace"), "drop --userns, --uidmap and --gidmap, or that option")
        }
        None => Ok(()),
    }
}

/// The sysctls that are namespaced, and only where the container has its own namespace.
fn sysctls(host: &HostSpec) -> Result<()> {
    for (key, value) in &host.sysctls {
        let normal = key.replace('/', ".");
        let ipc = matches!(
            normal.as_str(),
            "kernel.msgmax"
                | "kernel.msgmnb"
                | "kernel.msgmni"
                | "kernel.sem"
                | "kernel.shmall"
                | "kernel.shmmax"
                | "kernel.shmmni"
                | "kernel.shm_rmid_forced"
        ) || normal.starts_with("fs.mqueue.");
        let net = normal.starts_with("net.");
        let strange = normal.contains("..") || normal.chars().chain(value.chars()).any(|c| c.is_control() && c != '\t');
        if strange || !(ipc || net || normal == "kernel.domainname") {
            return refuse(
                format!("sysctl \"{key}\" is not allowed: it is not in a namespace of the container"),
                "only net.*, kernel.msg*, kernel.sem, kernel.shm* and fs.mqueue.* are possible",
            );
        }
        if ipc && matches!(host.ipc, IpcMode::Host | IpcMode::Container(_) | IpcMode::Pod) {
            return refuse(format!("sysctl \"{key}\" is not allowed without a private IPC namespace"), "drop --ipc");
        }
        if net && matches!(host.network, NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Pod) {
            return refuse(format!("sysctl \"{key}\" is not allowed without a private network namespace"), "drop --network");
        }
        if normal == "kernel.domainname" && host.uts_host {
            return refuse(format!("sysctl \"{key}\" is not allowed with --uts host"), "drop --uts host");
        }
    }
    Ok(())
}

/// Checks limits against Docker's rules and this host.
///
/// # Errors
/// The first value that is out of range or contradicts another.
pub(super) fn resources(r: &Resources, facts: &HostFacts) -> Result<()> {
    if r.memory.is_some_and(|m| m < MEMORY_FLOOR) {
        return refuse("minimum memory limit allowed is 6MB", "raise --memory");
    }
    match (r.memory, r.memory_swap) {
        (None, Some(swap)) if swap > 0 => return refuse("you should always set the memory limit when using the memory swap limit", "add --memory"),
        (Some(memory), Some(swap)) if swap >= 0 && swap.unsigned_abs() < memory => {
            return refuse("the memory swap limit is memory plus swap: it cannot be less than the memory limit", "raise --memory-swap");
        }
        (_, Some(swap)) if swap < -1 => return refuse(format!("invalid --memory-swap {swap}"), "-1 is unlimited"),
        _ => {}
    }
    if let (Some(memory), Some(reservation)) = (r.memory, r.memory_reservation)
        && memory < reservation
    {
        return refuse("the memory reservation cannot be more than the memory limit", "lower --memory-reservation");
    }
    if r.memory_swappiness.is_some_and(|s| s > 100) {
        return refuse("invalid --memory-swappiness: it must be between 0 and 100", "choose a value in that range");
    }
    if let Some(cpus) = r.nano_cpus {
        if r.cpu_period.is_some() || r.cpu_quota.is_some() {
            return refuse("conflicting options: --cpus and --cpu-period or --cpu-quota", "use either --cpus or the other two");
        }
        if cpus < 10_000_000 || cpus > facts.cpus * 1_000_000_000 {
            return refuse(
                format!("range of CPUs is from 0.01 to {}.00, as there are only {} CPUs available", facts.cpus, facts.cpus),
                "change --cpus",
            );
        }
    }
    if r.cpu_period.is_some_and(|p| p != 0 && !(1_000..=1_000_000).contains(&p)) {
        return refuse("invalid --cpu-period: it must be between 1000 and 1000000 microseconds", "change --cpu-period");
    }
    if r.cpu_quota.is_some_and(|q| q > 0 && q < 1_000) {
        return refuse("invalid --cpu-quota: it cannot be less than 1000 microseconds", "raise --cpu-quota");
    }
    for (flag, text, available) in [("--cpuset-cpus", &r.cpuset_cpus, &facts.cpu_set), ("--cpuset-mems", &r.cpuset_mems, &facts.mem_set)] {
        if text.is_empty() {
            continue;
        }
        let Some(wanted) = parse_set(text) else { return refuse(format!("invalid {flag} \"{text}\""), "give a list such as 0-3,5") };
        if let Some(missing) = wanted.difference(available).next() {
            return refuse(format!("{flag} \"{text}\" asks for {missing}, which this host does not have"), "choose among those of the host");
        }
    }
    if r.blkio_weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
        return refuse("range of blkio weight is from 10 to 1000", "change --blkio-weight");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts { cpus: 2, cpu_set: [0, 1].into(), mem_set: [0].into(), swap_accounting: true, unified: false }
    }

    #[test]
    fn limits_follow_docker() {
        let check = |edit: &dyn Fn(&mut Resources)| {
            let mut r = Resources::default();
            edit(&mut r);
            resources(&r, &facts()).map_err(|e| e.to_string())
        };
        assert!(check(&|_| {}).is_ok());
        assert!(check(&|r| r.memory = Some(6 << 20)).is_ok());
        assert!(check(&|r| r.memory = Some((6 << 20) - 1)).unwrap_err().contains("6MB"));
        assert!(check(&|r| r.memory_swap = Some(1 << 30)).is_err());
        assert!(
            check(&|r| {
                r.memory = Some(1 << 30);
                r.memory_swap = Some(-1)
            })
            .is_ok()
        );
        assert!(
            check(&|r| {
                r.memory = Some(1 << 30);
                r.memory_swap = Some(1 << 20)
            })
            .is_err()
        );
        assert!(check(&|r| r.nano_cpus = Some(2_000_000_000)).is_ok());
        assert!(check(&|r| r.nano_cpus = Some(2_000_000_001)).is_err());
        assert!(check(&|r| r.nano_cpus = Some(9_999_999)).is_err());
        assert!(
            check(&|r| {
                r.nano_cpus = Some(1_000_000_000);
                r.cpu_quota = Some(5_000)
            })
            .is_err()
        );
        assert!(check(&|r| r.cpuset_cpus = "0-1".into()).is_ok());
        assert!(check(&|r| r.cpuset_cpus = "0-2".into()).is_err());
        assert!(check(&|r| r.cpuset_cpus = "0-4294967295".into()).is_err());
    }

    #[test]
    fn a_user_namespace_shares_nothing_of_others() {
        let map = |container| vec![crate::state::record::IdMap { container, host: 100_000, size: 10 }];
        let check = |edit: &dyn Fn(&mut CreateContainer)| {
            let mut r = CreateContainer::default();
            r.host.userns = UsernsMode::Mapped { uids: map(0), gids: map(0) };
            edit(&mut r);
            request(&r, &facts()).map_err(|e| e.to_string())
        };
        assert!(check(&|_| {}).is_ok());
        type Change<'a> = &'a dyn Fn(&mut CreateContainer);
        let cases: [(&str, Change<'_>); 9] = [
            ("--privileged", &|r| r.host.privileged = true),
            ("--network host", &|r| r.host.network = NetworkMode::Host),
            ("--network container:", &|r| r.host.network = NetworkMode::Container("x".into())),
            ("--pid host", &|r| r.host.pid = PidMode::Host),
            ("--pid container:", &|r| r.host.pid = PidMode::Container("x".into())),
            ("--ipc container:", &|r| r.host.ipc = IpcMode::Container("x".into())),
            ("--ipc host", &|r| r.host.ipc = IpcMode::Host),
            ("--uts host", &|r| r.host.uts_host = true),
            ("--gidmap", &|r| r.host.userns = UsernsMode::Mapped { uids: map(0), gids: map(1) }),
        ];
        for (flag, edit) in cases {
            assert!(check(edit).unwrap_err().contains(flag), "{flag}");
        }
    }

    #[test]
    fn contradictions_name_the_flag() {
        let check = |edit: &dyn Fn(&mut CreateContainer)| {
            let mut r = CreateContainer::default();
            edit(&mut r);
            request(&r, &facts()).map_err(|e| e.to_string())
        };
        assert!(check(&|_| {}).is_ok());
        assert!(
            check(&|r| {
                r.host.auto_remove = true;
                r.host.restart = RestartPolicy::Always
            })
            .unwrap_err()
            .contains("--rm")
        );
        assert!(check(&|r| r.hostname = Some("a\n1.2.3.4 evil".into())).is_err());
        assert!(
            check(&|r| {
                r.host.network = NetworkMode::Container("x".into());
                r.hostname = Some("h".into())
            })
            .is_err()
        );
        for (key, fine) in [
            ("net.core.somaxconn", true),
            ("net/ipv4/ip_forward", true),
            ("kernel.shmmax", true),
            ("kernel.core_pattern", false),
            ("net..x", false),
            ("vm.swappiness", false),
        ] {
            assert_eq!(check(&|r| drop(r.host.sysctls.insert(key.into(), "1".into()))).is_ok(), fine, "{key}");
        }
        assert!(
            check(&|r| {
                r.host.network = NetworkMode::Host;
                r.host.sysctls.insert("net.core.somaxconn".into(), "1".into());
            })
            .is_err()
        );
        assert!(check(&|r| drop(r.host.sysctls.insert("net.core.somaxconn".into(), "1\n2".into()))).is_err());
    }
}
