//! Limits: `--memory*`, `--cpus`, `--cpuset-*`, `--blkio-weight`, `--device-read-bps`, … and what contradicts what.

use super::FlagError;
use crate::base::ByteSize;
use crate::state::record::Resources;

/// Smallest memory limit in bytes (6 MiB): below it a container cannot even start.
const MEMORY_MIN: u64 = 6 << 20;

/// A memory size in bytes; 0 is unlimited (None).
///
/// # Errors
/// Not a size.
pub fn parse_memory(flag: &'static str, text: &str) -> Result<Option<u64>, FlagError> {
    let size: ByteSize = text.parse().map_err(|reason| FlagError::new(flag, text, reason))?;
    Ok((size.0 > 0).then_some(size.0))
}

/// `--shm-size` in bytes.
///
/// # Errors
/// Not a size, or zero.
pub fn parse_shm_size(text: &str) -> Result<u64, FlagError> {
    parse_memory("--shm-size", text)?.ok_or_else(|| FlagError::new("--shm-size", text, "the size must be positive"))
}

/// `--memory-swap`: bytes of memory and swap together; -1 is unlimited, 0 as unset.
///
/// # Errors
/// Not a size or -1.
pub fn parse_swap(text: &str) -> Result<Option<i64>, FlagError> {
    if text == "-1" {
        return Ok(Some(-1));
    }
    match parse_memory("--memory-swap", text)?.map(i64::try_from) {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(bytes)),
        Some(Err(_)) => Err(FlagError::new("--memory-swap", text, "too large")),
    }
}

/// `--cpus` in billionths of a CPU; 0 is unlimited (None).
///
/// # Errors
/// Not a decimal number with at most nine digits after the point, or below 0.01.
pub fn parse_cpus(text: &str) -> Result<Option<u64>, FlagError> {
    let wrong = |reason: &str| FlagError::new("--cpus", text, reason);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(wrong("expected a number of CPUs like 1.5"));
    }
    if fraction.len() > 9 {
        return Err(wrong("more than nine digits after the point"));
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong("too large"))? };
    let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong("not a number"))?;
    let nano = whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(fraction)).ok_or_else(|| wrong("too large"))?;
    match nano {
        0 => Ok(None),
        1..10_000_000 => Err(wrong("the smallest share is 0.01")),
        _ => Ok(Some(nano)),
    }
}

/// A list of numbers and ranges (`0-3,5`).
///
/// # Errors
/// Not such a list.
pub fn parse_cpuset(flag: &'static str, text: &str) -> Result<String, FlagError> {
    let number = |text: &str| text.parse::<u16>().ok();
    let item = |text: &str| match text.split_once('-') {
        None => number(text).is_some(),
        Some((a, b)) => matches!((number(a), number(b)), (Some(a), Some(b)) if a <= b),
    };
    if text.is_empty() || text.split(',').all(item) { Ok(text.to_owned()) } else { Err(FlagError::new(flag, text, "expected a list like 0-3,5")) }
}

/// `--blkio-weight`: 10 to 1000; 0 is off (None).
///
/// # Errors
/// Out of range.
pub fn parse_blkio_weight(text: &str) -> Result<Option<u16>, FlagError> {
    match text.parse::<u16>() {
        Ok(0) => Ok(None),
        Ok(weight @ 10..=1000) => Ok(Some(weight)),
        _ => Err(FlagError::new("--blkio-weight", text, "expected 10 to 1000, or 0 to disable")),
    }
}

/// `--blkio-weight-device`: `path:weight`, 10 to 1000.
///
/// # Errors
/// No absolute device path, or the weight is out of range.
pub fn parse_weight_device(text: &str) -> Result<(String, u16), FlagError> {
    let wrong = |reason: &str| FlagError::new("--blkio-weight-device", text, reason);
    let (path, weight) = text.rsplit_once(':').filter(|(path, _)| path.starts_with('/')).ok_or_else(|| wrong("expected /device:weight"))?;
    match weight.parse::<u16>() {
        Ok(weight @ 10..=1000) => Ok((path.to_owned(), weight)),
        _ => Err(wrong("the weight must be 10 to 1000")),
    }
}

/// `--device-read-bps` and its kin: `path:rate`, the rate in bytes (with a unit) or operations per second.
///
/// # Errors
/// No absolute device path or no rate.
pub fn parse_throttle(flag: &'static str, text: &str, bytes: bool) -> Result<(String, u64), FlagError> {
    let wrong = |reason: String| FlagError::new(flag, text, reason);
    let (path, rate) = text.rsplit_once(':').ok_or_else(|| wrong("expected /device:rate".to_owned()))?;
    if !path.starts_with('/') {
        return Err(wrong("the device is not an absolute path".to_owned()));
    }
    let rate = if bytes {
        rate.parse::<ByteSize>().map_err(wrong)?.0
    } else {
        rate.parse::<u64>().map_err(|_| wrong(format!("\"{rate}\" is not a number")))?
    };
    Ok((path.to_owned(), rate))
}

/// Checks limits against each other.
///
/// # Errors
/// Which flags contradict each other, or a limit out of its range.
pub fn check(limits: &Resources) -> Result<(), String> {
    if limits.memory.is_some_and(|bytes| bytes < MEMORY_MIN) {
        return Err("--memory: the minimum memory limit is 6MB".to_owned());
    }
    match (limits.memory_swap, limits.memory) {
        (Some(swap), None) if swap > 0 => return Err("--memory-swap needs --memory".to_owned()),
        (Some(swap), Some(memory)) if swap >= 0 && swap.unsigned_abs() < memory => {
            return Err("--memory-swap counts memory and swap together, so it cannot be below --memory".to_owned());
        }
        _ => {}
    }
    if limits.memory_reservation.is_some_and(|bytes| bytes < MEMORY_MIN) {
        return Err("--memory-reservation: the minimum is 6MB".to_owned());
    }
    if let (Some(soft), Some(hard)) = (limits.memory_reservation, limits.memory)
        && soft > hard
    {
        return Err("--memory-reservation cannot be above --memory".to_owned());
    }
    if limits.memory_swappiness.is_some_and(|value| value > 100) {
        return Err("--memory-swappiness must be 0 to 100".to_owned());
    }
    if limits.nano_cpus.is_some() && (limits.cpu_period.is_some() || limits.cpu_quota.is_some()) {
        return Err("--cpus conflicts with --cpu-period and --cpu-quota; use one of the two forms".to_owned());
    }
    if limits.cpu_period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
        return Err("--cpu-period must be 1000 to 1000000 microseconds".to_owned());
    }
    if limits.cpu_quota.is_some_and(|quota| quota > 0 && quota < 1_000) {
        return Err("--cpu-quota must be at least 1000 microseconds".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_in_billionths() {
        for (text, nano) in [
            ("1.5", Some(1_500_000_000)),
            ("0.01", Some(10_000_000)),
            (".5", Some(500_000_000)),
            ("2", Some(2_000_000_000)),
            ("0", None),
            ("0.123456789", Some(123_456_789)),
        ] {
            assert_eq!(parse_cpus(text), Ok(nano), "{text}");
        }
        for bad in ["", ".", "x", "-1", "0.001", "1.0000000001", "99999999999999999999", "1e3"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_lists() {
        assert_eq!(parse_memory("--memory", "512m").unwrap(), Some(512 << 20));
        assert_eq!((parse_swap("-1").unwrap(), parse_swap("1g").unwrap(), parse_swap("0").unwrap()), (Some(-1), Some(1 << 30), None));
        assert!(parse_swap("-2").is_err());
        for (text, good) in [("0-3,5", true), ("0", true), ("", true), ("3-1", false), ("a", false), ("0,", false)] {
            assert_eq!(parse_cpuset("--cpuset-cpus", text).is_ok(), good, "{text}");
        }
        assert_eq!((parse_blkio_weight("500").unwrap(), parse_blkio_weight("0").unwrap()), (Some(500), None));
        assert!(parse_blkio_weight("5").is_err() && parse_blkio_weight("1001").is_err());
        assert_eq!(parse_throttle("--device-read-bps", "/dev/sda:10mb", true).unwrap(), ("/dev/sda".into(), 10 << 20));
        assert!(parse_throttle("--device-read-iops", "/dev/sda:10mb", false).is_err() && parse_throttle("--device-read-bps", "sda:1", true).is_err());
    }

    #[test]
    fn contradictions() {
        let m = |memory, memory_swap, memory_reservation| Resources { memory, memory_swap, memory_reservation, ..Resources::default() };
        for (limits, good) in [
            (m(Some(64 << 20), None, None), true),
            (m(Some(1 << 20), None, None), false),
            (m(None, Some(1 << 30), None), false),
            (m(Some(64 << 20), Some(32 << 20), None), false),
            (m(Some(64 << 20), Some(-1), None), true),
            (m(Some(64 << 20), Some(64 << 20), None), true),
            (m(Some(64 << 20), None, Some(65 << 20)), false),
            (Resources { nano_cpus: Some(1), cpu_quota: Some(5000), ..Resources::default() }, false),
            (Resources { cpu_period: Some(5), ..Resources::default() }, false),
            (Resources { memory_swappiness: Some(101), ..Resources::default() }, false),
        ] {
            assert_eq!(check(&limits).is_ok(), good, "{limits:?}");
        }
    }
}
