//! `wait`: prints exit codes.

use super::context::Context;
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Wait until containers stop and print their exit codes
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.containers {
        match engine.wait(name) {
            Ok(exit) => output::line(exit)?,
            Err(error) => {
                Failure::from(error).print();
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}
