//! Profiles before compilation: the built-in one, and Docker's JSON format resolved for capabilities, machine and kernel.

use super::{Error, names};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
    LinuxSyscallBuilder,
};
use serde::Deserialize;
use std::path::PathBuf;

/// Go's name for this machine, as Docker's `includes.arches` has it.
const MACHINE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// The built-in default profile (Docker-equivalent), resolved for a capability set (names with or without `CAP_`).
pub fn default_profile(caps: &[String]) -> LinuxSeccomp {
    let holds = |wanted: &str| caps.iter().any(|cap| bare(cap).eq_ignore_ascii_case(wanted));
    let mut always: Vec<&str> = names::ALWAYS.to_vec();
    always.extend(names::MACHINE);
    // A kernel whose version cannot be read counts as old: the calls stay refused.
    if kernel().is_some_and(|version| version >= (4, 8)) {
        always.extend(names::SINCE_4_8);
    }
    for (_, calls) in names::UNLOCKED.iter().filter(|(cap, _)| holds(cap)) {
        always.extend(*calls);
    }
    let mut syscalls = vec![allow(&always, Vec::new())];
    let [low, high] = names::REFUSED_FAMILIES;
    // Three rules of one condition each: between the two families there is one family (AF_NFC, 39).
    for (op, family) in [(LinuxSeccompOperator::ScmpCmpLt, low), (LinuxSeccompOperator::ScmpCmpEq, low + 1), (LinuxSeccompOperator::ScmpCmpGt, high)]
    {
        syscalls.push(allow(&["socket"], vec![condition(0, op, family, None)]));
    }
    for persona in names::PERSONALITIES {
        syscalls.push(allow(&["personality"], vec![condition(0, LinuxSeccompOperator::ScmpCmpEq, persona, None)]));
    }
    if !holds("SYS_ADMIN") {
        let no_namespaces = condition(0, LinuxSeccompOperator::ScmpCmpMaskedEq, names::NAMESPACE_FLAGS, Some(0));
        syscalls.push(allow(&["clone"], vec![no_namespaces]));
        // clone3 passes its flags behind a pointer, which a filter cannot read: say "no such call", so that libc uses clone.
        let mut refused = allow(&["clone3"], Vec::new());
        refused.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(libc::ENOSYS.unsigned_abs()));
        syscalls.push(refused);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.unsigned_abs()))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(syscalls));
    profile
}

/// A Docker-format profile (JSON with includes/excludes) resolved for a capability set, this machine and this kernel.
/// A plain OCI `linux.seccomp` object is read too.
///
/// # Errors
/// What is wrong with the text; unknown actions, operators and architectures are refused.
pub fn docker_profile(json: &str, caps: &[String]) -> Result<LinuxSeccomp, Error> {
    let document: Document = serde_json::from_str(json).map_err(Error::Parse)?;
    let mapped: Vec<ArchMap> = document.arch_map.unwrap_or_default();
    let listed = document.architectures.unwrap_or_default();
    if !mapped.is_empty() && !listed.is_empty() {
        return Err(Error::TwoArchitectureLists);
    }
    let native = architectures().first().copied();
    let mut arches = listed;
    if let Some(entry) = mapped.into_iter().find(|entry| Some(entry.architecture) == native) {
        arches.push(entry.architecture);
        arches.extend(entry.sub_architectures.unwrap_or_default());
    }
    let mut syscalls = Vec::new();
    for rule in document.syscalls.unwrap_or_default() {
        if rule.applies(caps)? {
            syscalls.push(rule.resolved());
        }
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(document.default_action)
        .set_default_errno_ret(document.default_errno_ret)
        .set_architectures((!arches.is_empty()).then_some(arches))
        .set_flags(document.flags)
        .set_listener_path(document.listener_path)
        .set_listener_metadata(document.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(profile)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The old format's single name.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: LinuxSeccompOperator,
}

/// When a rule is in force.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Rule {
    /// Included: all named capabilities are held, this machine is among the arches, the kernel is new enough.
    /// Excluded: any named capability is held, or this machine is among the arches, or the kernel is that new.
    fn applies(&self, caps: &[String]) -> Result<bool, Error> {
        let holds = |wanted: &String| caps.iter().any(|cap| bare(cap).eq_ignore_ascii_case(bare(wanted)));
        if let Some(filter) = &self.includes {
            let caps = filter.caps.iter().flatten().all(&holds);
            let arch = filter.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(|arch| arch == MACHINE));
            if !(caps && arch && filter.min_kernel.as_deref().map_or(Ok(true), kernel_at_least)?) {
                return Ok(false);
            }
        }
        if let Some(filter) = &self.excludes {
            let caps = filter.caps.iter().flatten().any(&holds);
            let arch = filter.arches.iter().flatten().any(|arch| arch == MACHINE);
            let kernel = filter.min_kernel.as_deref().map_or(Ok(false), kernel_at_least)?;
            return Ok(!(caps || arch || kernel));
        }
        Ok(true)
    }

    fn resolved(self) -> LinuxSyscall {
        let names = self.names.into_iter().flatten().chain(self.name).collect::<Vec<_>>();
        let args = self.args.unwrap_or_default();
        let args = args.into_iter().map(|argument| condition(argument.index, argument.op, argument.value, Some(argument.value_two)));
        let mut rule = LinuxSyscall::default();
        rule.set_names(names).set_action(self.action).set_errno_ret(self.errno_ret).set_args(Some(args.collect()));
        rule
    }
}

/// This machine's convention first, then those its kernel also serves.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}

fn bare(cap: &str) -> &str {
    cap.strip_prefix("CAP_").or_else(|| cap.strip_prefix("cap_")).unwrap_or(cap)
}

fn allow(names: &[&str], args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    LinuxSyscallBuilder::default()
        .names(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow)
        .args(args)
        .build()
        .expect("invariant: every field has a default")
}

fn condition(index: usize, op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> LinuxSeccompArg {
    let argument = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    let argument = argument.value_two(value_two.unwrap_or(0));
    argument.build().expect("invariant: every field has a default")
}

fn kernel_at_least(version: &str) -> Result<bool, Error> {
    let wanted = parse_version(version).ok_or_else(|| Error::KernelVersion(version.to_owned()))?;
    Ok(kernel().is_some_and(|running| running >= wanted))
}

/// Major and minor of the running kernel.
fn kernel() -> Option<(u32, u32)> {
    parse_version(&rustix::system::uname().release().to_string_lossy())
}

/// `4.8`, `6.18.44-fc`: the first two numbers.
pub(super) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor[..digits].parse().ok()?))
}
