//! `attach`: joins the streams of a running container.

use super::context::Context;
use super::failure::Failure;
use super::run;
use super::session::Session;
use crate::base::Signal;
use crate::engine::{AttachStreams, Status};
use std::process::ExitCode;

/// Attach to the streams of a running container
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Do not attach stdin
    #[arg(long)]
    pub no_stdin: bool,
    /// Forward signals to the process (only without a terminal)
    #[arg(long, default_value = "true")]
    pub sig_proxy: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    pub container: String,
}

/// # Errors
/// The container does not run.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let detach = run::keys(args.detach_keys.as_deref(), context)?;
    let name = args.container;
    let view = engine.view(&name)?;
    match view.status {
        Status::Running => {}
        Status::Paused => return Err(Failure::invalid("You cannot attach to a paused container, unpause it first")),
        Status::Restarting => return Err(Failure::invalid("You cannot attach to a restarting container, wait until it is running")),
        _ => return Err(Failure::invalid("You cannot attach to a stopped container, start it first")),
    }
    let process = &view.record.spec.process;
    let streams = AttachStreams { stdin: !args.no_stdin && process.open_stdin, stdout: true, stderr: true };
    run::require_terminal(process.tty, streams.stdin)?;
    let attached = engine.attach(&name, streams)?;
    let forward = run::forwarder(&engine, view.record.id.as_str());
    let session = Session {
        client: attached.client,
        tty: attached.tty,
        stdin: streams.stdin,
        stdout: true,
        stderr: true,
        detach,
        recorded: &run::recorded(&engine, view.record.id.as_str()),
        proxy: (args.sig_proxy && !attached.tty).then_some(&forward as &dyn Fn(Signal)),
    };
    Ok(run::ended(&engine, view.record.id.as_str(), session.run()?).code(&name))
}
