//! The restart policy where no monitor is left to run it: a monitor that was killed, a machine that was restarted, a start at
//! boot that failed. The record says what is wanted (`Phase::Restarting`) and when; whoever comes next does it: every command
//! that lists containers, `system boot` and `system supervise`. Nobody lives longer than something is left to retry.

use super::super::{Engine, Result};
use super::gate::Aim;
use super::lifecycle::{FIRST_PAUSE, GOOD_RUN, LONGEST_PAUSE};
use super::start::describe;
use super::{locks, remove};
use crate::base::{ContainerId, ErrorKind, Privilege, Timestamp};
use crate::image::RegistryConfig;
use crate::monitor;
use crate::state::record::{Container, Phase, RestartPolicy, Revival};
use std::time::Duration;

/// In the run root, which does not outlive the machine's run: containers were started since the boot and not shut down since.
const BOOTED: &str = "booted";
/// Beside a container's live facts: it is stopped because the machine goes down, not because the user wants it down.
pub(super) const SHUTDOWN: &str = "shutdown";
/// How often [`Engine::supervise`] looks at what others may have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long it waits for another process that is at a container.
const IN_MOTION: Duration = Duration::from_millis(50);

/// What became of one container that was to be brought back.
#[derive(Debug)]
pub struct Revived {
    pub name: String,
    /// Why it does not run, and when it is tried again (None: given up).
    pub failure: Option<(String, Option<Timestamp>)>,
}

/// The pause before try number `tries` (from 0): at once, then Docker's back-off.
fn pause(tries: u32) -> Duration {
    match tries {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_PAUSE),
    }
}

/// When a container whose monitor died is to be started again; None: its policy does not want that. An end that nobody saw
/// counts as a failure.
pub(super) fn after_death(record: &Container, now: Timestamp) -> Option<Revival> {
    let tries = match record.revival {
        Some(revival) if now.since(record.started) < GOOD_RUN => revival.tries.saturating_add(1),
        _ => 0,
    };
    again(&record.spec.host.restart, tries, now)
}

/// When a start by the policy that failed is tried again.
pub(super) fn after_failure(record: &Container, now: Timestamp) -> Option<Revival> {
    let tries = record.revival?.tries.saturating_add(1);
    again(&record.spec.host.restart, tries, now)
}

fn again(policy: &RestartPolicy, tries: u32, now: Timestamp) -> Option<Revival> {
    let wanted = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(limit) => *limit == 0 || tries < *limit,
    };
    wanted.then(|| Revival { tries, next: now.after(pause(tries)) })
}

/// Docker's rule at the start of its daemon: `always` brings back what the user had stopped, `unless-stopped` does not. What was
/// never started stays so.
fn wanted_at_boot(record: &Container) -> bool {
    record.phase == Phase::Exited
        && !record.started.is_never()
        && match record.spec.host.restart {
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !record.stopped_by_user,
            RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
        }
}

impl Engine {
    /// Starts what its restart policy wants and what is due, oldest first. Returns when the next is due; None: nothing is left.
    ///
    /// # Errors
    /// The database cannot be read. That a container does not start is told to `report`.
    pub fn revive(&self, report: &mut dyn FnMut(Revived)) -> Result<Option<Timestamp>> {
        let mut waiting = self.waiting()?;
        waiting.sort_by_key(|record| record.created);
        for record in waiting {
            if record.revival.is_some_and(|revival| revival.next > Timestamp::now()) {
                continue;
            }
            if let Some(outcome) = self.start_by_policy(&record.id) {
                let failure = match outcome {
                    Ok(()) => None,
                    Err(error) => Some((describe(&error), self.db.container(&record.id)?.and_then(|now| now.revival).map(|revival| revival.next))),
                };
                report(Revived { name: record.name.to_string(), failure });
            }
        }
        Ok(self.waiting()?.iter().filter_map(|record| record.revival).map(|revival| revival.next).min())
    }

    /// Another process starts a container, or ends one that its policy may want back.
    fn is_in_motion(&self) -> Result<bool> {
        let active = self.db.active_containers()?;
        Ok(active.iter().any(|record| record.phase == Phase::Started && !monitor::is_alive(&self.privilege.roots.live(&record.id))))
    }

    fn waiting(&self) -> Result<Vec<Container>> {
        let mut active = self.db.active_containers()?;
        active.retain(|record| record.phase == Phase::Restarting);
        Ok(active)
    }

    /// None: another process is at it, or the user decided otherwise.
    fn start_by_policy(&self, id: &ContainerId) -> Option<Result<()>> {
        let attempt = || -> Result<Option<()>> {
            let Some(lock) = locks::try_lock(&self.privilege.roots, id)? else { return Ok(None) };
            let Some(mut record) = self.db.container(id)?.filter(|record| record.phase == Phase::Restarting) else { return Ok(None) };
            if record.spec.host.restart == RestartPolicy::No {
                // `update --restart no` came meanwhile.
                (record.phase, record.revival) = (Phase::Exited, None);
                self.db.write(false, |tx| -> Result<()> { Ok(tx.update_container(&record)?) })?;
                return Ok(None);
            }
            self.start_locked(record, &lock, Aim::default()).map(|_| Some(()))
        };
        attempt().transpose()
    }

    /// What the machine's boot brings back, and then [`Engine::supervise`]. `ready` is called when everything was tried once.
    /// Only the first call since the boot, or since [`Engine::shutdown`], brings back what had ended in order; so it may be called
    /// again at any time.
    ///
    /// # Errors
    /// As [`Engine::supervise`].
    pub fn boot(&self, ready: &mut dyn FnMut(), report: &mut dyn FnMut(Revived)) -> Result<()> {
        self.reconcile_all()?;
        let marker = self.privilege.roots.run.join(BOOTED);
        if !marker.exists() {
            let now = Timestamp::now();
            for record in self.db.containers()?.into_iter().filter(wanted_at_boot) {
                self.db.write(true, |tx| -> Result<()> {
                    match tx.container(&record.id)? {
                        Some(mut record) if wanted_at_boot(&record) => {
                            record.phase = Phase::Restarting;
                            record.revival = Some(Revival { tries: 0, next: now });
                            Ok(tx.update_container(&record)?)
                        }
                        _ => Ok(()),
                    }
                })?;
                remove::failpoint_at("engine.boot.marked")?;
            }
            // Last: a boot that was cut off is done again.
            crate::base::fs::create_dir_all(&self.privilege.roots.run, 0o700)?;
            crate::base::fs::write(&marker, b"")?;
        }
        self.revive(report)?;
        ready();
        self.supervise(report)
    }

    /// Brings back what died without its monitor, and tries again what does not start, until nothing is left to do.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn supervise(&self, report: &mut dyn FnMut(Revived)) -> Result<()> {
        loop {
            self.finish_restarts()?;
            self.reconcile_all()?;
            let pause = match self.revive(report)? {
                Some(next) => next.since(Timestamp::now()).clamp(Duration::from_millis(10), LOOK_AGAIN),
                None if self.is_in_motion()? => IN_MOTION,
                None => return Ok(()),
            };
            std::thread::sleep(pause);
        }
    }

    /// Stops every container in order because the machine goes down, all at once, each with its own signal and time. What they
    /// are to be after the next boot stays as it is; [`Engine::boot`] on the same run of the machine counts as that (`systemctl restart`).
    ///
    /// # Errors
    /// The first that cannot be stopped, after all were tried; the run root cannot be written.
    pub fn shutdown(&self) -> Result<()> {
        // First: one that is cut off is followed by a boot that brings back what it had stopped.
        crate::base::fs::remove_file(&self.privilege.roots.run.join(BOOTED))?;
        let (running, privilege) = (self.db.active_containers()?, &self.privilege);
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let stops: Vec<_> = running.iter().map(|record| scope.spawn(move || stop_for_shutdown(privilege, &record.id))).collect();
            stops.into_iter().map(|stop| stop.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        results.into_iter().collect()
    }
}

/// Each thread has its own connection to the database.
fn stop_for_shutdown(privilege: &Privilege, id: &ContainerId) -> Result<()> {
    let live_dir = privilege.roots.live(id);
    if !monitor::is_alive(&live_dir) {
        return Ok(());
    }
    crate::base::fs::write(&live_dir.join(SHUTDOWN), b"")?;
    match Engine::open(privilege.clone(), RegistryConfig::default())?.stop(id.as_str(), None, None) {
        // A `--rm` container that was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::{ContainerSpec, HostSpec};

    fn record(policy: RestartPolicy) -> Container {
        let spec = ContainerSpec { host: HostSpec { restart: policy, ..HostSpec::default() }, ..ContainerSpec::default() };
        let text = serde_json::json!({
            "id": ContainerId::random(), "name": "web", "created": 0, "phase": "exited", "started": 1_000_000_000, "finished": 0,
            "exit_code": 0, "oom_killed": false, "error": "", "restart_count": 0, "stopped_by_user": false, "address": null,
            "published": [], "spec": spec,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_dead_monitor_is_a_failure_with_dockers_back_off() {
        let start = Timestamp::from_nanos(1_000_000_000);
        let soon = start.after(Duration::from_secs(1));
        let mut dead = record(RestartPolicy::Always);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let revival = after_death(&dead, soon).unwrap();
            pauses.push(revival.next.since(soon).as_millis());
            dead.revival = Some(revival);
        }
        assert_eq!(&pauses[..4], &[0, 100, 200, 400]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(after_death(&dead, start.after(GOOD_RUN)).unwrap().tries, 0, "a good run forgets the bad ones");
        assert_eq!(after_death(&record(RestartPolicy::No), soon), None);
        let mut few = record(RestartPolicy::OnFailure(1));
        few.revival = after_death(&few, soon);
        assert_eq!(few.revival.map(|r| r.tries), Some(0));
        assert_eq!(after_failure(&few, soon), None);
        assert_eq!(after_failure(&record(RestartPolicy::Always), soon), None, "the user's own start is not retried");
    }

    #[test]
    fn boot_follows_docker() {
        for (policy, stopped, wanted) in [
            (RestartPolicy::Always, true, true),
            (RestartPolicy::Always, false, true),
            (RestartPolicy::UnlessStopped, true, false),
            (RestartPolicy::UnlessStopped, false, true),
            (RestartPolicy::OnFailure(0), false, false),
            (RestartPolicy::No, false, false),
        ] {
            let mut record = record(policy.clone());
            record.stopped_by_user = stopped;
            assert_eq!(wanted_at_boot(&record), wanted, "{policy:?} {stopped}");
        }
        let mut never = record(RestartPolicy::Always);
        never.started = Timestamp::NEVER;
        assert!(!wanted_at_boot(&never));
    }
}
