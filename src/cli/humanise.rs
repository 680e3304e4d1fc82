//! Times as people read them, in Docker's words.

use crate::base::Timestamp;

pub use crate::engine::status_text::{ago, status};

/// `2026-01-02 15:04:05 +0100 CET`, in the zone of this host.
pub fn local(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.nanos())) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => at.to_string(),
    }
}

/// At most `width` characters, the last an ellipsis when something was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { text.chars().take(width.saturating_sub(1)).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_width_and_cut_texts() {
        assert_eq!(Timestamp::from_nanos(1_700_000_000_120_000_000).fixed(), "2023-11-14T22:13:20.120000000Z");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("äbcd", 4), "äbcd");
    }
}
