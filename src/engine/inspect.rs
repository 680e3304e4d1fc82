//! Docker-compatible `inspect` documents: every key that scripts touch, in Docker's order and types.
//!
//! A document is a pure function of [`Facts`]; what is looked up for it is looked up before.

mod host_config;

use super::*;
use crate::engine::list::protocol_name;
use record::{MountKind, Network, NetworkMode};
use serde_json::{Map, Value, json};

/// What a container's document is made of besides its record.
struct Facts<'a> {
    view: &'a View,
    /// Durable files of the container.
    dir: std::path::PathBuf,
    volumes: std::path::PathBuf,
    /// Overlay lowers, top first; None if the image's layers cannot be told any more.
    lowers: Option<Vec<String>>,
    network: Option<Network>,
    /// (writable layer, with the image), if asked for.
    sizes: Option<(u64, u64)>,
}

impl Engine {
    /// Docker-compatible document.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`; with `size`, a writable layer that cannot be walked.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<Value> {
        let view = self.view(name)?;
        let roots = &self.privilege.roots;
        let lowers = match self.db.image(&view.record.spec.image_id)? {
            // A damaged image must not hide the container that uses it: it is left out here, and named by `start`.
            Some(image) => crate::image::overlay(roots, &self.db, &image).ok(),
            None => None,
        };
        let absolute = |o: crate::runtime::Overlay| o.lowers.iter().map(|l| o.layers_dir.join(l).to_string_lossy().into_owned()).collect();
        let facts = Facts {
            view: &view,
            dir: roots.container(&view.record.id),
            volumes: roots.volumes(),
            lowers: lowers.map(absolute),
            network: self.db.network("bridge")?,
            sizes: if size { Some(self.container_size(&view)?) } else { None },
        };
        Ok(container_document(&facts))
    }

    /// Inspect whatever has that name: container, image, network, volume, in this order.
    ///
    /// # Errors
    /// `NoSuch` if nothing has it.
    pub fn inspect_any(&self, name: &str) -> Result<Value> {
        type Inspect = fn(&Engine, &str) -> Result<Value>;
        let kinds: [Inspect; 4] =
            [|e, n| e.inspect_container(n, false), |e, n| e.inspect_image(n), |e, n| e.inspect_network(n), |e, n| e.inspect_volume(n)];
        for inspect in kinds {
            match inspect(self, name) {
                Err(Error::NoSuch { .. }) => {}
                other => return other,
            }
        }
        Err(Error::no_such("object", name))
    }

    /// Docker's document of a network: the default bridge, `host` or `none`.
    ///
    /// # Errors
    /// `NoSuch`.
    pub fn inspect_network(&self, name: &str) -> Result<Value> {
        let mut containers = Map::new();
        let network = match self.db.network(name)? {
            Some(network) => network,
            None => return Err(Error::no_such("network", name)),
        };
        for record in self.db.containers()? {
            let (Some(address), NetworkMode::Bridge) = (record.address, &record.spec.host.network) else { continue };
            let endpoint = json!({
                "Name": record.name.as_str(),
                "EndpointID": record.id.as_str(),
                "MacAddress": mac(&record),
                "IPv4Address": format!("{address}/{}", network.prefix),
                "IPv6Address": "",
            });
            containers.insert(record.id.as_str().to_owned(), endpoint);
        }
        Ok(json!({
            "Name": network.name,
            "Id": network.id,
            "Created": network.created.to_string(),
            "Scope": "local",
            "Driver": "bridge",
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": {
                "Driver": "default",
                "Options": null,
                "Config": [{ "Subnet": format!("{}/{}", network.subnet, network.prefix), "Gateway": network.gateway.to_string() }],
            },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": { "com.docker.network.bridge.name": network.bridge },
            "Labels": {},
        }))
    }
}

fn container_document(facts: &Facts<'_>) -> Value {
    let record = &facts.view.record;
    let file = |name: &str| facts.dir.join(name).to_string_lossy().into_owned();
    let process = &record.spec.process;
    let mut argv = process.entrypoint.iter().chain(&process.cmd).flatten();
    let log = if record.spec.host.log.driver == "json-file" { file(&format!("{}-json.log", record.id)) } else { String::new() };
    let mut out = json!({
        "Id": record.id.as_str(),
        "Created": record.created.to_string(),
        "Path": argv.next().cloned().unwrap_or_default(),
        "Args": argv.collect::<Vec<_>>(),
        "State": state(facts.view),
        "Image": record.spec.image_id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log,
        "Name": format!("/{}", record.name),
        "RestartCount": facts.view.restart_count,
        "Driver": "overlay2",
        "Platform": record.spec.platform.split('/').next().filter(|os| !os.is_empty()).unwrap_or("linux"),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": record.spec.host.security.apparmor.clone().unwrap_or_default(),
        "ExecIDs": null,
        "HostConfig": host_config::document(&record.spec),
        "GraphDriver": graph_driver(facts),
    });
    let object = out.as_object_mut().expect("invariant: built as an object");
    if let Some((writable, all)) = facts.sizes {
        object.insert("SizeRw".to_owned(), json!(writable));
        object.insert("SizeRootFs".to_owned(), json!(all));
    }
    object.insert("Mounts".to_owned(), mounts(facts));
    object.insert("Config".to_owned(), config(record));
    object.insert("NetworkSettings".to_owned(), network_settings(facts));
    out
}

fn state(view: &View) -> Value {
    let record = &view.record;
    let alive = matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
    json!({
        "Status": view.status.as_str(),
        "Running": alive,
        "Paused": view.status == Status::Paused,
        "Restarting": view.status == Status::Restarting,
        "OOMKilled": record.oom_killed,
        "Dead": view.status == Status::Dead,
        "Pid": view.pid,
        "ExitCode": if alive && view.status != Status::Restarting { 0 } else { record.exit_code },
        "Error": record.error,
        "StartedAt": view.started.to_string(),
        "FinishedAt": record.finished.to_string(),
    })
}

fn graph_driver(facts: &Facts<'_>) -> Value {
    let path = |name: &str| facts.dir.join(name).to_string_lossy().into_owned();
    // The root is mounted for the container alone; while it runs it can be reached through its init.
    let merged = if facts.view.pid == 0 { path("merged") } else { format!("/proc/{}/root", facts.view.pid) };
    json!({
        "Data": {
            "LowerDir": facts.lowers.as_ref().map(|l| l.join(":")).unwrap_or_default(),
            "MergedDir": merged,
            "UpperDir": path("upper"),
            "WorkDir": path("work"),
        },
        "Name": "overlay2",
    })
}

fn mounts(facts: &Facts<'_>) -> Value {
    let mut out = Vec::new();
    for mount in &facts.view.record.spec.mounts {
        let destination = mount.destination.to_string_lossy();
        let propagation = if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation };
        out.push(match &mount.kind {
            MountKind::Bind { source, .. } => json!({
                "Type": "bind",
                "Source": source.to_string_lossy(),
                "Destination": destination,
                "Mode": mount.mode,
                "RW": !mount.read_only,
                "Propagation": propagation,
            }),
            MountKind::Volume { name, .. } => json!({
                "Type": "volume",
                "Name": name.as_str(),
                "Source": facts.volumes.join(name.as_str()).join("_data").to_string_lossy(),
                "Destination": destination,
                "Driver": "local",
                "Mode": mount.mode,
                "RW": !mount.read_only,
                "Propagation": mount.propagation,
            }),
            MountKind::Tmpfs { from_flag: true, .. } => continue,
            MountKind::Tmpfs { .. } => json!({
                "Type": "tmpfs",
                "Source": "",
                "Destination": destination,
                "Mode": mount.mode,
                "RW": !mount.read_only,
                "Propagation": "",
            }),
        });
    }
    Value::Array(out)
}

fn config(record: &record::Container) -> Value {
    let spec = &record.spec;
    let process = &spec.process;
    let keys = |names: &[String]| Value::Object(names.iter().map(|n| (n.clone(), json!({}))).collect());
    let mut out = json!({
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": process.user,
        "AttachStdin": process.attach_stdin,
        "AttachStdout": process.attach_stdout,
        "AttachStderr": process.attach_stderr,
    });
    let object = out.as_object_mut().expect("invariant: built as an object");
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    if !spec.exposed.is_empty() {
        put("ExposedPorts", keys(&spec.exposed));
    }
    put("Tty", json!(process.tty));
    put("OpenStdin", json!(process.open_stdin));
    put("StdinOnce", json!(process.stdin_once));
    put("Env", json!(process.env));
    put("Cmd", json!(process.cmd));
    if let Some(healthcheck) = &spec.healthcheck {
        put("Healthcheck", healthcheck.clone());
    }
    put("Image", json!(spec.image));
    put("Volumes", if spec.image_volumes.is_empty() { Value::Null } else { keys(&spec.image_volumes) });
    put("WorkingDir", json!(process.workdir));
    put("Entrypoint", json!(process.entrypoint));
    put("OnBuild", if spec.on_build.is_empty() { Value::Null } else { json!(spec.on_build) });
    put("Labels", json!(spec.labels));
    if let Some(signal) = process.stop_signal {
        put("StopSignal", json!(signal.to_string()));
    }
    if let Some(timeout) = process.stop_timeout {
        put("StopTimeout", json!(timeout));
    }
    out
}

/// `02:42:ac:11:00:02` of an endpoint; empty without an address.
fn mac(record: &record::Container) -> String {
    let Some(address) = record.address else { return String::new() };
    let derived = || crate::network::mac_for(address).map(|b| format!("{b:02x}")).join(":");
    record.spec.host.mac_address.clone().unwrap_or_else(derived)
}

fn network_settings(facts: &Facts<'_>) -> Value {
    let view = facts.view;
    let record = &view.record;
    let running = view.pid != 0;
    let address = if running { record.address } else { None };
    let network = facts.network.as_ref().filter(|_| address.is_some());
    let ip = address.map(|a| a.to_string()).unwrap_or_default();
    let mac = if address.is_some() { mac(record) } else { String::new() };
    let gateway = network.map(|n| n.gateway.to_string()).unwrap_or_default();
    let prefix = network.map_or(0, |n| n.prefix);
    let endpoint_id = if address.is_some() { record.id.as_str() } else { "" };
    let name = match record.spec.host.network {
        NetworkMode::Bridge => Some("bridge"),
        NetworkMode::Host => Some("host"),
        NetworkMode::None => Some("none"),
        NetworkMode::Container(_) => None,
    };
    let mut networks = Map::new();
    if let Some(name) = name {
        let endpoint = json!({
            "IPAMConfig": null,
            "Links": null,
            "Aliases": null,
            "MacAddress": mac,
            "DriverOpts": null,
            "GwPriority": 0,
            "NetworkID": network.map(|n| n.id.as_str()).unwrap_or_default(),
            "EndpointID": endpoint_id,
            "Gateway": gateway,
            "IPAddress": ip,
            "IPPrefixLen": prefix,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": null,
        });
        networks.insert(name.to_owned(), endpoint);
    }
    json!({
        "Bridge": "",
        "SandboxID": if running { record.id.as_str() } else { "" },
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": if running { ports(record) } else { json!({}) },
        "SandboxKey": if running { format!("/proc/{}/ns/net", view.pid) } else { String::new() },
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": endpoint_id,
        "Gateway": gateway,
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": ip,
        "IPPrefixLen": prefix,
        "IPv6Gateway": "",
        "MacAddress": mac,
        "Networks": networks,
    })
}

/// Exposed ports without a publication are null; published ones list where they can be reached.
fn ports(record: &record::Container) -> Value {
    let mut out = Map::new();
    for exposed in &record.spec.exposed {
        out.insert(exposed.clone(), Value::Null);
    }
    for port in &record.published {
        let ip = port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let binding = json!({ "HostIp": ip, "HostPort": port.host_port.to_string() });
        let slot = out.entry(format!("{}/{}", port.container_port, protocol_name(port.protocol))).or_insert(Value::Null);
        match slot {
            Value::Array(bindings) => bindings.push(binding),
            other => *other = Value::Array(vec![binding]),
        }
    }
    out.sort_keys();
    Value::Object(out)
}

#[cfg(test)]
#[path = "inspect/tests.rs"]
mod tests;
