//! `container prune`, `image prune`, `volume prune`, `system prune`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::ps::filters;
use crate::base::ByteSize;
use crate::engine::{CacheFilters, CacheLimits, Pruned};
use std::process::ExitCode;

/// Remove all stopped containers
#[derive(clap::Parser, Debug)]
pub struct ContainerArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Filter: until=24h, label=k=v, label!=k
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// Remove dangling images, or with -a all images without a container
#[derive(clap::Parser, Debug)]
pub struct ImageArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Remove all images that no container uses
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Filter: until=24h, label=k=v, label!=k
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// Remove anonymous volumes without a container, or with -a named ones too
#[derive(clap::Parser, Debug)]
pub struct VolumeArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Remove named volumes too
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Filter: label=k=v, label!=k, all=1, until=24h, unused-for=30d
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// Remove stopped containers, unused networks, dangling images and, if asked for, volumes
#[derive(clap::Parser, Debug)]
pub struct SystemArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Remove all images that no container uses
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Remove anonymous volumes that no container uses
    #[arg(long)]
    pub volumes: bool,
    /// Filter: until=24h (not with --volumes), label=k=v, label!=k
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn system(args: SystemArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    if args.volumes && filters.iter().any(|(key, _)| key == "until") {
        return Err(
            Failure::invalid("the \"until\" filter is not supported with \"--volumes\"").with_hint("prune volumes by themselves: rcon volume prune")
        );
    }
    if !args.force && !output::confirm(&plan(&args))? {
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let mut reclaimed = 0;
    let mut tell = |title: &str, pruned: Pruned| {
        reclaimed += pruned.reclaimed;
        if pruned.deleted.is_empty() { Ok(()) } else { output::line(format_args!("{title}\n{}\n", pruned.deleted.join("\n"))) }
    };
    tell("Deleted Containers:", engine.prune_containers(&filters)?)?;
    if args.volumes {
        tell("Deleted Volumes:", engine.prune_volumes(false, &filters)?)?;
    }
    let networks = engine.prune_networks(&filters)?;
    if !networks.is_empty() {
        output::line(format_args!("Deleted Networks:\n{}\n", networks.join("\n")))?;
    }
    tell("Deleted Images:", engine.prune_images(args.all, &filters)?)?;
    let of_cache: Vec<_> = filters.iter().filter(|(key, _)| key == "until").cloned().collect();
    // Labels are no property of the cache: who asks for some does not mean it.
    if of_cache.len() == filters.len() {
        tell("Deleted build cache objects:", engine.prune_build_cache(args.all, &CacheLimits::default(), &CacheFilters::read(&of_cache)?)?)?;
    }
    output::line(format_args!("Total reclaimed space: {}", ByteSize(reclaimed).decimal()))?;
    Ok(ExitCode::SUCCESS)
}

/// What `system prune` is about to do.
fn plan(args: &SystemArgs) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if args.all { "  - all images without at least one container associated to them\n" } else { "  - all dangling images\n" });
    text.push_str(if args.all { "  - all build cache\n" } else { "  - unused build cache\n" });
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        text.extend(args.filter.iter().map(|filter| format!("  - {filter}\n")));
    }
    text
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn container(args: ContainerArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    if !args.force && !output::confirm("WARNING! This will remove all stopped containers.")? {
        return Ok(ExitCode::SUCCESS);
    }
    report("Deleted Containers:", &context.engine()?.prune_containers(&filters)?)
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn image(args: ImageArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    let question = if args.all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !args.force && !output::confirm(question)? {
        return Ok(ExitCode::SUCCESS);
    }
    report("Deleted Images:", &context.engine()?.prune_images(args.all, &filters)?)
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn volume(args: VolumeArgs, context: &Context) -> Result<ExitCode, Failure> {
    let mut filters = filters(&args.filter)?;
    // Docker's older spelling of -a.
    let all = args.all || filters.iter().any(|(key, value)| key == "all" && matches!(value.as_str(), "1" | "true"));
    filters.retain(|(key, _)| key != "all");
    let question = if all {
        "WARNING! This will remove all volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    if !args.force && !output::confirm(question)? {
        return Ok(ExitCode::SUCCESS);
    }
    report("Deleted Volumes:", &context.engine()?.prune_volumes(all, &filters)?)
}

fn report(title: &str, pruned: &Pruned) -> Result<ExitCode, Failure> {
    if !pruned.deleted.is_empty() {
        output::line(format_args!("{title}\n{}\n", pruned.deleted.join("\n")))?;
    }
    output::line(format_args!("Total reclaimed space: {}", ByteSize(pruned.reclaimed).decimal()))?;
    Ok(ExitCode::SUCCESS)
}
