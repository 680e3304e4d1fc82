//! The flags that `run` and `create` share, and what they become: a validated request.

mod extras;
mod health;
pub(in crate::cli) mod request;

pub use health::Health;

pub(in crate::cli) use request::{all, client_variable, read_files, usage, volume_base};

/// Flags of a container.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Attach to stdin, stdout or stderr
    #[arg(short = 'a', long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Keep stdin open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Remove the container and its anonymous volumes when it exits
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Write the container's id to a file that must not exist
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// Join a pod; new:NAME makes it first
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Join the pod whose id is in a file
    #[arg(long, value_name = "FILE")]
    pub pod_id_file: Option<String>,
    /// Set a variable (K=V, or K for this shell's value)
    #[arg(short = 'e', long, value_name = "K=V")]
    pub env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Set a label
    #[arg(short = 'l', long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Add an annotation to the OCI config
    #[arg(long, value_name = "K=V")]
    pub annotation: Vec<String>,
    /// Mount a directory or a volume: [source:]destination[:options]
    #[arg(short = 'v', long, value_name = "SPEC")]
    pub volume: Vec<String>,
    /// Mount: type=bind|volume|tmpfs,source=…,target=…,readonly
    #[arg(long, value_name = "SPEC")]
    pub mount: Vec<String>,
    /// Mount a temporary file system: path[:options]
    #[arg(long, value_name = "SPEC")]
    pub tmpfs: Vec<String>,
    /// Mount the volumes of a container: NAME[:ro]
    #[arg(long, value_name = "NAME")]
    pub volumes_from: Vec<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User: name|uid[:group|gid]
    #[arg(short = 'u', long)]
    pub user: Option<String>,
    /// Add a supplementary group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Replace the image's entrypoint ("" resets it)
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Host name in the container
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// NIS domain name in the container
    #[arg(long)]
    pub domainname: Option<String>,
    /// Pull the image: always, missing or never
    #[arg(long, default_value = "missing", value_name = "WHEN")]
    pub pull: String,
    /// Platform of the image: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Do not show the progress of a pull
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Run a small init that reaps processes
    #[arg(long)]
    pub init: bool,
    /// Restart policy: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds to wait before killing it (-1: for ever)
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<i64>,
    /// Log driver: json-file, local, journald, syslog or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Log option: max-size=…, max-file=…, compress=, mode=, tag=, labels=, env=, syslog-address=…
    #[arg(long, value_name = "K=V")]
    pub log_opt: Vec<String>,
    /// Only true: there is no other content trust than the trust policy
    #[arg(long, hide = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = crate::cli::flags::no_content_trust)]
    pub disable_content_trust: bool,
    #[command(flatten)]
    pub health: Health,
    #[command(flatten)]
    pub extras: extras::Extras,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port or a range
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub security: Security,
    #[command(flatten)]
    pub limits: Limits,
}

/// Network flags, also those of `pod create`.
#[derive(clap::Args, Debug)]
pub struct Network {
    /// Network: bridge, host, none, container:NAME or one of `network ls`, also name=NAME,alias=,ip=,ip6=,mac-address=,gw-priority=
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Publish a port: [ip:][host:]container[/protocol]
    #[arg(short = 'p', long, value_name = "SPEC")]
    pub publish: Vec<String>,
    /// Name server
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// DNS option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Add a line to /etc/hosts: name:ip
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// IPv4 address in the (first) network
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// IPv6 address in the (first) network
    #[arg(long, value_name = "IP")]
    pub ip6: Option<String>,
    /// Another name in the (first) network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
}

/// Namespaces, capabilities, devices.
#[derive(clap::Args, Debug)]
pub struct Security {
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// Security option: seccomp=, apparmor=, label=disable, no-new-privileges, systempaths=unconfined, mask=, unmask=, proc-opts=
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Give all capabilities and devices
    #[arg(long)]
    pub privileged: bool,
    /// Mount the root read-only
    #[arg(long)]
    pub read_only: bool,
    /// Add a device, or all of a directory: host[:container][:rwm]; or a CDI device: vendor.com/class=name
    #[arg(long, value_name = "SPEC")]
    pub device: Vec<String>,
    /// Add a device rule: "c 42:* rmw"
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// IPC namespace: none, private, shareable, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// PID namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// User namespace: host, auto[:size=N,uidmapping=…,gidmapping=…], container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Map users in a private user namespace: container:host:size
    #[arg(long, value_name = "MAP")]
    pub uidmap: Vec<String>,
    /// Map groups in a private user namespace: container:host:size
    #[arg(long, value_name = "MAP")]
    pub gidmap: Vec<String>,
    /// Set a kernel parameter of the container
    #[arg(long, value_name = "K=V")]
    pub sysctl: Vec<String>,
}

/// Limits that `update` can change while the container runs.
#[derive(clap::Args, Debug)]
pub struct LiveLimits {
    /// Memory limit in bytes (b, k, m, g)
    #[arg(short = 'm', long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Limit of memory plus swap (-1: unlimited)
    #[arg(long, value_name = "BYTES")]
    pub memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Number of CPUs (1.5)
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "N")]
    pub cpu_shares: Option<u64>,
    /// CPU period in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU quota in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_quota: Option<i64>,
    /// CPUs to run on (0-3,5)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Number of processes (0 or -1: unlimited)
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<String>,
}

/// Resource limits.
#[derive(clap::Args, Debug)]
pub struct Limits {
    #[command(flatten)]
    pub live: LiveLimits,
    /// Swappiness 0 to 100 (cgroup v1)
    #[arg(long, value_name = "N")]
    pub memory_swappiness: Option<i64>,
    /// Do not kill on memory shortage (cgroup v1)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// OOM score adjustment, -1000 to 1000
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub oom_score_adj: i32,
    /// Block I/O weight of a device: /device:weight
    #[arg(long, value_name = "SPEC")]
    pub blkio_weight_device: Vec<String>,
    /// Limit reading: /device:bytes per second
    #[arg(long, value_name = "SPEC")]
    pub device_read_bps: Vec<String>,
    /// Limit writing: /device:bytes per second
    #[arg(long, value_name = "SPEC")]
    pub device_write_bps: Vec<String>,
    /// Limit reading: /device:operations per second
    #[arg(long, value_name = "SPEC")]
    pub device_read_iops: Vec<String>,
    /// Limit writing: /device:operations per second
    #[arg(long, value_name = "SPEC")]
    pub device_write_iops: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limit: type=soft[:hard]
    #[arg(long, value_name = "SPEC")]
    pub ulimit: Vec<String>,
    /// Parent cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}

/// Which standard streams a request attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}
