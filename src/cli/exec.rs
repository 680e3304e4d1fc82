//! `exec`: runs a further command in a running container.
//!
//! This process is the command's parent and holds its terminal or pipes; so there are no detach keys here:
//! leaving would take the streams away.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::options::{client_variable, read_files};
use super::run;
use super::session::{ExecIo, relay_exec};
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
    /// User: name|uid[:group|gid]
    #[arg(short = 'u', long)]
    pub user: Option<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Container, command and arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_name = "CONTAINER COMMAND [ARG...]")]
    pub words: Vec<String>,
}

/// # Errors
/// Exit code 126 or 127 for the command, 1 for us; the command's code comes back as Ok.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let [name, command @ ..] = args.words.as_slice() else {
        return Err(Failure::invalid("the container is missing").with_code(USAGE));
    };
    // The stage is a copy of this process, and a container with CAP_SYS_PTRACE can open what it runs from.
    crate::runtime::run_protected().map_err(|e| Failure::caused("cannot protect the binary", &e))?;
    let stdin = args.interactive && !args.detach;
    run::require_terminal(args.tty && !args.detach, stdin)?;
    // Without anybody to attach a terminal to, a detached command gets none.
    let tty = args.tty && !args.detach;
    let (io, stdio) = match (args.detach, tty) {
        (true, _) => (None, ExecIo::detached()?),
        (false, true) => (None, ExecStdio::Terminal),
        (false, false) => {
            let (io, stdio) = ExecIo::pipes(stdin)?;
            (Some(io), stdio)
        }
    };
    let request = ExecRequest {
        command: command.to_vec(),
        env: env::merge(&read_files(&args.env_file)?, &args.env, &client_variable)?,
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
    let mut running = started.map_err(|error| {
        let failure = Failure::from(error);
        if args.detach { failure.with_code(1) } else { failure }
    })?;
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let io = match (io, running.console.take()) {
        (Some(io), _) => io,
        (None, Some(console)) => ExecIo::console(console, stdin)?,
        (None, None) => return Err(Failure::invalid("the command got no terminal")),
    };
    Ok(relay_exec(&running, io, tty)?.code(name))
}
