//! Sysctls of the config, each checked to belong to a namespace of the container's own.

use super::{Error, Step};
use oci_spec::runtime::Linux;
use std::path::PathBuf;

/// A sysctl is written only if it belongs to a namespace that is not the host's.
pub(super) fn sysctl_steps(linux: Option<&Linux>, new: u64, join: &[(u64, PathBuf)], netns: bool) -> Result<Vec<Step>, Error> {
    let own = |flag: i32| new & flag as u64 != 0 || join.iter().any(|(kind, _)| *kind == flag as u64);
    let mut steps = Vec::new();
    for (key, value) in linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten() {
        // Either separator is legal, as with sysctl(8): the first one met decides.
        let path = if key.find('/').unwrap_or(usize::MAX) < key.find('.').unwrap_or(usize::MAX) {
            key.clone()
        } else {
            key.chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect()
        };
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") || value.trim_end().contains(['\0', '\n']) {
            return Err(Error::Invalid(format!("sysctl \"{key}\" is malformed")));
        }
        let ipc = [
            "kernel/msgmax",
            "kernel/msgmnb",
            "kernel/msgmni",
            "kernel/sem",
            "kernel/shmall",
            "kernel/shmmax",
            "kernel/shmmni",
            "kernel/shm_rmid_forced",
        ];
        let (allowed, owner) = if path.starts_with("net/") {
            (netns || own(libc::CLONE_NEWNET), "network")
        } else if ipc.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
            (own(libc::CLONE_NEWIPC), "IPC")
        } else if path == "kernel/domainname" || path == "kernel/hostname" {
            (own(libc::CLONE_NEWUTS), "UTS")
        } else if path.starts_with("user/") {
            (own(libc::CLONE_NEWUSER), "user")
        } else {
            return Err(Error::Invalid(format!("sysctl \"{key}\" is not in a namespace: it would change the host")));
        };
        if !allowed {
            return Err(Error::Invalid(format!("sysctl \"{key}\" needs a {owner} namespace of the container's own")));
        }
        steps.push((path, value.clone()));
    }
    steps.sort();
    Ok(steps.into_iter().map(|(path, value)| Step::Sysctl(path, value)).collect())
}
