//! start: reservations in one transaction, then the monitor creates the container while the network is set up here,
//! then the gate. A failure takes everything back and is recorded.

use super::super::request::CreateContainer;
use super::super::{AttachStreams, Attached, Created, Engine, Error, Result};
use super::create::{self, Prepared};
use super::locks::OperationLock;
use super::oci_config::{self, Inputs};
use super::remove::{failpoint_at, unmount_shm};
use super::resources::HostFacts;
use super::{connect, devices, etc, lifecycle, locks, reconcile, remove};
use crate::base::fs::Context;
use crate::base::{ContainerId, ErrorKind, Timestamp, Undo};
use crate::image::Progress;
use crate::monitor::{self, Client, Config, Event, FailureKind, Live};
use crate::network::{self, HeldPort, Netns};
use crate::runtime::{Root, Upper, User};
use crate::state::Tx;
use crate::state::record::{Container, IpcMode, Network, NetworkMode, Phase, PidMode, PortMapping, Protocol};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Name of the default bridge's record.
pub(super) const BRIDGE: &str = "bridge";
/// In the live directory: the `/dev/shm` that an `--ipc shareable` container shares.
pub(super) const SHM: &str = "shm";
/// How long a monitor may take for one step. Far beyond any sane disk: it only ends a wait for something dead.
const STEP_PATIENCE: Duration = Duration::from_secs(120);
/// How long the monitor of an earlier run may take to finish.
const OLD_MONITOR_PATIENCE: Duration = Duration::from_secs(20);

type NetnsThread = JoinHandle<std::result::Result<Netns, network::Error>>;

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
        let lock = locks::lock(roots, id)?;
        let gone = || Error::no_such("container", id.as_str());
        let mut record = self.db.container(id)?.ok_or_else(gone)?;
        let live_dir = roots.live(id);
        match record.phase {
            Phase::Removing => return Err(Error::conflict(format!("container {} is being removed", record.name))),
            Phase::Started if Live::read(&live_dir).is_some_and(|l| l.pid.is_some()) => return self.attach(id.as_str(), attach),
            Phase::Started if monitor::is_alive(&live_dir) => {
                return Err(Error::Conflict {
                    message: format!("container {} is restarting", record.name),
                    hint: Some("stop it first, or wait".to_owned()),
                });
            }
            Phase::Started => record = reconcile::end_dead(&self.db, roots, record)?.ok_or_else(gone)?,
            Phase::Created | Phase::Exited => {}
        }
        let deadline = Instant::now() + OLD_MONITOR_PATIENCE;
        while monitor::is_alive(&live_dir) {
            // The monitor of the last run has recorded the end and is about to leave: a matter of microseconds.
            if Instant::now() > deadline {
                return Err(Error::conflict(format!("the last run of container {} does not end", record.name)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let netns = spawn_netns(&record);
        let held = hold(&record).and_then(|held| self.reserve_existing(&mut record, &held).map(|()| held));
        let held = match held {
            Ok(held) => held,
            Err(error) => return Err(self.record_failure(&mut record, error)),
        };
        self.bring_up_or_take_back(record, &lock, netns, &held, attach, console)
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
        let netns = spawn_netns(&prepared.record);
        let held = match hold(&prepared.record) {
            Ok(held) => held,
            Err(error) => return self.created_only(prepared, error),
        };
        let (mut record, warnings) = match self.reserve_new(&mut prepared, &held) {
            Ok(record) => {
                prepared.record = record;
                prepared.keep()
            }
            // The name (or the volumes) could not be had: nothing was created.
            Err(Reserve::Create(error)) => return Err(*error),
            Err(Reserve::Start(error)) => return self.created_only(prepared, *error),
        };
        let attached = self.bring_up_or_take_back(record.clone(), &lock, netns, &held, attach, console);
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
        self.commit_new(&mut prepared, |tx, prepared| create::insert(tx, &prepared.record, &prepared.volumes))?;
        let (record, warnings) = prepared.keep();
        Ok((Created { record, warnings }, Err(error)))
    }

    fn reserve_new(&self, prepared: &mut Prepared, held: &[HeldPort]) -> std::result::Result<Container, Reserve> {
        let bridge = self.bridge_for(&prepared.record).map_err(|error| Reserve::Start(Box::new(error)))?;
        // Tells the two kinds of failure inside one transaction apart.
        let inserted = std::cell::Cell::new(false);
        let result = self.commit_new(prepared, |tx, prepared| {
            let mut record = prepared.record.clone();
            mark_started(&mut record);
            inserted.set(false);
            create::insert(tx, &record, &prepared.volumes)?;
            inserted.set(true);
            lease(tx, &mut record, bridge.as_ref(), held)?;
            Ok(record)
        });
        result.map_err(|error| if inserted.get() { Reserve::Start(Box::new(error)) } else { Reserve::Create(Box::new(error)) })
    }

    fn reserve_existing(&self, record: &mut Container, held: &[HeldPort]) -> Result<()> {
        let bridge = self.bridge_for(record)?;
        let mut started = record.clone();
        mark_started(&mut started);
        self.db.write(false, |tx| -> Result<()> {
            tx.update_container(&started)?;
            lease(tx, &mut started, bridge.as_ref(), held)
        })?;
        *record = started;
        Ok(())
    }

    /// The default bridge's record (chosen now if this is the first container), if the container needs it.
    fn bridge_for(&self, record: &Container) -> Result<Option<Network>> {
        if record.spec.host.network != NetworkMode::Bridge {
            return Ok(None);
        }
        match self.db.network(BRIDGE)? {
            Some(network) => Ok(Some(network)),
            None => Ok(Some(network::choose_default(BRIDGE)?)),
        }
    }

    fn bring_up_or_take_back(
        &self,
        mut record: Container,
        lock: &OperationLock,
        netns: Option<NetnsThread>,
        held: &[HeldPort],
        attach: AttachStreams,
        console: (u16, u16),
    ) -> Result<Attached> {
        let mut monitor = None;
        let result = self.bring_up(&record, lock, netns, held, attach, console, &mut monitor);
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

    /// Lets the monitor tear down, and waits for it: after that the record is ours again.
    fn abandon(&self, mut client: Client, record: &Container) {
        let live_dir = self.privilege.roots.live(&record.id);
        if monitor::is_alive(&live_dir) {
            // A monitor that failed by itself is leaving already and does not listen any more.
            drop(client.abandon());
            match super::stop::await_gone(&mut client, &live_dir, Some(Duration::from_secs(10))) {
                Ok(_) => {}
                Err(error) => tracing::warn!("the monitor of {} did not say goodbye: {error}", record.name),
            }
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
        reconcile::release_network(record)?;
        let Some(now) = self.db.container(&record.id)? else { return Ok(()) };
        *record = now;
        if record.spec.host.auto_remove {
            remove::begin_removal(&self.db, record, true)?;
            return remove::finish_removal(&self.db, roots, record);
        }
        record.phase = if record.finished.is_never() { Phase::Created } else { Phase::Exited };
        if record.phase == Phase::Created {
            record.started = Timestamp::NEVER;
        }
        record.error = describe(error);
        record.exit_code = exit_code(error);
        record.address = None;
        record.published.clear();
        self.db.write(false, |tx| -> Result<()> {
            tx.update_container(record)?;
            Ok(tx.release_leases(&record.id)?)
        })
    }

    /// Everything between the reservation and the running process. `monitor` is filled as soon as there is one.
    #[expect(clippy::too_many_arguments, reason = "one call; each is a thing that the start hands on")]
    fn bring_up(
        &self,
        record: &Container,
        lock: &OperationLock,
        netns: Option<NetnsThread>,
        held: &[HeldPort],
        attach: AttachStreams,
        console: (u16, u16),
        monitor: &mut Option<Client>,
    ) -> Result<()> {
        failpoint_at("engine.start.reserved")?;
        let mut undo = Undo::new();
        let bridge = if record.spec.host.network == NetworkMode::Bridge { self.db.network(BRIDGE)? } else { None };
        let config = self.monitor_config(record, bridge.as_ref(), console, &mut undo)?;
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
        if let (NetworkSide::Own(netns), Some(bridge), Some(address)) = (&side, &bridge, record.address) {
            connect::connect(&self.db, record, netns, bridge, address)?;
        }
        failpoint_at("engine.start.network")?;
        let operation = || format!("start container \"{}\"", record.name);
        await_event(client, &operation(), |event| matches!(event, Event::Created { .. }))?;
        failpoint_at("engine.start.created")?;
        if attach != AttachStreams::default() {
            client.attach(attach.stdout, attach.stderr, attach.stdin && record.spec.process.open_stdin)?;
        }
        client.start()?;
        failpoint_at("engine.start.gate")?;
        await_event(client, &operation(), |event| matches!(event, Event::Started { .. }))?;
        failpoint_at("engine.start.started")?;
        undo.commit();
        Ok(())
    }

    fn network_side(&self, record: &Container, netns: Option<NetnsThread>) -> Result<NetworkSide> {
        match (&record.spec.host.network, netns) {
            (NetworkMode::Host, _) => Ok(NetworkSide::Host),
            _ if oci_config::netns_of_init(&record.spec.host) => Ok(NetworkSide::OfInit),
            (NetworkMode::Container(id), _) => {
                let (pid, _) = self.joined(id, "network")?;
                Ok(NetworkSide::Joined(network::netns_of(pid)?))
            }
            (NetworkMode::Bridge | NetworkMode::None, Some(thread)) => match thread.join() {
                Ok(made) => Ok(NetworkSide::Own(made?)),
                Err(panic) => std::panic::resume_unwind(panic),
            },
            (NetworkMode::Bridge | NetworkMode::None, None) => Ok(NetworkSide::Own(network::create_netns()?)),
        }
    }

    /// Init pid and record of a container whose namespace is to be shared; it must run.
    fn joined(&self, id: &str, what: &str) -> Result<(i32, Container)> {
        let view = self.view(id)?;
        if view.pid == 0 {
            return Err(Error::Conflict {
                message: format!("cannot join the {what} namespace of container {}: it is not running", view.record.name),
                hint: Some(format!("start {} first", view.record.name)),
            });
        }
        Ok((view.pid, view.record))
    }

    /// Looks everything up, writes the generated files and compiles the monitor's config.
    fn monitor_config(&self, record: &Container, bridge: Option<&Network>, console: (u16, u16), undo: &mut Undo<'static>) -> Result<Config> {
        let roots = &self.privilege.roots;
        let (container_dir, live_dir) = (roots.container(&record.id), roots.live(&record.id));
        crate::base::fs::create_dir_all(&live_dir, 0o700)?;
        for stale in [lifecycle::KEEP, lifecycle::POLICY, lifecycle::EXIT] {
            crate::base::fs::remove_file(&live_dir.join(stale))?;
        }
        let facts = HostFacts::read();
        let mut inputs = self.inputs(record, &facts)?;
        if let NetworkMode::Container(id) = &record.spec.host.network {
            // The files belong to the network: those of the joined container.
            let (_, target) = self.joined(id, "network")?;
            inputs.etc_dir = roots.container(&target.id);
        } else {
            etc::write_all(record, &container_dir, &inputs.hostname, bridge)?;
        }
        self.share_memory(record, &live_dir, &mut inputs, undo)?;
        let image = self.db.image(&record.spec.image_id)?.ok_or_else(|| Error::no_such("image", &record.spec.image_id))?;
        let mut overlay = crate::image::overlay(roots, &self.db, &image)?;
        let (upper, work) = (container_dir.join("upper"), container_dir.join("work"));
        let volatile = record.spec.host.auto_remove;
        if volatile {
            // A volatile overlay marks its work directory; the mark of an earlier run would refuse this one.
            crate::base::fs::remove_tree(&work.join("work/incompat"))?;
        }
        overlay.upper = Some(Upper { upper, work, volatile });
        let spec = oci_config::spec(record, &inputs)?;
        let spec = serde_json::to_value(&spec).map_err(|source| Error::Failed {
            operation: "write the OCI config".to_owned(),
            kind: ErrorKind::Internal,
            source: Box::new(source),
        })?;
        let process = &record.spec.process;
        Ok(Config {
            id: record.id.clone(),
            data_root: roots.data.clone(),
            run_root: roots.run.clone(),
            live_dir,
            container_dir,
            spec,
            root: Root::Overlay(overlay),
            user: User { name: process.user.clone(), groups: record.spec.host.group_add.clone() },
            cgroup_path: inputs.cgroup_path,
            reaper: record.spec.host.init,
            tty: process.tty,
            console_size: console,
            open_stdin: process.open_stdin,
            stdin_once: process.stdin_once,
            log: record.spec.host.log.clone(),
            restart: record.spec.host.restart.clone(),
            auto_remove: record.spec.host.auto_remove,
            reserved: record.started,
            netns_of_init: oci_config::netns_of_init(&record.spec.host),
        })
    }

    /// What the OCI config needs to know about the host and other containers.
    pub(super) fn inputs<'a>(&self, record: &Container, facts: &'a HostFacts) -> Result<Inputs<'a>> {
        let roots = &self.privilege.roots;
        let host = &record.spec.host;
        let mut hostname = record.spec.hostname.clone();
        if hostname.is_empty() {
            hostname = match &host.network {
                NetworkMode::Container(id) => self.find(id)?.spec.hostname,
                _ => String::new(),
            };
        }
        if hostname.is_empty() || host.uts_host {
            hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        let ipc_pid = if let IpcMode::Container(id) = &host.ipc { Some(self.joined(id, "IPC")?.0) } else { None };
        let pid_pid = if let PidMode::Container(id) = &host.pid { Some(self.joined(id, "PID")?.0) } else { None };
        Ok(Inputs {
            etc_dir: roots.container(&record.id),
            volumes_dir: roots.volumes(),
            hostname,
            ipc_pid,
            pid_pid,
            shm_dir: None,
            devices: devices::look_up(host)?,
            facts,
            cgroup_path: reconcile::cgroup_path(record),
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

/// Which half of `run`'s transaction failed.
enum Reserve {
    Create(Box<Error>),
    Start(Box<Error>),
}

fn mark_started(record: &mut Container) {
    record.phase = Phase::Started;
    record.started = Timestamp::now();
    record.exit_code = 0;
    record.oom_killed = false;
    record.error.clear();
    record.restart_count = 0;
    record.stopped_by_user = false;
}

/// Address and ports, in the transaction that marks the record as started.
fn lease(tx: &Tx<'_>, record: &mut Container, bridge: Option<&Network>, held: &[HeldPort]) -> Result<()> {
    let Some(chosen) = bridge else { return Ok(()) };
    let network = match tx.network(BRIDGE)? {
        // Another process was first.
        Some(network) => network,
        None => {
            tx.put_network(chosen)?;
            chosen.clone()
        }
    };
    record.address = Some(tx.lease_address(&network, &record.id)?);
    record.published = held.iter().map(|h| h.port.clone()).collect();
    for port in &record.published {
        tx.lease_port(&record.id, port)?;
    }
    // The document shows what was leased; the lease rows decide.
    Ok(tx.update_container(record)?)
}

/// Making a network namespace takes a millisecond or more: it runs beside the transaction and the files.
fn spawn_netns(record: &Container) -> Option<NetnsThread> {
    let host = &record.spec.host;
    let ours = matches!(host.network, NetworkMode::Bridge | NetworkMode::None) && !oci_config::netns_of_init(host);
    ours.then(|| std::thread::spawn(network::create_netns))
}

/// Takes the host ports: `-p`, and with `-P` each exposed port that `-p` does not name.
fn hold(record: &Container) -> Result<Vec<HeldPort>> {
    let host = &record.spec.host;
    if host.network != NetworkMode::Bridge {
        return Ok(Vec::new());
    }
    let mut mappings = host.ports.clone();
    if host.publish_all {
        for text in &record.spec.exposed {
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => return Err(Error::invalid(format!("cannot publish {text}: protocol {other} is not supported"))),
            };
            let Ok(container_port) = port.parse::<u16>() else { continue };
            if !mappings.iter().any(|m| m.container_port == container_port && m.protocol == protocol) {
                mappings.push(PortMapping { host_ip: None, host_ports: None, container_port, protocol });
            }
        }
    }
    if mappings.is_empty() { Ok(Vec::new()) } else { Ok(network::hold_ports(&mappings)?) }
}

/// Waits for the event; a failure that the monitor reports carries its kind along.
fn await_event(client: &mut Client, operation: &str, wanted: impl Fn(&Event) -> bool) -> Result<()> {
    loop {
        match client.next(Some(STEP_PATIENCE))? {
            Some(event) if wanted(&event) => return Ok(()),
            Some(Event::Failed { kind, message }) => {
                let kind = match kind {
                    FailureKind::NotFound => ErrorKind::CommandNotFound,
                    FailureKind::NotExecutable => ErrorKind::CommandNotExecutable,
                    FailureKind::Invalid => ErrorKind::Invalid,
                    FailureKind::Other => ErrorKind::Internal,
                };
                return Err(Error::Failed { operation: operation.to_owned(), kind, source: message.into() });
            }
            Some(Event::Gone) => {
                return Err(Error::Failed { operation: operation.to_owned(), kind: ErrorKind::Internal, source: "its monitor ended".into() });
            }
            Some(_) => {}
            None => {
                return Err(Error::Failed {
                    operation: operation.to_owned(),
                    kind: ErrorKind::Unavailable,
                    source: "its monitor does not answer".into(),
                });
            }
        }
    }
}

/// The error with its causes on one line, for `State.Error`.
pub(super) fn describe(error: &Error) -> String {
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
