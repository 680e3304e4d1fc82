//! The durable documents. Fields are added with `#[serde(default)]`; a changed meaning needs a migration.

mod health;
mod network;
mod origin;

pub use health::{HealthAction, Healthcheck};
pub use network::{Attachment, DEFAULT_NETWORK, Driver, Endpoint, IpvlanMode, MacvlanMode, Network, Pool, is_interface_name};
pub use origin::{Readiness, Rootfs};

use crate::base::{ContainerId, ContainerName, Signal, Timestamp, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// The OOM killer killed processes of the last run.
    pub oom_killed: bool,
    /// How many it killed since the last start by a user.
    #[serde(default)]
    pub oom_kills: u64,
    /// Lines of the last run that its log could not keep.
    #[serde(default)]
    pub log_lost: u64,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    pub restart_count: u32,
    /// The user stopped it: the restart policy rests until the next start.
    pub stopped_by_user: bool,
    /// Some from the moment that the restart policy, not the user, has to bring it back.
    #[serde(default)]
    pub revival: Option<Revival>,
    /// What it has of its networks while started, in the order of its interfaces.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Published ports while a network carries them, host ports resolved.
    pub published: Vec<PublishedPort>,
    /// While a change of its networks is under way, what it had before: `endpoints`, `published` and the spec tell already what it
    /// will have, and the leases are those of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Box<Networked>>,
    /// Boxed: lists move records about, and this is nearly all of one.
    pub spec: Box<ContainerSpec>,
}

/// What a running container has of its networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Networked {
    /// What its spec asks for.
    pub attachments: Option<Vec<Attachment>>,
    pub endpoints: Vec<Endpoint>,
    pub published: Vec<PublishedPort>,
}

/// How often in a row the restart policy has brought a container back without a monitor, and when it may again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revival {
    pub tries: u32,
    pub next: Timestamp,
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
    /// Nobody runs it, but its restart policy wants it to run: its monitor died, or a start at boot failed.
    /// [`Container::revival`] says when it is tried again.
    Restarting,
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
    /// The image's and the request's, merged.
    #[serde(deserialize_with = "health::lenient")]
    pub healthcheck: Option<Healthcheck>,
    pub health_action: HealthAction,
    /// The image's SHELL, which runs a health check in shell form; empty: `/bin/sh -c`.
    pub shell: Vec<String>,
    pub on_build: Vec<String>,
    /// The pod that it is a member of.
    pub pod: Option<Membership>,
    /// Its root instead of an image's; then there is no `image_id`, and `image` is the directory as typed.
    pub rootfs: Option<Rootfs>,
}

/// What binds a container to its pod besides the modes of its namespaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub pod: crate::base::PodId,
    /// It has the pod's UTS namespace, and so its host name.
    #[serde(default)]
    pub uts: bool,
    /// It runs to its end before the others start.
    #[serde(default)]
    pub init: Option<InitContainer>,
}

/// `--init-ctr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitContainer {
    /// At the first start of the pod; then it is removed.
    Once,
    /// At each start of the pod.
    Always,
}

impl Container {
    /// One that was never started, created now.
    pub fn new(id: ContainerId, name: ContainerName, spec: ContainerSpec) -> Self {
        Container {
            id,
            name,
            created: Timestamp::now(),
            phase: Phase::Created,
            started: Timestamp::NEVER,
            finished: Timestamp::NEVER,
            exit_code: 0,
            oom_killed: false,
            oom_kills: 0,
            log_lost: 0,
            error: String::new(),
            restart_count: 0,
            stopped_by_user: false,
            revival: None,
            endpoints: Vec::new(),
            published: Vec::new(),
            moving: None,
            spec: Box::new(spec),
        }
    }
}

impl Container {
    /// The endpoint that has the default route and the published ports, while started.
    pub fn primary(&self) -> Option<&Endpoint> {
        primary(&self.endpoints)
    }

    pub fn networked(&self) -> Networked {
        Networked { attachments: self.spec.host.attachments.clone(), endpoints: self.endpoints.clone(), published: self.published.clone() }
    }

    /// Its endpoints, and those that it had before a change that is under way.
    pub fn all_endpoints(&self) -> Vec<Endpoint> {
        let former = self.moving.iter().flat_map(|former| &former.endpoints).filter(|former| self.endpoints.iter().all(|e| e.id != former.id));
        self.endpoints.iter().chain(former).cloned().collect()
    }
}

impl ContainerSpec {
    /// Whether the container's root or one of its mounts is of this image.
    pub fn uses_image(&self, id: &str) -> bool {
        self.image_id == id || self.mounts.iter().any(|mount| matches!(&mount.kind, MountKind::Image { id: mounted, .. } if mounted == id))
    }
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
    /// The networks that it is on, in the order of its interfaces. None: only the one that `network` says.
    pub attachments: Option<Vec<Attachment>>,
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
    /// What `--userns auto` asked for, once `userns` has the maps that were lent.
    pub auto_userns: Option<AutoUserns>,
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
    /// File mode creation mask of the process; None is 0022.
    pub umask: Option<u32>,
    /// The image's own `/etc/hosts` is left alone.
    pub no_hosts: bool,
    /// Ids of containers that are started before this one.
    pub requires: Vec<String>,
    pub links: Vec<Link>,
    pub secrets: Vec<SecretUse>,
    /// CDI names: `vendor.com/class=name`.
    pub cdi: Vec<String>,
    /// Seconds after which each run is killed.
    pub timeout: Option<u32>,
    /// Lines for `/etc/passwd` and `/etc/group` of a user and group in numbers that are not in them.
    pub passwd_entry: Option<String>,
    pub group_entry: Option<String>,
    /// Its first process is a systemd: it has what that needs.
    pub systemd: bool,
    pub readiness: Option<Readiness>,
}

impl HostSpec {
    /// Whether it has a network namespace of its own with endpoints in it.
    pub fn is_networked(&self) -> bool {
        matches!(self.network, NetworkMode::Bridge | NetworkMode::Named(_))
    }

    /// The networks that it asks for; none with a namespace that is another's, the host's or has only loopback.
    pub fn attachments(&self) -> Vec<Attachment> {
        let first = match &self.network {
            NetworkMode::Bridge => DEFAULT_NETWORK,
            NetworkMode::Named(name) => name,
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) | NetworkMode::Pod => return Vec::new(),
        };
        self.attachments.clone().unwrap_or_else(|| {
            let mac = self.mac_address.clone();
            vec![Attachment { network: first.to_owned(), mac, ..Attachment::default() }]
        })
    }
}

/// The endpoint that has the default route and the published ports.
pub fn primary(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|endpoint| endpoint.gateway).or_else(|| endpoints.first())
}

/// Another container of the default bridge that this one knows by a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its id.
    pub container: String,
    pub alias: String,
}

/// A secret that the container got at create, as its own copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Name or id as typed.
    pub secret: String,
    pub target: SecretTarget,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum SecretTarget {
    /// A read-only file.
    Mount { path: PathBuf, uid: u32, gid: u32, mode: u32 },
    /// A variable, which `inspect` does not show.
    Env { variable: String },
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
    /// More masked paths (`mask=`).
    pub masked: Vec<PathBuf>,
    /// Paths that are neither masked nor read-only although they are by default (`unmask=`); shell patterns.
    pub unmasked_paths: Vec<String>,
    /// Options of `/proc` (`proc-opts=`): `hidepid=2`.
    pub proc_options: Vec<String>,
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
    /// Device path → weight.
    pub blkio_weight_device: Vec<(String, u16)>,
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
    #[serde(default)]
    pub options: MountOptions,
}

/// How a bind or volume is shown and treated, beyond read-only and propagation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountOptions {
    /// What is mounted below a read-only bind stays writable.
    pub writable_submounts: bool,
    /// `U`: at every start the files are given to the container's user.
    pub chown: bool,
    /// `O`: changes are kept apart and dropped when the container ends.
    pub overlay: bool,
    pub idmap: Option<MountIdmap>,
    /// Attributes of the mount: `noexec`, `nosuid`, `nodev` and their opposites, as typed.
    pub flags: Vec<String>,
}

/// Files of a mount are shown with other owners than they have on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountIdmap {
    /// On disk are the ids that the container sees.
    Container,
    /// The owner of the mounted directory is shown as these ids; all others as they are.
    Owner {
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Maps {
        uids: Vec<ShownMap>,
        gids: Vec<ShownMap>,
    },
}

/// A range of ids on disk and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownMap {
    pub disk: u32,
    pub shown: u32,
    pub size: u32,
    /// `shown` is an id of the container, not of the host.
    pub relative: bool,
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
    /// The files of an image.
    Image {
        /// As typed.
        reference: String,
        id: String,
        subpath: Option<PathBuf>,
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
    /// A namespace of its own, on networks that were made by name; this is the first.
    Named(String),
    Host,
    None,
    /// Shares the network namespace of that container.
    Container(String),
    /// Shares that of its pod.
    Pod,
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
    /// Shares that of its pod.
    Pod,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidMode {
    #[default]
    Private,
    Host,
    Container(String),
    /// Shares that of its pod.
    Pod,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupnsMode {
    Private,
    Host,
    /// Shares that of its pod.
    Pod,
}

/// User namespace on request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsernsMode {
    #[default]
    Host,
    /// A private user namespace with these mappings.
    Mapped { uids: Vec<IdMap>, gids: Vec<IdMap> },
    /// Only in a request: when the record is written, ids are lent to it, and it becomes `Mapped`.
    Auto(AutoUserns),
    /// That of another container.
    Container {
        /// Whose init is in it; in a request as typed.
        id: String,
        /// The container that it was made for.
        root: String,
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    /// One that somebody else made, by its file (`/proc/PID/ns/user`, or where that is mounted), with the maps that it had
    /// when the container was made.
    Path { path: PathBuf, uids: Vec<IdMap>, gids: Vec<IdMap> },
}

/// `--userns auto`: how many ids, and which of them are not to come from the pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoUserns {
    pub size: Option<u32>,
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

impl UsernsMode {
    /// The maps of the container's user namespace, if it has one.
    pub fn maps(&self) -> Option<(&[IdMap], &[IdMap])> {
        match self {
            UsernsMode::Host | UsernsMode::Auto(_) => None,
            UsernsMode::Mapped { uids, gids } | UsernsMode::Container { uids, gids, .. } | UsernsMode::Path { uids, gids, .. } => Some((uids, gids)),
        }
    }
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
    Sctp,
}

impl Protocol {
    /// In lower case, as everybody writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.name() == name)
    }
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
