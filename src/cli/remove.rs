//! `rm`.

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::output;
use super::targets::{Targets, any};
use std::process::ExitCode;

/// Remove containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Kill a running container first
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Remove its anonymous volumes too
    #[arg(short = 'v', long)]
    pub volumes: bool,
    /// With -f: stop it first, and kill it after so many seconds
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<i64>,
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.time.is_some() && !args.force {
        return Err(Failure::invalid("--time needs --force").with_code(USAGE));
    }
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.targets.resolve(&engine, any)? {
        let bare = name.trim_start_matches('/');
        let stopped = args.time.map_or(Ok(()), |seconds| engine.stop(bare, None, Some(seconds)));
        match stopped.and_then(|()| engine.remove(bare, args.force, args.volumes)).map_err(Failure::from) {
            Ok(()) => output::line(name)?,
            Err(failure) => {
                // With -f a missing container is what was asked for: told, but no failure.
                if !(args.force && is_missing(&failure)) {
                    code = ExitCode::from(1);
                }
                failure.print();
            }
        }
    }
    Ok(code)
}
