//! `--health-cmd`, `--health-interval`, … and `--health-on-failure`.

use super::FlagError;
use crate::base::go_duration;
use crate::state::record::HealthAction;

/// What was asked for; None leaves it to the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthRequest {
    /// `--no-healthcheck`; nothing else is given then.
    pub disable: bool,
    /// Run by the shell.
    pub command: Option<String>,
    /// Run as they are, without a shell; then there is no `command`.
    pub words: Option<Vec<String>>,
    /// Nanoseconds.
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
    pub retries: Option<i64>,
    pub action: HealthAction,
}

impl HealthRequest {
    /// True if a field of the health check itself is given.
    pub fn is_given(&self) -> bool {
        let numbers = [self.interval, self.timeout, self.start_period, self.start_interval, self.retries];
        self.command.is_some() || self.words.is_some() || numbers.iter().any(Option::is_some)
    }
}

/// Parses a time of a health check (a Go duration) into nanoseconds.
///
/// # Errors
/// It is no duration, or negative.
pub fn parse_duration(flag: &'static str, text: &str) -> Result<i64, FlagError> {
    match go_duration(text) {
        Some(nanos) if nanos >= 0 => Ok(nanos),
        Some(_) => Err(FlagError::new(flag, text, "it cannot be negative")),
        None => Err(FlagError::new(flag, text, "expected a duration such as 30s or 1m30s")),
    }
}

/// Parses `--health-on-failure`.
///
/// # Errors
/// An unknown action.
pub fn parse_action(text: &str) -> Result<HealthAction, FlagError> {
    match text {
        "" | "none" => Ok(HealthAction::None),
        "kill" => Ok(HealthAction::Kill),
        "restart" => Ok(HealthAction::Restart),
        "stop" => Ok(HealthAction::Stop),
        _ => Err(FlagError::new("--health-on-failure", text, "expected none, kill, restart or stop")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_actions() {
        assert_eq!(parse_duration("--health-interval", "1m30s"), Ok(90_000_000_000));
        assert_eq!(parse_duration("--health-interval", "0"), Ok(0));
        for bad in ["30", "x", "-1s", ""] {
            assert!(parse_duration("--health-interval", bad).is_err(), "{bad}");
        }
        assert_eq!(parse_action("restart"), Ok(HealthAction::Restart));
        assert!(parse_action("reboot").is_err());
    }
}
