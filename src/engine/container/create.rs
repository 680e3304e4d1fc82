//! create: image, merge, checks, directories and copy-up; then one transaction makes name, record and references.

use super::super::request::CreateContainer;
use super::super::volume::driver::{self, Driver};
use super::super::{Created, Engine, Error, Event, Result, events};
use super::locks::{self, OperationLock};
use super::mounts::Mounts;
use super::oci_mounts::volume_data;
use super::remove::failpoint_at;
use super::resources::HostFacts;
use super::{etc, health, id_pool, image, merge, mounts, names, oci_config, systemd, validate};
use crate::base::fs::Context;
use crate::base::{ContainerId, ContainerName, Undo, copy_tree};
use crate::image::Progress;
use crate::oci::{ImageDefaults, ImageDocument};
use crate::state::record::{self, Container, ContainerSpec, HostSpec, IdMap, IpcMode, NetworkMode, PidMode, Readiness, UsernsMode, Volume};
use crate::state::{Db, Tx};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Tries at finding a free generated name.
const NAME_TRIES: u32 = 20;
/// Version of [`ContainerSpec`] documents.
const SPEC_VERSION: u32 = 1;

/// Everything of a new container but the transaction. Dropping it takes the directories back.
pub(super) struct Prepared {
    pub record: Container,
    pub volumes: Vec<Volume>,
    pub warnings: Vec<String>,
    /// Those of `volumes` that did not exist before.
    new_volumes: Vec<Volume>,
    pub image: record::Image,
    /// What ids may be lent from; empty where none are asked for.
    pub id_pool: Vec<(u32, u32)>,
    /// The name was generated: a conflict means another try.
    generated: bool,
    undo: Undo<'static>,
    /// Locked volume directories: until the rows exist nobody else fills them.
    _locks: Vec<OwnedFd>,
}

impl Prepared {
    /// What the journal says when the transaction has succeeded.
    pub(super) fn events(&self) -> Vec<Event> {
        let volumes = self.new_volumes.iter().map(|volume| events::of_volume(volume, "create"));
        volumes.chain([events::of_container(&self.record, "create")]).collect()
    }

    /// A record whose name was chosen; nothing is made yet.
    pub(super) fn new(record: Container, volumes: Vec<Volume>, warnings: Vec<String>, image: record::Image) -> Self {
        Prepared {
            record,
            volumes,
            warnings,
            new_volumes: Vec::new(),
            image,
            id_pool: Vec::new(),
            generated: false,
            undo: Undo::new(),
            _locks: Vec::new(),
        }
    }

    /// The transaction succeeded: the directories stay.
    pub(super) fn keep(self) -> (Container, Vec<String>) {
        self.undo.commit();
        (self.record, self.warnings)
    }
}

impl Engine {
    /// Resolves or pulls the image, merges, reserves name, writes the record, does copy-up. Warnings are values.
    ///
    /// # Errors
    /// The request contradicts itself or the host, the image cannot be had, or the name is taken.
    pub fn create(&self, request: &CreateContainer, progress: &(dyn Fn(Progress) + Sync)) -> Result<Created> {
        let (_lock, mut prepared) = self.prepare(request, progress)?;
        prepared.record = self.commit_new(&mut prepared, insert_prepared)?;
        failpoint_at("engine.create.recorded")?;
        self.emit(prepared.events());
        let (record, warnings) = prepared.keep();
        Ok(Created { record, warnings })
    }

    /// Runs `work` in one transaction, with another generated name after each conflict.
    pub(super) fn commit_new<T>(&self, prepared: &mut Prepared, work: impl Fn(&Tx<'_>, &Prepared) -> Result<T>) -> Result<T> {
        // `--rm` promises nothing that a crash of the machine may not take.
        let durable = !prepared.record.spec.host.auto_remove;
        if matches!(prepared.record.spec.host.userns, UsernsMode::Auto(_)) {
            prepared.id_pool = self.id_pool();
        }
        let mut attempt = 0;
        loop {
            let result = self.db.write(durable, |tx| work(tx, prepared));
            let conflict = matches!(&result, Err(Error::State(crate::state::Error::NameTaken { .. })));
            match result {
                Err(_) if conflict && prepared.generated && attempt < NAME_TRIES => {
                    attempt += 1;
                    prepared.record.name = names::generate(attempt);
                }
                Err(_) if conflict => return Err(name_conflict(&self.db, &prepared.record.name)?),
                other => return other,
            }
        }
    }

    /// The container that has this name now.
    pub(super) fn holder(&self, name: &ContainerName) -> Result<Option<Container>> {
        Ok(self.db.find_container(name.as_str())?.filter(|c| c.name == *name))
    }

    /// All but the transaction. The lock is held from before the first directory: see [`super::sweep`].
    pub(super) fn prepare(&self, request: &CreateContainer, progress: &(dyn Fn(Progress) + Sync)) -> Result<(OperationLock, Prepared)> {
        let request = &self.defaults.fill(request);
        let facts = HostFacts::read();
        let (request, pod) = self.join_pod(request)?;
        let request = &*request;
        let mut undo = Undo::new();
        if let (Some(pod), Some(join)) = (&pod, &request.pod)
            && join.new
        {
            self.undo_new_pod(&pod.id, &mut undo);
        }
        validate::request(request, &facts)?;
        health::check_request(request)?;
        crate::monitor::check_log_options(&request.host.log)?;
        if let Some(name) = &request.name
            && self.holder(name)?.is_some()
        {
            return Err(name_conflict(&self.db, name)?);
        }
        let mut warnings = Vec::new();
        let mut inherited = self.inherited_mounts(request)?;
        if let Some(pod) = pod {
            inherited.insert(0, (pod.spec.mounts, false));
        }
        let (image, document) = self.image_for(request, &mut warnings, progress)?;
        failpoint_at("engine.create.image")?;
        let defaults = document.config.clone().unwrap_or_default();
        let request = systemd::set_up(request, &defaults, &facts)?;
        let request = &*request;
        let image_volumes: Vec<String> = defaults.volumes.iter().flatten().map(|(path, _)| path.clone()).collect();
        let images = self.mounted_images(request, &mut warnings, progress)?;
        let merged = mounts::merge(&request.mounts, &inherited, &image_volumes, &images)?;
        let mut host = request.host.clone();
        self.resolve_joined(&mut host)?;
        self.resolve_links(&mut host.links, &mut host.requires)?;
        super::cdi::look_up(&host.cdi)?;
        if !facts.swap_accounting && (host.resources.memory_swap.is_some_and(|s| s > 0)) {
            warnings.push("your kernel does not account swap: the memory limit applies without a swap limit".to_owned());
            host.resources.memory_swap = None;
        }
        let record = new_record(request, host, &image, &document, &defaults, &merged, &mut warnings)?;
        oci_config::check(&record)?;
        // What it is on must be there before anything is made.
        self.beneath_with(&record, &image)?;
        super::devices::look_up(&record.spec.host)?;
        etc::check(&record.spec.host)?;
        mounts::prepare_binds(&request.mounts, &mut warnings)?;
        let mut prepared = Prepared::new(record, merged.volumes.clone(), warnings, image);
        prepared.generated = request.name.is_none();
        prepared.undo = undo;
        let lock = locks::lock(&self.privilege.roots, &prepared.record.id)?;
        self.make_directories(&mut prepared)?;
        self.add_accounts(&prepared.record, &prepared.image, &mut prepared.warnings)?;
        self.copy_secrets(&prepared.record)?;
        failpoint_at("engine.create.directories")?;
        self.make_volumes(&mut prepared, &merged, &lock)?;
        failpoint_at("engine.create.volumes")?;
        Ok((lock, prepared))
    }

    /// `container:X` modes must name an existing container; they are recorded by id, so that a rename breaks nothing.
    fn resolve_joined(&self, host: &mut HostSpec) -> Result<()> {
        if let UsernsMode::Container { id, .. } = &host.userns {
            host.userns = self.shared_userns(id)?;
            validate::namespaces(host)?;
        }
        if let UsernsMode::Path { path, uids, gids } = &mut host.userns {
            (*uids, *gids) = user_maps(path)?;
            validate::namespaces(host)?;
        }
        let userns = host.userns.clone();
        if let NetworkMode::Container(name) = &mut host.network {
            let target = self.find(name)?;
            require_one_userns(&userns, &target, "--network")?;
            *name = target.id.to_string();
        }
        if let PidMode::Container(name) = &mut host.pid {
            let target = self.find(name)?;
            require_one_userns(&userns, &target, "--pid")?;
            *name = target.id.to_string();
        }
        if let IpcMode::Container(name) = &mut host.ipc {
            let target = self.find(name)?;
            require_one_userns(&userns, &target, "--ipc")?;
            if target.spec.host.ipc != IpcMode::Shareable {
                return Err(Error::Conflict {
                    message: format!("container {name} does not share its IPC namespace"),
                    hint: Some("create that one with --ipc shareable".to_owned()),
                });
            }
            *name = target.id.to_string();
        }
        Ok(())
    }

    /// The user namespace of another container, with the maps that it has.
    fn shared_userns(&self, name: &str) -> Result<UsernsMode> {
        let target = self.find(name)?;
        let root = userns_root(&target);
        Ok(match (target.spec.host.userns.maps(), root) {
            (Some((uids, gids)), Some(root)) => UsernsMode::Container { id: target.id.to_string(), root, uids: uids.to_vec(), gids: gids.to_vec() },
            // It has that of the host.
            _ => UsernsMode::Host,
        })
    }

    pub(super) fn make_directories(&self, prepared: &mut Prepared) -> Result<()> {
        let directory = self.privilege.roots.container(&prepared.record.id);
        crate::base::fs::create_dir_all(&directory, 0o700)?;
        prepared.undo.push("container directory", move || crate::base::fs::remove_tree(&directory));
        let directory = self.privilege.roots.container(&prepared.record.id);
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        // The upper directory's attributes are those of `/` inside, whatever its user namespace: ids on disk are the container's.
        make_directory(&upper, 0o755)?;
        make_directory(&work, 0o700)
    }

    /// Directories of new volumes, and copy-up into empty ones.
    pub(super) fn make_volumes(&self, prepared: &mut Prepared, merged: &Mounts, operation: &OperationLock) -> Result<()> {
        let volumes = self.privilege.roots.volumes();
        let mut image_root = None;
        // In one order everywhere, so that two creates with the same volumes cannot lock each other out.
        let mut ordered: Vec<&Volume> = merged.volumes.iter().collect();
        ordered.sort_by(|a, b| a.name.cmp(&b.name));
        for volume in ordered {
            let directory = volumes.join(volume.name.as_str());
            if !directory.exists() {
                operation.note_volume(&volume.name)?;
            }
            crate::base::fs::create_dir_all(&directory, 0o700)?;
            let lock = copy_tree::open_directory(&directory)?;
            // Until our transaction is through, nobody else looks whether this volume is empty.
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).on("lock", &directory)?;
            prepared._locks.push(lock);
            let data = volume_data(&volumes, &volume.name);
            let known = self.db.volume(&volume.name)?;
            let is_new = known.is_none();
            self.finish_rename(&volume.name)?;
            let driver = Driver::of(known.as_ref().unwrap_or(volume))?;
            if is_new {
                prepared.new_volumes.push(volume.clone());
                self.finish_rename_from(&volume.name)?;
                // Without a row, whatever lies here is debris of a create that died.
                crate::base::fs::remove_tree(&data)?;
                prepared.undo.push("volume directory", {
                    let directory = directory.clone();
                    move || crate::base::fs::remove_tree(&directory)
                });
            }
            if !data.exists() {
                make_directory(&data, 0o755)?;
                driver::set_up(&driver.place, &volume.name, &data)?;
            }
            let Some((_, destination)) = merged.own.iter().find(|(name, _)| *name == volume.name) else { continue };
            let Some(target) = driver.open_to_fill(&volume.name, &data)? else { continue };
            if !copy_tree::is_empty(&target, &data)? {
                continue;
            }
            let root = match &image_root {
                Some(root) => root,
                None => {
                    let beneath = self.beneath_with(&prepared.record, &prepared.image)?;
                    let mounted = beneath.open().map_err(|e| self.blame_image(&prepared.image.id, e.into()));
                    image_root.insert(mounted?)
                }
            };
            copy_tree::copy(root.as_fd(), destination, target.as_fd())?;
        }
        Ok(())
    }
}

/// The maps of a user namespace by its file, as they are now.
///
/// # Errors
/// It is no user namespace, or has no ids.
pub(super) fn user_maps(path: &Path) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
    let (uids, gids) = crate::runtime::user_maps(path)?;
    let maps = |ranges: Vec<(u32, u32, u32)>| ranges.into_iter().map(|(container, host, size)| IdMap { container, host, size }).collect();
    Ok((maps(uids), maps(gids)))
}

/// The container that a container's user namespace was made for; None for that of the host.
fn userns_root(container: &Container) -> Option<String> {
    match &container.spec.host.userns {
        UsernsMode::Host | UsernsMode::Auto(_) => None,
        UsernsMode::Mapped { .. } | UsernsMode::Path { .. } => Some(container.id.to_string()),
        UsernsMode::Container { root, .. } => Some(root.clone()),
    }
}

/// In a namespace that belongs to another user namespace, a mapped root has no rights.
fn require_one_userns(own: &UsernsMode, target: &Container, flag: &str) -> Result<()> {
    let shared = match own {
        UsernsMode::Host => true,
        UsernsMode::Container { root, .. } => userns_root(target).as_ref() == Some(root),
        UsernsMode::Mapped { .. } | UsernsMode::Path { .. } | UsernsMode::Auto(_) => false,
    };
    if shared {
        return Ok(());
    }
    Err(Error::Invalid {
        message: format!("conflicting options: {flag} container:{} and another user namespace than that container's", target.name),
        hint: Some(format!("share that one's: --userns container:{}", target.name)),
    })
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    crate::base::fs::create_dir_all(path, mode)?;
    // mkdir(2) applied our umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("change the mode of", path)?;
    Ok(())
}

/// Writes the record as it was prepared; with what was lent to it in the same transaction.
pub(super) fn insert_prepared(tx: &Tx<'_>, prepared: &Prepared) -> Result<Container> {
    let mut record = prepared.record.clone();
    insert(tx, &mut record, &prepared.volumes, &prepared.id_pool)?;
    Ok(record)
}

/// Volumes first: the record refers to them.
pub(super) fn insert(tx: &Tx<'_>, record: &mut Container, volumes: &[Volume], id_pool: &[(u32, u32)]) -> Result<()> {
    id_pool::lend(tx, record, id_pool)?;
    for volume in volumes {
        tx.insert_volume(volume)?;
    }
    Ok(tx.insert_container(record)?)
}

/// Says who holds a name and what can be done.
pub(super) fn name_conflict(db: &Db, name: &ContainerName) -> Result<Error> {
    let holder = db.find_container(name.as_str())?.filter(|c| c.name == *name);
    let message = match holder {
        Some(holder) => format!("the container name \"{name}\" is already in use by container \"{}\"", holder.id),
        None if db.find_pod(name.as_str())?.is_some_and(|pod| pod.name.as_str() == name.as_str()) => {
            let message = format!("the container name \"{name}\" is already in use by a pod");
            return Ok(Error::Conflict { message, hint: Some("choose another name: pods and containers share one set of names".to_owned()) });
        }
        None => format!("the container name \"{name}\" is already in use"),
    };
    Ok(Error::Conflict { message, hint: Some(format!("remove that container with `rcon rm {name}`, rename it, or choose another name")) })
}

fn new_record(
    request: &CreateContainer,
    mut host: HostSpec,
    image: &record::Image,
    document: &ImageDocument,
    defaults: &ImageDefaults,
    merged: &Mounts,
    warnings: &mut Vec<String>,
) -> Result<Container> {
    let id = ContainerId::random();
    host.binds = request.mounts.iter().filter_map(|m| m.bind_text.clone()).collect();
    host.volumes_from = request.volumes_from.iter().map(|f| f.text.clone()).collect();
    let hostname = match (&request.hostname, &host.network) {
        (Some(name), _) if !name.is_empty() => name.clone(),
        // The host's name and the joined container's name are known at the start only.
        (_, NetworkMode::Host | NetworkMode::Container(_)) => String::new(),
        _ => id.short().to_owned(),
    };
    let healthcheck = health::merge(&request.health, defaults, warnings)?;
    let probed = healthcheck.as_ref().is_some_and(|check| check.command(defaults.shell.as_deref().unwrap_or_default()).is_some());
    if host.readiness == Some(Readiness::Healthy) && !probed {
        let message = "--sdnotify healthy needs a health check, and neither the image nor the command line has one".to_owned();
        return Err(Error::Invalid { message, hint: Some("give --health-cmd, or use --sdnotify conmon".to_owned()) });
    }
    let spec = ContainerSpec {
        version: SPEC_VERSION,
        image: request.image.clone(),
        image_id: image.id.clone(),
        platform: image::platform_text(document),
        process: merge::process(request, defaults, warnings)?,
        hostname,
        domainname: request.domainname.clone().unwrap_or_default(),
        labels: merge::labels(&request.labels, defaults.labels.as_ref()),
        annotations: request.annotations.clone(),
        exposed: merge::exposed(&request.expose, defaults.exposed_ports.as_ref())?,
        image_volumes: defaults.volumes.iter().flatten().map(|(path, _)| path.clone()).collect(),
        mounts: merged.mounts.clone(),
        host,
        healthcheck,
        health_action: request.health.action,
        shell: defaults.shell.clone().unwrap_or_default(),
        on_build: defaults.on_build.clone().unwrap_or_default(),
        pod: request.pod.as_ref().and_then(|pod| pod.membership.clone()),
        rootfs: request.rootfs.clone(),
    };
    let name = request.name.clone().unwrap_or_else(|| names::generate(0));
    Ok(Container::new(id, name, spec))
}
