//! From a stage inside the container to the program: streams, user, rights, `execve`. Shared by `create` and `exec`.

use super::channel::Channel;
use super::command;
use super::credentials::{self, Final};
use super::error::{At, Failure};
use super::process::ProcessPlan;
use super::user::{self, Account};
use super::{Stdio, hooks, label, reaper, terminal};
use crate::sys::clone::SingleThreaded;
use crate::sys::own_strings::OwnStrings;
use crate::sys::process as sys;
use rustix::fs::{FileType, Mode, OFlags, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const EMPTY_HOME: &str = "HOME=";

/// The streams as the stage holds them; all descriptors are above 2.
pub(super) enum Streams {
    Pipes([OwnedFd; 3]),
    Terminal { columns: u16, rows: u16 },
    Inherit,
}

impl Streams {
    pub fn new(stdio: Stdio) -> Result<Self, Failure> {
        // A descriptor in the place of a standard stream would be overwritten before it is duplicated.
        let raise = |fd: OwnedFd| -> Result<OwnedFd, Failure> {
            use std::os::fd::AsRawFd;
            if fd.as_raw_fd() > 2 { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, 3).at("duplicate a standard stream") }
        };
        Ok(match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => Streams::Pipes([raise(stdin)?, raise(stdout)?, raise(stderr)?]),
            Stdio::Terminal { columns, rows } => Streams::Terminal { columns, rows },
            Stdio::Inherit => Streams::Inherit,
        })
    }

    /// Root of a user namespace can open its own streams again by /dev/stdout only if it owns them. Only pipes are
    /// handed over, and from here: inside, their present owner has no name.
    pub fn give_to(&self, owner: Option<(u32, u32)>) -> Result<(), Failure> {
        let Some((uid, gid)) = owner else { return Ok(()) };
        let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let streams = if matches!(self, Streams::Inherit) { own.to_vec() } else { self.fds() };
        for stream in streams {
            let kind = FileType::from_raw_mode(fstat(stream).at("examine a standard stream")?.st_mode);
            if kind == FileType::Fifo {
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                match fchown(stream, Some(uid), Some(gid)) {
                    // A caller without rights gives away nothing, and its pipe stays its own.
                    Err(Errno::PERM) => {}
                    other => other.at("hand over a standard stream")?,
                }
            }
        }
        Ok(())
    }

    /// Takes the place of the caller's own standard streams, which may be files of the host: at once, for a stage that the
    /// container can see before it is prepared.
    pub fn settle(&self) -> Result<(), Failure> {
        match self {
            Streams::Pipes([stdin, stdout, stderr]) => terminal::duplicate(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()),
            Streams::Terminal { .. } => {
                let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open /dev/null")?;
                terminal::duplicate(null.as_fd(), null.as_fd(), null.as_fd())
            }
            Streams::Inherit => Ok(()),
        }
    }

    pub fn size(&self) -> Option<(u16, u16)> {
        match self {
            Streams::Pipes(_) | Streams::Inherit => None,
            Streams::Terminal { columns, rows } => Some((*columns, *rows)),
        }
    }

    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Streams::Pipes(fds) => fds.iter().map(AsFd::as_fd).collect(),
            Streams::Terminal { .. } | Streams::Inherit => Vec::new(),
        }
    }
}

/// First acts of every stage: nothing of the parent's stays open, no signal setting is inherited, and
/// nobody in the container can look inside (`hide`). `preserved` descriptors from 3 on stay.
pub(super) fn begin(keep: &[BorrowedFd<'_>], preserved: u32, hide: bool) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
    if hide {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide the stage")?;
    }
    sys::close_others(3 + preserved, keep).at("close inherited descriptors")?;
    sys::reset_signals();
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().at("make a session").map(drop)
}

/// Ready to execute: everything that can fail for the container's sake has been done.
pub(super) struct Prepared {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    name: String,
    rights: Final,
    no_new_privileges: bool,
}

/// Becomes the process's user in the container's root ("/"), with its streams in place, and finds its program.
pub(super) fn prepare(
    plan: &ProcessPlan,
    streams: &Streams,
    peer: Option<BorrowedFd<'_>>,
    labels: label::Attributes,
    preserved: u32,
) -> Result<Prepared, Failure> {
    match (streams, peer) {
        (Streams::Inherit, _) => {}
        (Streams::Pipes([stdin, stdout, stderr]), _) => terminal::duplicate(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())?,
        (Streams::Terminal { .. }, Some(peer)) => terminal::take(peer)?,
        (Streams::Terminal { .. }, None) => return Err(Failure::invalid("the terminal was not opened")),
    }
    credentials::limit(plan)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open the root")?;
    let has_home = plan.env.iter().any(|entry| entry.starts_with("HOME=") && entry != EMPTY_HOME);
    let account = user::resolve(root.as_fd(), &plan.identity, !has_home)?;
    // No directory is open when the config's working directory is entered: "/proc/self/fd/N" leads nowhere (CVE-2024-21626).
    drop(root);
    let env = environment(plan, &account, has_home)?;
    own_streams(&account)?;
    enter(plan)?;
    labels.write(&plan.labels)?;
    if let Some(keyring) = &plan.keyring {
        keyring.join()?;
    }
    let rights = credentials::assume(plan, &account)?;
    // A change of ids resets both.
    set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide the stage")?;
    let name = plan.args.first().cloned().unwrap_or_default();
    let path = command::find(&name, &plan.env)?;
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    sys::cloexec_from(3 + preserved).at("mark descriptors close-on-exec")?;
    let args = plan.args.iter().map(|text| text_of(text)).collect::<Result<_, _>>()?;
    Ok(Prepared { path, args, env, name, rights, no_new_privileges: plan.no_new_privileges })
}

fn text_of(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::invalid("an argument or environment variable contains a NUL byte"))
}

/// HOME comes from passwd when the config has none, or an empty one (as runc has it).
fn environment(plan: &ProcessPlan, account: &Account, has_home: bool) -> Result<Vec<CString>, Failure> {
    let mut env = plan.env.iter().filter(|entry| *entry != EMPTY_HOME).map(|text| text_of(text)).collect::<Result<Vec<_>, _>>()?;
    if !has_home {
        let fallback = if account.uid == 0 { "/root" } else { "/" };
        env.push(text_of(&format!("HOME={}", account.home.as_deref().unwrap_or(fallback)))?);
    }
    Ok(env)
}

/// Another user than root can open its own streams again by /dev/stdout only if it owns them: pipes and
/// terminals are handed over, files of the host never.
fn own_streams(account: &Account) -> Result<(), Failure> {
    if account.uid == 0 {
        return Ok(());
    }
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let kind = FileType::from_raw_mode(fstat(stream).at("examine a standard stream")?.st_mode);
        let ours = kind == FileType::Fifo || kind == FileType::CharacterDevice && rustix::termios::isatty(stream);
        if ours {
            match fchown(stream, Some(rustix::fs::Uid::from_raw(account.uid)), None) {
                Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => {}
                other => other.at("hand over a standard stream")?,
            }
        }
    }
    Ok(())
}

/// The working directory, which must be inside the root (CVE-2024-21626).
fn enter(plan: &ProcessPlan) -> Result<(), Failure> {
    let entered = rustix::process::chdir(&plan.cwd).at_path("change to working directory", &plan.cwd);
    entered.map_err(|failure| failure.of_working_directory(&plan.cwd))?;
    let real = rustix::process::getcwd(Vec::new()).at_path("find working directory", &plan.cwd)?;
    if real.as_bytes().first() == Some(&b'/') {
        return Ok(());
    }
    Err(Failure::invalid(format!("working directory \"{}\" is outside of the container", plan.cwd.display())))
}

impl Prepared {
    /// With a reaper, only its child goes on from here.
    pub fn reap(&mut self, proof: SingleThreaded, terminal: bool, strings: &OwnStrings) -> Result<(), Failure> {
        reaper::split(proof, terminal, &self.rights, strings)
    }

    /// The startContainer hooks: each is what the process will be, its rights and filter included.
    pub fn run_hooks(&self, hooks: &hooks::Hooks, proof: SingleThreaded, channel: &Channel) -> Result<(), Failure> {
        hooks::run_inside(&hooks.start, &hooks.state, proof, &|| self.rights.apply(self.no_new_privileges, channel))
    }

    /// Executes; returns only the reason why not.
    pub fn execute(self, channel: &Channel) -> Failure {
        if let Err(failure) = self.rights.apply(self.no_new_privileges, channel) {
            return failure;
        }
        let error = sys::execve(&self.path, &self.args, &self.env);
        command::refusal(&self.name, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
