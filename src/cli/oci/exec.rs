//! `exec`.

use super::{Context, console, foreground, parse};
use crate::base::fs::{self, Context as _};
use crate::cli::failure::Failure;
use crate::runtime::config;
use crate::runtime::container::Process;
use clap::Parser;
use oci_spec::runtime::Process as Spec;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run another process in a running container.
#[derive(Parser, Debug)]
struct Exec {
    /// File with the process in the config's form
    #[arg(short = 'p', long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Unix socket that gets the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that gets the process's pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return when the process runs
    #[arg(short = 'd', long)]
    detach: bool,
    /// Pass this number of further descriptors (3, 4, …)
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Go on although the container is paused
    #[arg(long)]
    ignore_paused: bool,
    /// Group to join, below the container's own: [CONTROLLER[,CONTROLLER]:]PATH; may be repeated
    #[arg(long, value_name = "GROUP")]
    cgroup: Vec<String>,
    id: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub fn exec(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Exec = parse("exec", args)?;
    let container = context.open(&flags.id)?;
    let spec = process(&flags, &container)?;
    let terminal = spec.terminal().unwrap_or(false);
    console::check(terminal, flags.detach, flags.console_socket.as_ref())?;
    let signals = if flags.detach { None } else { Some(foreground::Signals::block()?) };
    let process = Process { spec, preserve_fds: flags.preserve_fds, ignore_paused: flags.ignore_paused, cgroup: flags.cgroup.clone() };
    let mut started = container.exec(&process)?;
    let mut master = started.console.take();
    if let (Some(socket), Some(own)) = (&flags.console_socket, &master) {
        console::send(socket, own)?;
        master = None;
    }
    if let Some(path) = &flags.pid_file {
        fs::replace(path, started.pid.to_string().as_bytes(), 0o644)?;
    }
    match signals {
        Some(signals) => Ok(ExitCode::from(foreground::wait(&started.pidfd, master, &signals)?)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn process(flags: &Exec, container: &crate::runtime::container::Container) -> Result<Spec, Failure> {
    if let Some(path) = &flags.process {
        let text = std::fs::read(path).on("read", path)?;
        let read = config::read_process(&text).map_err(|error| Failure::caused(format!("cannot read process file {}", path.display()), &error))?;
        for warning in read.warnings {
            tracing::warn!("{}: {warning}", path.display());
        }
        return Ok(read.document);
    }
    if flags.command.is_empty() {
        return Err(Failure::invalid("exec needs a command or --process FILE"));
    }
    let mut spec = container.spec()?.process().clone().unwrap_or_default();
    spec.set_args(Some(flags.command.clone())).set_terminal(Some(flags.tty));
    Ok(spec)
}
