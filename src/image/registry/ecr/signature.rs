//! AWS Signature Version 4 for one POST with a body (AWS IAM User Guide, "Create a signed AWS API request").

use super::keys::Keys;
use crate::oci::Digest;
use ring::hmac;

/// The headers that sign a request to `host` made at `time` (`20150830T123600Z`): `x-amz-date`, the session's token if
/// there is one, and `authorization`. `headers` are those that are sent besides, in lower case.
#[expect(clippy::too_many_arguments, reason = "each is a field of what is signed")]
pub fn sign(
    keys: &Keys,
    region: &str,
    service: &str,
    time: &str,
    headers: &[(&str, &str)],
    host: &str,
    path: &str,
    body: &[u8],
) -> Vec<(&'static str, String)> {
    let mut added = vec![("x-amz-date", time.to_owned())];
    added.extend(keys.session.iter().map(|token| ("x-amz-security-token", token.clone())));
    let mut signed: Vec<(&str, &str)> = headers.to_vec();
    signed.push(("host", host));
    signed.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("POST\n{path}\n\n{lines}\n{names}\n{}", Digest::of(body).hex());
    let date = time.get(..8).unwrap_or(time);
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Digest::of(canonical.as_bytes()).hex());
    let signature = hex(mac(&signing_key(&keys.secret, date, region, service), &text).as_ref());
    let credential = format!("{}/{scope}", keys.id);
    added.push(("authorization", format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}")));
    added
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> hmac::Tag {
    let mut tag = mac_with(format!("AWS4{secret}").as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        tag = mac(&tag, part);
    }
    tag
}

fn mac(key: &hmac::Tag, text: &str) -> hmac::Tag {
    mac_with(key.as_ref(), text)
}

fn mac_with(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn keys(session: Option<&str>) -> Keys {
        Keys { id: "AKIDEXAMPLE".into(), secret: SECRET.into(), session: session.map(str::to_owned), source: "a test".into() }
    }

    fn signature(headers: &[(&str, &str)], body: &[u8]) -> String {
        let signed = sign(&keys(None), "us-east-1", "service", "20150830T123600Z", headers, "example.amazonaws.com", "/", body);
        signed.last().and_then(|(_, value)| value.split("Signature=").nth(1)).unwrap().to_owned()
    }

    /// AWS's own vectors: the signing key of the IAM User Guide, `post-vanilla` and `post-x-www-form-urlencoded` of the
    /// Signature Version 4 test suite.
    #[test]
    fn published_vectors() {
        let key = signing_key(SECRET, "20150830", "us-east-1", "iam");
        assert_eq!(hex(key.as_ref()), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        assert_eq!(signature(&[], b""), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(signature(&form, b"Param1=value1"), "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
    }

    #[test]
    fn a_sessions_token_is_signed_and_sent() {
        let signed = sign(&keys(Some("T")), "r", "ecr", "20150830T123600Z", &[("x-amz-target", "X")], "h", "/", b"{}");
        assert!(signed.contains(&("x-amz-security-token", "T".to_owned())));
        assert!(signed.last().unwrap().1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target,"), "{signed:?}");
    }
}
