//! How an init stage gets into its namespaces: which it is born in, which it joins, and in what order.
//!
//! Joining needs rights over the namespace's owner and CAP_SYS_ADMIN where one is at that moment (setns(2)), and what is
//! made later belongs to the user namespace that one is in then. Hence three ways:
//! - without a user namespace the stage joins by itself;
//! - before a *new* user namespace everything is joined by the parent, around the clone: inside, the rights are gone;
//! - a *joined* user namespace is entered by a first stage (the door), and the stage proper is born from it as the
//!   caller's child, so that its new namespaces belong to that user namespace.
//!
//! A pid namespace is the last that is joined, before a new user namespace excepted: others are in it, and find nothing of the
//! host in what is born there (`birth.rs`).

use super::error::{At, Error, Failure};
use super::plan::Namespaces;
use crate::sys::clone::Forked;
use crate::sys::namespace::{owner, unshare};
use rustix::fs::{Mode, OFlags, fstat, stat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_thread_res_gid, set_thread_res_uid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const USER: u64 = libc::CLONE_NEWUSER as u64;
const MOUNT: u64 = libc::CLONE_NEWNS as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;
const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
pub(super) const NETWORK: u64 = libc::CLONE_NEWNET as u64;

/// A namespace to join.
pub(super) struct Join {
    kind: u64,
    path: PathBuf,
    fd: OwnedFd,
}

/// All that are joined, by who joins them and when.
#[derive(Default)]
pub(super) struct Joins {
    /// By the parent, around the clone.
    around: Vec<Join>,
    /// By the stage; behind the door, when there is a user namespace.
    inside: Vec<Join>,
    /// The door's.
    user: Option<Join>,
    /// By the stage after all others: paths mean something else there.
    mount: Option<Join>,
    /// The pid namespace into which the process proper is born.
    last: Option<Join>,
    /// By the stage, when its groups have been found by their names on the host.
    cgroup: Option<Join>,
}

impl Joins {
    /// Opens the namespaces of the plan.
    ///
    /// # Errors
    /// One cannot be opened, or cannot be joined together with another.
    pub fn open(namespaces: &Namespaces) -> Result<Self, Error> {
        let mut joins = Joins::default();
        let new_user = namespaces.new & USER != 0;
        let joined_user = namespaces.join.iter().any(|(kind, _)| *kind == USER);
        for (kind, path) in &namespaces.join {
            let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open namespace", path)?;
            let join = Join { kind: *kind, path: path.clone(), fd };
            match *kind {
                CGROUP if new_user || joined_user => {
                    return Err(Error::Unsupported("joining a cgroup namespace by path together with a user namespace".to_owned()));
                }
                CGROUP => joins.cgroup = Some(join),
                MOUNT if new_user => {
                    let text = "a mount namespace to join together with a new user namespace, which has no rights in it,";
                    return Err(Error::Unsupported(text.to_owned()));
                }
                MOUNT => {
                    join.refuse_own()?;
                    joins.mount = Some(join);
                }
                // Nothing to join; setns(2) would refuse it.
                USER if join.is_ours()? => {}
                USER => joins.user = Some(join),
                _ if new_user => joins.around.push(join),
                PID => joins.last = Some(join),
                _ => joins.inside.push(join),
            }
        }
        // Behind the door only the rights over what belongs to that user namespace are left.
        if let (Some(user), Some(pid)) = (&joins.user, &joins.last)
            && !pid.belongs_to(user)?
        {
            joins.inside.extend(joins.last.take());
        }
        Ok(joins)
    }

    /// Every descriptor that a stage needs.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let late = [&self.user, &self.mount, &self.last, &self.cgroup].into_iter().flatten();
        self.inside.iter().chain(late).map(|join| join.fd.as_fd())
    }

    pub fn find(&self, kind: u64) -> Option<BorrowedFd<'_>> {
        self.around.iter().chain(&self.inside).find(|join| join.kind == kind).map(|join| join.fd.as_fd())
    }

    pub fn mount(&self) -> Option<&Join> {
        self.mount.as_ref()
    }

    /// See `birth.rs`.
    pub fn last(&self) -> Option<&Join> {
        self.last.as_ref()
    }

    pub fn cgroup(&self) -> Option<&Join> {
        self.cgroup.as_ref()
    }

    /// Whether the stage is born behind a door.
    pub fn has_door(&self) -> bool {
        self.user.is_some()
    }

    /// Runs `act`, a fork, inside the namespaces that are the parent's to join: the child is born in them and is the
    /// caller's own, without a process in between. The caller comes back.
    pub fn around(&self, act: impl FnOnce() -> Result<Forked, Failure>) -> Result<Forked, Failure> {
        let mut homes = Vec::new();
        for join in &self.around {
            let path = PathBuf::from(format!("/proc/self/ns/{}", name(join.kind)));
            homes.push((join.kind, rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", &path)?));
        }
        let mut entered = Ok(());
        let mut count = 0;
        for join in &self.around {
            entered = join.enter();
            if entered.is_err() {
                break;
            }
            count += 1;
        }
        let forked = entered.and_then(|()| act());
        if !matches!(forked, Ok(Forked::Child)) {
            for (kind, home) in &homes[..count] {
                set(home.as_fd(), *kind).at(&format!("return to our {} namespace", name(*kind)))?;
            }
        }
        forked
    }

    /// The stage's own joins.
    pub fn enter(&self) -> Result<(), Failure> {
        self.inside.iter().try_for_each(Join::enter)
    }

    /// The door's: with the rights over the host's namespaces first, then the user namespace, then what only its root may
    /// join.
    pub fn pass_door(&self) -> Result<(), Failure> {
        let Some(user) = &self.user else { return self.enter() };
        let mut later = Vec::new();
        for join in &self.inside {
            match set(join.fd.as_fd(), join.kind) {
                Err(Errno::PERM) => later.push(join),
                other => join.judge(other)?,
            }
        }
        user.enter()?;
        later.into_iter().try_for_each(Join::enter)?;
        become_owner()
    }
}

impl Join {
    pub fn enter(&self) -> Result<(), Failure> {
        self.judge(set(self.fd.as_fd(), self.kind))
    }

    fn judge(&self, result: rustix::io::Result<()>) -> Result<(), Failure> {
        let name = name(self.kind);
        match result {
            Err(Errno::INVAL) => Err(Failure::invalid(format!("namespace path \"{}\" is not a {name} namespace", self.path.display()))),
            other => other.at_path(&format!("join the {name} namespace"), &self.path),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn belongs_to(&self, user: &Join) -> Result<bool, Failure> {
        let owner = owner(self.fd.as_fd()).at_path("find the owner of", &self.path)?;
        let (theirs, it) = (fstat(&owner).at_path("examine", &self.path)?, fstat(&user.fd).at_path("examine", &user.path)?);
        Ok((theirs.st_dev, theirs.st_ino) == (it.st_dev, it.st_ino))
    }

    fn is_ours(&self) -> Result<bool, Failure> {
        let own = format!("/proc/self/ns/{}", name(self.kind));
        let (theirs, ours) = (fstat(&self.fd).at_path("examine", &self.path)?, stat(&own).at_path("examine", Path::new(&own))?);
        Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
    }

    /// What is mounted and pivoted in the caller's own mount namespace would be so for the caller, and for the whole host.
    fn refuse_own(&self) -> Result<(), Failure> {
        if !self.is_ours()? {
            return Ok(());
        }
        let text = format!("the mount namespace {} of linux.namespaces is the runtime's own: give it no path to make a new one", self.path.display());
        Err(Failure::invalid(text))
    }
}

/// The kernel checks that the descriptor is a namespace of this kind.
fn set(fd: BorrowedFd<'_>, kind: u64) -> rustix::io::Result<()> {
    move_into_thread_name_spaces(fd, ThreadNameSpaceType::from_bits_retain(u32::try_from(kind).map_err(|_| Errno::INVAL)?))
}

/// As the files of `/proc/PID/ns` are called.
fn name(kind: u64) -> &'static str {
    const NAMES: [(i32, &str); 7] = [
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
        (libc::CLONE_NEWTIME, "time"),
    ];
    NAMES.iter().find(|(flag, _)| *flag as u64 == kind).map_or("mnt", |(_, name)| name)
}

/// Becomes root of the user namespace; where it has no root (a map without container id 0), the first id that it has.
pub(super) fn become_owner() -> Result<(), Failure> {
    let gid = match set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        Err(Errno::INVAL) => Gid::from_raw(first_id("/proc/self/gid_map")?),
        other => other.at("become root of the user namespace").map(|()| Gid::ROOT)?,
    };
    let uid = match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Err(Errno::INVAL) => Uid::from_raw(first_id("/proc/self/uid_map")?),
        other => other.at("become root of the user namespace").map(|()| Uid::ROOT)?,
    };
    if gid != Gid::ROOT {
        set_thread_res_gid(gid, gid, gid).at("become a group of the user namespace")?;
    }
    if uid != Uid::ROOT {
        set_thread_res_uid(uid, uid, uid).at("become a user of the user namespace")?;
    }
    // A change of ids resets both.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide the stage")?;
    set_parent_process_death_signal(Some(Signal::KILL)).at("follow the parent's death")
}

fn first_id(path: &str) -> Result<u32, Failure> {
    let map = std::fs::read_to_string(path).at_path("read", Path::new(path))?;
    let first = map.split_whitespace().next().and_then(|id| id.parse().ok());
    first.ok_or_else(|| Failure::invalid("the user namespace has no ids: its uidMappings or gidMappings are not written"))
}

/// Makes a time namespace. Offsets can be set only while nothing is inside; then the stage itself goes in.
pub(super) fn make_time(offsets: &str) -> Result<(), Failure> {
    unshare(UnshareFlags::NEWTIME).at("unshare time namespace")?;
    if !offsets.is_empty() {
        let path = Path::new("/proc/self/timens_offsets");
        let open = || rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let file = match open() {
            // The files of a hidden process belong to the host's root. Nobody else is in this user namespace yet.
            Err(Errno::ACCESS) => {
                set_dumpable_behavior(DumpableBehavior::Dumpable).at("show the stage")?;
                let file = open();
                set_dumpable_behavior(DumpableBehavior::NotDumpable).at("hide the stage")?;
                file
            }
            other => other,
        };
        match rustix::io::write(&file.at_path("open", path)?, offsets.as_bytes()) {
            Err(Errno::RANGE) => {
                return Err(Failure::invalid("linux.timeOffsets would set a clock before 0 or beyond 146 years (time_namespaces(7))"));
            }
            other => other.at_path("write", path)?,
        };
    }
    let path = Path::new("/proc/self/ns/time_for_children");
    let own = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at_path("open", path)?;
    set(own.as_fd(), libc::CLONE_NEWTIME as u64).at("enter the time namespace")
}
