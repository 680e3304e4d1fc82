//! `RUN`: what is executed, what is mounted for it, and its key.

use super::cache::{self, Solved, Work};
use super::dockerfile::{Handed, RunNetwork, Security};
use super::error::{Error, Result};
use super::key::Key;
use super::mounts::{self, Mounts};
use super::platform;
use super::progress::Begun;
use super::running::relay;
use super::stage::StageRun;
use super::state::{RunStep, SCRIPTS};
use crate::base::fs;
use crate::base::fs::Context as _;
use crate::engine::{BuildStep, Sandbox, StepMount, StepSource};
use crate::image::Draft;
use crate::state::record::{HostSpec, NetworkMode};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, pipe_with};
use std::cell::OnceCell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Name of the host that steps believe to be on, as BuildKit calls it.
const HOSTNAME: &str = "buildkitsandbox";
/// Longest name of a host (sethostname(2)).
const HOSTNAME_LIMIT: usize = 64;

/// Runs the instruction, or finds what it did.
///
/// # Errors
/// The process failed or could not be started; something to be mounted is not there.
pub fn run(stage: &mut StageRun<'_, '_>, description: &str, run: &RunStep, begun: &Begun<'_>) -> Result<Solved> {
    let network = network(stage, run.network)?;
    if run.security == Security::Insecure && !stage.solver.request.allow.insecure {
        let hint = Some("allow it with --allow security.insecure".to_owned());
        return Err(Error::Invalid { message: "RUN --security=insecure is not allowed".to_owned(), hint });
    }
    let hostname = hostname(stage)?;
    let mounts = mounts::resolve(stage, &run.mounts, &run.directory)?;
    let mut key = Key::new("run", stage.below());
    key.list("argv", run.argv.iter());
    key.field("script", run.script.as_ref().map_or("", |(_, body)| body));
    key.list("environment", run.environment.iter());
    key.field("directory", &run.directory);
    key.field("user", run.user.as_deref().unwrap_or_default());
    key.field("platform", stage.platform.to_string());
    key.field("network", format!("{network:?}"));
    key.field("security", format!("{:?}", run.security));
    if hostname != HOSTNAME {
        key.field("hostname", &hostname);
    }
    mounts.add_to(&mut key);
    let below = stage.layers.clone();
    let work = Work { key: key.finish(), description, below: &below, anew: stage.anew, shared: stage.solver.shared, begun };
    cache::solve(stage.engine, &work, |draft| {
        execute(stage, draft, run, &mounts, (network, &hostname), begun)?;
        Ok(true)
    })
}

fn network(stage: &StageRun<'_, '_>, asked: RunNetwork) -> Result<NetworkMode> {
    let request = stage.solver.request;
    match asked {
        RunNetwork::Default => Ok(request.host.network.clone()),
        RunNetwork::None => Ok(NetworkMode::None),
        RunNetwork::Host if request.allow.host_network || request.host.network == NetworkMode::Host => Ok(NetworkMode::Host),
        RunNetwork::Host => Err(Error::Invalid {
            message: "RUN --network=host is not allowed".to_owned(),
            hint: Some("allow it with --allow network.host".to_owned()),
        }),
    }
}

/// `BUILDKIT_SANDBOX_HOSTNAME`, or the usual name.
fn hostname(stage: &StageRun<'_, '_>) -> Result<String> {
    let Some(name) = stage.solver.request.arguments.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()) else {
        return Ok(HOSTNAME.to_owned());
    };
    // As hostname(7) and sethostname(2) have it.
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.len() > HOSTNAME_LIMIT || !name.bytes().all(fine) {
        return Err(Error::invalid(format!("--build-arg BUILDKIT_SANDBOX_HOSTNAME={name}: this is no name of a host")));
    }
    Ok(name.clone())
}

fn execute(
    stage: &mut StageRun<'_, '_>,
    draft: &Draft,
    run: &RunStep,
    mounts: &Mounts,
    (network, hostname): (NetworkMode, &str),
    begun: &Begun<'_>,
) -> Result<()> {
    let roots = &stage.engine.privilege.roots;
    let root = draft.overlay(roots, &stage.engine.db, &stage.layers)?;
    let host = HostSpec { network: network.clone(), ..stage.solver.request.host.clone() };
    let request = stage.solver.request;
    let cancel = stage.solver.cancel;
    let watch = OnceCell::new();
    let sandbox = sandbox(&mut stage.sandboxes, stage.engine, hostname, network, host)?;
    let mut given = Given { directory: sandbox.private(), files: Vec::new(), mounts: Vec::new() };
    let mut env: Vec<String> = run.proxies.iter().chain(&run.environment).cloned().collect();
    if let Some((name, script)) = &run.script {
        given.file(script.as_bytes(), &Path::new(SCRIPTS).join(name), 0o755, (0, 0))?;
    }
    for handed in &mounts.secrets {
        given.secret(handed, request.secrets.get(&handed.id), &mut env)?;
    }
    for (number, handed) in mounts.agents.iter().enumerate() {
        given.agent(handed, request.agents.get(&handed.id), number, &mut env)?;
    }
    let held = mounts.hold(stage.engine, given.mounts.clone())?;
    let (stdout_reader, stdout) = pipe()?;
    let (stderr_reader, stderr) = pipe()?;
    let step = BuildStep {
        root: &root,
        args: &run.argv,
        env: &env,
        workdir: &run.directory,
        user: run.user.as_deref().unwrap_or_default(),
        mounts: &held.mounts,
        insecure: run.security == Security::Insecure,
        stdin: None,
        stdout,
        stderr,
        // The stage kills the step when its socket is shut down; one that has ended is none to end.
        started: &|socket| {
            let end = move || {
                shutdown(&socket, Shutdown::Both).ok();
            };
            drop(watch.set(cancel.watch(end)));
        },
    };
    let end = std::thread::scope(|scope| {
        scope.spawn(|| relay(begun, stdout_reader, stderr_reader));
        sandbox.run(step)
    });
    drop(given);
    let end = match end {
        _ if cancel.is_cancelled() => return Err(Error::Cancelled),
        other => other.map_err(|error| platform::explain(error, &stage.platform, &run.argv.join(" ")))?,
    };
    if end.code == 0 {
        return Ok(());
    }
    Err(Error::Process { command: run.argv.join(" "), code: end.code, oom: end.oom })
}

fn pipe() -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC).on("make", Path::new("a pipe"))?)
}

fn sandbox<'l, 'e>(
    all: &'l mut Vec<(NetworkMode, Sandbox<'e>)>,
    engine: &'e crate::engine::Engine,
    hostname: &str,
    network: NetworkMode,
    host: HostSpec,
) -> Result<&'l mut Sandbox<'e>> {
    let at = match all.iter().position(|(mode, _)| *mode == network) {
        Some(at) => at,
        None => {
            all.push((network, engine.sandbox(hostname, host)?));
            all.len() - 1
        }
    };
    Ok(&mut all[at].1)
}

/// Files that exist for one step alone, in memory.
struct Given {
    directory: PathBuf,
    files: Vec<PathBuf>,
    mounts: Vec<StepMount>,
}

impl Given {
    fn file(&mut self, bytes: &[u8], target: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
        let path = self.directory.join(format!("given-{}", self.files.len()));
        fs::replace(&path, bytes, 0o600)?;
        self.files.push(path.clone());
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).on("change the owner of", &path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).on("change the mode of", &path)?;
        self.mounts.push(StepMount { target: target.to_path_buf(), read_only: true, source: StepSource::Host(path) });
        Ok(())
    }

    fn secret(&mut self, handed: &Handed, source: Option<&super::SecretSource>, env: &mut Vec<String>) -> Result<()> {
        let Some(source) = source else {
            return if handed.required { Err(absent("secret", &handed.id, "--secret id=")) } else { Ok(()) };
        };
        let bytes = source.read()?;
        if let Some(variable) = &handed.env {
            let text =
                String::from_utf8(bytes.clone()).map_err(|_| Error::invalid(format!("secret {} is not text: it cannot be a variable", handed.id)))?;
            env.push(format!("{variable}={text}"));
        }
        let usual = || handed.env.is_none().then(|| format!("/run/secrets/{}", handed.id));
        if let Some(target) = handed.target.clone().or_else(usual) {
            self.file(&bytes, Path::new(&target), handed.mode, (handed.uid, handed.gid))?;
        }
        Ok(())
    }

    fn agent(&mut self, handed: &Handed, socket: Option<&PathBuf>, number: usize, env: &mut Vec<String>) -> Result<()> {
        let Some(socket) = socket else {
            return if handed.required { Err(absent("SSH agent", &handed.id, "--ssh ")) } else { Ok(()) };
        };
        let target = handed.target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        if number == 0 {
            env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        self.mounts.push(StepMount { target: target.into(), read_only: false, source: StepSource::Host(socket.clone()) });
        Ok(())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        for path in &self.files {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!("{error}: {}", error.source);
            }
        }
    }
}

fn absent(what: &str, id: &str, flag: &str) -> Error {
    Error::Invalid { message: format!("{what} {id} is required and was not given"), hint: Some(format!("give it with {flag}{id}")) }
}
