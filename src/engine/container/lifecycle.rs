//! What the monitor process asks the engine: restart or not, and what to do at the end. No database connection is
//! held while the container runs.

use super::reconcile::release_network;
use super::remove::{begin_removal, failpoint_at, finish_removal, unmount_shm};
use crate::base::{Roots, Timestamp};
use crate::monitor::{self, Config, Exit, Lifecycle};
use crate::state::Db;
use crate::state::record::{Container, Phase, RestartPolicy};
use std::time::Duration;

/// Docker's back-off: 100 ms, doubled at each restart, at most one minute, back to the start after ten good seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const GOOD_RUN: Duration = Duration::from_secs(10);

/// In the live directory: this end is a restart by the user, `--rm` waits.
pub(super) const KEEP: &str = "keep";
/// In the live directory: the restart policy that `update` set since the start (JSON).
pub(super) const POLICY: &str = "restart.json";

/// In the live directory: the [`Exit`] (JSON) of a run whose end the monitor could not record (a full disk).
pub(super) const EXIT: &str = "exit.json";

/// Decides about restarts; pure, so that the back-off is testable.
#[derive(Debug)]
struct Restarts {
    pause: Duration,
    failures: u32,
}

impl Restarts {
    fn new() -> Self {
        Restarts { pause: Duration::ZERO, failures: 0 }
    }

    /// The pause before the next start, or None to stay down.
    fn next(&mut self, policy: &RestartPolicy, code: i32, ran_for: Duration, stop_requested: bool) -> Option<Duration> {
        self.failures = if code == 0 { 0 } else { self.failures.saturating_add(1) };
        let again = !stop_requested
            && match policy {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure(limit) => code != 0 && (*limit == 0 || self.failures <= *limit),
            };
        self.pause = if ran_for >= GOOD_RUN || self.pause.is_zero() { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        again.then_some(self.pause)
    }
}

/// The engine's part of one monitor.
struct EngineLifecycle {
    config: Config,
    restarts: Restarts,
    restart_count: u32,
    started: Timestamp,
    stop_requested: bool,
}

impl EngineLifecycle {
    fn roots(&self) -> Roots {
        Roots { data: self.config.data_root.clone(), run: self.config.run_root.clone() }
    }

    fn policy(&self) -> RestartPolicy {
        std::fs::read(self.config.live_dir.join(POLICY))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_else(|| self.config.restart.clone())
    }

    fn finish(&self, exit: &Exit, error: Option<&str>) -> super::super::Result<()> {
        failpoint_at("engine.finish.record")?;
        let roots = self.roots();
        let db = Db::open(&roots)?;
        let Some(mut record) = db.container(&self.config.id)? else { return Ok(()) };
        // Another command (a failed start, a removal) decided already, or the record is a later run's: a monitor whose
        // starter was killed may still be on its way out when the next one starts.
        if !self.owns(&record) {
            return Ok(());
        }
        release_network(&record)?;
        unmount_shm(&self.config.live_dir);
        if self.config.auto_remove && !self.config.live_dir.join(KEEP).exists() {
            begin_removal(&db, &mut record, true)?;
            finish_removal(&db, &roots, &record)?;
            return Ok(db.checkpoint_if_large()?);
        }
        db.write(false, |tx| -> super::super::Result<()> {
            // Read again: an `update` may have changed it meanwhile.
            match tx.container(&self.config.id)? {
                Some(mut now) if self.owns(&now) => {
                    self.write_outcome(&mut now, exit, error);
                    tx.update_container(&now)?;
                    Ok(tx.release_leases(&now.id)?)
                }
                _ => Ok(()),
            }
        })?;
        // Nobody closes the database for long: the monitors, which nobody waits for, keep its log short.
        Ok(db.checkpoint_if_large()?)
    }

    /// Whether the record still is that of this monitor's run.
    fn owns(&self, record: &Container) -> bool {
        record.phase == Phase::Started && record.started == self.config.reserved
    }

    fn write_outcome(&self, record: &mut Container, exit: &Exit, error: Option<&str>) {
        record.phase = Phase::Exited;
        record.address = None;
        record.published.clear();
        record.exit_code = exit.code;
        record.finished = exit.at;
        record.oom_killed = exit.oom_killed;
        error.unwrap_or_default().clone_into(&mut record.error);
        record.restart_count = self.restart_count;
        record.stopped_by_user = self.stop_requested;
        if !self.started.is_never() {
            record.started = self.started;
        }
    }
}

impl Lifecycle for EngineLifecycle {
    fn started(&mut self, _pid: i32, at: Timestamp, restart_count: u32) {
        self.started = at;
        self.restart_count = restart_count;
    }

    fn exited(&mut self, exit: &Exit, ran_for: Duration, stop_requested: bool) -> Option<Duration> {
        self.stop_requested = stop_requested;
        let policy = if self.config.auto_remove { RestartPolicy::No } else { self.policy() };
        self.restarts.next(&policy, exit.code, ran_for, stop_requested)
    }

    fn restart_failed(&mut self, error: &str) -> Option<Duration> {
        tracing::warn!("restart failed: {error}");
        // A failed start is retried like a failed run (Docker gives up here, which users report as a fault).
        self.restarts.next(&self.policy(), 128, Duration::ZERO, false)
    }

    fn finished(&mut self, exit: &Exit, error: Option<&str>) {
        // A full disk fails the first time; that gives up the reserve of the database.
        if let Err(failure) = self.finish(exit, error).or_else(|_| self.finish(exit, error)) {
            // The record stays `Started` without a monitor: the next command reconciles it, with what is left here on
            // another file system.
            tracing::warn!("cannot record the end of container {}: {}", self.config.id, super::start::describe(&failure));
            let text = serde_json::to_vec(exit).expect("invariant: an exit is plain data");
            if let Err(second) = crate::base::fs::replace(&self.config.live_dir.join(EXIT), &text, 0o600) {
                tracing::warn!("{second}: {}", second.source);
            }
        }
    }
}

/// The hidden monitor stage: None when this process was not started as a monitor. `main` calls it before anything
/// else. Wires [`monitor::serve`] to the engine's lifecycle.
pub fn monitor_stage() -> Option<std::process::ExitCode> {
    let socket = monitor::stage_requested()?;
    Some(monitor::serve(socket, &|config| {
        Box::new(EngineLifecycle {
            config: config.clone(),
            restarts: Restarts::new(),
            restart_count: 0,
            started: Timestamp::NEVER,
            stop_requested: false,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn back_off_doubles_to_a_minute_and_resets_after_a_good_run() {
        let mut restarts = Restarts::new();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(restarts.next(&RestartPolicy::Always, 1, SHORT, false).map(|p| p.as_millis()));
        }
        assert_eq!(&pauses[..4], &[Some(100), Some(200), Some(400), Some(800)]);
        assert_eq!(pauses[11], Some(60_000));
        assert_eq!(restarts.next(&RestartPolicy::Always, 0, GOOD_RUN, false), Some(FIRST_PAUSE));
    }

    #[test]
    fn on_failure_counts_consecutive_failures_and_a_stop_rests_every_policy() {
        let policy = RestartPolicy::OnFailure(2);
        let mut restarts = Restarts::new();
        assert!(restarts.next(&policy, 1, SHORT, false).is_some());
        assert!(restarts.next(&policy, 1, SHORT, false).is_some());
        assert!(restarts.next(&policy, 1, SHORT, false).is_none());
        assert!(Restarts::new().next(&policy, 0, SHORT, false).is_none());
        assert!(Restarts::new().next(&RestartPolicy::OnFailure(0), 3, SHORT, false).is_some());
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
            assert!(Restarts::new().next(&policy, 1, SHORT, true).is_none());
            assert!(Restarts::new().next(&policy, 0, SHORT, false).is_some());
        }
        assert!(Restarts::new().next(&RestartPolicy::No, 1, SHORT, false).is_none());
    }
}
