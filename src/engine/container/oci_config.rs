//! Record and resolved inputs → OCI runtime config. Pure: everything that must be looked up is in [`Inputs`].

use super::super::secret::copy_of;
use super::super::{Error, Result};
use super::cdi::{self, Edits};
use super::devices::{self, HostDevice};
use super::links::Linked;
use super::oci_mounts;
use super::paths;
use super::resources::{self, HostFacts};
use super::sources::Shown;
use crate::runtime::{capability, seccomp};
use crate::state::record::{CgroupnsMode, Container, HostSpec, IpcMode, NetworkMode, PidMode, Seccomp, SecretTarget, Ulimit, UsernsMode};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, Root, Spec, User,
};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Where a container finds the socket, and what says so.
pub(in crate::engine) const NOTIFY_INSIDE: &str = "/run/notify/notify.sock";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A soft limit that `select(2)` can serve, a hard one that servers can raise to (the runtime caps it at its own).
const NOFILE: (u64, u64) = (1024, 524_288);
/// What was looked up for one start.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    /// Holds the generated hostname.
    pub etc_dir: PathBuf,
    /// The container's own durable directory.
    pub container_dir: PathBuf,
    /// Holds hosts and resolv.conf: they belong to whose network it is.
    pub network_dir: PathBuf,
    /// What its pod shares.
    pub pod: Option<PodInputs>,
    pub volumes_dir: PathBuf,
    /// Mounts that are not what their record alone says, by destination; empty for an exec, which mounts nothing.
    pub sources: BTreeMap<PathBuf, Shown>,
    /// Name in the UTS namespace and `HOSTNAME`.
    pub hostname: String,
    /// Init pids of the containers whose namespaces are shared.
    pub ipc_pid: Option<i32>,
    pub pid_pid: Option<i32>,
    pub user_pid: Option<i32>,
    /// Only together with a joined user namespace: others are joined by descriptor.
    pub network_pid: Option<i32>,
    /// The shared `/dev/shm` (`--ipc shareable` and those who join it).
    pub shm_dir: Option<PathBuf>,
    pub devices: Vec<HostDevice>,
    pub cdi: Vec<Edits>,
    pub links: Vec<Linked>,
    pub facts: &'a HostFacts,
    pub cgroup_path: String,
    /// The socket at which its processes tell that they are ready; None for an exec.
    pub notify: Option<PathBuf>,
}

/// What a member has of its pod.
#[derive(Debug)]
pub(in crate::engine) struct PodInputs {
    /// Holds the pod's namespaces, each under its own name.
    pub live_dir: PathBuf,
    /// Its host name is the pod's.
    pub uts: bool,
    pub no_hosts: bool,
}

/// The OCI config of a container.
///
/// # Errors
/// An unknown capability or ulimit, an unusable seccomp profile or device rule.
pub(super) fn spec(container: &Container, inputs: &Inputs<'_>) -> Result<Spec> {
    let host = &container.spec.host;
    let capabilities = capabilities(container)?;
    let mut root = Root::default();
    // The runtime mounts the real root; the path is only a name in this document.
    root.set_path("rootfs".into()).set_readonly(Some(host.read_only));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_root(Some(root))
        .set_mounts(Some(oci_mounts::all(container, inputs)))
        .set_process(Some(process(container, inputs, &capabilities)?))
        .set_hooks(None)
        .set_annotations((!container.spec.annotations.is_empty()).then(|| container.spec.annotations.clone().into_iter().collect()))
        .set_linux(Some(linux(container, inputs, &capabilities)?));
    // The pod's UTS namespace has its names already.
    let own_uts = !host.uts_host && !joins_uts(inputs);
    spec.set_hostname(own_uts.then(|| inputs.hostname.clone()));
    spec.set_domainname((own_uts && !container.spec.domainname.is_empty()).then(|| container.spec.domainname.clone()));
    cdi::apply(&mut spec, &inputs.cdi)?;
    Ok(spec)
}

fn capabilities(container: &Container) -> Result<Vec<Capability>> {
    let host = &container.spec.host;
    capability::resolve(&host.cap_add, &host.cap_drop, host.privileged)
        .map_err(|e| Error::Invalid { message: e.to_string(), hint: Some("check --cap-add and --cap-drop".to_owned()) })
}

fn process(container: &Container, inputs: &Inputs<'_>, caps: &[Capability]) -> Result<Process> {
    let (spec, host) = (&container.spec.process, &container.spec.host);
    let args: Vec<String> = spec.entrypoint.iter().flatten().chain(spec.cmd.iter().flatten()).cloned().collect();
    let workdir = if spec.workdir.is_empty() { "/" } else { &spec.workdir };
    let mut process = Process::default();
    let mut user = User::default();
    user.set_umask(host.umask);
    let mut env = environment(&[], &inputs.hostname, spec.tty);
    for link in &inputs.links {
        overlay(&mut env, &link.env);
    }
    overlay(&mut env, &secret_variables(container, inputs)?);
    if host.systemd {
        // https://systemd.io/CONTAINER_INTERFACE: how it knows what it runs in.
        env.push("container=rcon".to_owned());
    }
    overlay(&mut env, &spec.env);
    if inputs.notify.is_some() {
        overlay(&mut env, &[format!("NOTIFY_SOCKET={NOTIFY_INSIDE}")]);
    }
    process
        .set_terminal(Some(spec.tty))
        .set_user(user)
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(workdir.into())
        .set_capabilities(Some(capability_sets(caps)))
        .set_rlimits(Some(rlimits(&host.ulimits)?))
        .set_no_new_privileges(Some(host.security.no_new_privileges))
        .set_apparmor_profile(host.security.apparmor.clone().filter(|p| p != "unconfined" && !host.privileged))
        .set_oom_score_adj(Some(host.oom_score_adj));
    Ok(process)
}

/// `--secret …,type=env`.
fn secret_variables(container: &Container, inputs: &Inputs<'_>) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for (index, secret) in container.spec.host.secrets.iter().enumerate() {
        if let SecretTarget::Env { variable } = &secret.target {
            let path = copy_of(&inputs.container_dir, index);
            let value = crate::base::fs::read(&path)?;
            env.push(format!("{variable}={}", String::from_utf8_lossy(&value)));
        }
    }
    Ok(env)
}

/// Bounding = permitted = effective; inheritable and ambient stay empty (CVE-2022-24769 and its kin).
pub(super) fn capability_sets(caps: &[Capability]) -> LinuxCapabilities {
    let set: Capabilities = caps.iter().copied().collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone())).set_permitted(Some(set.clone())).set_effective(Some(set));
    sets.set_inheritable(Some(Capabilities::new())).set_ambient(Some(Capabilities::new()));
    sets
}

/// PATH, HOSTNAME and TERM beneath the container's own; of several values of one key the last stands, at the place of
/// the first. HOME is the runtime's: only it knows the user.
pub(super) fn environment(own: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    overlay(&mut env, own);
    env
}

/// Puts `over` on `env`: same key replaces in place.
pub(super) fn overlay(env: &mut Vec<String>, over: &[String]) {
    let key = |entry: &str| entry.split_once('=').map_or(entry.len(), |(k, _)| k.len());
    let mut places: HashMap<String, usize> = env.iter().enumerate().map(|(i, e)| (e[..key(e)].to_owned(), i)).collect();
    for entry in over.iter().filter(|e| e.contains('=')) {
        let name = &entry[..key(entry)];
        match places.get(name) {
            Some(place) => entry.clone_into(&mut env[*place]),
            None => {
                places.insert(name.to_owned(), env.len());
                env.push(entry.clone());
            }
        }
    }
}

fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    let limit = |typ, soft, hard| PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build().expect("invariant: all fields are given");
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for ulimit in ulimits {
        let typ: PosixRlimitType = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase())
            .parse()
            .map_err(|_| Error::invalid(format!("invalid ulimit type: {}", ulimit.name)))?;
        // -1 is RLIM_INFINITY, which is all ones in the OCI config too.
        let value = |v: i64| if v < 0 { u64::MAX } else { v.unsigned_abs() };
        let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
        if soft > hard {
            return Err(Error::invalid(format!("ulimit {}: the soft limit must not be more than the hard limit", ulimit.name)));
        }
        limits.retain(|l| l.typ() != typ);
        limits.push(limit(typ, soft, hard));
    }
    if !limits.iter().any(|l| l.typ() == PosixRlimitType::RlimitNofile) {
        limits.push(limit(PosixRlimitType::RlimitNofile, NOFILE.0, NOFILE.1));
    }
    Ok(limits)
}

fn linux(container: &Container, inputs: &Inputs<'_>, caps: &[Capability]) -> Result<Linux> {
    let host = &container.spec.host;
    let mut resources = resources::section(&host.resources, inputs.facts)?;
    resources.set_devices(Some(devices::rules(host, &inputs.devices)?));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(container, inputs)))
        .set_resources(Some(resources))
        .set_cgroups_path(Some(inputs.cgroup_path.clone().into()))
        .set_devices(Some(devices::nodes(&inputs.devices)))
        .set_seccomp(seccomp_section(container, caps)?)
        .set_sysctl(sysctls(host))
        .set_masked_paths(Some(paths::masked(host, inputs.facts)))
        .set_readonly_paths(Some(paths::read_only(host)))
        .set_uid_mappings(None)
        .set_gid_mappings(None);
    if let Some((uids, gids)) = host.userns.maps() {
        linux.set_uid_mappings(Some(oci_mounts::mappings(uids))).set_gid_mappings(Some(oci_mounts::mappings(gids)));
    }
    Ok(linux)
}

/// The user's; and what `network::create_netns` sets, where the network namespace comes with init's user namespace.
fn sysctls(host: &HostSpec) -> Option<HashMap<String, String>> {
    let mut all: HashMap<String, String> = host.sysctls.iter().map(|(k, v)| (k.replace('/', "."), v.clone())).collect();
    if netns_of_init(host)
        && let Some((_, gids)) = host.userns.maps()
    {
        all.entry("net.ipv4.ip_unprivileged_port_start".to_owned()).or_insert_with(|| "0".to_owned());
        // Both ends must be groups that the user namespace has.
        if let Some(root) = gids.iter().find(|m| m.container == 0) {
            all.entry("net.ipv4.ping_group_range".to_owned()).or_insert_with(|| format!("0 {}", (root.size - 1).min(i32::MAX.unsigned_abs())));
        }
    }
    (!all.is_empty()).then_some(all)
}

/// True where the network namespace must belong to the container's own user namespace: it is made together with init.
pub(super) fn netns_of_init(host: &HostSpec) -> bool {
    // A request for `auto` has no maps yet.
    host.userns != UsernsMode::Host && matches!(host.network, NetworkMode::Bridge | NetworkMode::Named(_) | NetworkMode::None)
}

/// The container's seccomp section; none when unconfined.
///
/// # Errors
/// The profile cannot be used: the start fails rather than going unconfined.
fn seccomp_section(container: &Container, caps: &[Capability]) -> Result<Option<LinuxSeccomp>> {
    let host = &container.spec.host;
    if host.privileged {
        return Ok(None);
    }
    let names: Vec<String> = caps.iter().map(ToString::to_string).collect();
    match &host.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Builtin => Ok(Some(seccomp::default_profile(&names))),
        Seccomp::Profile(text) => seccomp::docker_profile(text, &names).map(Some).map_err(|source| Error::Failed {
            operation: "use the seccomp profile".to_owned(),
            kind: crate::base::ErrorKind::Invalid,
            source: Box::new(source),
        }),
    }
}

fn namespaces(container: &Container, inputs: &Inputs<'_>) -> Vec<LinuxNamespace> {
    let host = &container.spec.host;
    let mut list = Vec::new();
    let mut add = |typ: LinuxNamespaceType, path: Option<PathBuf>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ).set_path(path);
        list.push(namespace);
    };
    let of = |pid: Option<i32>, name: &str| pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/{name}")));
    if host.userns.maps().is_some() {
        let file = if let UsernsMode::Path { path, .. } = &host.userns { Some(path.clone()) } else { of(inputs.user_pid, "user") };
        add(LinuxNamespaceType::User, file);
    }
    add(LinuxNamespaceType::Mount, None);
    if host.network != NetworkMode::Host {
        // The namespace itself is handed over as a descriptor, where nothing is said here.
        add(LinuxNamespaceType::Network, of(inputs.network_pid, "net"));
    }
    let of_pod = |name: &str| inputs.pod.as_ref().map(|pod| pod.live_dir.join(name));
    if !host.uts_host {
        add(LinuxNamespaceType::Uts, of_pod("uts").filter(|_| joins_uts(inputs)));
    }
    match host.ipc {
        IpcMode::Host => {}
        IpcMode::Pod => add(LinuxNamespaceType::Ipc, of_pod("ipc")),
        _ => add(LinuxNamespaceType::Ipc, of(inputs.ipc_pid, "ipc")),
    }
    match host.pid {
        PidMode::Host => {}
        PidMode::Pod => add(LinuxNamespaceType::Pid, of_pod("pid")),
        _ => add(LinuxNamespaceType::Pid, of(inputs.pid_pid, "pid")),
    }
    let cgroupns = host.cgroupns.unwrap_or(if inputs.facts.unified && !host.privileged { CgroupnsMode::Private } else { CgroupnsMode::Host });
    match cgroupns {
        CgroupnsMode::Host => {}
        CgroupnsMode::Private => add(LinuxNamespaceType::Cgroup, None),
        CgroupnsMode::Pod => add(LinuxNamespaceType::Cgroup, of_pod("cgroup")),
    }
    list
}

fn joins_uts(inputs: &Inputs<'_>) -> bool {
    inputs.pod.as_ref().is_some_and(|pod| pod.uts)
}

/// Checks what only the compilation finds out (capabilities, ulimits, profiles, device rules), so that `create` fails
/// where a later `start` would.
pub(super) fn check(container: &Container) -> Result<()> {
    let caps = capabilities(container)?;
    rlimits(&container.spec.host.ulimits)?;
    devices::rules(&container.spec.host, &[])?;
    match container.spec.host.security.seccomp {
        Seccomp::Profile(_) => seccomp_section(container, &caps).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "oci_config_tests.rs"]
mod tests;
