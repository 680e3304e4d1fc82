//! `builder`: the cache of builds.

use super::context::Context;
use super::failure::Failure;
use super::ps::filters;
use super::{humanise, output, template};
use crate::base::{ByteSize, Timestamp};
use crate::engine::request::resources::parse_memory;
use crate::engine::{CacheFilters, CacheLimits, CacheUsage, cache_digits};
use serde_json::{Value, json};
use std::process::ExitCode;

pub const TABLE: &str = "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
pub const TITLES: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("Type", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];
/// Digits of an id that lists show.
const SHORT: usize = 12;

/// Remove the build cache that no image shares, or with -a all of it
#[derive(clap::Parser, Debug)]
pub struct PruneArgs {
    /// Forget results that images share, too
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Filter: until=24h, unused-for=24h, type=regular|exec.cachemount|source.http|internal, id=, shared=, inuse=
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Keep this much of what was used last, whatever the other limits say
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES")]
    pub reserved_space: Option<String>,
    /// Remove what is more than this
    #[arg(long, value_name = "BYTES")]
    pub max_used_space: Option<String>,
    /// Remove until this much of the disk is free
    #[arg(long, value_name = "BYTES")]
    pub min_free_space: Option<String>,
}

/// Show what the build cache takes
#[derive(clap::Parser, Debug)]
pub struct UsageArgs {
    /// Show what each record is
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Filter: as of prune
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// # Errors
/// A filter that is not understood, or a removal fails.
pub fn prune(args: PruneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = CacheFilters::read(&filters(&args.filter)?)?;
    let bytes = |flag: &'static str, text: &Option<String>| -> Result<u64, Failure> {
        Ok(text.as_deref().map(|text| parse_memory(flag, text)).transpose()?.flatten().unwrap_or(0))
    };
    let limits = CacheLimits {
        reserved: bytes("--reserved-space", &args.reserved_space)?,
        max_used: bytes("--max-used-space", &args.max_used_space)?,
        min_free: bytes("--min-free-space", &args.min_free_space)?,
    };
    let what = if args.all { "all build cache" } else { "all build cache that no image shares" };
    if !args.force && !output::confirm(&format!("WARNING! This will remove {what}."))? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = context.engine()?.prune_build_cache(args.all, &limits, &filters)?;
    if !pruned.deleted.is_empty() {
        output::line(format_args!("Deleted build cache objects:\n{}\n", pruned.deleted.join("\n")))?;
    }
    output::line(format_args!("Total:\t{}", ByteSize(pruned.reclaimed).decimal()))?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened, a filter that is not understood, a malformed template.
pub fn usage(args: UsageArgs, context: &Context) -> Result<ExitCode, Failure> {
    let usage = context.engine()?.filtered_build_cache(&CacheFilters::read(&filters(&args.filter)?)?)?;
    let rows = rows(&usage);
    if args.verbose && args.format.is_none() {
        for (usage, row) in usage.iter().zip(&rows) {
            let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            output::line(format_args!(
                "ID:\t\t{}\nType:\t\t{}\nDescription:\t{}\nCreated at:\t{}\nLast used:\t{}\nUsage count:\t{}\nSize:\t\t{}\nShared:\t\t{}\n",
                cache_digits(&usage.record.key),
                field("Type"),
                output::cell(&field("Description")),
                field("CreatedAt"),
                field("LastUsedSince"),
                field("UsageCount"),
                field("Size"),
                field("Shared"),
            ))?;
        }
    } else {
        output::raw(&template::list(args.format.as_deref().filter(|format| !format.is_empty()), TABLE, TITLES, &rows)?)?;
    }
    if args.format.is_none() {
        let sum = |shared: Option<bool>| usage.iter().filter(|one| shared.is_none_or(|shared| one.shared == shared)).map(|one| one.size).sum();
        output::line(format_args!("Shared:\t\t{}", ByteSize(sum(Some(true))).decimal()))?;
        output::line(format_args!("Private:\t{}", ByteSize(sum(Some(false))).decimal()))?;
        output::line(format_args!("Total:\t\t{}", ByteSize(sum(None)).decimal()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What templates see of each record.
pub fn rows(usage: &[CacheUsage]) -> Vec<Value> {
    let now = Timestamp::now();
    let row = |usage: &CacheUsage| {
        let record = &usage.record;
        json!({
            "CacheType": record.kind.name(),
            "CreatedAt": humanise::local(record.created),
            "CreatedSince": humanise::ago(record.created, now),
            "Description": record.description,
            "ID": cache_digits(&record.key).chars().take(SHORT).collect::<String>(),
            "InUse": usage.in_use.to_string(),
            "LastUsedAt": humanise::local(record.used),
            "LastUsedSince": humanise::ago(record.used, now),
            "Shared": usage.shared.to_string(),
            "Size": ByteSize(usage.size).decimal(),
            "Type": record.kind.name(),
            "UsageCount": record.uses.to_string(),
        })
    };
    usage.iter().map(row).collect()
}
