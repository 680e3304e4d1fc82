//! Writing to a registry (distribution-spec, "Push"): blobs by upload session, mounts, manifests.
//!
//! A blob goes out in one request of its whole body, even while it is still being compressed; what breaks is taken up
//! at the byte the registry says it has, or begun anew. An address that a registry gives for an upload gets our
//! credentials only if it is the registry's own origin.

use super::{ERROR_BODY, Endpoint, Registry, STALL, TRIES, announce, body, endpoint, error_message, pause, retry_after};
use crate::image::{Error, Progress, RegistryConfig};
use crate::oci::{Digest, Reference, media};
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A blob up to this size is sent with the request that closes its session: one round trip less.
const SMALL: u64 = 4 << 20;
/// Bytes read from disk at once.
const PIECE: usize = 256 << 10;
/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(100);
/// Time for giving up uploads after a failure.
const CANCEL: Duration = Duration::from_secs(5);
/// Bytes that must be taken for the count of tries to start again.
const PROGRESS_BYTES: u64 = 1 << 20;

/// How much of a file there is.
#[derive(Debug, Clone, PartialEq)]
pub enum Grown {
    /// Bytes so far; more come.
    Growing(u64),
    /// All of it.
    Complete(u64, Digest),
    /// Its writer gave up.
    Failed,
}

/// A file that is sent, perhaps while it grows.
#[derive(Clone)]
pub struct Outgoing {
    pub file: Arc<File>,
    pub grown: watch::Receiver<Grown>,
}

/// What a mount came to.
#[derive(Debug)]
pub enum Mount {
    Mounted,
    /// The registry wants the bytes: the session it opened for them.
    Refused(Option<Url>),
}

/// One request.
struct Exchange<'a> {
    method: Method,
    url: Url,
    headers: HeaderMap,
    /// Made anew for each attempt.
    body: Option<&'a dyn Fn() -> Body>,
    /// For messages: `push a blob`.
    operation: &'a str,
    /// Longest wait for the answer; None while a body of any size is sent.
    limit: Option<Duration>,
}

impl<'a> Exchange<'a> {
    fn new(method: Method, url: Url, operation: &'a str) -> Self {
        Exchange { method, url, headers: HeaderMap::new(), body: None, operation, limit: Some(STALL) }
    }

    fn with(mut self, name: reqwest::header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Registry {
    /// A registry that is written to: its mirrors play no part, and its tokens are good for pushing, and for reading
    /// the repositories of the same registry that blobs may be mounted `from`.
    ///
    /// # Errors
    /// As [`Registry::new`].
    pub fn for_push(config: &RegistryConfig, reference: &Reference, from: &[String]) -> Result<Self, Error> {
        let mut registry = Registry::new(config, reference)?;
        registry.endpoints = vec![endpoint::for_upload(config, reference.registry())?];
        let mut scopes = vec![format!("repository:{}:pull,push", reference.repository())];
        scopes.extend(from.iter().filter(|name| *name != reference.repository()).map(|name| format!("repository:{name}:pull")));
        registry.authority.ask_for(scopes);
        Ok(registry)
    }

    fn target(&self) -> &Endpoint {
        self.endpoints.last().expect("invariant: the registry itself is always an endpoint")
    }

    fn address(&self, path: &str) -> Result<Url, Error> {
        let endpoint = self.target();
        let text = format!("{}/v2/{}/{path}", endpoint.base, self.reference.repository());
        Url::parse(&text).map_err(|e| Error::Start { what: "a request", source: Box::new(e) })
    }

    /// The size of a blob if the repository has it.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let url = self.address(&format!("blobs/{digest}"))?;
        match self.insist(|| Exchange::new(Method::HEAD, url.clone(), "look up a blob")).await {
            Ok(response) => Ok(Some(content_length(response.headers()).unwrap_or(0))),
            Err(Error::Answer { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a blob of another repository of this registry to be shared with this one.
    ///
    /// # Errors
    /// The registry cannot be asked, or refuses to be written to.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount, Error> {
        let mut url = self.address("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let ask = || Exchange::new(Method::POST, url.clone(), "mount a blob").with(CONTENT_LENGTH, "0");
        let response = self.insist(ask).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Mount::Mounted);
        }
        let session = location(&response).ok();
        self.opened.borrow_mut().extend(session.clone());
        Ok(Mount::Refused(session))
    }

    /// Gives up an upload session, so that the registry need not keep its bytes; a failure is nobody's loss.
    pub async fn cancel(&self, session: Url) {
        if let Err(error) = self.exchange(&Exchange::new(Method::DELETE, session, "cancel an upload")).await {
            tracing::debug!("{error}");
        }
    }

    /// Gives up every upload of this registry that may still be open, after a failure.
    pub async fn cancel_all(&self) {
        let opened = std::mem::take(&mut *self.opened.borrow_mut());
        let cancels = futures_util::future::join_all(opened.into_iter().map(|session| self.cancel(session)));
        if tokio::time::timeout(CANCEL, cancels).await.is_err() {
            tracing::debug!("uploads at {} are left to its own clean-up", self.target().host);
        }
    }

    async fn open_session(&self) -> Result<Url, Error> {
        let url = self.address("blobs/uploads/")?;
        let response = self.exchange(&Exchange::new(Method::POST, url, "push a blob").with(CONTENT_LENGTH, "0")).await?;
        let session = location(&response).map_err(|()| self.nonsense("push a blob", "it names no address to send the blob to"))?;
        self.opened.borrow_mut().push(session.clone());
        Ok(session)
    }

    /// Sends bytes that are at hand.
    ///
    /// # Errors
    /// What remains after all tries.
    pub async fn push_bytes(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = async { self.close_session(self.open_session().await?, digest, bytes.clone()).await };
            match outcome.await {
                Err(error) if error.is_transient() && attempt < TRIES => self.rest(attempt).await,
                other => return other,
            }
        }
    }

    /// The last request of an upload, with what is left of the bytes.
    async fn close_session(&self, mut session: Url, digest: &Digest, rest: Bytes) -> Result<(), Error> {
        session.query_pairs_mut().append_pair("digest", digest.as_str());
        let body = || Body::from(rest.clone());
        let mut ask = Exchange::new(Method::PUT, session, "push a blob").with(CONTENT_TYPE, "application/octet-stream");
        ask = ask.with(CONTENT_LENGTH, &rest.len().to_string());
        ask.body = Some(&body);
        self.exchange(&ask).await.map(drop)
    }

    /// Sends a file and returns its size and digest. `session` is one that a refused mount opened.
    ///
    /// # Errors
    /// What remains after all tries; [`Error::CutOff`] if the file's writer gave up.
    pub async fn push_file(
        &self,
        id: &str,
        outgoing: &Outgoing,
        mut session: Option<Url>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(u64, Digest), Error> {
        let mut at = 0;
        let mut attempt = 0;
        loop {
            let before = at;
            let error = match self.push_from(id, outgoing, &mut session, &mut at, progress).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            let failed = matches!(*outgoing.grown.borrow(), Grown::Failed);
            // A session that the registry forgot, or that holds other bytes than ours, is begun anew.
            let stale = session.is_some() && matches!(error, Error::Answer { status: 400 | 404 | 409 | 416, .. });
            attempt = if at.saturating_sub(before) >= PROGRESS_BYTES { 1 } else { attempt + 1 };
            if failed || attempt >= TRIES || !(error.is_transient() || stale) {
                return Err(if failed { Error::CutOff(id.to_owned()) } else { error });
            }
            let pause = pause(attempt, self.authority.asked_pause());
            announce(progress, id, pause, &error);
            tokio::time::sleep(pause).await;
            match session.take() {
                Some(open) if !stale => match self.received(&open).await {
                    Ok((received, next)) => (at, session) = (received, Some(next)),
                    Err(_) => at = 0,
                },
                _ => at = 0,
            }
        }
    }

    /// One try: whatever is left from byte `at` on, and the request that closes the session.
    async fn push_from(
        &self,
        id: &str,
        outgoing: &Outgoing,
        session: &mut Option<Url>,
        at: &mut u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(u64, Digest), Error> {
        let open = match session.take() {
            Some(open) => open,
            None => {
                *at = 0;
                self.open_session().await?
            }
        };
        *session = Some(open.clone());
        let complete = match &*outgoing.grown.borrow() {
            Grown::Complete(size, digest) => Some((*size, digest.clone())),
            _ => None,
        };
        if let Some((size, digest)) = complete.filter(|(size, _)| *at == 0 && *size <= SMALL) {
            let bytes = read_whole(&outgoing.file, size).map_err(|e| unreadable(id, e))?;
            self.close_session(open, &digest, bytes).await?;
            return Ok((size, digest));
        }
        let (next, (size, digest)) = self.send_rest(id, outgoing, open, at, progress).await?;
        *session = Some(next.clone());
        if *at != size {
            return Err(Error::CutOff(id.to_owned()));
        }
        self.close_session(next, &digest, Bytes::new()).await?;
        Ok((size, digest))
    }

    /// Streams the file from byte `at`; returns the address for the next request and what the file came to.
    async fn send_rest(
        &self,
        id: &str,
        outgoing: &Outgoing,
        session: Url,
        at: &mut u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Url, (u64, Digest)), Error> {
        let from = *at;
        if from > 0 {
            // A later part must say where it ends (distribution-spec, "Pushing a blob in chunks").
            self.whole(id, outgoing).await?;
        }
        let size = match &*outgoing.grown.borrow() {
            Grown::Complete(size, _) => Some(*size),
            _ => None,
        };
        if let Some(size) = size.filter(|size| *size == from) {
            return Ok((session, (size, self.whole(id, outgoing).await?.1)));
        }
        let sent = Arc::new(AtomicU64::new(from));
        let body = || Body::wrap_stream(pieces(outgoing.clone(), from, sent.clone()));
        let mut ask = Exchange::new(Method::PATCH, session, "push a blob").with(CONTENT_TYPE, "application/octet-stream");
        if let Some(size) = size {
            ask = ask.with(CONTENT_LENGTH, &(size - from).to_string());
            if from > 0 {
                ask = ask.with(CONTENT_RANGE, &format!("{from}-{}", size - 1));
            }
        }
        ask.body = Some(&body);
        ask.limit = None;
        let exchange = self.exchange(&ask);
        let outcome = self.watched(id, exchange, &sent, progress).await;
        *at = sent.load(Ordering::Relaxed);
        let response = outcome?;
        let next = location(&response).map_err(|()| self.nonsense("push a blob", "it names no address for the rest of the blob"))?;
        let done = self.whole(id, outgoing).await?;
        // A registry that took less than was sent says so.
        *at = range_end(response.headers()).map_or(done.0, |end| end.min(done.0));
        Ok((next, done))
    }

    /// Waits for an upload, tells of its progress, and gives up when nothing moves.
    async fn watched(
        &self,
        id: &str,
        exchange: impl Future<Output = Result<Response, Error>>,
        sent: &AtomicU64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Response, Error> {
        let mut exchange = std::pin::pin!(exchange);
        let mut last = (sent.load(Ordering::Relaxed), Instant::now());
        loop {
            if let Ok(done) = tokio::time::timeout(REPORT, &mut exchange).await {
                return done;
            }
            let now = sent.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
                progress(Progress::Uploading { id: id.to_owned(), done: now });
            } else if last.1.elapsed() > STALL {
                return Err(self.stalled("push a blob"));
            }
        }
    }

    /// Size and digest of the file once its writer is done.
    async fn whole(&self, id: &str, outgoing: &Outgoing) -> Result<(u64, Digest), Error> {
        let mut grown = outgoing.grown.clone();
        let end = grown.wait_for(|grown| !matches!(grown, Grown::Growing(_))).await;
        match end.as_deref() {
            Ok(Grown::Complete(size, digest)) => Ok((*size, digest.clone())),
            _ => Err(Error::CutOff(id.to_owned())),
        }
    }

    /// Bytes of a session that the registry has, and its address from now on.
    async fn received(&self, session: &Url) -> Result<(u64, Url), Error> {
        let response = self.exchange(&Exchange::new(Method::GET, session.clone(), "ask how much of a blob arrived")).await?;
        let next = location(&response).unwrap_or_else(|()| session.clone());
        Ok((range_end(response.headers()).unwrap_or(0), next))
    }

    /// Writes a manifest or index under a tag or its digest. Returns whether the registry says that it took note of
    /// the manifest's subject (distribution-spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn put_manifest(&self, name: &str, kind: &str, bytes: &[u8]) -> Result<bool, Error> {
        let url = self.address(&format!("manifests/{name}"))?;
        let bytes = Bytes::copy_from_slice(bytes);
        let body = || Body::from(bytes.clone());
        let ask = || {
            let mut ask = Exchange::new(Method::PUT, url.clone(), "push the manifest").with(CONTENT_TYPE, kind);
            ask.body = Some(&body);
            ask
        };
        let response = self.insist(ask).await?;
        let said = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<Digest>().ok());
        if let Some(actual) = said.filter(|said| !said.matches(&bytes)) {
            let what = format!("the manifest of {} as the registry stored it", self.reference.familiar());
            return Err(Error::Digest { what, expected: Digest::of(&bytes), actual });
        }
        Ok(response.headers().contains_key("oci-subject"))
    }

    /// The digest under which the repository knows a manifest, without reading it.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn has_manifest(&self, name: &str) -> Result<bool, Error> {
        let url = self.address(&format!("manifests/{name}"))?;
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        match self.insist(|| Exchange::new(Method::HEAD, url.clone(), "look up the manifest").with(ACCEPT, &accept)).await {
            Ok(_) => Ok(true),
            Err(Error::Answer { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// [`Registry::exchange`], again after what may pass.
    async fn insist<'a>(&self, ask: impl Fn() -> Exchange<'a>) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.exchange(&ask()).await {
                Err(Error::Unreachable { source, registry, operation }) if attempt == 1 && super::refused(source.as_ref()) => {
                    return Err(Error::Unreachable { registry, operation, source });
                }
                Err(error) if error.is_transient() && attempt < TRIES => self.rest(attempt).await,
                other => return other,
            }
        }
    }

    async fn rest(&self, attempt: u32) {
        tokio::time::sleep(pause(attempt, self.authority.asked_pause())).await;
    }

    /// Sends one request; at most two rounds of authentication, and only with the registry's own origin.
    async fn exchange(&self, ask: &Exchange<'_>) -> Result<Response, Error> {
        let endpoint = self.target();
        let own = Url::parse(&endpoint.base).is_ok_and(|base| base.origin() == ask.url.origin());
        if !own && !endpoint.plain && ask.url.scheme() != "https" {
            return Err(self.nonsense(ask.operation, "it wants a blob to be sent without HTTPS"));
        }
        let mut round = 0;
        loop {
            let mut request = endpoint.client.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
            if own && let Some(authorization) = self.authority.known(endpoint, self.reference.repository()) {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(body) = ask.body {
                request = request.body(body());
            }
            let response = match ask.limit {
                Some(limit) => tokio::time::timeout(limit, request.send()).await.map_err(|_| self.stalled(ask.operation))?,
                None => request.send().await,
            };
            let response = response.map_err(|e| self.unreachable(endpoint, ask.operation, e))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && own && round < 2 {
                round += 1;
                let answered = self.authority.answer(endpoint, &self.reference, response.headers(), round).await;
                answered.map_err(|error| match error {
                    Error::Denied { name } => Error::PushDenied { name, message: String::new() },
                    other => other,
                })?;
                continue;
            }
            if status.is_success() {
                return Ok(response);
            }
            return Err(self.push_refusal(ask.operation, response).await);
        }
    }

    async fn push_refusal(&self, operation: &str, response: Response) -> Error {
        let registry = self.target().host.clone();
        let status = response.status();
        let after = retry_after(response.headers().get(RETRY_AFTER));
        let read = tokio::time::timeout(STALL, body(response, ERROR_BODY, &String::new)).await;
        let message = read.ok().and_then(Result::ok).map(|text| error_message(&text)).unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::PushDenied { name: self.reference.familiar_name(), message },
            StatusCode::TOO_MANY_REQUESTS => {
                if let Some(after) = after {
                    self.authority.wait_until(after);
                }
                Error::RateLimited { registry }
            }
            status => Error::Answer { registry, operation: operation.to_owned(), status: status.as_u16(), message },
        }
    }

    fn stalled(&self, operation: &str) -> Error {
        let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "it neither took nor sent a byte for a minute");
        Error::Unreachable { registry: self.target().host.clone(), operation: operation.to_owned(), source: Box::new(source) }
    }

    fn nonsense(&self, operation: &str, why: &str) -> Error {
        Error::Protocol { registry: self.target().host.clone(), operation: operation.to_owned(), why: why.to_owned() }
    }
}

fn unreadable(id: &str, source: std::io::Error) -> Error {
    Error::PushRead { layer: id.to_owned(), source }
}

/// The address a registry gives, which may be relative.
fn location(response: &Response) -> Result<Url, ()> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(())?;
    response.url().join(text).map_err(|_| ())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bytes received by a session: `Range: 0-N` counts N + 1, but `0-0` is what registries say of an empty one.
fn range_end(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let last: u64 = text.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

fn read_whole(file: &File, size: u64) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

/// The file from a byte on, as far as it is written and then as it is being written.
fn pieces(outgoing: Outgoing, from: u64, sent: Arc<AtomicU64>) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send {
    sent.store(from, Ordering::Relaxed);
    stream::try_unfold((outgoing, from, sent), |(mut outgoing, at, sent)| async move {
        let there = loop {
            let grown = outgoing.grown.borrow_and_update().clone();
            match grown {
                Grown::Failed => return Err(std::io::Error::other("the blob could not be made")),
                Grown::Complete(size, _) if size <= at => return Ok(None),
                Grown::Complete(size, _) => break size,
                Grown::Growing(size) if size > at => break size,
                Grown::Growing(_) => outgoing.grown.changed().await.map_err(std::io::Error::other)?,
            }
        };
        let mut piece = vec![0; usize::try_from(there - at).map_or(PIECE, |left| left.min(PIECE))];
        outgoing.file.read_exact_at(&mut piece, at)?;
        let next = at + piece.len() as u64;
        sent.store(next, Ordering::Relaxed);
        Ok(Some((Bytes::from(piece), (outgoing, next, sent))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sessions() {
        let end = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_str(text).unwrap());
            range_end(&headers)
        };
        assert_eq!((end("0-0"), end("0-9"), end("bytes=0-99"), end("x"), end("0-")), (Some(0), Some(10), Some(100), None, None));
        assert_eq!(range_end(&HeaderMap::new()), None);
    }
}
