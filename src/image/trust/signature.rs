//! Where signatures are found and how they are judged.
//!
//! cosign keeps the signatures of an image beside it: as the layers of a manifest under the tag
//! `sha256-<hex>.sig`, or of manifests that refer to it (OCI 1.1), which registries without the referrers API list
//! under the tag `sha256-<hex>` (distribution-spec, "Referrers Tag Schema").

use super::{Key, payload};
use crate::image::Error;
use crate::image::registry::Registry;
use crate::oci::{Digest, Document, Manifest, Reference};
use base64::Engine as _;

/// Media type of a payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation with the signature over the payload, in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Most signatures of one image that are looked at: each costs a request.
const SIGNATURES: usize = 64;
/// Most manifests that refer to an image and are looked at.
const REFERRERS: usize = 64;
/// Most bytes of a payload.
const PAYLOAD_LIMIT: usize = 256 << 10;

/// One signature, as found.
pub struct Signature {
    pub payload: Vec<u8>,
    /// Base64, not decoded yet.
    pub signature: String,
}

/// The signatures of one manifest or index, from its repository. Empty: it has none.
///
/// # Errors
/// The registry cannot be asked, or serves something that is not what it should be.
pub async fn fetch(registry: &Registry, reference: &Reference, digest: &Digest) -> Result<Vec<Signature>, Error> {
    let tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    let mut found = Vec::new();
    if let Some(Document::Manifest(manifest)) = document(registry, reference, &format!("{tag}.sig")).await? {
        payloads(registry, &manifest, &mut found).await?;
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some(Document::Index(index)) = document(registry, reference, &tag).await? {
        for entry in index.manifests.iter().take(REFERRERS) {
            // What refers to an image may be of any kind: attestations, bills of materials.
            if let Ok(Some(Document::Manifest(manifest))) = document(registry, reference, entry.digest.as_str()).await {
                payloads(registry, &manifest, &mut found).await?;
            }
        }
    }
    Ok(found)
}

/// A manifest or index by tag or digest; None if there is none.
async fn document(registry: &Registry, reference: &Reference, wanted: &str) -> Result<Option<Document>, Error> {
    let raw = match registry.manifest(wanted).await {
        Err(Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let document = Document::parse(&raw.bytes, raw.content_type.as_deref());
    document.map(Some).map_err(|source| Error::Manifest { reference: format!("{}:{wanted}", reference.familiar_name()), source })
}

async fn payloads(registry: &Registry, manifest: &Manifest, found: &mut Vec<Signature>) -> Result<(), Error> {
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
        if found.len() == SIGNATURES {
            return Ok(());
        }
        let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
        let payload = registry.small_blob(layer, PAYLOAD_LIMIT, "the payload of a signature").await?;
        found.push(Signature { payload, signature: signature.clone() });
    }
    Ok(())
}

/// Looks for a signature made with one of the keys that says what it must: one of these digests, and a
/// repository that `identity` accepts. Returns the key.
///
/// # Errors
/// Why none of them counts, in words, the signature that came nearest first.
pub fn judge<'a>(signatures: &[Signature], keys: &'a [Key], digests: &[&Digest], identity: impl Fn(&Reference) -> bool) -> Result<&'a Key, String> {
    let mut unknown = 0;
    let mut reasons = Vec::new();
    for signature in signatures {
        let decoded = base64::engine::general_purpose::STANDARD.decode(signature.signature.trim());
        let made_by = |key: &&Key| decoded.as_ref().is_ok_and(|decoded| key.verifies(&signature.payload, decoded));
        // Nothing of a payload is read before its signature was verified.
        let Some(key) = keys.iter().find(made_by) else {
            unknown += 1;
            continue;
        };
        match payload::parse(&signature.payload) {
            Err(why) => reasons.push(format!("the payload of a signature {why}")),
            Ok(claim) if !digests.contains(&&claim.digest) => reasons.push(format!("a signature is for {}", claim.digest)),
            Ok(claim) if !identity(&claim.reference) => reasons.push(format!("a signature is for the repository {}", claim.reference.name())),
            Ok(_) => return Ok(key),
        }
    }
    if unknown > 0 {
        let verb = if unknown == 1 { "signature was" } else { "signatures were" };
        reasons.push(format!("{unknown} {verb} not made with {}", keys.iter().map(|key| key.shown.as_str()).collect::<Vec<_>>().join(" or ")));
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::Signer;
    use super::super::payload::tests::payload;
    use super::*;

    #[test]
    fn a_signature_counts_for_its_digest_and_repository_alone() {
        let (signer, stranger) = (Signer::ecdsa(), Signer::edwards());
        let (digest, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let keys = [Signer::edwards().key(), signer.key()];
        let same = |reference: &Reference| reference.name() == "r.example/team/app";
        let sign = |signer: &Signer, payload: &[u8]| Signature {
            payload: payload.to_vec(),
            signature: base64::engine::general_purpose::STANDARD.encode(signer.sign(payload)),
        };
        let good = payload("r.example/team/app", digest.as_str());
        let judged = |signatures: &[Signature]| judge(signatures, &keys, &[&digest], same).map(|key| key.id.clone());
        assert_eq!(judged(&[sign(&stranger, &good), sign(&signer, &good)]), Ok(signer.key().id));
        for (signature, part) in [
            (sign(&stranger, &good), "1 signature was not made with test or test"),
            (sign(&signer, &payload("r.example/team/app", other.as_str())), other.as_str()),
            (sign(&signer, &payload("r.example/other", digest.as_str())), "for the repository r.example/other"),
            (sign(&signer, b"{}"), "payload of a signature is not valid"),
            (Signature { payload: payload("r.example/team/app", digest.as_str()), ..sign(&signer, &payload("x", digest.as_str())) }, "not made with"),
            (Signature { signature: "!".to_owned(), ..sign(&signer, &good) }, "not made with"),
        ] {
            let why = judged(&[signature]).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert!(judged(&[]).unwrap_err().is_empty());
        assert!(judge(&[sign(&signer, &good)], &[], &[&digest], same).is_err());
    }
}
