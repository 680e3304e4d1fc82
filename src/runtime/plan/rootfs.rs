//! How the root is had, entered and left behind, as the mount namespace of the config allows.

use super::{Error, MountStep, Namespaces, Request, Source, Step, mounts};
use std::path::Path;

/// Steps before the first mount, and those that make the root "/".
pub(super) struct RootSteps {
    pub first: Vec<Step>,
    pub last: Vec<Step>,
}

/// Why a process of the host's mount namespace gets no mounts: they would be the host's.
const NEEDS_MOUNTS: &str = "needs a mount namespace of the container's own: add {\"type\": \"mount\"} to linux.namespaces";

pub(super) fn compile(request: &Request<'_>, namespaces: &Namespaces) -> Result<RootSteps, Error> {
    let root = request.root.clone();
    let propagation = mounts::root_propagation(request.spec.linux().as_ref())?;
    if !namespaces.has(libc::CLONE_NEWNS) {
        refuse_mounts(request)?;
        return Ok(RootSteps { first: vec![Step::HoldRoot(root)], last: vec![Step::Chroot] });
    }
    let mut first = vec![Step::OpenBinds];
    // Shared and slave roots hear of the host's later mounts: they are cloned while their peers are still known.
    if propagation.is_some_and(|p| [libc::MS_SLAVE, libc::MS_SHARED].contains(&p.flag)) {
        first.push(Step::OpenRoot(root.clone()));
    }
    // In a namespace that others are in, too, their mounts go on hearing of the host's.
    first.push(if namespaces.joins(libc::CLONE_NEWNS) { Step::Slave } else { Step::Private });
    first.push(Step::AttachRoot(root));
    let mut last = Vec::new();
    if request.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        last.push(Step::ReadOnlyRoot);
    }
    last.push(if request.no_pivot { Step::MoveRoot } else { Step::Pivot });
    // The root is private from the start.
    last.extend(propagation.filter(|p| p.flag != libc::MS_PRIVATE).map(Step::RootPropagation));
    Ok(RootSteps { first, last })
}

fn refuse_mounts(request: &Request<'_>) -> Result<(), Error> {
    let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let linux = request.spec.linux().as_ref();
    let asked = [
        ("an overlay root", matches!(request.root, crate::runtime::Root::Overlay(_))),
        ("mounts", request.spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty())),
        ("linux.maskedPaths", linux.is_some_and(|linux| any(linux.masked_paths()))),
        ("linux.readonlyPaths", linux.is_some_and(|linux| any(linux.readonly_paths()))),
        ("linux.rootfsPropagation", linux.is_some_and(|linux| linux.rootfs_propagation().as_ref().is_some_and(|text| !text.is_empty()))),
        ("root.readonly", request.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false)),
        ("process.terminal", request.terminal),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(Error::Invalid(format!("{name} {NEEDS_MOUNTS}"))),
        None => Ok(()),
    }
}

/// Takes "ro" from a new mount on /dev: devices and links are made in it first. The steps that put it back.
pub(super) fn seal_dev(mounts: &mut [MountStep]) -> Vec<Step> {
    let read_only = libc::MOUNT_ATTR_RDONLY;
    let dev =
        mounts.iter_mut().rfind(|m| m.target == Path::new("/dev") && matches!(m.source, Source::Fresh { .. }) && m.attributes() & read_only != 0);
    let Some(dev) = dev else { return Vec::new() };
    dev.top.set &= !read_only;
    dev.tree.set &= !read_only;
    vec![Step::Seal(dev.target.clone())]
}
