//! The Docker Engine API: a request becomes a [`Call`], which a handler answers with a [`Reply`] on a thread of its own.

mod archive;
mod attach;
mod attached;
mod body;
mod build;
mod containers;
mod create;
mod exec;
mod host_config;
mod images;
mod lifetime;
mod logs;
mod networks;
mod query;
mod reply;
mod route;
mod stats;
mod system;
mod transfer;
mod volumes;
mod wire;

use crate::base::Cancel;
use crate::engine::{self, Engine};
use attached::Waiting;
use body::BodyReader;
use bytes::Bytes;
use exec::Execs;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use query::Query;
use reply::{Answer, Refusal, Reply, Sent, Serve};
use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// The newest version of the API that is spoken, and the oldest.
pub const VERSION: &str = "1.51";
pub const OLDEST: &str = "1.24";
/// Engines (each a connection to the database) that are kept for the next request.
const IDLE_ENGINES: usize = 8;

/// What all requests share.
pub struct Api {
    /// Made the others from.
    first: Mutex<Engine>,
    idle: Mutex<Vec<Engine>>,
    info: super::Info,
    waiting: Waiting,
    execs: Execs,
    /// Of the requests and streams that are under way: ends them when the server ends.
    cancels: Mutex<Cancels>,
}

impl Api {
    pub fn new(engine: Engine, info: super::Info) -> Self {
        Api {
            first: Mutex::new(engine),
            idle: Mutex::new(Vec::new()),
            info,
            waiting: Waiting::default(),
            execs: Execs::default(),
            cancels: Mutex::default(),
        }
    }

    /// Followers and waiters are told that the server ends.
    pub fn end(&self) {
        let under_way = {
            let mut cancels = locked(&self.cancels);
            cancels.ended = true;
            std::mem::take(&mut cancels.under_way)
        };
        under_way.into_values().for_each(|cancel| cancel.cancel());
    }

    fn engine(&self, cancel: &Cancel) -> Result<Engine, engine::Error> {
        let idle = locked(&self.idle).pop();
        let engine = match idle {
            Some(engine) => engine,
            None => locked(&self.first).again()?,
        };
        Ok(engine.with_cancel(cancel.clone()))
    }

    fn keep(&self, engine: Engine) {
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_ENGINES {
            idle.push(engine);
        }
    }

    /// The wish that a new request ends, for as long as it is under way.
    fn begin(self: &Arc<Self>) -> UnderWay {
        let cancel = Cancel::default();
        let mut cancels = locked(&self.cancels);
        if cancels.ended {
            cancel.cancel();
        }
        let number = cancels.next;
        cancels.next += 1;
        cancels.under_way.insert(number, cancel.clone());
        UnderWay { api: Arc::clone(self), number, cancel }
    }
}

#[derive(Default)]
struct Cancels {
    next: u64,
    ended: bool,
    under_way: HashMap<u64, Cancel>,
}

/// A request, or the stream that it has become.
pub struct UnderWay {
    api: Arc<Api>,
    number: u64,
    pub cancel: Cancel,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        locked(&self.api.cancels).under_way.remove(&self.number);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, as a handler sees it.
pub struct Call {
    pub api: Arc<Api>,
    pub method: Method,
    /// Behind the version, decoded: `["containers", "web", "json"]`.
    pub path: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: BodyReader,
    pub cancel: Cancel,
    /// (1, 51): what the client speaks.
    pub version: (u32, u32),
}

impl Call {
    /// An engine that ends with this request, for `what`.
    ///
    /// # Errors
    /// The database cannot be opened, or what `what` refuses.
    pub fn engine<T>(&self, what: impl FnOnce(&Engine) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let engine = self.api.engine(&self.cancel)?;
        let result = what(&engine);
        self.api.keep(engine);
        result
    }

    /// One that lives as long as a stream does.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn own_engine(&self) -> Result<Engine, Refusal> {
        Ok(self.api.engine(&self.cancel)?)
    }
}

/// Answers one request.
pub async fn handle(api: Arc<Api>, mut request: Request<Incoming>) -> Sent {
    let under_way = api.begin();
    let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (head, incoming) = request.into_parts();
    let (path, version) = match route::split(head.uri.path()) {
        Ok(split) => split,
        Err(error) => return reply::refusal(&error),
    };
    tracing::debug!("{} {}", head.method, head.uri);
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let body = BodyReader::new(incoming);
    let call = Call { api, method: head.method, path, query, headers: head.headers, body, cancel: under_way.cancel.clone(), version };
    // It goes on without its client: what has begun to stop or to start is not left halfway.
    let answered = tokio::task::spawn_blocking(move || (route::answer(call), under_way));
    let mut sent = match answered.await {
        Ok((answer, under_way)) => finish(answer, under_way, upgrade),
        // Its thread never began: the reactor takes no more work.
        Err(_) => reply::refusal(&Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending")),
    };
    let headers = sent.headers_mut();
    headers.insert("api-version", HeaderValue::from_static(VERSION));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert("server", HeaderValue::from_static(concat!("rcon/", env!("CARGO_PKG_VERSION"), " (linux)")));
    sent
}

fn finish(answer: Answer, under_way: UnderWay, upgrade: Option<OnUpgrade>) -> Sent {
    match answer {
        Err(error) => reply::refusal(&error),
        Ok(Reply::Empty(status)) => reply::empty(status),
        Ok(Reply::Json(status, value)) => reply::json_response(status, &value),
        Ok(Reply::Bytes { content_type, headers, data }) => reply::bytes_response(content_type, headers, data),
        Ok(Reply::Stream { content_type, headers, produce }) => {
            let (mut sink, body) = reply::stream(under_way.cancel.clone(), under_way);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = produce(&mut sink) {
                    // The head is sent: whoever reads sees a stream that ends early.
                    tracing::debug!("a stream ended: {}", error.message);
                }
            });
            reply::with_headers(reply::response(StatusCode::OK, Some(content_type), body), headers)
        }
        Ok(Reply::Hijack { content_type, serve }) => match upgrade {
            Some(upgrade) => hijacked(under_way, upgrade, content_type, serve),
            None => one_way(under_way, content_type, serve),
        },
    }
}

/// The connection changes hands once the head is sent.
fn hijacked(under_way: UnderWay, upgrade: OnUpgrade, content_type: &'static str, serve: Serve) -> Sent {
    tokio::spawn(async move {
        match upgrade.await.map(bare) {
            Ok(Ok((stream, read))) => drop(tokio::task::spawn_blocking(move || {
                let closing = stream.try_clone();
                // The server ends: for what serves it, the client has left.
                let _watch = closing.map(|closing| under_way.cancel.watch(move || drop(closing.shutdown(Shutdown::Both))));
                serve(stream, read);
            })),
            Ok(Err(error)) => tracing::warn!("cannot take over a connection: {error}"),
            Err(error) => tracing::debug!("a client left before its connection was taken over: {error}"),
        }
    });
    let mut sent = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = sent.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    sent
}

/// The socket beneath HTTP, and what was read of it already.
fn bare(upgraded: Upgraded) -> std::io::Result<(UnixStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<tokio::net::UnixStream>>().map_err(|_| std::io::Error::other("it is no Unix socket"))?;
    let stream = parts.io.into_inner().into_std()?;
    stream.set_nonblocking(false)?;
    Ok((stream, parts.read_buf))
}

/// For clients that ask for no upgrade: what would be written to the connection is the body of the answer.
fn one_way(under_way: UnderWay, content_type: &'static str, serve: Serve) -> Sent {
    let cancel = under_way.cancel.clone();
    let (mut sink, body) = reply::stream(under_way.cancel.clone(), under_way);
    let run = move || -> std::io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        // It sends nothing more: for a process that reads, its input ends.
        theirs.shutdown(Shutdown::Write)?;
        let closing = theirs.try_clone()?;
        let _watch = cancel.watch(move || drop(closing.shutdown(Shutdown::Both)));
        let serving = std::thread::spawn(move || serve(ours, Bytes::new()));
        let copied = std::io::copy(&mut &theirs, &mut sink);
        drop(theirs.shutdown(Shutdown::Both));
        drop(serving.join());
        copied.map(drop)
    };
    tokio::task::spawn_blocking(move || run().inspect_err(|error| tracing::debug!("a stream ended: {error}")));
    reply::response(StatusCode::OK, Some(content_type), body)
}
