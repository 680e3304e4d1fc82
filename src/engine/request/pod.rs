//! `pod create` and `--pod`: what is shared, and how a container joins.

use super::{FlagError, MountRequest, VolumesFrom};
use crate::base::PodName;
use crate::state::pod::{ExitPolicy, Shares};
use crate::state::record::{HostSpec, InitContainer, Membership};
use std::collections::BTreeMap;

/// What podman shares when nothing else is said.
pub const DEFAULT_SHARES: Shares = Shares { net: true, ipc: true, uts: true, pid: false, cgroup: false };

/// `pod create`.
#[derive(Debug, Clone, Default)]
pub struct CreatePod {
    /// None: generated.
    pub name: Option<PodName>,
    /// None: the pod's name.
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub shares: Shares,
    pub exit_policy: ExitPolicy,
    pub share_parent: bool,
    pub no_hosts: bool,
    /// `-v`: every member gets them.
    pub mounts: Vec<MountRequest>,
    pub volumes_from: Vec<VolumesFrom>,
    /// Removes a pod that has the name first.
    pub replace: bool,
    /// The command line, for inspect.
    pub command: Vec<String>,
    /// Everything that a container could have, too.
    pub host: HostSpec,
}

/// `--pod` of `run` and `create`.
#[derive(Debug, Clone, Default)]
pub struct JoinPod {
    /// Name or id; a new pod's name.
    pub pod: String,
    /// `new:NAME`: the pod is made first, with the network, ports and name servers of this request.
    pub new: bool,
    /// `--init-ctr`.
    pub init: Option<InitContainer>,
    pub given: Given,
    /// Filled by the engine.
    pub membership: Option<Membership>,
}

/// Which flags were typed that a pod has its own answer to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    pub network: bool,
    pub ipc: bool,
    pub pid: bool,
    pub uts: bool,
    pub cgroup: bool,
    pub restart: bool,
}

/// `--pod`: a pod's name or id, or `new:` and the name of one to be made.
///
/// # Errors
/// The name is missing.
pub fn parse(text: &str) -> Result<JoinPod, FlagError> {
    let (name, new) = text.strip_prefix("new:").map_or((text, false), |name| (name, true));
    if name.is_empty() {
        return Err(FlagError::new("--pod", text, "the pod's name is missing"));
    }
    Ok(JoinPod { pod: name.to_owned(), new, ..JoinPod::default() })
}

/// `--init-ctr`.
///
/// # Errors
/// Not `once` or `always`.
pub fn parse_init(text: &str) -> Result<InitContainer, FlagError> {
    match text {
        "once" => Ok(InitContainer::Once),
        "always" => Ok(InitContainer::Always),
        _ => Err(FlagError::new("--init-ctr", text, "expected once or always")),
    }
}

/// `--share`: a list of net, ipc, uts, pid and cgroup; `none` or nothing for none of them; a `+` before it adds to the default.
///
/// # Errors
/// Another word.
pub fn parse_shares(text: &str) -> Result<Shares, FlagError> {
    let (list, mut shares) = match text.strip_prefix('+') {
        Some(list) => (list, DEFAULT_SHARES),
        None => (text, Shares::default()),
    };
    if matches!(list, "" | "none") {
        return Ok(shares);
    }
    for word in list.split(',') {
        match word.trim() {
            "net" => shares.net = true,
            "ipc" => shares.ipc = true,
            "uts" => shares.uts = true,
            "pid" => shares.pid = true,
            "cgroup" => shares.cgroup = true,
            _ => return Err(FlagError::new("--share", text, "expected net, ipc, uts, pid, cgroup or none")),
        }
    }
    Ok(shares)
}

/// `--exit-policy`.
///
/// # Errors
/// Not `continue` or `stop`.
pub fn parse_exit_policy(text: &str) -> Result<ExitPolicy, FlagError> {
    match text {
        "continue" => Ok(ExitPolicy::Continue),
        "stop" => Ok(ExitPolicy::Stop),
        _ => Err(FlagError::new("--exit-policy", text, "expected continue or stop")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_lists_and_additions() {
        let shares = |net, ipc, uts, pid| Ok(Shares { net, ipc, uts, pid, cgroup: false });
        for (text, expected) in [
            ("net,ipc,uts", Ok(DEFAULT_SHARES)),
            ("none", shares(false, false, false, false)),
            ("", shares(false, false, false, false)),
            ("pid, net", shares(true, false, false, true)),
            ("+pid", shares(true, true, true, true)),
        ] {
            assert_eq!(parse_shares(text), expected, "{text}");
        }
        assert_eq!(parse_shares("+cgroup"), Ok(Shares { cgroup: true, ..DEFAULT_SHARES }));
        assert!(parse_shares("net,user").is_err());
    }

    #[test]
    fn pods_are_named_or_new() {
        assert_eq!(parse("web").map(|join| (join.pod, join.new)), Ok(("web".to_owned(), false)));
        assert_eq!(parse("new:web").map(|join| (join.pod, join.new)), Ok(("web".to_owned(), true)));
        assert!(parse("").is_err() && parse("new:").is_err());
        assert_eq!((parse_init("once"), parse_exit_policy("stop")), (Ok(InitContainer::Once), Ok(ExitPolicy::Stop)));
        assert!(parse_init("x").is_err() && parse_exit_policy("x").is_err());
    }
}
