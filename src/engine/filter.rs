//! What the `--filter` of every listing and prune shares: known keys, labels, times, sizes of time, globs.
//!
//! Invariant (Docker's): the same key repeated is OR, different keys are AND, `label` repeated is AND, an
//! unknown key is refused by name.

use super::{Error, Filters, Result};
use crate::base::{Timestamp, go_duration};
use std::collections::BTreeMap;

/// Refuses the first key that this listing does not know.
pub(super) fn require_known(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => {
            Err(Error::Invalid { message: format!("invalid filter \"{key}\""), hint: Some(format!("known filters: {}", known.join(", "))) })
        }
    }
}

/// The values given for one key.
pub(super) fn values<'a>(filters: &'a Filters, key: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
    filters.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
}

/// True if the key was not given, or one of its values satisfies `test`.
pub(super) fn any(filters: &Filters, key: &str, test: impl FnMut(&str) -> bool) -> bool {
    let mut given = values(filters, key).peekable();
    given.peek().is_none() || given.any(test)
}

/// The boolean value of a key: Docker takes `true`, `1`, `t`, `false`, `0`, `f` in any case; None if not given.
pub(super) fn boolean(filters: &Filters, key: &str) -> Result<Option<bool>> {
    let mut found = None;
    for value in values(filters, key) {
        found = Some(match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => true,
            "false" | "0" | "f" => false,
            _ => return Err(Error::invalid(format!("invalid filter \"{key}={value}\": expected true or false"))),
        });
    }
    Ok(found)
}

/// All `label=` hold, and no `label!=` does.
pub(super) fn labels_match(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    };
    values(filters, "label").all(has) && !values(filters, "label!").any(has)
}

/// The latest admissible creation time of `until=`: the earliest of all given; None if not given.
pub(super) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let now = Timestamp::now();
    let mut earliest: Option<Timestamp> = None;
    for value in values(filters, "until") {
        let at = parse_time(value, now).ok_or_else(|| {
            Error::invalid(format!("invalid filter \"until={value}\": expected a time (RFC 3339, unix seconds) or a duration (24h)"))
        })?;
        earliest = Some(earliest.map_or(at, |e| e.min(at)));
    }
    Ok(earliest)
}

/// The latest last use that `unused-for=` admits: a Go duration, or days (`30d`). The longest of all given counts.
pub(super) fn unused_since(filters: &Filters) -> Result<Option<Timestamp>> {
    let now = Timestamp::now();
    let mut earliest: Option<Timestamp> = None;
    for value in values(filters, "unused-for") {
        let days = || value.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()).and_then(|days| days.checked_mul(86_400_000_000_000));
        let nanos = days().or_else(|| go_duration(value)).filter(|nanos| *nanos >= 0);
        let nanos = nanos.ok_or_else(|| Error::invalid(format!("invalid filter \"unused-for={value}\": expected a duration (720h, 30d)")))?;
        let at = Timestamp::from_nanos(now.nanos().saturating_sub(nanos));
        earliest = Some(earliest.map_or(at, |e| e.min(at)));
    }
    Ok(earliest)
}

/// A point in time as Docker's flags take it: a Go duration back from `now`, RFC 3339 (date or minute
/// precision and local time too), or unix seconds with an optional fraction.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(nanos) = go_duration(text) {
        return Some(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)));
    }
    if let Some(at) = unix_seconds(text) {
        return Some(at);
    }
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Some(at);
    }
    if let Some(date) = text.strip_suffix('Z').filter(|d| d.len() == 10) {
        return Timestamp::parse_rfc3339(&format!("{date}T00:00:00Z"));
    }
    let civil = if text.len() == 10 { text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0) } else { text.parse::<jiff::civil::DateTime>().ok()? };
    let zoned = civil.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    i64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Timestamp::from_nanos)
}

fn unix_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Timestamp::from_nanos)
}

/// A length of time as Go writes it (`250ms`, `1h30m`), or a number of milliseconds, as podman's `--interval` takes it.
pub fn parse_interval(text: &str) -> Option<std::time::Duration> {
    if let Ok(milliseconds) = text.parse::<u64>() {
        return Some(std::time::Duration::from_millis(milliseconds));
    }
    go_duration(text).and_then(|nanos| u64::try_from(nanos).ok()).map(std::time::Duration::from_nanos)
}

/// Shell pattern with Go's `path.Match` rules: `*` and `?` do not cross `/`, `[a-z]`, `[^a]`, `\c`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    glob_bytes(pattern.as_bytes(), text.as_bytes())
}

/// Backtracks to the last `*` only, so the time is bounded by pattern × text.
fn glob_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && let Some(next) = one(pattern, p, text[t])
        {
            p = next;
            t += 1;
            continue;
        }
        match star {
            Some((after, from)) if from < text.len() && text[from] != b'/' => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Matches one non-star element of the pattern at `p` against a byte: the position behind it.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => (byte != b'/').then_some(p + 1),
        b'\\' => (*pattern.get(p + 1)? == byte).then_some(p + 2),
        b'[' => {
            let mut at = p + 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let mut hit = false;
            let mut first = true;
            while first || *pattern.get(at)? != b']' {
                first = false;
                let low = *pattern.get(at)?;
                let mut high = low;
                at += 1;
                if pattern.get(at) == Some(&b'-') && pattern.get(at + 1).is_some_and(|b| *b != b']') {
                    high = pattern[at + 1];
                    at += 2;
                }
                hit |= (low..=high).contains(&byte);
            }
            (hit != negated && byte != b'/').then_some(at + 1)
        }
        other => (other == byte).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let now = Timestamp::from_nanos(1_700_000_000_000_000_000);
        let cases = [
            ("24h", 1_700_000_000 - 86_400),
            ("1h30m", 1_700_000_000 - 5_400),
            ("1.5s", 1_699_999_998),
            ("1136073600", 1_136_073_600),
            ("2006-01-02T15:04:05Z", 1_136_214_245),
            ("2006-01-02T15:04:05+01:00", 1_136_210_645),
            ("2006-01-02Z", 1_136_160_000),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_time(text, now).unwrap().seconds(), seconds, "{text}");
        }
        assert_eq!(parse_time("1136073600.5", now).unwrap().nanos(), 1_136_073_600_500_000_000);
        assert!(parse_time("2006-01-02", now).is_some());
        assert!(parse_time("2006-01-02T15:04", now).is_some());
        for bad in ["", "h", "yesterday", "1.2.3", "5x", "2006-13-01"] {
            assert!(parse_time(bad, now).is_none(), "{bad}");
        }
    }

    #[test]
    fn globs_match_like_path_match() {
        for (pattern, text, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*box", "busybox", true),
            ("b*y*x", "busybox", true),
            ("b*", "b/c", false),
            ("*/c", "b/c", true),
            ("b?x", "bax", true),
            ("b?x", "b/x", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("[", "[", false),
            ("", "", true),
            ("*", "", true),
            ("a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn labels_are_a_conjunction() {
        let labels: BTreeMap<String, String> = [("a", "1"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let f = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        assert!(labels_match(&f(&[("label", "a"), ("label", "a=1"), ("label", "b")]), &labels));
        assert!(!labels_match(&f(&[("label", "a"), ("label", "c")]), &labels));
        assert!(!labels_match(&f(&[("label!", "a=1")]), &labels));
        assert!(labels_match(&f(&[("label!", "a=2")]), &labels));
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = require_known(&[("colour".to_owned(), "red".to_owned())], &["id"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter \"colour\"");
    }
}
