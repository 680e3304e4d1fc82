//! `exec`: runs a further command in a running container.
//!
//! This process is the command's parent and holds its terminal or pipes. Who leaves a terminal by the detach keys, or never
//! attaches to it, leaves it to a process that keeps it open (`session::hold`).

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::options::{client_variable, read_files};
use super::run;
use super::session::{self, End, ExecIo, relay_exec};
use crate::base::ErrorKind;
use crate::engine::Execution;
use crate::engine::request::{ExecRequest, ExecStdio, env};
use std::process::ExitCode;

/// Run a command in a running container
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Run in the background
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Attach stdin
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Set a variable (K=V, or K for this shell's value)
    #[arg(short = 'e', long, value_name = "K=V")]
    pub env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Give all capabilities
    #[arg(long)]
    pub privileged: bool,
    /// Keys that detach from the command
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// User: name|uid[:group|gid]
    #[arg(short = 'u', long)]
    pub user: Option<String>,
    /// Read the container's id from a file, as --cidfile of run writes it; then only the command follows
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Container, command and arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 1.., value_name = "CONTAINER COMMAND [ARG...]")]
    pub words: Vec<String>,
}

/// # Errors
/// Exit code 127 for a command that is not there, 126 for one that cannot be run (as this user, in this directory), 1 for us; the command's code comes back as Ok.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let from_file = args.cidfile.as_deref().map(super::pod::read_id).transpose()?;
    let (name, command) = match (&from_file, args.words.as_slice()) {
        (Some(id), command) => (id, command),
        (None, [name, command @ ..]) => (name, command),
        (None, []) => return Err(Failure::invalid("the container is missing").with_code(USAGE)),
    };
    if command.is_empty() {
        return Err(Failure::usage("error: COMMAND is missing\n\nUsage: rcon exec [OPTIONS] CONTAINER COMMAND [ARG...]", "rcon exec").with_code(1));
    }
    // The stage is a copy of this process, and a container with CAP_SYS_PTRACE can open what it runs from.
    crate::runtime::run_protected().map_err(|e| Failure::caused("cannot protect the binary", &e))?;
    let stdin = args.interactive && !args.detach;
    run::require_terminal(args.tty && !args.detach, stdin)?;
    let detach_keys = run::keys(args.detach_keys.as_deref(), context)?;
    let tty = args.tty;
    let (io, stdio) = match (args.detach, tty) {
        (_, true) => (None, ExecStdio::Terminal),
        (true, false) => (None, ExecIo::detached()?),
        (false, false) => {
            let (io, stdio) = ExecIo::pipes(stdin)?;
            (Some(io), stdio)
        }
    };
    let request = ExecRequest {
        command: command.to_vec(),
        env: env::merge(&read_files(&args.env_file).map_err(|failure| failure.with_code(1))?, &args.env, &client_variable)?,
        user: args.user,
        workdir: args.workdir,
        tty,
        privileged: args.privileged,
        console: run::console(tty),
        stdio,
    };
    let started = context.engine()?.exec(name, &request);
    // The child's ends must not stay open here, or the ends of its streams are never seen.
    drop(request);
    let Execution { mut running, ended } = started.map_err(|error| {
        // As Docker has it: the command could not be made to run, for whatever reason.
        let by_runtime = matches!(error, crate::engine::Error::Runtime(_)) && error.kind() != ErrorKind::CommandNotFound;
        let failure = run::misplaced(error, command.first(), "exec", "container");
        match (args.detach, by_runtime) {
            (true, _) => failure.with_code(1),
            (false, true) => failure.with_code(126),
            (false, false) => failure,
        }
    })?;
    if args.detach {
        if let Some(console) = running.console.take() {
            session::hold(&running, &console)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let io = match (io, running.console.take()) {
        (Some(io), _) => io,
        (None, Some(console)) => ExecIo::console(console, stdin, Some(detach_keys))?,
        (None, None) => return Err(Failure::invalid("the command got no terminal")),
    };
    let end = relay_exec(&running, io, tty)?;
    if let End::Exited(code) = end {
        ended.tell(code);
    }
    Ok(end.code(name))
}
