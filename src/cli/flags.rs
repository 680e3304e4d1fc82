//! Docker's flag conventions on top of clap: every boolean takes `=true/false`, the last of repeated scalars
//! wins, an option takes the next word whatever it looks like, a usage error ends with how to get help.

use super::context::Globals;
use super::failure::Failure;
use super::output;
use crate::engine::request::parse_bool;
use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;

/// Parses the words after a verb; `path` is how the user spelled it (`rcon container ls`).
///
/// # Errors
/// A usage error (exit code 125); or quietly code 0 after `--help`.
pub fn parse<A: CommandFactory + FromArgMatches>(path: &str, args: &[OsString]) -> Result<A, Failure> {
    parse_as(command::<A>(path), path, args)
}

/// [`parse`] for a command that was built already.
///
/// # Errors
/// As [`parse`].
pub fn parse_as<A: FromArgMatches>(mut command: Command, path: &str, args: &[OsString]) -> Result<A, Failure> {
    let failed = |error: clap::Error| explain(&error, path);
    let mut matches = command.try_get_matches_from_mut(args).map_err(failed)?;
    A::from_arg_matches_mut(&mut matches).map_err(failed)
}

/// Parses the flags before the verb.
///
/// # Errors
/// As [`parse`]; `--help` shows the list of verbs.
pub fn parse_globals(args: &[OsString]) -> Result<Globals, Failure> {
    let mut command = command::<Globals>("rcon");
    match command.try_get_matches_from_mut(args) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            super::help::root()?;
            Err(Failure::silent(0))
        }
        Err(error) => Err(explain(&error, "rcon")),
        Ok(mut matches) => Globals::from_arg_matches_mut(&mut matches).map_err(|error| explain(&error, "rcon")),
    }
}

/// The clap command of a verb with Docker's conventions.
pub fn command<A: CommandFactory>(path: &str) -> Command {
    let command = A::command().no_binary_name(true).disable_help_flag(true).disable_version_flag(true).args_override_self(true);
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Show this help");
    let help = if taken { help } else { help.short('h') };
    command.bin_name(path).mut_args(conventional).arg(help)
}

fn conventional(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => {
            let default = if arg.get_default_values().is_empty() { "false" } else { "true" };
            arg.action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value(default)
                .hide_default_value(default == "false")
                .hide_possible_values(true)
                .value_name("BOOL")
                .value_parser(ValueParser::from(parse_bool as fn(&str) -> Result<bool, String>))
        }
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// `--disable-content-trust`: Docker's content trust (Notary) does not exist here, so it cannot be asked for.
///
/// # Errors
/// It is asked for, or the value is no boolean.
pub fn no_content_trust(text: &str) -> Result<bool, String> {
    if parse_bool(text)? { Ok(true) } else { Err("content trust (Notary) is not supported: see [trust] of rcon.toml".to_owned()) }
}

/// clap's words without its usage block, in our form.
fn explain(error: &clap::Error, path: &str) -> Failure {
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        return match output::raw(&text) {
            Ok(()) => Failure::silent(0),
            Err(failure) => failure,
        };
    }
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    // A misspelt flag is never meant as a value.
    let text = text.split("\n\n  tip: to pass").next().unwrap_or(text);
    Failure::usage(text, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// Help.
    #[derive(Parser, Debug)]
    struct Args {
        #[arg(short = 'i', long)]
        interactive: bool,
        #[arg(short = 't', long)]
        tty: bool,
        #[arg(long, default_value = "true")]
        sig_proxy: bool,
        #[arg(short = 'p', long)]
        publish: Vec<String>,
        #[arg(long)]
        name: Option<String>,
        #[arg(trailing_var_arg = true, required = true)]
        words: Vec<String>,
    }

    fn read(words: &[&str]) -> Result<Args, Failure> {
        parse("rcon run", &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn dockers_conventions() {
        let args = read(&["-it", "-p8080:80", "-p", "81", "--name", "a", "--name", "-b", "image", "-p", "x", "--name=y", "--", "-i"]).unwrap();
        assert!(args.interactive && args.tty && args.sig_proxy);
        assert_eq!((args.publish.len(), args.name.as_deref()), (2, Some("-b")));
        assert_eq!(args.words, ["image", "-p", "x", "--name=y", "--", "-i"]);
        let args = read(&["--interactive=false", "-t=true", "--sig-proxy=0", "image"]).unwrap();
        assert!(!args.interactive && args.tty && !args.sig_proxy);
        assert_eq!(read(&["-ti=false", "image"]).map(|a| (a.interactive, a.tty)).unwrap(), (false, true));
    }

    #[test]
    fn content_trust_cannot_be_asked_for() {
        assert_eq!((no_content_trust("true"), no_content_trust("1")), (Ok(true), Ok(true)));
        assert!(no_content_trust("false").unwrap_err().contains("not supported") && no_content_trust("x").is_err());
    }

    #[test]
    fn usage_errors_say_how_to_get_help() {
        for bad in [&["--bogus", "image"][..], &["-z", "image"], &["--tty=maybe", "image"], &[], &["--name"]] {
            let failure = read(bad).unwrap_err();
            let text = failure.render();
            assert!(
                text.starts_with("error: ")
                    && text.contains("Run 'rcon run --help' for more information")
                    && !text.contains("Usage:")
                    && !text.contains("as a value"),
                "{text}"
            );
            assert_eq!(failure.exit_code(super::super::failure::Class::Other), 125);
        }
    }
}
