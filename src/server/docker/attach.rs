//! Attach and resize of containers.

use super::attached::{End, Session, await_start, content_type};
use super::reply::{Answer, Refusal, Reply};
use super::{Call, logs};
use crate::base::DetachKeys;
use crate::engine::{AttachStreams, Status};
use hyper::StatusCode;

/// The detach keys of the request, else Docker's.
///
/// # Errors
/// An unknown key.
pub fn keys(call: &Call) -> Result<DetachKeys, Refusal> {
    match call.query.text("detachKeys") {
        Some(text) => DetachKeys::parse(text).map_err(|error| Refusal::invalid(format!("invalid detach keys ({text}) provided: {error}"))),
        None => Ok(DetachKeys::default()),
    }
}

pub fn attach(call: Call, name: &str) -> Answer {
    let flag = |key: &str| call.query.flag(key);
    let streams = AttachStreams { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr") };
    let (with_logs, live, keys) = (flag("logs"), flag("stream"), keys(&call)?);
    let engine = call.own_engine()?;
    let view = engine.view(name)?;
    let (id, tty) = (view.record.id.clone(), view.record.spec.process.tty);
    if live && view.status == Status::Paused {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("container {name} is paused, unpause the container before attach")));
    }
    let api = call.api.clone();
    // Subscribed before the client hears that it is attached.
    enum Source {
        Live(crate::monitor::Client),
        Ahead(std::sync::mpsc::Receiver<crate::monitor::Client>),
        None,
    }
    let source = match (live, view.status) {
        (false, _) => Source::None,
        (true, Status::Running | Status::Restarting) => Source::Live(engine.attach(id.as_str(), streams)?.client),
        (true, _) => Source::Ahead(api.waiting.add(&id, streams)),
    };
    let serve = move |stream: std::os::unix::net::UnixStream, read: bytes::Bytes| {
        if with_logs && let Err(error) = logs::write_past(&engine, id.as_str(), tty, streams, &stream) {
            tracing::debug!("the client left before it had the log: {}", error.message);
            return;
        }
        let client = match source {
            Source::Live(client) => Some(client),
            Source::Ahead(receiver) => await_start(&receiver, &stream),
            Source::None => None,
        };
        let Some(client) = client else { return };
        if Session::new(client, stream, read, tty, streams, keys).run() == End::Detached
            && let Err(error) = engine.detached(id.as_str())
        {
            tracing::debug!("the detaching is not recorded: {error}");
        }
    };
    Ok(Reply::Hijack { content_type: content_type(tty, call.version), serve: Box::new(serve) })
}

pub fn resize(call: Call, name: &str) -> Answer {
    let (columns, rows) = call.query.size()?;
    call.engine(|engine| {
        // A connection that subscribes to nothing.
        let mut attached = engine.attach(name, AttachStreams::default())?;
        attached.client.resize(columns, rows).map_err(crate::engine::Error::from)?;
        Ok(Reply::Empty(StatusCode::OK))
    })
}
