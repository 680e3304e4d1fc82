//! Wall-clock points in time, to the nanosecond, as Docker prints and parses them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in UTC time in nanoseconds since the Unix epoch. Zero means "never" and prints as Docker's
/// `0001-01-01T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// RFC 3339 in UTC with nine digits of fraction, as `logs -t` prints it.
    pub fn fixed(self) -> String {
        match jiff::Timestamp::from_nanosecond(i128::from(self.nanos())) {
            Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
            Err(_) => self.to_string(),
        }
    }

    /// "Never": prints as Docker's zero time.
    pub const NEVER: Timestamp = Timestamp(0);

    /// The present moment.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
    }

    pub fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    /// Time from `earlier` to `self`; zero when the clock went backwards.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `pause` later.
    pub fn after(self, pause: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The moment `pause` earlier.
    pub fn before(self, pause: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Parses RFC 3339 with any number of fraction digits (as image configs carry it).
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(at.as_nanosecond()).ok().map(Timestamp)
    }
}

/// RFC 3339 in UTC with nanoseconds, trailing zeros cut (Go's `RFC3339Nano`, which Docker prints).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => f.write_str("0001-01-01T00:00:00Z"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn prints_as_rfc3339_nano_and_reads_back() {
        let at = Timestamp::from_nanos(1_700_000_000_120_000_000);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.12Z");
        assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(at));
        assert_eq!(Timestamp::NEVER.to_string(), "0001-01-01T00:00:00Z");
    }
}
