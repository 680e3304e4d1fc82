//! Attach and resize of containers.

use super::attached::{Ahead, End, Fate, Session, await_start, content_type};
use super::reply::{Answer, Refusal, Reply};
use super::{Call, logs};
use crate::base::{ContainerId, DetachKeys};
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
    let view = call.engine(|engine| Ok(engine.view(name)?))?;
    let (id, tty) = (view.record.id.clone(), view.record.spec.process.tty);
    if live && view.status == Status::Paused {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("container {name} is paused, unpause the container before attach")));
    }
    // Subscribed before the client hears that it is attached.
    enum Source {
        Live(crate::monitor::Client),
        Ahead(Ahead),
        None,
    }
    let source = match (live, view.status) {
        (false, _) => Source::None,
        (true, Status::Running | Status::Restarting) => Source::Live(call.engine(|engine| Ok(engine.attach(id.as_str(), streams)?.client))?),
        (true, _) => Source::Ahead(call.api.waiting.add(&id, streams)),
    };
    let content_type = content_type(tty, call.version);
    let serve = move |stream: std::os::unix::net::UnixStream, read: bytes::Bytes| {
        if with_logs && let Err(error) = call.engine(|engine| logs::write_past(engine, id.as_str(), tty, streams, &stream)) {
            tracing::debug!("the client left before it had the log: {}", error.message);
            return;
        }
        let client = match source {
            Source::Live(client) => Some(client),
            Source::Ahead(ahead) => {
                let late = || call.engine(|engine| Ok(engine.attach(id.as_str(), streams)?.client)).ok();
                await_start(&call.api.waiting, &id, &ahead, &stream, || fate(&call, &id), late)
            }
            Source::None => None,
        };
        let Some(client) = client else { return };
        if Session::new(client, stream, read, tty, streams, keys).run() == End::Detached
            && let Err(error) = call.engine(|engine| Ok(engine.detached(id.as_str())?))
        {
            tracing::debug!("the detaching is not recorded: {}", error.message);
        }
    };
    Ok(Reply::Hijack { content_type, serve: Box::new(serve) })
}

fn fate(call: &Call, id: &ContainerId) -> Fate {
    match call.engine(|engine| Ok(engine.view(id.as_str())?.status)) {
        Ok(Status::Running | Status::Paused | Status::Restarting) => Fate::Runs,
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Fate::Gone,
        // What cannot be read now may be later.
        Ok(_) | Err(_) => Fate::Waits,
    }
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
