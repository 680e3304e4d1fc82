//! `update`: changes limits and the restart policy of containers.

use super::context::Context;
use super::failure::Failure;
use super::options::LiveLimits;
use super::output;
use crate::engine::request::{UpdateRequest, resources, restart};
use crate::state::record::Resources;
use std::process::ExitCode;

/// Change limits of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    pub limits: LiveLimits,
    /// Restart policy: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

impl Args {
    fn request(&self) -> Result<UpdateRequest, Failure> {
        let mut request = self.limits.parse()?;
        request.restart = self.restart.as_deref().map(restart::parse).transpose()?;
        // Swap alone is fine here: the container may have its memory limit already.
        let swap_checked = request.memory_swap.filter(|_| request.memory.is_some());
        let limits = Resources {
            memory: request.memory,
            memory_swap: swap_checked,
            memory_reservation: request.memory_reservation,
            nano_cpus: request.nano_cpus,
            cpu_period: request.cpu_period,
            cpu_quota: request.cpu_quota,
            ..Resources::default()
        };
        // The engine's own checks, said before anything is asked of it: its exit code.
        resources::check(&limits).map_err(Failure::invalid)?;
        Ok(request)
    }
}

/// # Errors
/// A malformed limit.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let request = args.request()?;
    if request == UpdateRequest::default() {
        return Err(Failure::invalid("nothing to change: give at least one limit or --restart").with_code(1));
    }
    let engine = context.engine()?;
    output::each(&args.containers, |name| {
        output::warnings(&engine.update(name, &request)?);
        Ok(())
    })
}
