//! # runtime
//! ## Lives here
//! OCI runtime config → plan (ordered steps, plain data) → init stage; namespaces, mounts, devices,
//! capabilities, seccomp, cgroups (v1, hybrid, v2), exec into a running container.
//! ## Invariants
//! - The plan is compiled before the clone and holds no decision; the init stage only executes steps and answers `ready` or `{step, object, errno}`.
//! - The caller of [`create`] and [`exec`] is single-threaded (asserted). Security steps fail closed.
//! ## Not here
//! Images, networks, records, logs. No database.
//! ## Decisions
//! - Overlay roots are mounted through `fsopen` as a *detached* mount (one `lowerdir+` per layer), with
//!   `mount(2)` from inside the layers directory on kernels before 6.8; nothing appears in the host's mount table.
//! - An overlay root is attached on top of the stage's own "/", a directory on itself (hooks look for the container at the
//!   path they know); both are reached by descriptor until the pivot, and what a path names is never asked twice.
//!   Rejected: the directory on "/", too, one call less, where hooks of GPUs find nothing.
//! - A root that is to hear of the host's mounts is cloned before the mounts become private, and as a slave, also for
//!   `shared`: the container never mounts anything on the host through its root (config-linux.md: "does not mean that it's
//!   shared with the host"). The reference runtime lets it.
//! - Maps of a mount's own are a user namespace of a throw-away child of the parent, which opens and maps such sources and
//!   hands them over. Rejected: the stage, whose /proc counts pids of another namespace.
//! - `ro` of a recursive bind is for its top mount alone, as the specification has it; who wants all says `rro`.
//!   A remount changes what it names and nothing else, as mount(8); mount(2) would drop `nosuid` silently.
//! - File systems are mounted through `fsopen`, which says what it refuses; through mount(2), in a mount namespace of a
//!   throw-away thread, only for values of over 255 bytes and `iversion`.
//! - Into a pid namespace that others are in, a process is born only when nothing of the host is left in it: a first stage
//!   outside clones it with CLONE_PARENT, as the caller's own child, and ends. Rejected: joining around the parent's
//!   clone, one clone less, but a tracer inside reaches the host through the stage (CVE-2016-9962).
//! - Groups of v1 hierarchies are shown by binds of the host's mounts (rejected: mounting each hierarchy anew, four
//!   system calls each, and only after the cgroup namespace exists).
//! - In a new user namespace the parent opens root and bind sources and hands them over as detached mounts; layers, upper
//!   and binds with the option `idmap` are id-mapped (Linux 5.19), with the container's own ids on disk. Rejected: chown of
//!   the layers (a copy of each image per mapping); letting the namespace's root open them (it cannot pass 0700 directories).
//!   Id-mapped layers are attached in a private mount namespace while overlayfs takes them up: detached ones only
//!   work since Linux 6.15.
//! - Cgroups are written by our own code, not `cgroups-rs`: hybrid hosts need the v2 tree for tracking, killing and
//!   freezing and v1 hierarchies only where a limit asks for them; joining all of them costs grace periods of 10 ms.
//! - Device rules are one eBPF program on the v2 group wherever a v2 tree exists, on hybrid hosts too. Rejected there:
//!   `devices.allow` lines, one more hierarchy to join and one write for each rule; they serve pure v1 hosts.
//! - systemd is spoken to by a blocking D-Bus client of our own (`cgroup/systemd/{wire,bus}.rs`), for seven methods and nine types.
//!   Rejected: `rustbus` 0.19 (blocking and pure Rust, but unchanged for years, with an old `nix`, `syn` 1 and a macro crate of its
//!   own); `zbus` (async at heart: an executor and a thread in a process that must have one thread).
//! - A systemd unit is made by joining the waiting stage to its group, since systemd wants the process with the unit. Rejected: a
//!   second way through `create` for that driver.
//! - A startContainer hook is a fork of the stage that takes the process's own rights and filter before its `execve`; the
//!   stage itself waits unfiltered, so that a filter need not allow a fork. Rejected: the hook before ids and capabilities
//!   are dropped; its program is the container's, which would get more than its process.
//! - A caller without rights has its stage open root and sources of binds, and newuidmap and newgidmap write maps of more
//!   than its own id. Network devices are the parent's to move, and to give back when a create fails.
//! - `run` has no gate to open where nothing is to be done between create and start: the word and its answer are two
//!   switches between processors, a tenth of a millisecond. The record names the process before it may go on.
//! - What needs rights is done before the gate; behind it are only the filter, one `capset` and `execve`. A filter
//!   must therefore allow these two.
//! - The listener of a filter that notifies is taken out of the stage by its peer (pidfd_getfd), so that the filter has to
//!   allow no more than `write` and `read`. Rejected: the stage sends it itself (`sendmsg`, `connect`); a helper process
//!   that shares its descriptors, which the container's program would find as its child.
//! - Policies and priorities of the scheduler are set by the parent, from outside: real-time ones are the host's to give,
//!   and a user namespace's root could not take them.

pub mod capability;
pub mod cgroup;
pub mod config;
pub mod container;
pub mod features;
pub mod hooks;
pub mod seccomp;

mod attributes;
mod birth;
mod channel;
mod command;
mod credentials;
mod devices;
mod enter;
mod entry;
mod error;
mod exe;
mod fresh;
mod hierarchy;
mod idmap;
mod init;
mod join;
mod keyring;
mod label;
mod listener;
mod mapped;
mod net_devices;
mod options;
mod plan;
mod process;
mod reaper;
pub mod resctrl;
mod root;
mod source;
mod stage;
mod stand_in;
mod terminal;
#[cfg(test)]
mod tests;
mod tree;
mod user;
mod userns;

pub use error::Error;
pub use exe::{protected_exe, run_protected};
pub use source::{Base, BindSource};
pub use stand_in::{cgroup_namespace, stage as stand_in_stage, user_maps};

use crate::sys::netns::Ahead;
use oci_spec::runtime::{Process, Spec};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the container's root file system comes from.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// An existing directory (OCI bundles).
    Directory(PathBuf),
    Overlay(Overlay),
}

/// An overlayfs root.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Overlay {
    /// Parent directory of all lowers (used as cwd on old kernels).
    pub layers_dir: PathBuf,
    /// Paths relative to `layers_dir`, top layer first.
    pub lowers: Vec<PathBuf>,
    /// None: read-only view of the image alone.
    pub upper: Option<Upper>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Upper {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// No sync at unmount; a crash loses the upper (only for `--rm`).
    pub volatile: bool,
}

/// The process's user as typed by a user or an image; resolved inside the root by the init stage
/// (safe open, size-capped passwd/group), which also sets HOME when the env lacks it and finds argv[0] in PATH.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// `name|uid[:group|gid]`; empty: uid 0.
    pub name: String,
    /// `--group-add`.
    pub groups: Vec<String>,
}

/// Standard streams of the container's process.
pub enum Stdio {
    /// The child's ends of stdin, stdout, stderr.
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A pty is opened in the container's own devpts; the master comes back in [`Init::console`].
    Terminal { columns: u16, rows: u16 },
    /// The caller's own descriptors 0, 1 and 2.
    Inherit,
}

/// Who opens the gate behind which the init stage waits, and whose end is the stage's end.
pub enum Gate {
    /// [`Init::start`]; the container dies with the caller.
    Caller,
    /// [`Init::start`]; once started, the container outlives the caller.
    Free,
    /// As `Free`; but where nothing waits for the stage to be ready (a terminal, hooks, a seccomp agent), it passes without
    /// a word, and [`Init::start`] only hears what became of it. Such a process is told to [`Create::born`] before.
    Open,
    /// Whoever connects to this listening socket (`SOCK_SEQPACKET`) and says so (`container::start`). After
    /// [`Init::release`] the waiting stage outlives the caller.
    Socket(OwnedFd),
}

/// All that [`create`] needs.
pub struct Create<'a> {
    pub spec: &'a Spec,
    /// Where the root is; a directory is named by an absolute path.
    pub root: &'a Root,
    /// The OCI bundle's directory, to which relative sources of bind mounts belong (config.md, "Mounts"). None:
    /// such sources are refused.
    pub bundle: Option<&'a Path>,
    /// Binds of the config whose source is not its path.
    pub sources: &'a [BindSource],
    /// `--no-pivot`: the root is moved over "/" instead of pivoted to, for hosts that run from an initramfs, which
    /// cannot be pivoted away (pivot_root(2)). The host's mounts are unmounted one by one.
    pub no_pivot: bool,
    /// None: `spec.process.user` is numeric and final (OCI callers).
    pub user: Option<&'a User>,
    /// The container's id: its processes share a session keyring of that name. None: the caller's is kept (`--no-new-keyring`).
    pub keyring: Option<&'a str>,
    pub stdio: Stdio,
    /// Made of `linux.intelRdt` ([`resctrl::Group::make`]); None: a config with that is refused.
    pub resctrl: Option<&'a resctrl::Group>,
    /// Joined instead of the spec's `network` namespace entry, if given.
    pub netns: Option<BorrowedFd<'a>>,
    /// As `netns`, while it is being made; waited for before the clone. Where it cannot be made, the clone says why.
    pub ahead: Option<Ahead>,
    /// `--init`: run a built-in reaper as PID 1.
    pub reaper: bool,
    pub cgroup: &'a cgroup::Group,
    pub gate: Gate,
    /// Number of the caller's descriptors from 3 on that the process inherits; all of them must be open.
    pub preserve_fds: u32,
    /// Join what only statistics need at once: for callers that end before [`cgroup::Group::join_accounting`] could be called.
    pub accounting: bool,
    /// What hooks and the seccomp agent of the config are told; None: a config with these is refused.
    pub state: Option<&'a hooks::State>,
    /// With [`Gate::Open`]: told the process that will go on to its program when this returns. An error keeps it from that.
    pub born: Option<&'a dyn Fn(i32) -> Result<(), Error>>,
}

impl<'a> Create<'a> {
    /// The least: no user to look up, no hooks, the gate opened by the caller.
    pub fn new(spec: &'a Spec, root: &'a Root, stdio: Stdio, cgroup: &'a cgroup::Group) -> Self {
        Create {
            spec,
            root,
            bundle: None,
            sources: &[],
            no_pivot: false,
            user: None,
            keyring: None,
            stdio,
            resctrl: None,
            netns: None,
            ahead: None,
            reaper: false,
            cgroup,
            gate: Gate::Caller,
            preserve_fds: 0,
            accounting: false,
            state: None,
            born: None,
        }
    }
}

/// A created container: its init stage has applied the plan and waits at the gate.
pub struct Init {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Master of the container's terminal (only with [`Stdio::Terminal`]).
    pub console: Option<OwnedFd>,
    /// Dropped without [`Init::start`]: the stage ends (and waits to be reaped).
    gate: channel::Channel,
    /// There was none to wait at.
    open: bool,
    /// Who gets the listener of the seccomp filter that the stage loads behind the gate.
    agent: Option<listener::Agent>,
}

/// Clones the init stage into its namespaces and cgroup, lets it apply the plan, and returns when it is ready at the
/// gate. On failure nothing is left behind (the stage is killed and reaped).
///
/// # Errors
/// What cannot be done ([`Error::kind`]: `Invalid`, `Unsupported`), the step that failed, or 126/127 for the command.
pub fn create(request: Create<'_>) -> Result<Init, Error> {
    let group = request.cgroup;
    init::create(request, Some(group))
}

impl Init {
    /// Opens the gate; returns when `execve` has succeeded, or with its error (126/127). After an error the
    /// stage has ended; the caller reaps it.
    ///
    /// # Errors
    /// Why the program could not be executed.
    pub fn start(&mut self) -> Result<(), Error> {
        init::start(self)
    }

    /// Only with [`Gate::Socket`]: the waiting stage outlives the caller from now on.
    ///
    /// # Errors
    /// The stage has ended.
    pub fn release(self) -> Result<(), Error> {
        init::release(&self)
    }
}

/// The numbers of a user, as the passwd and group files beneath `root` have them.
///
/// # Errors
/// There is no such user or group, or a file cannot be read.
pub fn account(root: BorrowedFd<'_>, user: &User) -> Result<(u32, u32), Error> {
    let identity = process::Identity::Named { user: user.clone(), groups: Vec::new() };
    let account = user::resolve(root, &identity, false)?;
    Ok((account.uid, account.gid))
}

/// A process to run inside a running container.
pub struct Exec<'a> {
    pub init_pidfd: BorrowedFd<'a>,
    /// args, env, cwd, capabilities, rlimits, noNewPrivileges… (user is resolved from `user` when given).
    pub process: &'a Process,
    pub user: Option<&'a User>,
    /// As [`Create::keyring`].
    pub keyring: Option<&'a str>,
    /// The container's own config: namespaces, seccomp, apparmor.
    pub spec: &'a Spec,
    pub stdio: Stdio,
    pub cgroup: &'a cgroup::Group,
    /// As in [`Create`].
    pub resctrl: Option<&'a resctrl::Group>,
    /// As in [`Create`].
    pub preserve_fds: u32,
    /// As in [`Create`], for the seccomp agent.
    pub state: Option<&'a hooks::State>,
}

pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub console: Option<OwnedFd>,
}

/// Joins the container's namespaces and cgroup and executes; returns after `execve` succeeded, or with its error (126/127).
/// The caller is the parent of the process.
///
/// # Errors
/// As [`create`].
pub fn exec(request: Exec<'_>) -> Result<Running, Error> {
    let group = request.cgroup;
    join::exec(request, Some(group))
}
