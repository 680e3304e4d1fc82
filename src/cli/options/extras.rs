//! Flags of `run` and `create` that Podman's users know, and those of Docker that few use.

use super::request::{all, usage};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::engine::request::{CreateContainer, FlagError, MountRequest, MountSource, gpus, link, secret, start};
use crate::state::record::NetworkMode;
use std::path::{Component, Path, PathBuf};

/// Where the host has its time zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// Directories that `--read-only-tmpfs` keeps writable.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];
/// The proxy variables and their keys in `config.json`.
const PROXIES: [(&str, &str); 5] =
    [("HTTP_PROXY", "httpProxy"), ("HTTPS_PROXY", "httpsProxy"), ("FTP_PROXY", "ftpProxy"), ("NO_PROXY", "noProxy"), ("ALL_PROXY", "allProxy")];

#[derive(clap::Args, Debug)]
pub struct Extras {
    /// Remove a container of the same name first
    #[arg(long)]
    pub replace: bool,
    /// Remove the image too when the container is removed (implies --rm)
    #[arg(long)]
    pub rmi: bool,
    /// Start these containers before this one
    #[arg(long, value_name = "CONTAINER")]
    pub requires: Vec<String>,
    /// Give it a secret: NAME[,type=mount|env,target=…,uid=…,gid=…,mode=…]
    #[arg(long, value_name = "SPEC")]
    pub secret: Vec<String>,
    /// Kill it when it has run for so long (0: never)
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// File mode creation mask (octal)
    #[arg(long, value_name = "MASK")]
    pub umask: Option<String>,
    /// Time zone (Area/Location, or local for the host's)
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Pass all variables of this shell
    #[arg(long)]
    pub env_host: bool,
    /// Take a variable of the image away
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,
    /// Take all variables of the image away
    #[arg(long)]
    pub unsetenv_all: bool,
    /// Pass this shell's proxy variables
    #[arg(long)]
    pub http_proxy: bool,
    /// Leave the image's /etc/hosts alone
    #[arg(long)]
    pub no_hosts: bool,
    /// With --read-only: keep /run, /tmp and /var/tmp writable
    #[arg(long)]
    pub read_only_tmpfs: bool,
    /// Know another container of the default bridge by a name: NAME[:ALIAS]
    #[arg(long, value_name = "NAME[:ALIAS]")]
    pub link: Vec<String>,
    /// Take the first word for a directory that is the root, not for an image: DIR, or DIR:O to leave it as it is
    #[arg(long)]
    pub rootfs: bool,
    /// Set up for a systemd as first process: true (if the command is one), always or false
    #[arg(long, value_name = "WHEN")]
    pub systemd: Option<String>,
    /// Tell systemd ($NOTIFY_SOCKET) of its readiness: container (its processes do), conmon (once it runs), healthy or ignore
    #[arg(long, value_name = "WHO")]
    pub sdnotify: Option<String>,
    /// Line of /etc/passwd for a numeric --user: $USERNAME, $UID, $GID, $NAME and $HOME are filled in
    #[arg(long, value_name = "ENTRY")]
    pub passwd_entry: Option<String>,
    /// Line of /etc/group for a numeric group of --user: $GROUPNAME, $GID and $USERLIST are filled in
    #[arg(long, value_name = "ENTRY")]
    pub group_entry: Option<String>,
    /// Add GPUs by their CDI specs: all, a number, or "device=0,2"
    #[arg(long, value_name = "SPEC")]
    pub gpus: Vec<String>,
}

impl Extras {
    /// Completes a request; `cdi`: the CDI names among `--device`.
    ///
    /// # Errors
    /// A malformed value, or flags that contradict each other (exit code 125).
    pub fn apply(&self, request: &mut CreateContainer, cdi: Vec<String>, context: &Context) -> Result<(), Failure> {
        self.environment(request, context);
        let host = &mut request.host;
        host.requires.clone_from(&self.requires);
        host.secrets = all(&self.secret, secret::parse)?;
        host.links = all(&self.link, link::parse)?;
        if !host.links.is_empty() && host.network != NetworkMode::Bridge {
            return Err(usage("conflicting options: --link and a network mode other than bridge"));
        }
        host.cdi = cdi;
        host.cdi.extend(all(&self.gpus, gpus::parse)?.into_iter().flatten());
        if self.no_hosts && !(host.extra_hosts.is_empty() && host.links.is_empty()) {
            return Err(usage("conflicting options: --no-hosts and --add-host or --link"));
        }
        host.no_hosts = self.no_hosts;
        host.timeout = self.timeout.filter(|seconds| *seconds > 0);
        host.umask = self.umask.as_deref().map(umask).transpose()?;
        if self.rmi {
            host.auto_remove = true;
        }
        host.passwd_entry.clone_from(&self.passwd_entry);
        host.group_entry.clone_from(&self.group_entry);
        host.readiness = self.sdnotify.as_deref().map(start::parse_readiness).transpose()?.flatten();
        request.systemd = self.systemd.as_deref().map(start::Systemd::parse).transpose()?.unwrap_or_default();
        if self.rootfs {
            if self.rmi {
                return Err(usage("conflicting options: --rmi and --rootfs: there is no image to remove"));
            }
            let cwd = std::env::current_dir().map_err(|e| Failure::caused("cannot find the current directory", &e))?;
            request.rootfs = Some(start::parse_rootfs(&request.image, &cwd)?);
        }
        if self.replace && request.name.is_none() {
            return Err(usage("--replace needs --name"));
        }
        if let Some(zone) = &self.tz {
            add(&mut request.mounts, bind_zone(zone)?);
        }
        if self.read_only_tmpfs {
            if !request.host.read_only {
                return Err(usage("--read-only-tmpfs needs --read-only"));
            }
            for path in WRITABLE {
                add(&mut request.mounts, tmpfs(path));
            }
        }
        Ok(())
    }

    /// What is passed lies beneath what was typed; what is taken away beats both.
    fn environment(&self, request: &mut CreateContainer, context: &Context) {
        let mut passed: Vec<String> = Vec::new();
        if self.env_host {
            passed.extend(std::env::vars_os().filter_map(|(key, value)| Some(format!("{}={}", key.to_str()?, value.to_str()?))));
        }
        for (variable, key) in PROXIES {
            let own = || std::env::var(variable).or_else(|_| std::env::var(variable.to_lowercase())).ok();
            let value = if self.http_proxy { own() } else { None };
            let Some(value) = value.or_else(|| context.proxy(key)).filter(|value| !value.is_empty()) else { continue };
            passed.push(format!("{variable}={value}"));
            passed.push(format!("{}={value}", variable.to_lowercase()));
        }
        let key = |entry: &str| entry.split_once('=').map_or(entry, |(key, _)| key).to_owned();
        let typed: Vec<String> = request.env.iter().map(|entry| key(entry)).collect();
        passed.retain(|entry| !typed.contains(&key(entry)));
        passed.append(&mut request.env);
        passed.retain(|entry| !self.unsetenv.contains(&key(entry)));
        // A bare name takes the image's away.
        passed.extend(self.unsetenv.iter().cloned());
        request.env = passed;
        request.unset_env = self.unsetenv_all;
    }
}

/// A mount that the user typed at the same place wins.
fn add(mounts: &mut Vec<MountRequest>, mount: MountRequest) {
    if !mounts.iter().any(|known| known.destination == mount.destination) {
        mounts.push(mount);
    }
}

fn umask(text: &str) -> Result<u32, FlagError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777 && !digits.starts_with('+'));
    mask.ok_or_else(|| FlagError::new("--umask", text, "expected an octal mask of at most 0777"))
}

fn bind_zone(zone: &str) -> Result<MountRequest, FlagError> {
    let wrong = |reason: String| FlagError::new("--tz", zone, reason);
    let source = if zone == "local" {
        PathBuf::from("/etc/localtime")
    } else {
        if zone.is_empty() || !Path::new(zone).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(wrong("expected Area/Location or local".to_owned()));
        }
        Path::new(ZONES).join(zone)
    };
    let source = std::fs::canonicalize(&source).map_err(|e| wrong(format!("{}: {e}", source.display())))?;
    if !source.is_file() {
        return Err(wrong("no such time zone".to_owned()));
    }
    Ok(MountRequest {
        destination: PathBuf::from("/etc/localtime"),
        source: MountSource::Bind { source, create: false, recursive: false },
        read_only: true,
        mode: "ro".to_owned(),
        propagation: String::new(),
        bind_text: None,
        options: Default::default(),
    })
}

fn tmpfs(path: &str) -> MountRequest {
    MountRequest {
        destination: PathBuf::from(path),
        source: MountSource::Tmpfs { options: "exec,mode=1777".to_owned(), from_flag: true },
        read_only: false,
        mode: String::new(),
        propagation: String::new(),
        bind_text: None,
        options: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_zones() {
        assert_eq!((umask("022").ok(), umask("0o77").ok(), umask("0").ok()), (Some(0o22), Some(0o77), Some(0)));
        for bad in ["", "8", "1000", "x", "-1", "+7"] {
            assert!(umask(bad).is_err(), "{bad}");
        }
        for bad in ["", "../etc/passwd", "/etc/passwd", "Nowhere/Town"] {
            assert!(bind_zone(bad).is_err(), "{bad}");
        }
    }
}
