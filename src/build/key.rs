//! Keys of the cache: a digest over all that decides the result of a step, and over nothing else.
//!
//! Invariant: fields are written with their names and lengths, so two different lists of fields never give the same bytes.

use crate::oci::{Algorithm, Digest, DigestHasher};

/// Changes when the same step would give another result than with an older build of this program.
const VERSION: &str = "rcon build 1";

/// A key being made.
pub struct Key(DigestHasher);

impl Key {
    /// `kind`: what the step does (`run`, `copy`); `below`: the chain id of the layers that it starts from, if any.
    pub fn new(kind: &str, below: Option<&str>) -> Self {
        let mut key = Key(DigestHasher::new(Algorithm::Sha256));
        key.field("version", VERSION);
        key.field("kind", kind);
        key.field("below", below.unwrap_or_default());
        key
    }

    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.update(&(name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    /// A list is not the same as its parts put together.
    pub fn list<T: AsRef<[u8]>>(&mut self, name: &str, values: impl ExactSizeIterator<Item = T>) {
        self.field(name, (values.len() as u64).to_le_bytes());
        for value in values {
            self.field("item", value);
        }
    }

    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn what_differs_has_another_key() {
        let key = |fields: &[(&str, &[&str])]| {
            let mut key = Key::new("run", None);
            for (name, values) in fields {
                key.list(name, values.iter());
            }
            key.finish()
        };
        let all = [
            key(&[]),
            key(&[("a", &[])]),
            key(&[("a", &[""])]),
            key(&[("a", &["b", "c"])]),
            key(&[("a", &["bc"])]),
            key(&[("a", &["b"]), ("a", &["c"])]),
            Key::new("run", Some("x")).finish(),
            Key::new("runx", None).finish(),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one), "{index}");
        }
        assert_eq!(key(&[("a", &["b"])]), key(&[("a", &["b"])]));
    }
}
