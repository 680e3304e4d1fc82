//! How the kernel treats the container's process: scheduling policy, I/O priority, CPU affinity, memory policy, personality.
//!
//! Invariant: what needs rights over the host (a user namespace's root has none) is set by the parent, from outside, when the
//! process is in its groups; what only a thread can do for itself is done by the stage, then too.

use super::error::{At, Error, Failure};
use crate::sys::clone::Forked;
use crate::sys::scheduling as call;
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler, Spec,
};

/// Highest CPU or node number that a list may name: more than any kernel is built for (`NR_CPUS` is at most 8192).
const HIGHEST: u32 = 65535;

/// Compiled; empty when the config asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Class and level.
    pub io_priority: Option<(u32, u32)>,
    pub scheduler: Option<call::Attributes>,
    /// Before and after the process enters its groups, as bit masks; only of an exec.
    pub initial: Option<Vec<u64>>,
    pub last: Option<Vec<u64>>,
    pub memory: Option<MemoryPolicy>,
    pub personality: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryPolicy {
    /// `MPOL_*` and `MPOL_F_*`.
    pub mode: u32,
    pub nodes: Vec<u64>,
}

impl Attributes {
    /// `defaults`: the container's own process, of an exec; `execCPUAffinity` is for those alone (config.md, Linux Process).
    ///
    /// # Errors
    /// `Invalid` names the field that cannot be what it is.
    pub fn compile(process: &Process, spec: &Spec, defaults: Option<&Process>) -> Result<Self, Error> {
        let linux = spec.linux().as_ref();
        let io_priority = process.io_priority().or_else(|| defaults.and_then(|process| *process.io_priority()));
        let scheduler = process.scheduler().as_ref().or_else(|| defaults.and_then(|process| process.scheduler().as_ref()));
        let affinity = defaults.and_then(|own| process.exec_cpu_affinity().as_ref().or(own.exec_cpu_affinity().as_ref()));
        let part = |part: fn(&ExecCPUAffinity) -> &Option<String>, name| {
            let text = affinity.and_then(|affinity| part(affinity).as_deref()).filter(|text| !text.is_empty());
            text.map(|text| list(text, name)).transpose()
        };
        Ok(Attributes {
            io_priority: io_priority.as_ref().map(io_level).transpose()?,
            scheduler: scheduler.map(policy).transpose()?,
            initial: part(ExecCPUAffinity::initial, "process.execCPUAffinity.initial")?,
            last: part(ExecCPUAffinity::cpu_affinity_final, "process.execCPUAffinity.final")?,
            memory: linux.and_then(|linux| linux.memory_policy().as_ref()).map(memory).transpose()?,
            personality: linux.and_then(|linux| linux.personality().as_ref()).map(domain).transpose()?,
        })
    }

    /// Runs `act`, a clone, on the initial CPUs: the child is born there, before it is in any group.
    pub fn on_initial_cpus(&self, act: impl FnOnce() -> Result<Forked, Failure>) -> Result<Forked, Failure> {
        let Some(mask) = &self.initial else { return act() };
        let before = call::affinity().at("read the CPU affinity")?;
        call::set_affinity(0, mask).at("set process.execCPUAffinity.initial")?;
        let forked = act();
        if !matches!(forked, Ok(Forked::Child)) {
            call::set_affinity(0, &before).at("restore the CPU affinity")?;
        }
        forked
    }

    /// The parent's part, when the process has joined its groups: real-time rights and CPU sets are the groups'.
    pub fn set_on(&self, pid: i32) -> Result<(), Failure> {
        if let Some((class, level)) = self.io_priority {
            call::set_io_priority(pid, class, level).at("set process.ioPriority")?;
        }
        if let Some(mask) = &self.last {
            call::set_affinity(pid, mask).at("set process.execCPUAffinity.final")?;
        }
        if let Some(attributes) = &self.scheduler {
            call::set_attributes(pid, attributes).at("set process.scheduler")?;
        }
        Ok(())
    }

    /// The stage's part, then.
    pub fn take(&self) -> Result<(), Failure> {
        if let Some(policy) = &self.memory {
            call::set_memory_policy(policy.mode, &policy.nodes).at("set linux.memoryPolicy")?;
        }
        if let Some(domain) = self.personality {
            call::set_personality(domain).at("set linux.personality")?;
        }
        Ok(())
    }
}

fn io_level(priority: &LinuxIOPriority) -> Result<(u32, u32), Error> {
    // Classes of include/uapi/linux/ioprio.h.
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(Error::Invalid(format!("process.ioPriority.priority is {}: it must be between 0 and 7", priority.priority()))),
    }
}

fn policy(scheduler: &Scheduler) -> Result<call::Attributes, Error> {
    use LinuxSchedulerPolicy as P;
    let invalid = |text: String| Err(Error::Invalid(text));
    let policy = *scheduler.policy();
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return invalid(format!("process.scheduler.nice is {nice}: it must be between -20 and 19"));
    }
    let real_time = matches!(policy, P::SchedFifo | P::SchedRr);
    let Ok(priority @ 0..=99) = u32::try_from(priority) else {
        return invalid(format!("process.scheduler.priority is {priority}: it must be between 0 and 99"));
    };
    if priority != 0 && !real_time {
        return invalid(format!("process.scheduler.priority is of SCHED_FIFO and SCHED_RR, not of {policy}"));
    }
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0));
    if times != [0; 3] && policy != P::SchedDeadline {
        return invalid(format!("process.scheduler.runtime, deadline and period are of SCHED_DEADLINE, not of {policy}"));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | scheduler_flag(*flag));
    let [runtime, deadline, period] = times;
    // Policies of include/uapi/linux/sched.h.
    let policy = match policy {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    Ok(call::Attributes { policy, flags, nice, priority, runtime, deadline, period, ..call::Attributes::default() })
}

fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

fn memory(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Error> {
    // Modes and flags of include/uapi/linux/mempolicy.h.
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let nodes = policy.nodes().as_deref().filter(|text| !text.is_empty());
    let nodes = nodes.map(|text| list(text, "linux.memoryPolicy.nodes")).transpose()?.unwrap_or_default();
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

fn domain(personality: &LinuxPersonality) -> Result<u32, Error> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::Unsupported(format!("linux.personality.flags: \"{flag}\"")));
    }
    // `PER_LINUX` and `PER_LINUX32`.
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// `0-3,7` as a bit mask, lowest first.
fn list(text: &str, field: &str) -> Result<Vec<u64>, Error> {
    let mut mask = Vec::new();
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number <= HIGHEST);
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
        let Some((first, last)) = range else {
            return Err(Error::Invalid(format!("{field} is \"{text}\": expected numbers up to {HIGHEST} and ranges of them, such as 0-3,7")));
        };
        mask.resize(mask.len().max(last as usize / 64 + 1), 0);
        for number in first..=last {
            mask[number as usize / 64] |= 1 << (number % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::{Attributes, list};
    use oci_spec::runtime::{Process, Spec};
    use serde_json::{Value, json};

    fn compile(process: Value, linux: Value) -> Result<Attributes, String> {
        let mut own = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"]});
        own.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
        let own: Process = serde_json::from_value(own).unwrap();
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.2.0", "linux": linux})).unwrap();
        Attributes::compile(&own, &spec, Some(&own)).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_become_masks() {
        assert_eq!(list("0-3,7", "f").unwrap(), [0x8f]);
        assert_eq!(list("64,1", "f").unwrap(), [2, 1]);
        for bad in ["", "3-1", "a", "1,,2", "99999", "-1", "1-"] {
            assert!(list(bad, "f").unwrap_err().to_string().starts_with("f is \""), "{bad}");
        }
    }

    #[test]
    fn fields_are_compiled() {
        let made = compile(
            json!({
                "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7},
                "scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3},
                "execCPUAffinity": {"initial": "1", "final": "0"},
            }),
            json!({"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}}),
        )
        .unwrap();
        let scheduler = made.scheduler.unwrap();
        assert_eq!((scheduler.policy, scheduler.runtime, scheduler.deadline, scheduler.period), (6, 1, 2, 3));
        assert_eq!((made.io_priority, made.personality), (Some((3, 7)), Some(8)));
        assert_eq!((made.initial, made.last), (Some(vec![2]), Some(vec![1])));
        let memory = made.memory.unwrap();
        assert_eq!((memory.mode, memory.nodes), (2 | 1 << 15, vec![1]));
        assert_eq!(compile(json!({}), json!({})), Ok(Attributes::default()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (field, value) in [
            ("process.ioPriority.priority", json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}})),
            ("process.scheduler.nice", json!({"scheduler": {"policy": "SCHED_OTHER", "nice": 20}})),
            ("process.scheduler.priority", json!({"scheduler": {"policy": "SCHED_OTHER", "priority": 1}})),
            ("process.scheduler.priority", json!({"scheduler": {"policy": "SCHED_RR", "priority": 100}})),
            ("process.scheduler.runtime", json!({"scheduler": {"policy": "SCHED_FIFO", "period": 1}})),
            ("process.execCPUAffinity.final", json!({"execCPUAffinity": {"final": "9-1"}})),
        ] {
            let error = compile(value, json!({})).unwrap_err();
            assert!(error.starts_with(field), "{field}: {error}");
        }
        let error = compile(json!({}), json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}})).unwrap_err();
        assert!(error.contains("linux.personality.flags: \"ADDR_NO_RANDOMIZE\""), "{error}");
        let error = compile(json!({}), json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "x"}})).unwrap_err();
        assert!(error.starts_with("linux.memoryPolicy.nodes"), "{error}");
    }
}
