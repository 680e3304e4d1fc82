//! A file of the web as a stream (`import URL`, contexts and sources of builds).

use super::Error;
use crate::base::{Cancel, Watch};
use ::bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Time to open a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest silence of the server.
const STALL: Duration = Duration::from_secs(60);
/// Redirects followed.
const REDIRECTS: usize = 10;
/// Pieces waiting for a slow reader.
const QUEUE: usize = 32;

/// The body of an answer, received by a thread of its own.
pub struct Download {
    pieces: Receiver<io::Result<Bytes>>,
    current: Bytes,
    /// Bytes received, and the most that are taken.
    received: u64,
    limit: Option<u64>,
    cancel: Cancel,
    /// Wakes the thread when it is cancelled.
    _watch: Watch,
}

/// What a server answered.
pub struct Answer {
    /// 304: what the request's conditions describe is still so; there is no body.
    pub unchanged: bool,
    headers: reqwest::header::HeaderMap,
    /// Bytes of the body, if the server announced them.
    pub length: Option<u64>,
    pub body: Download,
}

impl Answer {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What is known of an answer before its body.
struct Head {
    unchanged: bool,
    headers: reqwest::header::HeaderMap,
    length: Option<u64>,
}

/// Asks for a URL and returns the answer once the server has answered with success.
///
/// # Errors
/// [`Error::Cancelled`]; the server cannot be reached or refuses, or announces more than `limit`.
pub fn open(url: &str, cancel: &Cancel, limit: Option<u64>) -> Result<Answer, Error> {
    let answer = ask(url, &[], cancel, limit)?;
    tracing::debug!(
        "a download of type {} and {} bytes",
        answer.header("content-type").unwrap_or("?"),
        answer.header("content-length").unwrap_or("?")
    );
    if answer.unchanged {
        return Err(Error::Download { url: shown(url), source: io::Error::other("it answered with nothing (304)") });
    }
    Ok(answer)
}

/// The server that would be asked for a URL, as the client itself understands it: host and port. None: it is no URL of a server.
pub fn server(url: &str) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(url).ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// A URL without its password.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = reqwest::Url::parse(url) else { return url.to_owned() };
    if parsed.password().is_some() && parsed.set_password(Some("***")).is_ok() { parsed.into() } else { url.to_owned() }
}

/// Asks for a URL with these headers besides our own. At most `limit` bytes are taken of its body
/// (`image.limits.max_source_size`). The head of an answer is bounded by hyper: 100 fields in 400 KiB, or 16 KiB in HTTP/2.
///
/// # Errors
/// [`Error::Cancelled`]; the server cannot be reached or refuses, or announces more than `limit`; a header is malformed.
pub fn ask(url: &str, headers: &[(String, String)], cancel: &Cancel, limit: Option<u64>) -> Result<Answer, Error> {
    // A second call only says that it is set already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let (to, pieces) = channel(QUEUE);
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let shown = shown(url);
    let refused = |source: io::Error| Error::Download { url: shown.clone(), source };
    let client = reqwest::Client::builder().user_agent(concat!("rcon/", env!("CARGO_PKG_VERSION"))).connect_timeout(CONNECT).read_timeout(STALL);
    let client = client.redirect(reqwest::redirect::Policy::custom(redirect));
    let client = client.build().map_err(|e| Error::Start { what: "the HTTP client", source: Box::new(e) })?;
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.build().map_err(|e| refused(io::Error::other(e.without_url())))?;
    let ended = Arc::new(Notify::new());
    let end = ended.clone();
    let watch = cancel.watch(move || end.notify_one());
    let thread = std::thread::Builder::new().name("download".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = ended.notified() => {}
                    () = fetch(client, request, &tell, to) => {}
                }
            }),
            // The reader that went away needs no answer.
            Err(e) => drop(tell.send(Err(e))),
        }
    });
    thread.map_err(|e| Error::Start { what: "the download", source: Box::new(e) })?;
    match told.recv() {
        Ok(Ok(Head { unchanged, headers, length })) => {
            if let (Some(actual), Some(limit)) = (length, limit)
                && actual > limit
            {
                return Err(Error::Limit { subject: shown, what: "bytes", actual, limit, key: "max_source_size" });
            }
            let body = Download { pieces, current: Bytes::new(), received: 0, limit, cancel: cancel.clone(), _watch: watch };
            Ok(Answer { unchanged, headers, length, body })
        }
        Ok(Err(e)) => Err(refused(e)),
        Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
        Err(_) => Err(refused(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// What was asked for in secret is not sent on in the clear.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(io::Error::other("it redirects too often"));
    }
    if attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https") {
        return attempt.error(io::Error::other("it redirects from https to http"));
    }
    attempt.follow()
}

async fn fetch(
    client: reqwest::Client,
    request: reqwest::Request,
    tell: &std::sync::mpsc::SyncSender<io::Result<Head>>,
    to: Sender<io::Result<Bytes>>,
) {
    let failed = |e: reqwest::Error| io::Error::other(e.without_url());
    let mut response = match client.execute(request).await.and_then(reqwest::Response::error_for_status) {
        Ok(response) => response,
        Err(e) => return drop(tell.send(Err(failed(e)))),
    };
    let unchanged = response.status() == reqwest::StatusCode::NOT_MODIFIED;
    if !unchanged && !response.status().is_success() {
        // A redirect that leads to no web server (`file:`, `data:`) comes back as it is.
        let answer = io::Error::other(format!("it answered {}, which leads nowhere", response.status()));
        return drop(tell.send(Err(answer)));
    }
    let length = response.content_length().filter(|_| !unchanged);
    let head = Head { unchanged, length, headers: std::mem::take(response.headers_mut()) };
    if tell.send(Ok(head)).is_err() {
        return;
    }
    let mut next = response.chunk().await;
    loop {
        let piece = match next {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => return,
            Err(e) => Err(failed(e)),
        };
        let last = piece.is_err();
        if to.send(piece).await.is_err() || last {
            return;
        }
        next = response.chunk().await;
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => {
                    self.current = piece?;
                    self.received = self.received.saturating_add(self.current.len() as u64);
                    if let Some(limit) = self.limit.filter(|limit| self.received > *limit) {
                        let why = format!("it sends more than {limit} bytes (image.limits.max_source_size in the settings)");
                        return Err(io::Error::other(why));
                    }
                }
                // Its thread has stopped somewhere: this is not the end of the file.
                None if self.cancel.is_cancelled() => return Err(io::Error::other("it was cancelled")),
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_the_one_that_is_asked() {
        for (url, expected) in [
            ("http://a/x", Some(("a", 80))),
            ("https://A:8443/x", Some(("a", 8443))),
            ("http://a@b/", Some(("b", 80))),
            ("http://a:1\\@b:2/", Some(("a", 1))),
            ("http:///a:1/x", Some(("a", 1))),
            ("http://[::1]:5/", Some(("[::1]", 5))),
            ("http://", None),
            ("a file", None),
        ] {
            assert_eq!(server(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("https://me:word@host/x"), "https://me:***@host/x");
        assert_eq!(shown("https://host/a%20b"), "https://host/a%20b");
        assert_eq!(shown("http://"), "http://");
    }
}
