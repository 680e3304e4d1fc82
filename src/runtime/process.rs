//! The part of a plan that `create` and `exec` share: what the container's process is.

use super::attributes::Attributes;
use super::error::Error;
use super::keyring::Keyring;
use super::label::{self, Label};
use super::{User, capability, listener, seccomp};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, LinuxNamespaceType, LinuxSeccomp, PosixRlimitType, Process, Spec};
use rustix::process::Resource;
use std::collections::HashMap;
use std::path::PathBuf;

/// What is executed, as whom, with which rights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProcessPlan {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    pub identity: Identity,
    pub umask: u32,
    /// Resource, soft, hard; `u64::MAX` is unlimited.
    pub rlimits: Vec<(Limit, u64, u64)>,
    /// An OCI config's limits are met or refused (config.md, POSIX process); the engine's are wishes, capped to what the
    /// host permits.
    pub rlimits_exact: bool,
    pub capabilities: Sets,
    pub no_new_privileges: bool,
    pub seccomp: Option<Filter>,
    /// Written by the parent, from outside.
    pub oom_score_adj: Option<i32>,
    pub labels: Vec<Label>,
    pub attributes: Attributes,
    /// None: the caller's is kept (`--no-new-keyring`).
    pub keyring: Option<Keyring>,
}

/// rustix's `Resource` with equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(pub PosixRlimitType);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Identity {
    Numeric {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    /// Looked up inside the root; `groups` are added to those found.
    Named {
        user: User,
        groups: Vec<u32>,
    },
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[derive(Clone, PartialEq)]
pub(super) struct Filter {
    pub program: Vec<seccomp::Instruction>,
    pub flags: u32,
    /// Loading it makes a listener, which goes to an agent.
    pub listens: bool,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions, flags {:#x})", self.program.len(), self.flags)
    }
}

/// What decides a [`ProcessPlan`].
pub(super) struct Request<'a> {
    pub process: &'a Process,
    /// See [`super::Create::user`].
    pub user: Option<&'a User>,
    pub spec: &'a Spec,
    /// Of an exec: the container's own process, which stands for all that `process` leaves out.
    pub defaults: Option<&'a Process>,
    pub keyring: Option<&'a str>,
}

/// Compiles `process`.
///
/// # Errors
/// `Invalid` or `Unsupported`, naming the field.
pub(super) fn compile(request: &Request<'_>) -> Result<ProcessPlan, Error> {
    let Request { process, user, spec, defaults, keyring } = *request;
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    if args.iter().any(|text| text.contains('\0')) {
        return Err(Error::Invalid("process.args contains a NUL byte".to_owned()));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Invalid(format!("working directory \"{}\" must be an absolute path", process.cwd().display())));
    }
    let capabilities = process.capabilities().as_ref().or_else(|| defaults.and_then(|own| own.capabilities().as_ref()));
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    // An exec with the container's sets says nothing new; the engine's are wishes.
    let known = defaults.is_some_and(|own| own.capabilities().as_ref() == capabilities);
    let capabilities = capabilities.map_or_else(Sets::default, Sets::of);
    if user.is_none() && !known {
        capabilities.warn(spec);
    }
    Ok(ProcessPlan {
        args,
        env: environment(process.env().as_deref().unwrap_or_default())?,
        cwd: process.cwd().clone(),
        identity: identity(process, user)?,
        umask: process.user().umask().or_else(|| defaults.and_then(|own| own.user().umask())).unwrap_or(0o022) & 0o777,
        rlimits: limits(process, defaults)?,
        rlimits_exact: user.is_none(),
        capabilities,
        no_new_privileges: process.no_new_privileges().or_else(|| defaults?.no_new_privileges()).unwrap_or(false),
        seccomp: filter.map(compile_filter).transpose()?,
        oom_score_adj: process.oom_score_adj().or_else(|| defaults?.oom_score_adj()),
        labels: label::compile(process, defaults)?,
        attributes: Attributes::compile(process, spec, defaults)?,
        keyring: keyring.map(|id| Keyring::of(id, spec)).transpose()?,
    })
}

fn identity(process: &Process, user: Option<&User>) -> Result<Identity, Error> {
    let own = process.user();
    let groups = own.additional_gids().clone().unwrap_or_default();
    let ids = [("process.user.uid", own.uid()), ("process.user.gid", own.gid())];
    let mut ids = ids.into_iter().chain(groups.iter().map(|gid| ("process.user.additionalGids", *gid)));
    // -1 means "as it is" to setresuid(2): the process would stay root.
    if let Some((field, _)) = ids.find(|(_, id)| *id == u32::MAX) {
        return Err(Error::Invalid(format!("{field} is {}: no user or group can have that id", u32::MAX)));
    }
    Ok(match user {
        Some(user) => Identity::Named { user: user.clone(), groups },
        None => Identity::Numeric { uid: own.uid(), gid: own.gid(), groups },
    })
}

/// `environ` as POSIX has it: of several values of one name the last stands, at the place of the first.
fn environment(entries: &[String]) -> Result<Vec<String>, Error> {
    let invalid = |entry: &str, why: &str| Err(Error::Invalid(format!("process.env: \"{}\" {why}", entry.escape_debug())));
    let mut places = HashMap::with_capacity(entries.len());
    let mut env: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.split_once('=') {
            _ if entry.contains('\0') => return invalid(entry, "contains a NUL byte"),
            None => return invalid(entry, "has no \"=\": expected NAME=VALUE"),
            Some(("", _)) => return invalid(entry, "has no name before its \"=\""),
            Some((name, _)) => match places.insert(name, env.len()) {
                None => env.push(entry.clone()),
                Some(place) => {
                    places.insert(name, place);
                    env[place].clone_from(entry);
                }
            },
        }
    }
    Ok(env)
}

fn limits(process: &Process, defaults: Option<&Process>) -> Result<Vec<(Limit, u64, u64)>, Error> {
    let own = process.rlimits().as_ref().filter(|list| !list.is_empty());
    let list = own.or_else(|| defaults?.rlimits().as_ref());
    let mut limits: Vec<(Limit, u64, u64)> = Vec::new();
    for limit in list.into_iter().flatten() {
        if limits.iter().any(|(known, ..)| known.0 == limit.typ()) {
            return Err(Error::Invalid(format!("process.rlimits names {} twice", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::Invalid(format!("process.rlimits: the soft limit of {} is above the hard one", limit.typ())));
        }
        limits.push((Limit(limit.typ()), limit.soft(), limit.hard()));
    }
    Ok(limits)
}

fn compile_filter(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    listener::check(profile)?;
    let program = seccomp::compile(profile).map_err(Error::Seccomp)?;
    Ok(Filter { program, flags: seccomp::flags(profile), listens: seccomp::needs_listener(profile) })
}

impl Sets {
    fn of(sets: &LinuxCapabilities) -> Self {
        let mask = |set: &Option<Capabilities>| capability::mask(set.iter().flatten().copied());
        Sets {
            bounding: mask(sets.bounding()),
            effective: mask(sets.effective()),
            permitted: mask(sets.permitted()),
            inheritable: mask(sets.inheritable()),
            ambient: mask(sets.ambient()),
        }
    }

    /// Logs what cannot be granted (config.md, Linux Process: no reason to fail). A user namespace has them all.
    fn warn(&self, spec: &Spec) {
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let mapped = listed.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        let held = if mapped { u64::MAX } else { rustix::thread::capabilities(None).map_or(u64::MAX, |own| own.permitted.bits()) };
        for (set, refused) in self.ungrantable(held) {
            let names = capability::ALL.iter().zip(0..).filter(|(_, number)| refused & 1 << number != 0);
            let names: Vec<&str> = names.map(|((_, name), _)| *name).collect();
            tracing::warn!("process.capabilities.{set}: {} cannot be granted and will be missing", names.join(", "));
        }
    }

    /// What of each set the kernel will not take from a process that holds `held`. Ambient capabilities that are not
    /// inheritable are left out: builders ask for them with every command and empty the other set on purpose (CVE-2022-24769),
    /// and whoever calls without --log would find the warning in the container's stderr.
    fn ungrantable(&self, held: u64) -> impl Iterator<Item = (&'static str, u64)> {
        let permitted = self.permitted & held;
        let sets = [
            ("bounding", self.bounding & !held),
            ("permitted", self.permitted & !held),
            ("effective", self.effective & !permitted),
            ("inheritable", self.inheritable & !(held & self.bounding)),
            ("ambient", self.ambient & !permitted),
        ];
        sets.into_iter().filter(|(_, refused)| *refused != 0)
    }
}

impl Limit {
    pub fn resource(self) -> Resource {
        match self.0 {
            PosixRlimitType::RlimitCpu => Resource::Cpu,
            PosixRlimitType::RlimitFsize => Resource::Fsize,
            PosixRlimitType::RlimitData => Resource::Data,
            PosixRlimitType::RlimitStack => Resource::Stack,
            PosixRlimitType::RlimitCore => Resource::Core,
            PosixRlimitType::RlimitRss => Resource::Rss,
            PosixRlimitType::RlimitNproc => Resource::Nproc,
            PosixRlimitType::RlimitNofile => Resource::Nofile,
            PosixRlimitType::RlimitMemlock => Resource::Memlock,
            PosixRlimitType::RlimitAs => Resource::As,
            PosixRlimitType::RlimitLocks => Resource::Locks,
            PosixRlimitType::RlimitSigpending => Resource::Sigpending,
            PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
            PosixRlimitType::RlimitNice => Resource::Nice,
            PosixRlimitType::RlimitRtprio => Resource::Rtprio,
            PosixRlimitType::RlimitRttime => Resource::Rttime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ProcessPlan, Request, Sets, compile};
    use oci_spec::runtime::{Process, Spec};
    use serde_json::{Value, json};

    fn plan(process: &Value, defaults: Option<&Value>) -> Result<ProcessPlan, Error> {
        let parse = |value: &Value| {
            let mut whole = json!({"user": {"uid": 1, "gid": 2}, "cwd": "/", "args": ["x"]});
            whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            serde_json::from_value::<Process>(whole).unwrap()
        };
        let (process, defaults) = (parse(process), defaults.map(parse));
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.2.0"})).unwrap();
        compile(&Request { process: &process, user: None, spec: &spec, defaults: defaults.as_ref(), keyring: None })
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (message, process) in [
            ("RLIMIT_CPU twice", json!({"rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 2, "hard": 2}]})),
            ("soft limit of RLIMIT_AS", json!({"rlimits": [{"type": "RLIMIT_AS", "soft": 2, "hard": 1}]})),
            ("process.env: \"A\" has no \"=\"", json!({"env": ["A"]})),
            ("process.env: \"=x\" has no name", json!({"env": ["=x"]})),
            ("process.env: \"A=\\0\" contains a NUL byte", json!({"env": ["A=\0"]})),
            ("process.args contains a NUL", json!({"args": ["\0"]})),
            ("no command", json!({"args": []})),
            ("absolute path", json!({"cwd": "a"})),
            ("process.user.uid", json!({"user": {"uid": 4_294_967_295u32, "gid": 0}})),
            ("process.user.gid", json!({"user": {"uid": 0, "gid": 4_294_967_295u32}})),
            ("process.user.additionalGids", json!({"user": {"uid": 0, "gid": 0, "additionalGids": [1, 4_294_967_295u32]}})),
        ] {
            let error = plan(&process, None).unwrap_err();
            assert!(matches!(&error, Error::Invalid(text) if text.contains(message)), "{message}: {error}");
        }
    }

    #[test]
    fn capabilities_that_cannot_be_granted_are_known() {
        let sets = Sets { bounding: 0b111, permitted: 0b011, effective: 0b111, inheritable: 0b1001, ambient: 0b010 };
        let refused: Vec<_> = sets.ungrantable(0b1101).collect();
        assert_eq!(refused, [("bounding", 0b010), ("permitted", 0b010), ("effective", 0b110), ("inheritable", 0b1000), ("ambient", 0b010)]);
        assert_eq!(Sets::default().ungrantable(0).count(), 0);
        let builders = Sets { bounding: 0b11, permitted: 0b11, effective: 0b11, inheritable: 0, ambient: 0b11 };
        assert_eq!(builders.ungrantable(0b11).count(), 0);
    }

    #[test]
    fn an_exec_takes_over_what_it_leaves_out() {
        let container = json!({
            "user": {"uid": 0, "gid": 0, "umask": 0o077}, "noNewPrivileges": true, "oomScoreAdj": 5,
            "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}], "capabilities": {"bounding": ["CAP_KILL"]},
        });
        let bare = plan(&json!({}), Some(&container)).unwrap();
        assert_eq!((bare.umask, bare.no_new_privileges, bare.oom_score_adj, bare.rlimits.len()), (0o077, true, Some(5), 1));
        assert_eq!(bare.capabilities.bounding, 1 << 5);
        let own = json!({"user": {"uid": 0, "gid": 0, "umask": 0o027}, "noNewPrivileges": false, "capabilities": {}, "oomScoreAdj": 0});
        let own = plan(&own, Some(&container)).unwrap();
        assert_eq!((own.umask, own.no_new_privileges, own.oom_score_adj, own.capabilities.bounding), (0o027, false, Some(0), 0));
    }

    #[test]
    fn the_last_value_of_a_variable_stands() {
        let made = plan(&json!({"env": ["A=1", "B=2", "A=3=4"]}), None).unwrap();
        assert_eq!(made.env, ["A=3=4", "B=2"]);
    }
}
