//! `container prune`, `image prune`, `volume prune`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::ps::filters;
use crate::base::ByteSize;
use crate::engine::Pruned;
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
    /// Filter: label=k=v, label!=k, all=1
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
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
