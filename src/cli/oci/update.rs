//! `update`.

use super::{Context, parse};
use crate::base::ByteSize;
use crate::base::fs::Context as _;
use crate::cli::failure::Failure;
use clap::Parser;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxIntelRdt, LinuxMemory, LinuxPids, LinuxResources};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest document of `--resources`, in bytes.
const LIMIT: u64 = 1 << 20;

/// Change the limits of a container; what is not given stays as it is.
#[derive(Parser, Debug)]
struct Update {
    /// File with resources in the config's form, "-" for stdin; the flags below are not taken then
    #[arg(short = 'r', long, value_name = "FILE")]
    resources: Option<PathBuf>,
    #[command(flatten)]
    limits: Limits,
    /// Share of the L3 cache (Intel RDT), as L3:0=ff;1=ff; beside --resources, too
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Share of the memory bandwidth (Intel RDT), as MB:0=50;1=50; beside --resources, too
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    id: String,
}

/// A single limit a flag.
#[derive(clap::Args, Debug, Default, PartialEq)]
struct Limits {
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Period of the CPU quota in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// CPU time in a period in microseconds; -1 for no limit
    #[arg(long, value_name = "USEC")]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up beyond the quota, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// CPU shares relative to other containers
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Period of realtime tasks in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// CPU time of realtime tasks in a period in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else wants the CPU; 0: normal
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// CPUs to use, as 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit in bytes (with b, k, m or g); -1 for none
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for none
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// Largest number of processes; -1 for no limit, 0 leaves it
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
}

pub fn update(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Update = parse("update", args)?;
    let mut container = context.open(&flags.id)?;
    let resources = match &flags.resources {
        Some(_) if flags.limits != Limits::default() => return Err(Failure::invalid("give --resources or single limits, not both")),
        Some(path) => read(path)?,
        None => resources(&flags.limits)?,
    };
    container.update(&swapless(resources))?;
    if flags.l3_cache_schema.is_some() || flags.mem_bw_schema.is_some() {
        let mut shares = LinuxIntelRdt::default();
        shares.set_l3_cache_schema(flags.l3_cache_schema).set_mem_bw_schema(flags.mem_bw_schema);
        container.update_classes(shares)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<LinuxResources, Failure> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(LIMIT).read_to_end(&mut text).map_err(|error| Failure::caused("cannot read the resources from stdin", &error))?;
    } else {
        std::fs::File::open(path).on("open", path)?.take(LIMIT).read_to_end(&mut text).on("read", path)?;
    }
    serde_json::from_slice(&text).map_err(|error| Failure::caused(format!("cannot read the resources of --resources {}", path.display()), &error))
}

fn resources(limits: &Limits) -> Result<LinuxResources, Failure> {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(limits.cpu_period).set_quota(limits.cpu_quota).set_burst(limits.cpu_burst).set_shares(limits.cpu_share);
    cpu.set_realtime_period(limits.cpu_rt_period).set_realtime_runtime(limits.cpu_rt_runtime).set_idle(limits.cpu_idle);
    cpu.set_cpus(limits.cpuset_cpus.clone()).set_mems(limits.cpuset_mems.clone());
    let mut memory = LinuxMemory::default();
    memory.set_limit(size("memory", limits.memory.as_deref())?);
    memory.set_reservation(size("memory-reservation", limits.memory_reservation.as_deref())?);
    memory.set_swap(size("memory-swap", limits.memory_swap.as_deref())?);
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    if memory != LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    if let Some(weight) = limits.blkio_weight {
        let mut block = LinuxBlockIo::default();
        block.set_weight(Some(weight));
        resources.set_block_io(Some(block));
    }
    if let Some(limit) = limits.pids_limit.filter(|limit| *limit != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn size(flag: &str, text: Option<&str>) -> Result<Option<i64>, Failure> {
    match text {
        None => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => {
            let size: ByteSize = text.parse().map_err(|error| Failure::invalid(format!("invalid --{flag}: {error}")))?;
            i64::try_from(size.0).map(Some).map_err(|_| Failure::invalid(format!("invalid --{flag} {text}: too large")))
        }
    }
}

/// No limit on memory with none given for swap means none on both, as `runc` has it.
fn swapless(mut resources: LinuxResources) -> LinuxResources {
    if let Some(mut memory) = *resources.memory()
        && memory.limit() == Some(-1)
        && memory.swap().is_none()
    {
        memory.set_swap(Some(-1));
        resources.set_memory(Some(memory));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<serde_json::Value, Failure> {
        let words: Vec<OsString> = words.iter().chain(&["id"]).map(OsString::from).collect();
        let flags: Update = parse("update", &words)?;
        Ok(serde_json::to_value(swapless(resources(&flags.limits)?)).unwrap())
    }

    #[test]
    fn every_flag_sets_its_limit() {
        for (words, expected) in [
            (&["--blkio-weight", "20"][..], serde_json::json!({"blockIO": {"weight": 20}})),
            (&["--cpu-period=100000", "-cpu-quota", "-1"], serde_json::json!({"cpu": {"period": 100_000, "quota": -1}})),
            (&["--cpu-burst", "5", "--cpu-share", "9"], serde_json::json!({"cpu": {"burst": 5, "shares": 9}})),
            (&["--cpu-rt-period", "7", "--cpu-rt-runtime", "6"], serde_json::json!({"cpu": {"realtimePeriod": 7, "realtimeRuntime": 6}})),
            (&["--cpu-idle", "1"], serde_json::json!({"cpu": {"idle": 1}})),
            (&["--cpuset-cpus", "0-1", "--cpuset-mems", "0"], serde_json::json!({"cpu": {"cpus": "0-1", "mems": "0"}})),
            (&["--memory", "10m", "--memory-swap", "-1"], serde_json::json!({"memory": {"limit": 10 << 20, "swap": -1}})),
            (&["--memory-reservation", "5000000"], serde_json::json!({"memory": {"reservation": 5_000_000}})),
            (&["--memory", "-1"], serde_json::json!({"memory": {"limit": -1, "swap": -1}})),
            (&["--pids-limit", "5"], serde_json::json!({"pids": {"limit": 5}})),
            (&["--pids-limit", "0"], serde_json::json!({})),
        ] {
            assert_eq!(read(words).unwrap(), expected, "{words:?}");
        }
        for bad in [&["--memory", "x"][..], &["--memory", "-2"], &["--cpu-share", "-1"], &["--blkio-weight", "70000"], &["--bogus"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
