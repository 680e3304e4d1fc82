//! pod inspect: podman's document of a pod.

use super::super::{Engine, Result};
use super::{PodView, up};
use crate::state::pod::{ExitPolicy, Shares};
use crate::state::record::{NetworkMode, PidMode, PortMapping, Resources, RestartPolicy, primary};
use serde_json::{Map, Value, json};

impl Engine {
    /// Podman's document. A pod has no infra container here: what would be its is the pod's own, in `InfraConfig`.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn inspect_pod(&self, name: &str) -> Result<Value> {
        Ok(document(&self.pod(name)?))
    }
}

fn document(view: &PodView) -> Value {
    let (pod, spec) = (&view.pod, &view.pod.spec);
    let group = up::group_path(pod);
    let parent = group.rsplit_once('/').map_or("", |(parent, _)| parent);
    let members: Vec<Value> = view
        .members
        .iter()
        .map(|member| json!({ "Id": member.record.id.as_str(), "Name": member.record.name.as_str(), "State": member.status.as_str() }))
        .collect();
    let mut out = json!({
        "Id": pod.id.as_str(),
        "Name": pod.name.as_str(),
        "Created": pod.created.to_string(),
        "CreateCommand": spec.command,
        "ExitPolicy": match spec.exit_policy { ExitPolicy::Continue => "continue", ExitPolicy::Stop => "stop" },
        "State": view.status.as_str(),
        "Hostname": if spec.shares.uts { spec.hostname.as_str() } else { "" },
        "Labels": spec.labels,
        "CreateCgroup": true,
        "CgroupParent": parent,
        "CgroupPath": group,
        "CreateInfra": false,
        "InfraContainerID": "",
        "InfraConfig": infra(view),
        "SharedNamespaces": shared(spec.shares),
        "NumContainers": members.len(),
        "Containers": members,
    });
    let object = out.as_object_mut().expect("invariant: built as an object");
    if let Some(policy) = restart(&spec.host.restart) {
        object.insert("RestartPolicy".to_owned(), json!(policy));
    }
    limits(&spec.host.resources, object);
    out
}

fn shared(shares: Shares) -> Vec<&'static str> {
    let all = [(shares.cgroup, "cgroup"), (shares.ipc, "ipc"), (shares.net, "net"), (shares.pid, "pid"), (shares.uts, "uts")];
    all.into_iter().filter_map(|(shared, name)| shared.then_some(name)).collect()
}

fn restart(policy: &RestartPolicy) -> Option<String> {
    match policy {
        RestartPolicy::No => None,
        RestartPolicy::Always => Some("always".to_owned()),
        RestartPolicy::UnlessStopped => Some("unless-stopped".to_owned()),
        RestartPolicy::OnFailure(0) => Some("on-failure".to_owned()),
        RestartPolicy::OnFailure(limit) => Some(format!("on-failure:{limit}")),
    }
}

fn infra(view: &PodView) -> Value {
    let spec = &view.pod.spec;
    let host = &spec.host;
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let added: Vec<String> = host.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    let networks = match (spec.shares.net, &host.network) {
        (true, NetworkMode::Bridge | NetworkMode::Named(_)) => {
            json!(host.attachments().into_iter().map(|attachment| attachment.network).collect::<Vec<_>>())
        }
        _ => Value::Null,
    };
    json!({
        "PortBindings": bindings(&host.ports),
        "HostNetwork": spec.shares.net && host.network == NetworkMode::Host,
        "StaticIP": "",
        "StaticMAC": host.mac_address.as_deref().unwrap_or(""),
        "NoManageResolvConf": false,
        "DNSServer": list(&host.dns),
        "DNSSearch": list(&host.dns_search),
        "DNSOption": list(&host.dns_options),
        "NoManageHosts": spec.no_hosts,
        "HostAdd": list(&added),
        "Networks": networks,
        "NetworkOptions": null,
        "IPAddress": primary(&view.pod.endpoints).and_then(|endpoint| endpoint.ipv4).map(|address| address.to_string()).unwrap_or_default(),
        "pid_ns": if host.pid == PidMode::Host { "host" } else { "private" },
        "userns": "host",
        "uts_ns": if host.uts_host { "host" } else { "private" },
    })
}

fn bindings(ports: &[PortMapping]) -> Value {
    let mut map: Map<String, Value> = Map::new();
    for port in ports {
        let protocol = port.protocol.name();
        let binding = json!({
            "HostIp": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": port.host_ports.map(|(first, _)| first.to_string()).unwrap_or_default(),
        });
        let entry = map.entry(format!("{}/{protocol}", port.container_port)).or_insert_with(|| json!([]));
        entry.as_array_mut().expect("invariant: built as an array").push(binding);
    }
    Value::Object(map)
}

/// Only what is set, under podman's names.
fn limits(limits: &Resources, out: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    put("cpu_period", limits.cpu_period.or(limits.nano_cpus.map(|_| 100_000)).map(Value::from));
    put("cpu_quota", limits.cpu_quota.map(Value::from).or(limits.nano_cpus.map(|nano| json!(nano / 10_000))));
    put("cpu_shares", limits.cpu_shares.map(Value::from));
    put("cpuset_cpus", (!limits.cpuset_cpus.is_empty()).then(|| json!(limits.cpuset_cpus)));
    put("cpuset_mems", (!limits.cpuset_mems.is_empty()).then(|| json!(limits.cpuset_mems)));
    put("memory_limit", limits.memory.map(Value::from));
    put("memory_swap", limits.memory_swap.map(Value::from));
    put("pids_limit", limits.pids_limit.map(Value::from));
}
