//! `container mount` and `container umount`: the files of containers on the host.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::{output, table};
use serde_json::json;
use std::process::ExitCode;

/// Mount the files of containers on the host and print where; without a name, list what is mounted
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Mount those of all containers
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Form of the list: json
    #[arg(long)]
    pub format: Option<String>,
    /// Show whole ids in the list
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Unmount the files of containers from the host
#[derive(clap::Parser, Debug)]
pub struct UnmountArgs {
    /// Those of all containers
    #[arg(short = 'a', long)]
    pub all: bool,
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let json = match args.format.as_deref() {
        None | Some("") => false,
        Some("json") => true,
        Some(other) => return Err(Failure::invalid(format!("--format: \"{other}\" is not json")).with_code(USAGE)),
    };
    let names = if args.all { engine.list(true, &[])?.into_iter().map(|view| view.record.id.to_string()).collect() } else { args.containers };
    if !names.is_empty() || args.all {
        let mut code = ExitCode::SUCCESS;
        for name in &names {
            match engine.mount_container(name) {
                Ok(path) => output::line(path.display())?,
                Err(error) => {
                    Failure::from(error).print();
                    code = ExitCode::from(1);
                }
            }
        }
        return Ok(code);
    }
    let mounted = engine.mounted_containers()?;
    if json {
        let rows =
            mounted.iter().map(|(view, path)| json!({ "id": view.record.id.as_str(), "names": [view.record.name.as_str()], "mountpoint": path }));
        output::line(serde_json::Value::Array(rows.collect()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = |view: &crate::engine::View| if args.no_trunc { view.record.id.to_string() } else { view.record.id.short().to_owned() };
    let lines: Vec<String> = mounted.iter().map(|(view, path)| format!("{}\t{}", id(view), path.display())).collect();
    output::raw(&table::render(&lines))?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened.
pub fn unmount(args: UnmountArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let names = if args.all { engine.mounted_containers()?.iter().map(|(view, _)| view.record.id.to_string()).collect() } else { args.containers };
    output::each(&names, |name| match engine.unmount_container(name)? {
        true => Ok(()),
        false => Err(Failure::invalid(format!("the files of container {name} are not mounted on the host"))),
    })
}
