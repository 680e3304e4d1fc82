//! One run of a container's init, as the relay needs it, and how `runtime` makes one. The relay knows only
//! the trait, so that its tests drive it with plain processes.

use super::health::{HealthPlan, ProbeResult};
use super::{Config, Error, FailureKind, probe};
use crate::base::ErrorKind;
use crate::base::fs::{self, Context};
use crate::runtime::cgroup::{Group, OomWatch};
use crate::runtime::{self, Stdio};
use oci_spec::runtime::Spec;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long processes that got SIGKILL may take.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Why a container could not be made or started, as it is told to the client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        let kind = match kind {
            ErrorKind::CommandNotFound => FailureKind::NotFound,
            ErrorKind::CommandNotExecutable => FailureKind::NotExecutable,
            ErrorKind::Invalid => FailureKind::Invalid,
            _ => FailureKind::Other,
        };
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Failure { kind, message }
    }

    /// As a shell has it.
    pub(super) fn exit_code(&self) -> i32 {
        match self.kind {
            FailureKind::NotFound => 127,
            FailureKind::NotExecutable => 126,
            FailureKind::Invalid | FailureKind::Other => 128,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.kind(), &error)
    }
}

/// The monitor's ends of a container's standard streams, all non-blocking.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Master of the terminal, for its size; `stdin` and `stdout` are duplicates of it.
    pub(super) console: Option<OwnedFd>,
}

/// A created container that waits at its gate, later a running one.
pub(super) trait Run {
    fn pid(&self) -> i32;
    fn pidfd(&self) -> BorrowedFd<'_>;
    /// Opens the gate; Ok: the container's own program runs.
    fn start(&mut self) -> Result<(), Failure>;
    /// What the live facts say about its control groups.
    fn group(&self) -> Group;
    /// After the start, off the client's path: joins what is only needed for accounting.
    fn settle(&mut self) -> Result<(), Failure>;
    /// Processes of this run that the OOM killer has killed.
    fn oom_kills(&self) -> u64;
    /// A watch on further kills, once the run has settled; None where memory is not counted.
    fn oom_watch(&self) -> Option<OomWatch>;
    /// Begins a probe of its health in a process of its own, which is the caller's to reap (see `probe.rs`).
    fn probe(&self, plan: &HealthPlan, report: &mut dyn FnMut(ProbeResult)) -> Result<OwnedFd, Failure>;
    /// Ends every process that is left.
    fn kill_all(&mut self) -> Result<(), Failure>;
    /// Removes what the run left in the kernel; nothing of it runs any more.
    fn delete(&mut self) -> Result<(), Failure>;
}

pub(super) struct Made {
    pub(super) run: Box<dyn Run>,
    pub(super) streams: Streams,
}

/// Makes the first and, after a restart, every other run.
pub(super) type Maker<'a> = dyn FnMut() -> Result<Made, Failure> + 'a;

/// Makes containers with `runtime`. The OCI config is held only while one is made: for restarts it is read
/// again from a file.
pub(super) struct Containers {
    /// Present until the first run is made.
    first: Option<Config>,
    /// The configuration for the next runs and for probes (0600: it may hold secrets); None: there will be none.
    kept: Option<PathBuf>,
    netns: Option<OwnedFd>,
    /// The oom score adjustment that containers get when their config names none: the monitor's own
    /// protection must not be theirs.
    oom_score_adj: i32,
}

impl Containers {
    pub(super) fn new(config: Config, json: &[u8], netns: Option<OwnedFd>, oom_score_adj: i32) -> Result<Self, Error> {
        let kept = (!config.auto_remove || config.health.is_some()).then(|| config.container_dir.join("monitor.json"));
        if let Some(path) = &kept {
            fs::replace(path, json, 0o600)?;
        }
        Ok(Containers { first: Some(config), kept, netns, oom_score_adj })
    }

    fn config(&mut self) -> Result<Config, Error> {
        if let Some(config) = self.first.take() {
            return Ok(config);
        }
        read_again(self.kept.as_deref())
    }

    pub(super) fn make(&mut self) -> Result<Made, Failure> {
        let mut config = self.config()?;
        let mut spec: Spec = serde_json::from_value(config.spec.take()).map_err(|source| Error::Config { operation: "understood", source })?;
        self.protect_host(&mut spec);
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let group = Group::create(&config.cgroup_path, resources).map_err(|e| Failure::new(ErrorKind::Internal, &e))?;
        let made = self.create(&config, &spec, &group);
        match made {
            Ok((init, streams)) => Ok(Made { run: Box::new(Container { init, group, kept: self.kept.clone() }), streams }),
            Err(failure) => {
                if let Err(error) = group.delete() {
                    tracing::warn!("cannot remove the control group {}: {error}", group.path);
                }
                Err(failure)
            }
        }
    }

    fn protect_host(&self, spec: &mut Spec) {
        if let Some(process) = spec.process().clone()
            && process.oom_score_adj().is_none()
        {
            let mut process = process;
            process.set_oom_score_adj(Some(self.oom_score_adj));
            spec.set_process(Some(process));
        }
    }

    fn create(&self, config: &Config, spec: &Spec, group: &Group) -> Result<(runtime::Init, Streams), Failure> {
        let (stdio, mut streams) = stdio(config)?;
        let state = hook_state(config, spec);
        let request = runtime::Create {
            sources: &config.sources,
            user: Some(&config.user),
            keyring: Some(config.id.as_str()),
            netns: self.netns.as_ref().map(AsFd::as_fd),
            reaper: config.reaper,
            state: Some(&state),
            ..runtime::Create::new(spec, &config.root, stdio, group)
        };
        assert_single_threaded()?;
        let mut init = runtime::create(request).map_err(|e| Failure::new(e.kind(), &e))?;
        if let Some(console) = init.console.take() {
            streams = terminal(console)?;
        }
        Ok((init, streams))
    }
}

fn read_again(kept: Option<&Path>) -> Result<Config, Error> {
    let path = kept.ok_or(Error::Malformed("a restart of a container that is removed at its end"))?;
    serde_json::from_slice(&fs::read(path)?).map_err(|source| Error::Config { operation: "read again", source })
}

fn hook_state(config: &Config, spec: &Spec) -> runtime::hooks::State {
    runtime::hooks::State {
        oci_version: spec.version().clone(),
        id: config.id.as_str().to_owned(),
        bundle: config.container_dir.clone(),
        annotations: spec.annotations().clone().unwrap_or_default(),
    }
}

/// A thread would make the clone in `runtime::create` undefined (locks held for ever in the child).
fn assert_single_threaded() -> Result<(), Error> {
    let tasks = std::path::Path::new("/proc/self/task");
    let count = std::fs::read_dir(tasks).on("count the threads in", tasks)?.count();
    assert_eq!(count, 1, "invariant: the monitor has one thread");
    Ok(())
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))
}

pub(super) fn non_blocking(fd: &OwnedFd) -> Result<(), Error> {
    let set = || rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | rustix::fs::OFlags::NONBLOCK);
    set().map_err(Error::system("make a stream non-blocking"))
}

/// The container's and the monitor's ends of its streams. Only the monitor's are non-blocking.
fn stdio(config: &Config) -> Result<(Stdio, Streams), Error> {
    if config.tty {
        let (columns, rows) = config.console_size;
        return Ok((Stdio::Terminal { columns, rows }, Streams::default()));
    }
    let (stdin, writer) = if config.open_stdin {
        let (reader, writer) = pipe()?;
        non_blocking(&writer)?;
        (reader, Some(writer))
    } else {
        let null = std::path::Path::new("/dev/null");
        (std::fs::File::open(null).on("open", null)?.into(), None)
    };
    let (stdout_reader, stdout) = pipe()?;
    let (stderr_reader, stderr) = pipe()?;
    non_blocking(&stdout_reader)?;
    non_blocking(&stderr_reader)?;
    let streams = Streams { stdin: writer, stdout: Some(stdout_reader), stderr: Some(stderr_reader), console: None };
    Ok((Stdio::Pipes { stdin, stdout, stderr }, streams))
}

/// The streams of a container with a terminal: all three are its master.
pub(super) fn terminal(console: OwnedFd) -> Result<Streams, Error> {
    non_blocking(&console)?;
    let again = || console.try_clone().map_err(Error::system("duplicate a terminal"));
    Ok(Streams { stdin: Some(again()?), stdout: Some(again()?), stderr: None, console: Some(console) })
}

struct Container {
    init: runtime::Init,
    group: Group,
    /// See [`Containers::kept`].
    kept: Option<PathBuf>,
}

impl Container {
    /// Runs a command inside, as the container's own process runs: its environment, user, directory, rights and filter.
    fn exec(&self, command: &[String], stdio: Stdio) -> Result<runtime::Running, Failure> {
        let mut config = read_again(self.kept.as_deref())?;
        let spec: Spec = serde_json::from_value(config.spec.take()).map_err(|source| Error::Config { operation: "understood", source })?;
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(command.to_vec())).set_terminal(Some(false));
        let request = runtime::Exec {
            init_pidfd: self.init.pidfd.as_fd(),
            process: &process,
            user: Some(&config.user),
            keyring: Some(config.id.as_str()),
            spec: &spec,
            stdio,
            cgroup: &self.group,
            resctrl: None,
            preserve_fds: 0,
            state: Some(&hook_state(&config, &spec)),
        };
        runtime::exec(request).map_err(|e| Failure::new(e.kind(), &e))
    }
}

impl Run for Container {
    fn pid(&self) -> i32 {
        self.init.pid
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.init.start().map_err(|e| Failure::new(e.kind(), &e))
    }

    fn group(&self) -> Group {
        self.group.clone()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.group.join_accounting().map_err(|e| Failure::new(ErrorKind::Internal, &e))
    }

    fn oom_kills(&self) -> u64 {
        self.group.oom_kills()
    }

    fn oom_watch(&self) -> Option<OomWatch> {
        // Without the memory controller there is nothing to watch and nothing to say.
        self.group.oom_watch().ok()
    }

    fn probe(&self, plan: &HealthPlan, report: &mut dyn FnMut(ProbeResult)) -> Result<OwnedFd, Failure> {
        let exec = |stdio| self.exec(&plan.command, stdio);
        probe::begin(&mut probe::Order { timeout: plan.timeout, exec: &exec, report, init: self.init.pidfd.as_fd(), group: &self.group })
    }

    fn kill_all(&mut self) -> Result<(), Failure> {
        self.group.kill_all(KILL_PATIENCE).map_err(|e| Failure::new(ErrorKind::Internal, &e))
    }

    fn delete(&mut self) -> Result<(), Failure> {
        self.group.delete().map_err(|e| Failure::new(ErrorKind::Internal, &e))
    }
}
