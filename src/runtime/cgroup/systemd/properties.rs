//! Resources as properties of a unit (`man 5 systemd.resource-control`). What systemd has no property for is written into
//! the group's files afterwards, like the rest; the properties keep systemd from setting the files back when it reloads.

use super::super::{Error, convert, devices};
use super::manager::Property;
use super::wire::Value;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// systemd's "no limit" (`UINT64_MAX`).
const INFINITY: u64 = u64::MAX;

/// The kernel's period where only a quota is given, in microseconds.
const PERIOD: u64 = 100_000;

/// Versions of systemd that brought a property (its NEWS).
const QUOTA_PERIOD_SINCE: u32 = 242;
const CPUSET_SINCE: u32 = 244;
const IDLE_SINCE: u32 = 252;

/// Which kind of host the properties are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub(super) unified: bool,
    pub(super) version: u32,
}

/// The properties that say what `resources` says; what is unset there stays unset.
///
/// # Errors
/// A value that cannot be one.
pub(super) fn of(resources: &LinuxResources, host: Host) -> Result<Vec<Property>, Error> {
    let mut list = List { host, properties: Vec::new() };
    if let Some(memory) = resources.memory() {
        list.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit).filter(|limit| *limit != 0) {
        list.long("TasksMax", limit_of(limit));
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|weight| *weight != 0) {
        if host.unified {
            list.long("IOWeight", convert::io_weight(weight));
        } else {
            list.long("BlockIOWeight", u64::from(weight));
        }
    }
    if host.unified {
        let mut entries: Vec<_> = resources.unified().iter().flatten().collect();
        entries.sort();
        for (key, value) in entries {
            list.unified(key, value.trim())?;
        }
    }
    // A later entry, from `unified`, stands for the same file: systemd takes the last, and so does the kernel.
    Ok(list.properties)
}

/// `DevicePolicy` and `DeviceAllow`. The rules proper are ours (an eBPF program); these only keep systemd from opening more on
/// v1 and admit at least what the rules admit.
pub(super) fn of_devices(rules: &[devices::Rule]) -> [Property; 2] {
    let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let (policy, allow) = match devices::unit_rules(rules, &groups) {
        Some(allow) => ("strict", allow),
        None => ("auto", Vec::new()),
    };
    [("DevicePolicy".to_owned(), Value::Text(policy.to_owned())), ("DeviceAllow".to_owned(), Value::Pairs(allow))]
}

struct List {
    host: Host,
    properties: Vec<Property>,
}

impl List {
    fn add(&mut self, name: &str, value: Value) {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), value));
    }

    fn long(&mut self, name: &str, value: u64) {
        self.add(name, Value::Long(value));
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if !self.host.unified {
            if let Some(limit) = limit {
                self.long("MemoryLimit", limit_of(limit));
            }
            return Ok(());
        }
        if let Some(limit) = limit {
            self.long("MemoryMax", limit_of(limit));
        }
        if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
            self.long("MemoryLow", limit_of(reservation));
        }
        // A total alone counts from the limit in force, which only the group's file tells: then the file alone is written.
        let known = limit.is_some() || memory.swap().is_none_or(|swap| swap <= 0);
        if known && let Some(swap) = convert::swap_v2(limit, memory.swap())? {
            self.long("MemorySwapMax", number("memory.swap.max", &swap)?);
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let idle = cpu.idle() == Some(1);
        match cpu.shares().filter(|shares| *shares != 0) {
            // systemd's word for `cpu.idle`.
            _ if idle && self.host.unified && self.host.version >= IDLE_SINCE => self.long("CPUWeight", 0),
            Some(shares) if self.host.unified => self.long("CPUWeight", convert::cpu_weight(shares)),
            Some(shares) => self.long("CPUShares", shares),
            None => {}
        }
        self.quota(cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0));
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.cpuset(name, list)?;
            }
        }
        Ok(())
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if let Some(period) = period.filter(|_| self.host.version >= QUOTA_PERIOD_SINCE) {
            self.long("CPUQuotaPeriodUSec", period);
        }
        // A period alone keeps the quota in force, in what part of a second nobody here knows.
        let Some(quota) = quota else { return };
        let Ok(quota) = u64::try_from(quota) else { return self.long("CPUQuotaPerSecUSec", INFINITY) };
        let per_second = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(PERIOD));
        // systemd counts in per cents: rounded up, for the exact value is written into the file and must not be above.
        let rounded = per_second.div_ceil(10_000) * 10_000;
        self.long("CPUQuotaPerSecUSec", u64::try_from(rounded).unwrap_or(INFINITY - 1));
    }

    fn cpuset(&mut self, name: &str, list: &str) -> Result<(), Error> {
        let mask = mask(list).ok_or_else(|| Error::Invalid {
            option: "cpuset list",
            value: list.to_owned(),
            why: "expected numbers and ranges like 0-3,7, up to 8191",
        })?;
        if self.host.version >= CPUSET_SINCE {
            self.add(name, Value::Bytes(mask));
        }
        Ok(())
    }

    /// A v2 file that has a property.
    fn unified(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let name = match key {
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpu.idle" if value == "1" && self.host.version >= IDLE_SINCE => {
                self.long("CPUWeight", 0);
                return Ok(());
            }
            "cpuset.cpus" => return self.cpuset("AllowedCPUs", value),
            "cpuset.mems" => return self.cpuset("AllowedMemoryNodes", value),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = match words.next() {
                    Some("max") | None => -1,
                    Some(word) => i64::try_from(number(key, word)?).unwrap_or(i64::MAX),
                };
                let period = words.next().map(|word| number(key, word)).transpose()?;
                self.quota(Some(quota), period.filter(|period| *period != 0));
                return Ok(());
            }
            _ => return Ok(()),
        };
        let value = number(key, value)?;
        self.long(name, value);
        Ok(())
    }
}

/// A limit of OCI: negative is none.
fn limit_of(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// A number of a v2 file, or `max`.
fn number(key: &str, value: &str) -> Result<u64, Error> {
    let invalid = || Error::Invalid { option: "unified resource", value: format!("{key}={value}"), why: "expected a number or max" };
    if value == "max" { Ok(INFINITY) } else { value.parse().map_err(|_| invalid()) }
}

/// A kernel list (`0-3,7`) as a bit mask, lowest byte first. None: no list.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        // CPU_SETSIZE of the largest kernels.
        if first > last || last >= 8192 {
            return None;
        }
        for bit in first..=last {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    (!mask.is_empty()).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, unified: bool, version: u32) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        of(&resources, Host { unified, version }).unwrap().into_iter().map(|(name, value)| format!("{name} {value:?}")).collect()
    }

    const ALL: &str = r#"{"memory":{"limit":1000,"swap":3000,"reservation":500},"pids":{"limit":-1},"blockIO":{"weight":1000},
        "cpu":{"shares":1024,"quota":33333,"period":100000,"cpus":"0-1,9","mems":"0"}}"#;

    #[test]
    fn limits_become_properties_of_either_kind_of_host() {
        assert_eq!(
            shown(ALL, true, 252),
            [
                "MemoryMax Long(1000)",
                "MemoryLow Long(500)",
                "MemorySwapMax Long(2000)",
                "CPUWeight Long(100)",
                "CPUQuotaPeriodUSec Long(100000)",
                "CPUQuotaPerSecUSec Long(340000)",
                "AllowedCPUs Bytes([3, 2])",
                "AllowedMemoryNodes Bytes([1])",
                "TasksMax Long(18446744073709551615)",
                "IOWeight Long(10000)",
            ]
        );
        assert_eq!(
            shown(ALL, false, 241),
            [
                "MemoryLimit Long(1000)",
                "CPUShares Long(1024)",
                "CPUQuotaPerSecUSec Long(340000)",
                "TasksMax Long(18446744073709551615)",
                "BlockIOWeight Long(1000)"
            ]
        );
    }

    #[test]
    fn unified_files_stand_for_properties_and_win() {
        let json = r#"{"memory":{"limit":1000},"unified":{"memory.max":"max","memory.high":"7","cpu.max":"50000","pids.max":"9","misc.max":"x 1","cpuset.cpus":"3"}}"#;
        assert_eq!(
            shown(json, true, 252),
            [
                "CPUQuotaPerSecUSec Long(500000)",
                "AllowedCPUs Bytes([8])",
                "MemoryHigh Long(7)",
                "MemoryMax Long(18446744073709551615)",
                "TasksMax Long(9)"
            ]
        );
        assert_eq!(shown(r#"{"cpu":{"idle":1,"shares":5}}"#, true, 252), ["CPUWeight Long(0)"]);
        assert!(shown(r#"{"memory":{"swap":3000}}"#, true, 252).is_empty());
        for bad in [r#"{"cpu":{"cpus":"3-1"}}"#, r#"{"unified":{"memory.max":"1G"}}"#, r#"{"cpu":{"mems":"9999"}}"#] {
            let resources: LinuxResources = serde_json::from_str(bad).unwrap();
            assert!(of(&resources, Host { unified: true, version: 252 }).is_err(), "{bad}");
        }
    }
}
