//! Devices by the Container Device Interface: what the JSON specs of `/etc/cdi` and `/var/run/cdi` say that a device needs
//! (nodes, mounts, variables, hooks), put into the OCI config.
//!
//! Source: the CDI specification 0.8. A file of a later directory wins over one of an earlier; two files of one directory that
//! describe the same device are a conflict. YAML specs are named in the error, not read.

use super::super::{Error, Result};
use crate::base::fs::FsError;
use oci_spec::runtime::{Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};
use serde::Deserialize;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// In the order of priority, the lowest first.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// A spec larger than that is none.
const SIZE_LIMIT: u64 = 16 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// What a device changes in a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<EditMount>,
    hooks: Vec<EditHook>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EditMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(rename = "type")]
    kind: Option<String>,
    options: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EditHook {
    hook_name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// Looks the named devices up; empty for no names (then nothing is read).
///
/// # Errors
/// No spec describes a device, two of one directory do, or a spec that is needed cannot be read.
pub(super) fn look_up(names: &[String]) -> Result<Vec<Edits>> {
    look_up_in(&DIRECTORIES.map(PathBuf::from), names)
}

fn look_up_in(directories: &[PathBuf], names: &[String]) -> Result<Vec<Edits>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let (levels, mut problems) = read_all(directories)?;
    let mut edits: Vec<Edits> = Vec::new();
    // The edits of a whole file once, however many of its devices are asked for.
    let mut whole: Vec<&Path> = Vec::new();
    for name in names {
        let (kind, device) =
            name.split_once('=').ok_or_else(|| Error::invalid(format!("\"{name}\" is no CDI device: expected vendor.com/class=name")))?;
        let mut found = None;
        for level in levels.iter().rev() {
            let mut holders = level.iter().filter_map(|(path, spec)| {
                let of_kind = (spec.kind == kind).then_some(spec)?;
                Some((path, spec, of_kind.devices.iter().find(|known| known.name == device)?))
            });
            found = holders.next();
            if let (Some((first, ..)), Some((second, ..))) = (&found, holders.next()) {
                return Err(Error::conflict(format!("CDI device {name} is described twice: in {} and {}", first.display(), second.display())));
            }
            if found.is_some() {
                break;
            }
        }
        let Some((path, spec, device)) = found else {
            problems.insert(
                0,
                format!("no spec in {} describes it", directories.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(" or ")),
            );
            return Err(Error::Invalid {
                message: format!("unresolvable CDI device {name}: {}", problems.join("; ")),
                hint: Some("write the specs as JSON (nvidia-ctk cdi generate --format=json)".to_owned()),
            });
        };
        if !whole.contains(&path.as_path()) {
            whole.push(path);
            edits.push(spec.container_edits.clone());
        }
        edits.push(device.container_edits.clone());
    }
    Ok(edits)
}

type Level = Vec<(PathBuf, Document)>;

/// The specs of each directory, and what could not be used.
fn read_all(directories: &[PathBuf]) -> Result<(Vec<Level>, Vec<String>)> {
    let (mut levels, mut problems) = (Vec::new(), Vec::new());
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FsError { operation: "list", path: directory.clone(), source }.into()),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.sort();
        let mut level = Level::new();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match read(&path) {
                    Ok(document) => level.push((path, document)),
                    Err(why) => problems.push(format!("{} is not used: {why}", path.display())),
                },
                Some("yaml" | "yml") => problems.push(format!("{} is not used: it is not JSON", path.display())),
                _ => {}
            }
        }
        levels.push(level);
    }
    Ok((levels, problems))
}

fn read(path: &Path) -> std::result::Result<Document, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > SIZE_LIMIT {
        return Err("it is too large".to_owned());
    }
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}

/// Puts edits into an OCI config.
///
/// # Errors
/// A device node does not exist on the host, or a hook or type that OCI does not know.
pub(super) fn apply(spec: &mut Spec, all: &[Edits]) -> Result<()> {
    for edits in all {
        if let Some(process) = spec.process_mut() {
            let mut env = process.env().clone().unwrap_or_default();
            super::oci_config::overlay(&mut env, &edits.env);
            process.set_env(Some(env));
            if !edits.additional_gids.is_empty() {
                let mut user = process.user().clone();
                let mut gids = user.additional_gids().clone().unwrap_or_default();
                gids.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
                user.set_additional_gids(Some(gids));
                process.set_user(user);
            }
        }
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        for edit in &edits.mounts {
            let mut mount = Mount::default();
            let options = if edit.options.is_empty() { vec!["rbind".to_owned(), "ro".to_owned()] } else { edit.options.clone() };
            mount
                .set_destination(edit.container_path.clone())
                .set_source(Some(edit.host_path.clone()))
                .set_typ(Some(edit.kind.clone().unwrap_or_else(|| "bind".to_owned())))
                .set_options(Some(options));
            mounts.retain(|known| *known.destination() != edit.container_path);
            mounts.push(mount);
        }
        spec.set_mounts(Some(mounts));
        for node in &edits.device_nodes {
            add_node(spec, node)?;
        }
        if !edits.hooks.is_empty() {
            spec.set_hooks(Some(hooks(spec.hooks().clone().unwrap_or_default(), &edits.hooks)?));
        }
    }
    Ok(())
}

/// What the spec does not say of a node is as on the host.
fn add_node(spec: &mut Spec, node: &Node) -> Result<()> {
    let host_path = node.host_path.as_ref().unwrap_or(&node.path);
    let (mut kind, mut major, mut minor) = (node.kind.clone(), node.major, node.minor);
    let (mut mode, mut owner) = (node.file_mode, (node.uid, node.gid));
    if kind.is_none() || major.is_none() || minor.is_none() {
        let stat = std::fs::metadata(host_path).map_err(|source| FsError { operation: "find device", path: host_path.clone(), source })?;
        let block = stat.file_type().is_block_device();
        if !block && !stat.file_type().is_char_device() {
            return Err(Error::invalid(format!("{} is not a device", host_path.display())));
        }
        kind = kind.or_else(|| Some(if block { "b" } else { "c" }.to_owned()));
        major = major.or_else(|| Some(i64::from(rustix::fs::major(stat.rdev()))));
        minor = minor.or_else(|| Some(i64::from(rustix::fs::minor(stat.rdev()))));
        mode = mode.or(Some(stat.mode() & 0o7777));
        owner = (owner.0.or(Some(stat.uid())), owner.1.or(Some(stat.gid())));
    }
    let typ = match kind.as_deref() {
        Some("b") => LinuxDeviceType::B,
        Some("c" | "u") => LinuxDeviceType::C,
        other => return Err(Error::invalid(format!("the CDI spec gives {} the unknown type {other:?}", node.path.display()))),
    };
    let (major, minor) = (major.unwrap_or(0), minor.unwrap_or(0));
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone()).set_typ(typ).set_major(major).set_minor(minor);
    device.set_file_mode(Some(mode.unwrap_or(0o666))).set_uid(owner.0.or(Some(0))).set_gid(owner.1.or(Some(0)));
    let mut rule = LinuxDeviceCgroup::default();
    let access = node.permissions.clone().unwrap_or_else(|| "rw".to_owned());
    rule.set_allow(true).set_typ(Some(typ)).set_major(Some(major)).set_minor(Some(minor)).set_access(Some(access));
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|known| *known.path() != node.path);
    devices.push(device);
    linux.set_devices(Some(devices));
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.push(rule);
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
    Ok(())
}

fn hooks(mut hooks: Hooks, edits: &[EditHook]) -> Result<Hooks> {
    for edit in edits {
        let mut hook = Hook::default();
        hook.set_path(edit.path.clone()).set_timeout(edit.timeout);
        hook.set_args((!edit.args.is_empty()).then(|| edit.args.clone()));
        hook.set_env((!edit.env.is_empty()).then(|| edit.env.clone()));
        let with = |list: &Option<Vec<Hook>>| Some(list.iter().flatten().cloned().chain([hook.clone()]).collect());
        match edit.hook_name.as_str() {
            "createRuntime" => hooks.set_create_runtime(with(hooks.create_runtime())),
            "createContainer" => hooks.set_create_container(with(hooks.create_container())),
            "startContainer" => hooks.set_start_container(with(hooks.start_container())),
            "poststart" => hooks.set_poststart(with(hooks.poststart())),
            "poststop" => hooks.set_poststop(with(hooks.poststop())),
            other => return Err(Error::invalid(format!("the CDI spec has a hook of the unknown kind \"{other}\""))),
        };
    }
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/net",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [{"name": "n0", "containerEdits": {"env": ["ONE=1"],
            "deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/null", "permissions": "r"}],
            "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/mnt/name", "options": ["ro", "bind"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}]}},
            {"name": "n1", "containerEdits": {"env": ["TWO=1"]}}]}"#;

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("rcon-cdi-{}", crate::base::random_hex(8)));
            std::fs::create_dir_all(path.join("low")).unwrap();
            std::fs::create_dir_all(path.join("high")).unwrap();
            Place(path)
        }

        fn look_up(&self, names: &[&str]) -> Result<Vec<Edits>> {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            look_up_in(&[self.0.join("low"), self.0.join("high")], &names)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn devices_are_found_and_applied() {
        let place = Place::new();
        std::fs::write(place.0.join("low/a.json"), SPEC).unwrap();
        let edits = place.look_up(&["vendor.com/net=n0", "vendor.com/net=n1"]).unwrap();
        assert_eq!(edits.iter().flat_map(|e| e.env.clone()).collect::<Vec<_>>(), ["ALL=1", "ONE=1", "TWO=1"]);
        let mut spec = Spec::default();
        apply(&mut spec, &edits).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let device = linux.devices().iter().flatten().find(|d| d.path() == Path::new("/dev/mine")).unwrap();
        assert_eq!((device.major(), device.minor()), (1, 3));
        let rule = linux.resources().as_ref().unwrap().devices().as_ref().unwrap().last().unwrap().clone();
        assert_eq!((rule.major(), rule.access().as_deref()), (Some(1), Some("r")));
        assert!(spec.mounts().iter().flatten().any(|m| m.destination() == Path::new("/mnt/name")));
        assert_eq!(spec.hooks().as_ref().unwrap().create_container().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn conflicts_and_gaps_are_told() {
        let place = Place::new();
        let error = |names: &[&str]| place.look_up(names).unwrap_err().to_string();
        assert!(error(&["vendor.com/net=n0"]).contains("no spec in"));
        std::fs::write(place.0.join("low/a.json"), SPEC).unwrap();
        std::fs::write(place.0.join("low/b.json"), SPEC).unwrap();
        assert!(error(&["vendor.com/net=n0"]).contains("described twice"));
        // The higher directory decides.
        std::fs::write(place.0.join("high/a.json"), SPEC.replace("ONE", "HIGH")).unwrap();
        assert!(place.look_up(&["vendor.com/net=n0"]).unwrap().iter().any(|e| e.env == ["HIGH=1"]));
        std::fs::write(place.0.join("high/broken.json"), "{").unwrap();
        std::fs::write(place.0.join("high/x.yaml"), "kind: x").unwrap();
        let text = error(&["vendor.com/net=nope"]);
        assert!(text.contains("broken.json") && text.contains("x.yaml"), "{text}");
        assert!(place.look_up(&[]).unwrap().is_empty());
    }
}
