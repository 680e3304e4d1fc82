//! Docker's `HostConfig` of a container, rebuilt from the typed record.

use crate::engine::container::{masked_everywhere, read_only};
use crate::engine::list::protocol_name;
use crate::state::record::{
    CgroupnsMode, ContainerSpec, HostSpec, IpcMode, MountKind, NetworkMode, PidMode, Resources, RestartPolicy, Seccomp, UsernsMode,
};
use serde_json::{Map, Value, json};

/// `/dev/shm` unless asked otherwise, in bytes.
const SHM_SIZE: u64 = 64 << 20;

pub(super) fn document(spec: &ContainerSpec) -> Value {
    let host = &spec.host;
    let mut out = match (general(host), resources(host)) {
        (Value::Object(mut general), Value::Object(resources)) => {
            general.extend(resources);
            general
        }
        _ => unreachable!("invariant: both are built as objects"),
    };
    // Docker leaves these out when they are empty.
    let tmpfs: Map<String, Value> = spec.mounts.iter().filter_map(flag_tmpfs).collect();
    if !tmpfs.is_empty() {
        out.insert("Tmpfs".to_owned(), Value::Object(tmpfs));
    }
    if !host.sysctls.is_empty() {
        out.insert("Sysctls".to_owned(), json!(host.sysctls));
    }
    if !spec.annotations.is_empty() {
        out.insert("Annotations".to_owned(), json!(spec.annotations));
    }
    if host.init {
        out.insert("Init".to_owned(), json!(true));
    }
    let open = host.privileged || host.security.unmasked;
    out.insert("MaskedPaths".to_owned(), if open { Value::Null } else { json!(masked_everywhere(host)) });
    out.insert("ReadonlyPaths".to_owned(), if open { Value::Null } else { json!(read_only(host)) });
    Value::Object(out)
}

fn flag_tmpfs(mount: &crate::state::record::Mount) -> Option<(String, Value)> {
    match &mount.kind {
        MountKind::Tmpfs { options, from_flag: true } => Some((mount.destination.to_string_lossy().into_owned(), json!(options))),
        _ => None,
    }
}

/// Go's nil slice for an empty list.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

fn general(host: &HostSpec) -> Value {
    let hosts: Vec<String> = host.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect();
    json!({
        "Binds": list(&host.binds),
        "ContainerIDFile": host.cidfile,
        "LogConfig": { "Type": host.log.driver, "Config": host.log.options },
        "NetworkMode": match &host.network {
            NetworkMode::Bridge => "bridge".to_owned(),
            NetworkMode::Named(name) => name.clone(),
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Container(other) => format!("container:{other}"),
            NetworkMode::Pod => "pod".to_owned(),
        },
        "PortBindings": port_bindings(host),
        "RestartPolicy": restart(&host.restart),
        "AutoRemove": host.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(&host.volumes_from),
        "CapAdd": list(&host.cap_add),
        "CapDrop": list(&host.cap_drop),
        "CgroupnsMode": match host.cgroupns {
            Some(CgroupnsMode::Private) => "private",
            Some(CgroupnsMode::Host) => "host",
            Some(CgroupnsMode::Pod) => "pod",
            None => "",
        },
        "Dns": json!(host.dns),
        "DnsOptions": json!(host.dns_options),
        "DnsSearch": json!(host.dns_search),
        "ExtraHosts": list(&hosts),
        "GroupAdd": list(&host.group_add),
        "IpcMode": match &host.ipc {
            IpcMode::Private => "private".to_owned(),
            IpcMode::None => "none".to_owned(),
            IpcMode::Shareable => "shareable".to_owned(),
            IpcMode::Host => "host".to_owned(),
            IpcMode::Container(other) => format!("container:{other}"),
            IpcMode::Pod => "pod".to_owned(),
        },
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": match &host.pid {
            PidMode::Private => String::new(),
            PidMode::Host => "host".to_owned(),
            PidMode::Container(other) => format!("container:{other}"),
            PidMode::Pod => "pod".to_owned(),
        },
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only,
        "SecurityOpt": list(&security(host)),
        "StorageOpt": null,
        "UTSMode": if host.uts_host { "host" } else { "" },
        "UsernsMode": match &host.userns {
            UsernsMode::Host => String::new(),
            UsernsMode::Mapped { .. } | UsernsMode::Auto(_) => "private".to_owned(),
            UsernsMode::Container { id, .. } => format!("container:{id}"),
            UsernsMode::Path { path, .. } => format!("ns:{}", path.display()),
        },
        "ShmSize": if host.shm_size == 0 { SHM_SIZE } else { host.shm_size },
        "Runtime": "rcon",
        "ConsoleSize": [0, 0],
        "Isolation": "",
    })
}

fn weights(list: &[(String, u16)]) -> Value {
    let list: Vec<Value> = list.iter().map(|(path, weight)| json!({ "Path": path, "Weight": weight })).collect();
    if list.is_empty() { Value::Null } else { Value::Array(list) }
}

/// As Docker shows devices that were asked for by CDI.
fn device_requests(names: &[String]) -> Value {
    if names.is_empty() {
        return Value::Null;
    }
    json!([{ "Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": null, "Options": null }])
}

fn restart(policy: &RestartPolicy) -> Value {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(count) => ("on-failure", *count),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({ "Name": name, "MaximumRetryCount": count })
}

fn security(host: &HostSpec) -> Vec<String> {
    let mut out = Vec::new();
    let security = &host.security;
    if security.no_new_privileges {
        out.push("no-new-privileges".to_owned());
    }
    match &security.seccomp {
        Seccomp::Builtin => {}
        Seccomp::Unconfined => out.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => out.push(format!("seccomp={text}")),
    }
    out.extend(security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    out.extend(security.masked.iter().map(|path| format!("mask={}", path.display())));
    out.extend(security.unmasked_paths.iter().map(|path| format!("unmask={path}")));
    if !security.proc_options.is_empty() {
        out.push(format!("proc-opts={}", security.proc_options.join(",")));
    }
    out.extend(security.label.iter().map(|label| format!("label={label}")));
    out
}

fn port_bindings(host: &HostSpec) -> Value {
    let mut out = Map::new();
    for port in &host.ports {
        let host_port = match port.host_ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let binding = json!({ "HostIp": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(), "HostPort": host_port });
        let key = format!("{}/{}", port.container_port, protocol_name(port.protocol));
        if let Value::Array(bindings) = out.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            bindings.push(binding);
        }
    }
    out.sort_keys();
    Value::Object(out)
}

fn resources(host: &HostSpec) -> Value {
    let r: &Resources = &host.resources;
    let rates = |rates: &[(String, u64)]| {
        let rates: Vec<Value> = rates.iter().map(|(path, rate)| json!({ "Path": path, "Rate": rate })).collect();
        if rates.is_empty() { Value::Null } else { Value::Array(rates) }
    };
    let devices: Vec<Value> = host
        .devices
        .iter()
        .map(|d| {
            json!({
                "PathOnHost": d.host.to_string_lossy(),
                "PathInContainer": d.container.to_string_lossy(),
                "CgroupPermissions": d.access,
            })
        })
        .collect();
    let ulimits: Vec<Value> = host.ulimits.iter().map(|u| json!({ "Name": u.name, "Hard": u.hard, "Soft": u.soft })).collect();
    let swap = match (r.memory_swap, r.memory) {
        (Some(swap), _) => swap,
        (None, Some(memory)) => i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX),
        (None, None) => 0,
    };
    json!({
        "CpuShares": r.cpu_shares.unwrap_or(0),
        "Memory": r.memory.unwrap_or(0),
        "NanoCpus": r.nano_cpus.unwrap_or(0),
        "CgroupParent": host.cgroup_parent,
        "BlkioWeight": r.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": weights(&r.blkio_weight_device),
        "BlkioDeviceReadBps": rates(&r.device_read_bps),
        "BlkioDeviceWriteBps": rates(&r.device_write_bps),
        "BlkioDeviceReadIOps": rates(&r.device_read_iops),
        "BlkioDeviceWriteIOps": rates(&r.device_write_iops),
        "CpuPeriod": r.cpu_period.unwrap_or(0),
        "CpuQuota": r.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": r.cpuset_cpus,
        "CpusetMems": r.cpuset_mems,
        "Devices": devices,
        "DeviceCgroupRules": list(&host.device_rules),
        "DeviceRequests": device_requests(&host.cdi),
        "MemoryReservation": r.memory_reservation.unwrap_or(0),
        "MemorySwap": swap,
        "MemorySwappiness": r.memory_swappiness,
        "OomKillDisable": r.oom_kill_disable,
        "PidsLimit": r.pids_limit,
        "Ulimits": ulimits,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}
