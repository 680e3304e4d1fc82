//! What of `/proc` and `/sys` a container cannot read or write: the defaults, and `--security-opt mask= unmask= systempaths=`.

use super::resources::HostFacts;
use crate::engine::filter;
use crate::state::record::HostSpec;

/// security.md (b): what no container may read; `thermal_throttle` is added for each CPU.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths that are hidden on this host.
pub(super) fn masked(host: &HostSpec, facts: &HostFacts) -> Vec<String> {
    let throttles = facts.cpu_set.iter().map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    let mut paths = defaults(host, MASKED);
    if !open(host) {
        paths.extend(throttles.filter(|path| !is_unmasked(host, path)));
    }
    paths.extend(host.security.masked.iter().map(|path| path.to_string_lossy().into_owned()));
    paths
}

/// As `inspect` shows them: without those of single CPUs.
pub(in crate::engine) fn masked_everywhere(host: &HostSpec) -> Vec<String> {
    let own = host.security.masked.iter().map(|path| path.to_string_lossy().into_owned());
    defaults(host, MASKED).into_iter().chain(own).collect()
}

pub(in crate::engine) fn read_only(host: &HostSpec) -> Vec<String> {
    defaults(host, READ_ONLY)
}

fn open(host: &HostSpec) -> bool {
    host.privileged || host.security.unmasked
}

fn defaults(host: &HostSpec, paths: &[&str]) -> Vec<String> {
    if open(host) {
        return Vec::new();
    }
    paths.iter().filter(|path| !is_unmasked(host, path)).map(|path| (*path).to_owned()).collect()
}

fn is_unmasked(host: &HostSpec, path: &str) -> bool {
    host.security.unmasked_paths.iter().any(|pattern| pattern == path || filter::glob(pattern, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_added_and_taken_away() {
        let mut host = HostSpec::default();
        assert_eq!((masked_everywhere(&host).len(), read_only(&host).len()), (MASKED.len(), READ_ONLY.len()));
        host.security.unmasked_paths = vec!["/proc/acpi".to_owned(), "/proc/s*".to_owned()];
        host.security.masked = vec!["/etc/secret".into()];
        let masked = masked_everywhere(&host);
        assert!(!masked.iter().any(|p| p == "/proc/acpi" || p == "/proc/scsi") && masked.iter().any(|p| p == "/etc/secret"));
        assert!(!read_only(&host).iter().any(|p| p.starts_with("/proc/sys")));
        host.privileged = true;
        assert_eq!(masked_everywhere(&host), ["/etc/secret"]);
    }
}
