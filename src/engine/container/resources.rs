//! Limits: what this host has, and Docker's resource flags as an OCI `resources` section.

use super::super::{Error, Result};
use crate::state::record::Resources;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Docker's period for `--cpus`, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// More CPUs than any kernel can be built for: bounds the list that a range may make.
const SET_LIMIT: u32 = 8192;
/// `statfs` type of a cgroup v2 tree, statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// What of the host decides how limits are checked and written.
#[derive(Debug, Clone)]
pub(in crate::engine) struct HostFacts {
    pub cpus: u64,
    pub cpu_set: BTreeSet<u32>,
    pub mem_set: BTreeSet<u32>,
    /// The kernel can limit memory plus swap.
    pub swap_accounting: bool,
    /// `/sys/fs/cgroup` is a cgroup v2 tree.
    pub unified: bool,
}

impl HostFacts {
    /// Reads them. What cannot be read counts as absent: limits that need it are then refused.
    pub(in crate::engine) fn read() -> Self {
        let set = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| parse_set(t.trim())).unwrap_or_default();
        let cpu_set = set("/sys/devices/system/cpu/online");
        let mem_set = set("/sys/devices/system/node/online");
        let unified = is_unified();
        let exists = |path: &str| Path::new(path).exists();
        HostFacts {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64).max(cpu_set.len() as u64),
            cpu_set,
            // A kernel without NUMA has node 0 and no such file.
            mem_set: if mem_set.is_empty() { [0].into() } else { mem_set },
            swap_accounting: unified || exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"),
            unified,
        }
    }
}

/// True on a pure cgroup v2 host.
pub(super) fn is_unified() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|t| t == CGROUP2_MAGIC))
}

/// `0-3,5` as a set; None when malformed, empty or absurdly large.
pub(super) fn parse_set(text: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last >= SET_LIMIT {
            return None;
        }
        set.extend(first..=last);
    }
    (!set.is_empty()).then_some(set)
}

/// The OCI section without device rules.
///
/// # Errors
/// A device path of a throttle is no block device.
pub(in crate::engine) fn section(r: &Resources, facts: &HostFacts) -> Result<LinuxResources> {
    let mut section = LinuxResources::default();
    section.set_devices(None).set_memory(memory(r, facts)?).set_cpu(cpu(r)?).set_block_io(block_io(r)?);
    section.set_pids(r.pids_limit.filter(|limit| *limit > 0).map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    Ok(section)
}

fn bytes(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::invalid(format!("{value} bytes are too many")))
}

fn memory(r: &Resources, facts: &HostFacts) -> Result<Option<LinuxMemory>> {
    let empty = LinuxMemory::default();
    let mut memory = empty;
    memory.set_limit(r.memory.map(bytes).transpose()?);
    memory.set_reservation(r.memory_reservation.map(bytes).transpose()?);
    let swap = match (r.memory, r.memory_swap) {
        // 0 is "unset" in Docker's API.
        (Some(memory), None | Some(0)) => facts.swap_accounting.then(|| bytes(memory.saturating_mul(2))).transpose()?,
        (None, None | Some(0)) => None,
        (_, Some(swap)) => Some(swap),
    };
    memory.set_swap(swap);
    if !facts.unified {
        memory.set_swappiness(r.memory_swappiness);
        memory.set_disable_oom_killer(r.oom_kill_disable.then_some(true));
    }
    Ok((memory != empty).then_some(memory))
}

fn cpu(r: &Resources) -> Result<Option<LinuxCpu>> {
    let mut cpu = LinuxCpu::default();
    let empty = cpu.clone();
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    cpu.set_shares(r.cpu_shares.filter(|s| *s != 0)).set_cpus(text(&r.cpuset_cpus)).set_mems(text(&r.cpuset_mems));
    match r.nano_cpus {
        Some(nano) if nano != 0 => {
            let quota = u128::from(nano) * u128::from(CPU_PERIOD) / 1_000_000_000;
            cpu.set_period(Some(CPU_PERIOD)).set_quota(Some(i64::try_from(quota).map_err(|_| Error::invalid("--cpus is too large"))?));
        }
        _ => {
            cpu.set_period(r.cpu_period.filter(|p| *p != 0)).set_quota(r.cpu_quota.filter(|q| *q != 0));
        }
    }
    Ok((cpu != empty).then_some(cpu))
}

fn block_io(r: &Resources) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    let empty = io.clone();
    io.set_weight(r.blkio_weight.filter(|w| *w != 0));
    if !r.blkio_weight_device.is_empty() {
        io.set_weight_device(Some(weights(&r.blkio_weight_device)?));
    }
    if !r.device_read_bps.is_empty() {
        io.set_throttle_read_bps_device(Some(throttles(&r.device_read_bps)?));
    }
    if !r.device_write_bps.is_empty() {
        io.set_throttle_write_bps_device(Some(throttles(&r.device_write_bps)?));
    }
    if !r.device_read_iops.is_empty() {
        io.set_throttle_read_iops_device(Some(throttles(&r.device_read_iops)?));
    }
    if !r.device_write_iops.is_empty() {
        io.set_throttle_write_iops_device(Some(throttles(&r.device_write_iops)?));
    }
    Ok((io != empty).then_some(io))
}

fn weights(list: &[(String, u16)]) -> Result<Vec<LinuxWeightDevice>> {
    let weight = |(path, weight): &(String, u16)| {
        let (major, minor) = block_device(path)?;
        let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(*weight).build();
        Ok(device.expect("invariant: all fields that must be are given"))
    };
    list.iter().map(weight).collect()
}

/// Numbers of a block device of the host.
fn block_device(path: &str) -> Result<(i64, i64)> {
    let found = std::fs::metadata(path).map_err(|source| crate::base::fs::FsError { operation: "find device", path: path.into(), source })?;
    if !found.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path} is not a block device")));
    }
    Ok((i64::from(rustix::fs::major(found.rdev())), i64::from(rustix::fs::minor(found.rdev()))))
}

fn throttles(list: &[(String, u64)]) -> Result<Vec<LinuxThrottleDevice>> {
    list.iter()
        .map(|(path, rate)| {
            let (major, minor) = block_device(path)?;
            let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(*rate).build();
            Ok(device.expect("invariant: all fields are given"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_bounded() {
        assert_eq!(parse_set("0-2,5"), Some([0, 1, 2, 5].into()));
        for bad in ["", "a", "3-1", "0-4294967295", "-1", "1,,2"] {
            assert_eq!(parse_set(bad), None, "{bad}");
        }
    }

    #[test]
    fn swap_follows_memory_only_where_it_is_accounted() {
        let mut facts = HostFacts { cpus: 2, cpu_set: [0, 1].into(), mem_set: [0].into(), swap_accounting: true, unified: false };
        let r = Resources { memory: Some(100), ..Resources::default() };
        assert_eq!(memory(&r, &facts).unwrap().unwrap().swap(), Some(200));
        facts.swap_accounting = false;
        assert_eq!(memory(&r, &facts).unwrap().unwrap().swap(), None);
        let r = Resources { memory: Some(100), memory_swap: Some(-1), ..Resources::default() };
        assert_eq!(memory(&r, &facts).unwrap().unwrap().swap(), Some(-1));
        assert!(memory(&Resources::default(), &facts).unwrap().is_none());
    }

    #[test]
    fn cpus_are_a_quota_of_the_default_period() {
        let r = Resources { nano_cpus: Some(1_500_000_000), ..Resources::default() };
        let cpu = cpu(&r).unwrap().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
    }
}
