//! The container's view of /sys/fs/cgroup: on v2 its own group, on v1 and hybrid hosts a small tmpfs with one
//! bind of its group per hierarchy.
//!
//! The sources are the host's mounts, opened before the pivot; seen from the container's cgroup namespace
//! each of them has the root "/".

use super::error::{At, Failure};
use super::plan::MountStep;
use super::{root, tree};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::mountinfo::{self, Mount};
use rustix::fs::symlinkat;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A hierarchy as the host has it mounted, with the group this process is in.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Directory name in the container: the host's mount point's last part.
    name: OsString,
    /// The group's directory on the host.
    group: PathBuf,
    /// Controllers that share the hierarchy, when the name is made of several.
    links: Vec<String>,
    v2: bool,
}

/// Mounts the view on `step.target` beneath `at`; `unified`: of the v2 hierarchy alone.
pub(super) fn mount(at: BorrowedFd<'_>, step: &MountStep, unified: bool) -> Result<(), Failure> {
    let (mounts, own) = (Path::new(mountinfo::PATH), Path::new("/proc/self/cgroup"));
    let table = mountinfo::read().at_path("read", mounts)?;
    let mut found = hierarchies(&table, &std::fs::read_to_string(own).at_path("read", own)?, mountinfo::is_on_top);
    if unified {
        found.retain(|hierarchy| hierarchy.v2);
        found.truncate(1);
        if found.is_empty() {
            return Err(Failure::unsupported(format!(
                "mount \"{}\" of type \"cgroup2\" on a host without a cgroup v2 hierarchy",
                step.target.display()
            )));
        }
    }
    let target = tree::make(at, &step.target, tree::Leaf::Directory)?;
    if let [only] = found.as_slice()
        && only.v2
    {
        let tree = group_mount(only, step)?;
        return root::attach(tree.as_fd(), target.as_fd()).at_path("mount", &step.target);
    }
    let data = ["mode=755".to_owned(), "size=64k".to_owned()];
    let attributes = step.top.set & !libc::MOUNT_ATTR_RDONLY;
    let base = root::mount_fresh("tmpfs", Some(OsStr::new("tmpfs")), &data, attributes).at_path("mount tmpfs for", &step.target)?;
    root::attach(base.as_fd(), target.as_fd()).at_path("mount", &step.target)?;
    for hierarchy in &found {
        let path = step.target.join(&hierarchy.name);
        tree::ignore_exist(rustix::fs::mkdirat(&base, &hierarchy.name, 0o755.into())).at_path("make", &path)?;
        let place = tree::open_plain(base.as_fd(), Path::new(&hierarchy.name), rustix::fs::OFlags::PATH).at_path("open", &path)?;
        let tree = group_mount(hierarchy, step)?;
        root::attach(tree.as_fd(), place.as_fd()).at_path("mount", &path)?;
        for link in &hierarchy.links {
            tree::ignore_exist(symlinkat(&hierarchy.name, &base, link.as_str())).at_path("link", &path)?;
        }
    }
    let change = MountAttr { set: step.top.set, clear: step.top.clear, ..MountAttr::default() };
    mount_setattr(base.as_fd(), &change, false).at_path("set attributes of", &step.target)
}

fn group_mount(hierarchy: &Hierarchy, step: &MountStep) -> Result<OwnedFd, Failure> {
    let tree = root::clone_tree(&hierarchy.group, false).at_path("open control group", &hierarchy.group)?;
    let change = MountAttr { set: step.top.set | step.tree.set, clear: step.top.clear, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), &change, false).at_path("set attributes of", &hierarchy.group)?;
    Ok(tree)
}

/// Joins `/proc/self/mountinfo` and `/proc/self/cgroup`; one entry a hierarchy, in mount order. `counts` leaves out what is
/// covered by another mount: its groups are not where the table says.
fn hierarchies(table: &[u8], cgroup: &str, counts: fn(&Mount<'_>) -> bool) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo::parse(table).filter(|mount| [&b"cgroup"[..], b"cgroup2"].contains(&mount.kind)).filter(counts) {
        let v2 = mount.kind == b"cgroup2";
        let Some((controllers, group)) = membership(cgroup, &String::from_utf8_lossy(mount.data), v2) else { continue };
        let point = mount.point();
        let Some(name) = point.file_name().map(OsStr::to_owned) else { continue };
        // A mount of a part of the hierarchy shows only groups below that part.
        let below = Path::new(&group).strip_prefix(mount.root()).unwrap_or(Path::new(""));
        let links = if controllers.len() > 1 { controllers } else { Vec::new() };
        if !found.iter().any(|known| known.name == name) {
            found.push(Hierarchy { name, group: point.join(below), links, v2 });
        }
    }
    found
}

/// The line of /proc/self/cgroup whose controllers are among the mount's options: controllers and path.
fn membership(cgroup: &str, options: &str, v2: bool) -> Option<(Vec<String>, String)> {
    let options: Vec<&str> = options.split(',').collect();
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if v2 {
            return controllers.is_empty().then(|| (Vec::new(), path.to_owned()));
        }
        let list: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let mounted = !list.is_empty() && list.iter().all(|name| options.contains(&name.as_str()));
        mounted.then(|| (list, path.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::{Mount, hierarchies, mountinfo};
    use std::path::Path;

    #[test]
    fn a_hybrid_host_is_read() {
        let table = b"30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let cgroup = "3:cpu,cpuacct:/rcon/a\n1:name=systemd:/\n0::/rcon/a\n";
        let found: Vec<_> = hierarchies(table, cgroup, |_| true).into_iter().map(|h| (h.name, h.group, h.links.len(), h.v2)).collect();
        let path = |text: &str| Path::new(text).to_path_buf();
        assert_eq!(
            found,
            [
                ("unified".into(), path("/sys/fs/cgroup/unified/rcon/a"), 0, true),
                ("cpu,cpuacct".into(), path("/sys/fs/cgroup/cpu,cpuacct/rcon/a"), 2, false),
                ("systemd".into(), path("/sys/fs/cgroup/systemd/"), 0, false),
            ]
        );
    }

    #[test]
    fn a_covered_mount_is_left_out() {
        let table = b"31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n\
            32 31 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            33 32 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let shown = |mount: &Mount<'_>| mount.id != 31;
        let found: Vec<_> = hierarchies(table, "0::/a\n", shown).into_iter().map(|hierarchy| hierarchy.group).collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/unified/a")]);
        // What the kernel says itself of a mount point that is not there.
        assert!(hierarchies(b"41 31 0:38 / /proc/covered rw - cgroup2 cgroup2 rw\n", "0::/a\n", mountinfo::is_on_top).is_empty());
    }
}
