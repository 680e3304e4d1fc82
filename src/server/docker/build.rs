//! `POST /build`: a context as a tar (or an address) becomes an image; the client sees the steps as they go.

use super::reply::{Answer, Refusal, Reply, describe};
use super::{Call, transfer};
use crate::build::{self, BuildRequest, CacheFrom, Event};
use crate::engine::request::{add_host, network, resources};
use crate::engine::{CacheFilters, CacheLimits};
use crate::oci::Reference;
use crate::state::record::HostSpec;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// `{"NAME":"value"}` of a query.
fn pairs(call: &Call, key: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(text) = call.query.text(key) else { return Ok(BTreeMap::new()) };
    let map: BTreeMap<String, Option<String>> = serde_json::from_str(text).map_err(|error| Refusal::invalid(format!("invalid {key}: {error}")))?;
    // Without a value: the client has none.
    Ok(map.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

fn request(call: &Call) -> Result<BuildRequest, Refusal> {
    let query = &call.query;
    if query.text("version") == Some("2") {
        return Err(Refusal::invalid("BuildKit is not supported by rcon serve: build with DOCKER_BUILDKIT=0, or with rcon build"));
    }
    for key in ["squash", "securityopt", "cgroupparent"] {
        if query.flag(key) {
            return Err(Refusal::invalid(format!("{key} is not supported by rcon serve")));
        }
    }
    let remote = query.text("remote").unwrap_or("-");
    if remote != "-" && !remote.contains("://") && !remote.starts_with("git@") {
        return Err(Refusal::invalid(format!("remote \"{remote}\" is no address")));
    }
    let tag = |text: &str| text.parse::<Reference>().map_err(|error| Refusal::invalid(format!("invalid tag \"{text}\": {error}")));
    let mut host = HostSpec { shm_size: query.number("shmsize")?.unwrap_or(0), ..HostSpec::default() };
    for text in query.all("extrahosts").flat_map(|list| list.split(',')) {
        host.extra_hosts.push(add_host::parse(text)?);
    }
    let limit = |key: &str| Ok::<_, Refusal>(query.number::<u64>(key)?.filter(|value| *value != 0));
    host.resources.memory = limit("memory")?;
    host.resources.memory_swap = query.number::<i64>("memswap")?.filter(|value| *value != 0);
    host.resources.cpu_shares = limit("cpushares")?;
    host.resources.cpu_period = limit("cpuperiod")?;
    host.resources.cpu_quota = query.number::<i64>("cpuquota")?.filter(|value| *value != 0);
    host.resources.cpuset_cpus = resources::parse_cpuset("--cpuset-cpus", query.text("cpusetcpus").unwrap_or_default())?;
    host.resources.cpuset_mems = resources::parse_cpuset("--cpuset-mems", query.text("cpusetmems").unwrap_or_default())?;
    resources::check(&host.resources).map_err(Refusal::invalid)?;
    let mode = query.text("networkmode").filter(|mode| *mode != "default").unwrap_or("bridge");
    (host.network, host.attachments) = network::choose(&[mode.to_owned()], &network::Given::default())?;
    let mut cache_from = Vec::new();
    if let Some(text) = query.text("cachefrom") {
        let names: Vec<String> = serde_json::from_str(text).map_err(|error| Refusal::invalid(format!("invalid cachefrom: {error}")))?;
        for name in names {
            cache_from.extend(CacheFrom::parse(&name).map_err(|why| Refusal::invalid(format!("cachefrom \"{name}\": {why}")))?);
        }
    }
    Ok(BuildRequest {
        context: remote.to_owned(),
        dockerfile: query.text("dockerfile").filter(|name| *name != "Dockerfile").map(str::to_owned),
        tags: query.all("t").map(tag).collect::<Result<_, _>>()?,
        target: query.text("target").map(str::to_owned),
        arguments: pairs(call, "buildargs")?,
        labels: pairs(call, "labels")?,
        platforms: query.text("platform").map(str::to_owned).into_iter().collect(),
        pull: query.flag("pull"),
        no_cache: query.flag("nocache"),
        cache_from,
        host,
        ..BuildRequest::default()
    })
}

pub fn build(mut call: Call) -> Answer {
    let request = request(&call)?;
    let quiet = call.query.flag("q");
    let engine = transfer::with_registries(&call)?;
    Ok(Reply::documents(move |sink| {
        let told = Mutex::new(sink);
        let say = |document: &Value| {
            // A client that has gone ends the build by its own way.
            drop(told.lock().unwrap_or_else(PoisonError::into_inner).document(document));
        };
        let show = |event: Event| {
            if let Some(text) = line(&event).filter(|_| !quiet) {
                say(&json!({"stream": text}));
            }
        };
        match build::build_from(&engine, &request, &show, &mut call.body, &mut std::io::sink()) {
            Ok(Some(built)) => {
                say(&json!({"aux": {"ID": built.image}}));
                let short: String = built.image.strip_prefix("sha256:").unwrap_or(&built.image).chars().take(12).collect();
                say(&json!({"stream": if quiet { format!("{}\n", built.image) } else { format!("Successfully built {short}\n") }}));
                for name in built.names.iter().filter(|_| !quiet) {
                    say(&json!({"stream": format!("Successfully tagged {}\n", name.familiar())}));
                }
            }
            Ok(None) => {}
            Err(error) => {
                let (code, message) = failure(&error);
                say(&json!({"errorDetail": {"code": code, "message": message}, "error": message}));
            }
        }
        Ok(())
    }))
}

/// With what code the client ends, and what it says: of a process that failed, in the words that clients look for.
fn failure(error: &build::Error) -> (i32, String) {
    let place = error.excerpt().map(|excerpt| format!("{}\n", excerpt.trim_end())).unwrap_or_default();
    match error.process() {
        Some((command, code)) => (code, format!("{place}The command '{command}' returned a non-zero code: {code}")),
        None => (1, place + &describe(error)),
    }
}

/// What a client prints of an event.
fn line(event: &Event) -> Option<String> {
    match event {
        Event::Begun { step, name } => Some(format!("#{step} {name}\n")),
        Event::Output { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
        Event::Cached { step } => Some(format!("#{step} CACHED\n")),
        Event::Failed { step, message, .. } => Some(format!("#{step} ERROR: {message}\n")),
        Event::Warning(warning) => Some(format!("[Warning] {warning}\n")),
        Event::Done { .. } | Event::Cancelled { .. } => None,
    }
}

pub fn prune(call: Call) -> Answer {
    let filters = CacheFilters::read(&call.query.filters()?)?;
    let all = call.query.flag("all");
    let number = |key: &str| Ok::<_, Refusal>(call.query.number::<u64>(key)?.unwrap_or(0));
    let limits = CacheLimits {
        // What it was called before API 1.48.
        reserved: number("reserved-space")?.max(number("keep-storage")?),
        max_used: number("max-used-space")?,
        min_free: number("min-free-space")?,
    };
    call.engine(|engine| {
        let pruned = engine.prune_build_cache(all, &limits, &filters)?;
        Ok(Reply::ok(json!({"CachesDeleted": pruned.deleted, "SpaceReclaimed": pruned.reclaimed})))
    })
}
