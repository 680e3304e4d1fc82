//! Durations as Go writes and reads them.

/// Go's `time.ParseDuration` in nanoseconds: a sign, then decimal numbers each with a unit
/// (`ns us µs ms s m h`); `0` alone needs none.
pub fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let value: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let nanos = match &rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * nanos;
        rest = &rest[unit_end..];
    }
    (total < i64::MAX as f64).then_some(sign * total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanos) in [
            ("0", 0),
            ("5ns", 5),
            ("1.5us", 1_500),
            ("500ms", 500_000_000),
            ("90s", 90_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1m0.25s", 60_250_000_000),
            ("-2s", -2_000_000_000),
        ] {
            assert_eq!(go_duration(text), Some(nanos), "{text}");
        }
        for bad in ["", "5", "s", "1x", "1s1"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }
}
