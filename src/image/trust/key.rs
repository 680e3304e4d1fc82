//! Public keys in PEM and the signatures made with their private halves.

use crate::oci::Digest;
use base64::Engine as _;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};

/// What precedes the 65-byte uncompressed point in a P-256 SubjectPublicKeyInfo (RFC 5480, 2.1.1): algorithm
/// id-ecPublicKey, curve secp256r1, bit string.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03,
    0x42, 0x00,
];
/// Bytes of an uncompressed point: 4, x, y (SEC 1, 2.3.3).
const P256_POINT: usize = 65;
/// What precedes the 32 bytes of an Ed25519 key (RFC 8410, section 4).
const EDWARDS: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const EDWARDS_POINT: usize = 32;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    EcdsaP256,
    Ed25519,
}

/// A key that may sign images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    algorithm: Algorithm,
    point: Vec<u8>,
    /// Digest of the SubjectPublicKeyInfo: the same key has the same one wherever it is stored.
    pub id: Digest,
    /// For people: where it was read from.
    pub shown: String,
}

impl Key {
    /// Reads a public key from PEM (RFC 7468, section 13).
    ///
    /// # Errors
    /// What is wrong with it, for the sentence `KEY is no public key: …`.
    pub fn parse(pem: &str, shown: &str) -> Result<Self, String> {
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let Some((body, rest)) = body else {
            let private = pem.contains("PRIVATE KEY-----");
            return Err(if private { "it is a private key: give the public one" } else { "it has no block \"BEGIN PUBLIC KEY\"" }.to_owned());
        };
        if rest.contains(BEGIN) {
            return Err("it holds more than one key: give each a file of its own".to_owned());
        }
        let text: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| format!("its base64 is not valid: {error}"))?;
        let of = |prefix: &[u8], length: usize| der.strip_prefix(prefix).filter(|point| point.len() == length).map(<[u8]>::to_vec);
        let (algorithm, point) = match (of(P256, P256_POINT), of(EDWARDS, EDWARDS_POINT)) {
            (Some(point), _) if point[0] == 4 => (Algorithm::EcdsaP256, point),
            (_, Some(point)) => (Algorithm::Ed25519, point),
            _ => return Err("it is neither an ECDSA key on P-256 nor an Ed25519 key, which are what is supported".to_owned()),
        };
        Ok(Key { algorithm, point, id: Digest::of(&der), shown: shown.to_owned() })
    }

    /// True if the signature over the message was made with the private half of this key. ECDSA signatures are
    /// those of SHA-256 in ASN.1 form, as cosign writes them.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match self.algorithm {
            Algorithm::EcdsaP256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(message, signature),
            Algorithm::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.point).verify(message, signature),
        };
        outcome.is_ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    /// A key pair made for one test.
    pub(crate) enum Signer {
        EcdsaP256(EcdsaKeyPair),
        Ed25519(Ed25519KeyPair),
    }

    impl Signer {
        pub(crate) fn ecdsa() -> Self {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
            Signer::EcdsaP256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap())
        }

        pub(crate) fn edwards() -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Signer::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
        }

        pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
            match self {
                Signer::EcdsaP256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
                Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            }
        }

        pub(crate) fn pem(&self) -> String {
            let der = match self {
                Signer::EcdsaP256(pair) => [P256, pair.public_key().as_ref()].concat(),
                Signer::Ed25519(pair) => [EDWARDS, pair.public_key().as_ref()].concat(),
            };
            format!("{BEGIN}\n{}\n{END}\n", base64::engine::general_purpose::STANDARD.encode(der))
        }

        pub(crate) fn key(&self) -> Key {
            Key::parse(&self.pem(), "test").unwrap()
        }
    }

    #[test]
    fn both_kinds_verify_their_own_signatures_alone() {
        for (signer, other) in [(Signer::ecdsa(), Signer::edwards()), (Signer::edwards(), Signer::ecdsa())] {
            let signature = signer.sign(b"message");
            assert!(signer.key().verifies(b"message", &signature));
            assert!(!signer.key().verifies(b"messagf", &signature));
            assert!(!other.key().verifies(b"message", &signature));
            assert!(!signer.key().verifies(b"message", &[]));
            let mut damaged = signature;
            damaged[9] ^= 1;
            assert!(!signer.key().verifies(b"message", &damaged));
        }
        let signer = Signer::edwards();
        assert_ne!(signer.key().id, Signer::edwards().key().id);
        assert_eq!(signer.key().id, Key::parse(&format!("text before\n{}", signer.pem()), "other").unwrap().id);
    }

    #[test]
    fn what_is_no_supported_key_is_refused() {
        let rsa = format!("{BEGIN}\n{}\n{END}\n", base64::engine::general_purpose::STANDARD.encode([0x30, 0x82, 1, 2, 3]));
        let pair = format!("{}{}", Signer::edwards().pem(), Signer::ecdsa().pem());
        for (pem, part) in [
            ("", "no block"),
            ("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----", "private key"),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "base64"),
            (&rsa, "neither"),
            (&pair, "more than one"),
        ] {
            assert!(Key::parse(pem, "x").unwrap_err().contains(part), "{pem}");
        }
    }
}
