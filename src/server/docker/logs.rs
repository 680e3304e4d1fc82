//! Logs of containers, framed as an attach is.

use super::Call;
use super::attached::{content_type, frame};
use super::reply::{Answer, Refusal, Reply};
use crate::engine::{AttachStreams, Engine};
use crate::monitor::{LogLine, LogQuery};
use std::io::{self, Write};

pub fn logs(call: Call, name: &str) -> Answer {
    let query = &call.query;
    let streams = AttachStreams { stdin: false, stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    if !streams.stdout && !streams.stderr {
        return Err(Refusal::invalid("Bad parameters: you must choose at least one stream"));
    }
    let asked = LogQuery {
        since: query.time("since")?,
        until: query.time("until")?,
        // Negative or not a number means all.
        tail: query.text("tail").and_then(|text| text.parse().ok()),
        follow: query.flag("follow"),
        details: query.flag("details"),
    };
    let timestamps = query.flag("timestamps");
    let engine = call.own_engine()?;
    let record = engine.view(name)?.record;
    engine.check_logs(name)?;
    let (id, tty) = (record.id.clone(), record.spec.process.tty);
    let produce = move |sink: &mut super::reply::Sink| {
        let mut begun = [true; 2];
        engine.logs(id.as_str(), &asked, &mut |line| write(sink, &line, tty, streams, timestamps, &mut begun).is_ok())?;
        Ok(())
    };
    Ok(Reply::Stream { content_type: content_type(tty, call.version), headers: Vec::new(), produce: Box::new(produce) })
}

/// What the container has written so far, for an attach that asks for it.
///
/// # Errors
/// The client has gone, or the log cannot be read.
pub fn write_past(engine: &Engine, name: &str, tty: bool, streams: AttachStreams, mut to: impl Write) -> Result<(), Refusal> {
    let mut begun = [true; 2];
    let mut written = Ok(());
    engine.logs(name, &LogQuery::default(), &mut |line| {
        written = write(&mut to, &line, tty, streams, false, &mut begun);
        written.is_ok()
    })?;
    Ok(written?)
}

fn write(to: &mut impl Write, line: &LogLine, tty: bool, streams: AttachStreams, timestamps: bool, begun: &mut [bool; 2]) -> io::Result<()> {
    let is_err = line.stream == 2;
    if line.gap.is_some() || !(if is_err { streams.stderr } else { streams.stdout }) {
        return Ok(());
    }
    let begins = std::mem::replace(&mut begun[usize::from(is_err)], line.data.ends_with(b"\n"));
    let mut text = Vec::with_capacity(line.data.len() + 64);
    if begins && timestamps {
        text.extend_from_slice(format!("{} ", line.at.fixed()).as_bytes());
    }
    if begins && !line.details.is_empty() {
        let details: Vec<String> = line.details.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.extend_from_slice(format!("{} ", details.join(",")).as_bytes());
    }
    text.extend_from_slice(&line.data);
    if !tty {
        let mut framed = frame(if is_err { 2 } else { 1 }, text.len()).to_vec();
        framed.append(&mut text);
        text = framed;
    }
    to.write_all(&text)
}
