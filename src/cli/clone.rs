//! `container clone`.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::options::LiveLimits;
use super::output;
use super::progress::Progress;
use crate::engine::{AttachStreams, CloneContainer};
use std::process::ExitCode;

/// Create a container with the settings of another one
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Remove the other one afterwards
    #[arg(long)]
    pub destroy: bool,
    /// With --destroy: even if it runs
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Start the new one
    #[arg(long)]
    pub run: bool,
    /// Name of the new one (OLD-clone without)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub limits: LiveLimits,
    pub container: String,
    /// As `--name`
    #[arg(value_name = "NAME")]
    pub new_name: Option<String>,
    /// Another image
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

/// # Errors
/// No such container, a taken name, or a malformed limit.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.force && !args.destroy {
        return Err(Failure::invalid("--force needs --destroy").with_code(USAGE));
    }
    let name = args.new_name.as_ref().or(args.name.as_ref()).map(|name| name.parse()).transpose();
    let request = CloneContainer {
        name: name.map_err(|e: crate::base::IdError| Failure::invalid(e.to_string()).with_code(USAGE))?,
        image: args.image,
        limits: args.limits.parse()?,
        destroy: args.destroy,
        force: args.force,
        moved: None,
    };
    let engine = context.engine()?;
    let progress = Progress::new(false, true);
    let created = engine.clone_container(&args.container, &request, &|event| progress.show(event))?;
    progress.finish();
    output::warnings(&created.warnings);
    output::line(&created.record.id)?;
    if args.run {
        engine.start(&created.record.id, AttachStreams::default(), (0, 0))?;
    }
    Ok(ExitCode::SUCCESS)
}
