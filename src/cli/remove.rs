//! `rm`.

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::output;
use super::targets::{Targets, any};
use crate::engine::Engine;
use std::process::ExitCode;

/// Remove containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Kill a running container first
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Remove its anonymous volumes too
    #[arg(short = 'v', long)]
    pub volumes: bool,
    /// With -f: stop it first, and kill it after so many seconds
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<i64>,
    /// Remove links instead, each named CONTAINER/ALIAS
    #[arg(short = 'l', long)]
    pub link: bool,
    /// Remove those that need it, too: for a namespace, a link, or to be started before
    #[arg(long)]
    pub depend: bool,
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.time.is_some() && !args.force {
        return Err(Failure::invalid("--time needs --force").with_code(USAGE));
    }
    let engine = context.engine()?;
    if args.link {
        if args.force || args.volumes || args.depend || args.targets.all || !args.targets.filter.is_empty() || !args.targets.cidfile.is_empty() {
            return Err(Failure::invalid("conflicting options: --link and others that are about containers").with_code(USAGE));
        }
        return output::each(&args.targets.containers, |name| Ok(engine.unlink(name)?));
    }
    let mut code = ExitCode::SUCCESS;
    let mut names = args.targets.resolve(&engine, any)?;
    if args.depend {
        names = with_dependents(&engine, names);
    }
    for name in &names {
        let bare = name.trim_start_matches('/');
        let stopped = args.time.map_or(Ok(()), |seconds| engine.stop(bare, None, Some(seconds)));
        match stopped.and_then(|()| engine.remove(bare, args.force, args.volumes)).map_err(Failure::from) {
            Ok(()) => output::line(name)?,
            Err(failure) => {
                // With -f a missing container is what was asked for: told, but no failure.
                if !(args.force && is_missing(&failure)) {
                    code = ExitCode::from(1);
                }
                failure.print();
            }
        }
    }
    Ok(code)
}

/// Each after those that need it, and once. A name that is nobody's stays to be told.
fn with_dependents(engine: &Engine, names: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        for dependent in engine.dependents(name.trim_start_matches('/')).unwrap_or_default() {
            if !all.contains(&dependent) {
                all.push(dependent);
            }
        }
        all.push(name);
    }
    all
}
