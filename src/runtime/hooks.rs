//! Hooks: programs of the caller at six points of a container's life (runtime-spec config.md, "POSIX-platform Hooks").
//!
//! Invariant: a hook's program, arguments and environment are exactly the config's (an absent environment is an empty
//! one); it has the container's state on stdin, nothing else of ours open, and is reaped before [`run`] returns.
//!
//! | kind | runs | in | status | after a failure |
//! |---|---|---|---|---|
//! | prestart, createRuntime | before the pivot | the runtime's namespaces, cwd: the bundle | creating | create fails |
//! | createContainer | after these | the container's, path of the host, cwd: the root | creating | create fails |
//! | startContainer | behind the gate | the container's, as its process | created | start fails |
//! | poststart | after `execve` | the runtime's | running | start fails, the container is stopped |
//! | poststop | after the delete | the runtime's | stopped | the caller warns and goes on |

use super::error::{At, Error, Failure};
use super::terminal;
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use oci_spec::runtime::{ContainerState, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Largest state document: the most that a pipe takes at once without rights (pipe(7), pipe-max-size).
const STATE_LIMIT: usize = 1 << 20;
/// What a pipe holds unasked.
const PIPE_SIZE: usize = 1 << 16;
/// How much of a hook's last words an error quotes.
const LAST_WORDS: usize = 1024;

/// What is known of a container, without status and pid: those are filled in for each kind of hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the runtime-spec that the config names.
    pub oci_version: String,
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    pub annotations: HashMap<String, String>,
}

impl State {
    /// The document of runtime.md, "State"; without a pid for a container that has none.
    pub(super) fn describe(&self, status: ContainerState, pid: Option<i32>) -> oci_spec::runtime::State {
        let mut document = oci_spec::runtime::State::default();
        document.set_version(self.oci_version.clone()).set_id(self.id.clone()).set_status(status).set_pid(pid);
        document.set_bundle(self.bundle.clone());
        if !self.annotations.is_empty() {
            document.set_annotations(Some(self.annotations.clone()));
        }
        document
    }

    fn document(&self, status: ContainerState, pid: Option<i32>) -> Vec<u8> {
        serde_json::to_vec(&self.describe(status, pid)).expect("invariant: a state document has nothing that JSON cannot say")
    }
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Kind {
    /// Its key in the config.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Prestart => "prestart",
            Kind::CreateRuntime => "createRuntime",
            Kind::CreateContainer => "createContainer",
            Kind::StartContainer => "startContainer",
            Kind::Poststart => "poststart",
            Kind::Poststop => "poststop",
        }
    }

    fn status(self) -> ContainerState {
        match self {
            Kind::Prestart | Kind::CreateRuntime | Kind::CreateContainer => ContainerState::Creating,
            Kind::StartContainer => ContainerState::Created,
            Kind::Poststart => ContainerState::Running,
            Kind::Poststop => ContainerState::Stopped,
        }
    }

    /// Executed in the container's namespaces: they end with the stage that runs them.
    fn inside(self) -> bool {
        matches!(self, Kind::CreateContainer | Kind::StartContainer)
    }
}

/// One program, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hook {
    pub kind: Kind,
    /// Counted from 1 within its kind.
    pub number: usize,
    pub path: PathBuf,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    pub timeout: Option<Duration>,
}

/// The hooks that `create` and the init stage run, with what they are told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hooks {
    pub state: State,
    /// prestart, then createRuntime.
    pub runtime: Vec<Hook>,
    pub create: Vec<Hook>,
    pub start: Vec<Hook>,
}

impl Hooks {
    /// None when the config has no hook at all, which costs nothing.
    ///
    /// # Errors
    /// `Invalid` names the hook (of any kind: a poststop hook that cannot run is refused before anything is made);
    /// `Unsupported` when there are hooks and nobody gave a state.
    pub fn compile(spec: &Spec, state: Option<&State>) -> Result<Option<Box<Hooks>>, Error> {
        if spec.hooks().is_none() {
            return Ok(None);
        }
        let mut runtime = of(spec, Kind::Prestart)?;
        runtime.extend(of(spec, Kind::CreateRuntime)?);
        let (create, start) = (of(spec, Kind::CreateContainer)?, of(spec, Kind::StartContainer)?);
        let later = [of(spec, Kind::Poststart)?, of(spec, Kind::Poststop)?];
        if [&runtime, &create, &start, &later[0], &later[1]].into_iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let state = state.ok_or_else(|| Error::Unsupported("hooks".to_owned()))?.clone();
        Ok(Some(Box::new(Hooks { state, runtime, create, start })))
    }

    /// Hooks that may mount in the container, or make what its sysctls are about.
    pub fn before_pivot(&self) -> bool {
        !(self.runtime.is_empty() && self.create.is_empty())
    }
}

/// The hooks of one kind in the order of the config.
fn of(spec: &Spec, kind: Kind) -> Result<Vec<Hook>, Error> {
    let Some(hooks) = spec.hooks() else { return Ok(Vec::new()) };
    #[allow(deprecated)]
    let list = match kind {
        Kind::Prestart => hooks.prestart(),
        Kind::CreateRuntime => hooks.create_runtime(),
        Kind::CreateContainer => hooks.create_container(),
        Kind::StartContainer => hooks.start_container(),
        Kind::Poststart => hooks.poststart(),
        Kind::Poststop => hooks.poststop(),
    };
    list.iter().flatten().enumerate().map(|(index, hook)| compile(kind, index + 1, hook)).collect()
}

fn compile(kind: Kind, number: usize, hook: &oci_spec::runtime::Hook) -> Result<Hook, Error> {
    let path = hook.path().clone();
    let wrong = |what: &str| Error::Invalid(format!("hook {number} of {} (\"{}\") {what}", kind.name(), path.display()));
    if !path.is_absolute() {
        return Err(wrong("must have an absolute path"));
    }
    let texts = |list: &[String]| -> Result<Vec<CString>, Error> {
        list.iter().map(|text| CString::new(text.as_str()).map_err(|_| wrong("has an argument or variable with a NUL byte"))).collect()
    };
    // execv(3): args[0] is the name the program is called by; without arguments it is the path.
    let args = match hook.args().as_deref().unwrap_or_default() {
        [] => vec![CString::new(path.as_os_str().as_bytes()).map_err(|_| wrong("has a path with a NUL byte"))?],
        args => texts(args)?,
    };
    let env = texts(hook.env().as_deref().unwrap_or_default())?;
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(wrong("has a timeout that is not greater than zero")),
        },
    };
    Ok(Hook { kind, number, path, args, env, timeout })
}

/// Runs the hooks of one kind in the runtime's namespaces, in order, up to the first that fails. For poststart;
/// the others belong to [`super::create`].
///
/// # Errors
/// The hook that failed and how; `Threads` when the caller has several.
pub fn run(spec: &Spec, kind: Kind, state: &State, pid: Option<i32>) -> Result<(), Error> {
    let hooks = of(spec, kind)?;
    if hooks.is_empty() {
        return Ok(());
    }
    let proof = SingleThreaded::check().ok_or(Error::Threads)?;
    run_here(&hooks, state, pid, proof)
}

/// Runs all poststop hooks; a failure is a warning and does not stop the others (runtime.md, "Lifecycle").
pub fn run_poststop(spec: &Spec, state: &State) -> Vec<Error> {
    let hooks = match of(spec, Kind::Poststop) {
        Ok(hooks) => hooks,
        Err(error) => return vec![error],
    };
    let one = |hook: &Hook| {
        let proof = SingleThreaded::check().ok_or(Error::Threads)?;
        run_here(std::slice::from_ref(hook), state, None, proof)
    };
    hooks.iter().filter_map(|hook| one(hook).err()).collect()
}

/// In the runtime's namespaces, from the bundle.
pub(super) fn run_here(hooks: &[Hook], state: &State, pid: Option<i32>, proof: SingleThreaded) -> Result<(), Error> {
    // A bundle that is gone when its container is deleted is no reason to run no hook.
    let place = || rustix::process::chdir(&state.bundle).or_else(|_| rustix::process::chdir("/")).at("leave the bundle");
    hooks.iter().try_for_each(|hook| hook.run(state, pid, proof, &place)).map_err(Error::from)
}

/// In the container's namespaces, from the init stage. `place` makes a forked child what the hook is to be.
pub(super) fn run_inside(hooks: &[Hook], state: &State, proof: SingleThreaded, place: &dyn Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    // The pid as seen in the container (runtime.md, "State").
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    hooks.iter().try_for_each(|hook| hook.run(state, Some(pid), proof, place))
}

/// How a hook ended.
enum End {
    Done(Option<i32>, Option<i32>),
    Late,
}

/// The parent's ends of a running hook.
struct Started {
    pidfd: OwnedFd,
    /// What it writes to stdout and stderr.
    output: OwnedFd,
    /// Why it could not be executed; closed by a successful `execve`.
    report: OwnedFd,
}

impl Hook {
    fn run(&self, state: &State, pid: Option<i32>, proof: SingleThreaded, place: &dyn Fn() -> Result<(), Failure>) -> Result<(), Failure> {
        let document = state.document(self.kind.status(), pid);
        let started = self.launch(&document, proof, place)?;
        let (end, words) = started.attend(self.timeout)?;
        let mut report = Vec::new();
        if let Ok(count) = read_some(started.report.as_fd(), &mut report)
            && count > 0
        {
            let failure = Failure::decode(&report).unwrap_or_else(|| Failure::step("run the hook", Errno::PROTO));
            let errno = if failure.errno == 0 { String::new() } else { format!(": {}", std::io::Error::from_raw_os_error(failure.errno)) };
            return Err(self.failure(&format!("cannot {}{errno}", failure.text)));
        }
        let quote = |what: String| if words.is_empty() { what } else { format!("{what}: {words}") };
        match end {
            End::Done(Some(0), _) => Ok(()),
            End::Done(Some(code), _) => Err(self.failure(&quote(format!("exited with {code}")))),
            End::Done(None, signal) => Err(self.failure(&quote(format!("was killed by signal {}", signal.unwrap_or(0))))),
            End::Late => Err(self.failure(&quote(format!("did not end within {} s and was killed", self.timeout.unwrap_or_default().as_secs())))),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::hook(format!("hook {} of {} (\"{}\") {what}", self.number, self.kind.name(), self.path.display()))
    }

    fn launch(&self, document: &[u8], proof: SingleThreaded, place: &dyn Fn() -> Result<(), Failure>) -> Result<Started, Failure> {
        let stdin = self.filled(document)?;
        let (output, written) = pipe()?;
        let (report, reported) = pipe()?;
        match fork(proof, 0, None).at("clone a process for a hook")? {
            Forked::Child => {
                let failure = match self.become_hook(&stdin, &written, place) {
                    Ok(error) => Failure::step("execute it", error),
                    Err(failure) => failure,
                };
                // If the parent is gone there is nobody to tell.
                rustix::io::write(&reported, &failure.encode()).ok();
                sys::exit(127)
            }
            Forked::Parent { pidfd, .. } => {
                drop((stdin, written, reported));
                for end in [&output, &report] {
                    rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).at("read from a hook without waiting")?;
                }
                Ok(Started { pidfd, output, report })
            }
        }
    }

    /// A pipe that holds the whole document: nobody has to wait for a hook that does not read it.
    fn filled(&self, document: &[u8]) -> Result<OwnedFd, Failure> {
        if document.len() > STATE_LIMIT {
            return Err(self.failure("cannot be given the container's state: with its annotations it is larger than 1 MiB"));
        }
        let (read, write) = pipe()?;
        if document.len() > PIPE_SIZE {
            rustix::pipe::fcntl_setpipe_size(&write, document.len()).at("make a pipe for the container's state")?;
        }
        let mut rest = document;
        while !rest.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&write, rest)).at("write the container's state")?;
            rest = &rest[count..];
        }
        Ok(read)
    }

    /// In the forked child; returns only why it is still here.
    fn become_hook(&self, stdin: &OwnedFd, output: &OwnedFd, place: &dyn Fn() -> Result<(), Failure>) -> Result<std::io::Error, Failure> {
        terminal::duplicate(stdin.as_fd(), output.as_fd(), output.as_fd())?;
        sys::reset_signals();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        sys::cloexec_from(3).at("mark descriptors close-on-exec")?;
        if self.kind.inside() {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at("follow the stage's death")?;
        }
        place()?;
        let path = CString::new(self.path.as_os_str().as_bytes()).map_err(|_| Failure::invalid("the path contains a NUL byte"))?;
        Ok(sys::execve(&path, &self.args, &self.env))
    }
}

impl Started {
    /// Waits for its end, or kills it (and only it) when its time is over. Its descendants may hold its streams for
    /// longer: they are not waited for.
    fn attend(&self, timeout: Option<Duration>) -> Result<(End, String), Failure> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut tail = Vec::new();
        let mut open = true;
        let late = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Also for one that writes without end.
            if left.is_some_and(|left| left.is_zero()) {
                break true;
            }
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&self.output, PollFlags::IN));
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => continue,
                other => other.at("wait for a hook")?,
            };
            let (ended, spoke) = (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()));
            if spoke {
                open = read_some(self.output.as_fd(), &mut tail).at("read from a hook")? > 0;
            }
            if ended {
                break false;
            }
        };
        if late {
            pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        }
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)).at("wait for a hook")?;
        while open && read_some(self.output.as_fd(), &mut tail).is_ok_and(|count| count > 0) {}
        let end = match status {
            _ if late => End::Late,
            Some(status) => End::Done(status.exit_status(), status.terminating_signal()),
            None => End::Done(None, None),
        };
        Ok((end, last_words(&tail)))
    }
}

/// Appends what is there and keeps the last [`LAST_WORDS`] bytes twice over; 0 at the end of the stream.
fn read_some(fd: BorrowedFd<'_>, tail: &mut Vec<u8>) -> rustix::io::Result<usize> {
    let mut buffer = [0; 4096];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer))?;
    tail.extend_from_slice(&buffer[..count]);
    if tail.len() > 2 * buffer.len() {
        tail.drain(..tail.len() - buffer.len());
    }
    Ok(count)
}

/// The last lines, on one.
fn last_words(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(&tail[tail.len().saturating_sub(LAST_WORDS)..]);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

/// Both ends above the standard streams, which a hook's child overwrites.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at("make a pipe for a hook")?;
    let raise = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, 3).at("make a pipe for a hook");
    Ok((raise(read)?, raise(write)?))
}

/// What a createContainer hook is: a process in the container's namespaces, at its root, seeing the host's paths.
pub(super) fn at_root(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).at("enter the root")
}
