//! What is done to all members of a pod: start (init containers first), stop, kill, restart, pause, unpause.

use super::super::{AttachStreams, Engine, Error, Result, Status, View, container, events};
use super::down;
use crate::base::{ErrorKind, PodId, Signal};
use crate::state::pod::PodPhase;
use crate::state::record::{Container, InitContainer, Phase};
use std::path::PathBuf;

/// How often a stop begins anew because a member was started meanwhile.
const STOP_TRIES: u32 = 5;
/// What follows the pod's id in the name of the file that tells of a restart.
const RESTART: &str = ".restart";

/// Whether the container runs to its end before the others start.
pub(super) fn is_init(record: &Container) -> bool {
    record.spec.pod.as_ref().is_some_and(|membership| membership.init.is_some())
}

fn is_active(view: &View) -> bool {
    matches!(view.status, Status::Running | Status::Paused | Status::Restarting)
}

impl Engine {
    /// The members as seen now, oldest first.
    pub(super) fn member_views(&self, id: &PodId) -> Result<Vec<View>> {
        let mut views = Vec::new();
        for record in self.db.pod_members(id)? {
            if let Some(record) = self.settle(record)? {
                views.push(self.view_of(record));
            }
        }
        Ok(views)
    }

    /// Brings the pod up, runs its init containers in turn, and starts every other member that does not run.
    ///
    /// # Errors
    /// The pod cannot be brought up, an init container failed (then nothing else was started), or the first member that
    /// could not be started, after trying all.
    pub fn start_pod(&self, name: &str) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        self.settle_pod(pod.clone())?;
        drop(self.pod_up(&pod.id)?);
        let members = self.member_views(&pod.id)?;
        let (init, others): (Vec<View>, Vec<View>) = members.into_iter().partition(|view| is_init(&view.record));
        if !others.iter().any(is_active) {
            for view in &init {
                self.run_init(view)?;
            }
        }
        let start = |view: &View| self.start(&view.record.id, AttachStreams::default(), (0, 0)).map(drop);
        each(others.iter().filter(|view| !is_active(view)), start)?;
        Ok(pod.id)
    }

    fn run_init(&self, view: &View) -> Result<()> {
        let id = &view.record.id;
        drop(self.start(id, AttachStreams::default(), (0, 0))?);
        let code = self.wait(id.as_str())?;
        if code != 0 {
            return Err(Error::Failed {
                operation: "start the pod".to_owned(),
                kind: ErrorKind::Conflict,
                source: format!("init container {} exited with code {code}", view.record.name).into(),
            });
        }
        let once = view.record.spec.pod.as_ref().is_some_and(|membership| membership.init == Some(InitContainer::Once));
        if once { self.remove(id.as_str(), false, true) } else { Ok(()) }
    }

    /// Stops all members at once, then takes the pod down. A pod that is down is fine.
    ///
    /// # Errors
    /// There is no such pod, or the first member that could not be stopped: the pod stays up then.
    pub fn stop_pod(&self, name: &str, timeout: Option<i64>) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        down::want_down(&self.privilege.roots, &pod.id)?;
        self.stop_members(pod.id.as_str(), &|engine, member| engine.stop(member, None, timeout))
    }

    fn stop_members(&self, name: &str, stop: &(dyn Fn(&Engine, &str) -> Result<()> + Sync)) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        self.settle_pod(pod.clone())?;
        for _ in 0..STOP_TRIES {
            let started = self
                .db
                .pod_members(&pod.id)?
                .into_iter()
                .filter(|member| matches!(member.phase, Phase::Started | Phase::Restarting))
                .collect::<Vec<_>>();
            self.stop_together(&started, stop)?;
            if down::stop_if_idle(&self.db, &self.privilege.roots, &pod.id)? {
                return Ok(pod.id);
            }
        }
        Err(Error::conflict(format!("containers of pod {} are started again and again", pod.name)))
    }

    /// Each waits for its own stop signal to be heard: one after another the times would add up.
    fn stop_together(&self, members: &[Container], stop: &(dyn Fn(&Engine, &str) -> Result<()> + Sync)) -> Result<()> {
        if let [one] = members {
            return stop(self, one.id.as_str());
        }
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let (privilege, registry) = (&self.privilege, &self.registry);
            let stop_one = move |member: &Container| {
                // A connection to the database belongs to one thread.
                let engine = Engine::open(privilege.clone(), registry.clone())?;
                stop(&engine, member.id.as_str())
            };
            let threads: Vec<_> = members.iter().map(|member| scope.spawn(move || stop_one(member))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        results.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// Sends a signal to every running member; after SIGKILL the pod is taken down.
    ///
    /// # Errors
    /// There is no such pod, nothing runs, or the first member that could not be reached.
    pub fn kill_pod(&self, name: &str, signal: Signal) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        let members = self.member_views(&pod.id)?;
        if pod.phase != PodPhase::Started {
            return Err(Error::conflict(format!("pod {} is not running", pod.name)));
        }
        each(members.iter().filter(|view| is_active(view)), |view| match self.kill(view.record.id.as_str(), signal) {
            // It ended meanwhile.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        })?;
        self.emit([events::of_pod(&pod, "kill").with("signal", signal.number())]);
        if signal == Signal::KILL {
            down::stop_if_idle(&self.db, &self.privilege.roots, &pod.id)?;
        }
        Ok(pod.id)
    }

    /// Stops the pod and starts it again. If this command is killed while it waits, the monitors start what they end; what had
    /// ended already is started by the next command ([`Engine::finish_restarts`]).
    ///
    /// # Errors
    /// Those of [`Engine::stop_pod`] and [`Engine::start_pod`].
    pub fn restart_pod(&self, name: &str) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        let Some(_note) = container::try_lock_at(self.restart_note(&pod.id))? else {
            return Err(Error::conflict(format!("pod {} is being restarted", pod.name)));
        };
        self.stop_members(pod.id.as_str(), &|engine, member| engine.stop_to_restart(member, None))?;
        container::failpoint_at("engine.pod.restart.stopped")?;
        let id = self.start_pod(pod.id.as_str())?;
        self.emit([events::of_pod(&pod, "restart")]);
        Ok(id)
    }

    /// Held while the pod is restarted. What lies there without a holder tells of one who did not live to start it again; it is
    /// gone after a boot, when the restart policies decide.
    fn restart_note(&self, id: &PodId) -> PathBuf {
        self.privilege.roots.run.join("pods").join(format!("{id}{RESTART}"))
    }

    /// Starts the pods whose restart was cut off between stop and start. That one does not start is told.
    ///
    /// # Errors
    /// The run root cannot be read.
    pub(in crate::engine) fn finish_restarts(&self) -> Result<()> {
        for id in container::ids_in(&self.privilege.roots.run.join("pods"), RESTART)? {
            // Whoever restarts it right now holds it.
            let Some(_note) = container::try_lock_at(self.restart_note(&id))? else { continue };
            match self.start_pod(id.as_str()) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("pod {} was being restarted and does not start: {}", id.short(), container::describe(&error)),
            }
        }
        Ok(())
    }

    /// Freezes every running member.
    ///
    /// # Errors
    /// There is no such pod, or the first member that could not be frozen.
    pub fn pause_pod(&self, name: &str) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        let members = self.member_views(&pod.id)?;
        each(members.iter().filter(|view| view.status == Status::Running), |view| self.pause(view.record.id.as_str()))?;
        self.emit([events::of_pod(&pod, "pause")]);
        Ok(pod.id)
    }

    /// Lets every frozen member go on.
    ///
    /// # Errors
    /// There is no such pod, or the first member that could not be thawed.
    pub fn unpause_pod(&self, name: &str) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        let members = self.member_views(&pod.id)?;
        each(members.iter().filter(|view| view.status == Status::Paused), |view| self.unpause(view.record.id.as_str()))?;
        self.emit([events::of_pod(&pod, "unpause")]);
        Ok(pod.id)
    }
}

/// Does it to each; the first error, after trying all.
fn each<'v>(views: impl Iterator<Item = &'v View>, work: impl Fn(&View) -> Result<()>) -> Result<()> {
    let mut first = Ok(());
    for view in views {
        match (work(view), &first) {
            (Err(error), Ok(())) => first = Err(error),
            (Err(error), Err(_)) => tracing::warn!("container {}: {error}", view.record.name),
            (Ok(()), _) => {}
        }
    }
    first
}
