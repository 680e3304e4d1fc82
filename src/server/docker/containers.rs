//! Lists and documents of containers, and what changes their settings.

use super::reply::{Answer, Refusal, Reply};
use super::wire::{CreateBody, UpdateBody};
use super::{Call, host_config};
use crate::base::Timestamp;
use crate::engine::{ChangeKind, CommitOptions, Engine, Status, View, status_text};
use crate::state::record::{Protocol, PublishedPort};
use hyper::StatusCode;
use serde_json::{Value, json};

pub fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    let limit: Option<i64> = call.query.number("limit")?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let all = call.query.flag("all") || limit.is_some() || filters.iter().any(|(key, _)| key == "status");
    let size = call.query.flag("size");
    call.engine(|engine| {
        let mut views = engine.list(all, &filters)?;
        views.truncate(limit.unwrap_or(usize::MAX));
        Ok(Reply::ok(summaries(engine, views, size)?))
    })
}

/// The rows of a list. What is removed meanwhile is left out.
///
/// # Errors
/// What cannot be read.
pub fn summaries(engine: &Engine, views: Vec<View>, size: bool) -> Result<Vec<Value>, Refusal> {
    let mut rows = Vec::with_capacity(views.len());
    for view in views {
        match summary(engine, &view, size) {
            Ok(row) => rows.push(row),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(rows)
}

fn summary(engine: &Engine, view: &View, size: bool) -> Result<Value, Refusal> {
    let record = &view.record;
    let document = engine.inspect_container(record.id.as_str(), size)?;
    let live = matches!(view.status, Status::Running | Status::Paused);
    let words = [&document["Path"]].into_iter().chain(document["Args"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    let mut row = json!({
        "Id": record.id.as_str(),
        "Names": [format!("/{}", record.name)],
        "Image": record.spec.image,
        "ImageID": record.spec.image_id,
        "Command": words.collect::<Vec<_>>().join(" "),
        "Created": record.created.nanos() / 1_000_000_000,
        "Ports": if live { ports(&record.published, &record.spec.exposed) } else { Vec::new() },
        "Labels": record.spec.labels,
        "State": view.status.as_str(),
        "Status": status_text::status(view, Timestamp::now()),
        "HostConfig": {"NetworkMode": document["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": document["NetworkSettings"]["Networks"]},
        "Mounts": document["Mounts"],
    });
    for key in ["SizeRw", "SizeRootFs"] {
        if let Some(size) = document.get(key) {
            row[key] = size.clone();
        }
    }
    Ok(row)
}

/// Published ports by address, then those that are only exposed.
fn ports(published: &[PublishedPort], exposed: &[String]) -> Vec<Value> {
    let mut ports = Vec::new();
    for port in published {
        let ips = match port.host_ip {
            Some(ip) => vec![ip.to_string()],
            None => vec!["0.0.0.0".to_owned(), "::".to_owned()],
        };
        for ip in ips {
            ports.push(json!({"IP": ip, "PrivatePort": port.container_port, "PublicPort": port.host_port, "Type": port.protocol.name()}));
        }
    }
    for text in exposed {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let parsed = number.parse::<u16>().ok().zip(Protocol::named(protocol));
        let Some((number, protocol)) = parsed else { continue };
        if !published.iter().any(|port| port.container_port == number && port.protocol == protocol) {
            ports.push(json!({"PrivatePort": number, "Type": protocol.name()}));
        }
    }
    ports
}

pub fn inspect(call: Call, name: &str) -> Answer {
    let size = call.query.flag("size");
    call.engine(|engine| Ok(Reply::ok(engine.inspect_container(name, size)?)))
}

pub fn top(call: Call, name: &str) -> Answer {
    let words = call.query.text("ps_args").unwrap_or("-ef").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    call.engine(|engine| {
        let table = engine.top(name, &words)?;
        Ok(Reply::ok(json!({"Titles": table.titles, "Processes": table.rows})))
    })
}

pub fn changes(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        let kind = |kind| match kind {
            ChangeKind::Changed => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        let changes: Vec<Value> = engine.diff(name)?.iter().map(|one| json!({"Path": one.path.to_string_lossy(), "Kind": kind(one.kind)})).collect();
        Ok(Reply::ok(changes))
    })
}

pub fn rename(call: Call, name: &str) -> Answer {
    let new = call.query.text("name").ok_or_else(|| Refusal::invalid("Neither old nor new names may be empty"))?.to_owned();
    call.engine(|engine| {
        engine.rename(name, new.strip_prefix('/').unwrap_or(&new))?;
        Ok(Reply::none())
    })
}

pub fn update(mut call: Call, name: &str) -> Answer {
    let body: UpdateBody = call.body.json()?;
    let mut request = host_config::update(&body.limits)?;
    let policy = body.restart_policy.filter(|policy| !policy.name.is_empty());
    request.restart = policy.as_ref().map(host_config::restart_policy).transpose()?;
    call.engine(|engine| Ok(Reply::ok(json!({"Warnings": engine.update(name, &request)?}))))
}

pub fn remove(call: Call, name: &str) -> Answer {
    let (force, volumes, link) = (call.query.flag("force"), call.query.flag("v"), call.query.flag("link"));
    call.engine(|engine| {
        if link {
            engine.unlink(name)?;
            return Ok(Reply::none());
        }
        let id = engine.view(name)?.record.id;
        engine.remove(id.as_str(), force, volumes)?;
        // Whoever waits for its start waits for nothing.
        drop(call.api.waiting.take(&id));
        Ok(Reply::none())
    })
}

pub fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    call.engine(|engine| {
        let pruned = engine.prune_containers(&filters)?;
        Ok(Reply::ok(json!({"ContainersDeleted": pruned.deleted, "SpaceReclaimed": pruned.reclaimed})))
    })
}

pub fn commit(mut call: Call) -> Answer {
    let query = &call.query;
    let name = query.text("container").ok_or_else(|| Refusal::invalid("the container is missing"))?.to_owned();
    let repository = query.text("repo").map(str::to_owned);
    let target = repository.map(|repository| query.text("tag").map_or(repository.clone(), |tag| format!("{repository}:{tag}")));
    let text = |key: &str| query.text(key).map(str::to_owned);
    let options = CommitOptions {
        name: target,
        author: text("author"),
        message: text("comment"),
        changes: query.all("changes").flat_map(str::lines).map(str::to_owned).collect(),
        pause: query.flag_or("pause", true),
        squash: false,
        docker_format: false,
    };
    let config: CreateBody = call.body.json()?;
    let options = CommitOptions { changes: instructions(&config).into_iter().chain(options.changes).collect(), ..options };
    call.engine(|engine| Ok(Reply::created(json!({"Id": engine.commit(&name, &options)?}))))
}

/// The settings that the body of a commit gives, as a Dockerfile says them.
fn instructions(config: &CreateBody) -> Vec<String> {
    let mut lines = Vec::new();
    let list = |words: &Vec<String>| json!(words).to_string();
    lines.extend(config.env.iter().filter_map(|pair| pair.split_once('=')).map(|(key, value)| format!("ENV {key}={}", json!(value))));
    lines.extend(config.cmd.as_ref().map(|words| format!("CMD {}", list(words))));
    lines.extend(config.entrypoint.as_ref().map(|words| format!("ENTRYPOINT {}", list(words))));
    lines.extend(config.labels.iter().map(|(key, value)| format!("LABEL {}={}", json!(key), json!(value))));
    lines.extend(config.exposed_ports.keys().map(|port| format!("EXPOSE {port}")));
    lines.extend(config.volumes.keys().map(|path| format!("VOLUME {}", json!([path]))));
    for (word, value) in [("USER", &config.user), ("WORKDIR", &config.working_dir), ("STOPSIGNAL", &config.stop_signal)] {
        lines.extend(value.as_ref().filter(|value| !value.is_empty()).map(|value| format!("{word} {value}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_by_address() {
        let published = [PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp }];
        let rows = ports(&published, &["80/tcp".to_owned(), "53/udp".to_owned()]);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1], json!({"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}));
        assert_eq!(rows[2], json!({"PrivatePort": 53, "Type": "udp"}));
    }
}
