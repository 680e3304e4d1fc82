//! `exec`: one more process in a container.

use super::{Container, Status, create};
use crate::runtime::{Error, Exec, Running, Stdio, cgroup};
use oci_spec::runtime::Process as Spec;
use std::os::fd::AsFd;

/// What `exec` is asked for.
pub struct Process {
    /// Complete: the verb has merged its flags into the container's own process or read a file.
    pub spec: Spec,
    /// As in `create`.
    pub preserve_fds: u32,
    /// Go on although the container is paused; the process starts when it is resumed.
    pub ignore_paused: bool,
    /// Groups below the container's to join instead ([`cgroup::Group::sub`]).
    pub cgroup: Vec<String>,
}

impl Container {
    /// Runs a process inside; returns when its program runs. The caller is its parent.
    ///
    /// # Errors
    /// `Conflict` when the container does not run; or why the program could not be executed.
    pub fn exec(&self, process: &Process) -> Result<Running, Error> {
        let Some((_, pidfd)) = self.init()? else { return Err(Error::Conflict("cannot exec in a stopped container".to_owned())) };
        if !process.ignore_paused && self.status()? == Status::Paused {
            return Err(Error::Conflict("cannot exec in a paused container (use --ignore-paused to override)".to_owned()));
        }
        let spec = self.spec()?;
        let stdio = if process.spec.terminal().unwrap_or(false) { create::terminal(&process.spec) } else { Stdio::Inherit };
        let group = self.record.group.clone().unwrap_or_else(cgroup::Group::absent);
        let group = if process.cgroup.is_empty() { group } else { group.sub(&process.cgroup).map_err(Error::Cgroup)? };
        super::super::exec(Exec {
            init_pidfd: pidfd.as_fd(),
            process: &process.spec,
            user: None,
            keyring: (!self.record.keep_keyring).then(|| self.id()),
            spec: &spec,
            stdio,
            cgroup: &group,
            resctrl: self.record.resctrl.as_ref(),
            preserve_fds: process.preserve_fds,
            state: Some(&self.record.hook_state()),
        })
    }
}
