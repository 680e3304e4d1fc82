//! `--filter` of `builder du` and `builder prune`, understood before anything is looked at: a value that is not understood must
//! not let everything through.

use super::CacheUsage;
use crate::base::Timestamp;
use crate::engine::{Error, Filters, Result, filter};
use crate::state::build::CacheKind;

const KNOWN: &[&str] = &["until", "unused-for", "type", "id", "inuse", "shared"];
/// Types that BuildKit has besides those here: scripts that name them mean nothing of this cache.
const FOREIGN: &[&str] = &["frontend", "source.local", "source.git.checkout"];

/// Which records are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheFilters {
    /// Last used before then.
    used_before: Option<Timestamp>,
    types: Vec<String>,
    /// How the digits of the key begin.
    ids: Vec<String>,
    in_use: Option<bool>,
    shared: Option<bool>,
}

impl CacheFilters {
    /// # Errors
    /// `Invalid` for a key that the cache does not have, and a value that the key cannot have.
    pub fn read(filters: &Filters) -> Result<Self> {
        filter::require_known(filters, KNOWN)?;
        let limits = [filter::until(filters)?, filter::unused_since(filters)?];
        Ok(CacheFilters {
            used_before: limits.into_iter().flatten().min(),
            types: checked(filters, "type", |name| CacheKind::named(name).is_some() || FOREIGN.contains(&name), &expected_types())?,
            ids: checked(filters, "id", is_id, "expected the first digits of an id, as builder du shows it")?,
            in_use: filter::boolean(filters, "inuse")?,
            shared: filter::boolean(filters, "shared")?,
        })
    }

    pub(super) fn fits(&self, usage: &CacheUsage) -> bool {
        let digits = super::digits(&usage.record.key);
        self.used_before.is_none_or(|before| usage.record.used < before)
            && (self.types.is_empty() || self.types.iter().any(|name| usage.record.kind.name() == name))
            && (self.ids.is_empty() || self.ids.iter().any(|id| digits.starts_with(id.as_str())))
            && self.in_use.is_none_or(|wanted| usage.in_use == wanted)
            && self.shared.is_none_or(|wanted| usage.shared == wanted)
    }
}

/// None at all would fit every record.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn expected_types() -> String {
    format!("expected {}", CacheKind::ALL.map(CacheKind::name).join(", "))
}

fn checked(filters: &Filters, key: &str, is_valid: impl Fn(&str) -> bool, expected: &str) -> Result<Vec<String>> {
    let one = |value: &str| match is_valid(value) {
        true => Ok(value.to_owned()),
        false => Err(Error::invalid(format!("invalid filter \"{key}={value}\": {expected}"))),
    };
    filter::values(filters, key).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::build::CacheRecord;

    fn read(text: &str) -> Result<CacheFilters> {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        CacheFilters::read(&pairs)
    }

    #[test]
    fn records_that_fit() {
        let (kind, used) = (CacheKind::Mount, Timestamp::from_nanos(1_000_000_000));
        let (description, created) = ("RUN".to_owned(), used);
        let record = CacheRecord { key: "sha256:abc0".to_owned(), chain_id: None, below: None, kind, description, created, used, uses: 0, size: 0 };
        let usage = CacheUsage { record, size: 0, shared: true, in_use: false };
        for (text, fits) in [
            ("", true),
            ("shared=true inuse=false", true),
            ("shared=1 inuse=F", true),
            ("shared=0", false),
            ("inuse=true", false),
            ("until=24h", true),
            ("unused-for=30d type=exec.cachemount", true),
            ("until=1", false),
            ("type=regular", false),
            ("type=regular type=exec.cachemount", true),
            ("type=source.local", false),
            ("id=abc", true),
            ("id=f id=ab", true),
            ("id=b", false),
        ] {
            assert_eq!(read(text).unwrap().fits(&usage), fits, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("shared=banana", "expected true or false"),
            ("inuse=", "expected true or false"),
            ("until=yesterday", "expected a time"),
            ("unused-for=long", "expected a duration"),
            ("type=layer", "expected regular, exec.cachemount, source.http, internal"),
            ("id=", "expected the first digits"),
            ("id=banana", "expected the first digits"),
        ] {
            let why = read(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("invalid filter \"{text}\": ")) && why.contains(words), "{text}: {why}");
        }
        assert_eq!(read("colour=red").unwrap_err().to_string(), "invalid filter \"colour\"");
    }
}
