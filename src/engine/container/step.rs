//! Steps of a build: a process on a tree of layers, in a sandbox that one build holds.
//!
//! A sandbox has no record: like a container whose creation was never finished, it is known by its operation lock, and
//! swept with its directories, address and control group by the next command that finds the lock free. The process itself ends
//! with its stage (`stage`), and the stage with whoever asked for the step.

mod stage;
mod stubs;

pub(in crate::engine) use stage::stage;

use super::super::{Engine, Error, Result};
use super::connect::{Joining, connect};
use super::locks::{self, OperationLock};
use super::oci_config::{self, Inputs};
use super::reserve::{Wanted, lease_endpoints};
use super::resources::HostFacts;
use super::{etc, reconcile};
use crate::base::fs::{self, Context};
use crate::base::{ContainerId, ErrorKind};
use crate::network::{self, Netns};
use crate::runtime::cgroup::Group;
use crate::runtime::{Base, BindSource, Overlay, Root, User};
use crate::state::record::{Container, ContainerSpec, HostSpec, NetworkMode, ProcessSpec};
use oci_spec::runtime::Mount;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use stage::StepEnd;

/// Name of a step's container; nobody sees it but its hosts file.
const NAME: &str = "build";
/// In the sandbox's directory: the path of its control group, for the sweep.
const CGROUP: &str = "cgroup";
/// How long processes that got SIGKILL may take.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What is mounted for one step besides the file systems of the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct StepMount {
    pub target: PathBuf,
    pub read_only: bool,
    pub source: StepSource,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepSource {
    /// A directory or file of the host, by its path.
    Host(PathBuf),
    /// A part of a tree of layers; with an upper directory it can be written to.
    Tree { overlay: Overlay, subpath: Option<PathBuf> },
    /// Empty, in memory; at most this many bytes.
    Memory { size: Option<u64> },
}

/// One step.
pub struct Step<'a> {
    /// Its root, with an upper directory that nobody else writes to.
    pub root: &'a Overlay,
    pub args: &'a [String],
    /// `K=V`; of several values of one key the last stands.
    pub env: &'a [String],
    pub workdir: &'a str,
    /// As typed: `name|uid[:group|gid]`; empty: root.
    pub user: &'a str,
    pub mounts: &'a [StepMount],
    /// All capabilities, no filter, every device.
    pub insecure: bool,
    /// Standard streams; None: an empty input.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Gets a socket of the stage as soon as there is one: to shut it down ends the step.
    pub started: &'a dyn Fn(OwnedFd),
}

/// Where the steps of one build run, one after the other.
pub struct Sandbox<'a> {
    engine: &'a Engine,
    record: Container,
    netns: Option<Netns>,
    /// Let go of last: until then the sweep takes nothing of ours.
    lock: Option<OperationLock>,
}

impl Engine {
    /// A sandbox with the network and limits that are asked for; its address is lent until it is dropped.
    ///
    /// # Errors
    /// The network does not exist, has no address left, or cannot be set up.
    pub fn sandbox(&self, hostname: &str, host: HostSpec) -> Result<Sandbox<'_>> {
        let id = ContainerId::random();
        let lock = locks::lock(&self.privilege.roots, &id)?;
        let name = NAME.parse().expect("invariant: a plain word is a name");
        let spec = ContainerSpec { hostname: hostname.to_owned(), host, ..ContainerSpec::default() };
        let mut sandbox = Sandbox { engine: self, record: Container::new(id, name, spec), netns: None, lock: Some(lock) };
        sandbox.prepare()?;
        Ok(sandbox)
    }

    /// What a killed build has left of a sandbox; its lock is ours.
    pub(super) fn release_sandbox(&self, id: &ContainerId) -> Result<()> {
        if let Ok(path) = std::fs::read_to_string(self.privilege.roots.container(id).join(CGROUP)) {
            clear_group(&path)?;
        }
        Ok(self.db.write(false, |tx| tx.release_leases(id))?)
    }
}

fn clear_group(path: &str) -> Result<()> {
    let group = Group::at(path);
    group.kill_all(KILL_PATIENCE)?;
    Ok(group.delete()?)
}

impl Sandbox<'_> {
    fn prepare(&mut self) -> Result<()> {
        let engine = self.engine;
        let roots = &engine.privilege.roots;
        let id = self.record.id.clone();
        for directory in [roots.container(&id), roots.live(&id)] {
            fs::create_dir_all(&directory, 0o700)?;
        }
        fs::write(&roots.container(&id).join(CGROUP), reconcile::cgroup_path(&self.record).as_bytes())?;
        let wanted = engine.wanted_networks(&self.record.spec.host)?;
        let own = self.record.spec.host.is_networked() || self.record.spec.host.network == NetworkMode::None;
        let netns = own.then(network::create_netns).transpose()?;
        if !wanted.is_empty() {
            let (endpoints, _) = engine.db.write(false, |tx| lease_endpoints(tx, &wanted, &id, &[]))?;
            self.record.endpoints = endpoints;
        }
        if let Some(netns) = &netns {
            let networks: Vec<_> = wanted.iter().map(|(_, network)| network.clone()).collect();
            connect(&engine.db, &Joining { id: &id, endpoints: &self.record.endpoints, published: &[] }, netns, &networks)?;
        }
        self.netns = netns;
        self.write_etc(&wanted)
    }

    /// No monitor answers for names of networks here: the host's resolvers are asked.
    fn write_etc(&self, wanted: &[Wanted]) -> Result<()> {
        let host = &self.record.spec.host;
        let mut networks: Vec<_> = wanted.iter().map(|(_, network)| network.clone()).collect();
        for network in &mut networks {
            network.dns = false;
        }
        let directory = self.engine.privilege.roots.container(&self.record.id);
        etc::write_all(host, "", &self.record.endpoints, &directory, &self.record.spec.hostname, &networks, &[])
    }

    /// A directory in memory, for what must not reach a disk (secrets); gone with the sandbox.
    pub fn private(&self) -> PathBuf {
        self.engine.privilege.roots.live(&self.record.id)
    }

    /// Runs a step to its end. Mount points that had to be made for it are gone afterwards.
    ///
    /// # Errors
    /// The process could not be started (kinds as of [`crate::runtime::create`]).
    pub fn run(&mut self, step: Step<'_>) -> Result<StepEnd> {
        let facts = HostFacts::read();
        let mut record = self.record.clone();
        record.spec.process = ProcessSpec {
            cmd: Some(step.args.to_vec()),
            env: step.env.to_vec(),
            user: step.user.to_owned(),
            workdir: step.workdir.to_owned(),
            ..ProcessSpec::default()
        };
        record.spec.host.privileged = step.insecure;
        let inputs = self.inputs(&record, &facts)?;
        let mut spec = oci_config::spec(&record, &inputs)?;
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        let sources = add_mounts(&mut mounts, step.mounts);
        let targets: Vec<PathBuf> = mounts.iter().map(|mount| mount.destination().clone()).collect();
        spec.set_mounts(Some(mounts));
        let stubs = stubs::Stubs::expected(step.root, &targets)?;
        let failed = |source| Error::Failed { operation: "write the OCI config".to_owned(), kind: ErrorKind::Internal, source: Box::new(source) };
        let order = stage::Order {
            id: record.id.clone(),
            spec: serde_json::to_value(&spec).map_err(failed)?,
            root: Root::Overlay(step.root.clone()),
            sources,
            user: User { name: step.user.to_owned(), groups: Vec::new() },
            cgroup_path: inputs.cgroup_path,
        };
        let stdin = match step.stdin {
            Some(stdin) => stdin,
            None => std::fs::File::open("/dev/null").on("open", Path::new("/dev/null"))?.into(),
        };
        let netns = self.netns.as_ref().map(|netns| netns.fd.as_fd());
        let lock = self.lock.as_ref().expect("invariant: the lock is let go of last");
        let end = stage::run(&order, [stdin, step.stdout, step.stderr], lock.fd(), netns, step.started);
        if end.is_err() {
            // The stage may have been killed, and its group is left then.
            clear_group(&order.cgroup_path)?;
        }
        stubs.remove()?;
        end
    }

    fn inputs<'f>(&self, record: &Container, facts: &'f HostFacts) -> Result<Inputs<'f>> {
        let directory = self.engine.privilege.roots.container(&record.id);
        Ok(Inputs {
            etc_dir: directory.clone(),
            container_dir: directory.clone(),
            network_dir: directory,
            pod: None,
            volumes_dir: self.engine.privilege.roots.volumes(),
            sources: std::collections::BTreeMap::new(),
            hostname: record.spec.hostname.clone(),
            ipc_pid: None,
            pid_pid: None,
            user_pid: None,
            network_pid: None,
            shm_dir: None,
            devices: super::devices::look_up(&record.spec.host)?,
            cdi: Vec::new(),
            links: Vec::new(),
            facts,
            cgroup_path: reconcile::cgroup_path(record),
            notify: None,
        })
    }

    fn release(&mut self) -> Result<()> {
        self.netns = None;
        let roots = &self.engine.privilege.roots;
        let id = &self.record.id;
        reconcile::release_network(roots, &self.record)?;
        if !self.record.endpoints.is_empty() {
            self.engine.db.write(false, |tx| tx.release_leases(id))?;
        }
        fs::remove_tree(&roots.live(id))?;
        Ok(fs::remove_tree(&roots.container(id))?)
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        match self.release() {
            Ok(()) => drop(self.lock.take()),
            // The file of the lock stays, free: the next command sweeps.
            Err(error) => {
                tracing::warn!("cannot take down the sandbox of a build: {error}");
                std::mem::forget(self.lock.take());
            }
        }
    }
}

/// Adds the step's own mounts, which replace default ones at the same place; sources that are more than a path are told apart.
fn add_mounts(mounts: &mut Vec<Mount>, own: &[StepMount]) -> Vec<BindSource> {
    let mut sources = Vec::new();
    let mut later: Vec<Mount> = Vec::new();
    for StepMount { target, read_only, source } in own {
        mounts.retain(|mount| mount.destination() != target);
        later.retain(|mount| mount.destination() != target);
        sources.retain(|source: &BindSource| source.target != *target);
        let mut mount = Mount::default();
        mount.set_destination(target.clone()).set_typ(Some("bind".to_owned()));
        let access = if *read_only { "ro" } else { "rw" };
        let bind: Vec<String> = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
        match source {
            StepSource::Host(path) => drop(mount.set_source(Some(path.clone())).set_options(Some(bind))),
            StepSource::Tree { overlay, subpath } => {
                mount.set_source(Some("/".into())).set_options(Some(bind));
                sources.push(BindSource { target: target.clone(), base: Base::Overlay(overlay.clone()), subpath: subpath.clone() });
            }
            StepSource::Memory { size } => {
                let mut options: Vec<String> = ["nosuid", "nodev", "mode=1777"].map(str::to_owned).to_vec();
                options.extend(size.map(|size| format!("size={size}")));
                mount.set_typ(Some("tmpfs".to_owned())).set_source(Some("tmpfs".into())).set_options(Some(options));
            }
        }
        later.push(mount);
    }
    // A mount below another one comes after it.
    later.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(later);
    sources
}
