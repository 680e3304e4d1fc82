//! `HostConfig` of a request: limits, isolation, mounts and ports.

use super::reply::Refusal;
use super::wire::{DeviceRequest, HostConfig, Limits, RateDevice, RestartPolicy};
use crate::engine::request::{
    MountRequest, UpdateRequest, add_host, device, gpus, ids, link, log, mount, namespace, network, port, resources, restart, security, tmpfs,
    ulimit, volume,
};
use crate::state::record::{self, HostSpec, IpcMode, NetworkMode, Resources};
use serde_json::Value;

fn unsupported(field: &str, value: &str, why: &str) -> Refusal {
    Refusal::invalid(format!("{field} \"{value}\" is not supported: {why}"))
}

/// Everything but mounts and networks.
///
/// # Errors
/// A malformed value, by the name of the flag that takes it; what is not supported, by its own.
pub fn host(config: HostConfig) -> Result<HostSpec, Refusal> {
    refuse(&config)?;
    let all = |values: &[String], parse: &dyn Fn(&str) -> Result<String, crate::engine::request::FlagError>| {
        values.iter().map(|value| parse(value)).collect::<Result<Vec<_>, _>>()
    };
    let options: Vec<String> = config.log_config.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut host = HostSpec {
        auto_remove: config.auto_remove,
        publish_all: config.publish_all_ports,
        restart: restart_policy(&config.restart_policy)?,
        init: config.init.unwrap_or(false),
        log: log::parse(Some(config.log_config.r#type.as_str()).filter(|driver| !driver.is_empty()), &options)?,
        cidfile: config.container_id_file.clone(),
        group_add: config.group_add.clone(),
        ports: ports(&config)?,
        dns: all(&config.dns, &network::parse_dns)?,
        dns_search: config.dns_search.clone(),
        dns_options: config.dns_options.clone(),
        extra_hosts: config.extra_hosts.iter().map(|text| add_host::parse(text)).collect::<Result<_, _>>()?,
        cap_add: all(&config.cap_add, &|text| security::parse_capability("--cap-add", text))?,
        cap_drop: all(&config.cap_drop, &|text| security::parse_capability("--cap-drop", text))?,
        privileged: config.privileged,
        read_only: config.readonly_rootfs,
        ipc: namespace::parse_ipc(&config.ipc_mode)?,
        pid: namespace::parse_pid(&config.pid_mode)?,
        uts_host: namespace::parse_uts(&config.uts_mode)?,
        cgroupns: namespace::parse_cgroupns(&config.cgroupns_mode)?,
        userns: ids::parse(Some(config.userns_mode.as_str()).filter(|mode| !mode.is_empty()), &[], &[])?,
        shm_size: config.shm_size,
        ulimits: config.ulimits.iter().map(|one| ulimit::parse(&format!("{}={}:{}", one.name, one.soft, one.hard))).collect::<Result<_, _>>()?,
        device_rules: all(&config.device_cgroup_rules, &device::parse_rule)?,
        cgroup_parent: config.cgroup_parent.clone(),
        oom_score_adj: config.oom_score_adj,
        links: config.links.iter().map(|text| link::parse(text)).collect::<Result<_, _>>()?,
        resources: limits(&config.limits)?,
        ..HostSpec::default()
    };
    for option in &config.security_opt {
        // Clients send the profile itself.
        let read = |text: &str| {
            let inline = text.trim_start().starts_with('{');
            if inline { Ok(text.to_owned()) } else { Err("expected the text of the profile, which the client reads".to_owned()) }
        };
        security::apply(&mut host.security, option, &read)?;
    }
    if config.masked_paths.as_ref().is_some_and(Vec::is_empty) && config.readonly_paths.as_ref().is_some_and(Vec::is_empty) {
        host.security.unmasked = true;
    }
    let (host_network, host_ipc) = (config.network_mode == "host", host.ipc == IpcMode::Host);
    for (key, value) in &config.sysctls {
        let (key, value) = security::parse_sysctl(&format!("{key}={value}"), host_network, host_ipc)?;
        host.sysctls.insert(key, value);
    }
    devices(&mut host, &config)?;
    host.network = NetworkMode::default();
    Ok(host)
}

fn refuse(config: &HostConfig) -> Result<(), Refusal> {
    if !config.volume_driver.is_empty() && config.volume_driver != "local" {
        return Err(unsupported("VolumeDriver", &config.volume_driver, "only local is"));
    }
    if let Some((key, value)) = config.storage_opt.iter().next() {
        return Err(unsupported("StorageOpt", &format!("{key}={value}"), "the writable layer has no quota of its own"));
    }
    if !matches!(config.isolation.as_str(), "" | "default") {
        return Err(unsupported("Isolation", &config.isolation, "it is for Windows"));
    }
    if !matches!(config.runtime.as_str(), "" | "rcon" | "runc" | "io.containerd.runc.v2") {
        return Err(unsupported("Runtime", &config.runtime, "containers run by rcon's own"));
    }
    for (field, value) in [("CpuRealtimePeriod", config.limits.cpu_realtime_period), ("CpuRealtimeRuntime", config.limits.cpu_realtime_runtime)] {
        if value != 0 {
            return Err(unsupported(field, &value.to_string(), "kernels are built without real-time groups"));
        }
    }
    Ok(())
}

/// # Errors
/// An unknown policy.
pub fn restart_policy(policy: &RestartPolicy) -> Result<record::RestartPolicy, Refusal> {
    let text = match (policy.name.as_str(), policy.maximum_retry_count) {
        (name, 0) => name.to_owned(),
        (name, count) => format!("{name}:{count}"),
    };
    Ok(restart::parse(&text)?)
}

fn ports(config: &HostConfig) -> Result<Vec<record::PortMapping>, Refusal> {
    let mut ports = Vec::new();
    for (port, bindings) in &config.port_bindings {
        let mut bindings = bindings.as_deref().unwrap_or_default().iter().peekable();
        if bindings.peek().is_none() {
            ports.extend(port::parse_publish(port)?);
        }
        for binding in bindings {
            let ip = match binding.host_ip.as_str() {
                ip if ip.contains(':') && !ip.starts_with('[') => format!("[{ip}]"),
                ip => ip.to_owned(),
            };
            let text = match (ip.as_str(), binding.host_port.as_str()) {
                ("", "" | "0") => port.clone(),
                ("", host) => format!("{host}:{port}"),
                (ip, "0") => format!("{ip}::{port}"),
                (ip, host) => format!("{ip}:{host}:{port}"),
            };
            ports.extend(port::parse_publish(&text)?);
        }
    }
    Ok(ports)
}

fn devices(host: &mut HostSpec, config: &HostConfig) -> Result<(), Refusal> {
    for one in &config.devices {
        if gpus::cdi_name(&one.path_on_host).is_some() {
            host.cdi.push(one.path_on_host.clone());
            continue;
        }
        let parts = [one.path_on_host.as_str(), &one.path_in_container, &one.cgroup_permissions];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        host.devices.push(device::parse(&parts.join(":"))?);
    }
    for DeviceRequest { driver, count, device_ids } in &config.device_requests {
        match (driver.as_str(), device_ids.as_slice()) {
            ("cdi", names) => host.cdi.extend(names.iter().cloned()),
            ("" | "nvidia", []) if *count < 0 => host.cdi.extend(gpus::parse("all")?),
            ("" | "nvidia", []) => host.cdi.extend(gpus::parse(&count.to_string())?),
            ("" | "nvidia", names) => host.cdi.extend(gpus::parse(&format!("\"device={}\"", names.join(",")))?),
            (other, _) => return Err(unsupported("DeviceRequests driver", other, "cdi and nvidia are")),
        }
    }
    Ok(())
}

/// A number of which 0 says nothing.
fn some<T: TryFrom<i64>>(field: &str, value: i64) -> Result<Option<T>, Refusal> {
    let wrong = || Refusal::invalid(format!("invalid {field}: {value}"));
    if value == 0 { Ok(None) } else { T::try_from(value).map(Some).map_err(|_| wrong()) }
}

fn limits(limits: &Limits) -> Result<Resources, Refusal> {
    let swappiness = match limits.memory_swappiness {
        // -1 is "as the host".
        None | Some(-1) => None,
        Some(value) => Some(u64::try_from(value).map_err(|_| Refusal::invalid(format!("invalid MemorySwappiness: {value}")))?),
    };
    let rates = |devices: &[RateDevice]| devices.iter().map(|one| (one.path.clone(), one.rate)).collect();
    let resources = Resources {
        memory: some("Memory", limits.memory)?,
        memory_swap: Some(limits.memory_swap).filter(|value| *value != 0),
        memory_reservation: some("MemoryReservation", limits.memory_reservation)?,
        memory_swappiness: swappiness,
        oom_kill_disable: limits.oom_kill_disable,
        nano_cpus: some("NanoCpus", limits.nano_cpus)?,
        cpu_shares: some("CpuShares", limits.cpu_shares)?,
        cpu_period: some("CpuPeriod", limits.cpu_period)?,
        cpu_quota: Some(limits.cpu_quota).filter(|value| *value != 0),
        cpuset_cpus: resources::parse_cpuset("--cpuset-cpus", &limits.cpuset_cpus)?,
        cpuset_mems: resources::parse_cpuset("--cpuset-mems", &limits.cpuset_mems)?,
        pids_limit: limits.pids_limit.filter(|value| *value != 0),
        blkio_weight: Some(limits.blkio_weight).filter(|weight| *weight != 0),
        blkio_weight_device: limits.blkio_weight_device.iter().map(|one| (one.path.clone(), one.weight)).collect(),
        device_read_bps: rates(&limits.blkio_device_read_bps),
        device_write_bps: rates(&limits.blkio_device_write_bps),
        device_read_iops: rates(&limits.blkio_device_read_iops),
        device_write_iops: rates(&limits.blkio_device_write_iops),
    };
    resources::check(&resources).map_err(Refusal::invalid)?;
    Ok(resources)
}

/// # Errors
/// A limit out of its range, or one that is for a new container only.
pub fn update(limits: &Limits) -> Result<UpdateRequest, Refusal> {
    for (given, field) in [
        (limits.memory_swappiness.is_some_and(|value| value != -1), "MemorySwappiness"),
        (limits.oom_kill_disable, "OomKillDisable"),
        (limits.cpu_realtime_period != 0, "CpuRealtimePeriod"),
        (limits.cpu_realtime_runtime != 0, "CpuRealtimeRuntime"),
        (!limits.blkio_weight_device.is_empty(), "BlkioWeightDevice"),
        (!limits.blkio_device_read_bps.is_empty(), "BlkioDeviceReadBps"),
        (!limits.blkio_device_write_bps.is_empty(), "BlkioDeviceWriteBps"),
        (!limits.blkio_device_read_iops.is_empty(), "BlkioDeviceReadIOps"),
        (!limits.blkio_device_write_iops.is_empty(), "BlkioDeviceWriteIOps"),
    ] {
        if given {
            return Err(Refusal::invalid(format!("{field} of a container cannot be updated: it is set when the container is created")));
        }
    }
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(UpdateRequest {
        memory: some("Memory", limits.memory)?,
        memory_swap: Some(limits.memory_swap).filter(|value| *value != 0),
        memory_reservation: some("MemoryReservation", limits.memory_reservation)?,
        nano_cpus: some("NanoCpus", limits.nano_cpus)?,
        cpu_shares: some("CpuShares", limits.cpu_shares)?,
        cpu_period: some("CpuPeriod", limits.cpu_period)?,
        cpu_quota: Some(limits.cpu_quota).filter(|value| *value != 0),
        cpuset_cpus: given(&limits.cpuset_cpus),
        cpuset_mems: given(&limits.cpuset_mems),
        pids_limit: limits.pids_limit,
        blkio_weight: Some(limits.blkio_weight).filter(|weight| *weight != 0),
        restart: None,
    })
}

impl HostConfig {
    /// Binds, mounts and tmpfs.
    ///
    /// # Errors
    /// A malformed value, or two mounts on one destination.
    pub fn mounts(&self, base: &volume::Base) -> Result<Vec<MountRequest>, Refusal> {
        let mut mounts = self.binds.iter().map(|text| volume::parse(text, base)).collect::<Result<Vec<_>, _>>()?;
        for one in &self.mounts {
            mounts.push(mount::parse(&mount_text(one)?, base)?);
        }
        for (destination, options) in &self.tmpfs {
            let text = if options.is_empty() { destination.clone() } else { format!("{destination}:{options}") };
            mounts.push(tmpfs::parse(&text)?);
        }
        for (at, one) in mounts.iter().enumerate() {
            if mounts[..at].iter().any(|earlier| earlier.destination == one.destination) {
                return Err(Refusal::invalid(format!("Duplicate mount point: {}", one.destination.display())));
            }
        }
        Ok(mounts)
    }
}

/// One of `Mounts` as `--mount` takes it.
fn mount_text(document: &Value) -> Result<String, Refusal> {
    let mut fields: Vec<String> = Vec::new();
    let mut add = |key: &str, value: String| fields.push(format!("\"{}\"", format!("{key}={value}").replace('"', "\"\"")));
    let text = |path: &str| document.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
    let flag = |path: &str| document.pointer(path).and_then(Value::as_bool).unwrap_or(false);
    let kind = text("/Type").unwrap_or("volume");
    add("type", kind.to_owned());
    for (path, key) in [
        ("/Source", "source"),
        ("/Target", "target"),
        ("/BindOptions/Propagation", "bind-propagation"),
        ("/VolumeOptions/Subpath", "volume-subpath"),
        ("/VolumeOptions/DriverConfig/Name", "volume-driver"),
        ("/ImageOptions/Subpath", "image-subpath"),
    ] {
        if let Some(text) = text(path) {
            add(key, text.to_owned());
        }
    }
    for (path, key, value) in [
        ("/ReadOnly", "readonly", "true"),
        ("/BindOptions/CreateMountpoint", "bind-create-src", "true"),
        ("/BindOptions/NonRecursive", "bind-recursive", "disabled"),
        ("/BindOptions/ReadOnlyNonRecursive", "bind-recursive", "writable"),
        ("/BindOptions/ReadOnlyForceRecursive", "bind-recursive", "readonly"),
        ("/VolumeOptions/NoCopy", "volume-nocopy", "true"),
    ] {
        if flag(path) {
            add(key, value.to_owned());
        }
    }
    for (path, key) in [("/VolumeOptions/Labels", "volume-label"), ("/VolumeOptions/DriverConfig/Options", "volume-opt")] {
        for (name, value) in document.pointer(path).and_then(Value::as_object).into_iter().flatten() {
            add(key, format!("{name}={}", value.as_str().unwrap_or_default()));
        }
    }
    if let Some(size) = document.pointer("/TmpfsOptions/SizeBytes").and_then(Value::as_u64).filter(|size| *size > 0) {
        add("tmpfs-size", size.to_string());
    }
    if let Some(mode) = document.pointer("/TmpfsOptions/Mode").and_then(Value::as_u64).filter(|mode| *mode > 0) {
        add("tmpfs-mode", format!("{mode:o}"));
    }
    if document.pointer("/TmpfsOptions/Options").and_then(Value::as_array).is_some_and(|options| !options.is_empty()) {
        return Err(Refusal::invalid("TmpfsOptions.Options of a mount are not supported: use Tmpfs for them"));
    }
    Ok(fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_does_what_it_says_or_names_what_it_cannot() {
        let of = |text: &str| update(&serde_json::from_str(text).unwrap());
        // As Docker's client sends what was not typed.
        let request = of(r#"{"Memory":104857600,"MemorySwappiness":null,"OomKillDisable":null,"BlkioWeightDevice":null,"CpuRealtimePeriod":0}"#);
        assert_eq!(request.unwrap().memory, Some(104_857_600));
        for (text, word) in
            [(r#"{"MemorySwappiness":5}"#, "MemorySwappiness"), (r#"{"BlkioDeviceReadIOps":[{"Path":"/dev/null","Rate":1}]}"#, "BlkioDeviceReadIOps")]
        {
            assert!(of(text).unwrap_err().message.contains(word), "{text}");
        }
    }
}
