//! The client of the OCI distribution protocol: manifests as raw bytes, blobs as resumable streams.
//!
//! Invariants: every body has a limit; what a digest names is compared with it by the caller or here; HTTPS
//! never falls back to HTTP; credentials go to the registry they belong to and its token server only.
//!
//! `oci-client` gives the shapes of credentials and error bodies. Its requests are not used: it reads manifests
//! of any size, follows any token realm, hashes each blob byte a second time, and hides status and
//! `Retry-After` from its caller.

mod auth;
mod credentials;
mod endpoint;
mod transfer;

pub use endpoint::Endpoint;
pub use transfer::Fetched;

use super::{Error, Progress, RegistryConfig};
use crate::oci::{Digest, MANIFEST_LIMIT, Reference, media};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use std::time::Duration;

/// Time to open a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest silence of a peer.
const STALL: Duration = Duration::from_secs(60);
/// Tries of one request or transfer.
pub const TRIES: u32 = 5;
/// Longest pause between tries.
const LONGEST_PAUSE: u64 = 30;
/// Longest `Retry-After` that is honoured rather than reported.
const LONGEST_RETRY_AFTER: u64 = 120;
/// Most bytes of an error body.
const ERROR_BODY: usize = 64 << 10;

/// One pull's view of a registry and its mirrors.
pub struct Registry {
    /// Mirrors first, the registry itself last.
    endpoints: Vec<Endpoint>,
    reference: Reference,
    authority: auth::Authority,
}

/// One request.
struct Ask<'a> {
    method: Method,
    /// After `/v2/<repository>/`.
    path: &'a str,
    accept: Option<&'a str>,
    /// First byte wanted; 0 is all.
    from: u64,
    /// For messages: `read the manifest`.
    operation: &'a str,
}

/// A manifest or index as received.
#[derive(Debug, Clone)]
pub struct RawManifest {
    pub bytes: Vec<u8>,
    pub content_type: Option<String>,
    /// Computed over the bytes.
    pub digest: Digest,
}

impl Registry {
    /// # Errors
    /// The configuration is not valid, or TLS cannot be set up.
    pub fn new(config: &RegistryConfig, reference: &Reference) -> Result<Self, Error> {
        config.usable()?;
        // The second caller in one process finds it installed, which is what we want.
        drop(rustls::crypto::ring::default_provider().install_default());
        let endpoints = endpoint::of(config, reference.registry())?;
        Ok(Registry { endpoints, reference: reference.clone(), authority: auth::Authority::new(config)? })
    }

    /// The digest a tag points to now, without counting as a pull. None if the registry does not say.
    pub async fn head(&self) -> Option<Digest> {
        let tag = self.reference.tag()?;
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        let path = format!("manifests/{tag}");
        let ask = Ask { method: Method::HEAD, path: &path, accept: Some(&accept), from: 0, operation: "look up the tag" };
        let response = self.send(self.endpoints.last()?, &ask).await.ok()?;
        response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
    }

    /// Reads a manifest or index by tag or digest.
    ///
    /// # Errors
    /// No endpoint has it; a wrong digest; limits.
    pub async fn manifest(&self, wanted: &str) -> Result<RawManifest, Error> {
        let mut last = None;
        for endpoint in &self.endpoints {
            match self.manifest_from(endpoint, wanted).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => {
                    tracing::debug!("{}: {error}", endpoint.host);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound { reference: self.reference.familiar() }))
    }

    async fn manifest_from(&self, endpoint: &Endpoint, wanted: &str) -> Result<RawManifest, Error> {
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        let path = format!("manifests/{wanted}");
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ask = Ask { method: Method::GET, path: &path, accept: Some(&accept), from: 0, operation: "read the manifest" };
            let outcome = async {
                let response = self.send(endpoint, &ask).await?;
                let content_type = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
                let what = || format!("the manifest of {}", self.reference.familiar());
                let bytes = body(response, MANIFEST_LIMIT, &what).await.map_err(|e| self.broken(endpoint, ask.operation, e))?;
                let digest = match wanted.parse::<Digest>() {
                    Ok(expected) if expected.matches(&bytes) => expected,
                    Ok(expected) => return Err(Error::Digest { what: what(), expected, actual: Digest::of(&bytes) }),
                    Err(_) => Digest::of(&bytes),
                };
                Ok(RawManifest { bytes, content_type, digest })
            };
            match outcome.await {
                // A refused connection on first contact is a typo or a registry that is down: no use to wait.
                Err(Error::Unreachable { source, .. }) if attempt == 1 && refused(source.as_ref()) => {
                    return Err(Error::Unreachable { registry: endpoint.host.clone(), operation: ask.operation.to_owned(), source });
                }
                Err(error) if error.is_transient() && attempt < TRIES => tokio::time::sleep(pause(attempt, None)).await,
                other => return other,
            }
        }
    }

    /// Sends a request with the credentials the registry asks for; at most two rounds of authentication.
    async fn send(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Response, Error> {
        let url = format!("{}/v2/{}/{}", endpoint.base, self.reference.repository(), ask.path);
        let mut round = 0;
        loop {
            let mut request = endpoint.client.request(ask.method.clone(), &url);
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if let Some(authorization) = self.authority.known(endpoint, self.reference.repository()) {
                request = request.header(reqwest::header::AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|e| self.unreachable(endpoint, ask.operation, e))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && round < 2 {
                round += 1;
                self.authority.answer(endpoint, &self.reference, response.headers(), round).await?;
                continue;
            }
            if status.is_success() {
                return Ok(response);
            }
            return Err(self.refusal(endpoint, ask, response).await);
        }
    }

    /// Turns an answer that is no success into a sentence.
    async fn refusal(&self, endpoint: &Endpoint, ask: &Ask<'_>, response: Response) -> Error {
        let status = response.status();
        let after = retry_after(response.headers().get(RETRY_AFTER));
        let text = body(response, ERROR_BODY, &|| "the error".to_owned()).await.unwrap_or_default();
        let message = error_message(&text);
        let name = self.reference.familiar_name();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !self.authority.has_credentials(endpoint) => Error::Denied { name },
            StatusCode::UNAUTHORIZED => Error::Credentials { registry: endpoint.host.clone(), name },
            StatusCode::NOT_FOUND if ask.path.starts_with("manifests/") => Error::NotFound { reference: self.reference.familiar() },
            StatusCode::TOO_MANY_REQUESTS => {
                if let Some(after) = after {
                    self.authority.wait_until(after);
                }
                Error::RateLimited { registry: endpoint.host.clone() }
            }
            status => Error::Answer { registry: endpoint.host.clone(), operation: ask.operation.to_owned(), status: status.as_u16(), message },
        }
    }

    fn unreachable(&self, endpoint: &Endpoint, operation: &str, error: reqwest::Error) -> Error {
        // The address may hold the secrets of a redirect.
        let source = Box::new(error.without_url());
        Error::Unreachable { registry: endpoint.host.clone(), operation: operation.to_owned(), source }
    }

    fn broken(&self, endpoint: &Endpoint, operation: &str, error: BodyError) -> Error {
        match error {
            BodyError::Broken(error) => self.unreachable(endpoint, operation, error),
            BodyError::TooLarge(what, limit) => Error::TooLarge { what, limit: limit as u64 },
        }
    }
}

enum BodyError {
    Broken(reqwest::Error),
    TooLarge(String, usize),
}

/// Reads a whole body of limited size.
async fn body(mut response: Response, limit: usize, what: &dyn Fn() -> String) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if bytes.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge(what(), limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The words of a registry's error body, safe to print.
fn error_message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<oci_distribution::errors::OciEnvelope>(body) {
        Ok(envelope) => envelope.errors.iter().map(|e| e.message.as_str()).collect::<Vec<_>>().join("; "),
        Err(_) => serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|value| value.pointer("/errors/0/message").or(value.pointer("/details")).and_then(|m| m.as_str().map(str::to_owned)))
            .unwrap_or_default(),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn refused(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
}

/// `Retry-After` in seconds, if it is a number worth waiting for.
fn retry_after(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.trim().parse().ok().filter(|seconds| *seconds <= LONGEST_RETRY_AFTER)
}

/// Exponential pause with jitter: 1, 2, 4, … seconds, up to half less, never shorter than what the server asked for.
pub fn pause(attempt: u32, asked: Option<u64>) -> Duration {
    let whole = (1000u64 << attempt.saturating_sub(1).min(6)).min(LONGEST_PAUSE * 1000);
    let random = u64::from_str_radix(&crate::base::random_hex(8), 16).unwrap_or(0);
    let jittered = whole / 2 + random % (whole / 2 + 1);
    Duration::from_millis(jittered.max(asked.unwrap_or(0) * 1000))
}

/// Tells the caller of a pause.
fn announce(progress: &(dyn Fn(Progress) + Sync), layer: &str, pause: Duration, why: &Error) {
    let why = match std::error::Error::source(why) {
        Some(source) => format!("{why}: {source}"),
        None => why.to_string(),
    };
    progress(Progress::Retrying { id: layer.to_owned(), seconds: pause.as_secs().max(1), why });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for attempt in 1..=10 {
            let whole = (1000u64 << (attempt - 1).min(6)).min(30_000);
            let ms = u64::try_from(pause(attempt, None).as_millis()).unwrap();
            assert!(ms >= whole / 2 && ms <= whole, "{attempt}: {ms}");
        }
        assert!(pause(1, Some(7)) >= Duration::from_secs(7));
    }

    #[test]
    fn error_bodies_lose_control_characters() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"}]}"#;
        assert_eq!(error_message(body), "no[31m way");
        assert_eq!(error_message(b"<html>"), "");
        assert_eq!(retry_after(Some(&HeaderValue::from_static("7"))), Some(7));
        assert_eq!(retry_after(Some(&HeaderValue::from_static("99999"))), None);
    }
}
