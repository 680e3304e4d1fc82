//! Looking at containers: logs, processes, resource use, sizes.

use super::*;
use crate::base::{Cancel, ErrorKind, ProcessTable, PsError};
use crate::monitor::Live;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

impl Engine {
    /// The processes of a running container. Arguments that are podman's descriptors (`user,pid`) choose columns; with others
    /// the host's `ps` is asked, and the rows whose PID column names a process of the container are kept, as Docker does.
    ///
    /// # Errors
    /// `Conflict` if it does not run; `Invalid` for arguments that show no PID column; a missing `ps`.
    pub fn top(&self, name: &str, ps_args: &[String]) -> Result<Process> {
        let (view, live) = self.running(name)?;
        let pids = live.cgroup.pids()?;
        let table = if let Some(wanted) = crate::base::descriptors(ps_args) {
            let mut pids = pids;
            pids.sort_unstable();
            let names = container_names(&view);
            ProcessTable::described(&pids, &wanted, &names).map_err(|e| failed(format!("list the processes of container \"{name}\""), e))?
        } else if ps_args.is_empty() {
            let mut pids = pids;
            pids.sort_unstable();
            ProcessTable::of(&pids).map_err(|e| failed(format!("list the processes of container \"{name}\""), e))?
        } else {
            ProcessTable::of_host(ps_args, &pids).map_err(|error| match error {
                PsError::Run { arguments, source } => failed(format!("run the host's \"ps {arguments}\""), source),
                refused => Error::invalid(refused.to_string()),
            })?
        };
        self.emit([events::of_container(&view.record, "top")]);
        Ok(Process { titles: table.titles, rows: table.rows })
    }

    /// (bytes of the writable layer, bytes of it with the image).
    ///
    /// # Errors
    /// The database's failure. A writable layer that does not exist yet counts nothing.
    pub fn container_size(&self, view: &View) -> Result<(u64, u64)> {
        let upper = self.privilege.roots.container(&view.record.id).join("upper");
        let writable = match tree_size(&upper) {
            Ok(size) => size,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(failed(format!("measure container \"{}\"", view.record.name), e)),
        };
        let image = self.db.image(&view.record.spec.image_id)?.map_or(0, |i| i.size);
        Ok((writable, writable + image))
    }

    /// The container and its live facts, if it runs.
    pub(super) fn running(&self, name: &str) -> Result<(View, Live)> {
        let view = self.view_revived(name)?;
        let live = if view.pid == 0 { None } else { Live::read(&self.privilege.roots.live(&view.record.id)) };
        match live {
            Some(live) => Ok((view, live)),
            None => Err(Error::conflict(format!("container \"{name}\" is not running"))),
        }
    }
}

/// How the container itself calls its users; nothing where that cannot be read.
fn container_names(view: &View) -> crate::base::ContainerNames {
    /// No user table is larger.
    const SIZE_LIMIT: u64 = 1 << 20;
    let root = crate::sys::proc_stat::ProcDir::open(view.pid).and_then(|dir| dir.root()).ok();
    let read = |path: &str| {
        let held = crate::base::rooted::open(root.as_ref()?.as_fd(), Path::new(path), OFlags::PATH).ok()?;
        // The container may have put a device there, which must not even be opened.
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&held).ok()?.st_mode);
        if kind != rustix::fs::FileType::RegularFile {
            return None;
        }
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        let fd = rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = Vec::new();
        std::fs::File::from(fd).take(SIZE_LIMIT).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let triples = |maps: &[record::IdMap]| maps.iter().map(|map| (map.host, map.container, map.size)).collect();
    let maps = view.record.spec.host.userns.maps().map(|(uids, gids)| [triples(uids), triples(gids)]).unwrap_or_default();
    crate::base::ContainerNames { passwd: read("/etc/passwd").unwrap_or_default(), group: read("/etc/group").unwrap_or_default(), maps }
}

fn failed(operation: String, source: std::io::Error) -> Error {
    Error::Failed { operation, kind: ErrorKind::Internal, source: Box::new(source) }
}

/// Allocated bytes of a tree, hard links once. Walks by held directories and follows no link: the tree belongs to a
/// container.
pub(super) fn tree_size(path: &Path) -> std::io::Result<u64> {
    measure(path, false, &Cancel::default())
}

/// Bytes of the disk blocks of everything beneath a directory; a file of several names counts once.
pub(super) fn tree_usage(path: &Path) -> std::io::Result<u64> {
    tree_usage_until(path, &Cancel::default())
}

/// The same, unless the wish to end comes first: ECANCELED then.
pub(super) fn tree_usage_until(path: &Path, cancel: &Cancel) -> std::io::Result<u64> {
    measure(path, true, cancel)
}

fn measure(path: &Path, blocks: bool, cancel: &Cancel) -> std::io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty())?;
    let mut seen = HashSet::new();
    // Only directories on the way down are held; siblings wait by name.
    let mut stack: Vec<(OwnedFd, Vec<std::ffi::CString>)> = Vec::new();
    let mut total = 0;
    let mut enter = |fd: OwnedFd, total: &mut u64| -> std::io::Result<(OwnedFd, Vec<std::ffi::CString>)> {
        let mut children = Vec::new();
        for entry in rustix::fs::Dir::read_from(fd.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let stat = match rustix::fs::statat(fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            if blocks && (kind == rustix::fs::FileType::Directory || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino))) {
                // stat(2): st_blocks counts units of 512 bytes whatever the block size.
                *total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            match kind {
                rustix::fs::FileType::Directory => children.push(name.to_owned()),
                _ if blocks => {}
                rustix::fs::FileType::RegularFile if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) => {
                    *total += u64::try_from(stat.st_size).unwrap_or(0);
                }
                rustix::fs::FileType::Symlink => *total += u64::try_from(stat.st_size).unwrap_or(0),
                _ => {}
            }
        }
        Ok((fd, children))
    };
    stack.push(enter(root, &mut total)?);
    while let Some((fd, children)) = stack.last_mut() {
        cancel.check()?;
        let Some(name) = children.pop() else {
            stack.pop();
            continue;
        };
        match rustix::fs::openat(fd.as_fd(), name.as_c_str(), flags, Mode::empty()) {
            Ok(child) => {
                let entered = enter(child, &mut total)?;
                stack.push(entered);
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_sizes_count_links_once_and_follow_none() {
        let dir = std::env::temp_dir().join(format!("rcon-size-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/f"), vec![0; 1000]).unwrap();
        std::fs::hard_link(dir.join("a/f"), dir.join("a/b/g")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("root")).unwrap();
        assert_eq!(tree_size(&dir).unwrap(), 1001);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(tree_size(&dir).is_err());
    }
}
