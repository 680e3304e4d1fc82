//! The init stage: executes a plan's steps inside the new namespaces.
//!
//! Invariant: single-threaded, non-dumpable, holding only its socket, its streams and what a step opened; no
//! decision is made here that the plan could have made.

mod mounts;
mod rootfs;

pub(super) use rootfs::chroot;

use super::devices::{Directory, host_null};
use super::enter::Join;
use super::error::{At, Failure};
use super::options::Setting;
use super::plan::{Plan, Step};
use super::{channel, channel::Channel, hooks, net_devices, root, terminal, tree};
use crate::sys::clone::SingleThreaded;
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::namespace::unshare;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
const PROC_MAGIC: u64 = 0x9fa0;

/// Shown for owners outside of a user namespace's map (the default of kernel.overflowuid).
const OVERFLOW_ID: u32 = 65534;

/// The stage's state between steps.
pub(super) struct Stage<'a> {
    channel: &'a Channel,
    /// Columns and rows, when the process has a terminal.
    size: Option<(u16, u16)>,
    /// Sources of the binds to come, in their order.
    binds: VecDeque<OwnedFd>,
    opened: Option<rootfs::Opened>,
    root: Option<OwnedFd>,
    /// The root's owner has no name in the user namespace.
    foreign: bool,
    devices: Directory,
    /// The container's own procfs.
    proc: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// Contexts for the procfs mounts, when they are to show another pid namespace than ours (`birth.rs`).
    pub procfs: Vec<OwnedFd>,
    /// One empty read-only directory, shared by all masked ones.
    empty: Option<OwnedFd>,
    pub pty: Option<terminal::Pty>,
    /// To join instead of making one.
    cgroup: Option<&'a Join>,
    proof: SingleThreaded,
}

impl<'a> Stage<'a> {
    pub fn new(channel: &'a Channel, size: Option<(u16, u16)>, cgroup: Option<&'a Join>, proof: SingleThreaded) -> Self {
        Stage {
            channel,
            size,
            binds: VecDeque::new(),
            opened: None,
            root: None,
            foreign: false,
            devices: Directory::default(),
            proc: None,
            procfs: Vec::new(),
            null: None,
            empty: None,
            pty: None,
            cgroup,
            proof,
        }
    }

    pub fn run(&mut self, plan: &Plan) -> Result<(), Failure> {
        plan.steps.iter().try_for_each(|step| self.step(step, plan))
    }

    fn step(&mut self, step: &Step, plan: &Plan) -> Result<(), Failure> {
        match step {
            Step::OpenBinds => self.open_binds(plan),
            Step::OpenRoot(source) => self.open_root(source, plan),
            Step::Private => {
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).at("make mounts private")
            }
            Step::Slave => {
                let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
                mount_change("/", slave).at("make mounts slaves")
            }
            Step::AttachRoot(source) => self.attach_root(source, plan),
            Step::HoldRoot(source) => self.hold_root(source),
            Step::Mount(mount) => self.mount(mount),
            Step::Device(device) => {
                let root = self.root.as_ref().ok_or_else(unattached)?;
                self.devices.node(root.as_fd(), device)
            }
            Step::Link(path, target) => {
                let root = self.root.as_ref().ok_or_else(unattached)?;
                self.devices.link(root.as_fd(), Path::new(path), target)
            }
            Step::Console => self.console(),
            Step::Sysctl(path, value) => self.sysctl(path, value),
            Step::WorkingDirectory(path) => {
                let made = tree::make(self.root()?, path, tree::Leaf::Directory);
                made.map(drop).map_err(|failure| failure.of_working_directory(path))
            }
            Step::Mask(path) => self.mask(path),
            Step::ReadOnly(path) => self.read_only(path),
            Step::Loopback => net_devices::raise_loopback(),
            Step::Joined => self.channel.expect(channel::JOINED),
            Step::CgroupNamespace => match self.cgroup {
                Some(join) => join.enter(),
                None => unshare(UnshareFlags::NEWCGROUP).at("unshare cgroup namespace"),
            },
            Step::RuntimeHooks => {
                self.channel.say(channel::HOOKS)?;
                self.channel.expect(channel::HOOKS)
            }
            Step::CreateContainerHooks => {
                let Some(hooks) = &plan.hooks else { return Ok(()) };
                let root = self.root()?;
                hooks::run_inside(&hooks.create, &hooks.state, self.proof, &|| hooks::at_root(root))
            }
            Step::ReadOnlyRoot => {
                let change = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
                mount_setattr(self.root()?, &change, false).at("make the root read-only")
            }
            Step::Seal(path) => self.seal(path),
            Step::Pivot => rootfs::pivot(self.root()?),
            Step::MoveRoot => rootfs::move_root(self.root()?),
            Step::Chroot => rootfs::chroot(self.root()?),
            Step::RootPropagation(propagation) => {
                let setting = Setting { propagation: propagation.flag, recursive: propagation.recursive, ..Setting::default() };
                apply(self.root()?, Path::new("/"), &[setting])
            }
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes()).at("set the hostname"),
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes()).at("set the domain name"),
        }
    }

    /// The root's descriptor.
    pub fn root(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(unattached)
    }

    fn console(&mut self) -> Result<(), Failure> {
        let Some((columns, rows)) = self.size else { return Ok(()) };
        let pty = terminal::open(self.root()?, columns, rows)?;
        terminal::bind_console(self.root()?, &pty)?;
        self.pty = Some(pty);
        Ok(())
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), Failure> {
        if self.proc.is_none() {
            self.proc = Some(root::mount_fresh("proc", None, &[], 0).at("mount a private procfs")?);
        }
        let proc = self.proc.as_ref().ok_or_else(unattached)?;
        verify_proc(proc.as_fd())?;
        let step = format!("write sysctl {path}");
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let name = format!("sys/{path}");
        let file = openat2(proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).at(&step)?;
        // One write: procfs takes a value whole.
        rustix::io::write(&file, value.as_bytes()).at(&step).map(drop)
    }

    fn mask(&mut self, path: &Path) -> Result<(), Failure> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        if tree::kind_of(target.as_fd()).at_path("examine", path)? != FileType::Directory {
            if self.null.is_none() {
                self.null = Some(host_null()?);
            }
            let null = self.null.as_ref().ok_or_else(unattached)?;
            let cover = root::clone_fd(null.as_fd(), false).at("clone /dev/null")?;
            return root::attach(cover.as_fd(), target.as_fd()).at_path("mask", path);
        }
        // Only an attached mount can be cloned before Linux 6.15: the first mask is the original.
        let cover = match &self.empty {
            Some(first) => root::clone_fd(first.as_fd(), false).at("clone the empty directory")?,
            None => {
                let data = ["size=0".to_owned(), "nr_inodes=1".to_owned(), "mode=555".to_owned()];
                root::mount_fresh("tmpfs", None, &data, libc::MOUNT_ATTR_RDONLY).at("mount an empty directory")?
            }
        };
        root::attach(cover.as_fd(), target.as_fd()).at_path("mask", path)?;
        if self.empty.is_none() {
            self.empty = Some(cover);
        }
        Ok(())
    }

    fn read_only(&self, path: &Path) -> Result<(), Failure> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let cover = root::clone_fd(target.as_fd(), true).at_path("clone", path)?;
        let change = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        mount_setattr(cover.as_fd(), &change, true).at_path("make read-only", path)?;
        root::attach(cover.as_fd(), target.as_fd()).at_path("make read-only", path)
    }

    /// None when there is no such path: what is not there needs no mask.
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        match tree::open(self.root()?, path, OFlags::PATH) {
            Err(Errno::NOENT) => Ok(None),
            other => other.at_path("open", path).map(Some),
        }
    }
}

fn unattached() -> Failure {
    Failure::invalid("the plan uses the root before it is attached")
}

/// Applies the changes in their order.
fn apply(mount: BorrowedFd<'_>, path: &Path, settings: &[Setting]) -> Result<(), Failure> {
    for Setting { set, clear, propagation, recursive } in settings {
        let attr = MountAttr { set: *set, clear: *clear, propagation: *propagation, ..MountAttr::default() };
        mount_setattr(mount, &attr, *recursive).at_path("set attributes of", path)?;
    }
    Ok(())
}

fn verify_proc(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    if fstatfs(fd).at("examine procfs")?.f_type as u64 == PROC_MAGIC {
        return Ok(());
    }
    Err(Failure::invalid("only procfs may be mounted on \"/proc\""))
}
