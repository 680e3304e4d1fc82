//! `start`, `kill`, `delete`, `pause`, `resume`, `update` and what they look up.

use super::{Container, GATE, Status, lifecycle};
use crate::base::Signal;
use crate::base::fs;
use crate::runtime::channel::Channel;
use crate::runtime::{Error, cgroup, init, resctrl};
use oci_spec::runtime::{Linux, LinuxIntelRdt, LinuxResources, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long processes may take to end after SIGKILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl Container {
    /// Opens the gate; returns when the program runs.
    ///
    /// # Errors
    /// `Conflict` when there is nothing to start; or why the program could not be executed.
    pub fn start(&self) -> Result<(), Error> {
        if self.record.init.is_none() && self.status()? == Status::Creating {
            return Err(Error::Conflict("cannot start a container that is being created".to_owned()));
        }
        let _lock = self.lock()?;
        let gate = if self.init()?.is_some() { Channel::connect(self.held.as_fd(), GATE)? } else { None };
        let Some(gate) = gate else {
            return Err(Error::Conflict(match self.status()? {
                Status::Stopped => "cannot start a container that has stopped".to_owned(),
                _ => "cannot start an already running container".to_owned(),
            }));
        };
        init::open_gate(gate, self.record.agent().as_ref())?;
        fs::remove_file(&self.path(GATE))?;
        self.poststart()
    }

    /// Sends a signal to the init process; to every process when `all`, or when SIGKILL must end a container
    /// whose init is not the first of a pid namespace.
    ///
    /// # Errors
    /// `Conflict` ("container not running") when there is no process.
    pub fn kill(&self, signal: Signal, all: bool) -> Result<(), Error> {
        if all || (signal == Signal::KILL && !self.record.own_pid_namespace) {
            return self.kill_group(signal, all);
        }
        self.signal_init(signal)
    }

    fn signal_init(&self, signal: Signal) -> Result<(), Error> {
        let Some((_, pidfd)) = self.init()? else { return Err(not_running()) };
        let sent = crate::sys::pidfd_signal::send(pidfd.as_fd(), signal.number());
        sent.map_err(|source| match source.raw_os_error() {
            Some(libc::ESRCH) => not_running(),
            _ => Error::Step { step: format!("send signal {} to container {}", signal.number(), self.id()), source },
        })
    }

    fn kill_group(&self, signal: Signal, all: bool) -> Result<(), Error> {
        let Some(group) = &self.record.group else {
            // Nothing else is known of than the init process.
            return self.signal_init(signal);
        };
        // `--all` of a stopped container reaches what it left behind, and is content with nothing.
        if !all && self.init()?.is_none() {
            return Err(not_running());
        }
        if signal == Signal::KILL {
            return group.kill_all(PATIENCE).map_err(Error::Cgroup);
        }
        group.signal_all(signal).map_err(Error::Cgroup)
    }

    /// Removes the container; one that is created only is killed first, with `force` a running one too.
    ///
    /// # Errors
    /// `Conflict` when it runs; what cannot be removed.
    pub fn delete(mut self, force: bool) -> Result<(), Error> {
        if !force {
            match self.status()? {
                Status::Stopped | Status::Created => {}
                status => return Err(Error::Conflict(format!("cannot delete container {} that is not stopped: {status}", self.id()))),
            }
        }
        self.kill_init()?;
        let _lock = self.lock()?;
        // A creation that held the lock may have gone on since the record was read.
        let id = super::Id::parse(&self.record.id)?;
        self.record = super::Record::read(&self.path(super::RECORD), &id)?;
        self.kill_init()?;
        self.remove()
    }

    /// Kills the init process, if it lives, and waits for its end.
    pub(super) fn kill_init(&self) -> Result<(), Error> {
        let Some((pid, pidfd)) = self.init()? else { return Ok(()) };
        let step = |what: &str| format!("{what} process {pid} of container {}", self.id());
        match crate::sys::pidfd_signal::send(pidfd.as_fd(), libc::SIGKILL) {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => return Err(Error::Step { step: step("kill"), source }),
            _ => {}
        }
        if let Some(group) = &self.record.group {
            // A frozen process would not see the signal.
            group.kill_all(PATIENCE).map_err(Error::Cgroup)?;
        }
        let deadline = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ended = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline)));
        match ended.map_err(|error| Error::Step { step: step("wait for"), source: error.into() })? {
            0 => Err(Error::Conflict(format!("process {pid} of container {} is still there after SIGKILL", self.id()))),
            _ => Ok(()),
        }
    }

    /// Removes groups and directory, then runs the poststop hooks; idempotent. Every process of the container is killed.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let hooked = if self.record.later_hooks { Some(self.spec()?) } else { None };
        if let Some(group) = &self.record.group
            && !group.delete_unused().map_err(Error::Cgroup)?
        {
            group.kill_all(PATIENCE).map_err(Error::Cgroup)?;
            group.delete().map_err(Error::Cgroup)?;
        }
        if let Some(classes) = &self.record.resctrl {
            classes.remove()?;
        }
        fs::remove_tree(&self.dir)?;
        if let Some(spec) = hooked {
            lifecycle::poststop(&spec, &self.record.hook_state());
        }
        Ok(())
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// `Conflict` when it is neither running nor created.
    pub fn pause(&self) -> Result<(), Error> {
        match self.status()? {
            Status::Running | Status::Created => self.group()?.freeze().map_err(Error::Cgroup),
            _ => Err(Error::Conflict("container not running".to_owned())),
        }
    }

    /// # Errors
    /// `Conflict` when it is not paused.
    pub fn resume(&self) -> Result<(), Error> {
        match self.status()? {
            Status::Paused => self.group()?.thaw().map_err(Error::Cgroup),
            _ => Err(Error::Conflict("container not paused".to_owned())),
        }
    }

    /// Changes limits; what is not set stays.
    ///
    /// # Errors
    /// `Conflict` when it does not run; the limit that was refused.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        self.group()?.update(resources).map_err(Error::Cgroup)
    }

    /// Changes the share of cache and memory bandwidth; a container without a class of service gets one of its own.
    ///
    /// # Errors
    /// `Unsupported` without a resctrl file system; `Conflict` when it does not run; what the kernel refuses.
    pub fn update_classes(&mut self, asked: LinuxIntelRdt) -> Result<(), Error> {
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        if let Some(classes) = &self.record.resctrl {
            return classes.update(&asked, self.id());
        }
        let (mut spec, mut linux) = (Spec::default(), Linux::default());
        linux.set_intel_rdt(Some(asked));
        spec.set_linux(Some(linux));
        let Some(classes) = resctrl::Group::of(&spec, self.id())? else { return Ok(()) };
        let _lock = self.lock()?;
        // Recorded first: whatever is made is then found by the delete.
        self.record.resctrl = Some(classes.clone());
        self.record.write(&self.path(super::RECORD))?;
        classes.make()?;
        self.pids()?.into_iter().try_for_each(|pid| classes.join(pid))
    }

    /// Everything that its group counts.
    ///
    /// # Errors
    /// `Unsupported`: it has no group. `Conflict`: it has stopped.
    pub fn stats(&self) -> Result<cgroup::FullStats, Error> {
        self.running_group()?.full_stats().map_err(Error::Cgroup)
    }

    /// Watches for OOM kills from now on.
    ///
    /// # Errors
    /// As [`Container::stats`].
    pub fn oom_watch(&self) -> Result<cgroup::OomWatch, Error> {
        self.running_group()?.oom_watch().map_err(Error::Cgroup)
    }

    fn running_group(&self) -> Result<&cgroup::Group, Error> {
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        self.group()
    }

    /// The processes of the container, as this process counts them.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        self.group()?.pids().map_err(Error::Cgroup)
    }

    /// # Errors
    /// `Unsupported`: it has none.
    pub fn group(&self) -> Result<&cgroup::Group, Error> {
        self.record.group.as_ref().ok_or_else(|| Error::Unsupported(format!("this without a control group (container {})", self.id())))
    }
}

/// Callers look for these words.
fn not_running() -> Error {
    Error::Conflict("container not running".to_owned())
}
