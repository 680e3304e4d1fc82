//! `start`: starts stopped containers, and attaches to one with `-a` or `-i`.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::output;
use super::run;
use super::session::Session;
use super::targets::{self, alive};
use crate::base::Signal;
use crate::engine::{AttachStreams, Engine, Status};
use std::process::ExitCode;

/// Start stopped containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Attach stdout and stderr and forward signals
    #[arg(short = 'a', long)]
    pub attach: bool,
    /// Attach stdin
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// All containers that do not run
    #[arg(long)]
    pub all: bool,
    /// Those of them that a filter of ps meets: label=…, name=…
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
    #[arg(required_unless_present_any = ["all", "filter"], value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// A container cannot be started (exit code 1).
pub fn run(mut args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    if args.all || !args.filter.is_empty() {
        if !args.containers.is_empty() {
            return Err(Failure::invalid("conflicting options: --all or --filter, and containers by name").with_code(USAGE));
        }
        args.containers = targets::matching(&engine, &args.filter, |status| !alive(status))?;
        if args.containers.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if !args.attach && !args.interactive {
        return output::each(&args.containers, |name| start(&engine, name));
    }
    let [name] = args.containers.as_slice() else {
        return Err(Failure::invalid("cannot start and attach several containers at once"));
    };
    let detach = run::keys(args.detach_keys.as_deref(), context)?;
    let view = engine.view(name)?;
    let process = &view.record.spec.process;
    let streams = AttachStreams { stdin: args.interactive && process.open_stdin, stdout: true, stderr: true };
    run::require_terminal(process.tty, streams.stdin)?;
    let attached = match view.status {
        Status::Running | Status::Paused | Status::Restarting => engine.attach(name, streams)?,
        _ => engine.start(&view.record.id, streams, run::console(process.tty))?,
    };
    let forward = run::forwarder(&engine, view.record.id.as_str());
    let session = Session {
        client: attached.client,
        tty: attached.tty,
        stdin: streams.stdin,
        stdout: true,
        stderr: true,
        detach,
        recorded: &run::recorded(&engine, view.record.id.as_str()),
        // With a terminal ctrl-c travels as a byte, and other signals are meant for this process.
        proxy: (!attached.tty).then_some(&forward as &dyn Fn(Signal)),
    };
    Ok(run::ended(&engine, view.record.id.as_str(), session.run()?).code(name))
}

/// Starts one; a running container is started already.
fn start(engine: &Engine, name: &str) -> Result<(), Failure> {
    let view = engine.view(name)?;
    if matches!(view.status, Status::Running | Status::Restarting) {
        return Ok(());
    }
    drop(engine.start(&view.record.id, AttachStreams::default(), (0, 0))?);
    Ok(())
}
