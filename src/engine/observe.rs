//! Looking at containers: logs, processes, resource use, sizes.

use super::*;
use crate::base::{ErrorKind, ProcessTable, PsError};
use crate::monitor::Live;
use crate::runtime::cgroup;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

impl Engine {
    /// Hands the lines of a container's log to `each` until it returns false, or the log ends (with `follow`: the
    /// container ends and all was read).
    ///
    /// # Errors
    /// `Unsupported` for a log driver that keeps nothing to read.
    pub fn logs(&self, name: &str, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        let view = self.view(name)?;
        let driver = view.record.spec.host.log.driver.as_str();
        if driver != "json-file" {
            return Err(Error::Failed {
                operation: format!("read the log of container \"{name}\""),
                kind: ErrorKind::Unsupported,
                source: format!("its log driver \"{driver}\" keeps nothing to read").into(),
            });
        }
        let live_dir = self.privilege.roots.live(&view.record.id);
        let alive = || crate::monitor::is_alive(&live_dir);
        Ok(crate::monitor::read_log(&self.privilege.roots.container(&view.record.id), query, &alive, each)?)
    }

    /// The processes of a running container. With arguments the host's `ps` is asked with them, and the rows whose
    /// PID column names a process of the container are kept, as Docker does.
    ///
    /// # Errors
    /// `Conflict` if it does not run; `Invalid` for arguments that show no PID column; a missing `ps`.
    pub fn top(&self, name: &str, ps_args: &[String]) -> Result<Process> {
        let (view, live) = self.running(name)?;
        let pids = live.cgroup.pids()?;
        let table = if ps_args.is_empty() {
            let mut pids = pids;
            pids.sort_unstable();
            ProcessTable::of(&pids).map_err(|e| failed(format!("list the processes of container \"{name}\""), e))?
        } else {
            ProcessTable::of_host(ps_args, &pids).map_err(|error| match error {
                PsError::Run { arguments, source } => failed(format!("run the host's \"ps {arguments}\""), source),
                refused => Error::invalid(refused.to_string()),
            })?
        };
        drop(view);
        Ok(Process { titles: table.titles, rows: table.rows })
    }

    /// Resource use, sampled twice `interval` apart for the CPU rate (zero: since the start of the container). Empty
    /// names: all running ones; `all`: also the others, with zeroes.
    ///
    /// # Errors
    /// `NoSuch` for a name; the first group that cannot be read although its container runs.
    pub fn stats(&self, names: &[String], all: bool, interval: Duration) -> Result<Vec<StatsView>> {
        let views = if names.is_empty() { self.list(all, &[])? } else { names.iter().map(|n| self.view(n)).collect::<Result<_>>()? };
        let roots = &self.privilege.roots;
        let mut first = Vec::with_capacity(views.len());
        for view in views {
            let live = if view.pid == 0 { None } else { Live::read(&roots.live(&view.record.id)) };
            let sample = live.as_ref().and_then(|l| l.cgroup.stats().ok());
            first.push((view, live, sample, Instant::now()));
        }
        if !interval.is_zero() && first.iter().any(|(_, live, ..)| live.is_some()) {
            std::thread::sleep(interval);
        }
        let mut out = Vec::with_capacity(first.len());
        for (view, live, before, at) in first {
            let Some(live) = live else {
                out.push(StatsView { view, stats: cgroup::Stats::default(), cpu_percent: 0.0, rx: 0, tx: 0 });
                continue;
            };
            let stats = match live.cgroup.stats() {
                Ok(stats) => stats,
                // It ended while we looked.
                Err(_) if !crate::monitor::is_alive(&roots.live(&view.record.id)) => cgroup::Stats::default(),
                Err(e) => return Err(e.into()),
            };
            let cpu_percent = match before {
                Some(before) if !interval.is_zero() => cpu_percent(stats.cpu_total.saturating_sub(before.cpu_total), at.elapsed()),
                _ => cpu_percent(stats.cpu_total, Timestamp::now().since(view.started)),
            };
            let (rx, tx) = crate::network::traffic(view.pid).unwrap_or((0, 0));
            out.push(StatsView { view, stats, cpu_percent, rx, tx });
        }
        Ok(out)
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
        let view = self.view(name)?;
        let live = if view.pid == 0 { None } else { Live::read(&self.privilege.roots.live(&view.record.id)) };
        match live {
            Some(live) => Ok((view, live)),
            None => Err(Error::conflict(format!("container \"{name}\" is not running"))),
        }
    }
}

fn failed(operation: String, source: std::io::Error) -> Error {
    Error::Failed { operation, kind: ErrorKind::Internal, source: Box::new(source) }
}

/// Percent of one CPU.
fn cpu_percent(used_nanos: u64, elapsed: Duration) -> f64 {
    let elapsed = elapsed.as_nanos() as f64;
    if elapsed > 0.0 { used_nanos as f64 / elapsed * 100.0 } else { 0.0 }
}

/// Allocated bytes of a tree, hard links once. Walks by held directories and follows no link: the tree belongs to a
/// container.
pub(super) fn tree_size(path: &Path) -> std::io::Result<u64> {
    measure(path, false)
}

/// Bytes of the disk blocks of everything beneath a directory; a file of several names counts once.
pub(super) fn tree_usage(path: &Path) -> std::io::Result<u64> {
    measure(path, true)
}

fn measure(path: &Path, blocks: bool) -> std::io::Result<u64> {
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
    fn rates_are_percents_of_one_processor() {
        assert!((cpu_percent(500_000_000, Duration::from_secs(1)) - 50.0).abs() < 1e-9);
        assert!(cpu_percent(1, Duration::ZERO).abs() < 1e-9);
    }

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
