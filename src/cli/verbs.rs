//! The verbs: every name under which each can be typed, at the top and in its group.

use super::context::Context;
use super::failure::{Class, Failure};
use super::{
    artifact, attach, boot, build, builder, check, clone, commit, completion, copy, create, diff, disk_usage, endpoints, events, exec, exists,
    export, flags, health, history, images, import, info, initialise, inspect, kill, login, logout, logs, manifest, mount, network, pause, pod, port,
    prune, ps, pull, push, remove, rename, rmi, run, save, search, secret, serve, start, stats, stop, system, tag, top, update, version, volume,
    wait,
};
use std::ffi::OsString;
use std::process::ExitCode;

/// One verb.
pub struct Verb {
    /// Its name and aliases.
    pub names: &'static [&'static str],
    pub class: Class,
    /// Parses its flags and does it; the first argument is how the user spelled it.
    pub run: fn(&str, &[OsString], &Context) -> Result<ExitCode, Failure>,
    /// Its flags, for help.
    pub command: fn(&str) -> clap::Command,
}

/// Verbs about one kind of object.
pub struct Group {
    pub names: &'static [&'static str],
    pub about: &'static str,
    pub verbs: &'static [Verb],
}

macro_rules! verb {
    ($names:expr, $args:ty, $run:expr) => {
        verb!($names, $args, $run, Class::Other)
    };
    ($names:expr, $args:ty, $run:expr, $class:expr) => {
        Verb {
            names: &$names,
            class: $class,
            run: |path, args, context| $run(flags::parse::<$args>(path, args)?, context),
            command: |path| flags::command::<$args>(path),
        }
    };
}

/// Verbs without a group, in the order of help.
pub const VERBS: &[Verb] = &[
    verb!(["run"], run::Args, run::run, Class::Run),
    verb!(["exec"], exec::Args, exec::run, Class::Exec),
    verb!(["ps"], ps::Args, ps::run),
    verb!(["create"], create::Args, create::run),
    verb!(["start"], start::Args, start::run),
    verb!(["init"], initialise::Args, initialise::run),
    verb!(["stop"], stop::Args, stop::run),
    verb!(["restart"], stop::RestartArgs, stop::restart),
    verb!(["kill"], kill::Args, kill::run),
    verb!(["rm"], remove::Args, remove::run),
    verb!(["logs"], logs::Args, logs::run),
    verb!(["attach"], attach::Args, attach::run),
    verb!(["inspect"], inspect::Args, inspect::run),
    verb!(["wait"], wait::Args, wait::run),
    verb!(["rename"], rename::Args, rename::run),
    verb!(["pause"], pause::Args, pause::run),
    verb!(["unpause"], pause::UnpauseArgs, pause::unpause),
    verb!(["cp"], copy::Args, copy::run),
    verb!(["diff"], diff::Args, diff::run),
    verb!(["commit"], commit::Args, commit::run),
    verb!(["stats"], stats::Args, stats::run),
    verb!(["events"], events::Args, events::run),
    verb!(["top"], top::Args, top::run),
    verb!(["port"], port::Args, port::run),
    verb!(["update"], update::Args, update::run),
    verb!(["build"], build::Args, build::run),
    verb!(["pull"], pull::Args, pull::run),
    verb!(["push"], push::Args, push::run),
    verb!(["images"], images::Args, images::run),
    verb!(["load"], save::LoadArgs, save::load),
    verb!(["save"], save::Args, save::run),
    verb!(["history"], history::Args, history::run),
    verb!(["import"], import::Args, import::run),
    verb!(["export"], export::Args, export::run),
    verb!(["tag"], tag::Args, tag::run),
    verb!(["rmi"], rmi::Args, rmi::run),
    verb!(["search"], search::Args, search::run),
    verb!(["login"], login::Args, login::run),
    verb!(["logout"], logout::Args, logout::run),
    verb!(["serve"], serve::Args, serve::run),
    verb!(["version"], version::Args, version::run),
    verb!(["info"], info::Args, info::run),
    verb!(["completion"], completion::Args, completion::run),
];

const CONTAINER: &[Verb] = &[
    verb!(["run"], run::Args, run::run, Class::Run),
    verb!(["exec"], exec::Args, exec::run, Class::Exec),
    verb!(["ls", "list", "ps"], ps::Args, ps::run),
    verb!(["create"], create::Args, create::run),
    verb!(["start"], start::Args, start::run),
    verb!(["init"], initialise::Args, initialise::run),
    verb!(["stop"], stop::Args, stop::run),
    verb!(["restart"], stop::RestartArgs, stop::restart),
    verb!(["kill"], kill::Args, kill::run),
    verb!(["rm", "remove"], remove::Args, remove::run),
    verb!(["logs"], logs::Args, logs::run),
    verb!(["attach"], attach::Args, attach::run),
    verb!(["inspect"], inspect::ContainerArgs, inspect::container),
    verb!(["wait"], wait::Args, wait::run),
    verb!(["rename"], rename::Args, rename::run),
    verb!(["pause"], pause::Args, pause::run),
    verb!(["unpause"], pause::UnpauseArgs, pause::unpause),
    verb!(["cp"], copy::Args, copy::run),
    verb!(["diff"], diff::Args, diff::run),
    verb!(["commit"], commit::Args, commit::run),
    verb!(["stats"], stats::Args, stats::run),
    verb!(["top"], top::Args, top::run),
    verb!(["port"], port::Args, port::run),
    verb!(["update"], update::Args, update::run),
    verb!(["export"], export::Args, export::run),
    verb!(["exists"], exists::Args, exists::container),
    verb!(["clone"], clone::Args, clone::run),
    verb!(["mount"], mount::Args, mount::run),
    verb!(["umount", "unmount"], mount::UnmountArgs, mount::unmount),
    verb!(["prune"], prune::ContainerArgs, prune::container),
];

const BUILDER: &[Verb] = &[
    verb!(["build"], build::Args, build::run),
    verb!(["du"], builder::UsageArgs, builder::usage),
    verb!(["prune"], builder::PruneArgs, builder::prune),
];

const IMAGE: &[Verb] = &[
    verb!(["build"], build::Args, build::run),
    verb!(["pull"], pull::Args, pull::run),
    verb!(["push"], push::Args, push::run),
    verb!(["ls", "list"], images::Args, images::run),
    verb!(["inspect"], inspect::ImageArgs, inspect::image),
    verb!(["load"], save::LoadArgs, save::load),
    verb!(["save"], save::Args, save::run),
    verb!(["import"], import::Args, import::run),
    verb!(["history"], history::Args, history::run),
    verb!(["tag"], tag::Args, tag::run),
    verb!(["rm", "remove"], rmi::Args, rmi::run),
    verb!(["exists"], images::ExistsArgs, images::exists),
    verb!(["prune"], prune::ImageArgs, prune::image),
];

const MANIFEST: &[Verb] = &[
    verb!(["create"], manifest::CreateArgs, manifest::create),
    verb!(["annotate"], manifest::AnnotateArgs, manifest::annotate),
    verb!(["inspect"], manifest::InspectArgs, manifest::inspect),
    verb!(["push"], manifest::PushArgs, manifest::push),
    verb!(["rm"], manifest::RemoveArgs, manifest::remove),
];

const ARTIFACT: &[Verb] = &[
    verb!(["push"], artifact::PushArgs, artifact::push),
    verb!(["pull"], artifact::PullArgs, artifact::pull),
    verb!(["inspect"], artifact::InspectArgs, artifact::inspect),
];

const VOLUME: &[Verb] = &[
    verb!(["create"], volume::CreateArgs, volume::create),
    verb!(["ls", "list"], volume::ListArgs, volume::list),
    verb!(["inspect"], inspect::VolumeArgs, inspect::volume),
    verb!(["rm", "remove"], volume::RemoveArgs, volume::remove),
    verb!(["prune"], prune::VolumeArgs, prune::volume),
    verb!(["exists"], volume::ExistsArgs, volume::exists),
    verb!(["export"], volume::ExportArgs, volume::export),
    verb!(["import"], volume::ImportArgs, volume::import),
    verb!(["clone"], volume::CloneArgs, volume::clone),
    verb!(["rename"], volume::RenameArgs, volume::rename),
    verb!(["mount"], volume::MountArgs, volume::mount),
    verb!(["unmount", "umount"], volume::UnmountArgs, volume::unmount),
];

const NETWORK: &[Verb] = &[
    verb!(["create"], network::CreateArgs, network::create),
    verb!(["ls", "list"], network::ListArgs, network::list),
    verb!(["inspect"], inspect::NetworkArgs, inspect::network),
    verb!(["connect"], network::ConnectArgs, network::connect),
    verb!(["disconnect"], network::DisconnectArgs, network::disconnect),
    verb!(["rm", "remove"], network::RemoveArgs, network::remove),
    verb!(["prune"], network::PruneArgs, network::prune),
    verb!(["exists"], network::ExistsArgs, network::exists),
    verb!(["reload"], network::ReloadArgs, network::reload),
];

const SECRET: &[Verb] = &[
    verb!(["create"], secret::CreateArgs, secret::create),
    verb!(["ls", "list"], secret::ListArgs, secret::list),
    verb!(["inspect"], secret::InspectArgs, secret::inspect),
    verb!(["rm", "remove"], secret::RemoveArgs, secret::remove),
    verb!(["exists"], secret::ExistsArgs, secret::exists),
];

const SYSTEM: &[Verb] = &[
    verb!(["info"], info::Args, info::run),
    verb!(["events"], events::Args, events::run),
    verb!(["df"], disk_usage::Args, disk_usage::run),
    verb!(["check"], check::Args, check::run),
    verb!(["prune"], prune::SystemArgs, prune::system),
    verb!(["boot"], boot::Args, boot::run),
    verb!(["supervise"], boot::SuperviseArgs, boot::supervise),
    verb!(["shutdown"], boot::ShutdownArgs, boot::shutdown),
    verb!(["reset"], system::ResetArgs, system::reset),
    verb!(["migrate"], system::MigrateArgs, system::migrate),
];

const CONTEXT: &[Verb] = &[
    verb!(["ls", "list"], endpoints::ListArgs, endpoints::list),
    verb!(["show"], endpoints::ShowArgs, endpoints::current),
    verb!(["use"], endpoints::UseArgs, endpoints::choose),
    verb!(["inspect"], endpoints::InspectArgs, endpoints::inspect),
];

const HEALTHCHECK: &[Verb] = &[verb!(["run"], health::Args, health::run)];
const POD: &[Verb] = &[
    verb!(["create"], pod::CreateArgs, pod::create),
    verb!(["start"], pod::StartArgs, pod::start),
    verb!(["stop"], pod::StopArgs, pod::stop),
    verb!(["kill"], pod::KillArgs, pod::kill),
    verb!(["restart"], pod::RestartArgs, pod::restart),
    verb!(["rm", "remove"], pod::RemoveArgs, pod::remove),
    verb!(["ps", "ls", "list"], pod::PsArgs, pod::ps),
    verb!(["inspect"], pod::InspectArgs, pod::inspect),
    verb!(["logs"], pod::LogsArgs, pod::logs),
    verb!(["stats"], pod::StatsArgs, pod::stats),
    verb!(["top"], pod::TopArgs, pod::top),
    verb!(["pause"], pod::PauseArgs, pod::pause),
    verb!(["unpause"], pod::UnpauseArgs, pod::unpause),
    verb!(["clone"], pod::CloneArgs, pod::clone),
    verb!(["exists"], pod::ExistsArgs, pod::exists),
    verb!(["prune"], pod::PruneArgs, pod::prune),
];

pub const GROUPS: &[Group] = &[
    Group { names: &["container"], about: "Manage containers", verbs: CONTAINER },
    Group { names: &["healthcheck"], about: "Check the health of containers", verbs: HEALTHCHECK },
    Group { names: &["image"], about: "Manage images", verbs: IMAGE },
    Group { names: &["builder", "buildx"], about: "Manage builds", verbs: BUILDER },
    Group { names: &["manifest"], about: "Manage manifests and manifest lists", verbs: MANIFEST },
    Group { names: &["artifact"], about: "Manage files in registries that are no images", verbs: ARTIFACT },
    Group { names: &["volume"], about: "Manage volumes", verbs: VOLUME },
    Group { names: &["network"], about: "Manage networks", verbs: NETWORK },
    Group { names: &["secret"], about: "Manage secrets", verbs: SECRET },
    Group { names: &["pod"], about: "Manage pods", verbs: POD },
    Group { names: &["context"], about: "Show the engine that is used: this host", verbs: CONTEXT },
    Group { names: &["system"], about: "Manage the engine", verbs: SYSTEM },
];

/// What the typed words name.
pub enum Found<'a> {
    Verb {
        verb: &'static Verb,
        path: String,
        rest: &'a [OsString],
    },
    /// A group alone, or followed by no verb of its own.
    Group {
        group: &'static Group,
        rest: &'a [OsString],
    },
    Unknown {
        typed: String,
    },
}

/// Finds the verb at the start of `words`.
pub fn find(words: &[OsString]) -> Found<'_> {
    let first = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(verb) = VERBS.iter().find(|verb| verb.names.contains(&first.as_str())) {
        return Found::Verb { verb, path: format!("rcon {first}"), rest: &words[1..] };
    }
    let Some(group) = GROUPS.iter().find(|group| group.names.contains(&first.as_str())) else {
        return Found::Unknown { typed: first };
    };
    let second = words.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    match group.verbs.iter().find(|verb| verb.names.contains(&second.as_str())) {
        Some(verb) => Found::Verb { verb, path: format!("rcon {first} {second}"), rest: &words[2..] },
        None => Found::Group { group, rest: &words[1..] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match find(&words) {
            Found::Verb { verb, path, rest } => format!("{} {path} {}", verb.names[0], rest.len()),
            Found::Group { group, rest } => format!("group {} {}", group.names[0], rest.len()),
            Found::Unknown { typed } => format!("unknown {typed}"),
        }
    }

    #[test]
    fn both_forms_are_found() {
        for (line, expected) in [
            ("ps -a", "ps rcon ps 1"),
            ("container ls -a", "ls rcon container ls 1"),
            ("container ps", "ls rcon container ps 0"),
            ("image rm a b", "rm rcon image rm 2"),
            ("volume", "group volume 0"),
            ("volume bogus", "group volume 1"),
            ("bogus", "unknown bogus"),
        ] {
            assert_eq!(path(line), expected, "{line}");
        }
    }

    /// clap checks a command's consistency when it is built: every verb's is.
    #[test]
    fn every_command_is_sound_and_says_what_it_does() {
        for verb in VERBS.iter().chain(GROUPS.iter().flat_map(|group| group.verbs)) {
            let command = (verb.command)("rcon x");
            assert!(command.get_about().is_some(), "{}", verb.names[0]);
            command.debug_assert();
        }
    }
}
