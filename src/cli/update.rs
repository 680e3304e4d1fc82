//! `update`: changes limits and the restart policy of containers.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::output;
use crate::engine::request::{UpdateRequest, resources, restart};
use crate::state::record::Resources;
use std::process::ExitCode;

/// Change limits of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Memory limit in bytes (b, k, m, g)
    #[arg(short = 'm', long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Limit of memory plus swap (-1: unlimited)
    #[arg(long, value_name = "BYTES")]
    pub memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Number of CPUs (1.5)
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "N")]
    pub cpu_shares: Option<u64>,
    /// CPU period in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU quota in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_quota: Option<i64>,
    /// CPUs to run on (0-3,5)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Number of processes (0 or -1: unlimited)
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<String>,
    /// Restart policy: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

impl Args {
    fn request(&self) -> Result<UpdateRequest, Failure> {
        let size = |flag, text: &Option<String>| text.as_deref().map_or(Ok(None), |text| resources::parse_memory(flag, text));
        let list = |flag, text: &Option<String>| text.as_deref().map(|text| resources::parse_cpuset(flag, text)).transpose();
        let request = UpdateRequest {
            memory: size("--memory", &self.memory)?,
            memory_swap: self.memory_swap.as_deref().map_or(Ok(None), resources::parse_swap)?,
            memory_reservation: size("--memory-reservation", &self.memory_reservation)?,
            nano_cpus: self.cpus.as_deref().map_or(Ok(None), resources::parse_cpus)?,
            cpu_shares: self.cpu_shares.filter(|n| *n > 0),
            cpu_period: self.cpu_period.filter(|n| *n > 0),
            cpu_quota: self.cpu_quota.filter(|n| *n != 0),
            cpuset_cpus: list("--cpuset-cpus", &self.cpuset_cpus)?,
            cpuset_mems: list("--cpuset-mems", &self.cpuset_mems)?,
            pids_limit: self.pids_limit,
            blkio_weight: self.blkio_weight.as_deref().map_or(Ok(None), resources::parse_blkio_weight)?,
            restart: self.restart.as_deref().map(restart::parse).transpose()?,
        };
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
        resources::check(&limits).map_err(|e| Failure::invalid(e).with_code(USAGE))?;
        Ok(request)
    }
}

/// # Errors
/// A malformed limit.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let request = args.request()?;
    let engine = context.engine()?;
    output::each(&args.containers, |name| {
        output::warnings(&engine.update(name, &request)?);
        Ok(())
    })
}
