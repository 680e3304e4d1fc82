//! Writing to a registry (distribution-spec, "Push"): blobs by upload session, mounts, manifests.
//!
//! A blob goes out in one request of its whole body, even while it is still being compressed; what breaks is taken up
//! at the byte the registry says it has, or begun anew. An address that a registry gives for an upload gets our
//! credentials only if it is the registry's own origin.

use super::{Ask, Endpoint, Registry, STALL, TRIES, announce, endpoint, pause};
use crate::image::{Error, Progress, RegistryConfig};
use crate::oci::{Digest, Reference, media};
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A blob up to this size is sent with the request that closes its session: one round trip less.
const SMALL: u64 = 4 << 20;
/// Media type of an upload.
const BYTES: &str = "application/octet-stream";
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

/// A header of a request.
fn header(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_str(value).ok()?))
}

/// Says that no body comes: some servers ask for a length before they look at anything else (RFC 9110, 8.6).
fn nothing() -> Vec<(HeaderName, HeaderValue)> {
    vec![(CONTENT_LENGTH, HeaderValue::from_static("0"))]
}

impl Registry {
    /// A registry that is written to: its mirrors play no part, and its tokens are good for pushing, and for reading
    /// the repositories of the same registry that blobs may be mounted `from`.
    ///
    /// # Errors
    /// As [`Registry::new`].
    pub fn for_push(config: &RegistryConfig, reference: &Reference, from: &[String]) -> Result<Self, Error> {
        let mut registry = Registry::new(config, reference)?;
        registry.endpoints = vec![endpoint::own(config, reference.registry(), None)?];
        let mut scopes = vec![format!("repository:{}:pull,push", reference.repository())];
        scopes.extend(from.iter().filter(|name| *name != reference.repository()).map(|name| format!("repository:{name}:pull")));
        registry.authority.ask_for(scopes);
        Ok(registry)
    }

    fn target(&self) -> &Endpoint {
        self.endpoints.last().expect("invariant: the registry itself is always an endpoint")
    }

    /// The size of a blob if the repository has it.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = format!("blobs/{digest}");
        let ask = Ask { method: Method::HEAD, path: &path, operation: "look up a blob", ..Ask::default() };
        match self.insist(&ask).await {
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
        // Neither a digest nor a repository's name has a character that an address could misread.
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let response =
            self.insist(&Ask { method: Method::POST, path: &path, headers: &nothing(), operation: "mount a blob", ..Ask::default() }).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Mount::Mounted);
        }
        let session = location(&response).ok();
        self.opened.borrow_mut().extend(session.clone());
        Ok(Mount::Refused(session))
    }

    /// Gives up an upload session, so that the registry need not keep its bytes; a failure is nobody's loss.
    pub async fn cancel(&self, session: Url) {
        let ask = Ask { method: Method::DELETE, address: Some(&session), operation: "cancel an upload", ..Ask::default() };
        if let Err(error) = self.exchange(&ask, Some(STALL)).await {
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
        let ask = Ask { method: Method::POST, path: "blobs/uploads/", headers: &nothing(), operation: "push a blob", ..Ask::default() };
        let response = self.exchange(&ask, Some(STALL)).await?;
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
        let length = header(CONTENT_LENGTH, &rest.len().to_string());
        let headers: Vec<_> = header(CONTENT_TYPE, BYTES).into_iter().chain(length).collect();
        let ask =
            Ask { method: Method::PUT, address: Some(&session), headers: &headers, body: Some(&body), operation: "push a blob", ..Ask::default() };
        self.exchange(&ask, Some(STALL)).await.map(drop)
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
            at = 0;
            if let Some(open) = session.take() {
                match self.received(&open).await {
                    Ok((received, next)) if !stale && received > 0 => (at, session) = (received, Some(next)),
                    // Many registries cannot go on with an upload that broke: it is given up there, and begun anew.
                    _ => self.cancel(open).await,
                }
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
        let mut headers: Vec<_> = header(CONTENT_TYPE, BYTES).into_iter().collect();
        if let Some(size) = size {
            headers.extend(header(CONTENT_LENGTH, &(size - from).to_string()));
            headers.extend(header(CONTENT_RANGE, &format!("{from}-{}", size - 1)).filter(|_| from > 0));
        }
        let ask =
            Ask { method: Method::PATCH, address: Some(&session), headers: &headers, body: Some(&body), operation: "push a blob", ..Ask::default() };
        let exchange = self.exchange(&ask, None);
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
        let ask = Ask { address: Some(session), operation: "ask how much of a blob arrived", ..Ask::default() };
        let response = self.exchange(&ask, Some(STALL)).await?;
        let next = location(&response).unwrap_or_else(|()| session.clone());
        Ok((range_end(response.headers()).unwrap_or(0), next))
    }

    /// Writes a manifest or index under a tag or its digest. Returns whether the registry says that it took note of
    /// the manifest's subject (distribution-spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn put_manifest(&self, name: &str, kind: &str, bytes: &[u8]) -> Result<bool, Error> {
        let path = format!("manifests/{name}");
        let bytes = Bytes::copy_from_slice(bytes);
        let body = || Body::from(bytes.clone());
        let headers: Vec<_> = header(CONTENT_TYPE, kind).into_iter().collect();
        let ask = Ask { method: Method::PUT, path: &path, headers: &headers, body: Some(&body), operation: "push the manifest", ..Ask::default() };
        let response = self.insist(&ask).await?;
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
        let path = format!("manifests/{name}");
        let accept = media::ACCEPTED_MANIFESTS.join(", ");
        let ask = Ask { method: Method::HEAD, path: &path, accept: Some(&accept), operation: "look up the manifest", ..Ask::default() };
        match self.insist(&ask).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. } | Error::Answer { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// [`Registry::exchange`], again after what may pass.
    async fn insist(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        self.retried(self.target(), async || self.exchange(ask, Some(STALL)).await).await
    }

    async fn rest(&self, attempt: u32) {
        tokio::time::sleep(pause(attempt, self.authority.asked_pause())).await;
    }

    /// Sends one request. `limit` is the longest wait for its answer; None while a body of any size is sent.
    async fn exchange(&self, ask: &Ask<'_>, limit: Option<Duration>) -> Result<Response, Error> {
        let endpoint = self.target();
        if ask.address.is_some_and(|url| !endpoint.owns(url) && !endpoint.plain() && url.scheme() != "https") {
            return Err(self.nonsense(ask.operation, "it wants a blob to be sent without HTTPS"));
        }
        let sent = self.send(endpoint, ask);
        let sent = match limit {
            Some(limit) => tokio::time::timeout(limit, sent).await.map_err(|_| self.stalled(ask.operation))?,
            None => sent.await,
        };
        sent.map_err(|error| match error {
            Error::Denied { name } => Error::PushDenied { name },
            other => other,
        })
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
