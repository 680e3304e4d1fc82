//! `__complete WORDS…`: what may stand at the place of the last word, asked by the scripts of `completion`.
//!
//! One candidate a line, a tab and what it is; then one line that begins with a colon: `:files` if files fit too, `:more` if
//! the word goes on behind the candidate, `:none` otherwise. It never fails and never makes a data root: a key that was
//! pressed must not have effects.

use super::context::{Context, Globals};
use super::failure::Failure;
use super::verbs::{self, Found, GROUPS, VERBS, Verb};
use super::{flags, output};
use crate::engine::{LOG_DRIVERS, NETWORKS};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden verb.
pub const VERB: &str = "__complete";

/// Names that stand for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Running,
    Images,
    Volumes,
    Pods,
    /// Those that have names of their own, and the default one.
    Networks,
    /// What `--network` takes: also the ways to have none.
    Modes,
    Secrets,
    /// Containers, images, volumes, networks and pods.
    Objects,
    /// Containers with a colon behind, and files.
    Paths,
    Files,
    Words(&'static [&'static str]),
    /// Words that a value follows without a blank.
    Begun(&'static [&'static str]),
    Nothing,
}

/// What is asked for at the last word.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// A command at the top.
    Verb,
    Group(&'static str),
    Flags,
    /// A value, behind what stands before it in the word (`--name=`).
    Value(String, Kind),
}

/// # Errors
/// stdout cannot be written.
pub fn run(words: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let Some((current, before)) = words.split_last() else { return Ok(ExitCode::SUCCESS) };
    let current = current.to_string_lossy();
    let (wanted, command) = at(before, &current);
    let (found, end) = candidates(&wanted, command.as_ref(), context);
    let mut text = String::new();
    for (word, what) in found.iter().filter(|(word, _)| word.starts_with(&*current)) {
        text.push_str(&format!("{}\t{}\n", output::cell(word), output::cell(what)));
    }
    output::raw(&format!("{text}:{end}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What stands at `current`, and the command whose flags those are.
fn at(before: &[OsString], current: &str) -> (Wanted, Option<Command>) {
    let globals = flags::command::<Globals>("rcon");
    let mut words = before;
    // The flags before the verb.
    while let Some((first, rest)) = words.split_first() {
        let text = first.to_string_lossy();
        if !text.starts_with('-') {
            break;
        }
        words = rest;
        if let Some(flag) = waiting(&globals, &text) {
            match words.split_first() {
                Some((_, rest)) => words = rest,
                None => return (Wanted::Value(String::new(), value_kind(flag)), Some(globals)),
            }
        }
    }
    match verbs::find(words) {
        _ if words.is_empty() => (if current.starts_with('-') { Wanted::Flags } else { Wanted::Verb }, Some(globals)),
        Found::Verb { verb, path, rest } => {
            let command = (verb.command)(&path);
            (in_verb(&command, verb, &path, rest, current), Some(command))
        }
        Found::Group { group, .. } => (Wanted::Group(group.names[0]), None),
        Found::Unknown { .. } => (Wanted::Value(String::new(), Kind::Nothing), None),
    }
}

/// What stands at `current` behind a verb and `words`.
fn in_verb(command: &Command, verb: &Verb, path: &str, words: &[OsString], current: &str) -> Wanted {
    let mut positionals = 0;
    let mut only_positionals = false;
    let mut words = words.iter();
    // Behind the image everything is the container's.
    let own = command.get_positionals().any(|arg| arg.is_trailing_var_arg_set());
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if only_positionals || !text.starts_with('-') || text == "-" {
            positionals += 1;
            only_positionals |= own;
        } else if text == "--" {
            only_positionals = true;
        } else if let Some(flag) = waiting(command, &text)
            && words.next().is_none()
        {
            return Wanted::Value(String::new(), value_kind(flag));
        }
    }
    if !only_positionals && current.starts_with('-') {
        return match current.split_once('=') {
            Some((name, _)) if name.starts_with("--") => {
                let flag = command.get_arguments().find(|arg| arg.get_long() == Some(&name[2..]));
                Wanted::Value(format!("{name}="), flag.map_or(Kind::Nothing, value_kind))
            }
            _ => Wanted::Flags,
        };
    }
    Wanted::Value(String::new(), positional_kind(path, verb, positionals))
}

/// The flag of this word whose value is the next word.
fn waiting<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let takes = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set();
    match word.strip_prefix("--") {
        Some(long) if !long.contains('=') => command.get_arguments().find(|arg| named(arg, long)).filter(takes),
        Some(_) => None,
        // `-p`, or `-itp`: a value may also stand in the same word.
        None => {
            let mut letters = word.chars().skip(1);
            let flag = letters.by_ref().find_map(|letter| command.get_arguments().find(|arg| arg.get_short() == Some(letter)).filter(takes))?;
            letters.next().is_none().then_some(flag)
        }
    }
}

fn named(arg: &Arg, long: &str) -> bool {
    arg.get_long() == Some(long) || arg.get_all_aliases().unwrap_or_default().contains(&long)
}

/// What a flag's value is.
fn value_kind(flag: &Arg) -> Kind {
    if flag.get_value_hint() == clap::ValueHint::FilePath {
        return Kind::Files;
    }
    match flag.get_long().unwrap_or_default() {
        "volumes-from" => Kind::Containers,
        "pod" => Kind::Pods,
        "network" => Kind::Modes,
        "restart" => Kind::Words(&["no", "on-failure", "always", "unless-stopped"]),
        "pull" => Kind::Words(&["always", "missing", "never"]),
        "log-driver" => Kind::Words(LOG_DRIVERS),
        "log-level" => Kind::Words(&["debug", "info", "warn", "error", "fatal"]),
        "format" => Kind::Words(&["json", "table"]),
        "signal" | "stop-signal" => Kind::Words(&["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"]),
        "platform" => Kind::Words(&["linux/amd64", "linux/arm64"]),
        "ipc" => Kind::Words(&["none", "private", "shareable", "host"]),
        "pid" | "uts" | "userns" => Kind::Words(&["host"]),
        "cgroupns" => Kind::Words(&["private", "host"]),
        "type" => Kind::Words(&["container", "image", "network", "volume", "pod", "secret"]),
        "security-opt" => Kind::Begun(&["seccomp=", "apparmor=", "label=", "no-new-privileges", "systempaths=unconfined"]),
        "mount" => Kind::Begun(&["type=bind,", "type=volume,", "type=tmpfs,"]),
        "volume" => Kind::Volumes,
        "root" | "run-root" | "config" | "config-file" | "env-file" | "label-file" | "cidfile" | "output" | "input" | "file" => Kind::Files,
        _ => Kind::Nothing,
    }
}

/// What stands at a place that is no flag's, by the group and the verb.
fn positional_kind(path: &str, verb: &Verb, place: usize) -> Kind {
    let group = path.split(' ').nth(1).filter(|_| path.split(' ').count() > 2).unwrap_or("container");
    let verb = verb.names[0];
    let first = |kind: Kind| if place == 0 { kind } else { Kind::Nothing };
    match (group, verb) {
        ("container", "run" | "create") => first(Kind::Images),
        ("container", "exec") => first(Kind::Running),
        ("container", "stop" | "kill" | "restart" | "attach" | "pause" | "unpause" | "stats" | "top") => Kind::Running,
        ("container", "rename" | "port" | "export" | "commit" | "diff") => first(Kind::Containers),
        ("container", "start" | "rm" | "logs" | "wait" | "update" | "exists") => Kind::Containers,
        ("container", "cp") => Kind::Paths,
        ("container", "inspect") if path.ends_with("container inspect") => Kind::Containers,
        ("container", "inspect") => Kind::Objects,
        ("container", "load" | "import") => Kind::Files,
        ("container" | "image", "pull" | "push" | "rmi" | "rm" | "save" | "history" | "tag" | "inspect" | "exists") => Kind::Images,
        ("image", "load" | "import") => Kind::Files,
        ("volume", "rm" | "inspect" | "exists" | "mount" | "unmount") => Kind::Volumes,
        ("volume", "export" | "import" | "clone" | "rename") if place == 0 => Kind::Volumes,
        ("volume", "import") => Kind::Files,
        ("network", "connect" | "disconnect") if place == 0 => Kind::Networks,
        ("network", "connect" | "disconnect") if place == 1 => Kind::Containers,
        ("network", "rm" | "inspect" | "exists") => Kind::Networks,
        ("secret", "rm" | "inspect" | "exists") => Kind::Secrets,
        ("pod", "create" | "ps" | "prune") => Kind::Nothing,
        ("pod", "top") => first(Kind::Pods),
        ("pod", _) => Kind::Pods,
        ("container", "completion") => first(Kind::Words(&["bash", "zsh", "fish"])),
        _ => Kind::Nothing,
    }
}

type Candidates = Vec<(String, String)>;

fn candidates(wanted: &Wanted, command: Option<&Command>, context: &Context) -> (Candidates, &'static str) {
    match wanted {
        Wanted::Verb => {
            let mut found = of_verbs(VERBS);
            found.extend(GROUPS.iter().map(|group| (group.names[0].to_owned(), group.about.to_owned())));
            (found, "none")
        }
        Wanted::Group(name) => (GROUPS.iter().find(|group| group.names[0] == *name).map(|group| of_verbs(group.verbs)).unwrap_or_default(), "none"),
        Wanted::Flags => (command.map(of_flags).unwrap_or_default(), "none"),
        Wanted::Value(before, kind) => {
            let (mut found, end) = of_kind(*kind, context);
            found.iter_mut().for_each(|(word, _)| word.insert_str(0, before));
            (found, end)
        }
    }
}

fn of_verbs(list: &[Verb]) -> Candidates {
    let about = |verb: &Verb| (verb.command)("rcon").get_about().map(ToString::to_string).unwrap_or_default();
    list.iter().map(|verb| (verb.names[0].to_owned(), about(verb))).collect()
}

fn of_flags(command: &Command) -> Candidates {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg.get_help().map(ToString::to_string).unwrap_or_default()))).collect()
}

fn of_kind(kind: Kind, context: &Context) -> (Candidates, &'static str) {
    let plain = |words: &[&str]| words.iter().map(|word| ((*word).to_owned(), String::new())).collect::<Candidates>();
    match kind {
        Kind::Nothing => (Candidates::new(), "none"),
        Kind::Files => (Candidates::new(), "files"),
        Kind::Words(words) => (plain(words), "none"),
        Kind::Begun(words) => (plain(words), "more"),
        Kind::Containers => (containers(context, true), "none"),
        Kind::Running => (containers(context, false), "none"),
        Kind::Images => (images(context), "none"),
        Kind::Volumes => (volumes(context), "files"),
        Kind::Pods => (pods(context), "none"),
        Kind::Networks => (networks(context), "none"),
        Kind::Modes => {
            let own = networks(context).into_iter().filter(|(name, _)| !NETWORKS.contains(&name.as_str()));
            (own.chain(plain(NETWORKS)).collect(), "none")
        }
        Kind::Secrets => (secrets(context), "none"),
        Kind::Objects => ([containers(context, true), images(context), volumes(context), networks(context), pods(context)].concat(), "none"),
        Kind::Paths => (containers(context, true).into_iter().map(|(name, what)| (name + ":", what)).collect(), "more"),
    }
}

/// The engine, where there is one already.
fn engine(context: &Context) -> Option<crate::engine::Engine> {
    context.privilege.roots.database().exists().then(|| context.engine().ok()).flatten()
}

fn containers(context: &Context, all: bool) -> Candidates {
    let views = engine(context).and_then(|engine| engine.list(all, &[]).ok()).unwrap_or_default();
    views.into_iter().map(|view| (view.record.name.as_str().to_owned(), format!("{}, {}", view.record.spec.image, view.status.as_str()))).collect()
}

fn images(context: &Context) -> Candidates {
    let views = engine(context).and_then(|engine| engine.images(&[]).ok()).unwrap_or_default();
    let mut found = Candidates::new();
    for view in &views {
        for (repository, tag, _) in super::images::names(view, false) {
            if repository != "<none>" && tag != "<none>" {
                // `latest` may be left out.
                found.extend((tag == "latest").then(|| (repository.clone(), "image".to_owned())));
                found.push((format!("{repository}:{tag}"), "image".to_owned()));
            }
        }
    }
    found
}

fn pods(context: &Context) -> Candidates {
    let list = engine(context).and_then(|engine| engine.list_pods(&[]).ok()).unwrap_or_default();
    list.into_iter().map(|view| (view.pod.name.as_str().to_owned(), format!("pod, {} containers", view.members.len()))).collect()
}

fn volumes(context: &Context) -> Candidates {
    let list = engine(context).and_then(|engine| engine.volumes(&[]).ok()).unwrap_or_default();
    list.into_iter().map(|volume| (volume.name.as_str().to_owned(), "volume".to_owned())).collect()
}

fn networks(context: &Context) -> Candidates {
    let list = engine(context).and_then(|engine| engine.networks(&[]).ok()).unwrap_or_default();
    list.into_iter().map(|network| (network.name, "network".to_owned())).collect()
}

fn secrets(context: &Context) -> Candidates {
    let list = engine(context).and_then(|engine| engine.secrets(&[]).ok()).unwrap_or_default();
    list.into_iter().map(|secret| (secret.name, "secret".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> Wanted {
        let words: Vec<&str> = line.split(' ').collect();
        let (current, before) = words.split_last().unwrap();
        at(&before.iter().map(OsString::from).collect::<Vec<_>>(), current).0
    }

    #[test]
    fn the_place_is_found() {
        let value = |kind| Wanted::Value(String::new(), kind);
        for (line, expected) in [
            ("", Wanted::Verb),
            ("ru", Wanted::Verb),
            ("--ro", Wanted::Flags),
            ("--root ", value(Kind::Files)),
            ("--root /x ", Wanted::Verb),
            ("-D run ", value(Kind::Images)),
            ("container ", Wanted::Group("container")),
            ("run --r", Wanted::Flags),
            ("run --restart ", value(Kind::Words(&["no", "on-failure", "always", "unless-stopped"]))),
            ("run --restart=o", Wanted::Value("--restart=".to_owned(), Kind::Words(&["no", "on-failure", "always", "unless-stopped"]))),
            ("run -it ", value(Kind::Images)),
            ("run -itv ", value(Kind::Volumes)),
            ("run -v/a:/b ", value(Kind::Images)),
            ("run --rm --name web ", value(Kind::Images)),
            ("run busybox -", value(Kind::Nothing)),
            ("exec web ", value(Kind::Nothing)),
            ("stop one ", value(Kind::Running)),
            ("rm -f ", value(Kind::Containers)),
            ("cp ", value(Kind::Paths)),
            ("volume rm ", value(Kind::Volumes)),
            ("volume export ", value(Kind::Volumes)),
            ("volume clone ", value(Kind::Volumes)),
            ("volume clone from ", value(Kind::Nothing)),
            ("run --network ", value(Kind::Modes)),
            ("network rm ", value(Kind::Networks)),
            ("network connect ", value(Kind::Networks)),
            ("network connect --ip 10.0.0.9 net ", value(Kind::Containers)),
            ("network connect net web ", value(Kind::Nothing)),
            ("network create ", value(Kind::Nothing)),
            ("secret rm ", value(Kind::Secrets)),
            ("image rm ", value(Kind::Images)),
            ("inspect ", value(Kind::Objects)),
            ("bogus ", value(Kind::Nothing)),
        ] {
            assert_eq!(wanted(line), expected, "{line}");
        }
    }

    #[test]
    fn every_verb_and_flag_is_offered() {
        assert!(of_verbs(VERBS).iter().all(|(name, about)| !name.is_empty() && !about.is_empty()));
        let command = VERBS.iter().find(|verb| verb.names[0] == "run").map(|verb| (verb.command)("rcon run")).unwrap();
        let flags = of_flags(&command);
        assert!(flags.iter().any(|(flag, help)| flag == "--volumes-from" && !help.is_empty()), "{flags:?}");
    }
}
