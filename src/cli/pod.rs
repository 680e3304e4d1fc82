//! `pod`: containers that share namespaces, an address and limits. The verbs that act on whole pods; the others are beside.

mod create;
mod logs;
mod ps;
mod stats;

pub use create::{Args as CreateArgs, run as create};
pub use logs::{Args as LogsArgs, run as logs};
pub use ps::{Args as PsArgs, run as ps};
pub use stats::{Args as StatsArgs, run as stats};

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::inspect::show;
use super::progress::Progress;
use super::ps::filters;
use super::stop::signal;
use super::{output, table};
use crate::base::{ErrorKind, PodId, PodName, Signal};
use crate::engine::Engine;
use std::process::ExitCode;

/// Pods that a verb acts on.
#[derive(clap::Args, Debug)]
pub struct Targets {
    /// All pods
    #[arg(short = 'a', long)]
    pub all: bool,
    #[arg(value_name = "POD")]
    pub pods: Vec<String>,
}

/// Start pods: init containers first, then all others
#[derive(clap::Parser, Debug)]
pub struct StartArgs {
    /// Read a pod's id from a file
    #[arg(long, value_name = "FILE")]
    pub pod_id_file: Vec<String>,
    #[command(flatten)]
    pub targets: Targets,
}

/// Stop pods with all their containers
#[derive(clap::Parser, Debug)]
pub struct StopArgs {
    /// Seconds to wait before killing (-1: for ever, 0: at once)
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<i64>,
    /// A missing pod is no error
    #[arg(short = 'i', long)]
    pub ignore: bool,
    /// Read a pod's id from a file
    #[arg(long, value_name = "FILE")]
    pub pod_id_file: Vec<String>,
    #[command(flatten)]
    pub targets: Targets,
}

/// Send a signal to all containers of pods
#[derive(clap::Parser, Debug)]
pub struct KillArgs {
    /// Signal to send
    #[arg(short = 's', long, default_value = "KILL")]
    pub signal: String,
    #[command(flatten)]
    pub targets: Targets,
}

/// Stop pods and start them again
#[derive(clap::Parser, Debug)]
pub struct RestartArgs {
    #[command(flatten)]
    pub targets: Targets,
}

/// Freeze all containers of pods
#[derive(clap::Parser, Debug)]
pub struct PauseArgs {
    #[command(flatten)]
    pub targets: Targets,
}

/// Let frozen containers of pods go on
#[derive(clap::Parser, Debug)]
pub struct UnpauseArgs {
    #[command(flatten)]
    pub targets: Targets,
}

/// Remove pods with their containers
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    /// Stop running containers first
    #[arg(short = 'f', long)]
    pub force: bool,
    /// A missing pod is no error
    #[arg(short = 'i', long)]
    pub ignore: bool,
    /// With -f: stop containers first, and kill after so many seconds
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<i64>,
    /// Read a pod's id from a file
    #[arg(long, value_name = "FILE")]
    pub pod_id_file: Vec<String>,
    #[command(flatten)]
    pub targets: Targets,
}

/// Show everything about pods
#[derive(clap::Parser, Debug)]
pub struct InspectArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    #[arg(required = true, value_name = "POD")]
    pub pods: Vec<String>,
}

/// Show the processes of all containers of a pod
#[derive(clap::Parser, Debug)]
pub struct TopArgs {
    /// Pod and options for ps
    #[arg(trailing_var_arg = true, required = true, value_name = "POD [PS OPTIONS]")]
    pub words: Vec<String>,
}

/// Create a pod with the settings of another one, and a clone of each of its containers
#[derive(clap::Parser, Debug)]
pub struct CloneArgs {
    /// Remove the other one afterwards, if nothing of it runs
    #[arg(long)]
    pub destroy: bool,
    /// Start the new one
    #[arg(long)]
    pub start: bool,
    /// Name of the new one (OLD-clone without)
    #[arg(short = 'n', long)]
    pub name: Option<PodName>,
    pub pod: String,
    /// As --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub new_name: Option<PodName>,
}

/// Say by the exit code whether a pod exists: 0, or 1
#[derive(clap::Parser, Debug)]
pub struct ExistsArgs {
    pub pod: String,
}

/// Remove all pods that have ended, with their containers
#[derive(clap::Parser, Debug)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Filter: until=24h, label=k=v, label!=k
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// The pods that were named, by `--pod-id-file` too.
fn named(targets: Targets, files: &[String], engine: &Engine) -> Result<Vec<String>, Failure> {
    let Targets { all, mut pods } = targets;
    for file in files {
        pods.push(read_id(file)?);
    }
    match (all, pods.is_empty()) {
        (true, false) => Err(Failure::invalid("conflicting options: --all and names of pods").with_code(USAGE)),
        (true, true) => Ok(engine.list_pods(&[])?.into_iter().map(|view| view.pod.id.to_string()).collect()),
        (false, true) => Err(Failure::invalid("give at least one pod, or --all").with_code(USAGE)),
        (false, false) => Ok(pods),
    }
}

/// The id in a `--pod-id-file`.
pub fn read_id(file: &str) -> Result<String, Failure> {
    let text = crate::base::fs::read_to_string(file.as_ref()).map_err(|e| Failure::from(e).with_code(USAGE))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// As podman: the full id of each pod that it was done to.
fn each(pods: &[String], ignore: bool, work: impl Fn(&str) -> Result<PodId, crate::engine::Error>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in pods {
        match work(name).map_err(Failure::from) {
            Ok(id) => output::line(id)?,
            Err(failure) if ignore && is_missing(&failure) => {}
            Err(failure) => {
                failure.print();
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// # Errors
/// No pod was named, or a file cannot be read.
pub fn start(args: StartArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &args.pod_id_file, &engine)?;
    each(&pods, false, |name| engine.start_pod(name))
}

/// # Errors
/// No pod was named.
pub fn stop(args: StopArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &args.pod_id_file, &engine)?;
    each(&pods, args.ignore, |name| engine.stop_pod(name, args.time))
}

/// # Errors
/// No pod was named, or an unknown signal.
pub fn kill(args: KillArgs, context: &Context) -> Result<ExitCode, Failure> {
    let signal: Signal = signal(&args.signal)?;
    let engine = context.engine()?;
    let pods = named(args.targets, &[], &engine)?;
    each(&pods, false, |name| engine.kill_pod(name, signal))
}

/// # Errors
/// No pod was named.
pub fn restart(args: RestartArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &[], &engine)?;
    each(&pods, false, |name| engine.restart_pod(name))
}

/// # Errors
/// No pod was named.
pub fn pause(args: PauseArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &[], &engine)?;
    each(&pods, false, |name| engine.pause_pod(name))
}

/// # Errors
/// No pod was named.
pub fn unpause(args: UnpauseArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &[], &engine)?;
    each(&pods, false, |name| engine.unpause_pod(name))
}

/// # Errors
/// No pod was named.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let pods = named(args.targets, &args.pod_id_file, &engine)?;
    // As podman: with -f a missing pod is what was asked for.
    each(&pods, args.ignore || args.force, |name| engine.remove_pod(name, args.force, args.time))
}

/// # Errors
/// A malformed template.
pub fn inspect(args: InspectArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    show(&args.pods, args.format.as_deref(), |name| Ok(engine.inspect_pod(name)?))
}

/// # Errors
/// There is no such pod, or nothing of it runs.
pub fn top(args: TopArgs, context: &Context) -> Result<ExitCode, Failure> {
    let (name, options) = args.words.split_first().ok_or_else(|| Failure::invalid("the pod is missing"))?;
    let process = context.engine()?.pod_top(name, options)?;
    let mut lines = vec![process.titles.join("\t")];
    // A tab inside a cell would shift the columns.
    lines.extend(process.rows.iter().map(|row| row.iter().map(|cell| cell.replace('\t', " ")).collect::<Vec<_>>().join("\t")));
    output::raw(&table::layout(&lines, 20))?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// No such pod, a taken name, or what keeps a container from being cloned.
pub fn clone(args: CloneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let progress = Progress::new(false, true);
    let pod = engine.clone_pod(&args.pod, args.name.as_ref().or(args.new_name.as_ref()), &|event| progress.show(event))?;
    progress.finish();
    if args.destroy {
        engine.remove_pod(&args.pod, false, None)?;
    }
    if args.start {
        engine.start_pod(pod.id.as_str())?;
    }
    output::line(&pod.id)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// It cannot be found out.
pub fn exists(args: ExistsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.find_pod(&args.pod) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(ExitCode::from(1)),
        Err(error) => Err(error.into()),
    }
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn prune(args: PruneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    if !args.force && !output::confirm("WARNING! This will remove all stopped/exited pods.")? {
        return Ok(ExitCode::SUCCESS);
    }
    for id in context.engine()?.prune_pods(&filters)? {
        output::line(id)?;
    }
    Ok(ExitCode::SUCCESS)
}
