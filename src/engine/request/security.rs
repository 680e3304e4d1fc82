//! `--security-opt`, `--cap-add/--cap-drop`, `--sysctl`. Profile files are read by the caller: no I/O here.

use super::{FlagError, parse_bool};
use crate::state::record::{Seccomp, SecuritySpec};

const FLAG: &str = "--security-opt";

/// Capabilities of Linux 6.x without `CAP_`, in the kernel's order (linux/capability.h).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Applies one `--security-opt` value to `spec`; `read` answers the text of a seccomp profile file.
///
/// # Errors
/// An unknown option, or a profile that cannot be read.
pub fn apply(spec: &mut SecuritySpec, text: &str, read: &dyn Fn(&str) -> Result<String, String>) -> Result<(), FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    // Docker still reads the old form `key:value`.
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    match (key, value) {
        ("no-new-privileges", None) => spec.no_new_privileges = true,
        ("no-new-privileges", Some(value)) => spec.no_new_privileges = parse_bool(value).map_err(wrong)?,
        ("seccomp", Some("unconfined")) => spec.seccomp = Seccomp::Unconfined,
        ("seccomp", Some("builtin")) => spec.seccomp = Seccomp::Builtin,
        ("seccomp", Some(path)) if !path.is_empty() => {
            let profile = read(path).map_err(wrong)?;
            let document: serde_json::Value = serde_json::from_str(&profile).map_err(|e| wrong(format!("the profile is not JSON: {e}")))?;
            if !document.is_object() {
                return Err(wrong("the profile is not a JSON object".to_owned()));
            }
            spec.seccomp = Seccomp::Profile(profile);
        }
        ("apparmor", Some(profile)) if !profile.is_empty() => spec.apparmor = Some(profile.to_owned()),
        ("label", Some(label)) => match label.split_once(':').map_or(label, |(key, _)| key) {
            "disable" | "user" | "role" | "type" | "level" => spec.label.push(label.to_owned()),
            _ => return Err(wrong("expected label=disable or label=user:|role:|type:|level:VALUE".to_owned())),
        },
        ("systempaths", Some("unconfined")) => spec.unmasked = true,
        ("mask", Some(list)) => {
            for path in list.split(':') {
                if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                    return Err(wrong(format!("\"{path}\" is not an absolute path")));
                }
                spec.masked.push(path.into());
            }
        }
        ("unmask", Some(list)) if list.eq_ignore_ascii_case("all") => spec.unmasked = true,
        ("unmask", Some(list)) if list.split(':').all(|path| path.starts_with('/')) => {
            spec.unmasked_paths.extend(list.split(':').map(str::to_owned));
        }
        ("unmask", Some(_)) => return Err(wrong("expected ALL or absolute paths".to_owned())),
        ("proc-opts", Some(list)) => {
            for option in list.split(',') {
                // proc(5), "Mount options".
                let fine = match option.split_once('=') {
                    Some(("hidepid", value)) => matches!(value, "0" | "1" | "2" | "4" | "off" | "noaccess" | "invisible" | "ptraceable"),
                    Some(("gid", value)) => value.parse::<u32>().is_ok(),
                    Some(("subset", value)) => value == "pid",
                    _ => matches!(option, "nosuid" | "nodev" | "noexec"),
                };
                if !fine {
                    return Err(wrong(format!("\"{option}\" is no option of /proc: expected hidepid=, gid= or subset=pid")));
                }
                spec.proc_options.push(option.to_owned());
            }
        }
        ("writable-cgroups", _) => return Err(wrong(format!("the option {key} is not supported"))),
        _ => return Err(wrong("expected seccomp=, apparmor=, label=, no-new-privileges or systempaths=unconfined".to_owned())),
    }
    Ok(())
}

/// A capability name without `CAP_` in upper case, or `ALL`.
///
/// # Errors
/// No such capability.
pub fn parse_capability(flag: &'static str, text: &str) -> Result<String, FlagError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) { Ok(name.to_owned()) } else { Err(FlagError::new(flag, text, "no such capability")) }
}

/// A namespaced kernel parameter `key=value`; `host_network` and `host_ipc` forbid those that would change the host.
///
/// # Errors
/// No value, or a key that is not namespaced.
pub fn parse_sysctl(text: &str, host_network: bool, host_ipc: bool) -> Result<(String, String), FlagError> {
    let wrong = |reason: &str| FlagError::new("--sysctl", text, reason);
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("expected key=value"))?;
    let dotted = key.replace('/', ".");
    if dotted.split('.').any(|part| part.is_empty()) {
        return Err(wrong("the key is malformed"));
    }
    let ipc = matches!(
        dotted.as_str(),
        "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
    ) || dotted.starts_with("fs.mqueue.");
    let net = dotted.starts_with("net.");
    if !ipc && !net {
        return Err(wrong("it is not namespaced: only net.*, fs.mqueue.* and kernel.{msg,sem,shm}* are"));
    }
    if net && host_network {
        return Err(wrong("not allowed with --network host: it would change the host"));
    }
    if ipc && host_ipc {
        return Err(wrong("not allowed with --ipc host: it would change the host"));
    }
    Ok((dotted, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_all(list: &[&str]) -> Result<SecuritySpec, FlagError> {
        let read = |path: &str| {
            if path == "p.json" {
                Ok("{}".to_owned())
            } else if path == "bad" {
                Ok("[".to_owned())
            } else {
                Err("no such file".to_owned())
            }
        };
        let mut spec = SecuritySpec::default();
        list.iter().try_for_each(|text| apply(&mut spec, text, &read)).map(|()| spec)
    }

    #[test]
    fn security_options() {
        let spec =
            apply_all(&["no-new-privileges", "seccomp=unconfined", "apparmor=mine", "label=disable", "label=type:x", "systempaths=unconfined"])
                .unwrap();
        assert!(spec.no_new_privileges && spec.unmasked && spec.seccomp == Seccomp::Unconfined);
        assert_eq!((spec.apparmor.as_deref(), spec.label.len()), (Some("mine"), 2));
        assert!(!apply_all(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        assert!(apply_all(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        assert_eq!(apply_all(&["seccomp=p.json"]).unwrap().seccomp, Seccomp::Profile("{}".into()));
        let paths = apply_all(&["mask=/a:/b", "unmask=/proc/sys", "proc-opts=hidepid=2,subset=pid"]).unwrap();
        assert_eq!((paths.masked.len(), paths.unmasked_paths.len(), paths.proc_options.len(), paths.unmasked), (2, 1, 2, false));
        assert!(apply_all(&["unmask=ALL"]).unwrap().unmasked);
        for bad in [
            "seccomp",
            "seccomp=missing",
            "seccomp=bad",
            "bogus",
            "label=x",
            "no-new-privileges=x",
            "systempaths=x",
            "mask=proc",
            "mask=/a/../b",
            "unmask=x",
            "proc-opts=x",
            "apparmor=",
        ] {
            assert!(apply_all(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn capability_names() {
        for (text, name) in [("net_admin", "NET_ADMIN"), ("CAP_SYS_ADMIN", "SYS_ADMIN"), ("all", "ALL"), ("Cap_Bpf", "BPF")] {
            assert_eq!(parse_capability("--cap-add", text).unwrap(), name);
        }
        assert!(parse_capability("--cap-add", "CAP_NOPE").is_err());
    }

    #[test]
    fn only_namespaced_sysctls() {
        assert_eq!(parse_sysctl("net/ipv4/ip_forward=1", false, true).unwrap().0, "net.ipv4.ip_forward");
        assert!(parse_sysctl("kernel.shmmax=1", true, false).is_ok() && parse_sysctl("fs.mqueue.msg_max=1", false, false).is_ok());
        for (text, network, ipc) in [
            ("kernel.panic=1", false, false),
            ("vm.x=1", false, false),
            ("net.a=1", true, false),
            ("kernel.sem=1", false, true),
            ("net.x", false, false),
            ("net..x=1", false, false),
        ] {
            assert!(parse_sysctl(text, network, ipc).is_err(), "{text}");
        }
    }
}
