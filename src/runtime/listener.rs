//! The listener of a seccomp filter with `SCMP_ACT_NOTIFY`: from the stage that loads the filter to the agent of
//! `linux.seccomp.listenerPath` (config-linux.md, Seccomp and The Container Process State).
//!
//! The stage may not send a descriptor once its filter is in force, so its peer (who opened the gate, or who execs) fetches
//! it. In order: the stage sends a descriptor of itself, loads, writes the listener's number, and waits for a word; the peer
//! takes a copy of the listener, hands it to the agent, and says the word.
//!
//! Invariants: the program is executed only when the agent has the listener; whatever goes wrong before ends the stage.
//! Between the load and the word the stage uses `write` and `read` alone: a filter that notifies of these is refused.

use super::channel::Channel;
use super::error::{At, Error, Failure, REPORT_LIMIT};
use super::{hooks, seccomp};
use crate::sys::rights;
use oci_spec::runtime::{ContainerProcessState, ContainerState, LinuxSeccomp, LinuxSeccompAction, SECCOMP_FD_NAME, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, pidfd_getfd, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Peer to stage: the agent has the listener.
const HANDED: u8 = b'A';
/// What the kernel calls a listener (kernel/seccomp.c, init_listener).
const KIND: &str = "anon_inode:seccomp notify";
/// Calls of the stage before anybody could answer a notification.
const STAGE_CALLS: [&str; 2] = ["read", "write"];

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

impl Listener {
    /// That of the config, if its filter notifies; else the field is ignored, as the specification says.
    pub fn of(spec: &Spec) -> Option<Self> {
        let profile = spec.linux().as_ref()?.seccomp().as_ref()?;
        let path = profile.listener_path().clone().filter(|_| seccomp::needs_listener(profile))?;
        Some(Listener { path, metadata: profile.listener_metadata().clone() })
    }
}

/// What the peer of a stage needs to serve it.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub listener: Listener,
    pub state: hooks::State,
    /// For the init process "creating", as in the specification's example: it is not the user's program yet.
    pub status: ContainerState,
    /// The container's init process; None: the stage is.
    pub init: Option<i32>,
}

impl Agent {
    /// None when the config's filter notifies nobody.
    ///
    /// # Errors
    /// There is no such socket; `Unsupported`: the caller gives no state to tell the agent.
    pub fn of(spec: &Spec, state: Option<&hooks::State>, status: ContainerState) -> Result<Option<Self>, Error> {
        let Some(listener) = Listener::of(spec) else { return Ok(None) };
        let state = state.ok_or_else(|| Error::Unsupported("linux.seccomp.listenerPath for this container".to_owned()))?;
        let path = &listener.path;
        let found = rustix::fs::stat(path).at(&format!("find the seccomp agent's socket \"{}\" (linux.seccomp.listenerPath)", path.display()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
            return Err(Error::Invalid(format!("linux.seccomp.listenerPath \"{}\" is not a socket", path.display())));
        }
        Ok(Some(Agent { listener, state: state.clone(), status, init: None }))
    }
}

/// Refuses profiles whose notifications would reach nobody.
///
/// # Errors
/// `Invalid` names the field.
pub(super) fn check(profile: &LinuxSeccomp) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if path.is_none() && profile.listener_metadata().as_ref().is_some_and(|text| !text.is_empty()) {
        return invalid("linux.seccomp.listenerMetadata needs linux.seccomp.listenerPath".to_owned());
    }
    if !seccomp::needs_listener(profile) {
        return Ok(());
    }
    if path.is_none() {
        return invalid("linux.seccomp: SCMP_ACT_NOTIFY needs the socket of an agent in linux.seccomp.listenerPath".to_owned());
    }
    let notify = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == notify {
        return invalid("linux.seccomp.defaultAction cannot be SCMP_ACT_NOTIFY: name the system calls".to_owned());
    }
    let notified = profile.syscalls().iter().flatten().filter(|rule| rule.action() == notify).flat_map(|rule| rule.names());
    match notified.into_iter().find(|name| STAGE_CALLS.contains(&name.as_str())) {
        Some(name) => invalid(format!("linux.seccomp: SCMP_ACT_NOTIFY cannot be used for {name}, which hands over the listener")),
        None => Ok(()),
    }
}

/// The stage's part: loads the filter with `load` and returns when the agent has its listener, which stays open until `execve`.
pub(super) fn hand_over(channel: &Channel, load: impl FnOnce() -> Result<OwnedFd, Failure>) -> Result<(), Failure> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).at("open our own process")?;
    channel.filter(own.as_fd())?;
    // Nothing is closed behind the filter, which need not allow that.
    drop(own);
    let listener = std::mem::ManuallyDrop::new(load()?);
    rustix::io::write(channel.fd(), &listener.as_raw_fd().to_le_bytes()).at("name the seccomp listener")?;
    let mut word = [0; 8];
    let length = rustix::io::read(channel.fd(), &mut word).at("wait for the seccomp agent")?;
    if word.get(..length) == Some(&[HANDED]) { Ok(()) } else { Err(Failure::step("hand over the seccomp listener", Errno::PIPE)) }
}

/// The peer's part, once the stage (`process`) has said that it loads a filter. If it fails the stage is killed.
pub(super) fn serve(channel: &Channel, process: BorrowedFd<'_>, agent: Option<&Agent>) -> Result<(), Error> {
    let outcome = fetch(channel, process).and_then(|listener| {
        let agent = agent.ok_or_else(|| Error::Unsupported("a seccomp listener that nobody waits for".to_owned()))?;
        agent.tell(listener.as_fd(), pid_of(process)?)?;
        Ok(channel.say(HANDED)?)
    });
    outcome.inspect_err(|_| {
        // One that has ended needs no signal.
        pidfd_send_signal(process, Signal::KILL).ok();
    })
}

/// A copy of the listener; nothing else of the stage is taken for one.
fn fetch(channel: &Channel, process: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let mut message = vec![0; REPORT_LIMIT];
    let length = channel.hear(&mut message)?;
    let number = match &message[..length] {
        [] => return Err(Error::Lost("ended while it loaded its seccomp filter".to_owned())),
        [a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]),
        report => return Err(Failure::decode(report).unwrap_or_else(|| Failure::step("read the stage's report", Errno::PROTO)).into()),
    };
    let listener = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).at("take the seccomp listener from the container's process")?;
    let kind = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", listener.as_raw_fd()), Vec::new()).at("examine the seccomp listener")?;
    if kind.as_bytes() != KIND.as_bytes() {
        return Err(Failure::step("find a seccomp listener in the container's process", Errno::BADF).into());
    }
    Ok(listener)
}

/// The pid of a process as this one counts it (`Pid:` in fdinfo, proc_pid_fdinfo(5)).
pub(super) fn pid_of(process: BorrowedFd<'_>) -> Result<i32, Failure> {
    let path = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
    let text = std::fs::read_to_string(&path).at_path("read", Path::new(&path))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Failure::step("find the pid of the container's process", Errno::SRCH))
}

impl Agent {
    /// One connection, one document, one descriptor.
    fn tell(&self, listener: BorrowedFd<'_>, pid: i32) -> Result<(), Failure> {
        let path = &self.listener.path;
        let socket = connect(path).at(&format!("connect to the seccomp agent at \"{}\" (linux.seccomp.listenerPath)", path.display()))?;
        let step = format!("send to the seccomp agent at \"{}\" (linux.seccomp.listenerPath)", path.display());
        let document = self.document(pid);
        let mut sent = rights::send(&socket, &document, &[listener]).at(&step)?;
        while sent < document.len() {
            sent += rights::send(&socket, &document[sent..], &[]).at(&step)?;
        }
        Ok(())
    }

    fn document(&self, pid: i32) -> Vec<u8> {
        let mut document = ContainerProcessState::default();
        document
            .set_version(self.state.oci_version.clone())
            .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
            .set_pid(pid)
            .set_metadata(self.listener.metadata.clone())
            .set_state(self.state.describe(self.status, Some(self.init.unwrap_or(pid))));
        serde_json::to_vec(&document).expect("invariant: a state document has nothing that JSON cannot say")
    }
}

/// A path longer than a socket address goes through a descriptor of its directory.
fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let directory;
    let address = match (SocketAddrUnix::new(path), path.parent(), path.file_name()) {
        (Err(Errno::NAMETOOLONG), Some(parent), Some(name)) => {
            directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            SocketAddrUnix::new(PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))?
        }
        (address, ..) => address?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{Listener, check};
    use oci_spec::runtime::Spec;
    use serde_json::{Value, json};

    fn spec(profile: Value) -> Spec {
        serde_json::from_value(json!({"ociVersion": "1.2.0", "linux": {"seccomp": profile}})).unwrap()
    }

    #[test]
    fn notifications_that_reach_nobody_are_refused() {
        let notify = |name: &str| json!([{"names": ["mkdir", name], "action": "SCMP_ACT_NOTIFY"}]);
        for (message, profile) in [
            ("listenerPath", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify("chmod")})),
            ("listenerPath", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify("chmod"), "listenerPath": ""})),
            ("defaultAction", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a"})),
            ("for read,", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify("read"), "listenerPath": "/a"})),
            ("for write,", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": notify("write"), "listenerPath": "/a"})),
            ("listenerMetadata", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"})),
        ] {
            let error = check(spec(profile).linux().as_ref().unwrap().seccomp().as_ref().unwrap()).unwrap_err();
            assert!(error.to_string().contains(message), "{message}: {error}");
        }
    }

    #[test]
    fn a_path_without_notifications_is_ignored() {
        let unused = spec(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "listenerMetadata": "x"}));
        check(unused.linux().as_ref().unwrap().seccomp().as_ref().unwrap()).unwrap();
        assert_eq!(Listener::of(&unused), None);
        let used =
            spec(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}));
        assert_eq!(Listener::of(&used), Some(Listener { path: "/a".into(), metadata: None }));
    }
}
