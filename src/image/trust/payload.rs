//! The payload of a simple signing signature: what exactly was signed.
//!
//! Form: cosign's signature specification, "Payloads"; the container image signature format it follows is
//! containers-signature(5).

use crate::oci::{Digest, Reference};
use serde::Deserialize;

const KIND: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// What a payload claims. It is worth something only when its signature was verified.
#[derive(Debug, PartialEq)]
pub struct Claim {
    /// Repository the image was signed for.
    pub reference: Reference,
    /// Digest of the signed manifest or index.
    pub digest: Digest,
}

/// Reads a payload.
///
/// # Errors
/// Why it says nothing about an image, for the sentence `the payload of a signature …`.
pub fn parse(bytes: &[u8]) -> Result<Claim, String> {
    let payload: Payload = serde_json::from_slice(bytes).map_err(|error| format!("is not valid: {error}"))?;
    if payload.critical.kind != KIND {
        return Err(format!("has the type \"{}\" rather than \"{KIND}\"", payload.critical.kind.escape_default()));
    }
    let reference = payload.critical.identity.reference.parse().map_err(|error| format!("names no repository: {error}"))?;
    Ok(Claim { reference, digest: payload.critical.image.digest })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn payload(reference: &str, digest: &str) -> Vec<u8> {
        let payload = serde_json::json!({"critical": {"identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest}, "type": KIND}, "optional": null});
        serde_json::to_vec(&payload).unwrap()
    }

    #[test]
    fn claims_are_read_and_anything_odd_is_refused() {
        let digest = Digest::of(b"x").to_string();
        let good = payload("index.docker.io/library/busybox", &digest);
        let claim = parse(&good).unwrap();
        assert_eq!((claim.reference.name().as_str(), claim.digest.as_str()), ("docker.io/library/busybox", digest.as_str()));
        let text = String::from_utf8(good).unwrap();
        for (from, to) in [
            (KIND, "atomic container signature"),
            (digest.as_str(), "sha256:00"),
            ("index.docker.io/library/busybox", ""),
            ("\"docker-reference\"", "\"docker_reference\""),
            ("{\"identity\"", "{\"type\":\"x\",\"identity\""),
            ("\"critical\"", "\"optional\""),
        ] {
            assert!(parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
