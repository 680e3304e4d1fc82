//! How a command is called: its usage line and its help, in Docker's form, and what to say of words that do not fit it.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// `rcon run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub fn line(command: &Command) -> String {
    let path = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let words = command.get_positionals().filter(|arg| !arg.is_hide_set()).map(positional);
    [path.to_owned(), "[OPTIONS]".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// What `--help` prints.
pub fn help(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(|about| format!("{about}\n\n")).unwrap_or_default();
    let arguments: Vec<(String, String)> =
        command.get_positionals().filter(|arg| !arg.is_hide_set()).filter_map(|arg| Some((positional(arg), arg.get_help()?.to_string()))).collect();
    let arguments = if arguments.is_empty() { String::new() } else { format!("\nArguments:\n{}", rows(&arguments)) };
    format!("{about}Usage: {}\n{arguments}\n{}", line(command), options(command))
}

/// The block of options, in alphabetical order.
pub fn options(command: &Command) -> String {
    let mut shown: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    shown.sort_by_key(|arg| arg.get_long());
    format!("Options:\n{}", rows(&shown.into_iter().map(|arg| (spelling(arg), meaning(arg))).collect::<Vec<_>>()))
}

/// Two columns.
fn rows(list: &[(String, String)]) -> String {
    let width = list.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    list.iter().map(|(left, right)| format!("  {left:<width$}  {right}").trim_end().to_owned() + "\n").collect()
}

/// `-d, --detach`, `    --name NAME`.
fn spelling(arg: &Arg) -> String {
    let short = arg.get_short().map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let long = arg.get_long().map(|long| format!("--{long}")).unwrap_or_default();
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    // A boolean, whose value may be left out, is shown without.
    if takes && !arg.is_require_equals_set() { format!("{short}{long} {}", value_name(arg)) } else { format!("{short}{long}") }
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<String> = arg.get_visible_aliases().unwrap_or_default().iter().map(|alias| format!("--{alias}")).collect();
    if !aliases.is_empty() {
        text.push_str(&format!(" [also {}]", aliases.join(", ")));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).filter(|value| !value.is_empty()).collect();
    if !defaults.is_empty() && !arg.is_hide_default_value_set() {
        text.push_str(&format!(" [default: {}]", defaults.join(", ")));
    }
    text
}

fn value_name(arg: &Arg) -> String {
    let named = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    named.unwrap_or_else(|| arg.get_id().as_str().to_uppercase().replace('_', "-"))
}

/// `NAME`, `[NAME]`, `NAME [NAME...]`; a name that says itself what may follow stands as it is.
fn positional(arg: &Arg) -> String {
    let name = value_name(arg);
    let many = matches!(arg.get_action(), ArgAction::Append);
    match (arg.is_required_set(), many) {
        _ if name.contains(" [") => name,
        (true, true) => format!("{name} [{name}...]"),
        (true, false) => name,
        (false, true) => format!("[{name}...]"),
        (false, false) => format!("[{name}]"),
    }
}

/// What does not fit, in one sentence (and a tip beneath it); None: clap's own words are kept.
pub fn fault(error: &clap::Error, command: &Command) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let typed = text(ContextKind::InvalidArg);
    let usage = || format!("\n\nUsage: {}", line(command));
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
            let names: Vec<String> = missing.iter().map(|name| bare(name)).collect();
            Some(absent(&names) + &usage())
        }
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            let Some(ContextValue::Number(given)) = error.get(ContextKind::ActualNumValues) else { return None };
            let names = required_words(&typed.filter(|name| name.starts_with('<'))?);
            let missing = names.get(usize::try_from(*given).ok()?..).filter(|names| !names.is_empty())?;
            Some(absent(missing) + &usage())
        }
        ErrorKind::UnknownArgument => {
            let word = typed?;
            if !word.starts_with('-') {
                return Some(format!("too many arguments: \"{word}\"{}", usage()));
            }
            let word = word.split_once('=').map_or(word.clone(), |(flag, _)| flag.to_owned());
            let tip = text(ContextKind::SuggestedArg).filter(|near| near.starts_with('-'));
            let tip = tip.map(|near| format!("\n\n  tip: a similar flag exists: {}", bare(&near))).unwrap_or_default();
            Some(format!("unknown flag: {word}{tip}"))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error)?.to_string();
            let reason = if reason.contains("digit found in string") || reason.contains("parse integer") || reason.contains("not in") {
                "expected a whole number in range".to_owned()
            } else {
                reason
            };
            Some(format!("invalid value \"{}\" for {}: {reason}", text(ContextKind::InvalidValue)?, bare(&typed?)))
        }
        ErrorKind::InvalidValue => {
            let (value, flag) = (text(ContextKind::InvalidValue).unwrap_or_default(), typed?);
            if value.is_empty() {
                return Some(format!("{} needs a value: {}", bare(&flag), required_words(&flag).join(" ")));
            }
            let Some(ContextValue::Strings(known)) = error.get(ContextKind::ValidValue) else { return None };
            Some(format!("invalid value \"{value}\" for {}: expected {}", bare(&flag), alternatives(known)))
        }
        _ => None,
    }
}

/// `a, b or c`.
fn alternatives(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn absent(names: &[String]) -> String {
    format!("{} {} missing", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}

/// The flag or name of an argument as clap shows it: `--memory <BYTES>`, `--tty[=<BOOL>]`, `<SHELL>`.
fn bare(shown: &str) -> String {
    if shown.starts_with('-') {
        return shown.split([' ', '=', '[']).next().unwrap_or(shown).to_owned();
    }
    required_words(shown).first().cloned().unwrap_or_else(|| shown.to_owned())
}

/// The words that must be given: CONTAINER and COMMAND of `<CONTAINER COMMAND [ARG...]>…`.
fn required_words(shown: &str) -> Vec<String> {
    let inner = shown.split_once('<').map_or(shown, |(_, rest)| rest);
    let inner = inner.split_once('>').map_or(inner, |(inner, _)| inner);
    let words = inner.split(' ').map(|word| word.split_once('[').map_or(word, |(name, _)| name)).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}
