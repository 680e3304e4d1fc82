//! Pure conversions between Docker's and OCI's numbers and the kernel's files.

use super::Error;

/// CPU shares (2…262144, default 1024) to `cpu.weight` (1…10000, default 100). The exponent is quadratic in log2(shares), so
/// that both ends and the defaults meet (the formula the runtimes agreed on in 2025; the older linear one made 1024 a 39).
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

/// Block I/O weight (10…1000) to `io.weight` (1…10000), linear.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// A limit as v2 files take it: negative is `max`.
pub(super) fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// `memory.swap.max` from OCI's limit of memory *plus* swap. None: leave it alone.
///
/// # Errors
/// A total without a memory limit, or below it.
pub(super) fn swap_v2(memory: Option<i64>, total: Option<i64>) -> Result<Option<String>, Error> {
    let memory = memory.filter(|memory| *memory != 0);
    let Some(total) = total.filter(|total| *total != 0) else {
        // Unlimited memory takes the swap limit with it.
        return Ok((memory == Some(-1)).then(|| "max".to_owned()));
    };
    if total < 0 {
        return Ok(Some("max".to_owned()));
    }
    let invalid = |why| Error::Invalid { option: "memory swap limit", value: total.to_string(), why };
    match memory {
        Some(memory) if memory > total => Err(invalid("it includes memory and is below the memory limit")),
        Some(memory) if memory > 0 => Ok(Some((total - memory).to_string())),
        _ => Err(invalid("it needs a memory limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_at_both_ends_and_at_the_default() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (1_000_000, 10_000), (1, 1)] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert!((3..262_144).step_by(1009).all(|shares| cpu_weight(shares) <= cpu_weight(shares + 1009)));
        for (weight, wanted) in [(10, 1), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), wanted, "{weight}");
        }
    }

    #[test]
    fn swap_is_the_total_less_memory() {
        for (memory, total, wanted) in [
            (Some(100), Some(300), Some("200")),
            (Some(100), Some(100), Some("0")),
            (Some(100), Some(-1), Some("max")),
            (Some(100), None, None),
            (Some(-1), None, Some("max")),
            (Some(-1), Some(0), Some("max")),
            (None, Some(-1), Some("max")),
            (None, None, None),
        ] {
            assert_eq!(swap_v2(memory, total).unwrap().as_deref(), wanted, "{memory:?} {total:?}");
        }
        for (memory, total) in [(Some(100), Some(99)), (None, Some(5)), (Some(-1), Some(5))] {
            assert!(swap_v2(memory, total).is_err(), "{memory:?} {total:?}");
        }
    }
}
