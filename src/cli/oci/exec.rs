//! `exec`.

use super::foreground::{self, Signals};
use super::inherited::Inherited;
use super::{Context, console, parse_in_order};
use crate::base::fs::{self, Context as _};
use crate::cli::failure::Failure;
use crate::runtime::config;
use crate::runtime::container::{Container, Process};
use clap::Parser;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process as Spec};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code when the process could not be run, as runc's.
const FAILED: u8 = 255;

/// Run another process in a running container.
#[derive(Parser, Debug)]
struct Exec {
    /// File with the process in the config's form; other flags change what it says
    #[arg(short = 'p', long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Unix socket that gets the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Unix socket that gets a descriptor of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File that gets the process's pid
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return when the process runs
    #[arg(short = 'd', long)]
    detach: bool,
    /// Set an environment variable (NAME=VALUE)
    #[arg(short = 'e', long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// User id, and group id after a colon
    #[arg(short = 'u', long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Further group id
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Add a capability
    #[arg(short = 'c', long, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Forbid new privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = crate::engine::request::parse_bool)]
    no_new_privs: Option<bool>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Pass this number of further descriptors (3, 4, …)
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Go on although the container is paused; the process runs when it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Group to join, below the container's own: [CONTROLLER[,CONTROLLER]:]PATH; may be repeated
    #[arg(long, value_name = "GROUP")]
    cgroup: Vec<String>,
    /// The container, then the command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CONTAINER COMMAND")]
    words: Vec<String>,
}

pub fn exec(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Exec = parse_in_order("exec", args)?;
    run(&flags, context).map_err(|failure| failure.within("exec failed").with_code(FAILED))
}

fn run(flags: &Exec, context: &Context) -> Result<ExitCode, Failure> {
    let (id, command) = flags.words.split_first().ok_or_else(|| Failure::invalid("container id cannot be empty"))?;
    let container = context.open(id)?;
    let mut spec = process(flags, command, &container)?;
    let terminal = spec.terminal().unwrap_or(false);
    console::check(terminal, flags.detach, flags.console_socket.as_ref())?;
    let inherited = Inherited::only(flags.preserve_fds)?;
    if terminal && !flags.detach {
        foreground::fit(&mut spec);
    }
    let signals = if flags.detach { None } else { Some(Signals::block(false)?) };
    let process = Process { spec, preserve_fds: inherited.count, ignore_paused: flags.ignore_paused, cgroup: flags.cgroup.clone() };
    let mut started = container.exec(&process)?;
    if let Some(socket) = &flags.console_socket
        && let Some(master) = started.console.take()
    {
        console::send(socket, &master)?;
    }
    if let Some(socket) = &flags.pidfd_socket {
        console::send_pidfd(socket, "setns", started.pid)?;
    }
    if let Some(path) = &flags.pid_file {
        fs::replace(path, started.pid.to_string().as_bytes(), 0o644)?;
    }
    match signals {
        Some(signals) => Ok(ExitCode::from(signals.wait(started)?)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The process of `--process`, or the container's own with another command; the flags on top.
fn process(flags: &Exec, command: &[String], container: &Container) -> Result<Spec, Failure> {
    let spec = match &flags.process {
        Some(path) => {
            if !command.is_empty() {
                return Err(Failure::invalid("give a command or --process, not both"));
            }
            let text = std::fs::read(path).on("read", path)?;
            let read = config::read_process(&text);
            let read = read.map_err(|error| Failure::caused(format!("cannot read process file {}", path.display()), &error))?;
            for warning in read.warnings {
                tracing::warn!("{}: {warning}", path.display());
            }
            read.document
        }
        None => {
            let mut spec = container.spec()?.process().clone().unwrap_or_default();
            spec.set_args(Some(command.to_vec())).set_terminal(Some(false));
            spec
        }
    };
    let spec = merge(spec, flags)?;
    if spec.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Failure::invalid("process args cannot be empty"));
    }
    Ok(spec)
}

fn merge(mut spec: Spec, flags: &Exec) -> Result<Spec, Failure> {
    if flags.tty {
        spec.set_terminal(Some(true));
    }
    if let Some(cwd) = &flags.cwd {
        spec.set_cwd(cwd.clone());
    }
    if let Some(profile) = &flags.apparmor {
        spec.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &flags.process_label {
        spec.set_selinux_label(Some(label.clone()));
    }
    if let Some(value) = flags.no_new_privs {
        spec.set_no_new_privileges(Some(value));
    }
    if !flags.env.is_empty() {
        spec.set_env(Some(environment(spec.env().clone().unwrap_or_default(), &flags.env)?));
    }
    let mut user = spec.user().clone();
    if let Some(text) = &flags.user {
        let (uid, gid) = ids(text)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !flags.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&flags.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    spec.set_user(user);
    if !flags.cap.is_empty() {
        let sets = spec.capabilities().clone().unwrap_or_else(none);
        spec.set_capabilities(Some(add(sets, &flags.cap)?));
    }
    Ok(spec)
}

/// `uid[:gid]` in digits. Names are in the container, whose files are not ours to trust here.
fn ids(text: &str) -> Result<(u32, Option<u32>), Failure> {
    // -1 is "no id" to the kernel.
    let number = |digits: &str| match digits.parse::<u32>() {
        Ok(id) if id != u32::MAX && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
        _ => Err(Failure::invalid(format!("invalid --user \"{text}\": expected UID[:GID] in digits"))),
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// The last value of a name counts, in the place of the first.
fn environment(mut variables: Vec<String>, added: &[String]) -> Result<Vec<String>, Failure> {
    for text in added {
        let Some((name, _)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::invalid(format!("invalid --env \"{text}\": expected NAME=VALUE")));
        };
        let same = |variable: &String| variable.split_once('=').is_some_and(|(known, _)| known == name);
        match variables.iter().position(same) {
            Some(at) => {
                variables[at].clone_from(text);
                let mut index = 0;
                variables.retain(|variable| {
                    index += 1;
                    index <= at + 1 || !same(variable)
                });
            }
            None => variables.push(text.clone()),
        }
    }
    Ok(variables)
}

/// `LinuxCapabilities::default()` is a choice of some.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

/// Adds capabilities as `runc` does: not to the inheritable set (CVE-2022-29162), and to the ambient one only what is
/// inheritable already, as the kernel demands.
fn add(mut sets: LinuxCapabilities, added: &[String]) -> Result<LinuxCapabilities, Failure> {
    for text in added {
        let upper = text.to_ascii_uppercase();
        let capability: Capability =
            upper.strip_prefix("CAP_").unwrap_or(&upper).parse().map_err(|_| Failure::invalid(format!("unknown capability \"{text}\" of --cap")))?;
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        if sets.inheritable().as_ref().is_some_and(|set| set.contains(&capability)) {
            let ambient = with(sets.ambient());
            sets.set_ambient(ambient);
        }
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(words: &[&str]) -> Result<Spec, Failure> {
        let words: Vec<OsString> = words.iter().chain(&["id", "sh"]).map(OsString::from).collect();
        let flags: Exec = parse_in_order("exec", &words)?;
        let mut spec = Spec::default();
        spec.set_capabilities(Some(none())).set_env(Some(vec!["A=1".to_owned(), "B=2".to_owned(), "A=3".to_owned()]));
        merge(spec, &flags)
    }

    #[test]
    fn users_are_numbers_and_never_become_root() {
        let user = |text: &str| merged(&["-u", text]).map(|spec| (spec.user().uid(), spec.user().gid()));
        assert_eq!(user("1").unwrap(), (1, 0));
        assert_eq!(user("1000:77").unwrap(), (1000, 77));
        for bad in ["x", "-1", "+1", "1:", ":1", "4294967295", "4294967296", "1:x", " 1", "0x1"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_change_the_process() {
        let spec =
            merged(&["-e", "A=4", "--env=C=", "-cwd", "/tmp", "-t", "--no-new-privs", "-g", "5", "-g", "6", "--apparmor", "p", "--process-label=l"]);
        let spec = spec.unwrap();
        assert_eq!(spec.env().as_deref(), Some(&["A=4".to_owned(), "B=2".to_owned(), "C=".to_owned()][..]));
        assert_eq!((spec.cwd().to_str(), spec.terminal(), spec.no_new_privileges()), (Some("/tmp"), Some(true), Some(true)));
        assert_eq!(spec.user().additional_gids().as_deref(), Some(&[5, 6][..]));
        assert_eq!((spec.apparmor_profile().as_deref(), spec.selinux_label().as_deref()), (Some("p"), Some("l")));
        assert_eq!(merged(&["--no-new-privs=false"]).unwrap().no_new_privileges(), Some(false));
        assert!(merged(&["-e", "=x"]).is_err() && merged(&["-e", "x"]).is_err());
    }

    #[test]
    fn capabilities_are_added_to_the_sets_that_may_have_them() {
        let sets = merged(&["--cap", "CAP_SYS_ADMIN", "-c", "net_raw"]).unwrap().capabilities().clone().unwrap();
        let both: Capabilities = [Capability::SysAdmin, Capability::NetRaw].into_iter().collect();
        assert_eq!((sets.bounding(), sets.effective(), sets.permitted()), (&Some(both.clone()), &Some(both.clone()), &Some(both)));
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
        let mut inheritable = none();
        inheritable.set_inheritable(Some([Capability::NetRaw].into_iter().collect()));
        let sets = add(inheritable, &["CAP_NET_RAW".to_owned(), "CAP_KILL".to_owned()]).unwrap();
        assert_eq!(sets.ambient(), &Some([Capability::NetRaw].into_iter().collect()));
        assert!(merged(&["--cap", "NONE_SUCH"]).is_err());
    }
}
