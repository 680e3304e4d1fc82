//! `system reset`: everything of this engine goes, and its directories with it.
//!
//! Invariant: at each moment what is left is a whole, smaller store: objects go one by one through their own removals, and the
//! files of the database only when it is empty. A reset that was killed is finished by the next one, and every other
//! command may be used in between.

use super::container::failpoint_at;
use super::*;
use crate::base::{ContainerId, ErrorKind, Roots, fs};
use crate::monitor::{self, Live};
use crate::sys::mountinfo;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

/// The network of containers that name none.
const DEFAULT_NETWORK: &str = "bridge";
/// How long processes may take to die.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to remove the links of a network namespace that nobody is in.
const LINKS: Duration = Duration::from_secs(3);
/// Parts of the data root, in the order in which they go. The database is last, its log after it: SQLite drops a log without
/// a database, and would believe a database without its log.
const PARTS: &[&str] =
    &["containers", "pods", "volumes", "build", "layers", "blobs", "ingest", "locks", "events", "reserve", "rcon.db", "rcon.db-wal", "rcon.db-shm"];

/// Parts of the run root.
const RUN_PARTS: &[&str] = &["containers", "pods", "volumes"];

/// What a reset took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reset {
    pub containers: usize,
    pub images: usize,
    pub volumes: usize,
}

impl Engine {
    /// Removes all containers (killing those that run), pods, volumes and images, the default network, and the directories.
    ///
    /// # Errors
    /// The first object that could not be removed; what went before it is gone. `Conflict`: another command made something
    /// meanwhile.
    pub fn reset(self) -> Result<Reset> {
        let mut done = Reset::default();
        for id in self.db.container_ids()? {
            match self.remove(id.as_str(), true, true) {
                Ok(()) => done.containers += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            failpoint_at("engine.reset.container")?;
        }
        for pod in self.db.pods()? {
            self.remove_pod(pod.id.as_str(), true, Some(0))?;
        }
        self.sweep_containers()?;
        for (name, _) in self.mounted_volumes()? {
            self.unmount_volume(name.as_str())?;
        }
        done.volumes = self.prune_volumes(true, &[])?.deleted.len();
        failpoint_at("engine.reset.volumes")?;
        done.images = self.db.images()?.len();
        self.prune_images(true, &[])?;
        failpoint_at("engine.reset.images")?;
        self.prune_networks(&[])?;
        if let Some(network) = self.db.network(DEFAULT_NETWORK)? {
            take_down(&network)?;
        }
        failpoint_at("engine.reset.network")?;
        let left = [("containers", self.db.container_ids()?.len()), ("images", self.db.images()?.len()), ("volumes", self.db.volumes()?.len())];
        if let Some((what, _)) = left.iter().find(|(_, count)| *count > 0) {
            return Err(Error::conflict(format!("another command made {what} meanwhile; run the reset again")));
        }
        let roots = self.privilege.roots.clone();
        drop(self);
        remove_parts(&roots)?;
        Ok(done)
    }
}

/// The kernel takes the links of a container that has just ended away in its own time. After that time, those that are left
/// are another engine's, and so is the network.
fn take_down(network: &crate::state::record::Network) -> Result<()> {
    let deadline = Instant::now() + LINKS;
    loop {
        let down = crate::network::take_down(std::slice::from_ref(network)).map_err(|source| failed("take down the default network", source))?;
        if down || Instant::now() > deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A reset of roots whose database cannot be read: what runs is killed, found by its live facts, then all files go. Published
/// ports and the bridge stay until the next start of the machine, for nobody knows whose they are.
///
/// # Errors
/// Processes that do not die, or files that cannot be removed.
pub fn reset_unreadable(roots: &Roots) -> Result<()> {
    let directory = roots.run.join("containers");
    for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<ContainerId>() else { continue };
        let live_dir = roots.live(&id);
        if let Some(live) = Live::read(&live_dir) {
            live.cgroup.kill_all(PATIENCE)?;
            wait_for_end(&live_dir, &id)?;
            live.cgroup.delete()?;
        }
    }
    remove_parts(roots)
}

fn wait_for_end(live_dir: &Path, id: &ContainerId) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while monitor::is_alive(live_dir) {
        if Instant::now() > deadline {
            return Err(Error::conflict(format!("the monitor of container {} does not end", id.short())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Everything mounted below the run root is ours: shared memory of containers, volumes in memory.
fn unmount_below(run: &Path) {
    let table = mountinfo::read().unwrap_or_default();
    let points: Vec<PathBuf> = mountinfo::parse(&table).map(|mount| mount.point()).filter(|point| point != run && point.starts_with(run)).collect();
    for point in points.iter().rev() {
        if let Err(error) = unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            tracing::warn!("cannot unmount {}: {error}", point.display());
        }
    }
}

/// Only what an engine makes there goes: a root may have been laid into a directory with other things.
fn remove_parts(roots: &Roots) -> Result<()> {
    for part in PARTS {
        let path = roots.data.join(part);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_tree(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
        failpoint_at("engine.reset.part")?;
    }
    unmount_below(&roots.run);
    for part in RUN_PARTS {
        fs::remove_tree(&roots.run.join(part))?;
    }
    for root in [&roots.data, &roots.run] {
        // A mount point, or a directory with other things, stays.
        if let Err(error) = std::fs::remove_dir(root) {
            let names: Vec<OsString> = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
            tracing::debug!("{} stays with {names:?}: {error}", root.display());
        }
    }
    Ok(())
}

fn failed(operation: &str, source: crate::network::Error) -> Error {
    Error::Failed { operation: operation.to_owned(), kind: ErrorKind::Internal, source: Box::new(source) }
}
