//! stop, kill, restart: signals by pidfd after checking the identity of the process.
//! The monitor is told first that the user wants the stop, so that the restart policy rests.

use super::super::{AttachStreams, Engine, Error, Result, events};
use super::contact::{Ended, await_gone, connect};
use super::locks::{self, OperationLock};
use super::reconcile::{self, Decider};
use super::remove::failpoint_at;
use super::view::{init_pidfd, running};
use crate::base::{ContainerId, ErrorKind, Signal};
use crate::monitor::{self, Client, Live};
use crate::state::record::{self, Phase, ProcessSpec};
use crate::sys::proc_stat::ProcDir;
use crate::sys::signal_state::{is_dropped, is_dropped_now};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Docker's default of `stop --timeout`.
const DEFAULT_TIMEOUT_SECONDS: i64 = 10;
/// After SIGKILL the kernel needs no help but time; beyond this the process hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// When all processes of a container are gone, its monitor has only to write that down; one that does not is killed, and the
/// record is settled without it. Then the exit code is lost, so that a busy machine is given its time.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is seen to that a monitor is not stopped.
const AWAKE: Duration = Duration::from_millis(200);

impl Engine {
    /// Stops it: the stop signal, then SIGKILL after `timeout` seconds (-1: never). Stopping a stopped one is fine.
    ///
    /// # Errors
    /// There is no such container, or its processes survive SIGKILL.
    pub fn stop(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> {
        let record = self.find(name)?;
        self.stop_record(&record, name, signal, timeout, Client::stop_requested)
    }

    /// [`Engine::stop`] by one who starts it again.
    pub(in crate::engine) fn stop_to_restart(&self, name: &str, timeout: Option<i64>) -> Result<()> {
        self.stop_record(&self.find(name)?, name, None, timeout, Client::restart_requested)
    }

    /// `request`: tells the monitor what is wanted, and how long this command will wait.
    fn stop_record(
        &self,
        record: &record::Container,
        name: &str,
        signal: Option<Signal>,
        timeout: Option<i64>,
        request: fn(&mut Client, Option<Duration>) -> std::result::Result<(), monitor::Error>,
    ) -> Result<()> {
        let roots = &self.privilege.roots;
        let live_dir = roots.live(&record.id);
        if locks::is_busy(roots, &record.id) {
            // It is being started or removed: what is to be stopped is what comes of that.
            drop(locks::lock(roots, &record.id)?);
        }
        let Some(mut client) = connect(&live_dir)? else {
            let lock = locks::lock(roots, &record.id)?;
            return self.rest(&record.id, &lock);
        };
        let signal = signal.unwrap_or_else(|| stop_signal(&record.spec.process));
        let patience = stop_timeout(&record.spec.process, timeout);
        request(&mut client, patience)?;
        wake(&client);
        // Without facts it is a monitor whose starter died, or one that is leaving.
        if let Some(live) = Live::read(&live_dir)
            && let Some(pidfd) = init_pidfd(&live)
            && patience != Some(Duration::ZERO)
            // One that waits at its gate has no program yet that could take a signal: its monitor takes it down.
            && (live.waiting || {
                self.tell_killed(record, signal);
                ask_to_end(&live, &pidfd, signal, timeout.or(record.spec.process.stop_timeout).is_none(), record.name.as_str())?
            })
        {
            failpoint_at("engine.stop.asked")?;
            let ended = await_gone(&mut client, &live_dir, patience)?;
            if ended == Ended::Lost {
                // Else its policy would take the death of the monitor for the end of the run.
                let lock = locks::lock(roots, &record.id)?;
                self.rest(&record.id, &lock)?;
            }
            if ended != Ended::Timeout {
                self.emit([events::of_container(record, "stop")]);
                return Ok(());
            }
        }
        self.kill_for_user(record, &mut client, name)?;
        self.emit([events::of_container(record, "stop")]);
        Ok(())
    }

    fn tell_killed(&self, record: &record::Container, signal: Signal) {
        self.emit([events::of_container(record, "kill").with("signal", signal.number())]);
    }

    /// SIGKILL and the end, as the user's wish. With the lock, so that nobody takes a monitor that has to be killed for one that
    /// died, and brings the container back.
    fn kill_for_user(&self, record: &record::Container, client: &mut Client, name: &str) -> Result<()> {
        let roots = &self.privilege.roots;
        let lock = locks::lock(roots, &record.id)?;
        self.tell_killed(record, Signal::KILL);
        kill_and_wait(client, &roots.live(&record.id), name)?;
        self.rest(&record.id, &lock)
    }

    /// Records what a monitor that is gone has not recorded, and that the restart policy rests.
    fn rest(&self, id: &ContainerId, _lock: &OperationLock) -> Result<()> {
        let roots = &self.privilege.roots;
        let Some(mut record) = self.db.container(id)? else { return Ok(()) };
        match record.phase {
            Phase::Started if !monitor::is_alive(&roots.live(id)) => match reconcile::end_dead(&self.db, roots, record, Decider::User)? {
                Some(ended) => record = ended,
                None => return Ok(()),
            },
            Phase::Restarting => {
                record.phase = Phase::Exited;
                record.revival = None;
            }
            _ => return self.settle(record).map(drop),
        }
        record.stopped_by_user = true;
        self.db.write(false, |tx| Ok(tx.update_container(&record)?))
    }

    /// Stops and starts it again.
    ///
    /// # Errors
    /// Those of [`Engine::stop`] and [`Engine::start`]. What it joins must be there before it is stopped.
    pub fn restart(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> {
        let record = self.find(name)?;
        self.require_joined(&record)?;
        let live_dir = self.privilege.roots.live(&record.id);
        if record.spec.host.auto_remove && monitor::is_alive(&live_dir) {
            // Read by the lifecycle at the end of the run: this end is no reason to remove the container.
            crate::base::fs::write(&live_dir.join(super::lifecycle::KEEP), b"")?;
        }
        self.stop_record(&record, name, signal, timeout, Client::restart_requested)?;
        self.start(&record.id, AttachStreams::default(), (0, 0))?;
        self.emit([events::of_container(&record, "restart")]);
        Ok(())
    }

    /// Sends a signal. SIGKILL waits until the container has ended.
    ///
    /// # Errors
    /// There is no such container, or it is not running.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<()> {
        let record = self.find(name)?;
        let live_dir = self.privilege.roots.live(&record.id);
        let live = running(&self.privilege.roots, &record.id, name)?;
        let not_running = || Error::conflict(format!("container {name} is not running"));
        let pidfd = init_pidfd(&live).ok_or_else(not_running)?;
        if ends(signal, &record.spec.process) {
            let mut client = connect(&live_dir)?.ok_or_else(not_running)?;
            client.stop_requested((signal == Signal::KILL).then_some(Duration::ZERO))?;
            if signal == Signal::KILL {
                return self.kill_for_user(&record, &mut client, name);
            }
        }
        send(&pidfd, signal, name)?;
        self.tell_killed(&record, signal);
        Ok(())
    }
}

/// What stops the container: its own signal or SIGTERM.
pub(super) fn stop_signal(process: &ProcessSpec) -> Signal {
    process.stop_signal.unwrap_or(Signal::TERM)
}

/// How long a stop waits before SIGKILL: as asked, else the container's own time, else ten seconds; None: for ever.
pub(super) fn stop_timeout(process: &ProcessSpec, asked: Option<i64>) -> Option<Duration> {
    let seconds = asked.or(process.stop_timeout).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Only a signal that is sent to end the container suspends the restart policy: `kill -s HUP` is a reload, SIGQUIT makes
/// some programs print what they do. Docker takes every signal for an end.
fn ends(signal: Signal, process: &ProcessSpec) -> bool {
    [Signal::KILL, Signal::TERM, Signal::INT, stop_signal(process)].contains(&signal)
}

/// Sends the stop signal where it has an effect; false: it has none on any process, so that waiting would be for nothing.
/// `hasty`: nobody named a time to wait. Who names one gets it: the process may be about to end by itself.
fn ask_to_end(live: &Live, pidfd: &OwnedFd, signal: Signal, hasty: bool, name: &str) -> Result<bool> {
    // Asked before: one that waits in sigwait(3) has nothing that could be seen from the moment when the signal wakes it until it
    // runs. And again after it: a program that has just begun may have set its handler meanwhile.
    let deaf = live.pid.filter(|pid| is_dropped(*pid, signal.number()));
    send(pidfd, signal, name)?;
    let mut waits = true;
    if let Some(pid) = deaf.filter(|pid| is_dropped_now(*pid, signal.number())) {
        let children = children(live, pid);
        for child in &children {
            send(child, signal, name)?;
        }
        waits = !(children.is_empty() && hasty);
        let follows = if !waits {
            ", it is killed at once"
        } else if children.is_empty() {
            ""
        } else {
            ", its children got it too"
        };
        // Nothing can handle SIGKILL: who asked for it needs no --init.
        if signal != Signal::KILL {
            tracing::warn!("the first process of container \"{name}\" does not handle {signal}{follows} (see --init)");
        }
    }
    if live.cgroup.is_frozen() {
        live.cgroup.thaw()?;
    }
    Ok(waits)
}

/// The processes that PID 1 has made or was given.
fn children(live: &Live, init: i32) -> Vec<OwnedFd> {
    let is_child = |pid: i32| ProcDir::open(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.parent == init);
    let open = |pid: i32| {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Looked at while the descriptor is held: the number is still that process's.
        is_child(pid).then_some(pidfd)
    };
    live.cgroup.pids().unwrap_or_default().into_iter().filter_map(open).collect()
}

/// A monitor that was stopped by a signal goes on, so that it can do its part.
fn wake(client: &Client) {
    let Ok(pid) = client.monitor_pid() else { return };
    if ProcDir::open(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.stopped)
        && let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        && let Err(error) = crate::sys::pidfd_signal::send(pidfd.as_fd(), libc::SIGCONT)
    {
        tracing::debug!("cannot continue monitor {pid}: {error}");
    }
}

fn send(pidfd: &OwnedFd, signal: Signal, name: &str) -> Result<()> {
    match crate::sys::pidfd_signal::send(pidfd.as_fd(), signal.number()) {
        Ok(()) => Ok(()),
        // Ended meanwhile: what the signal was for has happened.
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(e) => Err(Error::Failed { operation: format!("send {signal} to container \"{name}\""), kind: ErrorKind::Internal, source: Box::new(e) }),
    }
}

/// SIGKILL to init (its PID namespace dies with it), then to the whole cgroup, until the monitor has finished. A monitor
/// that does not notice that its container is gone hangs (it was stopped by a signal, or its disk is dead): then it is
/// killed too, and the caller settles the record.
pub(super) fn kill_and_wait(client: &mut Client, live_dir: &Path, name: &str) -> Result<()> {
    wake(client);
    if let Some(live) = Live::read(live_dir) {
        if let Some(pidfd) = init_pidfd(&live) {
            send(&pidfd, Signal::KILL, name)?;
        }
        if live.cgroup.is_frozen() {
            live.cgroup.thaw()?;
        }
        if await_awake(client, live_dir, Duration::from_secs(2))? == Ended::Gone {
            return Ok(());
        }
        live.cgroup.kill_all(KILL_PATIENCE)?;
    }
    match await_awake(client, live_dir, RECORD_PATIENCE)? {
        // What a dead one has left is the caller's.
        Ended::Gone | Ended::Lost => Ok(()),
        Ended::Timeout => kill_monitor(client, live_dir, name),
    }
}

fn kill_monitor(client: &Client, live_dir: &Path, name: &str) -> Result<()> {
    let hangs =
        |text: &'static str| Error::Failed { operation: format!("stop container \"{name}\""), kind: ErrorKind::Unavailable, source: text.into() };
    let pid = client.monitor_pid().ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // The lock is looked at after the descriptor was opened: the monitor lived all the time, so the number still was its.
    let Some(pidfd) = pidfd.filter(|_| monitor::is_alive(live_dir)) else {
        return if monitor::is_alive(live_dir) { Err(hangs("its monitor does not answer and cannot be found")) } else { Ok(()) };
    };
    tracing::warn!("the monitor of container \"{name}\" does not answer: it is killed");
    send(&pidfd, Signal::KILL, name)?;
    let deadline = Instant::now() + KILL_PATIENCE;
    while monitor::is_alive(live_dir) {
        if Instant::now() > deadline {
            return Err(hangs("its monitor did not end after SIGKILL; it may hang in the kernel (a dead network file system?)"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// [`await_gone`] of a monitor that may be stopped by a signal at any moment.
fn await_awake(client: &mut Client, live_dir: &Path, patience: Duration) -> Result<Ended> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match await_gone(client, live_dir, Some(left.min(AWAKE)))? {
            Ended::Timeout if left.is_zero() => return Ok(Ended::Timeout),
            Ended::Timeout => wake(client),
            ended => return Ok(ended),
        }
    }
}
