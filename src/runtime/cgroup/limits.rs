//! Which controllers a set of limits needs, and the limits of one controller written into a v1 or v2 group.
//!
//! Every writer also serves a live update: it orders writes so that no intermediate state contradicts itself.

use super::files::Files;
use super::{Error, convert};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::io;

/// Controllers (by their v1 names) that `resources` puts a limit on. Without `live`, a limit that says "none" needs nothing,
/// for that is what a new group has.
pub(super) fn demanded(resources: &LinuxResources, live: bool) -> Vec<&'static str> {
    let mut controllers = Vec::new();
    let counts = |limit: Option<i64>| limit.is_some_and(|limit| limit > 0 || (live && limit < 0));
    if let Some(memory) = resources.memory() {
        let limits = [memory.limit(), memory.reservation(), memory.swap(), memory.kernel_tcp()];
        if limits.into_iter().any(counts) || memory.swappiness().is_some() || memory.disable_oom_killer() == Some(true) {
            controllers.push("memory");
        }
    }
    if let Some(cpu) = resources.cpu() {
        let unsigned = [cpu.shares(), cpu.period(), cpu.burst(), cpu.realtime_period()];
        let signed = [cpu.quota(), cpu.realtime_runtime()];
        let set = unsigned.into_iter().flatten().any(|value| value != 0) || signed.into_iter().any(counts);
        if set || cpu.idle().is_some_and(|idle| idle != 0 || live) {
            controllers.push("cpu");
        }
        if [cpu.cpus(), cpu.mems()].into_iter().flatten().any(|list| !list.is_empty()) {
            controllers.push("cpuset");
        }
    }
    if resources.pids().is_some_and(|pids| counts(Some(pids.limit()))) {
        controllers.push("pids");
    }
    if resources.block_io().as_ref().is_some_and(limits_block_io) {
        controllers.push("blkio");
    }
    if resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty()) {
        controllers.push("hugetlb");
    }
    if let Some(network) = resources.network() {
        if network.class_id().is_some_and(|class| class != 0) {
            controllers.push("net_cls");
        }
        if network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty()) {
            controllers.push("net_prio");
        }
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        controllers.push("rdma");
    }
    controllers
}

/// Whether any limit is asked for at all.
pub(super) fn asks(resources: &LinuxResources) -> bool {
    !demanded(resources, false).is_empty() || resources.unified().as_ref().is_some_and(|unified| !unified.is_empty())
}

fn limits_block_io(io: &LinuxBlockIo) -> bool {
    let throttled = throttles(io).into_iter().any(|(_, _, list)| !list.is_empty());
    let weighted = io.weight_device().as_ref().is_some_and(|list| !list.is_empty());
    throttled || weighted || [io.weight(), io.leaf_weight()].into_iter().flatten().any(|weight| weight != 0)
}

/// The throttle lists with their v1 file and their key in `io.max`.
fn throttles(io: &LinuxBlockIo) -> [(&'static str, &'static str, &[LinuxThrottleDevice]); 4] {
    fn list(devices: &Option<Vec<LinuxThrottleDevice>>) -> &[LinuxThrottleDevice] {
        devices.as_deref().unwrap_or_default()
    }
    [
        ("blkio.throttle.read_bps_device", "rbps", list(io.throttle_read_bps_device())),
        ("blkio.throttle.write_bps_device", "wbps", list(io.throttle_write_bps_device())),
        ("blkio.throttle.read_iops_device", "riops", list(io.throttle_read_iops_device())),
        ("blkio.throttle.write_iops_device", "wiops", list(io.throttle_write_iops_device())),
    ]
}

/// Writes the limits of one controller; `unified` tells the v2 files from the v1 ones.
///
/// # Errors
/// The file and value that were refused, or an option that this kind of hierarchy cannot express.
pub(super) fn apply(files: &Files<'_>, controller: &str, resources: &LinuxResources, unified: bool) -> Result<(), Error> {
    match (controller, unified) {
        ("memory", true) => resources.memory().as_ref().map_or(Ok(()), |memory| memory_v2(files, memory)),
        ("memory", false) => resources.memory().as_ref().map_or(Ok(()), |memory| memory_v1(files, memory)),
        ("cpu", true) => resources.cpu().as_ref().map_or(Ok(()), |cpu| cpu_v2(files, cpu)),
        ("cpu", false) => resources.cpu().as_ref().map_or(Ok(()), |cpu| cpu_v1(files, cpu)),
        ("cpuset", _) => resources.cpu().as_ref().map_or(Ok(()), |cpu| cpuset(files, cpu)),
        ("pids", _) => match resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit) {
            None | Some(0) => Ok(()),
            Some(limit) => files.set("pids.max", &convert::limit(limit)),
        },
        ("blkio", true) => resources.block_io().as_ref().map_or(Ok(()), |io| io_v2(files, io)),
        ("blkio", false) => resources.block_io().as_ref().map_or(Ok(()), |io| io_v1(files, io)),
        ("hugetlb", _) => resources.hugepage_limits().iter().flatten().try_for_each(|limit| hugetlb(files, limit, unified)),
        ("rdma", _) => rdma(files, resources),
        (_, true) => Err(Error::Unsupported { option: "network class or priority", why: "cgroup v2 has no such controller" }),
        (_, false) => network_v1(files, resources),
    }
}

/// config-linux.md, *Memory*: "the limit in bytes, or -1 for unlimited memory"; another negative number is a mistake.
///
/// # Errors
/// [`Error::Invalid`]
pub(super) fn bytes_or_unlimited(resources: &LinuxResources) -> Result<(), Error> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    for (option, value) in [("memory limit", memory.limit()), ("memory reservation", memory.reservation()), ("swap limit", memory.swap())] {
        if let Some(value) = value.filter(|value| *value < -1) {
            return Err(Error::Invalid { option, value: value.to_string(), why: "expected a number of bytes, or -1 for unlimited" });
        }
    }
    Ok(())
}

/// A v1-only or obsolete memory option.
fn refuse(option: &'static str, asked: bool, why: &'static str) -> Result<(), Error> {
    if asked { Err(Error::Unsupported { option, why }) } else { Ok(()) }
}

/// `kernel` is not recommended by the specification, ineffective since Linux 5.16, and passed on by older callers all the same.
pub(super) fn disregard_kernel(group: &str, resources: &LinuxResources) {
    if resources.memory().as_ref().is_some_and(|memory| positive(memory.kernel())) {
        tracing::warn!(group, "the kernel memory limit has no effect: kernels since 5.16 have none");
    }
}

fn positive(limit: Option<i64>) -> bool {
    limit.is_some_and(|limit| limit > 0)
}

/// `checkBeforeUpdate`: a limit below what is in use is refused instead of enforced by killing.
pub(super) fn check_usage(files: &Files<'_>, memory: &LinuxMemory, unified: bool) -> Result<(), Error> {
    let usage_file = if unified { "memory.current" } else { "memory.usage_in_bytes" };
    let Some(limit) = memory.limit().filter(|limit| *limit > 0) else { return Ok(()) };
    match files.number(usage_file) {
        Some(usage) if memory.check_before_update() == Some(true) && usage > limit.unsigned_abs() => {
            Err(Error::BelowUsage { limit, usage, group: files.group.to_owned() })
        }
        _ => Ok(()),
    }
}

fn memory_v2(files: &Files<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    let gone = "cgroup v2 has no such limit";
    refuse("kernel TCP memory limit", positive(memory.kernel_tcp()), gone)?;
    refuse("memory swappiness", memory.swappiness().is_some(), gone)?;
    refuse("disabling the OOM killer", memory.disable_oom_killer() == Some(true), gone)?;
    check_usage(files, memory, true)?;
    // A swap total alone counts from the limit in force.
    let in_force = || files.number("memory.max").and_then(|limit| i64::try_from(limit).ok());
    let limit = memory.limit().filter(|limit| *limit != 0);
    let base = if positive(memory.swap()) { limit.or_else(in_force) } else { limit };
    if let Some(swap) = convert::swap_v2(base, memory.swap())? {
        match files.try_set("memory.swap.max", &swap) {
            // Without swap accounting, both are what the group has anyway.
            Err(error) if error.kind() == io::ErrorKind::NotFound && (swap == "max" || swap == "0") => {}
            other => other.map_err(|source| files.failed("memory.swap.max", &swap, source))?,
        }
    }
    if let Some(limit) = limit {
        files.set("memory.max", &convert::limit(limit))?;
    }
    match memory.reservation().filter(|reservation| *reservation != 0) {
        Some(reservation) => files.set("memory.low", &convert::limit(reservation)),
        None => Ok(()),
    }
}

fn memory_v1(files: &Files<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    check_usage(files, memory, false)?;
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = match memory.swap().filter(|swap| *swap != 0) {
        // Unlimited memory takes the swap limit with it.
        None if limit == Some(-1) && files.has("memory.memsw.limit_in_bytes") => Some(-1),
        other => other,
    };
    let set_limit = || limit.map_or(Ok(()), |limit| limit_v1(files, limit));
    let set_swap = || swap.map_or(Ok(()), |swap| swap_v1(files, limit, swap));
    // The kernel keeps the total at or above the limit at all times, so the one that makes room goes first.
    let current = files.number("memory.limit_in_bytes").unwrap_or(u64::MAX);
    if swap.is_some_and(|swap| swap < 0 || swap.unsigned_abs() >= current) {
        set_swap()?;
        set_limit()?;
    } else {
        set_limit()?;
        set_swap()?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        files.set("memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(limit) = memory.kernel_tcp().filter(|limit| *limit != 0) {
        files.set("memory.kmem.tcp.limit_in_bytes", &limit.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        files.set("memory.swappiness", &swappiness.to_string())?;
    }
    match memory.disable_oom_killer() {
        Some(disable) => files.set("memory.oom_control", if disable { "1" } else { "0" }),
        None => Ok(()),
    }
}

/// The kernel refuses a limit below what it cannot reclaim, with an error number that says nothing.
fn limit_v1(files: &Files<'_>, limit: i64) -> Result<(), Error> {
    let file = "memory.limit_in_bytes";
    match files.try_set(file, &limit.to_string()) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let usage = files.number("memory.usage_in_bytes").unwrap_or(0);
            Err(Error::BelowUsage { limit, usage, group: files.group.to_owned() })
        }
        other => other.map_err(|source| files.failed(file, &limit.to_string(), source)),
    }
}

/// The total of memory and swap. Without swap accounting only what Docker sets by itself (twice the limit), no swap at all and
/// no limit at all pass.
fn swap_v1(files: &Files<'_>, limit: Option<i64>, swap: i64) -> Result<(), Error> {
    let file = "memory.memsw.limit_in_bytes";
    match files.try_set(file, &swap.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let implied = swap < 0 || limit.is_some_and(|limit| swap == limit || Some(swap) == limit.checked_mul(2));
            if implied { Ok(()) } else { Err(files.failed(file, &swap.to_string(), error)) }
        }
        other => other.map_err(|source| files.failed(file, &swap.to_string(), source)),
    }
}

fn cpu_v2(files: &Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    let realtime = positive(cpu.realtime_runtime()) || cpu.realtime_period().is_some_and(|period| period != 0);
    refuse("real-time CPU limit", realtime, "cgroup v2 has no such limit")?;
    if let Some(idle) = cpu.idle() {
        files.set("cpu.idle", &idle.to_string())?;
    }
    // An idle group has the least weight and refuses another.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        files.set("cpu.weight", &convert::cpu_weight(shares).to_string())?;
    }
    let burst = cpu.burst().map(|burst| burst.to_string());
    let quota = cpu.quota().filter(|quota| *quota != 0).map(convert::limit);
    let period = cpu.period().filter(|period| *period != 0);
    let max = match (quota, period) {
        (None, None) => None,
        // One word keeps the period in force.
        (Some(quota), None) => Some(quota),
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (None, Some(period)) => {
            let text = files.get("cpu.max")?;
            Some(format!("{} {period}", text.split_whitespace().next().unwrap_or("max")))
        }
    };
    quota_and_burst(files, "cpu.max.burst", burst.as_deref(), || max.map_or(Ok(()), |max| files.set("cpu.max", &max)))
}

/// The burst must not exceed the quota: it is written after a quota that rises and before one that falls.
fn quota_and_burst(files: &Files<'_>, file: &str, burst: Option<&str>, quota: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let Some(burst) = burst else { return quota() };
    let early = files.try_set(file, burst);
    quota()?;
    match early {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => files.set(file, burst),
        other => other.map_err(|source| files.failed(file, burst, source)),
    }
}

fn cpu_v1(files: &Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle() {
        files.set("cpu.idle", &idle.to_string())?;
    }
    // As on v2.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        files.set("cpu.shares", &shares.to_string())?;
    }
    pair(files, ("cpu.rt_period_us", text(cpu.realtime_period())), ("cpu.rt_runtime_us", text(cpu.realtime_runtime())))?;
    let burst = text(cpu.burst());
    quota_and_burst(files, "cpu.cfs_burst_us", burst.as_deref(), || {
        pair(files, ("cpu.cfs_period_us", text(cpu.period())), ("cpu.cfs_quota_us", text(cpu.quota())))
    })
}

/// A number that is set, as text.
fn text<T: ToString + PartialEq + Default>(value: Option<T>) -> Option<String> {
    value.filter(|value| *value != T::default()).map(|value| value.to_string())
}

/// A period and the budget within it: a period that contradicts the old budget is tried again after the new one.
fn pair(files: &Files<'_>, period: (&str, Option<String>), budget: (&str, Option<String>)) -> Result<(), Error> {
    let mut again = None;
    if let (file, Some(value)) = &period {
        match files.try_set(file, value) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && budget.1.is_some() => again = Some((file, value)),
            other => other.map_err(|source| files.failed(file, value, source))?,
        }
    }
    if let (file, Some(value)) = &budget {
        files.set(file, value)?;
    }
    again.map_or(Ok(()), |(file, value)| files.set(file, value))
}

fn cpuset(files: &Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            files.set(file, list)?;
        }
    }
    Ok(())
}

fn io_v1(files: &Files<'_>, io: &LinuxBlockIo) -> Result<(), Error> {
    // The BFQ scheduler has its own files since the CFQ one left (5.0).
    let prefix = if files.has("blkio.weight") { "blkio" } else { "blkio.bfq" };
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        files.set(&format!("{prefix}.weight"), &weight.to_string())?;
    }
    if let Some(weight) = io.leaf_weight().filter(|weight| *weight != 0) {
        files.set("blkio.leaf_weight", &weight.to_string())?;
    }
    for device in io.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            files.set(&format!("{prefix}.weight_device"), &format!("{number} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
            files.set("blkio.leaf_weight_device", &format!("{number} {weight}"))?;
        }
    }
    for (file, _, devices) in throttles(io) {
        for device in devices {
            files.set(file, &format!("{}:{} {}", device.major(), device.minor(), device.rate()))?;
        }
    }
    Ok(())
}

fn io_v2(files: &Files<'_>, io: &LinuxBlockIo) -> Result<(), Error> {
    let leaf = io.weight_device().iter().flatten().filter_map(|device| device.leaf_weight()).chain(io.leaf_weight());
    refuse("block I/O leaf weight", leaf.into_iter().any(|weight| weight != 0), "cgroup v2 has no such weight")?;
    // BFQ takes the weight as it is; the cost model has another scale.
    let bfq = files.has("io.bfq.weight");
    let (file, scaled) = if bfq { ("io.bfq.weight", false) } else { ("io.weight", true) };
    let scale = |weight: u16| if scaled { convert::io_weight(weight) } else { u64::from(weight) };
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        files.set(file, &scale(weight).to_string())?;
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            files.set(file, &format!("{}:{} {}", device.major(), device.minor(), scale(weight)))?;
        }
    }
    for (_, key, devices) in throttles(io) {
        for device in devices {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            files.set("io.max", &format!("{}:{} {key}={rate}", device.major(), device.minor()))?;
        }
    }
    Ok(())
}

fn hugetlb(files: &Files<'_>, limit: &LinuxHugepageLimit, unified: bool) -> Result<(), Error> {
    let size = limit.page_size();
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Invalid { option: "huge page size", value: size.clone(), why: "expected a size like 2MB" });
    }
    let (suffix, value) = if unified { ("max", convert::limit(limit.limit())) } else { ("limit_in_bytes", limit.limit().to_string()) };
    files.set(&format!("hugetlb.{size}.{suffix}"), &value)?;
    let reserved = format!("hugetlb.{size}.rsvd.{suffix}");
    if files.has(&reserved) { files.set(&reserved, &value) } else { Ok(()) }
}

/// Only what is said is written: the other of the two stays as it is.
fn rdma(files: &Files<'_>, resources: &LinuxResources) -> Result<(), Error> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(device, _)| device.as_str());
    for (device, limits) in devices {
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        let parts = part("hca_handle", limits.hca_handles()) + &part("hca_object", limits.hca_objects());
        if parts.is_empty() {
            let why = "expected hcaHandles, hcaObjects or both";
            return Err(Error::Invalid { option: "RDMA limit of device", value: device.clone(), why });
        }
        files.set("rdma.max", &format!("{device}{parts}"))?;
    }
    Ok(())
}

fn network_v1(files: &Files<'_>, resources: &LinuxResources) -> Result<(), Error> {
    let Some(network) = resources.network() else { return Ok(()) };
    if let Some(class) = network.class_id().filter(|class| *class != 0 && files.has("net_cls.classid")) {
        files.set("net_cls.classid", &class.to_string())?;
    }
    if files.has("net_prio.ifpriomap") {
        for priority in network.priorities().iter().flatten() {
            files.set("net_prio.ifpriomap", &format!("{} {}", priority.name(), priority.priority()))?;
        }
    }
    Ok(())
}
