//! What the monitor process asks the engine: restart or not, and what to do at the end. No database connection is
//! held while the container runs.

use super::super::network;
use super::super::volume::memory;
use super::connect;
use super::reconcile::release_network;
use super::remove::{begin_removal, failpoint_at, finish_removal, unmount_shm};
use super::reserve::networks_of;
use super::revive::{self, SHUTDOWN};
use super::sources::OVERLAYS;
use super::start;
use crate::base::{Roots, Signal, Timestamp};
use crate::engine::pod;
use crate::monitor::{self, Cause, Config, Exit, Health, HealthStatus, Lifecycle};
use crate::state::Db;
use crate::state::events::{Event, Kind, emit};
use crate::state::record::{Container, Phase, RestartPolicy};
use std::time::Duration;

/// Docker's back-off: 100 ms, doubled at each restart, at most one minute, back to the start after ten good seconds.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
pub(super) const GOOD_RUN: Duration = Duration::from_secs(10);

/// In the live directory: this end is a restart by the user, `--rm` waits.
pub(super) const KEEP: &str = "keep";
/// In the live directory: the restart policy that `update` set since the start (JSON).
pub(super) const POLICY: &str = "restart.json";

/// In the live directory: the name that `rename` gave the container since the start.
pub(super) const NAME: &str = "name";

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
    fn next(&mut self, policy: &RestartPolicy, code: i32, ran_for: Duration, cause: Cause) -> Option<Duration> {
        self.failures = if code == 0 { 0 } else { self.failures.saturating_add(1) };
        let again = match (cause, policy) {
            (Cause::Stop, _) => false,
            // The user asked for it, whatever the policy.
            (Cause::Restart, _) | (Cause::Itself, RestartPolicy::Always | RestartPolicy::UnlessStopped) => true,
            (Cause::Itself, RestartPolicy::No) => false,
            (Cause::Itself, RestartPolicy::OnFailure(limit)) => code != 0 && (*limit == 0 || self.failures <= *limit),
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
    oom_kills: u64,
    /// Whoever stops it cannot tell it any more.
    forsaken: bool,
    /// The last run's end was told; the next has not begun.
    between: bool,
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

    fn event(&self, action: &str) -> Event {
        let mut attributes = self.config.journal.attributes.clone();
        if let Ok(name) = std::fs::read_to_string(self.config.live_dir.join(NAME)) {
            attributes.insert("name".to_owned(), name);
        }
        Event { attributes, ..Event::new(Kind::Container, action, self.config.id.as_str()) }
    }

    /// The end of one run.
    fn died(&self, exit: &Exit) -> Vec<Event> {
        let ran = exit.at.since(self.started).as_secs();
        vec![self.event("die").with("exitCode", exit.code).with("execDuration", ran)]
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
        release_network(&roots, &record)?;
        let networks = networks_of(&db, &record.all_endpoints())?;
        let unname = || network::refresh_names(&db, &roots, &networks);
        unmount_shm(&self.config.live_dir);
        memory::release(&db, &roots, &record)?;
        if !self.config.sources.is_empty() {
            crate::base::fs::remove_tree(&self.config.container_dir.join(OVERLAYS))?;
        }
        // Told when the record says so too, or is about to go; a run that never began has not ended.
        let told = |end: &Exit| {
            if !self.started.is_never() {
                let died = if self.between { Vec::new() } else { self.died(end) };
                let stopped = (self.forsaken && self.stop_requested).then(|| self.event("stop"));
                emit(&roots, died.into_iter().chain(self.config.journal.down.iter().cloned()).chain(stopped));
            }
        };
        if self.config.auto_remove && !self.config.live_dir.join(KEEP).exists() {
            begin_removal(&db, &mut record, true)?;
            unname()?;
            told(exit);
            finish_removal(&db, &roots, &record)?;
            return Ok(db.checkpoint_if_large()?);
        }
        self.keep_health();
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
        unname()?;
        told(exit);
        for of_this_run in [NAME, monitor::LOG_LOST] {
            crate::base::fs::remove_file(&self.config.live_dir.join(of_this_run))?;
        }
        // Nobody closes the database for long: the monitors, which nobody waits for, keep its log short.
        Ok(db.checkpoint_if_large()?)
    }

    /// What was known of its health when it ended stays to be seen; a stopped container is not well (Docker's rule).
    fn keep_health(&self) {
        if self.config.health.is_none() {
            return;
        }
        let health = Health { status: HealthStatus::Unhealthy, ..Health::read(&self.config.live_dir).unwrap_or_default() };
        if let Err(error) = health.publish(&self.config.container_dir) {
            tracing::warn!("{error}");
        }
    }

    /// Whether the record still is that of this monitor's run.
    fn owns(&self, record: &Container) -> bool {
        record.phase == Phase::Started && record.started == self.config.reserved
    }

    fn write_outcome(&self, record: &mut Container, exit: &Exit, error: Option<&str>) {
        record.phase = Phase::Exited;
        record.endpoints.clear();
        record.published.clear();
        record.moving = None;
        if self.started.is_never() && error.is_none() {
            // It was set up, and taken down without having been started: it is what it was before.
            if record.finished.is_never() {
                (record.phase, record.started) = (Phase::Created, Timestamp::NEVER);
            }
            return;
        }
        record.exit_code = exit.code;
        record.finished = exit.at;
        record.oom_killed = exit.oom_killed;
        record.oom_kills = self.oom_kills;
        record.log_lost = super::view::lost_lines(&self.config.live_dir);
        error.unwrap_or_default().clone_into(&mut record.error);
        record.restart_count = self.restart_count;
        record.stopped_by_user = self.stop_requested && !self.config.live_dir.join(SHUTDOWN).exists();
        // Its starter died before the gate opened: a start by the policy is still owed.
        record.revival = if self.started.is_never() { revive::after_failure(record, Timestamp::now()) } else { None };
        if record.revival.is_some() {
            record.phase = Phase::Restarting;
        }
        if !self.started.is_never() {
            record.started = self.started;
        }
    }
}

impl Lifecycle for EngineLifecycle {
    fn created(&mut self, pid: i32) -> Result<(), String> {
        if !self.config.netns_of_init {
            return Ok(());
        }
        connect::connect_init(&self.roots(), &self.config.id, pid).map_err(|error| start::describe(&error))
    }

    fn started(&mut self, _pid: i32, at: Timestamp, restart_count: u32) {
        self.started = at;
        self.restart_count = restart_count;
        self.between = false;
        let first = std::mem::take(&mut self.config.journal.up);
        emit(&self.roots(), first.into_iter().chain([self.event("start")]));
    }

    fn resized(&mut self, columns: u16, rows: u16) {
        emit(&self.roots(), [self.event("resize").with("height", rows).with("width", columns)]);
    }

    fn oom(&mut self, kills: u64) {
        self.oom_kills = kills;
        emit(&self.roots(), [self.event("oom").with("kills", kills)]);
    }

    fn health_changed(&mut self, status: HealthStatus) {
        emit(&self.roots(), [self.event(&format!("health_status: {}", status.as_str()))]);
    }

    fn exited(&mut self, exit: &Exit, ran_for: Duration, cause: Cause) -> Option<Duration> {
        self.stop_requested = cause == Cause::Stop;
        let policy = if self.config.auto_remove { RestartPolicy::No } else { self.policy() };
        let pause = self.restarts.next(&policy, exit.code, ran_for, cause);
        if pause.is_some() {
            emit(&self.roots(), self.died(exit));
            // An end during the pause is no second death.
            self.between = true;
            self.forsaken = false;
        }
        pause
    }

    fn forsaken(&mut self, killed: bool) {
        // What the command would have told.
        if killed {
            emit(&self.roots(), [self.event("kill").with("signal", Signal::KILL.number())]);
        }
        self.forsaken = true;
    }

    fn restart_failed(&mut self, error: &str) -> Option<Duration> {
        tracing::warn!("restart failed: {error}");
        // A failed start is retried like a failed run (Docker gives up here, which users report as a fault).
        self.restarts.next(&self.policy(), 128, Duration::ZERO, Cause::Itself)
    }

    fn finished(&mut self, exit: &Exit, error: Option<&str>) {
        // A full disk fails the first time; that gives up the reserve of the database.
        let finished = self.finish(exit, error).or_else(|_| self.finish(exit, error));
        if let Some(pod) = &self.config.pod
            && let Err(error) = pod::member_ended(&self.roots(), pod)
        {
            // Its exit policy asked for a stop: the next command that looks at the pod tries again.
            tracing::warn!("cannot stop pod {}: {}", pod.short(), super::start::describe(&error));
        }
        if let Err(failure) = finished {
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
    let lifecycle = |config: &Config| -> Box<dyn Lifecycle> {
        Box::new(EngineLifecycle {
            config: config.clone(),
            restarts: Restarts::new(),
            restart_count: 0,
            started: Timestamp::NEVER,
            stop_requested: false,
            oom_kills: 0,
            forsaken: false,
            between: false,
        })
    };
    Some(monitor::serve(socket, &lifecycle, &super::resolver::make))
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
            pauses.push(restarts.next(&RestartPolicy::Always, 1, SHORT, Cause::Itself).map(|p| p.as_millis()));
        }
        assert_eq!(&pauses[..4], &[Some(100), Some(200), Some(400), Some(800)]);
        assert_eq!(pauses[11], Some(60_000));
        assert_eq!(restarts.next(&RestartPolicy::Always, 0, GOOD_RUN, Cause::Itself), Some(FIRST_PAUSE));
    }

    #[test]
    fn on_failure_counts_consecutive_failures_and_a_stop_rests_every_policy() {
        let policy = RestartPolicy::OnFailure(2);
        let mut restarts = Restarts::new();
        assert!(restarts.next(&policy, 1, SHORT, Cause::Itself).is_some());
        assert!(restarts.next(&policy, 1, SHORT, Cause::Itself).is_some());
        assert!(restarts.next(&policy, 1, SHORT, Cause::Itself).is_none());
        assert!(Restarts::new().next(&policy, 0, SHORT, Cause::Itself).is_none());
        assert!(Restarts::new().next(&RestartPolicy::OnFailure(0), 3, SHORT, Cause::Itself).is_some());
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
            assert!(Restarts::new().next(&policy, 1, SHORT, Cause::Stop).is_none());
            assert!(Restarts::new().next(&policy, 0, SHORT, Cause::Itself).is_some());
        }
        assert!(Restarts::new().next(&RestartPolicy::No, 1, SHORT, Cause::Itself).is_none());
        assert!(Restarts::new().next(&RestartPolicy::No, 0, SHORT, Cause::Restart).is_some());
    }
}
