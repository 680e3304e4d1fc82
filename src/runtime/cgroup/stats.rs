//! What a group has used, read from whichever hierarchies it is in.

use super::Group;
use super::files::{Files, keyed};
use super::{Error, Place};
use serde::{Deserialize, Serialize};
use std::fs;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds of CPU used since the start.
    pub cpu_total: u64,
    pub cpu_user: u64,
    pub cpu_system: u64,
    pub throttled_periods: u64,
    /// Bytes, as Docker counts: usage minus inactive file cache.
    pub memory_usage: u64,
    /// Bytes; the host's memory when unlimited.
    pub memory_limit: u64,
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub block_read: u64,
    pub block_write: u64,
    /// Processes killed by the OOM killer in this group since its creation.
    pub oom_kills: u64,
    /// Where the kernel tells (pressure stall information, v2 groups).
    #[serde(default)]
    pub pressure: Option<Pressure>,
}

/// Percent of the last ten seconds in which at least one process had to wait (`Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    pub cpu: f64,
    pub memory: f64,
    pub io: f64,
}

impl Place<'_> {
    /// # Errors
    /// The group is gone.
    pub(super) fn stats(&self) -> Result<Stats, Error> {
        let tracking = self.tracking()?;
        tracking.get("cgroup.procs")?;
        let mut stats = Stats { oom_kills: self.oom_kills(), ..Stats::default() };
        self.cpu(&mut stats);
        self.memory(&tracking, &mut stats)?;
        self.processes(&tracking, &mut stats)?;
        self.block(&mut stats);
        stats.pressure = self.pressure();
        Ok(stats)
    }

    /// The group's files for a controller, in v1 or v2, if it is there.
    fn accounted(&self, controller: &str) -> Option<(Files<'_>, bool)> {
        let (files, unified) = self.home(controller)?;
        files.dir.exists().then_some((files, unified))
    }

    pub(super) fn oom_kills(&self) -> u64 {
        match self.accounted("memory") {
            Some((files, true)) => files.keyed("memory.events", "oom_kill").unwrap_or(0),
            Some((files, false)) => files.keyed("memory.oom_control", "oom_kill").unwrap_or(0),
            None => 0,
        }
    }

    /// None where the kernel was built or booted without it.
    fn pressure(&self) -> Option<Pressure> {
        let files = self.unified()?;
        let average = |file: &str| some_average(&files.get(file).ok()?);
        Some(Pressure { cpu: average("cpu.pressure")?, memory: average("memory.pressure")?, io: average("io.pressure")? })
    }

    fn cpu(&self, stats: &mut Stats) {
        // Every v2 group counts CPU time, controller or not.
        if let Some(text) = self.unified().and_then(|files| files.get("cpu.stat").ok()) {
            let nanoseconds = |key| keyed(&text, key).unwrap_or(0).saturating_mul(1000);
            stats.cpu_total = nanoseconds("usage_usec");
            stats.cpu_user = nanoseconds("user_usec");
            stats.cpu_system = nanoseconds("system_usec");
            stats.throttled_periods = keyed(&text, "nr_throttled").unwrap_or(0);
        } else if let Some((files, false)) = self.accounted("cpuacct") {
            stats.cpu_total = files.number("cpuacct.usage").unwrap_or(0);
            stats.cpu_user = files.number("cpuacct.usage_user").unwrap_or(0);
            stats.cpu_system = files.number("cpuacct.usage_sys").unwrap_or(0);
        }
        if let Some((files, false)) = self.accounted("cpu") {
            stats.throttled_periods = files.keyed("cpu.stat", "nr_throttled").unwrap_or(0);
        }
    }

    fn memory(&self, tracking: &Files<'_>, stats: &mut Stats) -> Result<(), Error> {
        let (used, cache, limit) = match self.accounted("memory") {
            Some((files, true)) => (files.number("memory.current"), files.keyed("memory.stat", "inactive_file"), files.number("memory.max")),
            Some((files, false)) => {
                (files.number("memory.usage_in_bytes"), files.keyed("memory.stat", "total_inactive_file"), files.number("memory.limit_in_bytes"))
            }
            // Not accounted (yet): what the processes have resident and do not share with files.
            None => (Some(super::control::pids(tracking)?.into_iter().map(resident).sum()), None, None),
        };
        stats.memory_usage = used.unwrap_or(0).saturating_sub(cache.unwrap_or(0));
        let host = rustix::system::sysinfo();
        let total = u64::from(host.mem_unit).saturating_mul(host.totalram);
        stats.memory_limit = limit.unwrap_or(total).min(total);
        if stats.memory_limit == total && self.accounted("memory").is_some_and(|(_, unified)| !unified) {
            // A v1 group without a limit was joined late (see `Group::join_accounting`), and what its processes had by then
            // stays with the group they came from.
            let resident = super::control::pids(tracking)?.into_iter().map(resident).sum();
            stats.memory_usage = stats.memory_usage.max(resident);
        }
        Ok(())
    }

    fn processes(&self, tracking: &Files<'_>, stats: &mut Stats) -> Result<(), Error> {
        let counted = self.accounted("pids").and_then(|(files, _)| Some((files.number("pids.current")?, files.number("pids.max"))));
        (stats.pids, stats.pids_limit) = match counted {
            Some(counted) => counted,
            None => (super::control::pids(tracking)?.len() as u64, None),
        };
        Ok(())
    }

    fn block(&self, stats: &mut Stats) {
        let Some((files, unified)) = self.accounted("blkio") else { return };
        if unified {
            let text = files.get("io.stat").unwrap_or_default();
            (stats.block_read, stats.block_write) = (sum(&text, "rbytes="), sum(&text, "wbytes="));
        } else {
            let recursive = files.get("blkio.throttle.io_service_bytes_recursive");
            let text = recursive.or_else(|_| files.get("blkio.throttle.io_service_bytes")).unwrap_or_default();
            (stats.block_read, stats.block_write) = (sum(&text, "Read "), sum(&text, "Write "));
        }
    }
}

/// Adds up the number behind each `mark` (`8:0 Read 123`, `8:0 rbytes=123 …`).
fn sum(text: &str, mark: &str) -> u64 {
    let number = |line: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(number).sum()
}

/// `some avg10=0.12 avg60=…`.
fn some_average(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// Bytes of anonymous memory that a process has resident; zero for one that is gone.
fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = text.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared).saturating_mul(rustix::param::page_size() as u64)
}

impl Group {
    /// What the group has used. Before [`Group::join_accounting`] on a v1 host, memory is an estimate and block I/O is zero.
    ///
    /// # Errors
    /// The group is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.place()?.stats()
    }

    /// OOM kills so far (cheap; used at exit).
    pub fn oom_kills(&self) -> u64 {
        self.place().map_or(0, |place| place.oom_kills())
    }
}

#[cfg(test)]
mod tests {
    use super::{some_average, sum};

    #[test]
    fn pressure_is_the_average_of_ten_seconds() {
        let text = "some avg10=1.25 avg60=0.50 avg300=0.00 total=12\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=3\n";
        assert_eq!(some_average(text), Some(1.25));
        assert_eq!(some_average(""), None);
    }

    #[test]
    fn block_counters_are_added_over_devices() {
        let v1 = "8:0 Read 10\n8:0 Write 5\n8:0 Sync 1\n254:0 Read 32\nTotal 47";
        assert_eq!((sum(v1, "Read "), sum(v1, "Write ")), (42, 5));
        let v2 = "8:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=0\n254:0 rbytes=32 wbytes=0";
        assert_eq!((sum(v2, "rbytes="), sum(v2, "wbytes=")), (42, 5));
    }
}
