//! `__man [PAGE]`: the manual pages in roff (man(7)), made from the same definitions as the flags. Without a page: their names,
//! one a line. The package writes them to files.

use super::context::Globals;
use super::failure::Failure;
use super::verbs::{GROUPS, VERBS, Verb};
use super::{flags, help, output, usage};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden verb.
pub const VERB: &str = "__man";

/// The page of rcon under its second name.
const RUNTIME: &str = "\
.SH SYNOPSIS
.B rcon\\-runtime
[OPTIONS] COMMAND
.SH DESCRIPTION
The same binary as
.BR rcon (1)
under a second name: a runtime of the Open Container Initiative with the command line of runc, for podman, Docker and containerd.
It needs no settings. The commands are create, start, run, state, kill, delete, exec, list, ps, pause, resume, update, events,
spec and features; each tells its options with
.BR \\-\\-help .
";

/// # Errors
/// There is no such page, or stdout cannot be written.
pub fn run(words: &[OsString]) -> Result<ExitCode, Failure> {
    let wanted = words.first().map(|word| word.to_string_lossy());
    match wanted {
        None => pages().iter().try_for_each(|page| output::line(&page.name))?,
        Some(name) => {
            let pages = pages();
            let page = pages.iter().find(|page| page.name == name).ok_or_else(|| Failure::invalid(format!("no such page: {name}")))?;
            output::raw(&page.text())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One page: the program, a group, or a verb.
struct Page {
    /// `rcon-volume-ls`.
    name: String,
    /// `rcon volume ls`.
    path: String,
    body: Body,
}

enum Body {
    Program,
    Runtime,
    Group { about: &'static str, verbs: &'static [Verb] },
    Verb(&'static Verb),
}

fn pages() -> Vec<Page> {
    let page = |path: String, body: Body| Page { name: path.replace(' ', "-"), path, body };
    let mut pages = vec![page("rcon".to_owned(), Body::Program), page(super::oci::NAME.to_owned(), Body::Runtime)];
    pages.extend(VERBS.iter().map(|verb| page(format!("rcon {}", verb.names[0]), Body::Verb(verb))));
    for group in GROUPS {
        let name = group.names[0];
        pages.push(page(format!("rcon {name}"), Body::Group { about: group.about, verbs: group.verbs }));
        pages.extend(group.verbs.iter().map(|verb| page(format!("rcon {name} {}", verb.names[0]), Body::Verb(verb))));
    }
    pages
}

impl Page {
    fn text(&self) -> String {
        let (about, body) = match &self.body {
            Body::Program => ("containers without a daemon".to_owned(), program()),
            Body::Runtime => ("an OCI runtime".to_owned(), RUNTIME.to_owned()),
            Body::Group { about, verbs } => (sentence(about), format!("{}{}", synopsis(&self.path, "COMMAND"), commands(verbs, &self.path))),
            Body::Verb(verb) => {
                let command = (verb.command)(&self.path);
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                (sentence(&about), of_command(command, &self.path))
            }
        };
        let title = self.name.to_uppercase();
        let see_also = match &self.body {
            Body::Program => String::new(),
            _ => ".SH SEE ALSO\n.BR rcon (1)\n".to_owned(),
        };
        format!(
            ".TH \"{title}\" \"1\" \"\" \"rcon {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n{body}{see_also}",
            env!("CARGO_PKG_VERSION"),
            escape(&self.name),
            escape(&about)
        )
    }
}

/// A description as manual pages have it: it begins with a small letter and has no full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn synopsis(path: &str, words: &str) -> String {
    format!(".SH SYNOPSIS\n.B {}\n{}\n", escape(path), escape(words))
}

fn of_command(command: Command, path: &str) -> String {
    let line = usage::line(&command);
    let mut text = synopsis(path, line.trim_start_matches(path).trim());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    text.push_str(&format!(".SH DESCRIPTION\n{}\n", paragraphs(&about)));
    let arguments = command.get_positionals().filter_map(|arg| Some((arg.get_value_names()?.first()?.to_string(), arg.get_help()?.to_string())));
    let arguments: String = arguments.map(|(name, help)| format!(".TP\n.I {}\n{}\n", escape(&name), paragraphs(&help))).collect();
    if !arguments.is_empty() {
        text.push_str(&format!(".SH ARGUMENTS\n{arguments}"));
    }
    text + &options(&command)
}

fn options(command: &Command) -> String {
    let mut shown: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    shown.sort_by_key(|arg| arg.get_long().map(str::to_owned));
    let rows: String = shown.into_iter().map(option).collect();
    if rows.is_empty() { String::new() } else { format!(".SH OPTIONS\n{rows}") }
}

fn option(arg: &Arg) -> String {
    let names = [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
    let names = names.into_iter().flatten().map(|name| format!("\\fB{}\\fR", escape(&name))).collect::<Vec<_>>().join(", ");
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value =
        arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_else(|| arg.get_id().to_string().to_uppercase());
    let value = match (takes, arg.is_require_equals_set()) {
        (false, _) => String::new(),
        // A boolean: its value may be left out.
        (true, true) => String::new(),
        (true, false) => format!(" \\fI{}\\fR", escape(&value)),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = if defaults.is_empty() || arg.is_hide_default_value_set() { String::new() } else { format!(" (default: {})", defaults.join(", ")) };
    format!(".TP\n{names}{value}\n{}\n", paragraphs(&(help + &default)))
}

fn commands(verbs: &[Verb], path: &str) -> String {
    let row = |verb: &Verb| {
        let about = (verb.command)(path).get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n.BR {} (1)\n{}\n", escape(&format!("{path} {}", verb.names[0]).replace(' ', "-")), escape(&about))
    };
    format!(".SH COMMANDS\n{}", verbs.iter().map(row).collect::<String>())
}

fn program() -> String {
    let groups = GROUPS.iter().map(|group| format!(".TP\n.BR rcon\\-{} (1)\n{}\n", escape(group.names[0]), escape(group.about))).collect::<String>();
    let environment: String = help::environment().map(|(name, meaning)| format!(".TP\n.B {}\n{}\n", escape(name), escape(meaning))).collect();
    format!(
        "{}.SH DESCRIPTION\nrcon runs containers: it pulls images, isolates and limits processes, keeps their data and publishes their ports. \
         There is no daemon: each command does its work itself, and one small process stays with each container.\n{}{groups}{}\
         .SH ENVIRONMENT\n{environment}.SH FILES\n.TP\n.I /etc/rcon/rcon.toml\nsettings, with drop\\-ins in /etc/rcon/rcon.toml.d\n\
         .TP\n.I /var/lib/rcon\nimages, containers and volumes\n.TP\n.I /run/rcon\nwhat runs\n\
         .SH EXIT STATUS\nThat of the container's process for run, exec and start \\-a; 125 when rcon fails before it, 126 when the command cannot be \
         executed, 127 when it is not found, and 128 and the signal when it was killed. Other commands end with 0, or with 1 if any of their objects failed.\n",
        synopsis("rcon", "[OPTIONS] COMMAND"),
        commands(VERBS, "rcon"),
        options(&flags::command::<Globals>("rcon")),
    )
}

/// Lines of text, each safe at the beginning of a line of roff.
fn paragraphs(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| escape(line.trim())).collect::<Vec<_>>().join("\n.br\n")
}

/// Text for roff: no control line, no escape, hyphens that can be copied.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_sections() {
        let pages = pages();
        let mut names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert!(names.contains(&"rcon-run") && names.contains(&"rcon-volume-ls") && names.contains(&"rcon-volume"));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), pages.len(), "no name twice");
        for page in &pages {
            let text = page.text();
            for part in [".TH \"RCON", ".SH NAME\nrcon", ".SH SYNOPSIS\n.B rcon"] {
                assert!(text.contains(part), "{}: {text}", page.name);
            }
            assert!(text.lines().all(|line| !line.starts_with(' ') && !line.starts_with('\'')), "{}: {text}", page.name);
        }
    }

    #[test]
    fn text_is_no_request() {
        assert_eq!(escape(".x \\ -y"), "\\&.x \\e \\-y");
        assert_eq!(paragraphs("a\n\n 'b"), "a\n.br\n\\&'b");
        assert_eq!(sentence("Show it."), "show it");
    }
}
