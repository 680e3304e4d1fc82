//! Finding containers and deriving their status from record and live facts.

use super::super::commit;
use super::super::{Engine, Error, Result, Status, View};
use super::locks;
use crate::base::{ContainerId, Roots};
use crate::monitor::{self, Health, HealthStatus, Live};
use crate::state::record::{self, NetworkMode, Phase};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Containers from which a look at all of them is worth threads.
const MANY: usize = 16;
const MOST_WORKERS: usize = 4;

impl Engine {
    /// The container by full id, exact name or unique id prefix, as seen now (reconciled).
    ///
    /// # Errors
    /// There is no such container, or the prefix is ambiguous.
    pub fn view(&self, name: &str) -> Result<View> {
        let record = self.find(name)?;
        let record = self.settle(record)?.ok_or_else(|| Error::no_such("container", name))?;
        Ok(self.view_of(record))
    }

    /// [`Engine::view`], after starting what its restart policy wants and what is due.
    ///
    /// # Errors
    /// As [`Engine::view`].
    pub(in crate::engine) fn view_revived(&self, name: &str) -> Result<View> {
        let mut view = [self.view(name)?];
        self.revive_seen(&mut view)?;
        let [view] = view;
        Ok(view)
    }

    /// The record of a container by full id, exact name or unique id prefix.
    ///
    /// # Errors
    /// There is no such container, or the prefix is ambiguous.
    pub(in crate::engine) fn find(&self, name: &str) -> Result<record::Container> {
        // Docker's API spells names with a leading slash.
        let bare = name.strip_prefix('/').unwrap_or(name);
        self.db.find_container(bare)?.ok_or_else(|| self.no_such("container", name))
    }

    /// Record plus live facts, without reconciliation.
    pub(in crate::engine) fn view_of(&self, record: record::Container) -> View {
        self.with_pod(observe(&self.privilege.roots, record))
    }

    /// [`Engine::view_of`] of each. Most of the time of a look is the kernel's, so that many are shared among processors; where no
    /// thread can be had, this one looks at all of them.
    pub(in crate::engine) fn views_of(&self, records: Vec<record::Container>) -> Vec<View> {
        let roots = &self.privilege.roots;
        let workers = if records.len() < MANY { 1 } else { std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS) };
        let left = Mutex::new(records.into_iter().enumerate());
        let seen = Mutex::new(Vec::new());
        let look = || {
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((place, record)) = next() {
                let view = observe(roots, record);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((place, view));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                if std::thread::Builder::new().spawn_scoped(scope, look).is_err() {
                    break;
                }
            }
            look();
        });
        let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        seen.sort_unstable_by_key(|(place, _)| *place);
        seen.into_iter().map(|(_, view)| self.with_pod(view)).collect()
    }

    /// A member is reached where its pod is; the leases are the pod's. If they cannot be read, they are not shown.
    fn with_pod(&self, mut view: View) -> View {
        if view.pid != 0
            && view.record.spec.host.network == NetworkMode::Pod
            && let Some(membership) = &view.record.spec.pod
        {
            let pod = self.db.pod(&membership.pod).ok().flatten();
            (view.record.endpoints, view.record.published) = pod.map(|pod| (pod.endpoints, pod.published)).unwrap_or_default();
        }
        view
    }
}

/// Record plus live facts.
fn observe(roots: &Roots, record: record::Container) -> View {
    let mut view =
        View { status: Status::Exited, pid: 0, restart_count: record.restart_count, started: record.started, next_start: None, health: None, record };
    view.next_start = view.record.revival.map(|revival| revival.next).filter(|_| view.record.phase == Phase::Restarting);
    view.status = match view.record.phase {
        Phase::Created => Status::Created,
        Phase::Exited => Status::Exited,
        Phase::Removing => Status::Removing,
        Phase::Restarting => Status::Restarting,
        Phase::Started => {
            let live_dir = roots.live(&view.record.id);
            match Live::read(&live_dir) {
                Some(live) => {
                    view.restart_count = live.restart_count;
                    view.started = live.started;
                    view.pid = live.pid.unwrap_or(0);
                    view.record.oom_kills = live.oom_kills;
                    match live.pid {
                        Some(_) if live.waiting => Status::Created,
                        Some(_) if live.cgroup.is_frozen() && !commit::end_abandoned(&live_dir, &live) => Status::Paused,
                        Some(_) => Status::Running,
                        // The record is written at the end only: the last run is known by the live facts.
                        None => {
                            view.next_start = live.next_start;
                            (view.record.exit_code, view.record.finished) = (live.last_exit, live.last_end);
                            Status::Restarting
                        }
                    }
                }
                // Being started: the gate has not opened yet.
                None if monitor::is_alive(&live_dir) || locks::is_busy(roots, &view.record.id) => Status::Created,
                None => Status::Exited,
            }
        }
    };
    view.health = health(roots, &view);
    view
}

/// Lines that the log of the present run could not keep.
pub(in crate::engine) fn lost_lines(live_dir: &Path) -> u64 {
    let text = crate::base::fs::read_short(live_dir, monitor::LOG_LOST).ok();
    text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0)
}

/// While it runs the monitor's word, afterwards the last: a container that does not run is not well.
fn health(roots: &Roots, view: &View) -> Option<Health> {
    let spec = &view.record.spec;
    spec.healthcheck.as_ref()?.command(&spec.shell)?;
    match view.status {
        Status::Running | Status::Paused => Some(Health::read(&roots.live(&view.record.id)).unwrap_or_default()),
        _ if view.record.started.is_never() => None,
        _ => {
            let last = Health::read(&roots.container(&view.record.id)).unwrap_or_default();
            Some(Health { status: HealthStatus::Unhealthy, ..last })
        }
    }
}

/// A handle to the container's init process, after checking that the pid still is that process.
pub(super) fn init_pidfd(live: &Live) -> Option<OwnedFd> {
    let pid = live.pid?;
    // The descriptor first: after that the number cannot be reused under us, so the comparison below is final.
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (start_ticks(pid)? == live.start_ticks).then_some(pidfd)
}

/// Start time of a process in clock ticks since boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5).
fn start_ticks(pid: i32) -> Option<u64> {
    parse_start_ticks(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 2 is the command in parentheses and may hold anything, parentheses included: count from the last one.
fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// One that waits at its gate has no program yet, but all that is around it.
pub(super) fn require_started(live: &Live, name: &str) -> Result<()> {
    if live.waiting {
        let message = format!("container {name} is set up, but not started");
        return Err(Error::Conflict { message, hint: Some(format!("rcon start {name}")) });
    }
    Ok(())
}

/// The live facts of a container that must be running.
pub(super) fn running(roots: &Roots, id: &ContainerId, name: &str) -> Result<Live> {
    match Live::read(&roots.live(id)) {
        Some(live) if live.waiting => require_started(&live, name).map(|()| live),
        Some(live) if live.pid.is_some() => Ok(live),
        Some(_) => {
            Err(Error::Conflict { message: format!("container {name} is restarting"), hint: Some("wait until the container is running".to_owned()) })
        }
        None => Err(Error::conflict(format!("container {name} is not running"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_read_past_a_hostile_command_name() {
        let stat = b"42 (a) R 1 (x) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000 1 2 3";
        assert_eq!(parse_start_ticks(stat), Some(777));
        assert!(start_ticks(i32::try_from(std::process::id()).unwrap()).is_some());
        assert_eq!(parse_start_ticks(b"nonsense"), None);
    }
}
