//! `system reset` and `system migrate`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use crate::engine::Migration;
use std::process::ExitCode;

/// Remove everything: containers, images, volumes, and the directories that held them
#[derive(clap::Parser, Debug)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
}

const QUESTION: &str = "WARNING! This will remove:
  - all containers and pods, also those that run
  - all images and everything that was pulled for them
  - all volumes, with the data in them
  - the default network";

/// # Errors
/// Something could not be removed.
pub fn reset(args: ResetArgs, context: &Context) -> Result<ExitCode, Failure> {
    let roots = &context.privilege.roots;
    if !args.force && !output::confirm(&format!("{QUESTION}\n  - {} and {}\n", roots.data.display(), roots.run.display()))? {
        return Ok(ExitCode::SUCCESS);
    }
    if !roots.database().exists() && !roots.data.exists() {
        output::line("nothing to remove")?;
        return Ok(ExitCode::SUCCESS);
    }
    match context.engine() {
        Ok(engine) => {
            let done = engine.reset()?;
            output::line(format_args!("removed {} containers, {} images and {} volumes", done.containers, done.images, done.volumes))?;
        }
        Err(failure) => {
            output::talk(format_args!("warning: the records cannot be read, everything is removed without them: {}", failure.one_line()));
            crate::engine::reset_unreadable(roots)?;
            output::line("removed everything")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Do what an upgrade of rcon leaves to do, and say what was done
#[derive(clap::Parser, Debug)]
pub struct MigrateArgs {
    /// Restart the containers that run under another version of rcon
    #[arg(long)]
    pub restart: bool,
}

/// # Errors
/// The database cannot be read or written, or a container cannot be restarted.
pub fn migrate(args: MigrateArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let migration = engine.migrate()?;
    output::raw(&report(&migration))?;
    for name in &migration.outdated {
        if args.restart {
            engine.restart(name, None, None)?;
            output::line(format_args!("restarted {name}"))?;
        }
    }
    if !args.restart && !migration.outdated.is_empty() {
        output::talk("hint: they run on as they are; `rcon system migrate --restart` restarts them under this version");
    }
    Ok(ExitCode::SUCCESS)
}

fn report(migration: &Migration) -> String {
    let (before, now) = migration.schema;
    let schema = if before == now { format!("schema: version {now}, nothing to do") } else { format!("schema: version {before} became {now}") };
    let (all, written) = migration.records;
    let records = if written == 0 { format!("records: {all}, all in today's form") } else { format!("records: {all}, {written} written anew") };
    let monitors = match migration.outdated.as_slice() {
        [] => format!("containers: {} run, all under this version", migration.running),
        names => format!("containers: {} run, {} of them under another version: {}", migration.running, names.len(), names.join(", ")),
    };
    format!("{schema}\n{records}\n{monitors}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_says_what_it_did() {
        let idle = Migration { schema: (5, 5), records: (3, 0), running: 1, outdated: Vec::new() };
        assert_eq!(report(&idle), "schema: version 5, nothing to do\nrecords: 3, all in today's form\ncontainers: 1 run, all under this version\n");
        let busy = Migration { schema: (4, 5), records: (3, 2), running: 2, outdated: vec!["web".to_owned()] };
        assert_eq!(
            report(&busy),
            "schema: version 4 became 5\nrecords: 3, 2 written anew\ncontainers: 2 run, 1 of them under another version: web\n"
        );
    }
}
