//! The monitor's part of the health checks: when a probe begins, what its end means, and what is done about a container
//! that has become unhealthy. The rules are in `health.rs`, the probe is in `probe.rs`.

use super::health::Checks;
use super::life::Monitor;
use super::probe::{self, Probe, Verdict};
use super::run::Run;
use super::{Cause, Event, FailureKind, HealthStatus, ProbeResult};
use crate::base::Timestamp;
use crate::state::record::HealthAction;
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Of one run of a container whose health is probed.
pub(super) struct Health {
    checks: Checks,
    probe: Option<Probe>,
    /// Clients wait for a probe that has not begun yet.
    asked: bool,
    ending: Option<Ending>,
}

/// The action on an unhealthy container is under way.
struct Ending {
    cause: Cause,
    /// SIGKILL then; None: never, or it was sent.
    kill_at: Option<Instant>,
}

impl Health {
    pub(super) fn probe(&self) -> Option<BorrowedFd<'_>> {
        self.probe.as_ref().map(|probe| probe.pidfd.as_fd())
    }
}

impl Monitor<'_> {
    /// A run has begun: nothing is known of its health yet.
    pub(super) fn begin_health(&mut self) {
        let Some(plan) = self.config.health.clone() else { return };
        if let Err(error) = super::Health::forget(&self.config.live_dir) {
            tracing::warn!("{error}");
        }
        self.health = Some(Health { checks: Checks::new(plan, Instant::now()), probe: None, asked: false, ending: None });
    }

    /// When [`Monitor::check_health`] has to be called again at the latest.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let health = self.health.as_ref()?;
        let kill_at = health.ending.as_ref().and_then(|ending| ending.kill_at);
        let next = match &health.probe {
            Some(probe) => Some(probe.deadline),
            // A container that is being ended is not probed.
            None => health.ending.is_none().then(|| health.checks.due()),
        };
        [kill_at, next].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn check_health(&mut self, run: &dyn Run) {
        let now = Instant::now();
        if self.health.as_ref().and_then(|health| health.ending.as_ref()?.kill_at).is_some_and(|at| at <= now) {
            self.signal(run, Signal::KILL.as_raw());
            if let Some(ending) = self.health.as_mut().and_then(|health| health.ending.as_mut()) {
                ending.kill_at = None;
            }
        }
        if let Some(action) = self.health.as_ref().and_then(Health::action_due) {
            self.act(run, action, now);
        }
        let Some(health) = &mut self.health else { return };
        match &health.probe {
            Some(probe) if probe.deadline <= now => {
                // It did not end by itself: the container is frozen, or something hangs in the kernel.
                kill(probe);
                if run.group().is_frozen() {
                    probe::verdict(probe.pidfd.as_fd());
                    health.probe = None;
                    health.checks.rest(now);
                    return self.refuse("the container is paused");
                }
                self.probed();
            }
            Some(_) => {}
            None if health.ending.is_none() && health.checks.due() <= now => self.begin_probe(run, now),
            None => {}
        }
    }

    fn begin_probe(&mut self, run: &dyn Run, now: Instant) {
        let Some(health) = &mut self.health else { return };
        let asked = std::mem::take(&mut health.asked);
        if run.group().is_frozen() {
            health.checks.rest(now);
            if asked {
                self.refuse("the container is paused");
            }
            return;
        }
        let forgiven = health.checks.forgives(now);
        let (checks, live_dir, lifecycle) = (&health.checks, &self.config.live_dir, &mut self.lifecycle);
        let plan = &checks.plan;
        let began = Timestamp::now();
        let begun = run.probe(plan, &mut |result| {
            let mut checks = checks.clone();
            let changed = checks.judge(result.exit_code == 0, forgiven);
            checks.record(live_dir, result);
            if changed {
                lifecycle.health_changed(checks.status());
            }
        });
        match begun {
            Ok(pidfd) => health.probe = Some(Probe { pidfd, began, deadline: now + plan.timeout + probe::GRACE, forgiven }),
            Err(failure) => {
                // The host's shortage, not the container's fault: it is tried again.
                tracing::warn!("a health check could not begin: {}", failure.message);
                health.checks.rest(now);
                self.refuse(&failure.message);
            }
        }
    }

    /// The probe's process has ended.
    pub(super) fn probed(&mut self) {
        let Some(health) = &mut self.health else { return };
        let Some(probe) = health.probe.take() else { return };
        health.checks.rest(Instant::now());
        let well = match probe::verdict(probe.pidfd.as_fd()) {
            Verdict::Well => true,
            Verdict::Ill => false,
            Verdict::Void => return self.refuse("the container was paused"),
            Verdict::Lost => {
                let output = "the health check did not come to an end".to_owned();
                let result = ProbeResult { start: probe.began, end: Timestamp::now(), exit_code: -1, output };
                let mut after = health.checks.clone();
                let changed = after.judge(false, probe.forgiven);
                after.record(&self.config.live_dir, result);
                if changed {
                    self.lifecycle.health_changed(after.status());
                }
                false
            }
        };
        health.checks.judge(well, probe.forgiven);
        if well {
            self.tell_healthy();
        }
        let Some(health) = &mut self.health else { return };
        // One that asked while this probe ran is told by the next.
        if health.asked {
            health.checks.hurry(Instant::now());
            return;
        }
        self.answer(&Event::Probed { well });
    }

    /// Tells those who wait for a probe.
    fn answer(&mut self, event: &Event) {
        for peer in &mut self.peers {
            if std::mem::take(&mut peer.probe) {
                peer.tell(event);
            }
        }
    }

    /// A client wants a probe now.
    pub(super) fn probe_asked(&mut self, index: usize) {
        self.peers[index].probe = true;
        match &mut self.health {
            Some(health) if health.ending.is_none() => {
                health.asked = true;
                health.checks.hurry(Instant::now());
            }
            Some(_) => self.refuse("the container is being stopped"),
            None => self.refuse("the container has no health check, or does not run"),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.answer(&Event::Failed { kind: FailureKind::Other, message: why.to_owned() });
    }

    fn act(&mut self, run: &dyn Run, action: HealthAction, now: Instant) {
        let Some(health) = &mut self.health else { return };
        tracing::warn!("container {} is unhealthy: {}", self.config.id.short(), action.as_str());
        let plan = &health.checks.plan;
        let timeout = if action == HealthAction::Kill { Some(Duration::ZERO) } else { plan.stop_timeout };
        let number = if timeout == Some(Duration::ZERO) { Signal::KILL.as_raw() } else { plan.stop_signal.number() };
        let cause = if action == HealthAction::Restart { Cause::Restart } else { Cause::Itself };
        health.ending = Some(Ending { cause, kill_at: timeout.map(|timeout| now + timeout) });
        self.stop.requested |= action == HealthAction::Stop;
        self.signal(run, number);
    }

    pub(super) fn signal(&self, run: &dyn Run, number: i32) {
        // One that has just ended needs no signal.
        if let Err(error) = crate::sys::pidfd_signal::send(run.pidfd(), number) {
            tracing::debug!("container {} takes no signal: {error}", self.config.id.short());
        }
    }

    /// The run is over; what the action on its health was, if that ended it.
    pub(super) fn end_health(&mut self) -> Cause {
        let Some(health) = self.health.take() else { return Cause::Itself };
        if let Some(probe) = &health.probe {
            kill(probe);
            probe::verdict(probe.pidfd.as_fd());
        }
        self.refuse("the container has ended");
        health.ending.map_or(Cause::Itself, |ending| ending.cause)
    }
}

impl Health {
    /// The action on a container that is unhealthy, once.
    fn action_due(&self) -> Option<HealthAction> {
        let action = self.checks.plan.action;
        let due = action != HealthAction::None && self.ending.is_none() && self.checks.status() == HealthStatus::Unhealthy;
        due.then_some(action)
    }
}

/// Its stages die with it; a program that already runs is left to the container's end.
fn kill(probe: &Probe) {
    if let Err(error) = crate::sys::pidfd_signal::send(probe.pidfd.as_fd(), Signal::KILL.as_raw()) {
        tracing::debug!("the probe takes no signal: {error}");
    }
}
