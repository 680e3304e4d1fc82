//! Docker-compatible `inspect` documents: every key that scripts touch, in Docker's order and types.
//!
//! A document is a pure function of [`Facts`]; what is looked up for it is looked up before.

mod builtin;
mod host_config;
mod network;

pub use builtin::{builtin_id, builtin_matches};

use super::container::lost_lines;
use super::*;
use crate::engine::list::protocol_name;
use crate::monitor::{Health, ProbeResult};
use record::{MountKind, Network, NetworkMode, Pool};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What a container's document is made of besides its record.
struct Facts<'a> {
    view: &'a View,
    /// Durable files of the container.
    dir: std::path::PathBuf,
    volumes: std::path::PathBuf,
    /// Overlay lowers, top first; None if the image's layers cannot be told any more.
    lowers: Option<Vec<String>>,
    /// Those that it has to do with.
    networks: Vec<Network>,
    /// (writable layer, with the image), if asked for.
    sizes: Option<(u64, u64)>,
    /// `/other:/this/alias`.
    links: Vec<String>,
}

impl Engine {
    /// Docker-compatible document.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`; with `size`, a writable layer that cannot be walked.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<Value> {
        let mut view = self.view_revived(name)?;
        let roots = &self.privilege.roots;
        if view.record.phase == record::Phase::Started {
            view.record.log_lost = lost_lines(&roots.live(&view.record.id));
        }
        // A damaged image must not hide the container that uses it: it is left out here, and named by `start`.
        let lowers = self.layers(&view.record).ok();
        let absolute = |o: crate::runtime::Overlay| o.lowers.iter().map(|l| o.layers_dir.join(l).to_string_lossy().into_owned()).collect();
        let facts = Facts {
            view: &view,
            dir: roots.container(&view.record.id),
            volumes: roots.volumes(),
            lowers: lowers.map(absolute),
            networks: self.networks_about(&view.record)?,
            sizes: if size { Some(self.container_size(&view)?) } else { None },
            links: self.links_of(&view.record)?,
        };
        Ok(container_document(&facts))
    }

    /// The networks that it asks for or is on; those that are gone are left out.
    fn networks_about(&self, record: &record::Container) -> Result<Vec<Network>> {
        let mut names: Vec<String> = record.spec.host.attachments().into_iter().map(|attachment| attachment.network).collect();
        names.extend(record.endpoints.iter().map(|endpoint| endpoint.network.clone()));
        names.sort();
        names.dedup();
        let mut networks = Vec::with_capacity(names.len());
        for name in names {
            match self.db.network(&name)? {
                Some(network) => networks.push(network),
                // Typed as an id.
                None => networks.extend(self.find_network(&name).ok()),
            }
        }
        let owner =
            record.spec.pod.as_ref().filter(|_| record.spec.host.network == NetworkMode::Pod).map_or(&record.id, |membership| &membership.pod);
        self.with_given_pools(owner, &mut networks)?;
        Ok(networks)
    }

    /// As Docker shows links; those whose other end is gone are left out.
    fn links_of(&self, record: &record::Container) -> Result<Vec<String>> {
        let mut shown = Vec::new();
        for link in &record.spec.host.links {
            if let Some(other) = self.db.find_container(&link.container)? {
                shown.push(format!("/{}:/{}/{}", other.name, record.name, link.alias));
            }
        }
        Ok(shown)
    }

    /// Inspect whatever has that name: container, image, network, volume, pod, secret, in this order.
    ///
    /// # Errors
    /// `NoSuch` if nothing has it.
    pub fn inspect_any(&self, name: &str) -> Result<Value> {
        type Inspect = fn(&Engine, &str) -> Result<Value>;
        let kinds: [Inspect; 6] = [
            |e, n| e.inspect_container(n, false),
            |e, n| e.inspect_image(n),
            |e, n| e.inspect_network(n),
            |e, n| e.inspect_volume(n),
            |e, n| e.inspect_pod(n),
            |e, n| e.inspect_secret(n, false),
        ];
        for inspect in kinds {
            match inspect(self, name) {
                Err(Error::NoSuch { .. }) => {}
                other => return other,
            }
        }
        Err(self.no_such("object", name))
    }
}

fn container_document(facts: &Facts<'_>) -> Value {
    let record = &facts.view.record;
    let file = |name: &str| facts.dir.join(name).to_string_lossy().into_owned();
    let process = &record.spec.process;
    let mut argv = process.entrypoint.iter().chain(&process.cmd).flatten();
    // Docker shows the path of this driver only: programs that read files expect its format under that name.
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
    if !facts.links.is_empty() {
        out["HostConfig"]["Links"] = json!(facts.links);
    }
    let object = out.as_object_mut().expect("invariant: built as an object");
    if let Some((writable, all)) = facts.sizes {
        object.insert("SizeRw".to_owned(), json!(writable));
        object.insert("SizeRootFs".to_owned(), json!(all));
    }
    if let Some(membership) = &record.spec.pod {
        object.insert("Pod".to_owned(), json!(membership.pod.as_str()));
    }
    object.insert("Mounts".to_owned(), mounts(facts));
    object.insert("Config".to_owned(), config(record));
    object.insert("NetworkSettings".to_owned(), network::settings(facts));
    out
}

fn state(view: &View) -> Value {
    let record = &view.record;
    let alive = matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
    let mut out = json!({
        "Status": view.status.as_str(),
        "Running": alive,
        "Paused": view.status == Status::Paused,
        "Restarting": view.status == Status::Restarting,
        // Docker's key; a container that lives on after a child was killed says so too.
        "OOMKilled": record.oom_killed || record.oom_kills > 0,
        "Dead": view.status == Status::Dead,
        "Pid": view.pid,
        "ExitCode": if alive && view.status != Status::Restarting { 0 } else { record.exit_code },
        "Error": record.error,
        "StartedAt": view.started.to_string(),
        "FinishedAt": record.finished.to_string(),
        // Ours, behind Docker's.
        "OOMKills": record.oom_kills,
        "LogLinesLost": record.log_lost,
    });
    if let Some(next) = view.next_start {
        out["NextStartAt"] = json!(next.to_string());
    }
    if let Some(health) = &view.health {
        out["Health"] = health_document(health);
    }
    out
}

fn health_document(health: &Health) -> Value {
    let result = |result: &ProbeResult| {
        json!({
            "Start": result.start.to_string(),
            "End": result.end.to_string(),
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    };
    json!({
        "Status": health.status.as_str(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(result).collect::<Vec<_>>(),
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
            MountKind::Image { id, .. } => json!({
                "Type": "image",
                "Source": id,
                "Destination": destination,
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
        put("Healthcheck", json!(healthcheck));
    }
    if spec.health_action != record::HealthAction::None {
        put("HealthcheckOnFailureAction", json!(spec.health_action.as_str()));
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
    if let Some(seconds) = spec.host.timeout {
        put("Timeout", json!(seconds));
    }
    if let Some(timeout) = process.stop_timeout {
        put("StopTimeout", json!(timeout));
    }
    out
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
