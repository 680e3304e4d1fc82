//! Which images this host takes: a policy by registry and repository, and its enforcement.
//!
//! Everything an image can come from asks here: a pull before the registry is asked and again before a layer is
//! fetched, a load before anything is unpacked, and whoever is about to use a local image ([`admit`]). What cannot
//! be decided is refused.
//!
//! A signature is verified when an image is pulled; that is remembered with the key (table `verified_images`), so
//! that a run needs no registry and a key that is taken out of the policy is worth nothing from then on.

mod key;
mod payload;
mod policy;
mod signature;

pub use key::Key;
pub use policy::{Draft, Policy};

use super::registry::Registry;
use super::{Error, RegistryConfig};
use crate::oci::{Digest, Reference};
use crate::state::{Db, record};
use policy::{Decision, Rule, Signed, canonical, in_scope};

/// An image that the policy does not let in.
#[derive(Debug, thiserror::Error)]
#[error("image {image} is refused by the {rule}: {why}")]
pub struct Refusal {
    image: String,
    /// `trust policy for docker.io/library (/etc/rcon/rcon.toml:12)`.
    rule: String,
    why: Why,
    /// Why the signatures cannot be read.
    #[source]
    cause: Option<Box<Error>>,
}

/// Why an image is refused.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("images of that name are rejected")]
    Rejected,
    #[error("it must be named by its digest (require_digest)")]
    NoDigest,
    #[error("it has no signature")]
    Unsigned,
    #[error("no signature of it is valid: {0}")]
    Signatures(String),
    #[error("its signature was not verified yet")]
    NotVerified,
    #[error("it must be signed, and image archives carry no signatures")]
    Archive,
    #[error("its signatures cannot be read")]
    Unreadable,
}

impl Refusal {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self.why {
            Why::Rejected => "take the image from a repository that the policy accepts, or change the policy in the settings file named above",
            Why::NoDigest => "name it as NAME@sha256:…; the digest is shown by its registry and by rcon images --digests",
            Why::Unsigned | Why::Signatures(_) => {
                "have it signed with a key of the policy (cosign sign --key), or change the policy in the settings file named above"
            }
            Why::NotVerified => "verify it with rcon pull",
            Why::Archive => "pull the image from its registry, where its signatures are",
            Why::Unreadable => "try again when the registry can be reached; an image is not taken on trust meanwhile",
        }
    }
}

/// A signature that was verified.
#[derive(Debug, Clone)]
pub struct Verified {
    digest: Digest,
    key: Key,
}

/// The policy as it applies to one image name.
pub struct Gate<'a> {
    rule: &'a Rule,
    reference: &'a Reference,
}

impl<'a> Gate<'a> {
    /// What the policy says about a name. Refuses what can be refused without looking at the image.
    ///
    /// # Errors
    /// The settings cannot be used; the name is rejected, or lacks a digest that it needs.
    pub fn of(config: &'a RegistryConfig, reference: &'a Reference) -> Result<Self, Error> {
        config.usable()?;
        let gate = Gate { rule: config.trust.rule(reference), reference };
        if matches!(gate.rule.decision, Decision::Reject) {
            return Err(gate.refuse(Why::Rejected));
        }
        if gate.rule.require_digest && reference.digest().is_none() {
            return Err(gate.refuse(Why::NoDigest));
        }
        Ok(gate)
    }

    fn refuse(&self, why: Why) -> Error {
        Error::Refused(Box::new(Refusal { image: self.reference.familiar(), rule: self.rule.shown.clone(), why, cause: None }))
    }

    fn unreadable(&self, cause: Error) -> Error {
        let (image, rule) = (self.reference.familiar(), self.rule.shown.clone());
        Error::Refused(Box::new(Refusal { image, rule, why: Why::Unreadable, cause: Some(Box::new(cause)) }))
    }

    fn signed(&self) -> Option<&Signed> {
        match &self.rule.decision {
            Decision::Signed(signed) => Some(signed),
            Decision::Accept | Decision::Reject => None,
        }
    }

    /// Verifies a signature over one of these digests: what the name points to, then what was chosen from it.
    /// None: the policy asks for none.
    ///
    /// # Errors
    /// There is no signature that counts, or that cannot be found out.
    pub async fn verify(&self, registry: &Registry, digests: &[&Digest]) -> Result<Option<Verified>, Error> {
        let Some(signed) = self.signed() else { return Ok(None) };
        let mut reasons = Vec::new();
        for (position, digest) in digests.iter().enumerate() {
            if digests[..position].contains(digest) {
                continue;
            }
            let found = signature::fetch(registry, self.reference, digest).await.map_err(|error| self.unreadable(error))?;
            match signature::judge(&found, &signed.keys, &[*digest], |claimed| self.is_identity(signed, claimed)) {
                Ok(key) => return Ok(Some(Verified { digest: (*digest).clone(), key: key.clone() })),
                Err(why) if why.is_empty() => {}
                Err(why) => reasons.push(why),
            }
        }
        Err(self.refuse(if reasons.is_empty() { Why::Unsigned } else { Why::Signatures(reasons.join("; ")) }))
    }

    /// The repository in a signature: the image's own, or what the policy names in its place (a copy of images
    /// that were signed where they come from).
    fn is_identity(&self, signed: &Signed, claimed: &Reference) -> bool {
        match &signed.identity {
            Some(scope) => in_scope(&canonical(claimed), scope),
            None => canonical(claimed) == canonical(self.reference),
        }
    }

    /// Whether a signature of this local image was verified before, for this repository and with a key that the
    /// policy names now.
    ///
    /// # Errors
    /// Database.
    pub fn known(&self, db: &Db, image: &str) -> Result<bool, Error> {
        let Some(signed) = self.signed() else { return Ok(true) };
        let verified = db.verified_keys(image, &canonical(self.reference), signed.identity.as_deref().unwrap_or_default())?;
        Ok(verified.iter().any(|id| signed.keys.iter().any(|key| key.id.as_str() == id)))
    }

    /// Remembers a verification.
    ///
    /// # Errors
    /// Database.
    pub fn remember(&self, db: &Db, image: &str, verified: Option<&Verified>) -> Result<(), Error> {
        let (Some(verified), Some(signed)) = (verified, self.signed()) else { return Ok(()) };
        let row = record::VerifiedImage {
            image: image.to_owned(),
            repository: canonical(self.reference),
            identity: signed.identity.clone().unwrap_or_default(),
            digest: verified.digest.to_string(),
            key: verified.key.id.to_string(),
        };
        Ok(db.write(true, |tx| tx.put_verified_image(&row))?)
    }
}

/// For talk: `signed with the key /etc/rcon/keys/team.pub`.
impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is signed with the key {}", self.digest, self.key.shown)
    }
}

/// Asks whether a local image may be used under the policy in force; `name` is what the user typed. By a name of
/// the image that name decides; by id, it is enough that one of its names is let in: who may say one may say
/// the other. An image without a name is judged by the policy for names of no scope.
///
/// # Errors
/// [`Error::Refused`]; the settings cannot be used; database.
pub fn admit(config: &RegistryConfig, db: &Db, name: &str, image: &str) -> Result<(), Error> {
    config.usable()?;
    if config.trust.accepts_all() {
        return Ok(());
    }
    let typed: Option<Reference> = name.parse().ok();
    let points = |reference: &Reference| -> Result<bool, Error> {
        let exact = db.image_named(&reference.to_string())?;
        let by_digest = match (exact, reference.digest()) {
            (None, Some(digest)) => db.image_named(&reference.with_digest(digest).to_string())?,
            (exact, _) => exact,
        };
        Ok(by_digest.as_deref() == Some(image))
    };
    if let Some(reference) = typed
        && points(&reference)?
    {
        return admit_name(config, db, &reference, image);
    }
    let mut refusal = None;
    for (text, _) in db.names()?.into_iter().filter(|(_, id)| id == image) {
        // An id is a digest of the content, so the digest that a name may need is there.
        let Ok(reference) = text.parse::<Reference>() else { continue };
        let pinned = reference.with_digest(image);
        match admit_name(config, db, &pinned, image) {
            Ok(()) => return Ok(()),
            Err(error) => refusal = Some(renamed(error, &reference)),
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => admit_nameless(config, image, Why::NotVerified),
    }
}

fn admit_name(config: &RegistryConfig, db: &Db, reference: &Reference, image: &str) -> Result<(), Error> {
    let gate = Gate::of(config, reference)?;
    if gate.known(db, image)? { Ok(()) } else { Err(gate.refuse(Why::NotVerified)) }
}

fn admit_nameless(config: &RegistryConfig, image: &str, unverified: Why) -> Result<(), Error> {
    let rule = config.trust.default_rule();
    let why = match rule.decision {
        Decision::Accept => return Ok(()),
        Decision::Reject => Why::Rejected,
        Decision::Signed(_) => unverified,
    };
    Err(Error::Refused(Box::new(Refusal { image: image.to_owned(), rule: rule.shown.clone(), why, cause: None })))
}

/// Asks whether an archive may bring an image under these names. An image whose signature was verified before may
/// be loaded again.
///
/// # Errors
/// As [`admit`].
pub fn admit_load(config: &RegistryConfig, db: &Db, names: &[Reference], image: &Digest) -> Result<(), Error> {
    config.usable()?;
    for name in names {
        // The bytes are at hand: there is nothing that a digest would pin.
        let pinned = name.with_digest(image.as_str());
        let gate = Gate::of(config, &pinned).map_err(|error| renamed(error, name))?;
        if !gate.known(db, image.as_str())? {
            return Err(renamed(gate.refuse(Why::Archive), name));
        }
    }
    if names.is_empty() { admit_nameless(config, image.as_str(), Why::Archive) } else { Ok(()) }
}

/// The same refusal, of the name that the user knows.
fn renamed(error: Error, name: &Reference) -> Error {
    match error {
        Error::Refused(refusal) => Error::Refused(Box::new(Refusal { image: name.familiar(), ..*refusal })),
        other => other,
    }
}
