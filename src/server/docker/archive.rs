//! Files of containers as tar streams.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use crate::engine::PathStat;
use base64::Engine as _;
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;
use std::io::{BufWriter, Write};

/// Where a client of `docker cp` learns what is at a path.
const STAT: &str = "x-docker-container-path-stat";

fn path(call: &Call) -> Result<String, Refusal> {
    call.query.text("path").map(str::to_owned).ok_or_else(|| Refusal::invalid("bad parameter: path cannot be empty"))
}

fn header(stat: &PathStat) -> (&'static str, String) {
    let document =
        json!({"name": stat.name, "size": stat.size, "mode": stat.go_mode(), "mtime": stat.modified.to_string(), "linkTarget": stat.link_target});
    (STAT, base64::engine::general_purpose::STANDARD.encode(document.to_string()))
}

pub fn stat(call: Call, name: &str) -> Answer {
    let path = path(&call)?;
    call.engine(|engine| {
        let stat = engine.stat_path(name, path.as_bytes())?;
        Ok(Reply::Bytes { content_type: "application/json", headers: vec![header(&stat)], data: Bytes::new() })
    })
}

pub fn read(call: Call, name: &str) -> Answer {
    let path = path(&call)?;
    let engine = call.own_engine()?;
    let stat = engine.stat_path(name, path.as_bytes())?;
    let id = engine.view(name)?.record.id;
    let produce = move |sink: &mut super::reply::Sink| {
        let mut out = BufWriter::with_capacity(256 << 10, sink);
        engine.copy_out(id.as_str(), path.as_bytes(), false, &mut out)?;
        Ok(out.flush()?)
    };
    Ok(Reply::Stream { content_type: "application/x-tar", headers: vec![header(&stat)], produce: Box::new(produce) })
}

pub fn write(mut call: Call, name: &str) -> Answer {
    let path = path(&call)?;
    let keep_ids = call.query.flag("copyUIDGID");
    let engine = call.own_engine()?;
    engine.stat_path(name, path.as_bytes())?;
    // `noOverwriteDirNonDir` is the rule here, asked for or not: a directory and a file never replace each other.
    engine.copy_in(name, path.as_bytes(), &mut call.body, keep_ids)?;
    Ok(Reply::Empty(StatusCode::OK))
}

pub fn export(call: Call, name: &str) -> Answer {
    let engine = call.own_engine()?;
    let id = engine.view(name)?.record.id;
    Ok(Reply::tar(move |sink| {
        let mut out = BufWriter::with_capacity(256 << 10, sink);
        engine.export(id.as_str(), &mut out)?;
        Ok(out.flush()?)
    }))
}
