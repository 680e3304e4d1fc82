//! What a handler answers: a document, a stream that is made while it is sent, or the bare connection.

use crate::base::{Cancel, ErrorKind};
use crate::engine;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Pieces of a stream that wait for a client that reads slowly; then its producer waits.
const WAITING: usize = 16;

pub type Produce = Box<dyn FnOnce(&mut Sink) -> Result<(), Refusal> + Send>;
pub type Serve = Box<dyn FnOnce(UnixStream, Bytes) + Send>;

/// The answer to one request.
pub enum Reply {
    Empty(StatusCode),
    Json(StatusCode, Value),
    Bytes {
        content_type: &'static str,
        headers: Vec<(&'static str, String)>,
        data: Bytes,
    },
    /// The head is sent at once, the body is what `produce` writes.
    Stream {
        content_type: &'static str,
        headers: Vec<(&'static str, String)>,
        produce: Produce,
    },
    /// The connection itself, for both directions.
    Hijack {
        content_type: &'static str,
        serve: Serve,
    },
}

impl Reply {
    pub fn ok(value: impl Into<Value>) -> Self {
        Reply::Json(StatusCode::OK, value.into())
    }

    pub fn created(value: impl Into<Value>) -> Self {
        Reply::Json(StatusCode::CREATED, value.into())
    }

    pub fn none() -> Self {
        Reply::Empty(StatusCode::NO_CONTENT)
    }

    /// Documents of a stream, one a line.
    pub fn documents(produce: impl FnOnce(&mut Sink) -> Result<(), Refusal> + Send + 'static) -> Self {
        Reply::Stream { content_type: "application/json", headers: Vec::new(), produce: Box::new(produce) }
    }

    pub fn tar(produce: impl FnOnce(&mut Sink) -> Result<(), Refusal> + Send + 'static) -> Self {
        Reply::Stream { content_type: "application/x-tar", headers: Vec::new(), produce: Box::new(produce) }
    }
}

/// Why a request is not done: the status, and what the client shows behind "Error response from daemon: ".
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }
}

/// The error with all its causes in one line, as Docker's clients show it.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors show what caused them as their own.
        if !text.ends_with(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `docker run` ends with 126 if it finds these words, which are also what the kernel says of a directory.
fn searchable(message: String, kind: ErrorKind) -> String {
    const REFUSED: &str = "permission denied";
    if kind != ErrorKind::CommandNotExecutable || message.contains(REFUSED) { message } else { format!("{message}: {REFUSED}") }
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid | ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = match &error {
            // Clients look for these words.
            engine::Error::NoSuch { what: "network", name, .. } => format!("network {name} not found"),
            engine::Error::NoSuch { what, name, .. } => format!("No such {what}: {name}"),
            _ => describe(&error),
        };
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Refusal { status, message: searchable(message, error.kind()) + &hint }
    }
}

impl From<engine::request::FlagError> for Refusal {
    fn from(error: engine::request::FlagError) -> Self {
        Refusal::invalid(error.to_string())
    }
}

/// A client that has gone away: nobody is told.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

pub type Answer = std::result::Result<Reply, Refusal>;
pub type Sent = Response<BoxBody<Bytes, Infallible>>;

/// Where a producer writes; fails once the client has gone.
pub struct Sink {
    sender: mpsc::Sender<Bytes>,
}

impl Sink {
    /// One document and a line feed.
    ///
    /// # Errors
    /// The client has gone.
    pub fn document(&mut self, value: &Value) -> io::Result<()> {
        let mut line = value.to_string().into_bytes();
        line.extend_from_slice(b"\r\n");
        self.send(line.into())
    }

    /// # Errors
    /// The client has gone.
    pub fn send(&mut self, data: Bytes) -> io::Result<()> {
        wait(self.sender.send(data)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Blocks this thread until `future` is done. What a push or a pull reports comes from within a reactor of its own, on which the
/// `blocking_send` of tokio panics; nothing else runs there that the client's patience could harm.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    // That reactor's budget for one task is not refilled while we block it.
    let mut future = std::pin::pin!(tokio::task::unconstrained(future));
    let waker = Arc::new(Unpark(std::thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.send(Bytes::copy_from_slice(data))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's end of a stream. Dropped with the connection, which ends what makes the stream.
struct Stream<T> {
    receiver: mpsc::Receiver<Bytes>,
    cancel: Cancel,
    _under_way: T,
}

impl<T: Unpin> Body for Stream<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.receiver.poll_recv(context).map(|piece| piece.map(|data| Ok(Frame::data(data))))
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A body that comes from a thread of its own, and that thread's end of it. Both
/// last as long as the client listens.
pub fn stream<T: Unpin + Send + Sync + 'static>(cancel: Cancel, under_way: T) -> (Sink, BoxBody<Bytes, Infallible>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Sink { sender }, Stream { receiver, cancel, _under_way: under_way }.boxed())
}

fn whole(data: impl Into<Bytes>) -> BoxBody<Bytes, Infallible> {
    Full::new(data.into()).boxed()
}

pub fn response(status: StatusCode, content_type: Option<&str>, body: BoxBody<Bytes, Infallible>) -> Sent {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(content_type) = content_type.and_then(|text| text.parse().ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

pub fn json_response(status: StatusCode, value: &Value) -> Sent {
    response(status, Some("application/json"), whole(value.to_string() + "\n"))
}

pub fn refusal(refusal: &Refusal) -> Sent {
    json_response(refusal.status, &json!({"message": refusal.message}))
}

pub fn bytes_response(content_type: &str, headers: Vec<(&'static str, String)>, data: Bytes) -> Sent {
    with_headers(response(StatusCode::OK, Some(content_type), whole(data)), headers)
}

pub fn with_headers(mut response: Sent, headers: Vec<(&'static str, String)>) -> Sent {
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

pub fn empty(status: StatusCode) -> Sent {
    response(status, None, whole(Bytes::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_executed_is_found_by_its_words() {
        let say = |message: &str, kind| searchable(message.to_owned(), kind);
        assert_eq!(say("exec: \"/etc\": is a directory", ErrorKind::CommandNotExecutable), "exec: \"/etc\": is a directory: permission denied");
        assert_eq!(say("permission denied", ErrorKind::CommandNotExecutable), "permission denied");
        assert_eq!(say("other", ErrorKind::Internal), "other");
    }

    #[test]
    fn a_stream_can_be_fed_from_within_a_reactor() {
        let (mut sink, mut body) = stream(Cancel::default(), ());
        let reactor = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        // More than may wait, and than tokio lets one task send at once.
        let pieces = 1000;
        let producer =
            std::thread::spawn(move || reactor().block_on(async move { (0..pieces).try_for_each(|n| sink.send(Bytes::from(n.to_string()))) }));
        let read = reactor().block_on(async {
            let mut read = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                read.push(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap());
            }
            read
        });
        producer.join().unwrap().unwrap();
        assert_eq!(read, (0..pieces).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
