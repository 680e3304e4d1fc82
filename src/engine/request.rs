//! Validated requests: what a front door typed, parsed; no I/O. Grammar of the single flags: the files beside.

pub mod add_host;
pub mod device;
pub mod env;
pub mod gpus;
pub mod health;
pub mod idmap;
pub mod ids;
pub mod link;
pub mod log;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod pod;
pub mod port;
pub mod resources;
pub mod restart;
pub mod secret;
pub mod security;
pub mod start;
pub mod tmpfs;
pub mod ulimit;
pub mod volume;

pub use health::HealthRequest;

use crate::base::{ContainerName, Signal, VolumeName};
use crate::state::record;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A flag's value that does not follow the flag's grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value \"{value}\" for {flag}: {reason}")]
pub struct FlagError {
    /// The flag as the user types it: `--publish`.
    pub flag: &'static str,
    /// What was typed after it.
    pub value: String,
    pub reason: String,
}

impl FlagError {
    pub fn new(flag: &'static str, value: &str, reason: impl Into<String>) -> Self {
        FlagError { flag, value: value.to_owned(), reason: reason.into() }
    }
}

/// `true`, `1`, `t`, … as Go reads booleans.
///
/// # Errors
/// The text is none of them.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid boolean \"{text}\": expected true or false")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    #[default]
    Missing,
    Always,
    Never,
}

/// `create`/`run`. None or empty means "as the image says".
#[derive(Debug, Clone, Default)]
pub struct CreateContainer {
    /// As typed.
    pub image: String,
    pub platform: Option<String>,
    pub pull: PullPolicy,
    /// None: generated `adjective_surname`.
    pub name: Option<ContainerName>,
    /// None: the image's; Some(empty): reset (also clears the image's cmd).
    pub entrypoint: Option<Vec<String>>,
    /// Empty: the image's (unless entrypoint was given).
    pub command: Vec<String>,
    /// `K=V`, complete (bare `K` and files were resolved by the front door). `K` alone removes the image's.
    pub env: Vec<String>,
    /// None of the image's variables is taken.
    pub unset_env: bool,
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// None: first 12 characters of the id.
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub expose: Vec<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub stop_signal: Option<Signal>,
    pub stop_timeout: Option<i64>,
    /// `host.log` was asked for; otherwise the settings' default takes its place.
    pub log_given: bool,
    /// `-v`, `--mount`, `--tmpfs`.
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
    pub health: HealthRequest,
    /// `--rootfs`: then `image` is only what was typed.
    pub rootfs: Option<record::Rootfs>,
    pub systemd: start::Systemd,
    /// `--pod`.
    pub pod: Option<pod::JoinPod>,
    /// Everything else; `binds`, `volumes_from` inside are filled by the engine.
    pub host: record::HostSpec,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VolumesFrom {
    pub container: String,
    /// None: each mount's own mode; Some(true): clamp to read-only.
    pub read_only: bool,
    /// As typed, for inspect.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MountRequest {
    pub destination: PathBuf,
    pub source: MountSource,
    pub read_only: bool,
    /// Mode as typed (for inspect).
    pub mode: String,
    pub propagation: String,
    /// `-v` as typed and normalised (for inspect's Binds); None for `--mount` and `--tmpfs`.
    pub bind_text: Option<String>,
    pub options: record::MountOptions,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MountSource {
    /// `create`: a missing source is made (the `-v` form) or refused (`--mount`).
    Bind {
        source: PathBuf,
        create: bool,
        recursive: bool,
    },
    /// None: anonymous.
    Volume {
        name: Option<VolumeName>,
        no_copy: bool,
        subpath: Option<PathBuf>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    },
    Tmpfs {
        options: String,
        from_flag: bool,
    },
    Image {
        reference: String,
        subpath: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub tty: bool,
    pub privileged: bool,
    /// Terminal size (with `tty`).
    pub console: (u16, u16),
    /// Child ends of the pipes (None with `tty`). The front door keeps the others and relays.
    pub stdio: ExecStdio,
}

#[derive(Debug, Clone, Default)]
pub enum ExecStdio {
    #[default]
    Terminal,
    /// stdin, stdout, stderr.
    Pipes(std::sync::Arc<[std::os::fd::OwnedFd; 3]>),
}

/// `update`: None leaves as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdateRequest {
    pub memory: Option<u64>,
    pub memory_swap: Option<i64>,
    pub memory_reservation: Option<u64>,
    pub nano_cpus: Option<u64>,
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub pids_limit: Option<i64>,
    pub blkio_weight: Option<u16>,
    pub restart: Option<record::RestartPolicy>,
}
