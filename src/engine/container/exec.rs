//! exec: another process in a running container, with the container's environment, user and limits as defaults.

mod apart;

pub use apart::Apart;
pub(in crate::engine) use apart::stage as exec_stage;

use super::super::request::{ExecRequest, ExecStdio};
use super::super::{Engine, Error, ExecEnd, Execution, Result, Status, events};
use super::oci_config;
use super::remove::failpoint_at;
use super::resources::HostFacts;
use super::view::init_pidfd;
use crate::base::ErrorKind;
use crate::monitor::Live;
use crate::runtime::{self, Exec, Stdio, User};
use crate::state::record::{Container, IpcMode, NetworkMode, PidMode, UsernsMode};
use oci_spec::runtime::{Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Everything that an exec needs but its streams.
struct Plan {
    record: Container,
    live: Live,
    pidfd: OwnedFd,
    spec: Spec,
    process: Process,
    user: User,
    state: runtime::hooks::State,
}

impl Engine {
    /// Runs a process in a running container; the caller, which has no other thread, is its parent and relays its streams.
    ///
    /// # Errors
    /// The container is not running or paused, or the command cannot be executed (kinds as of [`runtime::exec`]).
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<Execution> {
        let plan = self.plan_exec(name, request)?;
        let stdio = streams(request)?;
        let (begun, ended) = self.exec_events(&plan, request)?;
        let running = runtime::exec(Exec {
            init_pidfd: plan.pidfd.as_fd(),
            process: &plan.process,
            user: Some(&plan.user),
            keyring: Some(plan.record.id.as_str()),
            spec: &plan.spec,
            stdio,
            cgroup: &plan.live.cgroup,
            resctrl: None,
            preserve_fds: 0,
            state: Some(&plan.state),
        });
        let running = running.map_err(|error| if has_ended(plan.pidfd.as_fd()) { ended_meanwhile(name) } else { error.into() })?;
        self.emit([begun]);
        Ok(Execution { running, ended })
    }

    /// [`Engine::exec`] for a caller with threads: the parent of the process is another one.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub fn exec_apart(&self, name: &str, request: &ExecRequest) -> Result<Apart> {
        let plan = self.plan_exec(name, request)?;
        let stdio = streams(request)?;
        let (begun, ended) = self.exec_events(&plan, request)?;
        let apart = apart::run(&plan, stdio, ended);
        let apart = apart.map_err(|error| if has_ended(plan.pidfd.as_fd()) { ended_meanwhile(name) } else { error })?;
        self.emit([begun]);
        Ok(apart)
    }

    /// Tells that the exec is made; the event of its start, and that of its end.
    fn exec_events(&self, plan: &Plan, request: &ExecRequest) -> Result<(crate::state::events::Event, ExecEnd)> {
        let id = crate::base::random_hex(64);
        let event = |action: &str| events::of_container(&plan.record, action).with("execID", &id);
        let command = request.command.join(" ");
        self.emit([event(&format!("exec_create: {command}"))]);
        failpoint_at("engine.exec.ready")?;
        let ended = ExecEnd { roots: self.privilege.roots.clone(), event: event("exec_die") };
        Ok((event(&format!("exec_start: {command}")), ended))
    }

    fn plan_exec(&self, name: &str, request: &ExecRequest) -> Result<Plan> {
        let record = self.find(name)?;
        if request.command.is_empty() {
            return Err(Error::invalid("no exec command specified"));
        }
        let (record, live, pidfd) = match self.init_of(&record) {
            Some((live, pidfd)) => (record, live, pidfd),
            // Its monitor was killed, perhaps, and it is to come back.
            None => self.init_of_revived(name)?,
        };
        super::view::require_started(&live, name)?;
        if live.cgroup.is_frozen() {
            return Err(Error::Conflict { message: format!("container {name} is paused"), hint: Some("unpause it before exec".to_owned()) });
        }
        let spec = self.spec_of_running(&record)?;
        let process = process(&record, request, &spec)?;
        let user = User {
            name: request.user.clone().unwrap_or_else(|| record.spec.process.user.clone()),
            groups: if request.user.is_none() { record.spec.host.group_add.clone() } else { Vec::new() },
        };
        let state = runtime::hooks::State {
            oci_version: spec.version().clone(),
            id: record.id.as_str().to_owned(),
            bundle: self.privilege.roots.container(&record.id),
            annotations: spec.annotations().clone().unwrap_or_default(),
        };
        Ok(Plan { record, live, pidfd, spec, process, user, state })
    }

    /// Live facts and init of a container that runs.
    fn init_of(&self, record: &Container) -> Option<(Live, OwnedFd)> {
        let live = Live::read(&self.privilege.roots.live(&record.id))?;
        let pidfd = init_pidfd(&live)?;
        Some((live, pidfd))
    }

    fn init_of_revived(&self, name: &str) -> Result<(Container, Live, OwnedFd)> {
        let view = self.view_revived(name)?;
        match (self.init_of(&view.record), view.status) {
            (Some((live, pidfd)), _) => Ok((view.record, live, pidfd)),
            (None, Status::Restarting) => Err(Error::Conflict {
                message: format!("container {name} is restarting"),
                hint: Some(format!("wait until it runs: rcon wait --condition running {name}")),
            }),
            (None, _) => Err(Error::Conflict { message: format!("container {name} is not running"), hint: Some("start it first".to_owned()) }),
        }
    }

    /// The config that a running container was made from. Namespaces are joined through its init process, so other
    /// containers, whose namespaces it once joined, need not run any more.
    fn spec_of_running(&self, record: &Container) -> Result<Spec> {
        let facts = HostFacts::read();
        let mut alone = record.clone();
        if matches!(alone.spec.host.ipc, IpcMode::Container(_) | IpcMode::Pod) {
            alone.spec.host.ipc = IpcMode::Private;
        }
        if matches!(alone.spec.host.pid, PidMode::Container(_)) {
            alone.spec.host.pid = PidMode::Private;
        }
        alone.spec.host.userns = match std::mem::take(&mut alone.spec.host.userns) {
            UsernsMode::Container { uids, gids, .. } | UsernsMode::Path { uids, gids, .. } => UsernsMode::Mapped { uids, gids },
            own => own,
        };
        if matches!(alone.spec.host.network, NetworkMode::Container(_)) && alone.spec.host.userns != UsernsMode::Host {
            alone.spec.host.network = NetworkMode::None;
        }
        // Device nodes exist already; the cgroup is the container's.
        alone.spec.host.devices.clear();
        // What the container was linked to, and what described its devices, may be gone by now.
        if self.linked(&alone).is_err() {
            alone.spec.host.links.clear();
        }
        if super::cdi::look_up(&alone.spec.host.cdi).is_err() {
            alone.spec.host.cdi.clear();
        }
        let inputs = self.inputs(&alone, &facts)?;
        oci_config::spec(&alone, &inputs)
    }
}

impl ExecEnd {
    /// Tells that the exec has ended.
    pub fn tell(self, code: i32) {
        crate::state::events::emit(&self.roots, [self.event.with("exitCode", code)]);
    }
}

fn streams(request: &ExecRequest) -> Result<Stdio> {
    Ok(match &request.stdio {
        ExecStdio::Terminal => Stdio::Terminal { columns: request.console.0, rows: request.console.1 },
        ExecStdio::Pipes(ends) => {
            let end = |i: usize| {
                ends[i].try_clone().map_err(|source| Error::Failed {
                    operation: "hand over the streams".to_owned(),
                    kind: ErrorKind::Internal,
                    source: Box::new(source),
                })
            };
            Stdio::Pipes { stdin: end(0)?, stdout: end(1)?, stderr: end(2)? }
        }
    })
}

/// Init is dead: whatever else went wrong came of that.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn ended_meanwhile(name: &str) -> Error {
    Error::conflict(format!("container {name} has ended before the command could be started in it"))
}

fn process(record: &Container, request: &ExecRequest, spec: &Spec) -> Result<Process> {
    let mut process = spec.process().clone().unwrap_or_default();
    let mut env = process.env().clone().unwrap_or_default();
    if request.tty && !record.spec.process.tty {
        let given: Vec<String> = std::mem::take(&mut env);
        env = vec!["TERM=xterm".to_owned()];
        oci_config::overlay(&mut env, &given);
    }
    oci_config::overlay(&mut env, &request.env);
    process.set_args(Some(request.command.clone())).set_env(Some(env)).set_terminal(Some(request.tty));
    if let Some(workdir) = request.workdir.as_deref().filter(|w| !w.is_empty()) {
        if !workdir.starts_with('/') {
            let message = format!("the working directory \"{workdir}\" is invalid: it needs to be an absolute path");
            return Err(runtime::Error::Invalid(message).into());
        }
        process.set_cwd(workdir.into());
    }
    if request.privileged {
        let all = crate::runtime::capability::resolve(&[], &[], true).map_err(|e| Error::invalid(e.to_string()))?;
        process.set_capabilities(Some(oci_config::capability_sets(&all))).set_apparmor_profile(Some("unconfined".to_owned()));
    }
    Ok(process)
}
