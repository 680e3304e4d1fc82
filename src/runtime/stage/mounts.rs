//! Mounts of the config, made detached and attached on what their path leads to inside the root.

use super::{Stage, apply, unattached, verify_proc};
use crate::base::copy_tree;
use crate::runtime::error::{At, Failure};
use crate::runtime::options::Setting;
use crate::runtime::plan::{MountStep, Plan, Source, Step, over_proc};
use crate::runtime::root::{self, Fresh};
use crate::runtime::{hierarchy, tree};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

impl Stage<'_> {
    /// Opens or receives the sources of all binds, in the order of their steps.
    pub(super) fn open_binds(&mut self, plan: &Plan) -> Result<(), Failure> {
        for step in &plan.steps {
            if let Step::Mount(MountStep { source: Source::Bind { path, recursive, idmap, made }, .. }) = step {
                let handed = plan.namespaces.handed(idmap.as_ref(), made.is_some());
                self.binds.push_back(if handed { self.channel.expect_tree()? } else { root::open_bind(path, *recursive)? });
            }
        }
        Ok(())
    }

    pub(super) fn mount(&mut self, step: &MountStep) -> Result<(), Failure> {
        let (tree, target) = match &step.source {
            Source::Bind { path, .. } => {
                let tree = self.binds.pop_front().ok_or_else(unattached)?;
                let directory = tree::kind_of(tree.as_fd()).at_path("examine bind source", path)? == FileType::Directory;
                let leaf = if directory { tree::Leaf::Directory } else { tree::Leaf::File };
                if step.target == Path::new("/proc") {
                    verify_proc(tree.as_fd())?;
                }
                apply(tree.as_fd(), &step.target, &step.settings())?;
                (tree, self.place(&step.target, leaf)?.fd)
            }
            Source::Fresh { .. } => self.fresh(step)?,
            Source::Remount { data } => return self.remount(step, data.as_deref()),
            Source::Cgroup { v2 } => {
                hierarchy::mount(self.root()?, step, *v2)?;
                return match step.settings().as_slice() {
                    [] => Ok(()),
                    settings => apply(self.open(&step.target)?.as_fd(), &step.target, settings),
                };
            }
        };
        root::attach(tree.as_fd(), target.as_fd()).at_path("mount on", &step.target)?;
        if step.target == Path::new("/proc") {
            self.proc = Some(tree);
        }
        Ok(())
    }

    /// A new file system and where it belongs.
    fn fresh(&mut self, step: &MountStep) -> Result<(OwnedFd, OwnedFd), Failure> {
        let Source::Fresh { kind, source, data, copy_up, iversion } = &step.source else { return Err(unattached()) };
        let strict = matches!(kind.as_str(), "proc" | "sysfs");
        let place = if strict { self.plain_directory(&step.target)? } else { self.place(&step.target, tree::Leaf::Directory)? };
        let mut data = Cow::Borrowed(data);
        // A tmpfs has the mode of the directory that it covers, as the reference runtime does it.
        if kind == "tmpfs" && !place.new && !data.iter().any(|option| option.starts_with("mode=")) {
            data.to_mut().push(format!("mode={:o}", place.mode & 0o7777));
        }
        let attributes = step.attributes();
        let writable = if *copy_up { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let context = if kind == "proc" { self.procfs.pop() } else { None };
        let fresh = Fresh { kind, source: source.as_deref(), data: &data, attributes: attributes & !writable, iversion: *iversion, context };
        let tree = match fresh.mount() {
            // A user namespace that does not own the network namespace may not mount sysfs anew.
            Err(refusal) if refusal.errno == Errno::PERM && kind == "sysfs" => {
                let tree = root::clone_tree(Path::new("/sys"), true).at("bind the host's /sys")?;
                apply(tree.as_fd(), &step.target, &[Setting { set: attributes, ..Setting::default() }])?;
                tree
            }
            Err(refusal) => return Err(refusal.into_failure(kind, &step.target)),
            Ok(tree) => tree,
        };
        if *copy_up {
            if !place.new {
                copy(place.fd.as_fd(), tree.as_fd(), &step.target, &data)?;
            }
            if attributes & writable != 0 {
                apply(tree.as_fd(), &step.target, &[Setting { set: writable, ..Setting::default() }])?;
            }
        }
        apply(tree.as_fd(), &step.target, &step.settings())?;
        Ok((tree, place.fd))
    }

    /// Changes what is mounted on the target; options that are not named stay as they are, as with mount(8).
    fn remount(&self, step: &MountStep, data: Option<&[String]>) -> Result<(), Failure> {
        let mounted = self.open(&step.target)?;
        if let Some(data) = data {
            root::reconfigure(mounted.as_fd(), data).map_err(|refusal| refusal.into_failure("remount", &step.target))?;
        }
        apply(mounted.as_fd(), &step.target, &step.settings())
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Failure> {
        tree::open(self.root()?, path, OFlags::PATH).at_path("open", path)
    }

    /// Where to mount. A link may lead anywhere in the root but into a procfs, where masks and checks of names would miss.
    fn place(&self, path: &Path, leaf: tree::Leaf) -> Result<tree::Place, Failure> {
        let place = tree::place(self.root()?, path, leaf).map_err(|failure| self.explain(failure))?;
        if place.linked && !over_proc(path) && verify_proc(place.fd.as_fd()).is_ok() {
            return Err(Failure::invalid(format!("a mount on \"{}\" is not allowed: a link leads into /proc", path.display())));
        }
        Ok(place)
    }

    /// /proc and /sys must be real directories of the root: behind a link, masks would miss them.
    fn plain_directory(&self, path: &Path) -> Result<tree::Place, Failure> {
        let place = tree::place(self.root()?, path, tree::Leaf::Directory);
        match place {
            Ok(place) if !place.linked => Ok(place),
            Err(failure) if failure.errno != libc::ENOTDIR => Err(self.explain(failure)),
            _ => Err(Failure::invalid(format!("\"{}\" in the container's root must be a directory, not a link or file", path.display()))),
        }
    }

    /// What cannot be made in a root that belongs to nobody inside needs more than an errno.
    fn explain(&self, failure: Failure) -> Failure {
        if self.foreign && [libc::EACCES, libc::EPERM, libc::EOVERFLOW].contains(&failure.errno) {
            let why = "(the root belongs to an id outside of linux.uidMappings; make the mount point before, or change the owner)";
            return Failure { text: format!("{} {why}", failure.text), ..failure };
        }
        failure
    }
}

/// `tmpcopyup`: what was in the directory goes to the tmpfs that will cover it. Options named are not overwritten.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, data: &[String]) -> Result<(), Failure> {
    let named = |key: &str| data.iter().any(|option| option.starts_with(key));
    let to = openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at_path("open the tmpfs for", path)?;
    let before = fstat(&to).at_path("examine the tmpfs for", path)?;
    copy_tree::copy(from, Path::new("/"), to.as_fd()).map_err(|error| {
        let failure = Failure::from(error);
        Failure { text: format!("{} (option \"tmpcopyup\" of mount \"{}\")", failure.text, path.display()), ..failure }
    })?;
    let uid = named("uid=").then_some(Uid::from_raw(before.st_uid));
    let gid = named("gid=").then_some(Gid::from_raw(before.st_gid));
    if uid.is_some() || gid.is_some() {
        fchown(&to, uid, gid).at_path("change owner of", path)?;
    }
    if named("mode=") {
        fchmod(&to, Mode::from_raw_mode(before.st_mode & 0o7777)).at_path("change mode of", path)?;
    }
    Ok(())
}
