//! The one process that a pod has when its PID namespace is shared: its PID 1, which reaps what nobody waits for.
//!
//! Invariant: it can be looked at from inside by members that may trace, so it has nothing to see: an empty root, the pod's
//! own namespaces, no capabilities, no descriptor but that of its lock.

use super::super::{Error, Result};
use super::{hold, up};
use crate::base::fs::Context;
use crate::base::{ErrorKind, Roots};
use crate::runtime::cgroup::Group;
use crate::state::pod::Pod;
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::own_strings::OwnStrings;
use crate::sys::process;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags};
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What the name of the process starts with; `main` knows the stage by it.
const STAGE: &str = "rcon-pause: ";
/// The lock is a monitor's in name and meaning: it is held exactly while the process lives.
const LOCK: &str = "lock";
/// Its own group below the pod's, which may not have processes itself.
const GROUP: &str = "pause";
/// How long it may take to stand; far beyond any sane machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts it and holds its PID namespace for the members to join.
///
/// # Errors
/// It could not be started, with what it said.
pub(super) fn start(roots: &Roots, pod: &Pod) -> Result<()> {
    let failed = |source: std::io::Error| Error::Failed {
        operation: format!("start the first process of pod \"{}\"", pod.name),
        kind: ErrorKind::Internal,
        source: Box::new(source),
    };
    let live = roots.live_pod(&pod.id);
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
    let name = CString::new(format!("{STAGE}{}", pod.id.short())).expect("invariant: an id has no NUL");
    let path = CString::new(live.as_os_str().as_bytes()).map_err(|error| failed(error.into()))?;
    let executable = crate::runtime::protected_exe()?;
    crate::sys::spawn::detached(executable.as_fd(), &[&name, &path], &[], null.as_fd(), theirs.as_fd()).map_err(failed)?;
    drop(theirs);
    let mut answer = [0u8; 4];
    ours.read_exact(&mut answer).map_err(failed)?;
    let pid = i32::from_ne_bytes(answer);
    if pid <= 0 {
        return Err(failed(std::io::Error::from_raw_os_error(-pid)));
    }
    // It has its lock, and the number is its own as long as it waits for our word.
    let namespace = PathBuf::from(format!("/proc/{pid}/ns/pid"));
    let file = rustix::fs::open(&namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).on("open", &namespace)?;
    hold::keep(&live.join(hold::PID), file.as_fd())?;
    Group::create(&format!("{}/{GROUP}", up::group_path(pod)), None)?.join(pid)?;
    ours.write_all(b"!").map_err(failed)
}

/// The hidden stage: None when this process was not started as one.
pub fn stage() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if !words.next()?.as_bytes().starts_with(STAGE.as_bytes()) {
        return None;
    }
    let live = PathBuf::from(words.next()?);
    let mut socket = UnixStream::from(crate::sys::peer::inherited_socket(3)?);
    let told = match prepare(&live) {
        Ok(Prepared { proof, lock, strings }) => match fork(proof, libc::CLONE_NEWPID as u64, None) {
            Ok(Forked::Child) => {
                strings.replace("rcon-pause", proof);
                become_first(socket, lock)
            }
            Ok(Forked::Parent { pid, .. }) => pid,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        },
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    };
    // If nobody listens any more, the child notices too.
    drop(socket.write_all(&told.to_ne_bytes()));
    Some(ExitCode::SUCCESS)
}

struct Prepared {
    proof: SingleThreaded,
    lock: OwnedFd,
    /// Found while there is a `/proc`.
    strings: OwnStrings,
}

/// The lock, the pod's namespaces, and an empty root.
fn prepare(live: &Path) -> std::io::Result<Prepared> {
    let proof = SingleThreaded::check().ok_or_else(|| std::io::Error::from_raw_os_error(libc::EBUSY))?;
    let strings = OwnStrings::find()?;
    let lock = rustix::fs::open(live.join(LOCK), OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    for (name, kind) in [
        (hold::NET, LinkNameSpaceType::Network),
        (hold::UTS, LinkNameSpaceType::HostNameAndNISDomainName),
        (hold::IPC, LinkNameSpaceType::InterProcessCommunication),
    ] {
        match rustix::fs::open(live.join(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    crate::sys::namespace::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV | MountFlags::RDONLY;
    rustix::mount::mount("pause", live, "tmpfs", flags, c"mode=555,size=4k")?;
    rustix::process::chdir(live)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(Prepared { proof, lock, strings })
}

/// Waits for the starter's word, lets go of all rights, and reaps for good. As the first of its namespace it is deaf to
/// every signal from inside.
fn become_first(mut socket: UnixStream, lock: OwnedFd) -> ! {
    let heard = socket.read_exact(&mut [0u8]);
    if heard.is_err() || rights().is_err() || process::close_others(3, &[lock.as_fd()]).and_then(|()| process::close_standard()).is_err() {
        process::exit(125);
    }
    process::block_signals();
    crate::sys::heap::trim();
    crate::sys::heap::release_text();
    loop {
        process::wait_signal();
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

fn rights() -> rustix::io::Result<()> {
    rustix::thread::set_name(c"rcon-pause")?;
    rustix::process::setsid()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
