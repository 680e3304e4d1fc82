//! Pods: containers that share namespaces, an address, published ports, a control group and volumes.
//!
//! Invariant: a pod's leases are owned by its own id, and a pod with members cannot be deleted: what one member does or
//! suffers never frees what the others use.

use super::record::{Container, Endpoint, HostSpec, Mount, MountKind, Phase, PublishedPort};
use super::{Db, Error, Tx, read};
use crate::base::{ContainerId, PodId, PodName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One pod: what it is ([`PodSpec`]) and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub id: PodId,
    pub name: PodName,
    pub created: Timestamp,
    pub phase: PodPhase,
    /// Last start; [`Timestamp::NEVER`] before the first.
    #[serde(default)]
    pub started: Timestamp,
    /// What it has of its networks while started.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Published ports while started.
    #[serde(default)]
    pub published: Vec<PublishedPort>,
    pub spec: PodSpec,
}

/// Durable phase of the pod itself; its members have their own. Whether a started pod still holds its namespaces is a
/// live fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodPhase {
    Created,
    Started,
    /// No member is started any more, and what the pod holds is being released.
    Stopping,
    Stopped,
    /// `pod rm` has begun; only finishing the removal is allowed.
    Removing,
}

/// Everything resolved at `pod create`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    pub version: u32,
    /// Name in the shared UTS namespace.
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub shares: Shares,
    /// Every member gets these.
    pub mounts: Vec<Mount>,
    /// Members get no generated `/etc/hosts`.
    pub no_hosts: bool,
    /// Members' control groups are below the pod's.
    pub share_parent: bool,
    pub exit_policy: ExitPolicy,
    /// As it was typed, for inspect.
    pub command: Vec<String>,
    /// What the pod has, or gives to its members, in the terms of a container: network, ports, name servers, limits, restart
    /// policy, size of `/dev/shm`, devices, security options.
    pub host: HostSpec,
}

/// Which namespaces the members share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shares {
    pub net: bool,
    pub ipc: bool,
    pub uts: bool,
    pub pid: bool,
    pub cgroup: bool,
}

/// What the end of the last running member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitPolicy {
    /// The pod stays up.
    #[default]
    Continue,
    /// The pod is stopped.
    Stop,
}

fn phase_text(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Created => "created",
        PodPhase::Started => "started",
        PodPhase::Stopping => "stopping",
        PodPhase::Stopped => "stopped",
        PodPhase::Removing => "removing",
    }
}

fn to_pod(db: &Db, (name, text): (String, String)) -> Result<Pod, Error> {
    read::document(db, || format!("pod \"{name}\""), &text)
}

fn members(db: &Db, id: &PodId) -> Result<Vec<Container>, Error> {
    let sql = "SELECT c.name, c.document FROM pod_members m JOIN containers c ON c.id=m.container WHERE m.pod=?1 ORDER BY c.created, c.id";
    let rows = read::all(db, "the members of a pod", sql, [id.as_str()], read::pair)?;
    rows.into_iter().map(|(name, text)| read::to_container(db, &name, &text)).collect()
}

fn pod(db: &Db, id: &PodId) -> Result<Option<Pod>, Error> {
    let what = || format!("pod {}", id.short());
    read::one(db, what, "SELECT name, document FROM pods WHERE id=?1", [id.as_str()], read::pair)?.map(|row| to_pod(db, row)).transpose()
}

impl Db {
    /// One pod by full id.
    ///
    /// # Errors
    /// Why the database cannot be read (so for every read below).
    pub fn pod(&self, id: &PodId) -> Result<Option<Pod>, Error> {
        pod(self, id)
    }

    /// All pods, newest first. A record that cannot be read is left out, and a warning names it.
    ///
    /// # Errors
    /// As [`Db::pod`].
    pub fn pods(&self) -> Result<Vec<Pod>, Error> {
        let rows = read::all(self, "pods", "SELECT name, document FROM pods ORDER BY created DESC, id", [], read::pair)?;
        let readable = rows.into_iter().filter_map(|row| to_pod(self, row).map_err(|error| tracing::warn!("a pod is left out: {error}")).ok());
        Ok(readable.collect())
    }

    /// Those that are started, being stopped or being removed: live facts say something about these only.
    ///
    /// # Errors
    /// As [`Db::pod`].
    pub fn active_pods(&self) -> Result<Vec<Pod>, Error> {
        let sql = "SELECT name, document FROM pods WHERE phase IN ('started', 'stopping', 'removing') ORDER BY created DESC, id";
        Ok(read::all(self, "active pods", sql, [], read::pair)?.into_iter().filter_map(|row| to_pod(self, row).ok()).collect())
    }

    /// By full id, else exact name, else unique id prefix.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] for a prefix of several ids; else as [`Db::pod`].
    pub fn find_pod(&self, text: &str) -> Result<Option<Pod>, Error> {
        let what = || format!("pod \"{text}\"");
        let exact = "SELECT name, document FROM pods WHERE id=?1 UNION ALL SELECT name, document FROM pods WHERE name=?1";
        if let Some(row) = read::one(self, what, exact, [text], read::pair)? {
            return to_pod(self, row).map(Some);
        }
        if text.is_empty() || text.len() >= 64 || !read::is_hex(text) {
            return Ok(None);
        }
        // "g" follows every hexadecimal digit.
        let sql = "SELECT id FROM pods WHERE id>=?1 AND id<?2 ORDER BY id LIMIT 50";
        let fits: Vec<String> = read::all(self, &what(), sql, [text, &format!("{text}g")], |row| row.get(0))?;
        let fits = fits.into_iter().map(|id| read::container_id(self, id)).collect::<Result<Vec<_>, _>>()?;
        match fits.as_slice() {
            [] => Ok(None),
            [id] => self.pod(id),
            _ => Err(Error::Ambiguous { prefix: text.to_owned(), fits }),
        }
    }

    /// The containers of a pod, oldest first.
    ///
    /// # Errors
    /// As [`Db::pod`]; a record that cannot be read: what is done to a pod must reach all of its members.
    pub fn pod_members(&self, id: &PodId) -> Result<Vec<Container>, Error> {
        members(self, id)
    }
}

impl Tx<'_> {
    /// Inserts a new pod with the references to the volumes that its members get.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if a pod or container has the name; at commit [`Error::VolumeMissing`].
    pub fn insert_pod(&self, pod: &Pod) -> Result<(), Error> {
        let what = || format!("insert pod \"{}\"", pod.name);
        if let Some(holder) = read::any_name_holder(self.db, pod.name.as_str())? {
            return Err(Error::NameTaken { name: pod.name.to_string(), holder });
        }
        let text = self.text(|| format!("pod \"{}\"", pod.name), pod)?;
        let sql = "INSERT INTO pods (id, name, created, phase, document) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.run(what, sql, (pod.id.as_str(), pod.name.as_str(), pod.created.nanos(), phase_text(pod.phase), text))?;
        for mount in &pod.spec.mounts {
            if let MountKind::Volume { name, .. } = &mount.kind {
                let sql = "INSERT OR IGNORE INTO container_volumes (container, volume) VALUES (?1, ?2)";
                self.run(what, sql, (pod.id.as_str(), name.as_str()))?;
            }
        }
        self.inserted.borrow_mut().push(pod.id.clone());
        Ok(())
    }

    /// Writes back everything but name and leases.
    ///
    /// # Errors
    /// [`Error::PodMissing`] if it was removed.
    pub fn update_pod(&self, pod: &Pod) -> Result<(), Error> {
        let text = self.text(|| format!("pod {}", pod.id.short()), pod)?;
        let sql = "UPDATE pods SET phase=?2, document=?3 WHERE id=?1";
        match self.run(|| format!("update pod {}", pod.id.short()), sql, (pod.id.as_str(), phase_text(pod.phase), text))? {
            0 => Err(Error::PodMissing { id: pod.id.clone() }),
            _ => Ok(()),
        }
    }

    /// One pod by full id, as this transaction sees it.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn pod(&self, id: &PodId) -> Result<Option<Pod>, Error> {
        pod(self.db, id)
    }

    /// A member may start only while its pod is up: from the commit on the pod sees that it is used.
    ///
    /// # Errors
    /// [`Error::PodDown`], [`Error::PodMissing`].
    pub fn require_pod_up(&self, id: &PodId) -> Result<(), Error> {
        match pod(self.db, id)? {
            None => Err(Error::PodMissing { id: id.clone() }),
            Some(pod) if pod.phase != PodPhase::Started => Err(Error::PodDown { id: id.clone() }),
            Some(_) => Ok(()),
        }
    }

    /// Members that are started, or wait to be started again.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn started_members(&self, id: &PodId) -> Result<Vec<Container>, Error> {
        Ok(members(self.db, id)?.into_iter().filter(|member| matches!(member.phase, Phase::Started | Phase::Restarting)).collect())
    }

    /// Makes a container a member.
    ///
    /// # Errors
    /// [`Error::PodMissing`], also of a pod that is being removed.
    pub(super) fn insert_member(&self, container: &ContainerId, id: &PodId) -> Result<(), Error> {
        match pod(self.db, id)? {
            Some(pod) if pod.phase != PodPhase::Removing => {}
            _ => return Err(Error::PodMissing { id: id.clone() }),
        }
        let sql = "INSERT INTO pod_members (container, pod) VALUES (?1, ?2)";
        self.run(|| format!("add container {} to pod {}", container.short(), id.short()), sql, (container.as_str(), id.as_str())).map(drop)
    }

    /// Removes the row with its name, references and leases; a missing one is fine.
    ///
    /// # Errors
    /// [`Error::PodInUse`] while it has members.
    pub fn delete_pod(&self, id: &PodId) -> Result<(), Error> {
        let what = || format!("delete pod {}", id.short());
        let members: Vec<ContainerId> = members(self.db, id)?.into_iter().map(|member| member.id).collect();
        if !members.is_empty() {
            return Err(Error::PodInUse { id: id.clone(), members });
        }
        self.release_leases(id)?;
        self.run(what, "DELETE FROM container_volumes WHERE container=?1", [id.as_str()])?;
        self.run(what, "DELETE FROM pods WHERE id=?1", [id.as_str()]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Privilege, random_hex};
    use crate::state::record::{ContainerSpec, Membership};

    fn new(name: &str) -> Pod {
        Pod {
            id: PodId::random(),
            name: name.parse().unwrap(),
            created: Timestamp::now(),
            phase: PodPhase::Created,
            started: Timestamp::NEVER,
            endpoints: Vec::new(),
            published: Vec::new(),
            spec: PodSpec::default(),
        }
    }

    fn member(name: &str, pod: &PodId) -> Container {
        let spec = ContainerSpec { pod: Some(Membership { pod: pod.clone(), uts: true, init: None }), ..ContainerSpec::default() };
        Container::new(ContainerId::random(), name.parse().unwrap(), spec)
    }

    #[test]
    fn a_pod_goes_only_without_members_and_shares_the_names_of_containers() {
        let path = std::env::temp_dir().join(format!("rcon-pods-{}", random_hex(8)));
        let db = Db::open(&Privilege::detect(Some(&path), Some(&path.join("run"))).roots).unwrap();
        let write = |work: &dyn Fn(&Tx<'_>) -> Result<(), Error>| db.write(false, |tx| work(tx));
        let pod = new("web");
        write(&|tx| tx.insert_pod(&pod)).unwrap();
        let one = member("one", &pod.id);
        write(&|tx| tx.insert_container(&one)).unwrap();
        for taken in ["web", "one"] {
            assert!(matches!(write(&|tx| tx.insert_pod(&new(taken))), Err(Error::NameTaken { .. })), "{taken}");
        }
        assert!(matches!(write(&|tx| tx.insert_container(&member("web", &pod.id))), Err(Error::NameTaken { .. })));
        assert!(matches!(write(&|tx| tx.insert_container(&member("two", &PodId::random()))), Err(Error::PodMissing { .. })));
        assert_eq!(db.find_pod(&pod.id.as_str()[..8]).unwrap().as_ref(), Some(&pod));
        assert_eq!(db.find_pod("web").unwrap().map(|pod| pod.id), db.find_pod(pod.id.as_str()).unwrap().map(|pod| pod.id));
        assert_eq!(db.pod_members(&pod.id).unwrap().len(), 1);
        for (phase, started) in [(Phase::Started, 1), (Phase::Restarting, 1), (Phase::Exited, 0)] {
            write(&|tx| tx.update_container(&Container { phase, ..one.clone() })).unwrap();
            assert_eq!(db.write(false, |tx| tx.started_members(&pod.id)).unwrap().len(), started, "{phase:?}");
        }
        assert!(matches!(write(&|tx| tx.delete_pod(&pod.id)), Err(Error::PodInUse { .. })));
        assert!(matches!(write(&|tx| tx.require_pod_up(&pod.id)), Err(Error::PodDown { .. })));
        write(&|tx| tx.update_pod(&Pod { phase: PodPhase::Started, ..pod.clone() })).unwrap();
        write(&|tx| tx.require_pod_up(&pod.id)).unwrap();
        assert_eq!(db.active_pods().unwrap().len(), 1);
        write(&|tx| tx.update_pod(&Pod { phase: PodPhase::Removing, ..pod.clone() })).unwrap();
        assert!(matches!(write(&|tx| tx.insert_container(&member("two", &pod.id))), Err(Error::PodMissing { .. })));
        write(&|tx| tx.delete_container(&one.id)).unwrap();
        write(&|tx| tx.delete_pod(&pod.id)).unwrap();
        assert!(db.pods().unwrap().is_empty() && db.pod_members(&pod.id).unwrap().is_empty());
        std::fs::remove_dir_all(path).unwrap();
    }
}
