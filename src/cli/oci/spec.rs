//! `spec`: a config to start from, the same as runc's.

use super::{Context, parse};
use crate::base::fs::Context as _;
use crate::cli::failure::Failure;
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a config.json to start from.
#[derive(Parser, Debug)]
struct Spec {
    /// Directory to write it to; the current one by default
    #[arg(short = 'b', long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// For a container without the host's root
    #[arg(long)]
    rootless: bool,
}

pub fn spec(args: &[OsString], _: &Context) -> Result<ExitCode, Failure> {
    let flags: Spec = parse("spec", args)?;
    let path = flags.bundle.unwrap_or_default().join("config.json");
    let mut document = example(crate::runtime::cgroup::is_unified());
    if flags.rootless {
        rootless(&mut document);
    }
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    serde::Serialize::serialize(&document, &mut writer).map_err(|error| Failure::caused("cannot print the config", &error))?;
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::invalid(format!("File {} exists. Remove it first", path.display())));
        }
        other => other.on("create", &path)?,
    };
    file.write_all(&text).on("write", &path)?;
    Ok(ExitCode::SUCCESS)
}

/// `unified`: the host has cgroup v2 alone; then the container gets a cgroup namespace, too.
fn example(unified: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces: Vec<Value> = ["pid", "network", "ipc", "uts", "mount"].iter().map(|kind| json!({"type": kind})).collect();
    if unified {
        namespaces.push(json!({"type": "cgroup"}));
    }
    json!({
        "ociVersion": super::SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "rcon",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi", "/sys/devices/virtual/tpm"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({"destination": destination, "type": kind, "source": source});
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

/// What an unprivileged user may have: a user namespace with one id, the host's network, /sys bound in, no limits.
fn rootless(document: &mut Value) {
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        }
        if let Some(options) = mount["options"].as_array_mut() {
            // No second id is mapped.
            options.retain(|option| !option.as_str().is_some_and(|text| text.starts_with("gid=") || text.starts_with("uid=")));
        }
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let linux = &mut document["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(linux) = linux.as_object_mut() {
        linux.shift_remove("resources");
        linux.insert("uidMappings".to_owned(), json!([{"containerID": 0, "hostID": uid, "size": 1}]));
        linux.insert("gidMappings".to_owned(), json!([{"containerID": 0, "hostID": gid, "size": 1}]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_valid_and_differ_where_they_must() {
        let mut document = example(true);
        let parsed: oci_spec::runtime::Spec = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(parsed.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
        assert!(!example(false)["linux"]["namespaces"].to_string().contains("cgroup"));
        rootless(&mut document);
        let parsed: oci_spec::runtime::Spec = serde_json::from_value(document.clone()).unwrap();
        assert!(parsed.linux().as_ref().unwrap().resources().is_none());
        let text = document.to_string();
        assert!(text.contains("\"uidMappings\"") && !text.contains("gid=5") && !text.contains("network") && text.contains("\"rbind\""), "{text}");
    }
}
