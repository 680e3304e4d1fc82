//! From the files of v1 and v2 groups into [`FullStats`]. A file that this kernel does not have counts nothing.

use super::{Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, FullStats, Hugetlb, Memory, MemoryEntry, Pids, Pressure, Rdma, RdmaEntry, Stall, Throttling};
use crate::runtime::cgroup::Error;
use crate::runtime::cgroup::files::{Files, keyed};
use crate::runtime::cgroup::place::Place;
use std::collections::BTreeMap;
use std::fs;

impl Place<'_> {
    /// # Errors
    /// The group is gone.
    pub(in super::super) fn full_stats(&self) -> Result<FullStats, Error> {
        let tracking = self.tracking()?;
        tracking.get("cgroup.procs")?;
        let counted = |controller: &str| self.home(controller).filter(|(files, _)| files.dir.exists());
        let mut stats = FullStats { cpu: self.full_cpu(), ..FullStats::default() };
        match counted("cpuset") {
            Some((files, true)) => {
                stats.cpuset.cpus = list(&files, "cpuset.cpus.effective");
                stats.cpuset.mems = list(&files, "cpuset.mems.effective");
            }
            Some((files, false)) => stats.cpuset = cpuset(&files),
            None => {}
        }
        match counted("memory") {
            Some((files, true)) => stats.memory = memory_v2(&files),
            Some((files, false)) => stats.memory = memory_v1(&files),
            None => {}
        }
        stats.pids = match counted("pids") {
            Some((files, _)) => Pids { current: files.number("pids.current").unwrap_or(0), limit: files.number("pids.max").unwrap_or(0) },
            None => Pids { current: super::super::control::pids(&tracking)?.len() as u64, limit: 0 },
        };
        match counted("blkio") {
            Some((files, true)) => stats.blkio = io_v2(&files.get("io.stat").unwrap_or_default()),
            Some((files, false)) => stats.blkio = io_v1(&files),
            None => {}
        }
        if let Some((files, unified)) = counted("hugetlb") {
            stats.hugetlb = hugetlb(&files, unified);
        }
        if let Some((files, _)) = counted("rdma") {
            let entries = |file: &str| rdma(&files.get(file).unwrap_or_default());
            stats.rdma = Rdma { rdma_limit: entries("rdma.max"), rdma_current: entries("rdma.current") };
        }
        if let Some(files) = self.unified() {
            let pressure = |file: &str| files.get(file).ok().as_deref().and_then(pressure);
            stats.cpu.psi = pressure("cpu.pressure");
            stats.memory.psi = pressure("memory.pressure");
            stats.blkio.psi = pressure("io.pressure");
        }
        Ok(stats)
    }

    fn full_cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        match self.home("cpuacct").filter(|(files, _)| files.dir.exists()) {
            Some((files, false)) => {
                let each = |file: &str| numbers(&files.get(file).unwrap_or_default());
                let number = |file: &str| files.number(file).unwrap_or(0);
                cpu.usage = CpuUsage {
                    total: number("cpuacct.usage"),
                    percpu: each("cpuacct.usage_percpu"),
                    percpu_kernel: each("cpuacct.usage_percpu_sys"),
                    percpu_user: each("cpuacct.usage_percpu_user"),
                    kernel: number("cpuacct.usage_sys"),
                    user: number("cpuacct.usage_user"),
                };
            }
            // Every v2 group counts CPU time, controller or not.
            _ => {
                let text = self.unified().and_then(|files| files.get("cpu.stat").ok()).unwrap_or_default();
                let nanoseconds = |key| keyed(&text, key).unwrap_or(0).saturating_mul(1000);
                (cpu.usage.total, cpu.usage.kernel, cpu.usage.user) =
                    (nanoseconds("usage_usec"), nanoseconds("system_usec"), nanoseconds("user_usec"));
            }
        }
        if let Some((files, unified)) = self.home("cpu") {
            let text = files.get("cpu.stat").unwrap_or_default();
            let number = |key| keyed(&text, key).unwrap_or(0);
            let throttled = if unified { number("throttled_usec").saturating_mul(1000) } else { number("throttled_time") };
            cpu.throttling = Throttling { periods: number("nr_periods"), throttled_periods: number("nr_throttled"), throttled_time: throttled };
        }
        cpu
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `0-3,7` as numbers.
fn list(files: &Files<'_>, file: &str) -> Vec<u16> {
    let text = files.get(file).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn cpuset(files: &Files<'_>) -> Cpuset {
    let number = |name: &str| files.number(&format!("cpuset.{name}")).unwrap_or(0);
    Cpuset {
        cpus: list(files, "cpuset.cpus"),
        cpu_exclusive: number("cpu_exclusive"),
        mems: list(files, "cpuset.mems"),
        mem_hardwall: number("mem_hardwall"),
        mem_exclusive: number("mem_exclusive"),
        memory_migrate: number("memory_migrate"),
        memory_spread_page: number("memory_spread_page"),
        memory_spread_slab: number("memory_spread_slab"),
        memory_pressure: number("memory_pressure"),
        sched_load_balance: number("sched_load_balance"),
        sched_relax_domain_level: files.get("cpuset.sched_relax_domain_level").ok().and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}

/// The `key value` lines of `memory.stat`.
fn raw(files: &Files<'_>) -> BTreeMap<String, u64> {
    let text = files.get("memory.stat").unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn memory_v1(files: &Files<'_>) -> Memory {
    let entry = |name: &str| {
        let number = |what: &str| files.number(&format!("memory{name}.{what}")).unwrap_or(0);
        MemoryEntry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
        }
    };
    let raw = raw(files);
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry(""),
        swap: entry(".memsw"),
        kernel: entry(".kmem"),
        kernel_tcp: entry(".kmem.tcp"),
        raw,
        psi: None,
    }
}

fn memory_v2(files: &Files<'_>) -> Memory {
    let number = |file: &str| files.number(file).unwrap_or(0);
    // "max" is no number; a file that is missing is no limit known of.
    let limit = |file: &str| if files.has(file) { files.number(file).unwrap_or(u64::MAX) } else { 0 };
    let raw = raw(files);
    let usage = MemoryEntry {
        limit: limit("memory.max"),
        usage: number("memory.current"),
        max: number("memory.peak"),
        failcnt: files.keyed("memory.events", "max").unwrap_or(0),
    };
    let swap = MemoryEntry {
        limit: limit("memory.swap.max").saturating_add(usage.limit),
        usage: number("memory.swap.current").saturating_add(usage.usage),
        max: 0,
        failcnt: files.keyed("memory.swap.events", "fail").unwrap_or(0),
    };
    let kernel = MemoryEntry { usage: raw.get("kernel").copied().unwrap_or(0), ..MemoryEntry::default() };
    let kernel_tcp = MemoryEntry { usage: raw.get("sock").copied().unwrap_or(0), ..MemoryEntry::default() };
    Memory { cache: raw.get("file").copied().unwrap_or(0), usage, swap, kernel, kernel_tcp, raw, psi: None }
}

fn io_v1(files: &Files<'_>) -> Blkio {
    let entries = |file: &str| files.get(&format!("blkio.{file}")).map(|text| table(&text)).unwrap_or_default();
    // The BFQ scheduler counts for devices that it serves, the throttling layer for all.
    let either = |name: &str| {
        let bfq = entries(&format!("bfq.{name}_recursive"));
        if bfq.is_empty() { entries(&format!("throttle.{name}_recursive")) } else { bfq }
    };
    Blkio {
        io_service_bytes_recursive: either("io_service_bytes"),
        io_serviced_recursive: either("io_serviced"),
        io_queued_recursive: entries("bfq.io_queued_recursive"),
        io_service_time_recursive: entries("bfq.io_service_time_recursive"),
        io_wait_time_recursive: entries("bfq.io_wait_time_recursive"),
        io_merged_recursive: entries("bfq.io_merged_recursive"),
        io_time_recursive: entries("bfq.time_recursive"),
        sectors_recursive: entries("bfq.sectors_recursive"),
        psi: None,
    }
}

/// Lines `major:minor [operation] value`; the `Total` over all devices is left out.
fn table(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (second, third) = (words.next()?, words.next());
        let (op, value) = third.map_or(("", second), |value| (second, value));
        Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// `io.stat` in v1's tables.
fn io_v2(text: &str) -> Blkio {
    let mut io = Blkio::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|word| word.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (table, op) = match key {
                "rbytes" => (&mut io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut io.io_service_bytes_recursive, "Write"),
                "rios" => (&mut io.io_serviced_recursive, "Read"),
                "wios" => (&mut io.io_serviced_recursive, "Write"),
                _ => continue,
            };
            table.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    io
}

/// Every page size that has files. Reservations, where the kernel counts them, are what is limited.
fn hugetlb(files: &Files<'_>, unified: bool) -> BTreeMap<String, Hugetlb> {
    let names = fs::read_dir(&files.dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| Some(name.strip_prefix("hugetlb.")?.split_once('.')?.0.to_owned());
    let mut sizes: Vec<String> = names.filter_map(size).collect();
    sizes.sort();
    sizes.dedup();
    let entry = |size: String| {
        let usage = if unified { "current" } else { "usage_in_bytes" };
        let prefix = format!("hugetlb.{size}");
        let prefix = if files.has(&format!("{prefix}.rsvd.{usage}")) { format!("{prefix}.rsvd") } else { prefix };
        let number = |what: &str| files.number(&format!("{prefix}.{what}")).unwrap_or(0);
        let failcnt = if unified { files.keyed(&format!("hugetlb.{size}.events"), "max").unwrap_or(0) } else { number("failcnt") };
        let max = if unified { 0 } else { number("max_usage_in_bytes") };
        (size, Hugetlb { usage: number(usage), max, failcnt })
    };
    sizes.into_iter().map(entry).collect()
}

/// Lines `device hca_handle=2 hca_object=max`.
fn rdma(text: &str) -> Vec<RdmaEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            // Unlimited is the largest number of the file's own kind.
            let value = if value == "max" { u64::from(u32::MAX) } else { value.parse().ok()? };
            match key {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        Some(entry)
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. None: not a kernel, or not a state, with pressure information.
fn pressure(text: &str) -> Option<Pressure> {
    let stall = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let average = |key: &str| field(key).and_then(|value| value.parse().ok()).unwrap_or_default();
        Some(Stall {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: field("total").and_then(|value| value.parse().ok()).unwrap_or_default(),
        })
    };
    Some(Pressure { some: stall("some")?, full: stall("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::hierarchy::{Layout, Legacy, Mount};
    use serde_json::json;
    use std::path::PathBuf;

    /// A directory of files that goes when the test ends.
    struct Dir(PathBuf);

    impl Dir {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!("rcon-stats-{}", crate::base::random_hex(16)));
            fs::create_dir_all(dir.join("x")).unwrap();
            for (file, text) in files {
                fs::write(dir.join("x").join(file), text).unwrap();
            }
            Dir(dir)
        }

        fn mount(&self) -> Mount {
            Mount { base: self.0.clone(), root: "/".to_owned() }
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn v2_files_are_shown_as_runc_shows_them() {
        let dir = Dir::new(&[
            ("cgroup.procs", "1\n"),
            ("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma"),
            ("cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
            ("cpuset.cpus.effective", "0-1,3\n"),
            ("cpuset.mems.effective", "0\n"),
            ("memory.stat", "anon 1\nfile 300\nkernel 40\nsock 5\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.peak", "1100\n"),
            ("memory.events", "low 0\nmax 6\noom 0\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "50\n"),
            ("pids.current", "2\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=3 wbytes=0 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "1\n"),
            ("hugetlb.2MB.rsvd.current", "2\n"),
            ("hugetlb.2MB.events", "max 4\n"),
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n"),
            ("rdma.current", ""),
        ]);
        let layout = Layout { v2: Some(dir.mount()), legacy: Vec::new() };
        let stats = Place::new(&layout, "/x").full_stats().unwrap();
        let stall = |avg10: f64, total: u64| json!({"avg10": avg10, "avg60": 0.0, "avg300": 0.0, "total": total});
        let none = json!({"limit": 0, "failcnt": 0});
        assert_eq!(
            serde_json::to_value(&stats).unwrap(),
            json!({
                "cpu": {
                    "usage": {"total": 7000, "kernel": 3000, "user": 4000},
                    "throttling": {"periods": 9, "throttledPeriods": 2, "throttledTime": 5000},
                    "psi": {"some": stall(1.5, 12), "full": stall(0.0, 3)},
                },
                "cpuset": {
                    "cpus": [0, 1, 3], "cpu_exclusive": 0, "mems": [0], "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                    "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0, "sched_relax_domain_level": 0,
                },
                "memory": {
                    "cache": 300,
                    "usage": {"limit": u64::MAX, "usage": 1000, "max": 1100, "failcnt": 6},
                    "swap": {"limit": u64::MAX, "usage": 1010, "failcnt": 0},
                    "kernel": {"limit": 0, "usage": 40, "failcnt": 0},
                    "kernelTCP": {"limit": 0, "usage": 5, "failcnt": 0},
                    "raw": {"anon": 1, "file": 300, "kernel": 40, "sock": 5},
                },
                "pids": {"current": 2},
                "blkio": {
                    "ioServiceBytesRecursive": [{"major": 8, "op": "Read", "value": 3}, {"major": 8, "op": "Write"}],
                    "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}],
                },
                "hugetlb": {"2MB": {"usage": 2, "failcnt": 4}},
                "rdma": {"rdma_limit": [{"device": "mlx4_0", "hca_handles": 2, "hca_objects": u32::MAX}]},
                "intel_rdt": {},
                "network_interfaces": null,
            })
        );
        assert_eq!(serde_json::to_value(MemoryEntry::default()).unwrap(), none);
    }

    #[test]
    fn v1_files_are_shown_as_runc_shows_them() {
        let cpu = Dir::new(&[
            ("cgroup.procs", "1\n"),
            ("cpuacct.usage", "9\n"),
            ("cpuacct.usage_percpu", "4 5 \n"),
            ("cpuacct.usage_sys", "1\n"),
            ("cpuacct.usage_user", "8\n"),
            ("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n"),
        ]);
        let memory = Dir::new(&[
            ("memory.stat", "cache 7\nrss 8\n"),
            ("memory.usage_in_bytes", "20\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.max_usage_in_bytes", "30\n"),
            ("memory.failcnt", "1\n"),
            ("memory.kmem.tcp.usage_in_bytes", "4\n"),
        ]);
        let blkio = Dir::new(&[
            ("blkio.throttle.io_service_bytes_recursive", "254:1 Read 32\n254:1 Total 32\nTotal 32\n"),
            ("blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
            ("blkio.bfq.sectors_recursive", "8:0 5\n"),
        ]);
        let legacy = |names: &[&str], dir: &Dir| Legacy { controllers: names.iter().map(ToString::to_string).collect(), mount: dir.mount() };
        let layout = Layout { v2: None, legacy: vec![legacy(&["cpu", "cpuacct"], &cpu), legacy(&["memory"], &memory), legacy(&["blkio"], &blkio)] };
        let stats = Place::new(&layout, "/x").full_stats().unwrap();
        assert_eq!(stats.cpu.usage, CpuUsage { total: 9, percpu: vec![4, 5], kernel: 1, user: 8, ..CpuUsage::default() });
        assert_eq!(stats.cpu.throttling, Throttling { periods: 1, throttled_periods: 2, throttled_time: 3 });
        assert_eq!(stats.memory.usage, MemoryEntry { limit: 9_223_372_036_854_771_712, usage: 20, max: 30, failcnt: 1 });
        assert_eq!((stats.memory.cache, stats.memory.kernel_tcp.usage, stats.pids.current), (7, 4, 1));
        let entry = |op: &str, value| BlkioEntry { major: 254, minor: 1, op: op.to_owned(), value };
        assert_eq!(stats.blkio.io_service_bytes_recursive, [entry("Read", 32), entry("Total", 32)]);
        assert_eq!(stats.blkio.sectors_recursive, [BlkioEntry { major: 8, value: 5, ..BlkioEntry::default() }]);
        assert!(Place::new(&layout, "/gone").full_stats().is_err());
    }
}
