//! The container's view of /sys/fs/cgroup: on v2 its own group, on v1 and hybrid hosts a small tmpfs with one
//! bind of its group per hierarchy.
//!
//! The sources are the host's mounts, opened before the pivot; seen from the container's cgroup namespace
//! each of them has the root "/".

use super::error::{At, Failure};
use super::plan::MountStep;
use super::{root, tree};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::symlinkat;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
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
    let read = |path: &str| std::fs::read_to_string(path).at_path("read", Path::new(path));
    let mut found = hierarchies(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
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

/// Joins `/proc/self/mountinfo` and `/proc/self/cgroup`; one entry a hierarchy, in mount order.
fn hierarchies(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (Some(top), Some(point), Some(kind), Some(options)) = (left.get(3), left.get(4), right.first(), right.get(2)) else { continue };
        let v2 = *kind == "cgroup2";
        if !v2 && *kind != "cgroup" {
            continue;
        }
        let Some((controllers, group)) = membership(cgroup, options, v2) else { continue };
        let point = unescape(point);
        let Some(name) = point.file_name().map(OsStr::to_owned) else { continue };
        // A mount of a part of the hierarchy shows only groups below that part.
        let below = Path::new(&group).strip_prefix(unescape(top)).unwrap_or(Path::new(""));
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

/// mountinfo writes space, tab, newline and backslash as three octal digits.
pub(super) fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = bytes.get(index + 1..index + 4).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (bytes[index], code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                index += 4;
            }
            (byte, _) => {
                plain.push(byte);
                index += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::{hierarchies, unescape};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn a_hybrid_host_is_read() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let cgroup = "3:cpu,cpuacct:/rcon/a\n1:name=systemd:/\n0::/rcon/a\n";
        let found: Vec<_> = hierarchies(mountinfo, cgroup).into_iter().map(|h| (h.name, h.group, h.links.len(), h.v2)).collect();
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
    fn octal_escapes_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c\\").as_os_str().as_bytes(), b"/a b\\c\\");
    }
}
