//! The documents that clients send, with the fields that are acted on. Numbers may be absent or null; names are Docker's.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Null is as if it were absent.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A word or a list of words.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateBody {
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub user: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "lenient")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "lenient")]
    pub attach_stderr: bool,
    #[serde(deserialize_with = "lenient")]
    pub exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "lenient")]
    pub tty: bool,
    #[serde(deserialize_with = "lenient")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "lenient")]
    pub stdin_once: bool,
    #[serde(deserialize_with = "lenient")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    pub healthcheck: Option<Healthcheck>,
    #[serde(deserialize_with = "lenient")]
    pub image: String,
    #[serde(deserialize_with = "lenient")]
    pub volumes: BTreeMap<String, Value>,
    pub working_dir: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub network_disabled: bool,
    pub mac_address: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "lenient")]
    pub host_config: HostConfig,
    #[serde(deserialize_with = "lenient")]
    pub networking_config: NetworkingConfig,
}

#[derive(Deserialize, Default, Debug, Clone)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(deserialize_with = "lenient")]
    pub test: Vec<String>,
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
    pub retries: Option<i64>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    #[serde(deserialize_with = "lenient")]
    pub endpoints_config: Map<String, Value>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    #[serde(rename = "IPAMConfig", deserialize_with = "lenient")]
    pub ipam_config: EndpointIpam,
    #[serde(deserialize_with = "lenient")]
    pub links: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub aliases: Vec<String>,
    pub mac_address: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub gw_priority: i32,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct EndpointIpam {
    #[serde(rename = "IPv4Address", deserialize_with = "lenient")]
    pub ipv4: String,
    #[serde(rename = "IPv6Address", deserialize_with = "lenient")]
    pub ipv6: String,
    #[serde(rename = "LinkLocalIPs", deserialize_with = "lenient")]
    pub link_local: Vec<String>,
}

/// `HostConfig`. Limits are also the body of an update.
#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    #[serde(deserialize_with = "lenient")]
    pub binds: Vec<String>,
    #[serde(rename = "ContainerIDFile", deserialize_with = "lenient")]
    pub container_id_file: String,
    #[serde(deserialize_with = "lenient")]
    pub log_config: LogConfig,
    #[serde(deserialize_with = "lenient")]
    pub network_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    #[serde(deserialize_with = "lenient")]
    pub restart_policy: RestartPolicy,
    #[serde(deserialize_with = "lenient")]
    pub auto_remove: bool,
    #[serde(deserialize_with = "lenient")]
    pub volume_driver: String,
    #[serde(deserialize_with = "lenient")]
    pub volumes_from: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub mounts: Vec<Value>,
    #[serde(deserialize_with = "lenient")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub cap_add: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub cap_drop: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub cgroupns_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub dns: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub dns_options: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub dns_search: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub extra_hosts: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub group_add: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub ipc_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub links: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub oom_score_adj: i32,
    #[serde(deserialize_with = "lenient")]
    pub pid_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub privileged: bool,
    #[serde(deserialize_with = "lenient")]
    pub publish_all_ports: bool,
    #[serde(deserialize_with = "lenient")]
    pub readonly_rootfs: bool,
    #[serde(deserialize_with = "lenient")]
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub storage_opt: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode", deserialize_with = "lenient")]
    pub uts_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub userns_mode: String,
    #[serde(deserialize_with = "lenient")]
    pub shm_size: u64,
    #[serde(deserialize_with = "lenient")]
    pub sysctls: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub runtime: String,
    #[serde(deserialize_with = "lenient")]
    pub isolation: String,
    pub init: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub cgroup_parent: String,
    #[serde(deserialize_with = "lenient")]
    pub devices: Vec<DeviceMapping>,
    #[serde(deserialize_with = "lenient")]
    pub device_cgroup_rules: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub device_requests: Vec<DeviceRequest>,
    #[serde(deserialize_with = "lenient")]
    pub ulimits: Vec<Ulimit>,
    /// Null: Docker's own lists.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    #[serde(flatten)]
    pub limits: Limits,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct Limits {
    #[serde(deserialize_with = "lenient")]
    pub memory: i64,
    #[serde(deserialize_with = "lenient")]
    pub memory_swap: i64,
    #[serde(deserialize_with = "lenient")]
    pub memory_reservation: i64,
    pub memory_swappiness: Option<i64>,
    #[serde(deserialize_with = "lenient")]
    pub oom_kill_disable: bool,
    #[serde(rename = "NanoCpus", alias = "NanoCPUs", deserialize_with = "lenient")]
    pub nano_cpus: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpu_shares: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpu_period: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpu_quota: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpu_realtime_period: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpu_realtime_runtime: i64,
    #[serde(deserialize_with = "lenient")]
    pub cpuset_cpus: String,
    #[serde(deserialize_with = "lenient")]
    pub cpuset_mems: String,
    pub pids_limit: Option<i64>,
    #[serde(deserialize_with = "lenient")]
    pub blkio_weight: u16,
    #[serde(deserialize_with = "lenient")]
    pub blkio_weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "lenient")]
    pub blkio_device_read_bps: Vec<RateDevice>,
    #[serde(deserialize_with = "lenient")]
    pub blkio_device_write_bps: Vec<RateDevice>,
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "lenient")]
    pub blkio_device_read_iops: Vec<RateDevice>,
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "lenient")]
    pub blkio_device_write_iops: Vec<RateDevice>,
}

/// The body of an update.
#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateBody {
    #[serde(flatten)]
    pub limits: Limits,
    pub restart_policy: Option<RestartPolicy>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    #[serde(deserialize_with = "lenient")]
    pub r#type: String,
    #[serde(deserialize_with = "lenient")]
    pub config: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct PortBinding {
    #[serde(rename = "HostIp", deserialize_with = "lenient")]
    pub host_ip: String,
    #[serde(rename = "HostPort", deserialize_with = "lenient")]
    pub host_port: String,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    #[serde(deserialize_with = "lenient")]
    pub name: String,
    #[serde(deserialize_with = "lenient")]
    pub maximum_retry_count: i64,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    #[serde(deserialize_with = "lenient")]
    pub path_on_host: String,
    #[serde(deserialize_with = "lenient")]
    pub path_in_container: String,
    #[serde(deserialize_with = "lenient")]
    pub cgroup_permissions: String,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    #[serde(deserialize_with = "lenient")]
    pub driver: String,
    #[serde(deserialize_with = "lenient")]
    pub count: i64,
    #[serde(rename = "DeviceIDs", deserialize_with = "lenient")]
    pub device_ids: Vec<String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    #[serde(deserialize_with = "lenient")]
    pub name: String,
    #[serde(deserialize_with = "lenient")]
    pub soft: i64,
    #[serde(deserialize_with = "lenient")]
    pub hard: i64,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    #[serde(deserialize_with = "lenient")]
    pub path: String,
    #[serde(deserialize_with = "lenient")]
    pub weight: u16,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct RateDevice {
    #[serde(deserialize_with = "lenient")]
    pub path: String,
    #[serde(deserialize_with = "lenient")]
    pub rate: u64,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecBody {
    #[serde(deserialize_with = "lenient")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "lenient")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "lenient")]
    pub attach_stderr: bool,
    #[serde(deserialize_with = "lenient")]
    pub detach_keys: String,
    #[serde(deserialize_with = "lenient")]
    pub tty: bool,
    #[serde(deserialize_with = "lenient")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient")]
    pub privileged: bool,
    #[serde(deserialize_with = "lenient")]
    pub user: String,
    #[serde(deserialize_with = "lenient")]
    pub working_dir: String,
    /// Rows and columns.
    pub console_size: Option<[u16; 2]>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecStart {
    #[serde(deserialize_with = "lenient")]
    pub detach: bool,
    #[serde(deserialize_with = "lenient")]
    pub tty: bool,
    pub console_size: Option<[u16; 2]>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkBody {
    #[serde(deserialize_with = "lenient")]
    pub name: String,
    #[serde(deserialize_with = "lenient")]
    pub driver: String,
    #[serde(deserialize_with = "lenient")]
    pub scope: String,
    #[serde(deserialize_with = "lenient")]
    pub internal: bool,
    #[serde(deserialize_with = "lenient")]
    pub attachable: bool,
    #[serde(deserialize_with = "lenient")]
    pub ingress: bool,
    #[serde(deserialize_with = "lenient")]
    pub config_only: bool,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM", deserialize_with = "lenient")]
    pub ipam: Ipam,
    #[serde(deserialize_with = "lenient")]
    pub options: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    #[serde(deserialize_with = "lenient")]
    pub driver: String,
    #[serde(deserialize_with = "lenient")]
    pub config: Vec<IpamPool>,
    #[serde(deserialize_with = "lenient")]
    pub options: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct IpamPool {
    #[serde(rename = "Subnet", deserialize_with = "lenient")]
    pub subnet: String,
    #[serde(rename = "IPRange", deserialize_with = "lenient")]
    pub range: String,
    #[serde(rename = "Gateway", deserialize_with = "lenient")]
    pub gateway: String,
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress", deserialize_with = "lenient")]
    pub auxiliary: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct Membership {
    #[serde(deserialize_with = "lenient")]
    pub container: String,
    #[serde(deserialize_with = "lenient")]
    pub force: bool,
    #[serde(deserialize_with = "lenient")]
    pub endpoint_config: EndpointSettings,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeBody {
    #[serde(deserialize_with = "lenient")]
    pub name: String,
    #[serde(deserialize_with = "lenient")]
    pub driver: String,
    #[serde(deserialize_with = "lenient")]
    pub driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    pub labels: BTreeMap<String, String>,
    /// A cluster's volume.
    pub cluster_volume_spec: Option<Value>,
}
