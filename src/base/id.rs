//! Identifiers: container ids, container names, volume names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    #[error("invalid container id \"{0}\": expected 64 lower-case hexadecimal digits")]
    ContainerId(String),
    #[error("invalid {what} name \"{name}\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two characters at least and 255 at most")]
    Name { what: &'static str, name: String },
}

/// `count` random lower-case hexadecimal digits from the kernel.
pub fn random_hex(count: usize) -> String {
    let mut bytes = vec![0u8; count.div_ceil(2)];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => unreachable!("invariant: getrandom cannot fail with a valid buffer: {e}"),
        }
    }
    let mut hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    hex.truncate(count);
    hex
}

/// A container's id: 64 lower-case hexadecimal digits, unique for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A fresh random id whose short form is not all digits (a numeric short id would be taken for a
    /// number by tools that read host names).
    pub fn random() -> Self {
        loop {
            let id = random_hex(64);
            if !id[..12].bytes().all(|b| b.is_ascii_digit()) {
                return ContainerId(id);
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let ok = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if ok { Ok(ContainerId(text.to_owned())) } else { Err(IdError::ContainerId(text.to_owned())) }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if valid_name(text) {
                    Ok($type(text.to_owned()))
                } else {
                    Err(IdError::Name { what: $what, name: text.to_owned() })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A container's name, without Docker's leading slash.
    ContainerName,
    "container"
);
name_type!(
    /// A volume's name; one path component by construction.
    VolumeName,
    "volume"
);

name_type!(
    /// A pod's name; pods and containers share one set of names.
    PodName,
    "pod"
);

/// A pod's id is of the same kind as a container's: leases and links are named by either.
pub type PodId = ContainerId;

fn valid_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    first && rest && (2..=255).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_grammar() {
        for good in ["web", "a1", "A.b-c_d", "0x"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", ".ab", "a/b", "a b", "a\n", "ü1"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_64_hex_digits_with_a_letter_in_the_short_form() {
        let id = ContainerId::random();
        assert_eq!(id.as_str().parse::<ContainerId>(), Ok(id.clone()));
        assert!(id.short().bytes().any(|b| b.is_ascii_alphabetic()));
        assert!("xyz".parse::<ContainerId>().is_err());
    }
}
