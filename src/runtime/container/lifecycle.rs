//! The hooks around a container's process: poststart when it runs, poststop when the container is gone.

use super::{Container, Record};
use crate::runtime::listener::Agent;
use crate::runtime::{Error, hooks};
use oci_spec::runtime::{ContainerState, Spec};

impl Record {
    /// What hooks are told of the container.
    pub(super) fn hook_state(&self) -> hooks::State {
        hooks::State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone().into_iter().collect(),
        }
    }

    /// Who gets the listener of the filter that its process loads at the start.
    pub(super) fn agent(&self) -> Option<Agent> {
        let listener = self.listener.clone()?;
        Some(Agent { listener, state: self.hook_state(), status: ContainerState::Creating, init: None })
    }
}

/// Whether the config has hooks that run after `create`: only then is it read again.
pub(super) fn has_later_hooks(spec: &Spec) -> bool {
    let any = |list: &Option<Vec<oci_spec::runtime::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    spec.hooks().as_ref().is_some_and(|hooks| any(hooks.poststart()) || any(hooks.poststop()))
}

/// Runs the poststop hooks. Their failures are warnings (runtime.md, Lifecycle).
pub(super) fn poststop(spec: &Spec, state: &hooks::State) {
    for error in hooks::run_poststop(spec, state) {
        tracing::warn!("{error}");
    }
}

impl Container {
    /// Runs the poststart hooks of the process that has just been executed. If one fails, the container is stopped.
    ///
    /// # Errors
    /// The hook that failed.
    pub(super) fn poststart(&self) -> Result<(), Error> {
        if !self.record.later_hooks {
            return Ok(());
        }
        let run = || hooks::run(&self.spec()?, hooks::Kind::Poststart, &self.record.hook_state(), self.record.init.map(|init| init.pid));
        run().inspect_err(|_| {
            if let Err(error) = self.kill_init() {
                tracing::warn!("could not stop container {} after a poststart hook failed: {error}", self.id());
            }
        })
    }
}
