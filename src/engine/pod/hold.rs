//! What a pod holds without a process: its namespaces, as bind mounts of their files in the run root, and its `/dev/shm`.
//!
//! Invariant: the marker is written last and goes first, so a pod with a marker has all that it shares, unless somebody else
//! unmounted it or the machine was started anew.

use super::super::{Error, Result};
use crate::base::fs::{self, Context};
use crate::base::{ErrorKind, PodId, Roots};
use crate::network::{self, Netns};
use crate::state::pod::Pod;
use crate::state::record::NetworkMode;
use crate::sys::namespace;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names of the files in the pod's live directory; those of namespaces are the kernel's own.
pub(super) const NET: &str = "net";
pub(super) const IPC: &str = "ipc";
pub(super) const UTS: &str = "uts";
pub(super) const PID: &str = "pid";
pub(super) const CGROUP: &str = "cgroup";
const SHM: &str = "shm";
const MARKER: &str = "up.json";
/// `statfs` type of a namespace's file (include/uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// Docker's default of `--shm-size`.
const SHM_SIZE: u64 = 64 << 20;

/// Where the mounts can be seen.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    /// Inode of the mount namespace they were made in.
    mounts: u64,
    boot: String,
}

impl Marker {
    fn here() -> Result<Self> {
        let path = Path::new("/proc/self/ns/mnt");
        let boot = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
        Ok(Marker { mounts: std::fs::metadata(path).on("stat", path)?.ino(), boot: boot.trim().to_owned() })
    }
}

/// Whether a pod that is started holds what it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Here,
    /// Most likely, but in a mount namespace from which nothing reaches ours.
    Elsewhere,
    Gone,
}

/// The namespaces of a pod that are held as files.
pub(super) fn kinds(pod: &Pod) -> Vec<&'static str> {
    let shares = pod.spec.shares;
    let net = shares.net && pod.spec.host.network != NetworkMode::Host;
    let all = [(net, NET), (shares.ipc, IPC), (shares.uts, UTS), (shares.pid, PID), (shares.cgroup, CGROUP)];
    all.into_iter().filter_map(|(shared, name)| shared.then_some(name)).collect()
}

/// # Errors
/// The kernel does not tell where we are.
pub(super) fn observe(roots: &Roots, pod: &Pod) -> Result<Held> {
    let live = roots.live_pod(&pod.id);
    let Some(marker) = std::fs::read(live.join(MARKER)).ok().and_then(|text| serde_json::from_slice::<Marker>(&text).ok()) else {
        return Ok(Held::Gone);
    };
    if pod.spec.shares.pid && !crate::monitor::is_alive(&live) {
        return Ok(Held::Gone);
    }
    if kinds(pod).iter().all(|kind| is_namespace(&live.join(kind))) {
        return Ok(Held::Here);
    }
    let here = Marker::here()?;
    Ok(if marker.boot == here.boot && marker.mounts != here.mounts { Held::Elsewhere } else { Held::Gone })
}

fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|status| is_nsfs(&status))
}

fn is_nsfs(status: &rustix::fs::StatFs) -> bool {
    u64::try_from(status.f_type).is_ok_and(|kind| kind == NSFS_MAGIC)
}

/// Opens a namespace that is held.
///
/// # Errors
/// It is not.
pub(super) fn open(roots: &Roots, id: &PodId, kind: &str) -> Result<OwnedFd> {
    let path = roots.live_pod(id).join(kind);
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).on("open", &path)?;
    let held = rustix::fs::fstatfs(&file).is_ok_and(|status| is_nsfs(&status));
    if held { Ok(file) } else { Err(Error::conflict(format!("pod {} does not hold its {kind} namespace any more", id.short()))) }
}

/// Makes what the pod shares and holds it; the network namespace is given back to be connected. What a dead command left
/// there was released before.
///
/// # Errors
/// What the kernel refuses, with what it was for.
pub(super) fn make(roots: &Roots, pod: &Pod) -> Result<Option<Netns>> {
    let live = roots.live_pod(&pod.id);
    fs::create_dir_all(&live, 0o700)?;
    let wanted = kinds(pod);
    let netns = if wanted.contains(&NET) {
        let netns = network::create_netns()?;
        let sysctls = || write_sysctls(pod, |key| key.starts_with("net."));
        crate::sys::netns::inside(netns.fd.as_fd(), sysctls).map_err(failed("enter the network namespace"))??;
        keep(&live.join(NET), netns.fd.as_fd())?;
        Some(netns)
    } else {
        None
    };
    for (kind, file) in [(UTS, make_uts as fn(&Pod) -> Result<OwnedFd>), (IPC, make_ipc)] {
        if wanted.contains(&kind) {
            keep(&live.join(kind), file(pod)?.as_fd())?;
        }
    }
    if wanted.contains(&IPC) {
        make_shm(&live.join(SHM), pod.spec.host.shm_size)?;
    }
    Ok(netns)
}

fn failed<E: Into<std::io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Failed { operation: format!("{what} of a pod"), kind: ErrorKind::Internal, source: Box::new(source.into()) }
}

fn make_uts(pod: &Pod) -> Result<OwnedFd> {
    let name = &pod.spec.hostname;
    let make = || rustix::system::sethostname(name.as_bytes()).and_then(|()| own("uts"));
    namespace::in_new(UnshareFlags::NEWUTS, make).and_then(|made| made.map_err(Into::into)).map_err(failed("make the UTS namespace"))
}

fn make_ipc(pod: &Pod) -> Result<OwnedFd> {
    let make = || write_sysctls(pod, |key| !key.starts_with("net.")).and_then(|()| own("ipc").map_err(failed("open the IPC namespace")));
    namespace::in_new(UnshareFlags::NEWIPC, make).map_err(failed("make the IPC namespace"))?
}

/// A namespace of the calling thread.
fn own(kind: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(format!("/proc/thread-self/ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Kernel parameters follow the namespaces of who opens them.
fn write_sysctls(pod: &Pod, which: fn(&str) -> bool) -> Result<()> {
    for (key, value) in &pod.spec.host.sysctls {
        let dotted = key.replace('/', ".");
        if which(&dotted) {
            // A single slash form is what the file system has; names of interfaces may hold dots of their own.
            let file = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
            fs::write(&Path::new("/proc/sys").join(file), value.as_bytes())?;
        }
    }
    Ok(())
}

/// Binds a namespace's file: it lives until that is unmounted.
pub(super) fn keep(path: &Path, namespace: BorrowedFd<'_>) -> Result<()> {
    fs::write(path, b"")?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    Ok(rustix::mount::mount_bind(&source, path).on("hold a namespace at", path)?)
}

fn make_shm(path: &Path, size: u64) -> Result<()> {
    fs::create_dir_all(path, 0o755)?;
    let size = if size == 0 { SHM_SIZE } else { size };
    let data = std::ffi::CString::new(format!("mode=1777,size={size}")).expect("invariant: digits hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    Ok(rustix::mount::mount("shm", path, "tmpfs", flags, data.as_c_str()).on("mount", path)?)
}

/// All is there: from now on the pod is up.
///
/// # Errors
/// The marker cannot be written.
pub(super) fn mark(roots: &Roots, id: &PodId) -> Result<()> {
    let text = serde_json::to_vec(&Marker::here()?).expect("invariant: a marker is plain data");
    Ok(fs::replace(&roots.live_pod(id).join(MARKER), &text, 0o600)?)
}

/// Lets go of everything and removes the live directory. Idempotent.
///
/// # Errors
/// The first that could not be let go of, after trying all.
pub(super) fn release(roots: &Roots, id: &PodId) -> Result<()> {
    let live = roots.live_pod(id);
    if !live.exists() {
        return Ok(());
    }
    fs::remove_file(&live.join(MARKER))?;
    let mut first: Result<()> = Ok(());
    for name in [NET, IPC, UTS, PID, CGROUP, SHM] {
        let path = live.join(name);
        match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not mounted, or not there: nothing to let go of.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => first = first.and(Err::<(), _>(error).on("unmount", &path).map_err(Error::from)),
        }
    }
    first?;
    Ok(fs::remove_tree(&live)?)
}
