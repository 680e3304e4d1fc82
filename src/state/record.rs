//! The durable documents. Fields are added with `#[serde(default)]`; a changed meaning needs a migration.

use crate::base::{ContainerId, ContainerName, Signal, Timestamp, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// One container: what it is ([`ContainerSpec`]) and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub id: ContainerId,
    pub name: ContainerName,
    pub created: Timestamp,
    pub phase: Phase,
    /// Last start; [`Timestamp::NEVER`] before the first.
    pub started: Timestamp,
    /// Last exit; [`Timestamp::NEVER`] before the first.
    pub finished: Timestamp,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    pub restart_count: u32,
    /// The user stopped it: the restart policy rests until the next start.
    pub stopped_by_user: bool,
    /// Leased address on the default bridge while started.
    pub address: Option<Ipv4Addr>,
    /// Published ports while started, host ports resolved.
    pub published: Vec<PublishedPort>,
    pub spec: ContainerSpec,
}

/// Durable phase. Whether a `Started` container still runs is a live fact (the monitor's lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Created,
    Started,
    Exited,
    /// `rm` has begun; only finishing the removal is allowed.
    Removing,
}

/// Everything resolved at create: image defaults and request merged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    pub version: u32,
    /// The reference as the user typed it (`ps` shows it).
    pub image: String,
    /// Config digest of the image (`sha256:…`).
    pub image_id: String,
    pub platform: String,
    pub process: ProcessSpec,
    pub hostname: String,
    pub domainname: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Ports of EXPOSE and `--expose`: `80/tcp`.
    pub exposed: Vec<String>,
    /// Paths of the image's VOLUME (for inspect).
    pub image_volumes: Vec<String>,
    pub mounts: Vec<Mount>,
    pub host: HostSpec,
    /// Healthcheck as found in the image config (kept verbatim for inspect).
    pub healthcheck: Option<serde_json::Value>,
    pub on_build: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// `K=V`, image first; duplicates kept as Docker keeps them.
    pub env: Vec<String>,
    /// As typed: `name|uid[:group|gid]`, empty for root.
    pub user: String,
    pub workdir: String,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub stop_signal: Option<Signal>,
    /// Seconds; -1 is for ever; None is the default of 10.
    pub stop_timeout: Option<i64>,
}

/// Docker's HostConfig, typed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSpec {
    /// `-v` as typed, normalised (for inspect's Binds).
    pub binds: Vec<String>,
    pub volumes_from: Vec<String>,
    pub auto_remove: bool,
    pub restart: RestartPolicy,
    pub network: NetworkMode,
    pub ports: Vec<PortMapping>,
    pub publish_all: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `host:ip` pairs; the ip may be `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    pub mac_address: Option<String>,
    /// Capability names without `CAP_`, upper case; `ALL` allowed.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub privileged: bool,
    pub read_only: bool,
    pub security: SecuritySpec,
    pub init: bool,
    pub ipc: IpcMode,
    pub pid: PidMode,
    pub uts_host: bool,
    pub cgroupns: Option<CgroupnsMode>,
    pub userns: UsernsMode,
    pub group_add: Vec<String>,
    /// Bytes of /dev/shm; 0 is the default of 64 MiB.
    pub shm_size: u64,
    pub ulimits: Vec<Ulimit>,
    pub sysctls: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    pub device_rules: Vec<String>,
    pub resources: Resources,
    pub cgroup_parent: String,
    pub oom_score_adj: i32,
    pub log: LogSpec,
    pub cidfile: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `systempaths=unconfined`: no masked or read-only paths.
    pub unmasked: bool,
    pub apparmor: Option<String>,
    /// `label=…` options as typed.
    pub label: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    #[default]
    Builtin,
    Unconfined,
    /// A Docker-format profile, its JSON text read at create.
    Profile(String),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes; None is unlimited.
    pub memory: Option<u64>,
    /// Memory plus swap in bytes; -1 is unlimited; None follows Docker (2 × memory).
    pub memory_swap: Option<i64>,
    pub memory_reservation: Option<u64>,
    pub memory_swappiness: Option<u64>,
    pub oom_kill_disable: bool,
    /// Billionths of a CPU.
    pub nano_cpus: Option<u64>,
    pub cpu_shares: Option<u64>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// None or non-positive: unlimited.
    pub pids_limit: Option<i64>,
    pub blkio_weight: Option<u16>,
    /// Device path → bytes or operations per second.
    pub device_read_bps: Vec<(String, u64)>,
    pub device_write_bps: Vec<(String, u64)>,
    pub device_read_iops: Vec<(String, u64)>,
    pub device_write_iops: Vec<(String, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower-case name as typed: `nofile`.
    pub name: String,
    /// -1 is unlimited.
    pub soft: i64,
    pub hard: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: PathBuf,
    /// Subset of `rwm`.
    pub access: String,
}

/// One mount of the container, after VOLUME, `--volumes-from`, `-v` and `--mount` were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub destination: PathBuf,
    pub kind: MountKind,
    pub read_only: bool,
    /// Mode text for inspect (`ro`, `z`, ``).
    pub mode: String,
    /// Propagation: `rprivate`, `rshared`, …; empty is `rprivate`.
    pub propagation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MountKind {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    Volume {
        name: VolumeName,
        anonymous: bool,
        no_copy: bool,
        subpath: Option<PathBuf>,
    },
    /// `from_flag`: given by `--tmpfs` (not listed in inspect's Mounts).
    Tmpfs {
        options: String,
        from_flag: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    /// At most this many consecutive tries; 0 is without limit.
    OnFailure(u32),
    Always,
    UnlessStopped,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    #[default]
    Bridge,
    Host,
    None,
    /// Shares the network namespace of that container.
    Container(String),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpcMode {
    #[default]
    Private,
    None,
    Shareable,
    Host,
    Container(String),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidMode {
    #[default]
    Private,
    Host,
    Container(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupnsMode {
    Private,
    Host,
}

/// User namespace on request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsernsMode {
    #[default]
    Host,
    /// A private user namespace with these mappings.
    Mapped { uids: Vec<IdMap>, gids: Vec<IdMap> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A publication as requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortMapping {
    /// None: all addresses.
    pub host_ip: Option<std::net::IpAddr>,
    /// First and last acceptable host port; None: any free port.
    pub host_ports: Option<(u16, u16)>,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// A publication in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host_ip: Option<std::net::IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// `json-file` or `none`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

impl Default for LogSpec {
    fn default() -> Self {
        LogSpec { driver: "json-file".to_owned(), options: BTreeMap::new() }
    }
}

/// One image: a verified config and its layers, found by its config digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the config document (`sha256:…`): Docker's image id.
    pub id: String,
    /// The config document, byte for byte.
    pub config: Vec<u8>,
    /// Digest and bytes of the manifest it came with, if it came with one.
    pub manifest_digest: Option<String>,
    pub manifest: Option<Vec<u8>>,
    pub manifest_type: Option<String>,
    /// Chain ids, base first.
    pub layers: Vec<String>,
    /// Unpacked bytes of all layers.
    pub size: u64,
    pub created: Timestamp,
    /// When this host got it.
    pub pulled: Timestamp,
}

/// One unpacked layer, shared by every image with the same chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub chain_id: String,
    pub diff_id: String,
    /// Digest and size of the compressed blob kept in the content store, if kept.
    pub blob: Option<String>,
    pub blob_size: u64,
    /// Media type of that blob.
    pub media_type: String,
    /// Directory name under `layers/`; its `diff` child is the overlay lower directory.
    pub dir: String,
    /// Bytes of regular files in it.
    pub size: u64,
    /// Bytes of the uncompressed tar that the DiffID names; 0 where it was not counted (older records).
    #[serde(default)]
    pub tar_size: u64,
}

/// A signature of an image that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedImage {
    /// Image id.
    pub image: String,
    /// The repository it was verified for, in the spelling of trust policies.
    pub repository: String,
    /// The scope the signed repository had to lie in; empty: it was the image's own.
    pub identity: String,
    /// What was signed: a manifest or index.
    pub digest: String,
    /// Digest of the public key.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: VolumeName,
    pub created: Timestamp,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub anonymous: bool,
}

/// The default bridge, chosen once by looking at the host's routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub id: String,
    pub created: Timestamp,
    /// Name of the bridge device.
    pub bridge: String,
    pub subnet: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
}
