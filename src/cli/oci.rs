//! The second name of the binary, `rcon-runtime`: the OCI runtime's command line, flag for flag as `runc` has it.
//!
//! Invariants: no engine and no database are touched; whatever fails is written to `--log` in the form that callers read,
//! and to stderr.

#![allow(dead_code)]

mod console;
mod create;
mod delete;
mod events;
mod exec;
mod foreground;
mod kill;
mod privilege;
mod report;
mod start;
mod state;

use super::failure::Failure;
use super::{flags, output};
use crate::runtime::container::{Id, Store};
use clap::Parser;
use report::{Log, LogFormat};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The name that makes the binary an OCI runtime.
pub const NAME: &str = "rcon-runtime";

/// The version of the runtime-spec that is implemented.
pub const SPEC_VERSION: &str = "1.2.1";

/// OCI container runtime.
#[derive(Parser, Debug)]
pub struct Globals {
    /// Directory for the state of containers (tmpfs)
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File that errors and warnings are appended to
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Say more in the log
    #[arg(long)]
    debug: bool,
    /// Make control groups through systemd; cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long)]
    systemd_cgroup: bool,
    /// How control groups are made: cgroupfs, systemd (as --systemd-cgroup) or disabled (none; the config's limits do not hold)
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs")]
    cgroup_manager: CgroupManager,
    /// Without the host's root: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    rootless: String,
    /// Print the version
    #[arg(short = 'v', long)]
    version: bool,
    /// The verb with its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// `--cgroup-manager`, which podman passes on for `--cgroups disabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// What every verb gets.
pub struct Context {
    store: Store,
    globals: Globals,
}

impl Context {
    fn open(&self, id: &str) -> Result<crate::runtime::container::Container, Failure> {
        Ok(self.store.open(&Id::parse(id)?)?)
    }
}

/// A verb: its name, what it does in a line, its function.
struct Verb {
    name: &'static str,
    about: &'static str,
    /// Clones stages: must run from the protected view of the binary.
    clones: bool,
    run: fn(&[OsString], &Context) -> Result<ExitCode, Failure>,
}

/// Every verb.
const VERBS: &[Verb] = &[
    Verb { name: "create", about: "create a container from a bundle", clones: true, run: create::create },
    Verb { name: "delete", about: "remove a stopped container", clones: false, run: delete::delete },
    Verb { name: "events", about: "show statistics and OOM kills of a container", clones: false, run: events::events },
    Verb { name: "exec", about: "run another process in a container", clones: true, run: exec::exec },
    Verb { name: "kill", about: "send a signal to a container", clones: false, run: kill::kill },
    Verb { name: "run", about: "create, start and delete a container", clones: true, run: create::run },
    Verb { name: "start", about: "start a created container", clones: false, run: start::start },
    Verb { name: "state", about: "print the state of a container", clones: false, run: state::state },
];

/// The command line. Returns the process's exit code.
pub fn main(args: &[OsString]) -> ExitCode {
    let globals: Globals = match flags::parse(NAME, args) {
        Ok(globals) => globals,
        Err(failure) => return report::usage(&failure),
    };
    let log = Log::new(globals.log.clone(), globals.log_format);
    match dispatch(globals) {
        Ok(code) => code,
        Err(failure) => log.report(&failure),
    }
}

fn dispatch(mut globals: Globals) -> Result<ExitCode, Failure> {
    if globals.version {
        output::line(format_args!("{NAME} version {}\nspec: {SPEC_VERSION}", env!("CARGO_PKG_VERSION")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let words = std::mem::take(&mut globals.words);
    let Some((name, rest)) = words.split_first() else { return help() };
    if name == "help" {
        return help();
    }
    let Some(verb) = VERBS.iter().find(|verb| name == verb.name) else {
        return Err(Failure::invalid(format!("no such command: {NAME} {} (see {NAME} help)", name.to_string_lossy())));
    };
    if verb.clones {
        crate::runtime::run_protected()?;
    }
    let root = globals.root.clone().unwrap_or_else(default_root);
    (verb.run)(rest, &Context { store: Store::new(root), globals })
}

fn help() -> Result<ExitCode, Failure> {
    output::line(format_args!("Usage: {NAME} [flags] COMMAND [arguments]\n\nOCI container runtime. Commands:"))?;
    for verb in VERBS {
        output::line(format_args!("  {:<9}{}", verb.name, verb.about))?;
    }
    output::line(format_args!("\nRun '{NAME} COMMAND --help' for the flags of a command."))?;
    Ok(ExitCode::SUCCESS)
}

/// `/run/rcon-runtime`, or a directory below the user's own run directory.
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && privilege::is_ordinary_user());
    own.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join(NAME)
}

/// Parses a verb's flags.
fn parse<A: clap::CommandFactory + clap::FromArgMatches>(verb: &str, args: &[OsString]) -> Result<A, Failure> {
    flags::parse(&format!("{NAME} {verb}"), args)
}
