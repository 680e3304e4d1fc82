//! Byte sizes as users type and read them.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A number of bytes. Parses Docker's grammar: `b k m g t` (1024-based, an optional `b`/`ib` after the
/// letter, fractions allowed: `1.5g`, `64MB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid size \"{text}\": expected a number with an optional unit b, k, m, g or t");
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim_start().to_ascii_lowercase();
        let shift = match unit.as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(ByteSize).ok_or_else(wrong);
        }
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = value * (1u64 << shift) as f64;
        if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(ByteSize(bytes as u64)) } else { Err(wrong()) }
    }
}

/// A part of a disk: bytes, or per cent of it (`20%`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Bytes(u64),
    Percent(u8),
}

impl Space {
    /// In bytes, of a disk of that size.
    pub fn of(self, disk: u64) -> u64 {
        match self {
            Space::Bytes(bytes) => bytes,
            Space::Percent(part) => disk / 100 * u64::from(part),
        }
    }
}

impl FromStr for Space {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            None => text.parse::<ByteSize>().map(|size| Space::Bytes(size.0)),
            Some(part) => {
                let part = part.parse().ok().filter(|part| *part <= 100);
                part.map(Space::Percent).ok_or_else(|| format!("invalid share \"{text}\": expected a whole number from 0 to 100 before the %"))
            }
        }
    }
}

impl ByteSize {
    /// 1000-based with up to three significant digits and no space (`7.8MB`): image and disk sizes.
    pub fn decimal(self) -> String {
        humanise(self.0, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
    }

    /// 1024-based (`1.5MiB`): memory in `stats`.
    pub fn binary(self) -> String {
        humanise(self.0, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
    }
}

fn humanise(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value), units[unit])
}

/// Like Go's `%.4g` for the values that occur here (0 ≤ value < 1024).
fn significant(value: f64) -> String {
    let digits = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn reads_what_docker_reads() {
        for (text, bytes) in [("0", 0), ("64m", 64 << 20), ("64MB", 64 << 20), ("1.5g", 3 << 29), ("10b", 10), ("2KiB", 2048)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1.2.3m", "99999999999999999999g"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prints_as_docker_prints() {
        assert_eq!(ByteSize(7_800_000).decimal(), "7.8MB");
        assert_eq!(ByteSize(0).decimal(), "0B");
        assert_eq!(ByteSize(1_536 << 10).binary(), "1.5MiB");
    }
}
