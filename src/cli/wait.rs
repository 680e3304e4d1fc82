//! `wait`: prints exit codes.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::output;
use crate::engine::{Condition, parse_interval};
use std::process::ExitCode;
use std::time::Duration;

/// Wait until containers stop (or meet a condition) and print their exit codes
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Wait for: stopped, exited, not-running, next-exit, removed, created, running, paused, restarting, removing, healthy or unhealthy
    #[arg(long, value_name = "CONDITION")]
    pub condition: Vec<String>,
    /// Time between looks at what nobody reports (250ms, 2s)
    #[arg(short = 'i', long, value_name = "TIME", default_value = "250ms")]
    pub interval: String,
    /// No error for a container that does not exist: it counts as removed
    #[arg(long)]
    pub ignore: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// An unknown condition, the engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let condition = |text: &String| text.parse::<Condition>().map_err(|e| Failure::invalid(format!("--condition: {e}")).with_code(USAGE));
    let conditions = args.condition.iter().flat_map(|text| text.split(',')).map(|text| condition(&text.to_owned()));
    let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    let interval = parse_interval(&args.interval).filter(|interval| *interval >= Duration::from_millis(1));
    let interval =
        interval.ok_or_else(|| Failure::invalid(format!("--interval: \"{}\" is not a time like 250ms", args.interval)).with_code(USAGE))?;
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.containers {
        let ended = if conditions.is_empty() { engine.wait(name) } else { engine.wait_for(name, &conditions, interval) };
        match ended {
            Ok(exit) => output::line(exit)?,
            Err(crate::engine::Error::NoSuch { .. }) if args.ignore => output::line(-1)?,
            Err(error) => {
                Failure::from(error).print();
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}
