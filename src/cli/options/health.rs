//! The flags of a container's health check.

use super::request::usage;
use crate::cli::failure::Failure;
use crate::engine::request::{HealthRequest, health};

/// Health check; what is not given is the image's.
#[derive(clap::Args, Debug)]
pub struct Health {
    /// Command that checks the health, run by the shell
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Time that one check may take (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Failures in a row that make it unhealthy (3)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub health_retries: Option<i64>,
    /// Time after the start in which failures do not count (0s)
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Time between two checks in the start period (5s)
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// No health check, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
    /// What to do when it is unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION")]
    pub health_on_failure: Option<String>,
}

impl Health {
    /// # Errors
    /// A value out of its grammar, or `--no-healthcheck` with any other of these flags.
    pub fn request(&self) -> Result<HealthRequest, Failure> {
        let time = |flag, text: &Option<String>| text.as_deref().map(|text| health::parse_duration(flag, text)).transpose();
        let request = HealthRequest {
            disable: self.no_healthcheck,
            command: self.health_cmd.clone().filter(|text| !text.is_empty()),
            words: None,
            interval: time("--health-interval", &self.health_interval)?,
            timeout: time("--health-timeout", &self.health_timeout)?,
            start_period: time("--health-start-period", &self.health_start_period)?,
            start_interval: time("--health-start-interval", &self.health_start_interval)?,
            retries: self.health_retries,
            action: health::parse_action(self.health_on_failure.as_deref().unwrap_or(""))?,
        };
        if request.retries.is_some_and(|retries| retries < 0) {
            return Err(usage("--health-retries cannot be negative"));
        }
        if request.disable && (request.is_given() || self.health_on_failure.is_some()) {
            return Err(usage("--no-healthcheck conflicts with --health-* options"));
        }
        Ok(request)
    }
}
