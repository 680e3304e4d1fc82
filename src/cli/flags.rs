//! Docker's flag conventions on top of clap: every boolean takes `=true/false`, the last of repeated scalars
//! wins, an option takes the next word whatever it looks like, a usage error ends with how to get help.

use super::context::Globals;
use super::failure::Failure;
use super::{output, refused, usage};
use crate::engine::request::parse_bool;
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;

/// Parses the words after a verb; `path` is how the user spelled it (`rcon container ls`).
///
/// # Errors
/// A usage error (exit code 125, or 1 for a wrong number of arguments); or quietly code 0 after `--help`.
pub fn parse<A: CommandFactory + FromArgMatches>(path: &str, args: &[OsString]) -> Result<A, Failure> {
    parse_as(command::<A>(path), path, args)
}

/// [`parse`] for a command that was built already.
///
/// # Errors
/// As [`parse`].
pub fn parse_as<A: FromArgMatches>(mut command: Command, path: &str, args: &[OsString]) -> Result<A, Failure> {
    let outcome = command.try_get_matches_from_mut(args).and_then(|mut matches| A::from_arg_matches_mut(&mut matches));
    outcome.map_err(|error| explain(&error, &command, path))
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
        Err(error) => Err(explain(&error, &command, "rcon")),
        Ok(mut matches) => Globals::from_arg_matches_mut(&mut matches).map_err(|error| explain(&error, &command, "rcon")),
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

/// What went wrong, in our words where we have some.
fn explain(error: &clap::Error, command: &Command, path: &str) -> Failure {
    if error.kind() == ErrorKind::DisplayHelp {
        // One that has its own layout is left to clap.
        let text = if command.get_after_help().is_some() { error.to_string() } else { usage::help(command) };
        return match output::raw(&text) {
            Ok(()) => Failure::silent(0),
            Err(failure) => failure,
        };
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some((flag, reason)) = refused::flag(error, path)
    {
        return Failure::usage(&format!("error: {flag} is not supported: {reason}"), path);
    }
    let text = usage::fault(error, command).map_or_else(|| claps_words(error), |fault| format!("error: {fault}"));
    let failure = Failure::usage(&text, path);
    if is_about_count(error) { failure.with_code(1) } else { failure }
}

/// clap's sentence without its usage block.
fn claps_words(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    text.split("\n\nFor more information").next().unwrap_or(text).to_owned()
}

/// Docker's command line ends with 125 for a flag that is wrong and with 1 for too many or too few arguments.
fn is_about_count(error: &clap::Error) -> bool {
    match error.kind() {
        ErrorKind::MissingRequiredArgument => true,
        ErrorKind::UnknownArgument | ErrorKind::TooFewValues | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(word)) if !word.starts_with('-'))
        }
        _ => false,
    }
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
        /// Forward signals
        #[arg(long, default_value = "true")]
        sig_proxy: bool,
        #[arg(long)]
        count: Option<u16>,
        #[arg(short = 'p', long)]
        publish: Vec<String>,
        #[arg(long)]
        name: Option<String>,
        #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND] [ARG...]")]
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
    fn usage_errors_say_what_is_wrong_and_how_to_get_help() {
        for (code, bad, said) in [
            (125, &["--bogus", "image"][..], "error: unknown flag: --bogus\n\nRun"),
            (125, &["--nmae=x", "image"], "error: unknown flag: --nmae\n\n  tip: a similar flag exists: --name\n\nRun"),
            (125, &["-z", "image"], "error: unknown flag: -z\n\nRun"),
            (125, &["--tty=maybe", "image"], "error: invalid value \"maybe\" for --tty: invalid boolean \"maybe\": expected true or false\n\nRun"),
            (125, &["--count", "ten", "image"], "error: invalid value \"ten\" for --count: expected a whole number in range\n\nRun"),
            (125, &["--name"], "error: --name needs a value: NAME\n\nRun"),
            (1, &[], "error: IMAGE is missing\n\nUsage: rcon run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun"),
        ] {
            let failure = read(bad).unwrap_err();
            let text = failure.render();
            assert!(text.starts_with(said) && text.ends_with("Run 'rcon run --help' for more information\n"), "{text}");
            assert_eq!(failure.exit_code(super::super::failure::Class::Other), code, "{text}");
        }
    }

    /// Help.
    #[derive(Parser, Debug)]
    struct Two {
        #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_name = "CONTAINER COMMAND [ARG...]")]
        words: Vec<String>,
    }

    /// Help.
    #[derive(Parser, Debug)]
    struct Pair {
        old: String,
        #[arg(value_name = "NEW[:TAG]")]
        new: String,
    }

    #[test]
    fn missing_words_are_named() {
        let said = |outcome: Result<String, Failure>| outcome.unwrap_err().render().lines().next().unwrap().to_owned();
        let two = |words: &[&str]| parse::<Two>("x", &words.iter().map(OsString::from).collect::<Vec<_>>()).map(|two| two.words.concat());
        let pair = |words: &[&str]| parse::<Pair>("x", &words.iter().map(OsString::from).collect::<Vec<_>>()).map(|pair| pair.old + &pair.new);
        assert_eq!((said(two(&["a"])), said(two(&[]))), ("error: COMMAND is missing".to_owned(), "error: CONTAINER is missing".to_owned()));
        assert_eq!((said(pair(&["a"])), said(pair(&[]))), ("error: NEW is missing".to_owned(), "error: OLD and NEW are missing".to_owned()));
        assert_eq!(said(pair(&["a", "b", "c"])), "error: too many arguments: \"c\"");
    }

    #[test]
    fn help_is_dockers() {
        let mut command = command::<Args>("rcon run");
        command.build();
        let text = usage::help(&command);
        assert!(text.starts_with("Help\n\nUsage: rcon run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nOptions:\n"), "{text}");
        for line in
            ["  -i, --interactive", "      --name NAME", "      --sig-proxy        Forward signals [default: true]", "  -p, --publish PUBLISH"]
        {
            assert!(text.lines().any(|own| own == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("BOOL"), "{text}");
    }
}
