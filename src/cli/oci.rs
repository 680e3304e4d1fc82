//! The second name of the binary, `rcon-runtime`: the OCI runtime's command line, flag for flag as `runc` has it.
//!
//! Invariants: no engine and no database are touched; whatever fails is written to `--log` in the form that callers read,
//! and to stderr.

mod checkpoint;
mod console;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod inherited;
mod kill;
mod list;
mod notify;
mod pause;
mod privilege;
mod ps;
mod quick;
mod report;
mod spec;
mod start;
mod state;
mod update;
mod words;

use super::failure::Failure;
use super::{flags, output};
use crate::runtime::container::{Id, Store};
use clap::Parser;
use quick::Word;
use report::{Log, LogFormat};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The name that makes the binary an OCI runtime.
pub const NAME: &str = "rcon-runtime";

/// The version of the runtime-spec that is implemented.
pub const SPEC_VERSION: &str = "1.3.0";

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
    /// Whether this is an unprivileged user's runtime, with state below $XDG_RUNTIME_DIR: true, false or auto
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    rootless: Rootless,
    /// Print the version
    #[arg(short = 'v', long)]
    version: bool,
    /// The verb with its flags
    #[arg(trailing_var_arg = true, hide = true)]
    words: Vec<OsString>,
}

/// `--rootless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rootless {
    True,
    False,
    // Where an ordinary user calls (`privilege.rs`).
    Auto,
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
    Verb { name: "checkpoint", about: "not supported", clones: false, run: checkpoint::checkpoint },
    Verb { name: "create", about: "create a container from a bundle", clones: true, run: create::create },
    Verb { name: "delete", about: "remove a stopped container", clones: false, run: delete::delete },
    Verb { name: "events", about: "show statistics and OOM kills of a container", clones: false, run: events::events },
    Verb { name: "exec", about: "run another process in a container", clones: true, run: exec::exec },
    Verb { name: "features", about: "print what this runtime supports as JSON", clones: false, run: features::features },
    Verb { name: "kill", about: "send a signal to a container", clones: false, run: kill::kill },
    Verb { name: "list", about: "list containers", clones: false, run: list::list },
    Verb { name: "pause", about: "suspend the processes of a container", clones: false, run: pause::pause },
    Verb { name: "ps", about: "show the processes of a container", clones: false, run: ps::ps },
    Verb { name: "restore", about: "not supported", clones: false, run: checkpoint::restore },
    Verb { name: "resume", about: "let the processes of a container run again", clones: false, run: pause::resume },
    Verb { name: "run", about: "create, start and delete a container", clones: true, run: create::run },
    Verb { name: "spec", about: "write a config.json to start from", clones: false, run: spec::spec },
    Verb { name: "start", about: "start a created container", clones: false, run: start::start },
    Verb { name: "state", about: "print the state of a container", clones: false, run: state::state },
    Verb { name: "update", about: "change the limits of a container", clones: false, run: update::update },
];

/// The command line. Returns the process's exit code.
pub fn main(args: &[OsString]) -> ExitCode {
    // Before anything that would have to be done again. A word that is no verb but looks like one costs time, no more.
    let clones = |word: &OsString| VERBS.iter().any(|verb| verb.clones && word == verb.name);
    let protected = if args.iter().any(clones) { crate::runtime::run_protected() } else { Ok(()) };
    let globals = match Globals::quick(args).map_or_else(|| globals_by_clap(args), Ok) {
        Ok(globals) => globals,
        Err(failure) => return report::usage(&failure),
    };
    let log = Log::new(globals.log.clone(), globals.log_format, globals.debug);
    log.install();
    match protected.map_err(Failure::from).and_then(|()| dispatch(globals)) {
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
    let (name, rest) = match rest.split_first() {
        Some((topic, _)) if name == "help" => (topic, &[OsString::from("--help")][..]),
        None if name == "help" => return help(),
        _ => (name, rest),
    };
    let Some(verb) = VERBS.iter().find(|verb| name == verb.name) else {
        return Err(Failure::invalid(format!("no such command: {NAME} {} (see {NAME} help)", name.to_string_lossy())));
    };
    let root = globals.root.clone().unwrap_or_else(|| default_root(globals.rootless));
    (verb.run)(rest, &Context { store: Store::new(root), globals })
}

impl Globals {
    /// The flags that engines give, and a verb.
    fn quick(args: &[OsString]) -> Option<Self> {
        let (root, log) = (None, None);
        let (log_format, cgroup_manager, rootless) = (LogFormat::Text, CgroupManager::Cgroupfs, Rootless::Auto);
        let mut globals =
            Globals { root, log, log_format, debug: false, systemd_cgroup: false, cgroup_manager, rootless, version: false, words: Vec::new() };
        quick::read(args, |word, rest| {
            match word {
                Word::Flag("--root") => globals.root = Some(rest.value()?.into()),
                Word::Flag("--log") => globals.log = Some(rest.value()?.into()),
                Word::Flag("--log-format") if rest.value()? == "json" => globals.log_format = LogFormat::Json,
                Word::Flag("--systemd-cgroup") => globals.systemd_cgroup = true,
                Word::Flag(_) => return None,
                Word::Other(verb) => {
                    globals.words.push(verb.clone());
                    globals.words.extend_from_slice(rest.all());
                }
            }
            Some(())
        })?;
        (!globals.words.is_empty()).then_some(globals)
    }
}

/// Parses the flags before the verb; `--help` shows the verbs, too.
fn globals_by_clap(args: &[OsString]) -> Result<Globals, Failure> {
    let mut verbs = String::from("Commands:\n");
    for verb in VERBS {
        verbs.extend(["  ", verb.name, &"            "[verb.name.len()..], verb.about, "\n"]);
    }
    verbs.push_str("\nRun 'rcon-runtime COMMAND --help' for the flags of a command.");
    let command = flags::command::<Globals>(NAME).override_usage("rcon-runtime [flags] COMMAND [arguments]").after_help(verbs);
    let plain = words::plain(&command, args, true);
    flags::parse_as(command, NAME, &plain)
}

fn help() -> Result<ExitCode, Failure> {
    globals_by_clap(&["--help".into()]).map(|_| ExitCode::SUCCESS)
}

/// `/run/rcon-runtime`, or a directory below the user's own run directory.
fn default_root(rootless: Rootless) -> PathBuf {
    let own = match rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => privilege::is_ordinary_user(),
    };
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| own && !dir.is_empty());
    own.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join(NAME)
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Parses a verb's flags, which may stand anywhere.
fn parse<A: clap::CommandFactory + clap::FromArgMatches>(verb: &str, args: &[OsString]) -> Result<A, Failure> {
    parse_words(&format!("{NAME} {verb}"), args, false)
}

/// Parses a verb's flags, which end before the first other word.
fn parse_in_order<A: clap::CommandFactory + clap::FromArgMatches>(verb: &str, args: &[OsString]) -> Result<A, Failure> {
    parse_words(&format!("{NAME} {verb}"), args, true)
}

fn parse_words<A: clap::CommandFactory + clap::FromArgMatches>(path: &str, args: &[OsString], in_order: bool) -> Result<A, Failure> {
    let command = flags::command::<A>(path);
    let plain = words::plain(&command, args, in_order);
    flags::parse_as(command, path, &plain)
}
