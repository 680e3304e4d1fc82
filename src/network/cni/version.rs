//! Versions of the CNI specification: which ones are spoken, and which one a network is driven with.

use std::fmt;
use std::str::FromStr;

/// A version of the specification that this room speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub const ALL: [Version; 5] = [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK, and `prevResult` for DEL, came with 0.4.0.
    pub fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// GC and STATUS came with 1.1.0.
    pub fn has_upkeep(self) -> bool {
        self >= Version::V1_1_0
    }

    /// Until 0.4.0 each address of a result says of which IP version it is.
    pub fn tags_addresses(self) -> bool {
        self < Version::V1_0_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no version that this room speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CNI version \"{0}\" is not among those that are supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")]
pub struct UnknownVersion(pub String);

impl FromStr for Version {
    type Err = UnknownVersion;
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Version::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| UnknownVersion(text.escape_default().to_string()))
    }
}

/// The versions of a configuration that are spoken here, newest first and each once. `main` is its `cniVersion`, `others`
/// its `cniVersions`; those that nobody here knows may be newer than this program and are left out.
///
/// # Errors
/// None of them is spoken: the newest text is named.
pub fn candidates(main: Option<&str>, others: &[String]) -> Result<Vec<Version>, UnknownVersion> {
    let all = || main.into_iter().chain(others.iter().map(String::as_str));
    let mut found: Vec<Version> = all().filter_map(|text| text.parse().ok()).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    if found.is_empty() { Err(UnknownVersion(all().next().unwrap_or_default().escape_default().to_string())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn candidates_are_the_spoken_ones_newest_first() {
        assert_eq!(candidates(Some("0.4.0"), &[]), Ok(vec![Version::V0_4_0]));
        assert_eq!(
            candidates(Some("0.3.1"), &list(&["1.0.0", "1.1.0", "9.0.0", "1.0.0"])),
            Ok(vec![Version::V1_1_0, Version::V1_0_0, Version::V0_3_1])
        );
        assert_eq!(candidates(None, &list(&["1.0.0"])), Ok(vec![Version::V1_0_0]));
        for (main, shown) in [(Some("0.2.0"), "0.2.0"), (Some("2.0.0"), "2.0.0"), (Some("a\nb"), "a\\nb"), (None, "")] {
            assert_eq!(candidates(main, &[]), Err(UnknownVersion(shown.to_owned())));
        }
    }

    #[test]
    fn what_a_version_has() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        assert!(!Version::V0_3_1.has_check() && Version::V0_4_0.has_check());
        assert!(!Version::V1_0_0.has_upkeep() && Version::V1_1_0.has_upkeep());
        assert!(Version::V0_4_0.tags_addresses() && !Version::V1_0_0.tags_addresses());
    }
}
