//! `pod create`.

use crate::base::{IdError, PodName};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::options::{LiveLimits, Network, all, read_files, usage, volume_base};
use crate::cli::output;
use crate::engine::request::pod::{CreatePod, parse_exit_policy, parse_shares};
use crate::engine::request::{device, env, ids, namespace, resources, restart, security, volume};
use crate::state::pod::Shares;
use crate::state::record::{HostSpec, IpcMode, NetworkMode, Resources};
use std::io::Write;
use std::process::ExitCode;

/// Create a pod
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Name of the pod
    #[arg(short = 'n', long)]
    pub name: Option<String>,
    /// Namespaces that the containers share: net,ipc,uts,pid and cgroup, or none; +pid adds to the default
    #[arg(long, default_value = "ipc,net,uts", value_name = "LIST")]
    pub share: String,
    /// Containers' control groups are below the pod's
    #[arg(long, default_value = "true")]
    pub share_parent: bool,
    /// What the end of the last container does: continue or stop
    #[arg(long, default_value = "continue", value_name = "POLICY")]
    pub exit_policy: String,
    /// Restart policy of containers that name none
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Remove a pod of this name first
    #[arg(long)]
    pub replace: bool,
    /// Write the pod's id to a file
    #[arg(long, value_name = "FILE")]
    pub pod_id_file: Option<String>,
    /// Set a label
    #[arg(short = 'l', long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Mount in every container: [source:]destination[:options]
    #[arg(short = 'v', long, value_name = "SPEC")]
    pub volume: Vec<String>,
    /// Mount the volumes of a container in every container: NAME[:ro]
    #[arg(long, value_name = "NAME")]
    pub volumes_from: Vec<String>,
    /// Host name
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Leave /etc/hosts as the images have it
    #[arg(long)]
    pub no_hosts: bool,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub inside: Inside,
    #[command(flatten)]
    pub limits: LiveLimits,
    /// Parent cgroup of the pod's own
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    #[command(flatten)]
    pub infra: Infra,
    /// Name of the pod, as with --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub positional_name: Option<String>,
}

/// What every container gets.
#[derive(clap::Args, Debug)]
pub struct Inside {
    /// PID namespace of the containers: host or private
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// UTS namespace of the containers: host or private
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Security option of containers that name none
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Set a kernel parameter of the shared namespaces
    #[arg(long, value_name = "K=V")]
    pub sysctl: Vec<String>,
    /// Size of the shared /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Add a device: host[:container][:rwm]
    #[arg(long, value_name = "SPEC")]
    pub device: Vec<String>,
    /// Block I/O weight of a device: /device:weight
    #[arg(long, value_name = "SPEC")]
    pub blkio_weight_device: Vec<String>,
    /// Limit reading: /device:bytes per second
    #[arg(long, value_name = "SPEC")]
    pub device_read_bps: Vec<String>,
    /// Limit writing: /device:bytes per second
    #[arg(long, value_name = "SPEC")]
    pub device_write_bps: Vec<String>,
}

/// Podman's infra container, which is not needed here.
#[derive(clap::Args, Debug)]
pub struct Infra {
    /// false: share nothing
    #[arg(long, default_value = "true")]
    pub infra: bool,
    #[arg(long, hide = true)]
    pub infra_image: Option<String>,
    #[arg(long, hide = true)]
    pub infra_command: Option<String>,
    #[arg(long, hide = true)]
    pub infra_name: Option<String>,
    #[arg(long, hide = true)]
    pub infra_conmon_pidfile: Option<String>,
}

/// # Errors
/// A malformed flag (exit code 125), or the engine cannot create it.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let pod = context.engine()?.create_pod(&args.request()?)?;
    if let Some(path) = &args.pod_id_file {
        write_id(path, pod.id.as_str())?;
    }
    output::line(&pod.id)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the id of a new pod.
pub fn write_id(path: &str, id: &str) -> Result<(), Failure> {
    let write = || std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path)?.write_all(id.as_bytes());
    write().map_err(|error| Failure::caused(format!("cannot write the pod ID file {path}"), &error).with_code(USAGE))
}

impl Args {
    fn request(&self) -> Result<CreatePod, Failure> {
        let name = self
            .name
            .as_deref()
            .or(self.positional_name.as_deref())
            .map(str::parse::<PodName>)
            .transpose()
            .map_err(|error: IdError| usage(error.to_string()))?;
        Ok(CreatePod {
            name,
            hostname: self.hostname.clone(),
            labels: env::labels(&read_files(&self.label_file)?, &self.label)?,
            shares: self.shares()?,
            exit_policy: parse_exit_policy(&self.exit_policy)?,
            share_parent: self.share_parent,
            no_hosts: self.no_hosts,
            mounts: self.mounts()?,
            volumes_from: all(&self.volumes_from, volume::parse_from)?,
            replace: self.replace,
            command: std::env::args().collect(),
            host: self.host()?,
        })
    }

    fn shares(&self) -> Result<Shares, Failure> {
        let infra = &self.infra;
        for (given, flag) in [
            (infra.infra_image.is_some(), "--infra-image"),
            (infra.infra_command.is_some(), "--infra-command"),
            (infra.infra_name.is_some(), "--infra-name"),
            (infra.infra_conmon_pidfile.is_some(), "--infra-conmon-pidfile"),
        ] {
            if given {
                return Err(usage(format!("{flag} is not supported: a pod needs no infra container here")).with_hint(format!("drop {flag}")));
            }
        }
        let shares = parse_shares(&self.share)?;
        match (infra.infra, self.share.as_str()) {
            (true, _) => Ok(shares),
            (false, "ipc,net,uts" | "none" | "") => Ok(Shares::default()),
            (false, _) => Err(usage("conflicting options: --infra=false and --share: nothing is shared without it")),
        }
    }

    fn mounts(&self) -> Result<Vec<crate::engine::request::MountRequest>, Failure> {
        if self.volume.is_empty() {
            return Ok(Vec::new());
        }
        let base = volume_base(self.volume.iter())?;
        Ok(all(&self.volume, |text| volume::parse(text, &base))?)
    }

    fn host(&self) -> Result<HostSpec, Failure> {
        let mut host = HostSpec {
            restart: restart::parse(self.restart.as_deref().unwrap_or(""))?,
            resources: self.resources()?,
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            ..HostSpec::default()
        };
        self.network.apply(&mut host)?;
        self.inside.apply(&mut host)?;
        Ok(host)
    }

    fn resources(&self) -> Result<Resources, Failure> {
        let live = self.limits.parse()?;
        let throttle = |flag, list: &[String]| all(list, |text| resources::parse_throttle(flag, text, true));
        let limits = Resources {
            memory: live.memory,
            memory_swap: live.memory_swap,
            memory_reservation: live.memory_reservation,
            nano_cpus: live.nano_cpus,
            cpu_shares: live.cpu_shares,
            cpu_period: live.cpu_period,
            cpu_quota: live.cpu_quota,
            cpuset_cpus: live.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: live.cpuset_mems.unwrap_or_default(),
            pids_limit: live.pids_limit,
            blkio_weight: live.blkio_weight,
            blkio_weight_device: all(&self.inside.blkio_weight_device, resources::parse_weight_device)?,
            device_read_bps: throttle("--device-read-bps", &self.inside.device_read_bps)?,
            device_write_bps: throttle("--device-write-bps", &self.inside.device_write_bps)?,
            ..Resources::default()
        };
        resources::check(&limits).map_err(usage)?;
        Ok(limits)
    }
}

impl Inside {
    fn apply(&self, host: &mut HostSpec) -> Result<(), Failure> {
        host.pid = namespace::parse_pid(self.pid.as_deref().unwrap_or(""))?;
        host.uts_host = namespace::parse_uts(self.uts.as_deref().unwrap_or(""))?;
        host.userns = ids::parse(self.userns.as_deref(), &[], &[])?;
        let read = |path: &str| std::fs::read_to_string(path).map_err(|e| format!("cannot read the profile {path}: {e}"));
        for option in &self.security_opt {
            security::apply(&mut host.security, option, &read)?;
        }
        let (host_network, host_ipc) = (host.network == NetworkMode::Host, host.ipc == IpcMode::Host);
        host.sysctls = all(&self.sysctl, |text| security::parse_sysctl(text, host_network, host_ipc))?.into_iter().collect();
        if let Some(text) = &self.shm_size {
            host.shm_size = resources::parse_shm_size(text)?;
        }
        host.devices = all(&self.device, device::parse)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;
    use std::ffi::OsString;

    fn request(line: &[&str]) -> Result<CreatePod, Failure> {
        flags::parse::<Args>("rcon pod create", &line.iter().map(OsString::from).collect::<Vec<_>>())?.request()
    }

    #[test]
    fn a_line_becomes_a_request() {
        let line =
            "-n web -p 8080:80 --share +pid --memory 64m --cpus 0.5 --label a=b -v data:/data --exit-policy stop --restart always --dns 1.1.1.1";
        let made = request(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert!(made.shares.pid && made.shares.net && made.share_parent && made.labels["a"] == "b");
        assert_eq!((made.host.ports.len(), made.mounts.len(), made.host.resources.memory), (1, 1, Some(64 << 20)));
        assert_eq!(request(&["--infra=false"]).unwrap().shares, Shares::default());
    }

    #[test]
    fn network_flags_are_those_of_run() {
        use clap::{Args as _, CommandFactory};
        let (shared, pod, run) = (Network::augment_args(clap::Command::new("n")), Args::command(), crate::cli::run::Args::command());
        for flag in shared.get_arguments() {
            for command in [&pod, &run] {
                let same = command.get_arguments().find(|other| other.get_id() == flag.get_id()).unwrap();
                assert_eq!(same.get_help().unwrap().to_string(), flag.get_help().unwrap().to_string());
            }
        }
        let made =
            request(&["--net", "host", "--dns", "1.1.1.1", "--dns-opt", "rotate", "--add-host", "a:1.2.3.4", "--no-hosts", "-h", "box"]).unwrap();
        assert_eq!((made.host.network, made.host.dns.len(), made.host.dns_options.len(), made.host.extra_hosts.len()), (NetworkMode::Host, 1, 1, 1));
        assert!(made.no_hosts && made.hostname.as_deref() == Some("box"));
    }

    #[test]
    fn what_has_no_meaning_here_is_refused_by_name() {
        for line in [
            &["--infra-image", "x"][..],
            &["--infra-command", "x"],
            &["--infra=false", "--share", "net"],
            &["--share", "mnt"],
            &["--exit-policy", "never"],
            &["--shm-size", "0"],
            &["--ip", "10.0.0"],
            &["--publish-all"],
            &["--expose", "80"],
        ] {
            let failure = request(line).unwrap_err();
            assert!(
                failure.exit_code(crate::cli::failure::Class::Other) == 125 && failure.render().contains(line[0].split('=').next().unwrap()),
                "{line:?}"
            );
        }
    }
}
