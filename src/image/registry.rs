//! The client of the OCI distribution protocol: manifests as raw bytes, blobs as resumable streams.
//!
//! Invariants: every body has a limit; what a digest names is compared with it by the caller or here; HTTPS
//! never falls back to HTTP; credentials go to the registry they belong to and its token server only.
//!
//! `oci-client` gives the shapes of credentials and error bodies. Its requests are not used: it reads manifests
//! of any size, follows any token realm, hashes each blob byte a second time, and hides status and
//! `Retry-After` from its caller.

mod auth;
mod certs;
mod challenge;
mod credential_helper;
mod credentials;
mod ecr;
mod endpoint;
mod listing;
mod login;
mod tls;
mod transfer;
mod upload;

pub use credentials::Kept;
pub use endpoint::Endpoint;
pub use listing::{Found, Referrers, fallback_tag, search};
pub use login::{login, logout, stored, verify_login};
pub use transfer::Fetched;
pub use upload::{Grown, Mount, Outgoing};

use super::{Error, Progress, RegistryConfig};
use crate::oci::{Digest, MANIFEST_LIMIT, Reference, media};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use std::time::Duration;

/// Time to open a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest silence of a peer before its answer: a cache may fetch from its upstream first.
const STALL: Duration = Duration::from_secs(60);
/// Tries of one request or transfer.
pub const TRIES: u32 = 5;
/// Longest pause between tries.
const LONGEST_PAUSE: u64 = 30;
/// Longest `Retry-After` that is waited for rather than reported.
pub const LONGEST_RETRY_AFTER: u64 = 120;
/// Most bytes of an error body.
const ERROR_BODY: usize = 64 << 10;

/// One pull's view of a registry and its mirrors.
pub struct Registry {
    /// Mirrors first, the registry itself last.
    endpoints: Vec<Endpoint>,
    reference: Reference,
    authority: auth::Authority,
    /// A mirror gave bytes that are not what their digest says: mirrors are not asked any more.
    mirrors_distrusted: std::cell::Cell<bool>,
    /// Upload sessions that were begun.
    opened: std::cell::RefCell<Vec<Url>>,
}

/// One request.
#[derive(Default)]
pub struct Ask<'a> {
    pub method: Method,
    /// After `/v2/<repository>/`.
    pub path: &'a str,
    /// A whole address that the registry named (the `Location` of an upload), instead of `path`.
    pub address: Option<&'a Url>,
    pub accept: Option<&'a str>,
    /// First byte wanted; 0 is all.
    pub from: u64,
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// Makes the body, anew for each time that the request is sent.
    pub body: Option<&'a dyn Fn() -> Body>,
    /// For messages: `read the manifest`.
    pub operation: &'a str,
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
        // The second caller in one process finds it installed, which is what we want.
        drop(rustls::crypto::ring::default_provider().install_default());
        let endpoints = endpoint::of(config, reference.registry())?;
        let mut authority = auth::Authority::new(config);
        authority.ask_for(vec![format!("repository:{}:pull", reference.repository())]);
        Ok(Registry { endpoints, reference: reference.clone(), authority, mirrors_distrusted: Default::default(), opened: Default::default() })
    }

    /// The digest a tag points to now, without counting as a pull. None if the registry does not say.
    pub async fn head(&self) -> Option<Digest> {
        let tag = self.reference.tag()?;
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        let path = format!("manifests/{tag}");
        let ask = Ask { method: Method::HEAD, path: &path, accept: Some(&accept), operation: "look up the tag", ..Ask::default() };
        for endpoint in self.asked() {
            let digest = self.send(endpoint, &ask).await.ok().and_then(|response| {
                let header = response.headers().get("docker-content-digest")?;
                header.to_str().ok()?.parse().ok()
            });
            if digest.is_some() {
                return digest;
            }
        }
        None
    }

    /// Reads a manifest or index by tag or digest.
    ///
    /// # Errors
    /// No endpoint has it; a wrong digest; limits.
    pub async fn manifest(&self, wanted: &str) -> Result<RawManifest, Error> {
        let mut last = None;
        for endpoint in self.asked() {
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

    /// The endpoints in the order in which they are asked.
    fn asked(&self) -> &[Endpoint] {
        let first = if self.mirrors_distrusted.get() { self.endpoints.len().saturating_sub(1) } else { 0 };
        &self.endpoints[first..]
    }

    /// True while mirrors are asked before the registry.
    pub fn asks_mirrors(&self) -> bool {
        self.asked().len() > 1
    }

    /// From now on only the registry itself is asked.
    pub fn distrust_mirrors(&self) {
        self.mirrors_distrusted.set(true);
    }

    /// Tries at one endpoint: a mirror that does not answer is left for the next one at once.
    fn tries(&self, endpoint: &Endpoint) -> u32 {
        if self.endpoints.last().is_some_and(|last| std::ptr::eq(last, endpoint)) { TRIES } else { 1 }
    }

    async fn manifest_from(&self, endpoint: &Endpoint, wanted: &str) -> Result<RawManifest, Error> {
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        let path = format!("manifests/{wanted}");
        let ask = Ask { path: &path, accept: Some(&accept), operation: "read the manifest", ..Ask::default() };
        self.retried(endpoint, async || {
            let response = self.send(endpoint, &ask).await?;
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
            let what = || format!("the manifest of {}", self.reference.familiar());
            let url = response.url().clone();
            let bytes = body(response, MANIFEST_LIMIT, &what).await.map_err(|e| broken(endpoint, &url, ask.operation, e))?;
            let digest = match wanted.parse::<Digest>() {
                Ok(expected) if expected.matches(&bytes) => expected,
                Ok(expected) => return Err(Error::Digest { what: what(), expected, actual: Digest::of(&bytes) }),
                Err(_) => Digest::of(&bytes),
            };
            Ok(RawManifest { bytes, content_type, digest })
        })
        .await
    }

    /// Does `work` until it succeeds, fails for good, or was tried often enough.
    pub async fn retried<T>(&self, endpoint: &Endpoint, work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match work().await {
                // A refused connection on first contact is a typo or a registry that is down: no use to wait.
                Err(error) if attempt == 1 && is_refused(&error) => return Err(error),
                Err(error) if error.is_transient() && attempt < self.tries(endpoint) => {
                    let pause = pause(attempt, self.authority.asked_pause());
                    tracing::debug!("{error}; trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
    }

    /// Sends a request with the credentials the registry asks for; at most two rounds of authentication.
    ///
    /// # Errors
    /// No answer, or one that is not a success, in words.
    pub async fn send(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut round = 0;
        loop {
            let url = match ask.address {
                Some(address) => address.clone(),
                None => endpoint.address(&format!("{}/{}", self.reference.repository(), ask.path))?,
            };
            let known = self.authority.known(endpoint, self.reference.repository()).filter(|_| endpoint.owns(&url));
            let sent = endpoint.follow(ask.method.clone(), url, known.as_ref(), ask.operation, &|request| ask.dress(request)).await;
            let response = match sent {
                Err(error) if ask.address.is_none() && endpoint.fall_back(&error) => continue,
                other => other?,
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && endpoint.owns(response.url());
            if refused && known.is_some() && self.authority.reconsider(endpoint, self.reference.repository()).await? {
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && round < 3 && endpoint.owns(response.url()) {
                round += 1;
                self.authority.answer(endpoint, &self.reference, response.headers(), known.as_ref(), round).await?;
                continue;
            }
            let (headers, url) = (response.headers().clone(), response.url().clone());
            let text = body(response, ERROR_BODY, &|| "the error".to_owned()).await.unwrap_or_default();
            if endpoint.step_up(status, &text) {
                continue;
            }
            return Err(self.refusal(endpoint, ask, &url, status, &headers, &text));
        }
    }

    /// Turns an answer that is no success into a sentence.
    fn refusal(&self, endpoint: &Endpoint, ask: &Ask<'_>, url: &Url, status: StatusCode, headers: &HeaderMap, text: &[u8]) -> Error {
        let name = self.reference.familiar_name();
        let after = self.authority.note_pause(headers.get(RETRY_AFTER));
        let registry = endpoint.name_of(url);
        match status {
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { registry, after },
            // What a storage server behind a redirect refuses says nothing about our rights at the registry.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if endpoint.owns(url) => self.authority.denied(endpoint, name),
            StatusCode::NOT_FOUND if ask.path.starts_with("manifests/") => Error::NotFound { reference: self.reference.familiar() },
            status => Error::Answer { registry, operation: ask.operation.to_owned(), status: status.as_u16(), message: error_message(text) },
        }
    }
}

impl Ask<'_> {
    fn dress(&self, mut request: RequestBuilder) -> RequestBuilder {
        if let Some(accept) = self.accept {
            request = request.header(ACCEPT, accept);
        }
        if self.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.from));
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        match self.body {
            Some(body) => request.body(body()),
            None => request,
        }
    }
}

/// True for a name at a registry whose password is made from AWS keys.
pub fn wants_aws_keys(name: &str) -> bool {
    ecr::Host::parse(name.split('/').next().unwrap_or_default()).is_some()
}

/// A body that could not be read.
fn broken(endpoint: &Endpoint, url: &Url, operation: &str, error: BodyError) -> Error {
    match error {
        BodyError::Broken(error) => endpoint.explain(url, operation, error),
        BodyError::TooLarge(what, limit) => Error::TooLarge { what, limit: limit as u64 },
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

fn is_refused(error: &Error) -> bool {
    match error {
        Error::Unreachable { source, .. } => source.downcast_ref::<endpoint::NoAnswer>().is_some_and(|no_answer| no_answer.connect),
        _ => false,
    }
}

/// `Retry-After` in seconds: a number, or a date (RFC 9110, 10.2.3).
fn retry_after(value: Option<&HeaderValue>) -> Option<u64> {
    let text = value?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    u64::try_from(date.as_second() - jiff::Timestamp::now().as_second()).ok()
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
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(Some(&HeaderValue::from_static("7"))), Some(7));
        assert_eq!(retry_after(Some(&HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"))), None, "it is over");
        let left = retry_after(Some(&HeaderValue::from_static("Fri, 21 Oct 2095 07:28:00 GMT")));
        assert!(left.is_some_and(|seconds| seconds > 1_000_000));
        assert_eq!(retry_after(Some(&HeaderValue::from_static("soon"))), None);
    }
}
