//! `rm`.

use super::context::{Context, is_missing};
use super::failure::Failure;
use super::output;
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
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.containers {
        match engine.remove(name.trim_start_matches('/'), args.force, args.volumes).map_err(Failure::from) {
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
