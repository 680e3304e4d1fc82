//! The health of a container: Docker's rules as a state machine on a clock that is handed in, and the document that the
//! last results are kept in.

use super::Error;
use crate::base::{Signal, Timestamp, fs};
use crate::state::record::HealthAction;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// In the live directory while a monitor runs, later in the container's own.
const FILE: &str = "health.json";
/// Results kept.
const KEPT: usize = 5;
/// Bytes of output kept of one.
pub(super) const OUTPUT: usize = 4096;

/// What is probed and when; all durations are above zero, but for the start period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthPlan {
    /// Program and arguments.
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
    pub action: HealthAction,
    /// How [`HealthAction::Stop`] and [`HealthAction::Restart`] stop it.
    pub stop_signal: Signal,
    /// Before SIGKILL; None: for ever.
    pub stop_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No probe has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    pub start: Timestamp,
    pub end: Timestamp,
    /// -1: it exceeded the timeout or could not be run.
    pub exit_code: i32,
    /// stdout and stderr, at most 4096 bytes, then `...`.
    pub output: String,
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    pub failing_streak: u32,
    /// Oldest first.
    pub log: Vec<ProbeResult>,
}

impl Health {
    /// What a directory holds; None: no probe has ended there.
    pub fn read(directory: &Path) -> Option<Health> {
        serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// Replaces what the directory holds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn publish(&self, directory: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|source| Error::Config { operation: "written", source })?;
        Ok(fs::replace(&directory.join(FILE), &text, 0o600)?)
    }

    /// Nothing is known there any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(directory: &Path) -> Result<(), Error> {
        Ok(fs::remove_file(&directory.join(FILE))?)
    }

    fn push(&mut self, result: ProbeResult) {
        self.log.push(result);
        let excess = self.log.len().saturating_sub(KEPT);
        self.log.drain(..excess);
    }
}

/// The state of one run of the container.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    pub(super) plan: HealthPlan,
    started: Instant,
    status: HealthStatus,
    streak: u32,
    due: Instant,
}

impl Checks {
    pub(super) fn new(plan: HealthPlan, now: Instant) -> Self {
        let mut checks = Checks { plan, started: now, status: HealthStatus::Starting, streak: 0, due: now };
        checks.rest(now);
        checks
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.status
    }

    /// When the next probe begins.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The next probe begins at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// Puts the next probe one interval after `now`, the end of the last.
    pub(super) fn rest(&mut self, now: Instant) {
        self.due = now + if self.forgives(now) { self.plan.start_interval } else { self.plan.interval };
    }

    /// True while failures do not count: in the start period, before the first success.
    pub(super) fn forgives(&self, now: Instant) -> bool {
        self.status == HealthStatus::Starting && now.duration_since(self.started) < self.plan.start_period
    }

    /// Takes the result of a probe; `forgiven` was asked at its begin. True: the status has changed.
    pub(super) fn judge(&mut self, well: bool, forgiven: bool) -> bool {
        let before = self.status;
        if well {
            self.streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !forgiven {
            self.streak = self.streak.saturating_add(1);
            if self.streak >= self.plan.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.status != before
    }

    /// Adds a result to what the live directory holds. A full disk loses results, never the status.
    pub(super) fn record(&self, live_dir: &Path, result: ProbeResult) {
        let mut health = Health::read(live_dir).unwrap_or_default();
        health.push(result);
        (health.status, health.failing_streak) = (self.status, self.streak);
        if let Err(error) = health.publish(live_dir) {
            tracing::warn!("the result of a health check cannot be kept: {error}");
        }
    }
}

/// A duration as Go prints it (`1m30s`, `1.5s`, `250ms`): Docker's words for an exceeded timeout.
pub(super) fn go_text(duration: Duration) -> String {
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.9}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let (seconds, nanos) = (duration.as_secs(), f64::from(duration.subsec_nanos()));
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) if seconds == 0 && duration.subsec_nanos() < 1_000_000 => trimmed(nanos / 1e3, "µs"),
        (0, 0) if seconds == 0 => trimmed(nanos / 1e6, "ms"),
        (hours, minutes) => {
            let rest = trimmed(f64::from(u32::try_from(seconds % 60).unwrap_or(0)) + nanos / 1e9, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(start_period: u64) -> HealthPlan {
        HealthPlan {
            command: vec!["true".to_owned()],
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::from_secs(start_period),
            start_interval: Duration::from_secs(5),
            retries: 3,
            action: HealthAction::None,
            stop_signal: Signal::TERM,
            stop_timeout: None,
        }
    }

    #[test]
    fn retries_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let now = Instant::now();
        let mut checks = Checks::new(plan(0), now);
        assert_eq!(checks.due(), now + Duration::from_secs(30));
        let changes: Vec<bool> = [false, false, true, false, false, false, false, true].map(|well| checks.judge(well, false)).into();
        assert_eq!(changes, [false, false, true, false, false, true, false, true]);
        assert_eq!((checks.status(), checks.streak), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn the_start_period_forgives_until_the_first_success() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut checks = Checks::new(plan(60), now);
        assert_eq!(checks.due(), at(5), "the start interval");
        for second in [5, 10, 15, 20, 59] {
            let forgiven = checks.forgives(at(second));
            assert!(forgiven && !checks.judge(false, forgiven));
        }
        assert_eq!(checks.streak, 0);
        checks.rest(at(59));
        assert_eq!(checks.due(), at(64));
        assert!(!checks.forgives(at(60)));
        checks.rest(at(60));
        assert_eq!(checks.due(), at(90));
        // One success ends it early.
        let mut early = Checks::new(plan(60), now);
        assert!(early.judge(true, early.forgives(at(5))));
        assert!(!early.forgives(at(6)));
        early.rest(at(6));
        assert_eq!(early.due(), at(36));
        early.hurry(at(7));
        assert_eq!(early.due(), at(7));
    }

    #[test]
    fn five_results_are_kept() {
        let directory = std::env::temp_dir().join(format!("rcon-health-{}", crate::base::random_hex(12)));
        std::fs::create_dir(&directory).unwrap();
        let mut checks = Checks::new(plan(0), Instant::now());
        for code in 1..=7 {
            checks.judge(false, false);
            let result = ProbeResult { start: Timestamp::NEVER, end: Timestamp::NEVER, exit_code: code, output: "x".to_owned() };
            checks.record(&directory, result);
        }
        let health = Health::read(&directory).unwrap();
        assert_eq!(health.log.iter().map(|r| r.exit_code).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Unhealthy, 7));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(Health::read(&directory), None);
    }

    #[test]
    fn durations_read_as_gos() {
        for (duration, text) in [
            (Duration::from_secs(30), "30s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::from_millis(250), "250ms"),
        ] {
            assert_eq!(go_text(duration), text);
        }
    }
}
