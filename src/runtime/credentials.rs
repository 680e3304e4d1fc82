//! Becoming the process's user: limits, groups, ids, capabilities, `no_new_privs`.
//!
//! Invariant: in two halves. [`assume`] does all that needs rights and keeps only what the gate still
//! needs; [`Final::apply`] runs right before `execve` and leaves exactly the sets of the plan.

use super::channel::Channel;
use super::error::{At, Failure};
use super::process::{ProcessPlan, Sets};
use super::user::Account;
use super::{listener, seccomp};
use rustix::io::Errno;
use rustix::process::{Gid, Rlimit, Uid, getrlimit, prlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// `CAP_SYS_ADMIN`: loading a filter without `no_new_privs` needs it.
const SYS_ADMIN: u64 = 1 << 21;

/// What is left to do right before `execve`.
pub(super) struct Final {
    filter: Option<super::process::Filter>,
    sets: Sets,
}

/// Resource limits. What may not be raised is refused, or capped where the plan says so.
pub(super) fn limit(plan: &ProcessPlan) -> Result<(), Failure> {
    for (limit, soft, hard) in &plan.rlimits {
        let resource = limit.resource();
        let step = format!("set process.rlimits {} to {soft}:{hard}", limit.0);
        match setrlimit(resource, Rlimit { current: finite(*soft), maximum: finite(*hard) }) {
            Err(Errno::PERM) if !plan.rlimits_exact => {
                let ceiling = getrlimit(resource).maximum.unwrap_or(u64::MAX);
                let capped = Rlimit { current: finite((*soft).min(ceiling)), maximum: finite((*hard).min(ceiling)) };
                setrlimit(resource, capped).at(&step)?;
            }
            other => other.at(&step)?,
        }
    }
    Ok(())
}

/// Raises hard limits of process `pid` (None: the caller) while it can be done: root of a user namespace cannot. What fails
/// is told by [`limit`], which then sets what is wanted.
pub(super) fn raise_limits(pid: Option<i32>, plan: &ProcessPlan) {
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    for (limit, _, hard) in &plan.rlimits {
        let own = getrlimit(limit.resource());
        if own.maximum.is_some_and(|maximum| maximum < *hard) {
            prlimit(pid, limit.resource(), Rlimit { current: own.current, maximum: finite(*hard) }).ok();
        }
    }
}

/// `RLIM_INFINITY` is all ones in the config too.
fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

/// Changes to the account, with only the capabilities that [`Final::apply`] needs on top of the plan's.
pub(super) fn assume(plan: &ProcessPlan, account: &Account) -> Result<Final, Failure> {
    let mut sets = plan.capabilities;
    if account.uid != 0 && matches!(plan.identity, super::process::Identity::Named { .. }) {
        // The set of the config is root's; another user keeps what was made ambient for it.
        sets.permitted = sets.ambient;
        sets.effective = sets.ambient;
        sets.inheritable = sets.ambient;
    }
    drop_bounding(sets.bounding)?;
    rustix::thread::set_keep_capabilities(true).at("keep capabilities")?;
    let groups: Vec<Gid> = account.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        Err(Errno::INVAL) => {
            let list: Vec<String> = account.groups.iter().map(u32::to_string).collect();
            return Err(Failure::invalid(format!("the user's groups {} are not all in the gid map of the container", list.join(", "))));
        }
        // Denied for good where a user without rights has mapped a single group (user_namespaces(7)): fine, if none is asked for.
        Err(Errno::PERM) if account.groups.iter().all(|gid| *gid == account.gid) => {}
        Err(Errno::PERM) => {
            return Err(Failure::invalid("supplementary groups cannot be set in a user namespace of a single group: leave out additionalGids"));
        }
        other => other.at("set supplementary groups")?,
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let unmapped = |what: &str, id: u32| Failure::invalid(format!("{what} {id} is not in the {what} map of the container"));
    match rustix::thread::set_thread_res_gid(gid, gid, gid) {
        Err(Errno::INVAL) => return Err(unmapped("gid", account.gid)),
        other => other.at(&format!("become group {}", account.gid))?,
    }
    match rustix::thread::set_thread_res_uid(uid, uid, uid) {
        Err(Errno::INVAL) => return Err(unmapped("uid", account.uid)),
        other => other.at(&format!("become user {}", account.uid))?,
    }
    rustix::thread::set_keep_capabilities(false).at("stop keeping capabilities")?;
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at("forbid new privileges")?;
    }
    let own = rustix::thread::capabilities(None).at("read capabilities")?;
    let held = own.permitted.bits();
    // What the kernel does not know, or we do not hold, cannot be given (config.md: that is no failure).
    sets.permitted &= held;
    sets.effective &= sets.permitted;
    // Both rules of cap_capset (security/commoncap.c).
    sets.inheritable &= own.inheritable.bits() | held & sets.bounding;
    let last = if plan.seccomp.is_some() && !plan.no_new_privileges { SYS_ADMIN } else { 0 };
    let meanwhile = (sets.permitted | last) & held;
    set(meanwhile, meanwhile, sets.inheritable)?;
    raise_ambient(sets.ambient & sets.permitted & sets.inheritable)?;
    Ok(Final { filter: plan.seccomp.clone(), sets })
}

impl Final {
    /// Loads the filter and leaves the plan's sets. The filter must allow what follows: `capset` and
    /// `execve`; with `no_new_privs` it is loaded after the sets are final. `channel`: see [`listener`].
    pub fn apply(&self, no_new_privileges: bool, channel: &Channel) -> Result<(), Failure> {
        if no_new_privileges {
            self.drop_to_final()?;
            return self.load(channel);
        }
        self.load(channel)?;
        self.drop_to_final()
    }

    /// Leaves the plan's sets (also for a reaper, which loads no filter).
    pub fn drop_to_final(&self) -> Result<(), Failure> {
        set(self.sets.effective, self.sets.permitted, self.sets.inheritable)
    }

    fn load(&self, channel: &Channel) -> Result<(), Failure> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let load = || match seccomp::load(&filter.program, filter.flags) {
            Ok(listener) => Ok(listener),
            Err(seccomp::Error::Load(error)) => Err(Failure::step("load the seccomp filter", error)),
            Err(other) => Err(Failure::invalid(other.to_string())),
        };
        if !filter.listens {
            return load().map(drop);
        }
        listener::hand_over(channel, || load()?.ok_or_else(|| Failure::step("make a seccomp listener", Errno::BADF)))
    }
}

fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Failure> {
    let bits = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets { effective: bits(effective), permitted: bits(permitted), inheritable: bits(inheritable) };
    rustix::thread::set_capabilities(None, sets).at("set capabilities")
}

fn drop_bounding(keep: u64) -> Result<(), Failure> {
    for number in 0..64 {
        if keep & 1 << number != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // Past the kernel's last capability.
            Err(Errno::INVAL) => break,
            other => other.at("drop a bounding capability")?,
        }
    }
    Ok(())
}

/// The ambient set is empty after a change of users; what the plan names is raised.
fn raise_ambient(ambient: u64) -> Result<(), Failure> {
    match rustix::thread::clear_ambient_capability_set() {
        Err(Errno::INVAL) | Ok(()) => {}
        other => other.at("clear ambient capabilities")?,
    }
    for number in (0..64).filter(|number| ambient & 1 << number != 0) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        rustix::thread::configure_capability_in_ambient_set(one, true).at("raise an ambient capability")?;
    }
    Ok(())
}
