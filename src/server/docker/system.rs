//! The server itself: ping, version, info, events, disk usage, credentials.

use super::reply::{Answer, Refusal, Reply};
use super::{Call, OLDEST, VERSION};
use crate::engine::{CacheUsage, Event, EventQuery, cache_digits};
use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

pub fn ping(call: &Call) -> Answer {
    let headers = [
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("builder-version", "1"),
        ("swarm", "inactive"),
        ("docker-experimental", "false"),
    ];
    let data = if call.method == hyper::Method::HEAD { Bytes::new() } else { Bytes::from_static(b"OK") };
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Ok(Reply::Bytes { content_type: "text/plain; charset=utf-8", headers, data })
}

pub fn version(call: &Call) -> Answer {
    let mut document = call.api.info.version.clone();
    document["ApiVersion"] = json!(VERSION);
    document["MinAPIVersion"] = json!(OLDEST);
    document["Components"][0]["Details"]["ApiVersion"] = json!(VERSION);
    document["Components"][0]["Details"]["MinAPIVersion"] = json!(OLDEST);
    Ok(Reply::ok(document))
}

pub fn info(call: Call) -> Answer {
    let make = call.api.info.info.clone();
    Ok(Reply::ok(call.engine(|engine| Ok(make(engine)?))?))
}

pub fn events(call: Call) -> Answer {
    let (since, until) = (call.query.time("since")?, call.query.time("until")?);
    let filters = call.query.filters()?;
    let query = EventQuery { since, until, follow: true, filters };
    let engine = call.own_engine()?;
    engine.check_events(&query)?;
    Ok(Reply::documents(move |sink| {
        engine.events(&query, &mut |event| sink.document(&event_document(&event)).is_ok())?;
        Ok(())
    }))
}

/// Docker's document of an event, with the words of old clients beside.
pub fn event_document(event: &Event) -> Value {
    let nanos = event.at.nanos();
    let mut document = json!({
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": nanos / 1_000_000_000,
        "timeNano": nanos,
    });
    if matches!(event.kind.as_str(), "container" | "image") {
        document["status"] = json!(event.action);
        document["id"] = json!(event.id);
    }
    if let Some(image) = event.attributes.get("image").filter(|_| event.kind.as_str() == "container") {
        document["from"] = json!(image);
    }
    document
}

pub fn usage(call: Call) -> Answer {
    let wanted: Vec<String> = call.query.all("type").map(str::to_owned).collect();
    let wants = |kind: &str| wanted.is_empty() || wanted.iter().any(|one| one == kind);
    call.engine(|engine| {
        let mut document = json!({});
        if wants("image") {
            let images = super::images::summaries(engine, &engine.images(&[])?, true)?;
            document["LayersSize"] = json!(engine.disk_usage()?.layers);
            document["Images"] = json!(images);
        }
        if wants("container") {
            document["Containers"] = json!(super::containers::summaries(engine, engine.list(true, &[])?, true)?);
        }
        if wants("volume") {
            document["Volumes"] = json!(super::volumes::documents(engine, &[], true)?);
        }
        if wants("build-cache") {
            document["BuildCache"] = json!(engine.build_cache()?.iter().map(cache_record).collect::<Vec<_>>());
        }
        Ok(Reply::ok(document))
    })
}

fn cache_record(one: &CacheUsage) -> Value {
    json!({
        "ID": cache_digits(&one.record.key), "Type": one.record.kind.name(), "Description": one.record.description, "InUse": one.in_use,
        "Shared": one.shared, "Size": one.size, "CreatedAt": one.record.created.to_string(), "LastUsedAt": one.record.used.to_string(),
        "UsageCount": one.record.uses,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Credentials {
    username: String,
    password: String,
    serveraddress: String,
}

pub fn auth(mut call: Call) -> Answer {
    let given: Credentials = call.body.json()?;
    let server = if given.serveraddress.is_empty() { "docker.io".to_owned() } else { given.serveraddress };
    call.engine(|engine| match engine.verify_login(&server, &given.username, &given.password) {
        Ok(_) => Ok(Reply::ok(json!({"Status": "Login Succeeded", "IdentityToken": ""}))),
        Err(error) => Err(Refusal { status: StatusCode::UNAUTHORIZED, ..Refusal::from(error) }),
    })
}
