//! Telling systemd that the container is ready (sd_notify(3)): by the monitor itself, or by passing on what a process of the
//! container says to a socket of its own.
//!
//! Invariant: what the container says can make its service ready, stop it or keep its watchdog quiet, and nothing else: it
//! names no process of the host and stores no descriptor.

use super::life::Monitor;
use super::{Error, live};
use crate::base::fs::{self, Context};
use crate::state::record::Readiness;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

/// What a process of the container may say about itself.
const PASSED_ON: &[&str] =
    &["READY", "RELOADING", "STOPPING", "STATUS", "ERRNO", "BUSERROR", "WATCHDOG", "WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC"];
/// Longer messages are cut; systemd itself takes a page.
const LONGEST: usize = 4096;

/// Who is told, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notify {
    /// `NOTIFY_SOCKET` of the command that started the container: a path, or `@` and an abstract name.
    pub socket: PathBuf,
    pub from: Readiness,
    /// The command does not stay: the monitor is the service's main process.
    pub main: bool,
}

/// Where the socket for the container's own processes is.
pub fn notify_path(live_dir: &Path) -> PathBuf {
    live_dir.join(live::NOTIFY)
}

/// The monitor's end.
pub(super) struct Herald {
    notify: Notify,
    socket: UnixDatagram,
    /// For the container's own words.
    inside: Option<UnixDatagram>,
    told: bool,
    healthy: bool,
}

impl Herald {
    /// # Errors
    /// The socket for the container cannot be made.
    pub(super) fn new(notify: Notify, live_dir: &Path) -> Result<Self, Error> {
        let socket = UnixDatagram::unbound().map_err(Error::system("make a socket for readiness"))?;
        let inside = if notify.from == Readiness::Container { Some(listen(live_dir)?) } else { None };
        Ok(Herald { notify, socket, inside, told: false, healthy: false })
    }

    /// What is waited on.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.inside.as_ref().map(AsFd::as_fd)
    }

    fn say(&self, text: &str) {
        let sent = address(self.notify.socket.as_os_str()).and_then(|address| self.socket.send_to_addr(text.as_bytes(), &address));
        if let Err(error) = sent {
            tracing::warn!("cannot tell {} that the container is ready: {error}", self.notify.socket.display());
        }
    }
}

impl Monitor<'_> {
    /// A run has begun. systemd hears of the first one only: a service that was ready stays so through restarts.
    pub(super) fn tell_started(&mut self) {
        let Some(herald) = &mut self.herald else { return };
        if std::mem::replace(&mut herald.told, true) {
            return;
        }
        let main = if herald.notify.main { format!("MAINPID={}\n", rustix::process::getpid().as_raw_nonzero()) } else { String::new() };
        let ready = if herald.notify.from == Readiness::Started { "READY=1\n" } else { "" };
        if !(main.is_empty() && ready.is_empty()) {
            herald.say(&format!("{main}{ready}"));
        }
    }

    /// The health check has succeeded.
    pub(super) fn tell_healthy(&mut self) {
        if let Some(herald) = self.herald.as_mut().filter(|herald| herald.notify.from == Readiness::Healthy)
            && !std::mem::replace(&mut herald.healthy, true)
        {
            herald.say("READY=1\n");
        }
    }

    /// Passes on one message of the container.
    pub(super) fn pass_on(&mut self) {
        let Some(herald) = &self.herald else { return };
        let Some(inside) = &herald.inside else { return };
        let mut buffer = [0u8; LONGEST];
        if let Ok(count) = inside.recv(&mut buffer) {
            let text = passed_on(&buffer[..count]);
            if !text.is_empty() {
                herald.say(&text);
            }
        }
    }
}

/// The lines of a message that the container may say.
fn passed_on(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let known = |line: &&str| line.split_once('=').is_some_and(|(key, _)| PASSED_ON.contains(&key));
    text.lines().filter(known).flat_map(|line| [line, "\n"]).collect()
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Everybody in the container may write to it, whoever they are there.
fn listen(live_dir: &Path) -> Result<UnixDatagram, Error> {
    let path = notify_path(live_dir);
    fs::remove_file(&path)?;
    // By the directory's descriptor: a socket's path has 107 bytes at most.
    let directory = rustix::fs::open(live_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", live_dir)?;
    let socket = UnixDatagram::bind(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), live::NOTIFY)).on("bind", &path)?;
    socket.set_nonblocking(true).on("make non-blocking", &path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).on("change the mode of", &path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_speaks_about_itself_only() {
        assert_eq!(passed_on(b"MAINPID=1\nREADY=1\nFDSTORE=1\nSTATUS=up\nNOTIFYACCESS=all"), "READY=1\nSTATUS=up\n");
        assert_eq!(passed_on(b"READY"), "");
    }

    #[test]
    fn words_arrive_at_both_kinds_of_sockets() {
        let directory = std::env::temp_dir().join(format!("rcon-notify-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(&directory).unwrap();
        let name = format!("@rcon-notify-{}", crate::base::random_hex(8));
        let path = directory.join("systemd");
        let receivers = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&address(OsStr::new(&name)).unwrap()).unwrap()];
        for (socket, receiver) in [path, PathBuf::from(&name)].into_iter().zip(&receivers) {
            let herald = Herald::new(Notify { socket, from: Readiness::Container, main: false }, &directory).unwrap();
            UnixDatagram::unbound().unwrap().send_to(b"READY=1", notify_path(&directory)).unwrap();
            let mut buffer = [0u8; 64];
            let count = herald.inside.as_ref().unwrap().recv(&mut buffer).unwrap();
            herald.say(&passed_on(&buffer[..count]));
            let count = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"READY=1\n");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
