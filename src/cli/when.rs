//! Points in time as flags take them: RFC 3339, a date, Unix seconds with a fraction, or a Go duration back
//! from now.

use crate::base::Timestamp;

/// Reads a `--since`/`--until` value.
///
/// # Errors
/// The text is none of the forms.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(nanos) = duration(text) {
        return Ok(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)));
    }
    if let Some(nanos) = unix(text) {
        return Ok(Timestamp::from_nanos(nanos));
    }
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Ok(at);
    }
    // A date, perhaps with a time, without a zone: local time.
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    civil
        .ok()
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()).ok())
        .and_then(|zoned| i64::try_from(zoned.timestamp().as_nanosecond()).ok())
        .map(Timestamp::from_nanos)
        .ok_or_else(|| format!("invalid time \"{text}\": expected RFC 3339, a date, Unix seconds or a duration like 10m"))
}

/// Nanoseconds of `1700000000` or `1700000000.123456789`.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Nanoseconds of a Go duration (`1h30m`, `1.5s`, `300ms`).
fn duration(text: &str) -> Option<i64> {
    const UNITS: &[(&str, f64)] = &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        total += number * unit;
        rest = &rest[end..];
    }
    let total = sign * total;
    // Saturates far outside any time that a log can hold.
    (total.abs() < 9e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_time() {
        let now = Timestamp::from_nanos(1_700_000_000_000_000_000);
        for (text, nanos) in [
            ("10m", 1_699_999_400_000_000_000),
            ("1h30m", 1_699_994_600_000_000_000),
            ("1.5s", 1_699_999_998_500_000_000),
            ("-1s", 1_700_000_001_000_000_000),
            ("1600000000", 1_600_000_000_000_000_000),
            ("1600000000.5", 1_600_000_000_500_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000_000_000),
        ] {
            assert_eq!(parse(text, now), Ok(Timestamp::from_nanos(nanos)), "{text}");
        }
        assert!(parse("2023-11-14", now).is_ok() && parse("2023-11-14T22:13:20", now).is_ok());
        for bad in ["", "x", "10", "10x", "-", "1.2.3", "2023-13-01"] {
            assert!(parse(bad, now).is_err() == (bad != "10"), "{bad}");
        }
    }
}
