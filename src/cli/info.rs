//! `info`: this host as the engine sees it.

use super::context::Context;
use super::failure::Failure;
use super::{output, template, version};
use crate::base::ByteSize;
use crate::engine::Status;
use crate::image::RegistryConfig;
use serde_json::{Value, json};
use std::process::ExitCode;

/// cgroup2's magic number (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u32 = 0x6367_7270;

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
    let engine = context.engine()?;
    let config = context.registry()?;
    let views = engine.list(true, &[])?;
    let images = engine.images(&[])?.len();
    let count = |wanted: &[Status]| views.iter().filter(|view| wanted.contains(&view.status)).count();
    let uname = rustix::system::uname();
    let roots = &context.privilege.roots;
    let document = json!({
        "Containers": views.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited, Status::Dead, Status::Removing]),
        "Images": images,
        "Driver": "overlayfs",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(),
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": uname.machine().to_string_lossy(),
        "NCPU": cpus(),
        "MemTotal": memory(),
        "SwapLimit": crate::runtime::cgroup::supports_swap_limit(),
        "Name": uname.nodename().to_string_lossy(),
        "DockerRootDir": roots.data.display().to_string(),
        "RunRoot": roots.run.display().to_string(),
        "Rootless": !context.privilege.rootful,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "RegistryConfig": registries(&config),
        "TrustPolicy": trust(&config),
        "SettingsFiles": context.settings().files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "Warnings": config.broken.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::raw(&template::one(format, &document)?)?,
        None => {
            output::raw(&text(&document))?;
            if document["SwapLimit"] == json!(false) {
                output::talk("WARNING: No swap limit support");
            }
            if let Some(error) = &config.broken {
                output::talk(format_args!("WARNING: {error}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// The lines about settings; a host without any has the networks of plain HTTP alone.
fn settings_text(document: &Value) -> String {
    let words = |value: &Value| value.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect::<Vec<_>>();
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
    let mut text = String::new();
    for file in words(&document["SettingsFiles"]) {
        text.push_str(&format!("Settings: {file}\n"));
    }
    for (title, lines) in [("Insecure Registries", insecure), ("Registry Mirrors", mirrors), ("Trust Policy", trust)] {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n {}\n", lines.join("\n ")));
        }
    }
    text
}

fn text(document: &Value) -> String {
    let word = |key: &str| document[key].as_str().map_or_else(|| document[key].to_string(), str::to_owned);
    let memory = ByteSize(document["MemTotal"].as_u64().unwrap_or(0)).binary();
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nServer Version: {}\nStorage Driver: {}\nLogging Driver: {}\n\
         Cgroup Driver: {}\nCgroup Version: {}\nKernel Version: {}\nOperating System: {}\nOSType: linux\nArchitecture: {} ({})\nCPUs: {}\n\
         Total Memory: {memory}\nName: {}\nRoot Dir: {}\nRun Root: {}\nRootless: {}\n{}",
        word("Containers"),
        word("ContainersRunning"),
        word("ContainersPaused"),
        word("ContainersStopped"),
        word("Images"),
        word("ServerVersion"),
        word("Driver"),
        word("LoggingDriver"),
        word("CgroupDriver"),
        word("CgroupVersion"),
        word("KernelVersion"),
        word("OperatingSystem"),
        word("Architecture"),
        version::architecture(),
        word("NCPU"),
        word("Name"),
        word("DockerRootDir"),
        word("RunRoot"),
        word("Rootless"),
        settings_text(document),
    )
}

/// `2` where the unified tree is the only one; hybrid hosts are `1`, as Docker calls them.
fn cgroup_version() -> &'static str {
    match rustix::fs::statfs("/sys/fs/cgroup") {
        Ok(stat) if i128::from(stat.f_type) == i128::from(CGROUP2_SUPER_MAGIC) => "2",
        _ => "1",
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory of this host.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(|rest| rest.trim().strip_suffix(" kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
