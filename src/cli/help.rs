//! Help about the whole, a group, or one verb; and what to say to an unknown word.

use super::context::Globals;
use super::failure::Failure;
use super::verbs::{self, Found, GROUPS, Group, VERBS, Verb};
use super::{flags, output, refused, usage};
use crate::base::nearest;
use std::ffi::OsString;
use std::process::ExitCode;

const ENVIRONMENT: &str = "  RCON_ROOT, RCON_RUN_ROOT  As --root and --run-root
  RCON_CONFIG_FILE          As --config-file
  RCON_INSECURE_REGISTRIES  Registries to reach over plain HTTP: host[:port],…
  RCON_REGISTRY_MIRRORS     Mirrors to try first: docker.io=http://localhost:5000,…
  RCON_KEEP_BLOBS           1: keep compressed layers, so that save and push give the original digests
  DOCKER_CONFIG             As --config
  DOCKER_DEFAULT_PLATFORM   As --platform
";

/// Variables and what they mean.
pub fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENVIRONMENT.lines().filter_map(|line| line.trim().split_once("  ")).map(|(name, meaning)| (name, meaning.trim()))
}

/// `rcon --help`.
///
/// # Errors
/// stdout cannot be written.
pub fn root() -> Result<ExitCode, Failure> {
    let mut text = "Usage: rcon [OPTIONS] COMMAND\n\nContainers without a daemon\n\nCommands:\n".to_owned();
    text.push_str(&list(VERBS));
    text.push_str("\nManagement Commands:\n");
    for group in GROUPS {
        text.push_str(&row(group.names[0], group.about));
    }
    text.push('\n');
    text.push_str(&usage::options(&flags::command::<Globals>("rcon")));
    output::raw(&format!("{text}\nEnvironment:\n{ENVIRONMENT}\nRun 'rcon COMMAND --help' for more information on a command.\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A group without a verb: its list (`--help` or nothing), or an unknown word.
///
/// # Errors
/// The word after the group is no verb of it (exit code 1, as for any unknown command).
pub fn group(group: &'static Group, rest: &[OsString]) -> Result<ExitCode, Failure> {
    let name = group.names[0];
    match rest.first().map(|word| word.to_string_lossy()) {
        Some(word) if word != "--help" && word != "-h" => {
            Err(Failure::usage(&unknown_text(&format!("{name} {word}"), &word, group.verbs), &format!("rcon {name}")).with_code(1))
        }
        _ => {
            output::raw(&format!(
                "Usage: rcon {name} COMMAND\n\n{}\n\nCommands:\n{}\nRun 'rcon {name} COMMAND --help' for more information on a command.\n",
                group.about,
                list(group.verbs)
            ))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `rcon help run`.
///
/// # Errors
/// There is no such command.
pub fn of(words: &[OsString]) -> Result<ExitCode, Failure> {
    if words.is_empty() {
        return root();
    }
    match verbs::find(words) {
        Found::Verb { verb, path, .. } => {
            let mut command = (verb.command)(&path);
            command.build();
            output::raw(&usage::help(&command))?;
            Ok(ExitCode::SUCCESS)
        }
        Found::Group { group: found, rest } => group(found, rest),
        Found::Unknown { typed } => Err(unknown(&typed)),
    }
}

/// The failure for a word that is no command.
pub fn unknown(typed: &str) -> Failure {
    Failure::usage(&unknown_text(typed, typed, VERBS), "rcon").with_code(1)
}

fn unknown_text(shown: &str, word: &str, verbs: &[Verb]) -> String {
    if let Some(reason) = refused::verb(shown) {
        return format!("error: rcon {shown} is not supported: {reason}");
    }
    let names = verbs.iter().flat_map(|verb| verb.names).chain(GROUPS.iter().flat_map(|group| group.names));
    match nearest(word, names.copied()) {
        Some(name) => format!("error: unknown command: rcon {shown}\n\n  tip: a similar command exists: {name}"),
        None => format!("error: unknown command: rcon {shown}"),
    }
}

fn list(verbs: &[Verb]) -> String {
    let about = |verb: &Verb| (verb.command)("rcon").get_about().map(ToString::to_string).unwrap_or_default();
    verbs.iter().map(|verb| row(verb.names[0], &about(verb))).collect()
}

fn row(name: &str, about: &str) -> String {
    format!("  {name:<12}{about}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_offered() {
        let text = unknown("imges").render();
        assert!(text.contains("unknown command: rcon imges") && text.contains("images") && text.contains("Run 'rcon --help'"), "{text}");
        assert!(!unknown("frobnicate").render().contains("tip"));
    }
}
