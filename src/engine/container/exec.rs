//! exec: another process in a running container, with the container's environment, user and limits as defaults.

use super::super::request::{ExecRequest, ExecStdio};
use super::super::{Engine, Error, Result};
use super::oci_config;
use super::resources::HostFacts;
use super::view::init_pidfd;
use crate::base::ErrorKind;
use crate::monitor::Live;
use crate::runtime::{self, Exec, Stdio, User};
use crate::state::record::{Container, IpcMode, PidMode};
use oci_spec::runtime::{Process, Spec};
use std::os::fd::AsFd;

impl Engine {
    /// Runs a process in a running container; the caller is its parent and relays its streams.
    ///
    /// # Errors
    /// The container is not running or paused, or the command cannot be executed (kinds as of [`runtime::exec`]).
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<runtime::Running> {
        let record = self.find(name)?;
        let not_running = || Error::Conflict { message: format!("container {name} is not running"), hint: Some("start it first".to_owned()) };
        if request.command.is_empty() {
            return Err(Error::invalid("no exec command specified"));
        }
        let live = Live::read(&self.privilege.roots.live(&record.id)).ok_or_else(not_running)?;
        let Some(pidfd) = init_pidfd(&live) else { return Err(not_running()) };
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
        let stdio = match &request.stdio {
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
        };
        Ok(runtime::exec(Exec {
            init_pidfd: pidfd.as_fd(),
            process: &process,
            user: Some(&user),
            keyring: Some(record.id.as_str()),
            spec: &spec,
            stdio,
            cgroup: &live.cgroup,
            resctrl: None,
            preserve_fds: 0,
            state: Some(&state),
        })?)
    }

    /// The config that a running container was made from. Namespaces are joined through its init process, so other
    /// containers, whose namespaces it once joined, need not run any more.
    fn spec_of_running(&self, record: &Container) -> Result<Spec> {
        let facts = HostFacts::read();
        let mut alone = record.clone();
        if matches!(alone.spec.host.ipc, IpcMode::Container(_)) {
            alone.spec.host.ipc = IpcMode::Private;
        }
        if matches!(alone.spec.host.pid, PidMode::Container(_)) {
            alone.spec.host.pid = PidMode::Private;
        }
        // Device nodes exist already; the cgroup is the container's.
        alone.spec.host.devices.clear();
        let inputs = self.inputs(&alone, &facts)?;
        oci_config::spec(&alone, &inputs)
    }
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
            return Err(Error::invalid(format!("the working directory \"{workdir}\" is invalid: it needs to be an absolute path")));
        }
        process.set_cwd(workdir.into());
    }
    if request.privileged {
        let all = crate::runtime::capability::resolve(&[], &[], true).map_err(|e| Error::invalid(e.to_string()))?;
        process.set_capabilities(Some(oci_config::capability_sets(&all))).set_apparmor_profile(Some("unconfined".to_owned()));
    }
    Ok(process)
}
