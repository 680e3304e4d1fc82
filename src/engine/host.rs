//! This host as the engine sees it: what `info` shows and what it warns of.

use super::*;
use crate::oci::Digest;
use crate::runtime::cgroup;
use crate::sys::mountinfo;
use std::os::unix::ffi::OsStrExt;

/// What `--network` takes by name.
pub const NETWORKS: &[&str] = &["bridge", "host", "none"];
/// What `--log-driver` takes.
pub const LOG_DRIVERS: &[&str] = &["journald", "json-file", "local", "none", "syslog"];
/// A line of os-release(5).
const NAME: &str = "PRETTY_NAME";
const VERSION: &str = "VERSION_ID";

/// Facts about this host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Of this machine and this data root together, in the form of a UUID; empty where the machine has no id.
    pub id: String,
    pub name: String,
    pub kernel: String,
    /// The kernel's name of the architecture: `x86_64`.
    pub machine: String,
    pub system: String,
    pub system_version: String,
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// Cgroup v2 is the only tree; hybrid hosts are v1, as Docker calls them.
    pub unified: bool,
    /// What the control groups of this host cannot limit.
    pub missing: Vec<&'static str>,
    /// File system of the data root: the kernel's name of its type.
    pub backing: String,
    /// Security mechanisms that containers are put under, in Docker's words.
    pub security: Vec<&'static str>,
}

impl Host {
    /// Whether control groups of this host have a limit, in the words of `missing`.
    pub fn can(&self, limit: &str) -> bool {
        !self.missing.contains(&limit)
    }
}

impl Engine {
    /// Looks at this host.
    pub fn host(&self) -> Host {
        let uname = rustix::system::uname();
        let text = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).unwrap_or_default();
        let mut security = vec!["name=seccomp,profile=builtin"];
        if std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")) {
            security.insert(0, "name=apparmor");
        }
        if !self.privilege.rootful {
            security.push("name=rootless");
        }
        let unified = cgroup::is_unified();
        if unified {
            security.push("name=cgroupns");
        }
        let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Host {
            id: identity(machine_id.trim(), &self.privilege.roots.data),
            name: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            system: release(&text, NAME).unwrap_or_else(|| "Linux".to_owned()),
            system_version: release(&text, VERSION).unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            unified,
            missing: cgroup::missing_limits(),
            backing: backing(&self.privilege.roots.data),
            security,
        }
    }
}

/// machine-id(5) asks that the id itself is not shown: it is hashed with what it is used for.
fn identity(machine: &str, data: &Path) -> String {
    if machine.is_empty() {
        return String::new();
    }
    let digest = Digest::of(&[b"rcon\0".as_slice(), machine.as_bytes(), b"\0", data.as_os_str().as_bytes()].concat());
    let hex = &digest.hex()[..32];
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A value of os-release(5).
fn release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory(text: &str) -> u64 {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).and_then(|rest| rest.trim().strip_suffix(" kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The type of the file system that a directory is on, from the mount it lies beneath.
fn backing(data: &Path) -> String {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let table = mountinfo::read().unwrap_or_default();
    // Of mounts on one point the last is on top; `max_by_key` gives the last of equals.
    let beneath = mountinfo::parse(&table).filter(|mount| data.starts_with(mount.point())).max_by_key(|mount| mount.point().components().count());
    beneath.map(|mount| String::from_utf8_lossy(mount.kind).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_host_are_read() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!((release(text, NAME).as_deref(), release(text, VERSION).as_deref()), (Some("Debian GNU/Linux 12 (bookworm)"), Some("12")));
        assert_eq!(release(text, "VERSION"), None);
        assert_eq!((memory("MemFree: 1 kB\nMemTotal:       2048 kB\n"), memory("")), (2 << 20, 0));
        assert!(!backing(Path::new("/")).is_empty());
    }

    #[test]
    fn the_id_is_of_machine_and_root() {
        let id = identity("abc", Path::new("/var/lib/rcon"));
        assert_eq!((id.len(), id.matches('-').count()), (36, 4));
        assert!(
            id == identity("abc", Path::new("/var/lib/rcon")) && id != identity("abc", Path::new("/x")) && identity("", Path::new("/x")).is_empty()
        );
    }
}
