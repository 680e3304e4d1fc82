//! `system df`: what takes the disk.

use super::context::Context;
use super::failure::Failure;
use super::images::{self, identifier};
use super::ps::labels;
use super::{builder, humanise, output, template};
use crate::base::{ByteSize, Timestamp};
use crate::engine::{Sum, Usage};
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const TITLES: &[(&str, &str)] = &[("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];
const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Logs}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const CONTAINER_TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("Logs", "LOGS"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const VOLUME_TITLES: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

/// Show what takes the disk
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show each image, container and volume
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// # Errors
/// The engine cannot be opened, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let usage = context.engine()?.disk_usage()?;
    match (args.verbose, args.format.as_deref().filter(|format| !format.is_empty())) {
        (false, format) => output::raw(&template::list(format, TABLE, TITLES, &summary(&usage))?)?,
        (true, Some(format)) => output::raw(&template::one(format, &details(&usage))?)?,
        (true, None) => output::raw(&verbose(&usage)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(usage: &Usage) -> Vec<Value> {
    let row = |kind: &str, sum: Sum, with_share: bool| {
        let reclaimable = ByteSize(sum.reclaimable).decimal();
        let share = (sum.reclaimable * 100).checked_div(sum.size).filter(|_| with_share);
        json!({
            "Active": sum.active.to_string(),
            "Reclaimable": share.map_or(reclaimable.clone(), |share| format!("{reclaimable} ({share}%)")),
            "Size": ByteSize(sum.size).decimal(),
            "TotalCount": sum.count.to_string(),
            "Type": kind,
        })
    };
    vec![
        row("Images", usage.image_sum(), true),
        row("Containers", usage.container_sum(), true),
        row("Local Volumes", usage.volume_sum(), true),
        row("Build Cache", usage.build_cache_sum(), false),
    ]
}

fn image_rows(usage: &Usage) -> Vec<Value> {
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for image in &usage.images {
        let view = &image.view;
        for (repository, tag, _) in images::names(view, false) {
            rows.push(json!({
                "Containers": view.containers.to_string(),
                "CreatedAt": humanise::local(view.image.created),
                "CreatedSince": humanise::ago(view.image.created, now),
                "ID": identifier(&view.image.id, true),
                "Repository": repository,
                "SharedSize": ByteSize(image.shared).decimal(),
                "Size": ByteSize(image.shared + image.unique).decimal(),
                "Tag": tag,
                "UniqueSize": ByteSize(image.unique).decimal(),
            }));
        }
    }
    rows
}

fn container_rows(usage: &Usage) -> Vec<Value> {
    let now = Timestamp::now();
    let row = |container: &crate::engine::ContainerUsage| {
        let record = &container.view.record;
        json!({
            "ID": record.id.short(),
            "Image": record.spec.image,
            "Labels": labels(&record.spec.labels),
            "LocalVolumes": container.volumes.to_string(),
            "Logs": ByteSize(container.logs).decimal(),
            "Names": record.name.as_str(),
            "RunningFor": humanise::ago(record.created, now),
            "Size": ByteSize(container.size).decimal(),
            "Status": humanise::status(&container.view, now),
        })
    };
    usage.containers.iter().map(row).collect()
}

fn volume_rows(usage: &Usage) -> Vec<Value> {
    let row = |volume: &crate::engine::VolumeUsage| json!({ "Links": volume.links.to_string(), "Name": volume.volume.name.as_str(), "Size": ByteSize(volume.size).decimal() });
    usage.volumes.iter().map(row).collect()
}

fn details(usage: &Usage) -> Value {
    json!({ "Images": image_rows(usage), "Containers": container_rows(usage), "Volumes": volume_rows(usage), "BuildCache": builder::rows(&usage.build_cache), "EventJournal": ByteSize(usage.events).decimal() })
}

fn verbose(usage: &Usage) -> Result<String, Failure> {
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}{}",
        template::list(None, IMAGES, images::TITLES, &image_rows(usage))?,
        template::list(None, CONTAINERS, CONTAINER_TITLES, &container_rows(usage))?,
        template::list(None, VOLUMES, VOLUME_TITLES, &volume_rows(usage))?,
        ByteSize(usage.build_cache_sum().size).decimal(),
        template::list(None, builder::TABLE, builder::TITLES, &builder::rows(&usage.build_cache))?,
        [("Unfinished downloads and leftovers", usage.leftovers), ("Event journal (bounded, goes by itself)", usage.events)]
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(what, bytes)| format!("\n{what}: {}\n", ByteSize(*bytes).decimal()))
            .collect::<String>(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents() {
        let usage = Usage { layers: 1_000_000, unused_layers: 250_000, ..Usage::default() };
        let text = template::list(None, TABLE, TITLES, &summary(&usage)).unwrap();
        assert!(text.starts_with("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"), "{text}");
        assert!(text.contains("1MB       250kB (25%)") && text.contains("Build Cache     0         0         0B        0B\n"), "{text}");
    }
}
