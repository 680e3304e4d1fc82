//! The init stage: executes a plan's steps inside the new namespaces.
//!
//! Invariant: single-threaded, non-dumpable, holding only its socket, its streams and what a step opened; no
//! decision is made here that the plan could have made.

use super::devices::{Directory, host_null};
use super::error::{At, Failure};
use super::options::Propagation;
use super::plan::{MountStep, Plan, Source, Step};
use super::{Root, channel, channel::Channel, hierarchy, hooks, root, terminal, tree};
use crate::sys::clone::SingleThreaded;
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::namespace::unshare;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::thread::UnshareFlags;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
const PROC_MAGIC: u64 = 0x9fa0;

/// Shown for owners outside of a user namespace's map (the default of kernel.overflowuid).
const OVERFLOW_ID: u32 = 65534;

/// The stage's state between steps.
pub(super) struct Stage<'a> {
    channel: &'a Channel,
    /// Columns and rows, when the process has a terminal.
    size: Option<(u16, u16)>,
    binds: HashMap<PathBuf, OwnedFd>,
    root: Option<OwnedFd>,
    devices: Directory,
    /// The container's own procfs.
    proc: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// One empty read-only directory, shared by all masked ones.
    empty: Option<OwnedFd>,
    pub pty: Option<terminal::Pty>,
    proof: SingleThreaded,
}

impl<'a> Stage<'a> {
    pub fn new(channel: &'a Channel, size: Option<(u16, u16)>, proof: SingleThreaded) -> Self {
        Stage {
            channel,
            size,
            binds: HashMap::new(),
            root: None,
            devices: Directory::default(),
            proc: None,
            null: None,
            empty: None,
            pty: None,
            proof,
        }
    }

    pub fn run(&mut self, plan: &Plan) -> Result<(), Failure> {
        plan.steps.iter().try_for_each(|step| self.step(step, plan))
    }

    fn step(&mut self, step: &Step, plan: &Plan) -> Result<(), Failure> {
        match step {
            Step::OpenBinds => self.open_binds(plan),
            Step::Private => {
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).at("make mounts private")
            }
            Step::AttachRoot(source) => self.attach_root(source, plan),
            Step::Mount(mount) if mount.source == Source::Cgroup => hierarchy::mount(self.root()?, mount),
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
            Step::WorkingDirectory(path) => tree::make(self.root()?, path, tree::Leaf::Directory).map(drop),
            Step::Mask(path) => self.mask(path),
            Step::ReadOnly(path) => self.read_only(path),
            Step::Joined => self.channel.expect(channel::JOINED),
            Step::CgroupNamespace => unshare(UnshareFlags::NEWCGROUP).at("unshare cgroup namespace"),
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
            Step::Pivot => pivot(self.root()?),
            Step::RootPropagation(propagation) => propagate(self.root()?, Path::new("/"), *propagation),
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes()).at("set the hostname"),
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes()).at("set the domain name"),
        }
    }

    /// The root's descriptor.
    pub fn root(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(unattached)
    }

    fn open_binds(&mut self, plan: &Plan) -> Result<(), Failure> {
        for step in &plan.steps {
            if let Step::Mount(MountStep { source: Source::Bind { path, recursive, .. }, target, .. }) = step {
                let tree = if plan.namespaces.owner.is_some() { self.channel.expect_tree()? } else { root::open_bind(path, *recursive)? };
                self.binds.insert(target.clone(), tree);
            }
        }
        Ok(())
    }

    fn attach_root(&mut self, source: &Root, plan: &Plan) -> Result<(), Failure> {
        let mapped = plan.namespaces.owner.is_some();
        let root = match source {
            // See `mapped.rs`.
            _ if mapped => self.channel.expect_tree()?,
            Root::Directory(path) => root::clone_tree(path, true).at_path("open root directory", path)?,
            Root::Overlay(overlay) => root::mount_overlay(overlay)?,
        };
        let status = fstat(&root).at("examine the root")?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            return Err(Failure::invalid("the container's root is not a directory"));
        }
        // What nobody inside owns could neither be changed nor mounted on.
        if mapped && status.st_uid == OVERFLOW_ID {
            return Err(Failure::unsupported("a user namespace whose id maps do not cover the owner of the root"));
        }
        // On top of our own "/": it needs no place in the host's tree, and stays reachable by descriptor only. Hooks
        // expect the mounts of the container at the path of its root.
        let place = match source {
            Root::Directory(path) => hooks::place_of_root(plan.hooks.as_deref(), path),
            Root::Overlay(_) => Path::new("/"),
        };
        move_mount(&root, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at_path("attach the root on", place)?;
        self.root = Some(root);
        Ok(())
    }

    fn mount(&mut self, step: &MountStep) -> Result<(), Failure> {
        let (tree, target) = match &step.source {
            Source::Bind { path, .. } => {
                let tree = self.binds.remove(&step.target).ok_or_else(|| Failure::invalid(format!("two mounts on \"{}\"", step.target.display())))?;
                let directory = tree::kind_of(tree.as_fd()).at_path("examine bind source", path)? == FileType::Directory;
                let leaf = if directory { tree::Leaf::Directory } else { tree::Leaf::File };
                if step.target == Path::new("/proc") {
                    verify_proc(tree.as_fd())?;
                }
                set_attributes(tree.as_fd(), step)?;
                (tree, tree::make(self.root()?, &step.target, leaf)?)
            }
            Source::Fresh { kind, source, data } => {
                let strict = matches!(kind.as_str(), "proc" | "sysfs");
                let target =
                    if strict { self.plain_directory(&step.target)? } else { tree::make(self.root()?, &step.target, tree::Leaf::Directory)? };
                let mounted = root::mount_fresh(kind, source.as_deref(), data, step.top.set);
                let tree = match mounted {
                    // A user namespace that does not own the network namespace may not mount sysfs anew.
                    Err(Errno::PERM) if kind == "sysfs" => {
                        let tree = root::clone_tree(Path::new("/sys"), true).at("bind the host's /sys")?;
                        set_attributes(tree.as_fd(), step)?;
                        tree
                    }
                    other => other.at_path(&format!("mount {kind} on"), &step.target)?,
                };
                (tree, target)
            }
            Source::Cgroup => return Ok(()),
        };
        root::attach(tree.as_fd(), target.as_fd()).at_path("mount on", &step.target)?;
        if let Some(propagation) = step.propagation {
            propagate(tree.as_fd(), &step.target, propagation)?;
        } else if matches!(step.source, Source::Bind { .. }) {
            propagate(tree.as_fd(), &step.target, Propagation { flag: libc::MS_PRIVATE, recursive: true })?;
        }
        if step.target == Path::new("/proc") {
            self.proc = Some(tree);
        }
        Ok(())
    }

    /// /proc and /sys must be real directories of the root: behind a link, masks would miss them.
    fn plain_directory(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let root = self.root()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match tree::open_plain(root, path, flags) {
            Err(Errno::NOENT) => {
                drop(tree::make(root, path, tree::Leaf::Directory)?);
                tree::open_plain(root, path, flags).at_path("open", path)
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {
                Err(Failure::invalid(format!("\"{}\" in the container's root must be a directory, not a link or file", path.display())))
            }
            other => other.at_path("open", path),
        }
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

fn set_attributes(tree: BorrowedFd<'_>, step: &MountStep) -> Result<(), Failure> {
    for (change, recursive) in [(step.tree, true), (step.top, false)] {
        if !change.is_empty() {
            let attr = MountAttr { set: change.set, clear: change.clear, ..MountAttr::default() };
            mount_setattr(tree, &attr, recursive).at_path("set attributes of", &step.target)?;
        }
    }
    Ok(())
}

fn propagate(mount: BorrowedFd<'_>, path: &Path, propagation: Propagation) -> Result<(), Failure> {
    let attr = MountAttr { propagation: propagation.flag, ..MountAttr::default() };
    mount_setattr(mount, &attr, propagation.recursive).at_path("set propagation of", path)
}

fn verify_proc(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    if fstatfs(fd).at("examine procfs")?.f_type as u64 == PROC_MAGIC {
        return Ok(());
    }
    Err(Failure::invalid("only procfs may be mounted on \"/proc\""))
}

/// The container's root becomes "/" and the host's tree goes.
fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).at("enter the root")?;
    rustix::process::pivot_root(".", ".").at("pivot to the root")?;
    // The old root lies on top of the new one now.
    unmount(".", UnmountFlags::DETACH).at("detach the host's tree")?;
    rustix::process::chdir("/").at("enter the root")
}
