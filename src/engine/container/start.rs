//! start: reservations in one transaction, then the monitor creates the container while the network is set up here,
//! then the gate. A failure takes everything back and is recorded.

use super::super::network::{refresh_names as network_names, resolver_plan};
use super::super::request::CreateContainer;
use super::super::volume::memory;
use super::super::{AttachStreams, Attached, Created, Engine, Error, Result, cni, events, pod};
use super::contact::{self, Ended, await_gone, awaits};
use super::create::{self, Prepared};
use super::exec::has_ended;
use super::gate::{Aim, open, untold};
use super::joined::removed;
use super::locks::OperationLock;
use super::oci_config::{self, Inputs};
use super::reconcile::Decider;
use super::remove::{failpoint_at, unmount_shm};
use super::reserve::{NetnsAhead, Reserve, spawn_netns};
use super::resources::HostFacts;
use super::view::init_pidfd;
use super::{connect, devices, etc, health, lifecycle, locks, reconcile, remove, revive};
use crate::base::fs::Context;
use crate::base::{ContainerId, ErrorKind, Roots, Timestamp, Undo};
use crate::image::Progress;
use crate::monitor::{self, Client, Config, Event, Journal, Live, Notify};
use crate::network::{self, HeldPort, Netns};
use crate::runtime::cgroup::Group;
use crate::runtime::{Root, User};
use crate::state::record::{Container, IdMap, IpcMode, Network, NetworkMode, Phase, PidMode, Readiness, UsernsMode};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In the live directory: the `/dev/shm` that an `--ipc shareable` container shares.
pub(super) const SHM: &str = "shm";
/// How long a monitor may take to take down what it has made.
const ABANDON_PATIENCE: Duration = Duration::from_secs(10);
/// How long the monitor of an earlier run may take to finish.
const OLD_MONITOR_PATIENCE: Duration = Duration::from_secs(20);

/// The namespace that the container's processes get.
enum NetworkSide {
    Host,
    /// Made with init, connected by the monitor (see `connect.rs`).
    OfInit,
    Own(Netns),
    Joined(OwnedFd),
}

impl Engine {
    /// Starts it: leases, monitor, network, gate. With `attach` the returned client was subscribed before the gate
    /// opened. The caller may drop the client to detach. Starting a running one is fine.
    ///
    /// # Errors
    /// What kept it from starting; it is recorded too.
    pub fn start(&self, id: &ContainerId, attach: AttachStreams, console: (u16, u16)) -> Result<Attached> {
        let roots = &self.privilege.roots;
        if let Some(record) = self.db.container(id)? {
            self.start_required(&record)?;
        }
        let lock = locks::lock(roots, id)?;
        let gone = || Error::no_such("container", id.as_str());
        let mut record = self.db.container(id)?.ok_or_else(gone)?;
        let live_dir = roots.live(id);
        if record.phase == Phase::Started {
            await_facts(&record, &live_dir)?;
            record = self.db.container(id)?.ok_or_else(gone)?;
        }
        match record.phase {
            Phase::Removing => return Err(Error::conflict(format!("container {} is being removed", record.name))),
            Phase::Started if Live::read(&live_dir).is_some_and(|l| l.waiting) => return self.open_gate(&record, attach),
            Phase::Started if Live::read(&live_dir).is_some_and(|l| l.pid.is_some()) => return self.attach(id.as_str(), attach),
            // Between two runs: they have facts, too.
            Phase::Started if Live::read(&live_dir).is_some() => {
                return Err(Error::Conflict {
                    message: format!("container {} is restarting", record.name),
                    hint: Some("stop it first, or wait".to_owned()),
                });
            }
            // Its monitor was killed, or could not record the end.
            Phase::Started => record = reconcile::end_dead(&self.db, roots, record, Decider::User)?.ok_or_else(gone)?,
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
        record.revival = None;
        self.start_locked(record, &lock, Aim { attach, console, hold: false })
    }

    /// Starts a container that nobody runs; the caller holds its lock. `record.revival` tells whether its policy wants it.
    pub(super) fn start_locked(&self, mut record: Container, lock: &OperationLock, aim: Aim) -> Result<Attached> {
        let live_dir = self.privilege.roots.live(&record.id);
        await_last_monitor(&record, &live_dir)?;
        let netns = spawn_netns(&record);
        let held = self.hold_ports(&record).and_then(|held| self.reserve_existing(&mut record, &held).map(|()| held));
        let held = match held {
            Ok(held) => held,
            Err(error) => return Err(self.record_failure(&mut record, error)),
        };
        if aim.attach != AttachStreams::default() {
            self.emit([events::of_container(&record, "attach")]);
        }
        self.bring_up_or_take_back(record, lock, netns, &held, aim)
    }

    /// `create` + `start` in one transaction where possible: the hot path of `run`.
    ///
    /// # Errors
    /// Outer: nothing was created. Inner: it was created but did not start (with `--rm` it is gone again).
    pub fn run(
        &self,
        request: &CreateContainer,
        attach: AttachStreams,
        console: (u16, u16),
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Created, Result<Attached>)> {
        // Held until the process runs.
        let (lock, mut prepared) = self.prepare(request, progress)?;
        if let Err(error) = self.start_required(&prepared.record) {
            return self.created_only(prepared, error);
        }
        let netns = spawn_netns(&prepared.record);
        let held = match self.hold_ports(&prepared.record) {
            Ok(held) => held,
            Err(error) => return self.created_only(prepared, error),
        };
        let (mut record, warnings) = match self.reserve_new(&mut prepared, &held) {
            Ok(record) => {
                prepared.record = record;
                let attached = (attach != AttachStreams::default()).then(|| events::of_container(&prepared.record, "attach"));
                self.emit(prepared.events().into_iter().chain(attached));
                prepared.keep()
            }
            // The name (or the volumes) could not be had: nothing was created.
            Err(Reserve::Create(error)) => return Err(*error),
            Err(Reserve::Start(error)) => return self.created_only(prepared, *error),
        };
        let attached = self.bring_up_or_take_back(record.clone(), &lock, netns, &held, Aim { attach, console, hold: false });
        if attached.is_err()
            && let Some(now) = self.db.container(&record.id)?
        {
            record = now;
        }
        Ok((Created { record, warnings }, attached))
    }

    /// Docker's rule: what cannot get its ports stays as created (unless `--rm`), with the reason recorded.
    fn created_only(&self, mut prepared: Prepared, error: Error) -> Result<(Created, Result<Attached>)> {
        prepared.record.error = describe(&error);
        prepared.record.exit_code = exit_code(&error);
        if prepared.record.spec.host.auto_remove {
            let (record, warnings) = (prepared.record.clone(), prepared.warnings.clone());
            return Ok((Created { record, warnings }, Err(error)));
        }
        prepared.record = self.commit_new(&mut prepared, create::insert_prepared)?;
        self.emit(prepared.events());
        let (record, warnings) = prepared.keep();
        Ok((Created { record, warnings }, Err(error)))
    }

    fn bring_up_or_take_back(
        &self,
        mut record: Container,
        lock: &OperationLock,
        netns: Option<NetnsAhead>,
        held: &[HeldPort],
        aim: Aim,
    ) -> Result<Attached> {
        let mut monitor = None;
        let attached = self.attach_cni_networks(&mut record, netns);
        let result = attached.and_then(|netns| self.bring_up(&record, lock, netns, held, aim, &mut monitor));
        match (result, monitor) {
            (Ok(()), Some(client)) => Ok(Attached { id: record.id, client, tty: record.spec.process.tty }),
            (Ok(()), None) => unreachable!("invariant: a container that was brought up has a monitor"),
            (Err(error), monitor) => {
                if let Some(client) = monitor {
                    self.abandon(client, &record);
                }
                let error = self.blame_image(&record.spec.image_id, error);
                Err(self.record_failure(&mut record, error))
            }
        }
    }

    /// Attaches it to those of its networks that are CNI's: before anything else, since only the plugins know its addresses.
    fn attach_cni_networks(&self, record: &mut Container, netns: Option<NetnsAhead>) -> Result<Option<NetnsAhead>> {
        if !record.endpoints.iter().any(cni::is_cni) {
            return Ok(netns);
        }
        let Some(ahead) = netns else { return Ok(None) };
        let made = ahead.finish()?;
        let path = cni::hold(&self.privilege.roots.live(&record.id), made.fd.as_fd())?;
        let (host, published) = (record.spec.host.clone(), record.published.clone());
        self.attach_cni(&record.id.clone(), &path, &host, &mut record.endpoints, &published)?;
        self.db.write(false, |tx| tx.update_container(record))?;
        Ok(Some(NetnsAhead::Made(made)))
    }

    /// Lets the monitor tear down, and waits for it: after that the record is ours again. Also one that does not hold its lock
    /// yet: it would go on making the container until it sees that this process has left it.
    fn abandon(&self, mut client: Client, record: &Container) {
        let live_dir = self.privilege.roots.live(&record.id);
        // A monitor that failed by itself is leaving already and does not listen any more.
        let asked = client.abandon().map_err(Error::from);
        match asked.and_then(|()| await_gone(&mut client, &live_dir, Some(ABANDON_PATIENCE))) {
            Ok(Ended::Gone | Ended::Timeout) => {}
            // It was killed, or has said so before.
            Ok(Ended::Lost) => {
                let group = Group::at(&reconcile::cgroup_path(record));
                if let Err(error) = group.kill_all(ABANDON_PATIENCE).and_then(|()| group.delete()) {
                    tracing::warn!("cannot end what the monitor of {} has left: {error}", record.name);
                }
            }
            Err(error) => tracing::warn!("the monitor of {} did not say goodbye: {error}", record.name),
        }
    }

    /// Takes the reservations back and gives the error on to the caller, who must see it whatever else fails.
    fn record_failure(&self, record: &mut Container, error: Error) -> Error {
        if let Err(second) = self.take_reservations_back(record, &error) {
            // The record stays `Started` without a monitor: the next command takes it back.
            tracing::warn!("cannot take back the start of container \"{}\": {}", record.name, describe(&second));
        }
        error
    }

    /// Writes why too: `created` (or `exited`) stays, with `--rm` nothing does.
    fn take_reservations_back(&self, record: &mut Container, error: &Error) -> Result<()> {
        let roots = &self.privilege.roots;
        unmount_shm(&roots.live(&record.id));
        memory::release(&self.db, roots, record)?;
        reconcile::release_network(roots, record)?;
        let Some(now) = self.db.container(&record.id)? else { return Ok(()) };
        *record = now;
        let networks = self.networks_of(&record.endpoints)?;
        if record.spec.host.auto_remove {
            remove::begin_removal(&self.db, record, true)?;
            network_names(&self.db, roots, &networks)?;
            return remove::finish_removal(&self.db, roots, record);
        }
        record.phase = if record.finished.is_never() { Phase::Created } else { Phase::Exited };
        if record.phase == Phase::Created {
            record.started = Timestamp::NEVER;
        }
        if record.revival.is_some() {
            record.revival = revive::after_failure(record, Timestamp::now());
            record.phase = if record.revival.is_some() { Phase::Restarting } else { record.phase };
        }
        record.error = describe(error);
        record.exit_code = exit_code(error);
        record.endpoints.clear();
        record.published.clear();
        self.db.write(false, |tx| -> Result<()> {
            tx.update_container(record)?;
            Ok(tx.release_leases(&record.id)?)
        })?;
        network_names(&self.db, roots, &networks)
    }

    /// Everything between the reservation and the running process. `monitor` is filled as soon as there is one.
    fn bring_up(
        &self,
        record: &Container,
        lock: &OperationLock,
        netns: Option<NetnsAhead>,
        held: &[HeldPort],
        aim: Aim,
        monitor: &mut Option<Client>,
    ) -> Result<()> {
        failpoint_at("engine.start.reserved")?;
        let mut undo = Undo::new();
        let networks = self.networks_of(&record.endpoints)?;
        let config = self.monitor_config(record, &networks, aim, &mut undo)?;
        failpoint_at("engine.start.files")?;
        let side = self.network_side(record, netns)?;
        let fd = match &side {
            NetworkSide::Host | NetworkSide::OfInit => None,
            NetworkSide::Own(netns) => Some(netns.fd.as_fd()),
            NetworkSide::Joined(fd) => Some(fd.as_fd()),
        };
        let sockets: Vec<_> = held.iter().map(|h| h.socket.as_fd()).collect();
        let client = monitor.insert(Client::spawn(&config, fd, &sockets, lock.fd())?);
        failpoint_at("engine.start.monitor")?;
        // From here on the monitor mounts, joins cgroups and so on, while this process does the network.
        if let NetworkSide::Own(netns) = &side {
            connect::connect(&self.db, &record.into(), netns, &networks)?;
        }
        let of_pod = self.networks_of_pod(record)?;
        network_names(&self.db, &self.privilege.roots, if of_pod.is_empty() { &networks } else { &of_pod })?;
        failpoint_at("engine.start.network")?;
        let operation = || format!("start container \"{}\"", record.name);
        let told = |told: bool| if told { Ok(()) } else { Err(untold(&operation())) };
        awaits(client, &operation(), |event| matches!(event, Event::Created { .. })).and_then(told)?;
        failpoint_at("engine.start.created")?;
        if aim.hold {
            client.hold()?;
            awaits(client, &operation(), |event| matches!(event, Event::Held)).and_then(told)?;
            failpoint_at("engine.start.held")?;
        } else {
            open(client, record, aim.attach).and_then(told)?;
        }
        failpoint_at("engine.start.started")?;
        undo.commit();
        Ok(())
    }

    fn network_side(&self, record: &Container, netns: Option<NetnsAhead>) -> Result<NetworkSide> {
        match (&record.spec.host.network, netns) {
            (NetworkMode::Host, _) => Ok(NetworkSide::Host),
            _ if oci_config::netns_of_init(&record.spec.host) => Ok(NetworkSide::OfInit),
            // By the path in the config: the stage joins it behind the door of the user namespace that owns it.
            (NetworkMode::Container(_), _) if record.spec.host.userns.maps().is_some() => Ok(NetworkSide::OfInit),
            (NetworkMode::Container(id), _) => {
                let (pid, _) = self.joined(id, "network")?;
                Ok(NetworkSide::Joined(network::netns_of(pid)?))
            }
            (NetworkMode::Pod, _) => Ok(NetworkSide::Joined(pod::network_of(&self.privilege.roots, record)?)),
            (NetworkMode::Bridge | NetworkMode::Named(_) | NetworkMode::None, Some(ahead)) => Ok(NetworkSide::Own(ahead.finish()?)),
            (NetworkMode::Bridge | NetworkMode::Named(_) | NetworkMode::None, None) => Ok(NetworkSide::Own(network::create_netns()?)),
        }
    }

    /// Init pid and record of a container whose namespace is to be shared; it must run.
    fn joined(&self, id: &str, what: &str) -> Result<(i32, Container)> {
        let view = self.view(id).map_err(|error| removed(error, id, what))?;
        if view.pid == 0 {
            return Err(Error::Conflict {
                message: format!("cannot join the {what} namespace of container {}: it is not running", view.record.name),
                hint: Some(format!("start {} first", view.record.name)),
            });
        }
        Ok((view.pid, view.record))
    }

    /// Looks everything up, writes the generated files and compiles the monitor's config.
    fn monitor_config(&self, record: &Container, networks: &[Network], aim: Aim, undo: &mut Undo<'static>) -> Result<Config> {
        let roots = &self.privilege.roots;
        let (container_dir, live_dir) = (roots.container(&record.id), roots.live(&record.id));
        crate::base::fs::create_dir_all(&live_dir, 0o700)?;
        for stale in [lifecycle::KEEP, lifecycle::POLICY, lifecycle::EXIT, lifecycle::NAME, revive::SHUTDOWN, monitor::LOG_LOST] {
            crate::base::fs::remove_file(&live_dir.join(stale))?;
        }
        let facts = HostFacts::read();
        let mut inputs = self.inputs(record, &facts)?;
        self.write_generated(record, networks, &mut inputs)?;
        self.share_memory(record, &live_dir, &mut inputs, undo)?;
        let volatile = record.spec.host.auto_remove;
        if volatile {
            // A volatile overlay marks its work directory; the mark of an earlier run would refuse this one.
            crate::base::fs::remove_tree(&container_dir.join("work/work/incompat"))?;
        }
        let beneath = self.beneath(record)?.for_writing(&container_dir, volatile);
        let sources = self.mount_sources(record)?;
        failpoint_at("engine.start.sources")?;
        inputs.sources = sources.shown;
        let notify = self.notify(record, aim.attach != AttachStreams::default());
        inputs.notify = notify.as_ref().filter(|notify| notify.from == Readiness::Container).map(|_| monitor::notify_path(&live_dir));
        let spec = oci_config::spec(record, &inputs)?;
        let failed = |source| Error::Failed { operation: "write the OCI config".to_owned(), kind: ErrorKind::Internal, source: Box::new(source) };
        let spec = serde_json::to_value(&spec).map_err(failed)?;
        let process = &record.spec.process;
        let root = super::host_mount::mounted(&container_dir).map_or(beneath.into(), Root::Directory);
        Ok(Config {
            id: record.id.clone(),
            data_root: roots.data.clone(),
            run_root: roots.run.clone(),
            live_dir,
            container_dir,
            spec,
            root,
            sources: sources.made,
            user: User { name: process.user.clone(), groups: record.spec.host.group_add.clone() },
            cgroup_path: inputs.cgroup_path,
            reaper: record.spec.host.init,
            tty: process.tty,
            console_size: aim.console,
            open_stdin: process.open_stdin,
            stdin_once: process.stdin_once,
            log: record.spec.host.log.clone(),
            log_context: super::super::logs::context(record)?,
            restart: record.spec.host.restart.clone(),
            auto_remove: record.spec.host.auto_remove,
            notify,
            time_limit: record.spec.host.timeout.map(|seconds| std::time::Duration::from_secs(seconds.into())),
            reserved: record.started,
            journal: Journal {
                attributes: events::attributes(record),
                up: events::going_up(record, networks),
                down: events::going_down(record, networks),
            },
            netns_of_init: oci_config::netns_of_init(&record.spec.host),
            resolver: self.resolver_plan(record, networks)?,
            health: health::plan(&record.spec),
            // The end of an init container is not the end of its pod.
            pod: record.spec.pod.as_ref().filter(|membership| membership.init.is_none()).map(|membership| membership.pod.clone()),
        })
    }

    /// The files of `/etc`, or where they are: they belong to the network, so a joined container has its own.
    fn write_generated(&self, record: &Container, networks: &[Network], inputs: &mut Inputs<'_>) -> Result<()> {
        let roots = &self.privilege.roots;
        if let NetworkMode::Container(id) = &record.spec.host.network {
            let (_, target) = self.joined(id, "network")?;
            inputs.etc_dir = roots.container(&target.id);
            inputs.network_dir.clone_from(&inputs.etc_dir);
            return Ok(());
        }
        let host = self.with_given_dns(&record.id, &record.spec.host, &record.endpoints)?;
        let directory = roots.container(&record.id);
        etc::write_all(&host, &record.spec.domainname, &record.endpoints, &directory, &inputs.hostname, networks, &inputs.links)
    }

    /// Whom it tells that it is ready, if it is to and somebody waits. A command that stays with it is the service itself.
    fn notify(&self, record: &Container, attached: bool) -> Option<Notify> {
        let (socket, from) = (self.notify_socket.clone()?, record.spec.host.readiness?);
        Some(Notify { socket, from, main: !attached })
    }

    /// For the names on its networks, or on those of the pod whose network it has.
    fn resolver_plan(&self, record: &Container, networks: &[Network]) -> Result<Option<serde_json::Value>> {
        let of_pod = self.networks_of_pod(record)?;
        let networks = if of_pod.is_empty() { networks } else { &of_pod };
        Ok(has_names(networks).then(|| resolver_plan(&self.privilege.roots, networks, &record.spec.host.dns)))
    }

    /// The networks of the pod whose network it has.
    fn networks_of_pod(&self, record: &Container) -> Result<Vec<Network>> {
        match (&record.spec.host.network, &record.spec.pod) {
            (NetworkMode::Pod, Some(membership)) => {
                let pod = self.db.pod(&membership.pod)?.ok_or_else(|| Error::no_such("pod", membership.pod.as_str()))?;
                self.networks_of(&pod.endpoints)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What the OCI config needs to know about the host and other containers.
    pub(super) fn inputs<'a>(&self, record: &Container, facts: &'a HostFacts) -> Result<Inputs<'a>> {
        let roots = &self.privilege.roots;
        let host = &record.spec.host;
        let mut hostname = record.spec.hostname.clone();
        if hostname.is_empty() {
            hostname = match &host.network {
                NetworkMode::Container(id) => self.find(id).map_err(|error| removed(error, id, "network"))?.spec.hostname,
                _ => String::new(),
            };
        }
        if hostname.is_empty() || host.uts_host {
            hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        let ipc_pid = if let IpcMode::Container(id) = &host.ipc { Some(self.joined(id, "IPC")?.0) } else { None };
        let pid_pid = if let PidMode::Container(id) = &host.pid { Some(self.joined(id, "PID")?.0) } else { None };
        let user_pid = if let UsernsMode::Container { id, .. } = &host.userns { Some(self.joined(id, "user")?.0) } else { None };
        if let UsernsMode::Path { path, uids, gids } = &host.userns {
            require_same_maps(path, (uids, gids))?;
        }
        let network_pid = match &host.network {
            NetworkMode::Container(id) if host.userns.maps().is_some() => Some(self.joined(id, "network")?.0),
            _ => None,
        };
        let pod = record.spec.pod.as_ref().map(|membership| self.pod_inputs(membership)).transpose()?;
        let network_dir = match (&host.network, &record.spec.pod) {
            (NetworkMode::Pod, Some(membership)) => roots.pod(&membership.pod),
            _ => roots.container(&record.id),
        };
        Ok(Inputs {
            etc_dir: roots.container(&record.id),
            container_dir: roots.container(&record.id),
            network_dir,
            pod,
            volumes_dir: roots.volumes(),
            sources: std::collections::BTreeMap::new(),
            hostname,
            ipc_pid,
            pid_pid,
            user_pid,
            network_pid,
            shm_dir: None,
            devices: devices::look_up(host)?,
            cdi: super::cdi::look_up(&host.cdi)?,
            links: self.linked(record)?,
            facts,
            cgroup_path: reconcile::cgroup_path(record),
            notify: None,
        })
    }

    /// `--ipc shareable` has its `/dev/shm` where others can bind it from; `--ipc container:` binds it.
    fn share_memory(&self, record: &Container, live_dir: &std::path::Path, inputs: &mut Inputs<'_>, undo: &mut Undo<'static>) -> Result<()> {
        let roots = &self.privilege.roots;
        match &record.spec.host.ipc {
            IpcMode::Container(id) => {
                let target: ContainerId = id.parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
                inputs.shm_dir = Some(roots.live(&target).join(SHM));
            }
            IpcMode::Pod => inputs.shm_dir = record.spec.pod.as_ref().map(|membership| roots.live_pod(&membership.pod).join(SHM)),
            IpcMode::Shareable => {
                let shm = live_dir.join(SHM);
                crate::base::fs::create_dir_all(&shm, 0o755)?;
                let size = if record.spec.host.shm_size == 0 { 64 << 20 } else { record.spec.host.shm_size };
                let data = std::ffi::CString::new(format!("mode=1777,size={size}")).expect("invariant: digits hold no NUL");
                let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NOEXEC | rustix::mount::MountFlags::NODEV;
                rustix::mount::mount("shm", &shm, "tmpfs", flags, data.as_c_str()).on("mount", &shm)?;
                inputs.shm_dir = Some(shm);
                let live_dir: PathBuf = live_dir.to_path_buf();
                undo.push("shared memory", move || -> Result<()> {
                    unmount_shm(&live_dir);
                    Ok(())
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Waits until it is known what becomes of a run whose record says that it goes on. A monitor without facts has lost the
/// command that was starting it (which would hold the lock): it leaves, or opens the gate if it was told to just before. One
/// whose container has ended leaves, or starts it again.
fn await_facts(record: &Container, live_dir: &Path) -> Result<()> {
    await_monitor(record, live_dir, || match Live::read(live_dir) {
        Some(live) => live.pid.is_none() || init_pidfd(&live).is_some_and(|init| !has_ended(init.as_fd())),
        None => false,
    })
}

/// Waits for the monitor of the last run, which has recorded the end and is about to leave: a matter of microseconds.
fn await_last_monitor(record: &Container, live_dir: &Path) -> Result<()> {
    await_monitor(record, live_dir, || false)
}

/// Waits until it is gone, or `settled` holds.
fn await_monitor(record: &Container, live_dir: &Path, settled: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + OLD_MONITOR_PATIENCE;
    while monitor::is_alive(live_dir) && !settled() {
        if Instant::now() > deadline {
            return Err(Error::conflict(format!("the last run of container {} does not end", record.name)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What the container has on disk belongs to the ids that its user namespace had.
fn require_same_maps(path: &Path, known: (&[IdMap], &[IdMap])) -> Result<()> {
    let (uids, gids) = create::user_maps(path)?;
    if (uids.as_slice(), gids.as_slice()) == known {
        return Ok(());
    }
    Err(Error::Conflict {
        message: format!("the user namespace {} has other ids than when the container was created", path.display()),
        hint: Some("create the container anew".to_owned()),
    })
}

fn has_names(networks: &[Network]) -> bool {
    networks.iter().any(|network| network.dns)
}

/// Has the monitor of a running container answer for these networks.
///
/// # Errors
/// It does not answer, or cannot.
pub(in crate::engine) fn follow_networks(roots: &Roots, record: &Container, networks: &[Network]) -> Result<()> {
    let plan = resolver_plan(roots, networks, &record.spec.host.dns);
    let Some(mut client) = contact::connect(&roots.live(&record.id))? else { return Ok(()) };
    client.resolve(&plan)?;
    // One that has just ended asks for no name any more.
    let operation = format!("answer name queries of container \"{}\"", record.name);
    awaits(&mut client, &operation, |event| matches!(event, Event::Resolving)).map(drop)
}

/// Has the monitor of a running container hold these sockets of published ports, and no others.
///
/// # Errors
/// It does not answer, or cannot.
pub(in crate::engine) fn reserve_ports(roots: &Roots, record: &Container, held: &[HeldPort]) -> Result<()> {
    let live_dir = roots.live(&record.id);
    let Some(mut client) = contact::connect(&live_dir)? else { return Ok(()) };
    client.reserve(&held.iter().map(|held| held.socket.as_fd()).collect::<Vec<_>>())?;
    let operation = format!("hold the ports of container \"{}\"", record.name);
    if awaits(&mut client, &operation, |event| matches!(event, Event::Reserved))? {
        return Ok(());
    }
    // One that has just ended holds none. One that lives has not understood.
    contact::await_death(&client, &live_dir, monitor::Error::Lost).map_err(|_| Error::Conflict {
        message: format!("the monitor of container {} is of an older rcon, which holds ports from its start on", record.name),
        hint: Some(format!("rcon restart {}", record.name)),
    })
}

/// The error with its causes on one line, for `State.Error`.
pub(in crate::engine) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// Docker's exit codes of a start that failed.
fn exit_code(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_error_names_its_causes() {
        let error = Error::Failed { operation: "start container \"web\"".into(), kind: ErrorKind::CommandNotFound, source: "no such file".into() };
        assert_eq!(describe(&error), "cannot start container \"web\": no such file");
        assert_eq!(exit_code(&error), 127);
    }
}
