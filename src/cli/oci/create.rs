//! `create` and `run`.

use super::foreground::{self, Signals};
use super::inherited::Inherited;
use super::notify::{self, Notify};
use super::quick::{self, Word};
use super::{CgroupManager, Context, console, parse};
use crate::base::fs;
use crate::cli::failure::Failure;
use crate::runtime::container::{Bundle, Id, NOTIFY, Outcome, Request};
use crate::runtime::{Error, Running};
use clap::Parser;
use oci_spec::runtime::Spec;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::JoinHandle;

/// Flags that `create` and `run` share.
#[derive(clap::Args, Debug)]
struct Common {
    /// Path of the bundle; the current directory by default
    #[arg(short = 'b', long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Unix socket that gets the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Unix socket that gets a descriptor of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File that gets the process's pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Move the root over "/" instead of pivoting to it, on a host that runs from an initramfs
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring instead of a new one
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this number of further descriptors (3, 4, …) to the container, after those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Unique name of the container on this host
    id: String,
}

/// Create a container from a bundle; its process waits for "start".
#[derive(Parser, Debug)]
struct Create {
    #[command(flatten)]
    common: Common,
}

/// Create a container from a bundle, start it, and delete it when it has ended.
#[derive(Parser, Debug)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Return when the process runs
    #[arg(short = 'd', long)]
    detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Do not become the parent of the container's orphans
    #[arg(long)]
    no_subreaper: bool,
}

impl Create {
    fn quick(args: &[OsString]) -> Option<Self> {
        let run = Run::quick(args)?;
        (!run.detach && !run.keep && !run.no_subreaper).then_some(Create { common: run.common })
    }
}

impl Run {
    fn quick(args: &[OsString]) -> Option<Self> {
        let (bundle, console_socket, pidfd_socket, pid_file) = (None, None, None, None);
        let common =
            Common { bundle, console_socket, pidfd_socket, pid_file, no_pivot: false, no_new_keyring: false, preserve_fds: 0, id: String::new() };
        let mut run = Run { common, detach: false, keep: false, no_subreaper: false };
        quick::read(args, |word, rest| {
            let common = &mut run.common;
            match word {
                Word::Flag("--bundle" | "-b") => common.bundle = Some(rest.value()?.into()),
                Word::Flag("--console-socket") => common.console_socket = Some(rest.value()?.into()),
                Word::Flag("--pid-file") => common.pid_file = Some(rest.value()?.into()),
                Word::Flag("--no-pivot") => common.no_pivot = true,
                Word::Flag("--no-new-keyring") => common.no_new_keyring = true,
                Word::Flag("--detach" | "-d") => run.detach = true,
                Word::Flag("--keep") => run.keep = true,
                Word::Flag(_) => return None,
                Word::Other(id) => common.id = id.to_str().filter(|_| common.id.is_empty())?.to_owned(),
            }
            Some(())
        })?;
        (!run.common.id.is_empty()).then_some(run)
    }
}

/// For the tests of `quick`: both ways of reading agree.
#[cfg(test)]
pub fn quick_is_clap(lines: &[&str]) {
    for line in lines {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let clap: Run = parse("run", &words).unwrap();
        assert_eq!(format!("{:?}", Run::quick(&words).unwrap()), format!("{clap:?}"), "{line}");
    }
    for left in ["", "x y", "--preserve-fds 3 x", "--no-pivot=true x", "--help", "--bundle"] {
        let words: Vec<OsString> = left.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        assert!(Run::quick(&words).is_none(), "{left}");
    }
}

pub fn create(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags = Create::quick(args).map_or_else(|| parse("create", args), Ok)?;
    make(&flags.common, context, true, false)?.0.release()?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags = Run::quick(args).map_or_else(|| parse("run", args), Ok)?;
    let signals = if flags.detach { None } else { Some(Signals::block(!flags.no_subreaper)?) };
    let (mut outcome, console) = make(&flags.common, context, flags.detach, true)?;
    let notify = match Notify::bind(outcome.container.dir()) {
        Ok(notify) => notify,
        Err(failure) => {
            outcome.container.delete(true)?;
            return Err(failure);
        }
    };
    outcome.start()?;
    let Outcome { container, init } = outcome;
    let Some(signals) = signals else {
        if let Some(notify) = notify {
            notify.forward(init.pid, &init.pidfd)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let told = notify.map(|notify| in_background(notify, &init)).transpose();
    let ended = signals.wait(Running { pid: init.pid, pidfd: init.pidfd, console });
    // It ends with the process. Hooks are run by a process of one thread.
    if told?.is_some_and(|thread| thread.join().is_err()) {
        tracing::warn!("the thread for NOTIFY_SOCKET failed");
    }
    if !flags.keep || ended.is_err() {
        container.delete(true)?;
    }
    let code = ended?;
    // Nothing of this process is worth the time to take it apart, only what it may still have to say.
    io::stdout().flush().ok();
    crate::sys::process::exit(i32::from(code))
}

/// Tells the host that the container is ready while its terminal is relayed. Nothing is cloned any more: a thread may be.
fn in_background(notify: Notify, init: &crate::runtime::Init) -> Result<JoinHandle<()>, Failure> {
    let pid = init.pid;
    let pidfd = init.pidfd.try_clone().map_err(|error| Failure::caused("cannot watch the container", &error))?;
    Ok(std::thread::spawn(move || {
        if let Err(failure) = notify.forward(pid, &pidfd) {
            tracing::warn!("{}", failure.one_line());
        }
    }))
}

/// The container at its gate, and its terminal when nobody else takes it.
fn make(flags: &Common, context: &Context, detached: bool, run: bool) -> Result<(Outcome, Option<OwnedFd>), Failure> {
    let id = Id::parse(&flags.id)?;
    let mut bundle = Bundle::load(&flags.bundle.clone().unwrap_or_else(|| PathBuf::from(".")))?;
    let terminal = bundle.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    console::check(terminal, detached, flags.console_socket.as_ref())?;
    let inherited = Inherited::with_sockets(flags.preserve_fds)?;
    adapt(&mut bundle.spec, &inherited, terminal && !detached);
    if notify::host().is_some() {
        notify::adapt(&mut bundle.spec, &context.store.dir(&id)?.join(NOTIFY));
    }
    let request = Request {
        preserve_fds: inherited.count,
        keep_keyring: flags.no_new_keyring,
        run,
        announced: flags.console_socket.is_some() || flags.pidfd_socket.is_some() || flags.pid_file.is_some() || notify::host().is_some(),
        no_pivot: flags.no_pivot,
        notify: notify::host().is_some(),
        systemd: context.globals.systemd_cgroup || context.globals.cgroup_manager == CgroupManager::Systemd,
        no_group: context.globals.cgroup_manager == CgroupManager::Disabled,
    };
    let mut kept = None;
    let mut announce = |pid: i32, master: Option<OwnedFd>| {
        match (&flags.console_socket, master) {
            (Some(socket), Some(master)) => console::send(socket, &master).map_err(told)?,
            (_, master) => kept = master,
        }
        if let Some(socket) = &flags.pidfd_socket {
            console::send_pidfd(socket, "standard", pid).map_err(told)?;
        }
        match &flags.pid_file {
            Some(path) => Ok(fs::replace(path, pid.to_string().as_bytes(), 0o644)?),
            None => Ok(()),
        }
    };
    let outcome = context.store.create(&id, &bundle, &request, &mut announce)?;
    Ok((outcome, kept))
}

fn told(failure: Failure) -> Error {
    Error::Invalid(failure.one_line())
}

/// What this call adds to the config's process.
fn adapt(spec: &mut Spec, inherited: &Inherited, fit: bool) {
    let Some(process) = spec.process_mut() else { return };
    if !inherited.variables.is_empty() {
        let mut variables = process.env().clone().unwrap_or_default();
        variables.extend(inherited.variables.iter().cloned());
        process.set_env(Some(variables));
    }
    if fit {
        foreground::fit(process);
    }
}
