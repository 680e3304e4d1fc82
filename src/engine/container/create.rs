//! create: image, merge, checks, directories and copy-up; then one transaction makes name, record and references.

use super::super::request::{CreateContainer, MountSource};
use super::super::{Created, Engine, Error, Result};
use super::locks::{self, OperationLock};
use super::mounts::Mounts;
use super::oci_mounts::volume_data;
use super::remove::failpoint_at;
use super::resources::HostFacts;
use super::{etc, image, merge, mounts, names, oci_config, validate};
use crate::base::fs::Context;
use crate::base::{ContainerId, ContainerName, Timestamp, Undo, copy_tree};
use crate::image::Progress;
use crate::oci::{ImageDefaults, ImageDocument};
use crate::state::record::{self, Container, ContainerSpec, HostSpec, IpcMode, NetworkMode, Phase, PidMode, Volume};
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
    pub image: record::Image,
    /// The name was generated: a conflict means another try.
    generated: bool,
    undo: Undo<'static>,
    /// Locked volume directories: until the rows exist nobody else fills them.
    _locks: Vec<OwnedFd>,
}

impl Prepared {
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
        self.commit_new(&mut prepared, |tx, prepared| insert(tx, &prepared.record, &prepared.volumes))?;
        failpoint_at("engine.create.recorded")?;
        let (record, warnings) = prepared.keep();
        Ok(Created { record, warnings })
    }

    /// Runs `work` in one transaction, with another generated name after each conflict.
    pub(super) fn commit_new<T>(&self, prepared: &mut Prepared, work: impl Fn(&Tx<'_>, &Prepared) -> Result<T>) -> Result<T> {
        // `--rm` promises nothing that a crash of the machine may not take.
        let durable = !prepared.record.spec.host.auto_remove;
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
        let facts = HostFacts::read();
        validate::request(request, &facts)?;
        crate::monitor::check_log_options(&request.host.log)?;
        if let Some(name) = &request.name
            && self.holder(name)?.is_some()
        {
            return Err(name_conflict(&self.db, name)?);
        }
        let mut warnings = Vec::new();
        let inherited = self.inherited_mounts(request)?;
        let (image, document) = self.image_for(request, &mut warnings, progress)?;
        failpoint_at("engine.create.image")?;
        let defaults = document.config.clone().unwrap_or_default();
        let image_volumes: Vec<String> = defaults.volumes.iter().flatten().map(|(path, _)| path.clone()).collect();
        let merged = mounts::merge(&request.mounts, &inherited, &image_volumes)?;
        let mut host = request.host.clone();
        self.resolve_joined(&mut host)?;
        if !facts.swap_accounting && (host.resources.memory_swap.is_some_and(|s| s > 0)) {
            warnings.push("your kernel does not account swap: the memory limit applies without a swap limit".to_owned());
            host.resources.memory_swap = None;
        }
        let record = new_record(request, host, &image, &document, &defaults, &merged, &mut warnings)?;
        oci_config::check(&record)?;
        super::devices::look_up(&record.spec.host)?;
        etc::check(&record)?;
        mounts::prepare_binds(&request.mounts)?;
        let mut prepared = Prepared {
            record,
            volumes: merged.volumes.clone(),
            warnings,
            image,
            generated: request.name.is_none(),
            undo: Undo::new(),
            _locks: Vec::new(),
        };
        let lock = locks::lock(&self.privilege.roots, &prepared.record.id)?;
        self.make_directories(&mut prepared)?;
        failpoint_at("engine.create.directories")?;
        self.make_volumes(&mut prepared, &merged, &lock)?;
        failpoint_at("engine.create.volumes")?;
        Ok((lock, prepared))
    }

    /// `container:X` modes must name an existing container; they are recorded by id, so that a rename breaks nothing.
    fn resolve_joined(&self, host: &mut HostSpec) -> Result<()> {
        if let NetworkMode::Container(name) = &mut host.network {
            *name = self.find(name)?.id.to_string();
        }
        if let PidMode::Container(name) = &mut host.pid {
            *name = self.find(name)?.id.to_string();
        }
        if let IpcMode::Container(name) = &mut host.ipc {
            let target = self.find(name)?;
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

    fn make_directories(&self, prepared: &mut Prepared) -> Result<()> {
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
    fn make_volumes(&self, prepared: &mut Prepared, merged: &Mounts, operation: &OperationLock) -> Result<()> {
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
            let is_new = self.db.volume(&volume.name)?.is_none();
            if is_new {
                // Without a row, whatever lies here is debris of a create that died.
                crate::base::fs::remove_tree(&data)?;
                prepared.undo.push("volume directory", {
                    let directory = directory.clone();
                    move || crate::base::fs::remove_tree(&directory)
                });
            }
            if !data.exists() {
                make_directory(&data, 0o755)?;
            }
            let Some((_, destination)) = merged.own.iter().find(|(name, _)| *name == volume.name) else { continue };
            let target = copy_tree::open_directory(&data)?;
            if !is_new && !copy_tree::is_empty(&target, &data)? {
                continue;
            }
            let root = match &image_root {
                Some(root) => root,
                None => {
                    let overlay = crate::image::overlay(&self.privilege.roots, &self.db, &prepared.image)?;
                    let mounted = overlay.mount_detached().map_err(|e| self.blame_image(&prepared.image.id, e.into()));
                    image_root.insert(mounted?)
                }
            };
            copy_tree::copy(root.as_fd(), destination, target.as_fd())?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    crate::base::fs::create_dir_all(path, mode)?;
    // mkdir(2) applied our umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("change the mode of", path)?;
    Ok(())
}

/// Volumes first: the record refers to them.
pub(super) fn insert(tx: &Tx<'_>, record: &Container, volumes: &[Volume]) -> Result<()> {
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
    for mount in &request.mounts {
        if let MountSource::Volume { subpath: Some(path), .. } = &mount.source {
            return Err(Error::invalid(format!("volume-subpath {} is not supported", path.display())));
        }
    }
    let hostname = match (&request.hostname, &host.network) {
        (Some(name), _) => name.clone(),
        // The host's name and the joined container's name are known at the start only.
        (None, NetworkMode::Host | NetworkMode::Container(_)) => String::new(),
        (None, _) => id.short().to_owned(),
    };
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
        healthcheck: defaults.healthcheck.clone(),
        on_build: defaults.on_build.clone().unwrap_or_default(),
    };
    Ok(Container {
        name: request.name.clone().unwrap_or_else(|| names::generate(0)),
        id,
        created: Timestamp::now(),
        phase: Phase::Created,
        started: Timestamp::NEVER,
        finished: Timestamp::NEVER,
        exit_code: 0,
        oom_killed: false,
        error: String::new(),
        restart_count: 0,
        stopped_by_user: false,
        address: None,
        published: Vec::new(),
        spec,
    })
}
