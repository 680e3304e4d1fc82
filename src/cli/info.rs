//! `info`: this host as the engine sees it.

use super::context::Context;
use super::failure::Failure;
use super::{output, template, version};
use crate::base::ByteSize;
use crate::engine::Status;
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
    });
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::raw(&template::one(format, &document)?)?,
        None => {
            output::raw(&text(&document))?;
            if document["SwapLimit"] == json!(false) {
                output::talk("WARNING: No swap limit support");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(document: &Value) -> String {
    let word = |key: &str| document[key].as_str().map_or_else(|| document[key].to_string(), str::to_owned);
    let memory = ByteSize(document["MemTotal"].as_u64().unwrap_or(0)).binary();
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nServer Version: {}\nStorage Driver: {}\nLogging Driver: {}\n\
         Cgroup Driver: {}\nCgroup Version: {}\nKernel Version: {}\nOperating System: {}\nOSType: linux\nArchitecture: {} ({})\nCPUs: {}\n\
         Total Memory: {memory}\nName: {}\nRoot Dir: {}\nRun Root: {}\nRootless: {}\n",
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
