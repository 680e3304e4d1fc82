//! Which cgroup hierarchies this host has and where they are mounted.
//!
//! Invariant: a base directory is a mount point that shows a live hierarchy; everything we make lies beneath one.

use super::Error;
use crate::sys::mountinfo::{self, Mount as Mountpoint};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Every v1 controller; what else appears among a v1 mount's options is no controller.
const CONTROLLERS: [&str; 14] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc"];

/// Where one hierarchy is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) base: PathBuf,
    /// The group that the mount point shows, as `/proc/PID/cgroup` names it (`/` outside of nested containers).
    pub(super) root: String,
}

/// A v1 hierarchy with its controllers (several when mounted together: `cpu,cpuacct`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Legacy {
    pub(super) controllers: Vec<String>,
    pub(super) mount: Mount,
}

/// The hierarchies of a host: only `v2`, only `legacy`, or both (hybrid).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) v2: Option<Mount>,
    pub(super) legacy: Vec<Legacy>,
}

impl Mount {
    /// The directory of a group path (`/a/b`).
    pub(super) fn dir(&self, path: &str) -> PathBuf {
        self.base.join(path.trim_start_matches('/'))
    }

    /// The group's name in `/proc/PID/cgroup`.
    pub(super) fn name(&self, path: &str) -> String {
        format!("{}{path}", self.root.trim_end_matches('/'))
    }
}

impl Legacy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }
}

impl Layout {
    /// This host's, read once per process.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` cannot be read, or nothing is mounted.
    pub(super) fn host() -> Result<&'static Layout, Error> {
        static HOST: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = HOST.get() {
            return Ok(layout);
        }
        let table = mountinfo::read().map_err(|source| Error::Host { file: PathBuf::from(mountinfo::PATH), source })?;
        let layout = Layout::parse(&table, mountinfo::is_on_top);
        if layout.v2.is_none() && layout.legacy.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(HOST.get_or_init(|| layout))
    }

    /// Reads a mount table. Of several mounts of one hierarchy a writable one that
    /// shows most of it is taken. `counts` leaves out what is covered by another mount.
    pub(super) fn parse(table: &[u8], counts: fn(&Mountpoint<'_>) -> bool) -> Layout {
        let mut layout = Layout::default();
        let mut ranks: Vec<((u32, u32), (bool, usize))> = Vec::new();
        let groups = mountinfo::parse(table).filter(|mount| Line::is_one(mount));
        for line in groups.filter(counts).filter_map(|mount| Line::of(&mount)) {
            let rank = (line.read_only, line.root.len());
            let known = ranks.iter_mut().find(|(device, _)| *device == line.device);
            match known {
                Some((_, best)) if *best <= rank => continue,
                Some((_, best)) => *best = rank,
                None => ranks.push((line.device, rank)),
            }
            let mount = Mount { base: line.point, root: line.root };
            if line.unified {
                layout.v2 = Some(mount);
            } else if !line.controllers.is_empty() {
                layout.legacy.retain(|legacy| legacy.controllers != line.controllers);
                layout.legacy.push(Legacy { controllers: line.controllers, mount });
            }
        }
        layout
    }

    /// The v1 hierarchy of a controller.
    pub(super) fn legacy(&self, controller: &str) -> Option<&Legacy> {
        self.legacy.iter().find(|legacy| legacy.has(controller))
    }

    /// Where processes are tracked, frozen and killed: v2 wherever it exists, else the v1 freezer (or any v1 hierarchy).
    pub(super) fn tracking(&self) -> Result<&Mount, Error> {
        let v1 = || self.legacy("freezer").or_else(|| self.legacy.first()).map(|legacy| &legacy.mount);
        self.v2.as_ref().or_else(v1).ok_or(Error::NoHierarchy)
    }
}

/// A mount of a cgroup file system.
struct Line {
    device: (u32, u32),
    root: String,
    point: PathBuf,
    read_only: bool,
    unified: bool,
    controllers: Vec<String>,
}

impl Line {
    fn is_one(mount: &Mountpoint<'_>) -> bool {
        mount.kind == b"cgroup" || mount.kind == b"cgroup2"
    }

    /// None for one whose groups cannot be named.
    fn of(mount: &Mountpoint<'_>) -> Option<Line> {
        let root = mount.root().to_string_lossy().into_owned();
        // Above our cgroup namespace's root: its groups have no names here.
        if root.starts_with("/..") {
            return None;
        }
        let options = String::from_utf8_lossy(mount.data);
        Some(Line {
            device: mount.device,
            root,
            point: mount.point(),
            read_only: mount.is_read_only(),
            unified: mount.kind == b"cgroup2",
            controllers: options.split(',').filter(|option| CONTROLLERS.contains(option)).map(str::to_owned).collect(),
        })
    }
}

/// Checks a group path: absolute, no `.`, `..`, empty or over-long component, no control character.
///
/// # Errors
/// [`Error::Path`]
pub(super) fn validate(path: &str) -> Result<(), Error> {
    let component = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    let rest = path.strip_prefix('/').filter(|rest| path.len() < 4096 && rest.split('/').all(component));
    if rest.is_some() && !path.contains(char::is_control) { Ok(()) } else { Err(Error::Path(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn hybrid_v2_and_nested_hosts_are_told_apart() {
        let hybrid = Layout::parse(
            b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
              32 31 0:29 / /sys/fs/cgroup/cpu\\054cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
              40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
              41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
            |_| true,
        );
        assert_eq!(hybrid.v2.as_ref().unwrap().base, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(hybrid.legacy.len(), 1);
        let cpu = hybrid.legacy("cpuacct").unwrap();
        assert_eq!(cpu.mount.dir("/rcon/x"), Path::new("/sys/fs/cgroup/cpu,cpuacct/rcon/x"));
        assert_eq!(hybrid.tracking().unwrap(), hybrid.v2.as_ref().unwrap());

        let nested = Layout::parse(
            b"50 40 0:35 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n\
              51 40 0:35 /docker/abc /elsewhere rw - cgroup cgroup rw,memory\n\
              52 40 0:36 /../.. /odd rw - cgroup cgroup rw,pids\n",
            |_| true,
        );
        let memory = &nested.legacy("memory").unwrap().mount;
        assert_eq!((memory.base.as_path(), memory.name("/rcon/x").as_str()), (Path::new("/elsewhere"), "/docker/abc/rcon/x"));
        assert!(nested.legacy("pids").is_none());

        let pure = Layout::parse(b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", |_| true);
        assert_eq!(pure.v2.unwrap().name("/rcon/x"), "/rcon/x");
    }

    #[test]
    fn only_paths_beneath_a_root_are_taken() {
        for good in ["/rcon/x", "/a", "/a/b/c.d"] {
            assert!(validate(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "rcon/x", "/a/../b", "/a//b", "/a/", "/./a", "/a\nb"] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_covered_mount_does_not_count() {
        let text = b"41 31 0:38 / /proc/covered rw - cgroup2 cgroup2 rw\n";
        assert!(Layout::parse(text, mountinfo::is_on_top).v2.is_none());
    }
}
