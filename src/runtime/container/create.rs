//! `create` and `run`: from a bundle to an init stage at its gate.

use super::record::Init as Process;
use super::{Bundle, CONFIG, Container, GATE, Id, NOTIFY, RECORD, Record, Store, lifecycle, taken};
use crate::base::fs::{self, Context};
use crate::base::{Undo, failpoint};
use crate::runtime::channel::Channel;
use crate::runtime::error::At;
use crate::runtime::listener::Listener;
use crate::runtime::{Create, Error, Gate, Init, Root, Stdio, cgroup, net_devices, resctrl};
use crate::sys::netns::Ahead;
use crate::sys::proc_stat::ProcDir;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What `create` and `run` are asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Number of descriptors from 3 on that the process inherits.
    pub preserve_fds: u32,
    /// The caller's session keyring is kept (`--no-new-keyring`).
    pub keep_keyring: bool,
    /// `run`: the caller opens the gate itself, nobody else can.
    pub run: bool,
    /// Somebody is told of the process before it runs.
    pub announced: bool,
    /// As in [`Create`].
    pub no_pivot: bool,
    /// Make a directory for the socket of `NOTIFY_SOCKET`, to which a mount of the config leads.
    pub notify: bool,
    /// The control group is a unit of systemd.
    pub systemd: bool,
    /// The container stays in the caller's control group, and the config's limits do not hold.
    pub no_group: bool,
}

/// A container at its gate.
pub struct Outcome {
    pub container: Container,
    pub init: Init,
}

impl Store {
    /// Makes the container; its init stage waits at the gate and ends with the caller until [`Outcome::release`] or
    /// [`Outcome::start`]. `announce` is told the process and its terminal's master when the stage is ready.
    ///
    /// # Errors
    /// What is wrong with the config, or the step that failed; nothing is left behind then.
    pub fn create(
        &self,
        id: &Id,
        bundle: &Bundle,
        request: &Request,
        announce: &mut dyn FnMut(i32, Option<OwnedFd>) -> Result<(), Error>,
    ) -> Result<Outcome, Error> {
        let spec = &bundle.spec;
        let network = network_ahead(spec);
        let rootfs = rootfs(spec, &bundle.dir)?;
        let classes = resctrl::Group::of(spec, id.as_str())?;
        let group = self.group(spec, id, request)?;
        let dir = self.claim(id)?;
        let mut record = record(id, bundle, rootfs);
        record.keep_keyring = request.keep_keyring;
        record.resctrl = classes.clone();
        record.group = (!group.is_absent()).then(|| group.clone());
        let hooked = Cell::new(false);
        let mut undo = Undo::new();
        if record.later_hooks {
            let (state, hooked) = (record.hook_state(), &hooked);
            // What a failed create has destroyed is followed by the poststop hooks too (runtime.md, Lifecycle).
            undo.push("the hooks", move || -> Result<(), Error> {
                if hooked.get() {
                    lifecycle::poststop(spec, &state);
                }
                Ok(())
            });
        }
        let made = dir.clone();
        undo.push("the state directory", move || fs::remove_tree(&made));
        let held = rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", &dir)?;
        let mut container = Container { dir, held, record };
        let _lock = container.lock()?;
        fs::write(&container.path(CONFIG), &bundle.text)?;
        if request.notify {
            fs::create_dir_all(&container.path(NOTIFY), 0o755)?;
        }
        container.record.write(&container.path(RECORD))?;
        failpoint::hit("runtime.create.record").at("pass a failpoint")?;
        if let Some(classes) = classes {
            let made = classes.clone();
            undo.push("the class of service", move || made.remove());
            classes.make()?;
        }
        let group = group.make(spec).map_err(Error::Cgroup)?;
        if group.is_absent() {
            container.record.group = None;
        }
        let made = group.clone();
        undo.push("the control group", move || made.delete());
        failpoint::hit("runtime.create.group").at("pass a failpoint")?;
        hooked.set(true);
        if network.as_ref().is_some_and(|network| !network.is_finished()) {
            // It takes about as long as what is left of the namespace.
            group.confine().map_err(Error::Cgroup)?;
        }
        let birth = Birth { path: container.path(RECORD), record: RefCell::new(container.record.clone()) };
        let mut init = clone_init(&container, spec, request, &group, network, &birth)?;
        let made = group.clone();
        undo.push("the init stage", move || if made.is_absent() { Ok(()) } else { made.kill_all(super::control::PATIENCE) });
        if !birth.is_noted() {
            birth.note(init.pid)?;
            announce(init.pid, init.console.take())?;
            failpoint::hit("runtime.create.announced").at("pass a failpoint")?;
        }
        container.record = birth.record.into_inner();
        undo.commit();
        Ok(Outcome { container, init })
    }

    /// The group that the container will have.
    fn group(&self, spec: &Spec, id: &Id, request: &Request) -> Result<cgroup::Group, Error> {
        if request.no_group {
            return Ok(cgroup::Group::absent());
        }
        match cgroup::Group::of_spec(spec, id.as_str(), request.systemd) {
            // A group in use is then the other container's: the id is what is wrong.
            Err(_) if self.root.join(id.as_str()).exists() => Err(taken(id)),
            other => other.map_err(Error::Cgroup),
        }
    }
}

/// What the config says of the container.
fn record(id: &Id, bundle: &Bundle, rootfs: PathBuf) -> Record {
    let spec = &bundle.spec;
    let mut record = Record::new(id, spec.version(), bundle.dir.clone(), rootfs);
    record.annotations = spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    record.listener = Listener::of(spec);
    record.own_pid_namespace = owns_pid_namespace(spec);
    record.later_hooks = lifecycle::has_later_hooks(spec);
    record
}

/// The record of a container that is about to have a process.
struct Birth {
    path: PathBuf,
    record: RefCell<Record>,
}

impl Birth {
    fn note(&self, pid: i32) -> Result<(), Error> {
        failpoint::hit("runtime.create.cloned").at("pass a failpoint")?;
        let mut record = self.record.borrow_mut();
        record.init = Some(process(pid)?);
        record.append(&self.path)
    }

    fn is_noted(&self) -> bool {
        self.record.borrow().init.is_some()
    }
}

fn clone_init(
    container: &Container,
    spec: &Spec,
    request: &Request,
    group: &cgroup::Group,
    network: Option<Ahead>,
    birth: &Birth,
) -> Result<Init, Error> {
    let process = spec.process().as_ref().ok_or_else(|| Error::Invalid("the config has no process".to_owned()))?;
    let stdio = if process.terminal().unwrap_or(false) { terminal(process) } else { Stdio::Inherit };
    let gate = match (request.run, request.announced) {
        (true, false) => Gate::Open,
        (true, true) => Gate::Free,
        (false, _) => Gate::Socket(Channel::listen(container.held.as_fd(), GATE)?),
    };
    // Nobody is told of it; the record is all.
    let born = |pid: i32| {
        birth.note(pid)?;
        Ok(failpoint::hit("runtime.create.announced").at("pass a failpoint")?)
    };
    crate::runtime::create(Create {
        ahead: network,
        bundle: Some(&container.record.bundle),
        no_pivot: request.no_pivot,
        keyring: (!request.keep_keyring).then(|| container.id()),
        gate,
        resctrl: container.record.resctrl.as_ref(),
        preserve_fds: request.preserve_fds,
        accounting: !request.run,
        state: Some(&container.record.hook_state()),
        born: Some(&born),
        ..Create::new(spec, &Root::Directory(container.record.rootfs.clone()), stdio, group)
    })
}

/// A terminal of the config's size; 0 by 0 when it names none, as a new pty has.
pub(super) fn terminal(process: &oci_spec::runtime::Process) -> Stdio {
    let side = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let size = process.console_size();
    Stdio::Terminal { columns: size.map_or(0, |size| side(size.width())), rows: size.map_or(0, |size| side(size.height())) }
}

impl Outcome {
    /// The waiting stage outlives the caller from now on.
    ///
    /// # Errors
    /// The stage has ended; nothing is left behind.
    pub fn release(self) -> Result<Container, Error> {
        let Outcome { container, init } = self;
        match init.release() {
            Ok(()) => Ok(container),
            Err(error) => {
                container.remove()?;
                Err(error)
            }
        }
    }

    /// Opens the gate; the process outlives the caller from now on.
    ///
    /// # Errors
    /// Why the program could not be executed; nothing is left behind.
    pub fn start(&mut self) -> Result<(), Error> {
        match self.init.start().and_then(|()| self.container.poststart()) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.container.remove()?;
                Err(error)
            }
        }
    }
}

fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf, Error> {
    let root = spec.root().as_ref().ok_or_else(|| Error::Invalid("the config has no root".to_owned()))?;
    let path = bundle.join(root.path());
    std::fs::canonicalize(&path).on("find the root", &path).map_err(Error::from)
}

fn owns_pid_namespace(spec: &Spec) -> bool {
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    listed.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none())
}

/// A process by number and start time.
fn process(pid: i32) -> Result<Process, Error> {
    let stat = ProcDir::open(pid).and_then(|dir| dir.stat());
    let stat = stat.map_err(|source| Error::Step { step: format!("read the start time of process {pid}"), source })?;
    Ok(Process { pid, start_ticks: stat.start_ticks })
}

/// The container's own network namespace, made beside the first steps of a create. None: it has none, or one that belongs to
/// another user namespace, or none can be made now.
fn network_ahead(spec: &Spec) -> Option<Ahead> {
    let linux = spec.linux().as_ref()?;
    let listed = linux.namespaces().as_ref()?;
    let own = listed.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Network && namespace.path().is_none());
    let foreign = listed.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let devices = linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty());
    if !own || foreign || devices {
        return None;
    }
    Ahead::early().or_else(network_by_thread)
}

fn network_by_thread() -> Option<Ahead> {
    crate::sys::heap::share();
    Ahead::begin(|| net_devices::raise_loopback().map_err(|failure| std::io::Error::from_raw_os_error(failure.errno))).ok()
}
