//! `--systemd`: what a systemd as first process needs, as https://systemd.io/CONTAINER_INTERFACE has it: writable `/run` and
//! `/tmp` in memory, its own control groups to write, its own signal to stop.

use super::super::request::{CreateContainer, MountRequest, MountSource};
use super::super::{Error, Result};
use super::merge;
use super::resources::HostFacts;
use crate::base::Signal;
use crate::oci::ImageDefaults;
use crate::state::record::CgroupnsMode;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What is in memory, with its options.
const MEMORY: [(&str, &str); 4] =
    [("/run", "exec,mode=755"), ("/run/lock", "mode=1777"), ("/tmp", "exec,mode=1777"), ("/var/log/journal", "mode=755")];
/// systemd(1): shut down in good order.
const STOP: &str = "RTMIN+3";

/// The request with that in it, if it asks for it and its command is meant.
///
/// # Errors
/// The host cannot let a container manage groups below its own.
pub(super) fn set_up<'a>(request: &'a CreateContainer, image: &ImageDefaults, facts: &HostFacts) -> Result<Cow<'a, CreateContainer>> {
    let (entrypoint, cmd) = merge::command(request, image);
    let program = entrypoint.iter().flatten().chain(cmd.iter().flatten()).next().map_or("", String::as_str);
    if !request.systemd.applies(program) {
        return Ok(Cow::Borrowed(request));
    }
    let refuse = |message: &str, hint: &str| Err(Error::Invalid { message: message.to_owned(), hint: Some(hint.to_owned()) });
    if !facts.unified {
        let message = "--systemd: a systemd manages control groups below its own, which only a host with cgroup v2 can let it do safely";
        return refuse(message, "boot the host with systemd.unified_cgroup_hierarchy=1, or run the service itself as the container's command");
    }
    if matches!(request.host.cgroupns, Some(CgroupnsMode::Host | CgroupnsMode::Pod)) {
        return refuse("conflicting options: --systemd and a cgroup namespace that is not the container's own", "drop --cgroupns");
    }
    let mut request = request.clone();
    request.host.systemd = true;
    // Also with --privileged, whose default is the host's.
    request.host.cgroupns = Some(CgroupnsMode::Private);
    if request.stop_signal.is_none() && image.stop_signal.as_deref().is_none_or(str::is_empty) {
        request.stop_signal = STOP.parse::<Signal>().ok();
    }
    for (path, options) in MEMORY {
        // What the user mounts there, or on what it would be in, is meant so.
        if !request.mounts.iter().any(|mount| mount.destination == Path::new(path)) {
            request.mounts.push(MountRequest {
                destination: PathBuf::from(path),
                source: MountSource::Tmpfs { options: options.to_owned(), from_flag: true },
                read_only: false,
                mode: String::new(),
                propagation: String::new(),
                bind_text: None,
                options: Default::default(),
            });
        }
    }
    Ok(Cow::Owned(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::start::Systemd;

    fn facts(unified: bool) -> HostFacts {
        HostFacts { unified, ..HostFacts::read() }
    }

    #[test]
    fn a_systemd_gets_what_it_needs_and_nothing_else_does() {
        let request = |systemd, command: &str| CreateContainer { systemd, command: vec![command.to_owned()], ..CreateContainer::default() };
        let defaults = ImageDefaults::default();
        assert!(matches!(set_up(&request(Systemd::Detect, "sh"), &defaults, &facts(false)), Ok(Cow::Borrowed(_))));
        let made = request(Systemd::Detect, "/sbin/init");
        let made = set_up(&made, &defaults, &facts(true)).unwrap();
        assert!(made.host.systemd && made.host.cgroupns == Some(CgroupnsMode::Private));
        assert_eq!((made.mounts.len(), made.stop_signal.map(Signal::number)), (4, Some(37)));
        let stopped = ImageDefaults { stop_signal: Some("INT".to_owned()), ..ImageDefaults::default() };
        assert_eq!(set_up(&request(Systemd::Always, "sh"), &stopped, &facts(true)).unwrap().stop_signal, None, "the image says it");
        assert!(set_up(&request(Systemd::Always, "sh"), &defaults, &facts(false)).unwrap_err().to_string().contains("cgroup v2"));
    }
}
