//! Volumes.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use super::wire::VolumeBody;
use crate::engine::Engine;
use serde_json::{Value, json};

pub fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    call.engine(|engine| Ok(Reply::ok(json!({"Volumes": documents(engine, &filters, false)?, "Warnings": null}))))
}

/// # Errors
/// An unknown filter; what cannot be read.
pub fn documents(engine: &Engine, filters: &[(String, String)], sizes: bool) -> Result<Vec<Value>, Refusal> {
    if sizes {
        let usage = engine.disk_usage()?;
        let document = |one: &crate::engine::VolumeUsage| {
            let mut document = engine.inspect_volume(one.volume.name.as_str())?;
            document["UsageData"] = json!({"Size": one.size, "RefCount": one.links});
            Ok(document)
        };
        return usage.volumes.iter().map(document).collect();
    }
    let mut documents = Vec::new();
    for volume in engine.volumes(filters)? {
        match engine.inspect_volume(volume.name.as_str()) {
            Ok(document) => documents.push(document),
            Err(crate::engine::Error::NoSuch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(documents)
}

pub fn create(mut call: Call) -> Answer {
    let body: VolumeBody = call.body.json()?;
    if !matches!(body.driver.as_str(), "" | "local") {
        return Err(Refusal::invalid(format!("error looking up volume plugin {}: plugin not found: only local is supported", body.driver)));
    }
    if body.cluster_volume_spec.is_some() {
        return Err(Refusal::invalid("ClusterVolumeSpec is not supported: volumes are of this host"));
    }
    let name = Some(body.name.as_str()).filter(|name| !name.is_empty());
    let (labels, options): (Vec<_>, Vec<_>) = (body.labels.into_iter().collect(), body.driver_opts.into_iter().collect());
    call.engine(|engine| {
        let volume = engine.create_volume(name, &labels, &options)?;
        Ok(Reply::created(engine.inspect_volume(volume.name.as_str())?))
    })
}

pub fn inspect(call: Call, name: &str) -> Answer {
    call.engine(|engine| Ok(Reply::ok(engine.inspect_volume(name)?)))
}

pub fn remove(call: Call, name: &str) -> Answer {
    let force = call.query.flag("force");
    call.engine(|engine| {
        match engine.remove_volume(name, force) {
            Err(crate::engine::Error::NoSuch { .. }) if force => {}
            other => other?,
        }
        Ok(Reply::none())
    })
}

pub fn prune(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    // Docker's way of asking for named ones too.
    let all = filters.iter().any(|(key, value)| key == "all" && matches!(value.as_str(), "1" | "true" | "True" | "t"));
    filters.retain(|(key, _)| key != "all");
    let all = all || call.version < (1, 42);
    call.engine(|engine| {
        let pruned = engine.prune_volumes(all, &filters)?;
        Ok(Reply::ok(json!({"VolumesDeleted": pruned.deleted, "SpaceReclaimed": pruned.reclaimed})))
    })
}
