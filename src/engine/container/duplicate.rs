//! `container clone`: a new container with the settings of another one.
//!
//! Named volumes and binds are shared, anonymous volumes are made anew, and the files start again from the image.

use super::super::request::{CreateContainer, PullPolicy, UpdateRequest};
use super::super::{Created, Engine, Error, Result};
use super::create::{self, Prepared};
use super::mounts::Mounts;
use super::remove::failpoint_at;
use super::resources::HostFacts;
use super::{id_pool, image, locks, update, validate};
use crate::base::{ContainerId, ContainerName, PodId, Timestamp, VolumeName, random_hex};
use crate::image::Progress;
use crate::state::record::{Container, ContainerSpec, IpcMode, Mount, MountKind, NetworkMode, Phase, PidMode, Volume};
use std::collections::BTreeMap;

/// Names tried before the user is asked for one.
const NAME_TRIES: u32 = 1000;

/// What `clone` was asked for.
#[derive(Debug, Clone, Default)]
pub struct CloneContainer {
    /// None: `NAME-clone`, `NAME-clone1`, …
    pub name: Option<ContainerName>,
    /// None: that of the source.
    pub image: Option<String>,
    pub limits: UpdateRequest,
    /// Remove the source afterwards.
    pub destroy: bool,
    /// Even if it runs.
    pub force: bool,
    /// It becomes a member of another pod.
    pub moved: Option<Moved>,
}

/// What changes in a container that is cloned with its pod.
#[derive(Debug, Clone)]
pub struct Moved {
    pub pod: PodId,
    /// The pod's.
    pub hostname: String,
    /// The pod's group, if it is the members' parent.
    pub cgroup_parent: Option<String>,
    /// The clones of members, by the ids of these.
    pub ids: BTreeMap<String, String>,
}

impl Moved {
    fn apply(&self, spec: &mut ContainerSpec) {
        if let Some(membership) = &mut spec.pod {
            membership.pod = self.pod.clone();
            if membership.uts {
                spec.hostname.clone_from(&self.hostname);
            }
        }
        let host = &mut spec.host;
        if let Some(parent) = &self.cgroup_parent {
            host.cgroup_parent.clone_from(parent);
        }
        let follow = |id: &mut String| {
            if let Some(clone) = self.ids.get(id) {
                id.clone_from(clone);
            }
        };
        host.requires.iter_mut().for_each(follow);
        for id in [
            if let NetworkMode::Container(id) = &mut host.network { Some(id) } else { None },
            if let IpcMode::Container(id) = &mut host.ipc { Some(id) } else { None },
            if let PidMode::Container(id) = &mut host.pid { Some(id) } else { None },
        ]
        .into_iter()
        .flatten()
        {
            follow(id);
        }
    }
}

impl Engine {
    /// Creates it; the source is only looked at, unless `destroy` is asked for.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if the name is taken, or the source runs and is to be destroyed without `force`; a limit that is
    /// out of range; an image that cannot be had.
    pub fn clone_container(&self, source: &str, request: &CloneContainer, progress: &(dyn Fn(Progress) + Sync)) -> Result<Created> {
        let view = self.view(source)?;
        let original = view.record;
        if original.phase == Phase::Removing {
            return Err(Error::conflict(format!("container {source} is being removed")));
        }
        if request.destroy && !request.force && view.pid != 0 {
            return Err(Error::Conflict {
                message: format!("container {source} is running: it cannot be destroyed"),
                hint: Some("stop it first or use --force".to_owned()),
            });
        }
        let mut warnings = Vec::new();
        let name = match &request.name {
            Some(name) => name.clone(),
            None => self.free_name(&original)?,
        };
        let mut record = Container::new(ContainerId::random(), name, (*original.spec).clone());
        if record.spec.hostname == original.id.short() {
            record.spec.hostname = record.id.short().to_owned();
        }
        let host = &mut record.spec.host;
        id_pool::ask_again(host);
        update::merge(&mut host.resources, &request.limits);
        validate::resources(&host.resources, &HostFacts::read())?;
        if let Some(policy) = &request.limits.restart {
            host.restart = policy.clone();
        }
        if let Some(moved) = &request.moved {
            moved.apply(&mut record.spec);
        }
        let host = &mut record.spec.host;
        // One MAC address cannot be in one network twice, and the file is the source's.
        host.mac_address = None;
        host.cidfile.clear();
        let wanted = request.image.as_ref().unwrap_or(&original.spec.image_id);
        let rootfs = original.spec.rootfs.clone().filter(|_| request.image.is_none());
        let create = CreateContainer { image: wanted.clone(), rootfs: rootfs.clone(), pull: PullPolicy::Missing, ..CreateContainer::default() };
        let (found, document) = self.image_for(&create, &mut warnings, progress)?;
        if let Some(name) = &request.image {
            record.spec.image.clone_from(name);
            record.spec.image_id.clone_from(&found.id);
            record.spec.platform = image::platform_text(&document);
        }
        record.spec.rootfs = rootfs;
        let own = own_volumes(&mut record.spec.mounts, record.created);
        let lock = locks::lock(&self.privilege.roots, &record.id)?;
        let mut prepared = Prepared::new(record, own.volumes.clone(), warnings, found);
        self.make_directories(&mut prepared)?;
        self.add_accounts(&prepared.record, &prepared.image, &mut prepared.warnings)?;
        self.take_secrets(&original.id, &prepared.record)?;
        failpoint_at("engine.clone.directories")?;
        self.make_volumes(&mut prepared, &own, &lock)?;
        failpoint_at("engine.clone.volumes")?;
        prepared.record = self.commit_new(&mut prepared, create::insert_prepared)?;
        failpoint_at("engine.clone.recorded")?;
        self.emit(prepared.events());
        let (record, warnings) = prepared.keep();
        if request.destroy {
            self.remove(original.id.as_str(), request.force, false)?;
        }
        Ok(Created { record, warnings })
    }

    fn free_name(&self, original: &Container) -> Result<ContainerName> {
        for number in 0..NAME_TRIES {
            let suffix = if number == 0 { String::new() } else { number.to_string() };
            let name: ContainerName =
                format!("{}-clone{suffix}", original.name).parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
            if self.holder(&name)?.is_none() {
                return Ok(name);
            }
        }
        Err(Error::conflict(format!("there are too many clones of {}: choose a name (--name)", original.name)))
    }
}

/// Gives each anonymous volume a new name.
fn own_volumes(mounts: &mut [Mount], now: Timestamp) -> Mounts {
    let mut made = Mounts::default();
    for mount in mounts {
        let MountKind::Volume { name, anonymous: true, no_copy, .. } = &mut mount.kind else { continue };
        *name = random_hex(64).parse::<VolumeName>().expect("invariant: 64 hexadecimal digits are a volume name");
        made.volumes.push(Volume {
            name: name.clone(),
            created: now,
            driver: "local".to_owned(),
            labels: [(super::mounts::ANONYMOUS_LABEL.to_owned(), String::new())].into(),
            options: Default::default(),
            anonymous: true,
        });
        if !*no_copy {
            made.own.push((name.clone(), mount.destination.clone()));
        }
    }
    made
}
