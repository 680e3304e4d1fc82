//! `NOTIFY_SOCKET`: a container that says it is ready (sd_notify(3)) on a socket of its own, and systemd that is told.
//!
//! Invariant: of what the container says only `READY=` goes on; which process is the main one, we say.

use crate::cli::failure::Failure;
use crate::runtime::container::NOTIFY;
use crate::sys::rights;
use oci_spec::runtime::{MountBuilder, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, recv, socket_with};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory with the socket, in the container.
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";

/// Longest message; systemd takes no longer one.
const LIMIT: usize = 4096;

/// How long systemd may take to handle what it was told.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The socket that the caller's service manager listens at, if there is one.
pub fn host() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Shows the directory to the container's process.
pub fn adapt(spec: &mut Spec, directory: &Path) {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    let mount = MountBuilder::default().destination(INSIDE).source(directory).options(options).build();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount.expect("invariant: a mount needs a destination alone"));
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut variables = process.env().clone().unwrap_or_default();
        variables.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
        process.set_env(Some(variables));
    }
}

/// The container's socket, bound.
pub struct Notify {
    socket: OwnedFd,
    host: PathBuf,
}

impl Notify {
    /// Binds the socket of a container in its state directory; None when nobody wants to know, or the container was created
    /// without.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn bind(state: &Path) -> Result<Option<Self>, Failure> {
        let Some(host) = host() else { return Ok(None) };
        let directory = state.join(NOTIFY);
        let failed = |error: Errno| Failure::caused(format!("cannot make the socket {}", directory.join(SOCKET).display()), &error);
        let held = match rustix::fs::open(&directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        // Through the descriptor: a socket's path has 107 bytes at most.
        let path = format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd());
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).map_err(failed)?).map_err(failed)?;
        // Whoever the process is, it may speak.
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).map_err(failed)?;
        Ok(Some(Notify { socket, host }))
    }

    /// Waits until the container is ready, or has ended, and tells the host.
    ///
    /// # Errors
    /// The host's socket takes nothing.
    pub fn forward(&self, pid: i32, pidfd: &OwnedFd) -> Result<(), Failure> {
        let failed = |error: Errno| Failure::caused(format!("cannot tell {} that the container is ready", self.host.display()), &error);
        let mut message = [0; LIMIT];
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).map_err(failed)?;
            let (heard, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if heard {
                let (length, _) = rustix::io::retry_on_intr(|| recv(&self.socket, &mut message[..], RecvFlags::empty())).map_err(failed)?;
                if let Some(line) = message[..length].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY=")) {
                    return self.tell(line, pid).map_err(failed);
                }
            } else if ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, ready: &[u8], pid: i32) -> Result<(), Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &address(&self.host)?)?;
        rights::send(&socket, &[ready, b"\n"].concat(), &[])?;
        // One that comes after it may be seen first by nobody: systemd takes them in order.
        rights::send(&socket, format!("MAINPID={pid}\n").as_bytes(), &[])?;
        barrier(&socket)
    }
}

/// Waits until all was handled (sd_notify_barrier(3)): the host closes the pipe that it is sent. One that never does knows no
/// barriers.
fn barrier(socket: &OwnedFd) -> Result<(), Errno> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rights::send(socket, b"BARRIER=1", &[write.as_fd()])?;
    drop(write);
    let waited = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&read, PollFlags::empty())], Some(&PATIENCE)))?;
    if waited == 0 {
        tracing::warn!("the service manager did not confirm that the container is ready within {} s", PATIENCE.tv_sec);
    }
    Ok(())
}

/// A path, or an abstract name behind an `@` (sd_notify(3)).
fn address(path: &Path) -> Result<SocketAddrUnix, Errno> {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(path),
    }
}
