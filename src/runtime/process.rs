//! The part of a plan that `create` and `exec` share: what the container's process is.

use super::error::Error;
use super::{User, seccomp};
use oci_spec::runtime::{Capabilities, Capability, LinuxSeccomp, PosixRlimitType, Process, Spec};
use rustix::process::Resource;
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
    pub capabilities: Sets,
    pub no_new_privileges: bool,
    pub seccomp: Option<Filter>,
    /// Written by the parent, from outside.
    pub oom_score_adj: Option<i32>,
    pub label: Option<Label>,
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
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions, flags {:#x})", self.program.len(), self.flags)
    }
}

/// A security label put on at `execve`: the file below `/proc/self/attr` and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub file: &'static str,
    pub text: String,
}

/// Compiles `process`. `defaults`: the container's own process, whose capabilities an exec takes over.
///
/// # Errors
/// `Invalid` or `Unsupported`, naming the field.
pub(super) fn compile(process: &Process, user: Option<&User>, spec: &Spec, defaults: Option<&Process>) -> Result<ProcessPlan, Error> {
    for (asked, name) in [
        (process.io_priority().is_some(), "process.ioPriority"),
        (process.scheduler().is_some(), "process.scheduler"),
        (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
    ] {
        if asked {
            return Err(Error::Unsupported(name.to_owned()));
        }
    }
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    let env = process.env().clone().unwrap_or_default();
    if args.iter().chain(&env).any(|text| text.contains('\0')) {
        return Err(Error::Invalid("an argument or environment variable contains a NUL byte".to_owned()));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Invalid(format!("working directory \"{}\" must be an absolute path", process.cwd().display())));
    }
    let groups = process.user().additional_gids().clone().unwrap_or_default();
    let identity = match user {
        Some(user) => Identity::Named { user: user.clone(), groups },
        None => Identity::Numeric { uid: process.user().uid(), gid: process.user().gid(), groups },
    };
    let capabilities = process.capabilities().as_ref().or_else(|| defaults.and_then(|process| process.capabilities().as_ref()));
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    Ok(ProcessPlan {
        args,
        env,
        cwd: process.cwd().clone(),
        identity,
        umask: process.user().umask().unwrap_or(0o022) & 0o777,
        rlimits: process.rlimits().iter().flatten().map(|limit| (Limit(limit.typ()), limit.soft(), limit.hard())).collect(),
        capabilities: capabilities.map_or_else(Sets::default, |sets| Sets {
            bounding: mask(sets.bounding()),
            effective: mask(sets.effective()),
            permitted: mask(sets.permitted()),
            inheritable: mask(sets.inheritable()),
            ambient: mask(sets.ambient()),
        }),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp: filter.map(compile_filter).transpose()?,
        oom_score_adj: process.oom_score_adj(),
        label: label(process)?,
    })
}

fn compile_filter(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    if profile.listener_path().is_some() || seccomp::needs_listener(profile) {
        return Err(Error::Unsupported("a seccomp listener (SCMP_ACT_NOTIFY)".to_owned()));
    }
    let program = seccomp::compile(profile).map_err(Error::Seccomp)?;
    Ok(Filter { program, flags: seccomp::flags(profile) })
}

/// Security modules are asked for by name and must then be there: a label that is not applied is a hole.
fn label(process: &Process) -> Result<Option<Label>, Error> {
    let asked = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(profile) = asked(process.apparmor_profile()).filter(|profile| profile != "unconfined") {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        if !enabled {
            return Err(Error::Unsupported(format!("AppArmor (profile \"{profile}\") on this kernel")));
        }
        let stacked = std::path::Path::new("/proc/self/attr/apparmor/exec").exists();
        let file = if stacked { "attr/apparmor/exec" } else { "attr/exec" };
        return Ok(Some(Label { file, text: format!("exec {profile}") }));
    }
    if let Some(text) = asked(process.selinux_label()) {
        if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(Error::Unsupported(format!("SELinux (label \"{text}\") on this kernel")));
        }
        return Ok(Some(Label { file: "attr/exec", text }));
    }
    Ok(None)
}

fn mask(set: &Option<Capabilities>) -> u64 {
    set.iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability))
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

/// Numbers of include/uapi/linux/capability.h.
fn number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}
