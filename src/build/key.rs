//! Keys of the cache: a digest over all that decides the result of a step, and over nothing else.
//!
//! Invariant: fields are written with their names and lengths, so two different lists of fields never give the same bytes. What a
//! step starts from is beside all else, so that the key of the same step on other layers can be told (an image whose layers were
//! rewritten names the results of its steps on those).

use crate::oci::{Algorithm, Digest, DigestHasher};

/// Changes when the same step would give another result than with an older build of this program.
const VERSION: &str = "rcon build 2";

/// A key being made.
pub struct Key {
    fields: Fields,
    below: Option<String>,
}

/// The key of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    pub digest: Digest,
    /// Over all but the layers below.
    does: Digest,
    below: Option<String>,
}

impl Key {
    /// `kind`: what the step does (`run`, `copy`); `below`: the chain id of the layers that it starts from, if any.
    pub fn new(kind: &str, below: Option<&str>) -> Self {
        let mut fields = Fields::new();
        fields.add("kind", kind);
        Key { fields, below: below.map(str::to_owned) }
    }

    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.fields.add(name, value);
    }

    /// A list is not the same as its parts put together.
    pub fn list<T: AsRef<[u8]>>(&mut self, name: &str, values: impl ExactSizeIterator<Item = T>) {
        self.field(name, (values.len() as u64).to_le_bytes());
        for value in values {
            self.field("item", value);
        }
    }

    pub fn finish(self) -> StepKey {
        let does = self.fields.0.finish();
        StepKey { digest: on(&does, self.below.as_deref()), does, below: self.below }
    }
}

impl StepKey {
    /// The key of the same step on the layers that take the place of those below.
    pub fn moved(&self, place: impl Fn(&str) -> Option<String>) -> Option<Digest> {
        let Some(below) = &self.below else { return Some(self.digest.clone()) };
        place(below).map(|below| on(&self.does, Some(&below)))
    }
}

fn on(does: &Digest, below: Option<&str>) -> Digest {
    let mut fields = Fields::new();
    fields.add("does", does.as_str());
    fields.add("below", below.unwrap_or_default());
    fields.0.finish()
}

struct Fields(DigestHasher);

impl Fields {
    fn new() -> Self {
        let mut fields = Fields(DigestHasher::new(Algorithm::Sha256));
        fields.add("version", VERSION);
        fields
    }

    fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.update(&(name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
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
            key.finish().digest
        };
        let all = [
            key(&[]),
            key(&[("a", &[])]),
            key(&[("a", &[""])]),
            key(&[("a", &["b", "c"])]),
            key(&[("a", &["bc"])]),
            key(&[("a", &["b"]), ("a", &["c"])]),
            Key::new("run", Some("x")).finish().digest,
            Key::new("runx", None).finish().digest,
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one), "{index}");
        }
        assert_eq!(key(&[("a", &["b"])]), key(&[("a", &["b"])]));
    }

    #[test]
    fn the_same_step_on_other_layers_is_known() {
        let key = |below| {
            let mut key = Key::new("run", below);
            key.field("a", "b");
            key.finish()
        };
        let place = |below: &str| (below == "x").then(|| "y".to_owned());
        assert_eq!(key(Some("x")).moved(place), Some(key(Some("y")).digest));
        assert_eq!(key(None).moved(place), Some(key(None).digest));
        assert_eq!(key(Some("z")).moved(place), None);
    }
}
