//! Flags → [`CreateContainer`]: the grammars of `engine::request`, and which flags contradict each other.

use super::{Limits, LiveLimits, Network, Options, Security, Streams};
use crate::base::Signal;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, USAGE};
use crate::engine::request::{
    CreateContainer, FlagError, MountRequest, PullPolicy, UpdateRequest, add_host, device, env, gpus, ids, log, mount, namespace, network, pod, port,
    resources, restart, security, tmpfs, ulimit, volume,
};
use crate::state::record::{HostSpec, NetworkMode, Resources, RestartPolicy, UsernsMode};
use std::path::PathBuf;

pub(in crate::cli) fn usage(message: impl Into<String>) -> Failure {
    Failure::invalid(message).with_code(USAGE)
}

/// Parses every value of a repeatable flag.
pub(in crate::cli) fn all<T>(values: &[String], parse: impl Fn(&str) -> Result<T, FlagError>) -> Result<Vec<T>, FlagError> {
    values.iter().map(|value| parse(value)).collect()
}

/// What scripts pass empty is as if it were not given.
pub(in crate::cli) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// What relative paths and `~` in these values of `-v` and `--mount` start from. Who names none that is relative may stand in a
/// directory that is gone.
pub(in crate::cli) fn volume_base<'a>(mut values: impl Iterator<Item = &'a String>) -> Result<volume::Base, Failure> {
    let cwd = match std::env::current_dir() {
        Err(error) if values.any(|value| value.starts_with('.') || value.contains("=.")) => {
            return Err(Failure::caused("cannot find the current directory", &error).with_code(USAGE));
        }
        found => found.unwrap_or_else(|_| PathBuf::from("/")),
    };
    Ok(volume::Base { cwd, home: std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) })
}

/// Reads the files of `--env-file` and `--label-file`.
pub(in crate::cli) fn read_files(names: &[String]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    names.iter().map(|name| Ok((name.clone(), crate::base::fs::read(name.as_ref()).map_err(|e| Failure::from(e).with_code(USAGE))?))).collect()
}

/// The client's value of a variable; None when unset or not UTF-8.
pub(in crate::cli) fn client_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Options {
    /// The streams that `-a`, `-i` and `-d` ask for.
    ///
    /// # Errors
    /// An unknown stream, or `-a` together with `-d` (exit code 1, as with Docker).
    pub fn streams(&self, detach: bool) -> Result<Streams, Failure> {
        for stream in &self.attach {
            if !matches!(stream.to_ascii_lowercase().as_str(), "stdin" | "stdout" | "stderr") {
                return Err(FlagError::new("--attach", stream, "expected stdin, stdout or stderr").into());
            }
        }
        if detach && !self.attach.is_empty() {
            return Err(Failure::invalid("conflicting options: cannot specify both --attach and --detach").with_code(1));
        }
        let has = |name: &str| self.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
        let default = self.attach.is_empty() && !detach;
        Ok(Streams { stdin: has("stdin") || (default && self.interactive), stdout: default || has("stdout"), stderr: default || has("stderr") })
    }

    /// The request for `words` (image, command, arguments).
    ///
    /// # Errors
    /// A value that does not follow its flag's grammar, an unreadable file, or flags that contradict each other
    /// (all exit code 125).
    pub fn request(&self, words: &[String], streams: Streams, context: &Context) -> Result<CreateContainer, Failure> {
        let (image, command) = words.split_first().ok_or_else(|| usage("the image is missing"))?;
        let pull = match self.pull.as_str() {
            "missing" | "" => PullPolicy::Missing,
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            other => return Err(FlagError::new("--pull", other, "expected always, missing or never").into()),
        };
        let name = self.name.as_deref().map(|name| name.strip_prefix('/').unwrap_or(name).parse()).transpose();
        let signal = |text: &str| text.parse::<Signal>().map_err(|e| FlagError::new("--stop-signal", text, e));
        let mut mounts = self.mounts()?;
        mounts.extend(all(&self.tmpfs, tmpfs::parse)?);
        let expose = all(&self.expose, port::parse_expose)?.into_iter().flatten().collect();
        let annotations = all(&self.annotation, |text| env::key_value("--annotation", text))?;
        let mut request = CreateContainer {
            image: image.clone(),
            platform: context.platform(self.platform.clone()),
            pull,
            name: name.map_err(|e: crate::base::IdError| Failure::invalid(e.to_string()))?,
            entrypoint: self.entrypoint.as_deref().map(entrypoint),
            command: command.to_vec(),
            env: env::merge(&read_files(&self.env_file)?, &self.env, &client_variable)?,
            user: self.user.clone(),
            workdir: self.workdir.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            labels: env::labels(&read_files(&self.label_file)?, &self.label)?,
            annotations: annotations.into_iter().collect(),
            expose,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && streams.stdin,
            attach_stdin: streams.stdin,
            attach_stdout: streams.stdout,
            attach_stderr: streams.stderr,
            stop_signal: self.stop_signal.as_deref().map(signal).transpose()?,
            stop_timeout: self.stop_timeout,
            log_given: self.log_driver.is_some() || !self.log_opt.is_empty(),
            mounts,
            volumes_from: all(&self.volumes_from, volume::parse_from)?,
            health: self.health.request()?,
            pod: self.pod()?,
            host: self.host()?,
            ..CreateContainer::default()
        };
        let cdi = self.security.device.iter().filter_map(|text| gpus::cdi_name(text)).map(str::to_owned).collect();
        self.extras.apply(&mut request, cdi, context)?;
        if request.host.auto_remove && request.host.restart != RestartPolicy::No {
            return Err(usage("conflicting options: cannot specify both --restart and --rm"));
        }
        Ok(request)
    }

    /// `--pod` or `--pod-id-file`, and what was typed that the pod would else decide.
    fn pod(&self) -> Result<Option<pod::JoinPod>, Failure> {
        let named = match (&self.pod, &self.pod_id_file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(usage("conflicting options: --pod and --pod-id-file")),
            (Some(name), None) => name.clone(),
            (None, Some(file)) => crate::cli::pod::read_id(file)?,
        };
        let (network, security) = (&self.network, &self.security);
        let given = pod::Given {
            network: !network.network.is_empty(),
            ipc: security.ipc.is_some(),
            pid: security.pid.is_some(),
            uts: security.uts.is_some(),
            cgroup: security.cgroupns.is_some(),
            restart: self.restart.is_some(),
        };
        Ok(Some(pod::JoinPod { given, ..pod::parse(&named)? }))
    }

    /// `-v` and `--mount`; two on one destination are an error, unless the same `-v` is typed twice.
    fn mounts(&self) -> Result<Vec<MountRequest>, Failure> {
        if self.volume.is_empty() && self.mount.is_empty() {
            return Ok(Vec::new());
        }
        let base = volume_base(self.volume.iter().chain(&self.mount))?;
        let mut volumes: Vec<String> = Vec::new();
        for text in &self.volume {
            if !volumes.contains(text) {
                volumes.push(text.clone());
            }
        }
        let mut mounts = all(&volumes, |text| volume::parse(text, &base))?;
        mounts.extend(all(&self.mount, |text| mount::parse(text, &base))?);
        for (i, mount) in mounts.iter().enumerate() {
            if mounts[..i].iter().any(|earlier| earlier.destination == mount.destination) {
                return Err(usage(format!("duplicate mount point: {}", mount.destination.display())));
            }
        }
        Ok(mounts)
    }

    fn host(&self) -> Result<HostSpec, Failure> {
        let restart = restart::parse(self.restart.as_deref().unwrap_or(""))?;
        let mut host = HostSpec {
            auto_remove: self.rm,
            publish_all: self.publish_all,
            restart,
            init: self.init,
            log: log::parse(self.log_driver.as_deref(), &self.log_opt)?,
            cidfile: self.cidfile.clone().unwrap_or_default(),
            group_add: self.group_add.clone(),
            ..HostSpec::default()
        };
        self.network.apply(&mut host)?;
        if let NetworkMode::Container(_) = host.network {
            self.refuse_with_joined_network()?;
        }
        self.security.apply(&mut host)?;
        self.limits.apply(&mut host)?;
        Ok(host)
    }

    /// What belongs to the namespace that is joined cannot be set again.
    fn refuse_with_joined_network(&self) -> Result<(), Failure> {
        let network = &self.network;
        for (given, flag) in [
            (self.hostname.is_some(), "--hostname"),
            (!network.publish.is_empty(), "--publish"),
            (self.publish_all, "--publish-all"),
            (!self.expose.is_empty(), "--expose"),
            (!network.dns.is_empty(), "--dns"),
            (!network.add_host.is_empty(), "--add-host"),
            (network.mac_address.is_some(), "--mac-address"),
        ] {
            if given {
                return Err(usage(format!("conflicting options: {flag} and the network mode container:NAME")));
            }
        }
        Ok(())
    }
}

/// One word, or a JSON array of words as Podman takes it; nothing resets the image's.
fn entrypoint(text: &str) -> Vec<String> {
    let words = if text.starts_with('[') { serde_json::from_str(text).ok() } else { None };
    words.unwrap_or_else(|| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
}

impl Network {
    /// # Errors
    /// A malformed value, or networks that exclude each other.
    pub(in crate::cli) fn apply(&self, host: &mut HostSpec) -> Result<(), Failure> {
        host.mac_address = self.mac_address.as_deref().map(network::parse_mac).transpose()?;
        let given = network::Given {
            mac: host.mac_address.clone(),
            ipv4: self.ip.as_deref().map(network::parse_ip).transpose()?,
            ipv6: self.ip6.as_deref().map(network::parse_ip6).transpose()?,
            aliases: all(&self.network_alias, network::parse_alias)?,
        };
        (host.network, host.attachments) = network::choose(&self.network, &given)?;
        if host.mac_address.is_none() {
            // Of the long form; a mode without networks keeps it to be refused.
            host.mac_address = host.attachments.iter().flatten().next().and_then(|first| first.mac.clone());
        }
        host.ports = all(&self.publish, port::parse_publish)?.into_iter().flatten().collect();
        host.dns = all(&self.dns, network::parse_dns)?;
        host.dns_search.clone_from(&self.dns_search);
        host.dns_options.clone_from(&self.dns_option);
        host.extra_hosts = all(&self.add_host, add_host::parse)?;
        Ok(())
    }
}

impl Security {
    fn apply(&self, host: &mut HostSpec) -> Result<(), Failure> {
        host.cap_add = all(&self.cap_add, |text| security::parse_capability("--cap-add", text))?;
        host.cap_drop = all(&self.cap_drop, |text| security::parse_capability("--cap-drop", text))?;
        host.privileged = self.privileged;
        host.read_only = self.read_only;
        let read = |path: &str| std::fs::read_to_string(path).map_err(|e| format!("cannot read the profile {path}: {e}"));
        for option in &self.security_opt {
            security::apply(&mut host.security, option, &read)?;
        }
        host.ipc = namespace::parse_ipc(self.ipc.as_deref().unwrap_or(""))?;
        host.pid = namespace::parse_pid(self.pid.as_deref().unwrap_or(""))?;
        host.uts_host = namespace::parse_uts(self.uts.as_deref().unwrap_or(""))?;
        host.cgroupns = namespace::parse_cgroupns(self.cgroupns.as_deref().unwrap_or(""))?;
        host.userns = ids::parse(self.userns.as_deref(), &self.uidmap, &self.gidmap)?;
        if self.privileged && host.userns != UsernsMode::Host {
            return Err(usage("conflicting options: --privileged and a private user namespace (--userns, --uidmap, --gidmap)"));
        }
        let files: Vec<String> = self.device.iter().filter(|text| gpus::cdi_name(text).is_none()).cloned().collect();
        host.devices = all(&files, device::parse)?;
        host.device_rules = all(&self.device_cgroup_rule, device::parse_rule)?;
        let (host_network, host_ipc) = (host.network == NetworkMode::Host, host.ipc == crate::state::record::IpcMode::Host);
        host.sysctls = all(&self.sysctl, |text| security::parse_sysctl(text, host_network, host_ipc))?.into_iter().collect();
        Ok(())
    }
}

impl Limits {
    /// The resources alone (also those of `update`).
    ///
    /// # Errors
    /// A value out of its grammar, or limits that contradict each other.
    fn resources(&self) -> Result<Resources, Failure> {
        let live = self.live.parse()?;
        let swappiness = match self.memory_swappiness {
            // -1 is Docker's "as the host".
            None | Some(-1) => None,
            Some(value) => Some(u64::try_from(value).map_err(|_| usage("--memory-swappiness must be 0 to 100"))?),
        };
        let limits = Resources {
            memory: live.memory,
            memory_swap: live.memory_swap,
            memory_reservation: live.memory_reservation,
            memory_swappiness: swappiness,
            oom_kill_disable: self.oom_kill_disable,
            nano_cpus: live.nano_cpus,
            cpu_shares: live.cpu_shares,
            cpu_period: live.cpu_period,
            cpu_quota: live.cpu_quota,
            cpuset_cpus: live.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: live.cpuset_mems.unwrap_or_default(),
            pids_limit: live.pids_limit,
            blkio_weight: live.blkio_weight,
            blkio_weight_device: all(&self.blkio_weight_device, resources::parse_weight_device)?,
            device_read_bps: all(&self.device_read_bps, |text| resources::parse_throttle("--device-read-bps", text, true))?,
            device_write_bps: all(&self.device_write_bps, |text| resources::parse_throttle("--device-write-bps", text, true))?,
            device_read_iops: all(&self.device_read_iops, |text| resources::parse_throttle("--device-read-iops", text, false))?,
            device_write_iops: all(&self.device_write_iops, |text| resources::parse_throttle("--device-write-iops", text, false))?,
        };
        // What follows is the engine's to tell: the verb's own exit code.
        resources::check(&limits).map_err(Failure::invalid)?;
        Ok(limits)
    }

    /// # Errors
    /// A value out of its grammar, or limits that contradict each other.
    pub(in crate::cli) fn apply(&self, host: &mut HostSpec) -> Result<(), Failure> {
        host.resources = self.resources()?;
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return Err(Failure::invalid("--oom-score-adj must be -1000 to 1000"));
        }
        host.oom_score_adj = self.oom_score_adj;
        if let Some(text) = &self.shm_size {
            host.shm_size = resources::parse_shm_size(text)?;
        }
        host.ulimits = all(&self.ulimit, ulimit::parse)?;
        host.cgroup_parent = self.cgroup_parent.clone().unwrap_or_default();
        Ok(())
    }
}

impl LiveLimits {
    /// # Errors
    /// A malformed limit.
    pub fn parse(&self) -> Result<UpdateRequest, Failure> {
        let size = |flag, text: &Option<String>| text.as_deref().map_or(Ok(None), |text| resources::parse_memory(flag, text));
        let list = |flag, text: &Option<String>| given(text).map(|text| resources::parse_cpuset(flag, text)).transpose();
        Ok(UpdateRequest {
            memory: size("--memory", &self.memory)?,
            memory_swap: self.memory_swap.as_deref().map_or(Ok(None), resources::parse_swap)?,
            memory_reservation: size("--memory-reservation", &self.memory_reservation)?,
            nano_cpus: self.cpus.as_deref().map_or(Ok(None), resources::parse_cpus)?,
            cpu_shares: self.cpu_shares.filter(|n| *n > 0),
            cpu_period: self.cpu_period.filter(|n| *n > 0),
            cpu_quota: self.cpu_quota.filter(|n| *n != 0),
            cpuset_cpus: list("--cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: list("--cpuset-mems", &self.cpuset_mems)?,
            pids_limit: self.pids_limit,
            blkio_weight: self.blkio_weight.as_deref().map_or(Ok(None), resources::parse_blkio_weight)?,
            restart: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{context::Globals, flags, run};
    use std::ffi::OsString;

    fn request(line: &[&str]) -> Result<CreateContainer, Failure> {
        let globals: Globals = flags::parse_globals(&[OsString::from("--config"), OsString::from("/nonexistent")])?;
        let context = Context::new(globals)?;
        let args: run::Args = flags::parse("rcon run", &line.iter().map(OsString::from).collect::<Vec<_>>())?;
        let streams = args.options.streams(args.detach)?;
        args.options.request(&args.words, streams, &context)
    }

    #[test]
    fn a_full_line_becomes_a_request() {
        let line = [
            "--rm",
            "-it",
            "--name",
            "web",
            "-e",
            "K=V",
            "-v",
            "/a:/b:ro",
            "--mount",
            "type=tmpfs,target=/t",
            "--tmpfs",
            "/run",
            "--volumes-from",
            "data:ro",
            "-p8080:80",
            "-p",
            "53:53/udp",
            "-m",
            "512m",
            "--memory-swap",
            "-1",
            "--cpus=1.5",
            "-c",
            "512",
            "--pids-limit",
            "-1",
            "--network",
            "bridge",
            "--cap-drop",
            "all",
            "--cap-add",
            "NET_ADMIN",
            "--ulimit",
            "nofile=1:2",
            "--stop-signal",
            "INT",
            "--add-host",
            "a:1.2.3.4",
            "-h",
            "box",
            "--expose",
            "90-91",
            "--entrypoint",
            "",
            "busybox",
            "sh",
            "-c",
            "exit 3",
        ];
        let request = request(&line).unwrap();
        assert_eq!((request.image.as_str(), request.command.join(" ")), ("busybox", "sh -c exit 3".to_owned()));
        assert!(request.tty && request.open_stdin && request.stdin_once && request.attach_stdout && request.host.auto_remove);
        assert_eq!((request.mounts.len(), request.volumes_from.len(), request.host.ports.len(), request.expose.len()), (3, 1, 2, 2));
        let limits = &request.host.resources;
        assert_eq!(
            (limits.memory, limits.memory_swap, limits.nano_cpus, limits.cpu_shares),
            (Some(512 << 20), Some(-1), Some(1_500_000_000), Some(512))
        );
        assert_eq!((request.entrypoint, request.hostname.as_deref(), request.env), (Some(Vec::new()), Some("box"), vec!["K=V".to_owned()]));
    }

    #[test]
    fn contradictions_and_refusals_are_usage_errors() {
        for line in [
            &["--rm", "--restart", "always", "i"][..],
            &["-d", "-a", "stdout", "i"],
            &["-a", "std", "i"],
            &["--network", "host", "--network", "none", "i"],
            &["--network", "container:a", "-p", "80", "i"],
            &["--network", "container:a", "-h", "x", "i"],
            &["--network", "host", "--ip", "10.0.0.2", "i"],
            &["-v", "/a:/b", "--mount", "type=tmpfs,target=/b", "i"],
            &["-v", "/a:/b", "-v", "/c:/b", "i"],
            &["--runtime", "runc", "i"],
            &["--gpus", "some", "i"],
            &["--secret", "a,mode=9", "i"],
            &["--umask", "9", "i"],
            &["--replace", "i"],
            &["--no-hosts", "--add-host", "a:1.2.3.4", "i"],
            &["--link", "db", "--network", "host", "i"],
            &["--rmi", "--restart", "always", "i"],
            &["--read-only-tmpfs", "i"],
            &["--blkio-weight-device", "/dev/sda:5", "i"],
            &["--log-driver", "fluentd", "i"],
            &["-m", "1m", "i"],
            &["--pull", "sometimes", "i"],
            &["--name", "a", "i"],
            &["--oom-score-adj", "2000", "i"],
            &["--shm-size", "0", "i"],
            &["--env-file", "/nonexistent", "i"],
            &["--stop-signal", "FOO", "i"],
        ] {
            let failure = request(line).unwrap_err();
            let code = if line[0] == "-d" { 1 } else { 125 };
            assert_eq!(failure.exit_code(crate::cli::failure::Class::Run), code, "{line:?}");
        }
        // With `create`, what Docker's engine refuses is 1.
        for (code, line) in [
            (1, &["--restart", "never", "i"][..]),
            (1, &["--restart", "always:3", "i"]),
            (125, &["--restart", "on-failure:x", "i"]),
            (1, &["--stop-signal", "FOO", "i"]),
            (1, &["--cap-add", "NONE_SUCH", "i"]),
            (1, &["--tmpfs", "relative", "i"]),
            (1, &["--log-driver", "fluentd", "i"]),
            (1, &["--oom-score-adj", "2000", "i"]),
            (1, &["-m", "1m", "i"]),
            (125, &["-m", "x", "i"]),
            (125, &["--ulimit", "x", "i"]),
            (125, &["--restart", "always", "--rm", "i"]),
        ] {
            assert_eq!(request(line).unwrap_err().exit_code(crate::cli::failure::Class::Other), code, "{line:?}");
        }
        assert_eq!(request(&["--rm"]).unwrap_err().exit_code(crate::cli::failure::Class::Other), 1, "no image");
    }

    #[test]
    fn attached_streams() {
        let of = |line: &[&str]| request(line).map(|r| (r.attach_stdin, r.attach_stdout, r.attach_stderr, r.stdin_once)).unwrap();
        assert_eq!(of(&["i"]), (false, true, true, false));
        assert_eq!(of(&["-i", "i"]), (true, true, true, true));
        assert_eq!(of(&["-d", "-i", "i"]), (false, false, false, false));
        assert_eq!(of(&["-a", "stdin", "-i", "i"]), (true, false, false, true));
        assert_eq!(of(&["-a", "STDERR", "i"]), (false, false, true, false));
    }
}
