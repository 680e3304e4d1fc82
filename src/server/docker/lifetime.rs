//! Start, stop, kill, pause and wait.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use crate::base::{ContainerId, Signal};
use crate::engine::{AttachStreams, Condition, Engine, Status};
use crate::state::record::Container;
use hyper::StatusCode;
use serde_json::json;

fn not_modified() -> Answer {
    Ok(Reply::Empty(StatusCode::NOT_MODIFIED))
}

pub fn start(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        let view = engine.view(name)?;
        if matches!(view.status, Status::Running | Status::Paused) {
            return not_modified();
        }
        let id = view.record.id;
        let pending = call.api.waiting.take(&id);
        start_attached(engine, &id, pending)?;
        Ok(Reply::none())
    })
}

/// Whoever waits for this start is connected before the program runs.
fn start_attached(engine: &Engine, id: &ContainerId, pending: Vec<super::attached::Pending>) -> Result<(), Refusal> {
    let mut pending = pending.into_iter();
    let (Some(first), rest) = (pending.next(), pending.collect::<Vec<_>>()) else {
        engine.start(id, AttachStreams::default(), (0, 0))?;
        return Ok(());
    };
    if !rest.is_empty() {
        // Set up to its gate, so that there is a monitor to connect to.
        engine.init(id)?;
        for other in rest {
            let attached = engine.attach(id.as_str(), other.streams)?;
            other.connect(attached.client);
        }
    }
    let attached = engine.start(id, first.streams, (0, 0))?;
    first.connect(attached.client);
    Ok(())
}

fn signal(call: &Call) -> Result<Option<Signal>, Refusal> {
    let parse = |text: &str| text.parse().map_err(|_| Refusal::invalid(format!("Invalid signal: {text}")));
    call.query.text("signal").map(parse).transpose()
}

pub fn stop(call: Call, name: &str) -> Answer {
    let (signal, time) = (signal(&call)?, call.query.number("t")?);
    call.engine(|engine| {
        if matches!(engine.view(name)?.status, Status::Created | Status::Exited | Status::Dead) {
            return not_modified();
        }
        engine.stop(name, signal, time)?;
        Ok(Reply::none())
    })
}

pub fn restart(call: Call, name: &str) -> Answer {
    let (signal, time) = (signal(&call)?, call.query.number("t")?);
    call.engine(|engine| {
        engine.restart(name, signal, time)?;
        Ok(Reply::none())
    })
}

pub fn kill(call: Call, name: &str) -> Answer {
    let signal = signal(&call)?.unwrap_or(Signal::KILL);
    call.engine(|engine| {
        engine.kill(name, signal)?;
        Ok(Reply::none())
    })
}

pub fn pause(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        engine.pause(name)?;
        Ok(Reply::none())
    })
}

pub fn unpause(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        engine.unpause(name)?;
        Ok(Reply::none())
    })
}

/// The head goes out before the wait: a client that has it may start the container.
pub fn wait(call: Call, name: &str) -> Answer {
    let condition = match call.query.text("condition").unwrap_or("not-running") {
        text @ ("not-running" | "next-exit" | "removed") => text.parse::<Condition>().map_err(Refusal::invalid)?,
        other => return Err(Refusal::invalid(format!("invalid condition: \"{other}\""))),
    };
    let engine = call.own_engine()?;
    let record: Container = engine.view(name)?.record;
    // What happens from now on is read in the journal, in which also the end of a container that is gone by then stands.
    let ends = engine.ends_of(&record)?;
    Ok(Reply::documents(move |sink| {
        let answer = match engine.await_end(ends, condition) {
            Ok(Some(code)) => json!({"StatusCode": code}),
            // The client has gone.
            Ok(None) => return Ok(()),
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": Refusal::from(error).message}}),
        };
        Ok(sink.document(&answer)?)
    }))
}
