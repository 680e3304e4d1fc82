//! # cli
//! ## Lives here
//! What the user types and sees: flags (clap), one file per verb, tables and `--format` templates, progress,
//! the foreground session of a terminal, exit codes and hints; completion and manual pages, made of the same flags.
//! ## Invariants
//! - stdout is data, stderr is talk; nothing here panics when either is closed.
//! - A flag that is declared does what its help says; everything else is refused by its name.
//! - Only the verb that was typed builds its flags: starting costs no more for having many verbs.
//! ## Not here
//! Decisions about containers (`engine`), the grammars of single flags (`engine::request`).
//! ## Decisions
//! - Global flags stop at the verb, and each verb is its own clap command: one command tree would build the flags
//!   of all sixty verbs on each start.
//! - `--format` is our own engine for Go's text/template over JSON values: scripts that were written for Docker carry
//!   such templates. Rejected: Rust's template crates, none of which reads that grammar.
//! - What other engines' users may type and we do not have is in one table (`refused`), which gives the reason. Rejected:
//!   declaring such flags: help would list what cannot be used.
//! - Completion asks the binary at each key (`__complete`), as Docker's does: names are those of now, flags those of this
//!   binary. Rejected: static scripts (clap_complete), which know no names and are out of date after an upgrade; and a crate
//!   for manual pages, whose writer is one file.
//! - Exit codes come from the typed `ErrorKind` in one function (`failure::exit_code`), never from error texts.

mod artifact;
mod attach;
mod boot;
mod build;
mod builder;
mod check;
mod clone;
mod commit;
mod complete;
mod completion;
mod context;
mod copy;
mod create;
mod diff;
mod disk_usage;
mod endpoints;
mod events;
mod exec;
mod exists;
mod export;
mod failure;
mod flags;
mod health;
mod help;
mod history;
mod humanise;
mod images;
mod import;
mod info;
mod initialise;
mod inspect;
mod kill;
mod login;
mod logout;
mod logs;
mod manifest;
mod manual;
mod mount;
mod network;
mod oci;
mod options;
mod output;
mod pause;
mod pod;
mod port;
mod ports;
mod progress;
mod prune;
mod ps;
mod pull;
mod push;
mod refused;
mod remove;
mod rename;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod serve;
mod session;
mod start;
mod stats;
mod stop;
mod system;
mod table;
mod tag;
mod targets;
mod template;
mod top;
mod update;
mod usage;
mod verbs;
mod version;
mod volume;
mod wait;

use context::{Context, Globals};
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

/// The command line of `rcon` and of `rcon-runtime`. Returns the process's exit code.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let name = std::path::Path::new(&name).file_name().map(|name| name.to_string_lossy().into_owned());
    if name.as_deref() == Some(oci::NAME) {
        return oci::main(&args);
    }
    match dispatch(&args) {
        Ok(code) => code,
        Err((failure, class)) => {
            failure.print();
            ExitCode::from(failure.exit_code(class))
        }
    }
}

/// Finds the verb and runs it.
fn dispatch(args: &[OsString]) -> Result<ExitCode, (Failure, failure::Class)> {
    let other = |failure| (failure, failure::Class::Other);
    let globals: Globals = flags::parse_globals(args).map_err(other)?;
    if globals.version {
        return version::short().map_err(other);
    }
    let words = globals.words.clone();
    let context = Context::new(globals).map_err(other)?;
    let Some(first) = words.first() else { return help::root().map_err(other) };
    if first == complete::VERB {
        return complete::run(&words[1..], &context).map_err(other);
    }
    if first == manual::VERB {
        return manual::run(&words[1..]).map_err(other);
    }
    if first == "help" {
        return help::of(&words[1..]).map_err(other);
    }
    let (verb, path, rest) = match verbs::find(&words) {
        verbs::Found::Verb { verb, path, rest } => (verb, path, rest),
        verbs::Found::Group { group, rest } => return help::group(group, rest).map_err(other),
        verbs::Found::Unknown { typed } => return Err(other(help::unknown(&typed))),
    };
    (verb.run)(&path, rest, &context).map_err(|failure| (failure, verb.class))
}
