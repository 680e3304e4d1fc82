//! `info`: this host and its engine, in Docker's layout.

use super::context::Context;
use super::failure::Failure;
use super::{output, template, version};
use crate::base::ByteSize;
use crate::engine::{Engine, Host, Status};
use crate::image::RegistryConfig;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show information about the engine and this host
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
}

/// # Errors
/// The engine cannot be opened, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let document = document(&context.engine()?, &Facts::of(context)?)?;
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::raw(&template::one(format, &document)?)?,
        None => {
            output::raw(&text(&document))?;
            for warning in words(&document["Warnings"]) {
                output::talk(warning);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the document needs besides the engine.
pub struct Facts {
    config: RegistryConfig,
    logging: String,
    roots: crate::base::Roots,
    rootful: bool,
    debug: bool,
    files: Vec<std::path::PathBuf>,
}

impl Facts {
    /// # Errors
    /// A variable of the environment is not valid.
    pub fn of(context: &Context) -> Result<Self, Failure> {
        Ok(Facts {
            config: context.registry()?,
            logging: context.settings().defaults.log.driver.clone(),
            roots: context.privilege.roots.clone(),
            rootful: context.privilege.rootful,
            debug: context.debug,
            files: context.settings().files.clone(),
        })
    }
}

/// Docker's document, and what is rcon's own: `RunRoot`, `Rootless`, `TrustPolicy`, `SettingsFiles`.
///
/// # Errors
/// The database cannot be read.
pub fn document(engine: &Engine, facts: &Facts) -> Result<Value, crate::engine::Error> {
    let config = &facts.config;
    let host = engine.host();
    let views = engine.list(true, &[])?;
    let count = |wanted: &[Status]| views.iter().filter(|view| wanted.contains(&view.status)).count();
    let mut warnings: Vec<String> = host.missing.iter().map(|limit| format!("WARNING: No {limit} support")).collect();
    warnings.extend(config.broken.iter().map(|error| format!("WARNING: {error}")));
    let mut document = capabilities(&host);
    let own = json!({
        "Containers": views.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited, Status::Dead, Status::Removing]),
        "Images": engine.images(&[])?.len(),
        "Driver": "overlayfs",
        "LoggingDriver": facts.logging,
        "CgroupDriver": "cgroupfs",
        "DockerRootDir": facts.roots.data.display().to_string(),
        "RunRoot": facts.roots.run.display().to_string(),
        "Rootless": !facts.rootful,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Debug": false,
        "ExperimentalBuild": false,
        // Containers never depend on a daemon that could be restarted.
        "LiveRestoreEnabled": true,
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": ""},
        "Runtimes": {"rcon": {"path": std::env::current_exe().unwrap_or_default().display().to_string()}},
        "DefaultRuntime": "rcon",
        "InitBinary": "rcon",
        "RegistryConfig": registries(config),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "HttpProxy": variable(&["HTTP_PROXY", "http_proxy"]),
        "HttpsProxy": variable(&["HTTPS_PROXY", "https_proxy"]),
        "NoProxy": variable(&["NO_PROXY", "no_proxy"]),
        "TrustPolicy": trust(config),
        "SettingsFiles": facts.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "Warnings": warnings,
        "ClientInfo": {"Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": version::architecture(), "Context": "default", "Debug": facts.debug, "Plugins": []},
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut document, own) {
        all.extend(own);
    }
    Ok(document)
}

/// What the document says of the host.
fn capabilities(host: &Host) -> Value {
    json!({
        "ID": host.id,
        "DriverStatus": [["Backing Filesystem", host.backing], ["Supports d_type", "true"]],
        "Plugins": {"Volume": ["local"], "Network": crate::engine::NETWORKS, "Log": crate::engine::LOG_DRIVERS},
        "MemoryLimit": host.can("memory limit"),
        "SwapLimit": host.can("swap limit"),
        "CpuCfsPeriod": host.can("cpu cfs quota"),
        "CpuCfsQuota": host.can("cpu cfs quota"),
        "CPUShares": host.can("cpu shares"),
        "CPUSet": host.can("cpuset"),
        "PidsLimit": host.can("pids limit"),
        "CgroupVersion": if host.unified { "2" } else { "1" },
        "KernelVersion": host.kernel,
        "OperatingSystem": host.system,
        "OSVersion": host.system_version,
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "Name": host.name,
        "SecurityOptions": host.security,
    })
}

/// The first of these variables that is set, without a password that it may hold.
fn variable(names: &[&str]) -> String {
    let value = names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    match (value.find("://"), value.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}xxxxx:xxxxx{}", &value[..scheme + 3], &value[at..]),
        _ => value,
    }
}

/// Docker's document of registries: each that has mirrors or is insecure, and the networks of plain HTTP.
fn registries(config: &RegistryConfig) -> Value {
    let named = config.mirrors.keys().chain(&config.insecure);
    let index = |name: &String| {
        let mirrors = config.mirrors.get(name).cloned().unwrap_or_default();
        json!({"Name": name, "Mirrors": mirrors, "Secure": !config.insecure.contains(name), "Official": name == "docker.io"})
    };
    let indexes: serde_json::Map<String, Value> = named.map(|name| (name.clone(), index(name))).collect();
    json!({
        "IndexConfigs": indexes,
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "Mirrors": config.mirrors.get("docker.io").cloned().unwrap_or_default(),
    })
}

/// Scope → what is done; `*` is for all other images.
fn trust(config: &RegistryConfig) -> Value {
    let rules = config.trust.summary().into_iter();
    rules.map(|(scope, rule)| (if scope.is_empty() { "*".to_owned() } else { scope }, Value::String(rule))).collect::<serde_json::Map<_, _>>().into()
}

/// The texts of a list.
fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The lines about settings; a host without any has the networks of plain HTTP alone.
fn settings_text(document: &Value) -> Vec<String> {
    let registries = &document["RegistryConfig"];
    let indexes = || registries["IndexConfigs"].as_object().into_iter().flatten();
    let mut insecure: Vec<String> = indexes().filter(|(_, index)| index["Secure"] == json!(false)).map(|(name, _)| name.clone()).collect();
    insecure.extend(words(&registries["InsecureRegistryCIDRs"]));
    let mirrors: Vec<String> = indexes()
        .map(|(name, index)| (name, words(&index["Mirrors"])))
        .filter(|(_, m)| !m.is_empty())
        .map(|(n, m)| format!("{n}: {}", m.join(", ")))
        .collect();
    let trust: Vec<String> = document["TrustPolicy"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(scope, rule)| format!("{scope}: {}", rule.as_str().unwrap_or_default()))
        .collect();
    let mut lines: Vec<String> = words(&document["SettingsFiles"]).into_iter().map(|file| format!("Settings: {file}")).collect();
    for (title, entries) in [("Insecure Registries", insecure), ("Registry Mirrors", mirrors), ("Trust Policy", trust)] {
        if !entries.is_empty() {
            lines.push(format!("{title}:"));
            lines.extend(entries.into_iter().map(|entry| format!(" {entry}")));
        }
    }
    lines
}

/// Docker's two blocks; the second is the engine's.
fn text(document: &Value) -> String {
    let word = |key: &str| document[key].as_str().map_or_else(|| document[key].to_string(), str::to_owned);
    let one = |title: &str, key: &str| format!("{title}: {}", word(key));
    let mut lines = vec![one("Containers", "Containers")];
    lines.extend(
        [(" Running", "ContainersRunning"), (" Paused", "ContainersPaused"), (" Stopped", "ContainersStopped")].map(|(title, key)| one(title, key)),
    );
    lines.extend([("Images", "Images"), ("Server Version", "ServerVersion"), ("Storage Driver", "Driver")].map(|(title, key)| one(title, key)));
    for pair in document["DriverStatus"].as_array().into_iter().flatten() {
        lines.push(format!(" {}", words(pair).join(": ")));
    }
    lines.extend(
        [("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"), ("Cgroup Version", "CgroupVersion")]
            .map(|(title, key)| one(title, key)),
    );
    lines.push("Plugins:".to_owned());
    lines.extend(["Volume", "Network", "Log"].map(|kind| format!(" {kind}: {}", words(&document["Plugins"][kind]).join(" "))));
    lines.push("Swarm: inactive".to_owned());
    lines.push(format!(
        "Runtimes: {}",
        document["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    ));
    lines.extend([("Default Runtime", "DefaultRuntime"), ("Init Binary", "InitBinary")].map(|(title, key)| one(title, key)));
    lines.push("Security Options:".to_owned());
    for option in words(&document["SecurityOptions"]) {
        let mut parts = option.split(',').filter_map(|part| part.split_once('='));
        lines.extend(parts.next().map(|(_, name)| format!(" {name}")));
        lines.extend(parts.map(|(key, value)| format!("  {}: {value}", if key == "profile" { "Profile" } else { key })));
    }
    lines.extend(
        [("Kernel Version", "KernelVersion"), ("Operating System", "OperatingSystem"), ("OSType", "OSType")].map(|(title, key)| one(title, key)),
    );
    lines.extend([one("Architecture", "Architecture"), one("CPUs", "NCPU")]);
    lines.push(format!("Total Memory: {}", ByteSize(document["MemTotal"].as_u64().unwrap_or(0)).binary()));
    lines.extend(
        [("Name", "Name"), ("ID", "ID"), ("Root Dir", "DockerRootDir"), ("Run Root", "RunRoot"), ("Rootless", "Rootless")]
            .map(|(title, key)| one(title, key)),
    );
    lines.extend(
        [("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")]
            .iter()
            .filter(|(_, key)| !word(key).is_empty())
            .map(|(title, key)| one(title, key)),
    );
    lines.extend(settings_text(document));
    lines.push("Live Restore Enabled: true".to_owned());
    let client = &document["ClientInfo"];
    let engine: String = lines.iter().map(|line| format!(" {line}\n")).collect();
    format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: {}\n\nServer:\n{engine}",
        client["Version"].as_str().unwrap_or_default(),
        client["Debug"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_dockers_layout() {
        let document = json!({
            "Containers": 3, "Images": 1, "DriverStatus": [["Backing Filesystem", "ext4"]], "Plugins": {"Volume": ["local"], "Network": ["bridge", "host"]},
            "SecurityOptions": ["name=seccomp,profile=builtin"], "MemTotal": 1_073_741_824_u64, "HttpProxy": "", "HttpsProxy": "http://p", "NoProxy": "",
            "ClientInfo": {"Version": "1", "Debug": false}, "RegistryConfig": {"IndexConfigs": {"docker.io": {"Mirrors": ["http://m"], "Secure": true}}},
        });
        let text = text(&document);
        assert!(
            text.starts_with("Client:\n Version:    1\n Context:    default\n Debug Mode: false\n\nServer:\n Containers: 3\n  Running: "),
            "{text}"
        );
        for part in [
            "\n  Backing Filesystem: ext4\n",
            "\n  Network: bridge host\n",
            "\n  seccomp\n   Profile: builtin\n",
            "\n Total Memory: 1GiB\n",
            "\n HTTPS Proxy: http://p\n",
            "\n Registry Mirrors:\n  docker.io: http://m\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("HTTP Proxy"), "{text}");
    }
}
