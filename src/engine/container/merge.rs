//! Image defaults and request merged into the record's process (pure). The rules are Docker's.

use super::super::request::CreateContainer;
use super::super::{Error, Result};
use crate::oci::ImageDefaults;
use crate::state::record::ProcessSpec;
use std::collections::{BTreeMap, BTreeSet};

/// The process of a container: request over image.
///
/// # Errors
/// There is no command at all, the working directory is relative, or an environment entry holds a NUL.
pub(super) fn process(request: &CreateContainer, image: &ImageDefaults, warnings: &mut Vec<String>) -> Result<ProcessSpec> {
    let (entrypoint, cmd) = command(request, image);
    if entrypoint.as_ref().is_none_or(Vec::is_empty) && cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Invalid {
            message: "no command specified".to_owned(),
            hint: Some("the image has no CMD: give a command after the image's name".to_owned()),
        });
    }
    let workdir = request.workdir.clone().filter(|w| !w.is_empty()).or_else(|| image.working_dir.clone()).unwrap_or_default();
    if !workdir.is_empty() && !workdir.starts_with('/') {
        return Err(Error::invalid(format!("the working directory \"{workdir}\" is invalid: it needs to be an absolute path")));
    }
    let stop_signal = match (&request.stop_signal, image.stop_signal.as_deref().filter(|s| !s.is_empty())) {
        (Some(signal), _) => Some(*signal),
        (None, Some(text)) => match text.parse() {
            Ok(signal) => Some(signal),
            Err(why) => {
                warnings.push(format!("the image's STOPSIGNAL is ignored: {why}"));
                None
            }
        },
        (None, None) => None,
    };
    let inherited = if request.unset_env { &[] } else { image.env.as_deref().unwrap_or_default() };
    let env = environment(&request.env, inherited);
    let texts = env.iter().chain(entrypoint.iter().flatten()).chain(cmd.iter().flatten()).chain([&workdir]);
    for text in texts {
        if text.contains('\0') {
            return Err(Error::invalid("a NUL character is not possible in arguments, environment or working directory"));
        }
    }
    Ok(ProcessSpec {
        entrypoint,
        cmd,
        env,
        user: request.user.clone().or_else(|| image.user.clone()).unwrap_or_default(),
        workdir,
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        attach_stdin: request.attach_stdin,
        attach_stdout: request.attach_stdout,
        attach_stderr: request.attach_stderr,
        stop_signal,
        stop_timeout: request.stop_timeout,
    })
}

/// A given entrypoint also clears the image's cmd; an empty one resets it.
pub(super) fn command(request: &CreateContainer, image: &ImageDefaults) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    match &request.entrypoint {
        // `--entrypoint ""` arrives as an empty list or as one empty word.
        Some(words) if words.iter().all(String::is_empty) => (None, some(&request.command)),
        Some(words) => (Some(words.clone()), some(&request.command)),
        None => {
            let cmd = some(&request.command).or_else(|| image.cmd.as_deref().and_then(some));
            (image.entrypoint.as_deref().and_then(some), cmd)
        }
    }
}

/// The request's variables, then those of the image that the request does not name. A bare `K` of the request takes
/// the image's away; an image entry without `=` is dropped (it must never read the engine's own environment).
fn environment(request: &[String], image: &[String]) -> Vec<String> {
    let key = |entry: &str| entry.split_once('=').map_or(entry, |(k, _)| k).to_owned();
    let named: BTreeSet<String> = request.iter().map(|e| key(e)).collect();
    let own = request.iter().filter(|e| e.contains('='));
    let inherited = image.iter().filter(|e| e.find('=').is_some_and(|at| at > 0) && !named.contains(&key(e)));
    own.chain(inherited).cloned().collect()
}

/// The image's labels with the request's over them.
pub(super) fn labels(request: &BTreeMap<String, String>, image: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut labels = image.cloned().unwrap_or_default();
    labels.extend(request.iter().map(|(k, v)| (k.clone(), v.clone())));
    labels
}

/// EXPOSE of image and request as `port/protocol`, sorted by number.
pub(super) fn exposed(request: &[String], image: Option<&BTreeMap<String, serde_json::Value>>) -> Result<Vec<String>> {
    let mut all = BTreeSet::new();
    for text in request.iter().chain(image.into_iter().flat_map(BTreeMap::keys)) {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let wrong = || Error::invalid(format!("invalid port to expose \"{text}\""));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first == 0 || last < first || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(wrong());
        }
        all.extend((first..=last).map(|port| (port, protocol.clone())));
    }
    Ok(all.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> ImageDefaults {
        ImageDefaults {
            entrypoint: Some(words("/entry -x")),
            cmd: Some(words("default arg")),
            env: Some(words("PATH=/p A=image BARE")),
            ..ImageDefaults::default()
        }
    }

    #[test]
    fn entrypoint_and_command_follow_docker() {
        let merged = |entrypoint: Option<&str>, command: &str| {
            let request = CreateContainer { entrypoint: entrypoint.map(words), command: words(command), ..CreateContainer::default() };
            process(&request, &image(), &mut Vec::new()).map(|p| (p.entrypoint.unwrap_or_default().join(" "), p.cmd.unwrap_or_default().join(" ")))
        };
        for (entrypoint, command, expected) in [
            (None, "", ("/entry -x", "default arg")),
            (None, "other", ("/entry -x", "other")),
            (Some("sh"), "", ("sh", "")),
            (Some("sh"), "-c true", ("sh", "-c true")),
            (Some(""), "ls", ("", "ls")),
        ] {
            let (e, c) = merged(entrypoint, command).unwrap();
            assert_eq!((e.as_str(), c.as_str()), expected);
        }
        assert_eq!(merged(Some(""), "").unwrap_err().to_string(), "no command specified");
    }

    #[test]
    fn environment_keeps_duplicates_and_drops_names_without_value() {
        assert_eq!(environment(&words("B=1 B=2 A=mine"), &words("PATH=/p A=image BARE =x")), words("B=1 B=2 A=mine PATH=/p"));
        assert_eq!(environment(&words("A"), &words("PATH=/p A=image")), words("PATH=/p"));
    }

    #[test]
    fn exposed_ports_are_expanded_and_sorted() {
        assert_eq!(exposed(&words("90-91/UDP 80"), None).unwrap(), words("80/tcp 90/udp 91/udp"));
        assert!(exposed(&words("0"), None).is_err());
        assert!(exposed(&words("90-80"), None).is_err());
    }
}
