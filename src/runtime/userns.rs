//! The id maps of a new user namespace, written by its parent (user_namespaces(7)).
//!
//! Who has CAP_SETUID and CAP_SETGID writes them; another caller may write only its own id, and has ranges written by
//! newuidmap and newgidmap, which look into /etc/subuid and /etc/subgid.

use super::error::{At, Failure};
use super::plan::Namespaces;
use super::root::clone_tree;
use rustix::fs::{Mode, OFlags, stat};
use rustix::thread::{CapabilitySet, capabilities};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `PROC_USER_INIT_INO` (include/uapi/linux/nsfs.h): the inode of the initial user namespace.
const INITIAL: u64 = 0xEFFF_FFFD;

/// What a caller with a user namespace may do and has to do otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// No map but that of its own id can be written without help.
    pub rootless: bool,
    /// It may clone mounts for others: root of a user namespace only in a mount namespace of that.
    pub mounts: bool,
    /// The files below `/proc` of a hidden child are its own, not those of the initial namespace's root.
    pub hidden: bool,
}

impl Rights {
    /// # Errors
    /// `/proc` is not there.
    pub fn of_caller() -> Result<Self, Failure> {
        let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID;
        let rootless = !capabilities(None).at("read our capabilities")?.effective.contains(needed);
        let initial = stat("/proc/self/ns/user").at("examine our user namespace")?.st_ino == INITIAL;
        let mounts = !rootless && (initial || clone_tree(Path::new("/"), false).is_ok());
        Ok(Rights { rootless, mounts, hidden: !rootless && initial })
    }
}

/// Writes both maps for the child `pid`.
///
/// # Errors
/// The file that refused; or what the helper said, or that it is missing.
pub(super) fn write(pid: i32, namespaces: &Namespaces, rootless: bool) -> Result<(), Failure> {
    let own_uid = rootless.then(|| rustix::process::geteuid().as_raw());
    let own_gid = rootless.then(|| rustix::process::getegid().as_raw());
    if own_uid.is_none_or(|own| is_only(&namespaces.uid_map, own)) {
        write_proc(pid, "uid_map", &namespaces.uid_map)?;
    } else {
        help("newuidmap", pid, &namespaces.uid_map, "/etc/subuid")?;
    }
    match own_gid {
        None => write_proc(pid, "gid_map", &namespaces.gid_map),
        Some(own) if is_only(&namespaces.gid_map, own) => {
            // Otherwise dropping a group could open what is closed to it (CVE-2014-8989).
            write_proc(pid, "setgroups", "deny")?;
            write_proc(pid, "gid_map", &namespaces.gid_map)
        }
        Some(_) => help("newgidmap", pid, &namespaces.gid_map, "/etc/subgid"),
    }
}

/// Whether the map is one id, and that the caller's own.
fn is_only(map: &str, own: u32) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    matches!(fields.as_slice(), [_, outside, "1"] if *outside == own.to_string())
}

fn help(program: &str, pid: i32, map: &str, ranges: &str) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(map.split_whitespace()).stdin(Stdio::null());
    let output = crate::sys::process::with_own_signals(&mut command).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let way = "install it (package uidmap or shadow-utils), or map only your own id";
            return Err(Failure::invalid(format!("{program}, which maps ids for a user without rights, is not in PATH: {way}")));
        }
        other => other.at(&format!("execute {program}"))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().strip_prefix(&format!("{program}: ")).unwrap_or(said.trim()).replace('\n', "; ");
    Err(Failure::invalid(format!("{program} refused the container's map (the ids must be yours in {ranges}): {said}")))
}

/// Writes a file of `/proc/PID`. In one go: the kernel takes a map whole.
pub(super) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", &path)?;
    rustix::io::write(&file, text.as_bytes()).at_path("write", &path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::is_only;

    #[test]
    fn only_ones_own_id_needs_no_helper() {
        assert!(is_only("0 1000 1\n", 1000) && is_only("7 1000 1\n", 1000));
        for map in ["0 1000 2\n", "0 1001 1\n", "0 1000 1\n1 100000 65536\n", ""] {
            assert!(!is_only(map, 1000), "{map}");
        }
    }
}
