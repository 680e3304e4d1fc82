//! Where the group of an OCI container goes (`linux.cgroupsPath`), and making it there.
//!
//! Invariant: the same `cgroupsPath` leads to the same groups as long as the runtime is called from the same ones
//! (runtime-spec config-linux.md, *Cgroups Path*); nothing outside the mounted hierarchies can be named.

use super::files::Files;
use super::hierarchy::Layout;
use super::place::Place;
use super::{Confinement, Error, Group, control, limits, systemd};
use crate::base::ErrorKind;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which files go with a delegated group where the kernel does not say (`man 7 cgroups`, *Cgroup delegation*).
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Group {
    /// The group that a `cgroupsPath` means; nothing is made. An absolute path is one below each mount point; a relative one,
    /// or the container's id where there is none, is below the group that the runtime is in (on cgroup v2 below the parent of
    /// that, since a group with processes can hand no controller down). With `systemd` it is `slice:prefix:name`.
    ///
    /// # Errors
    /// [`Error::Path`] and [`Error::Invalid`] for a path that cannot be one; [`Error::Host`].
    pub fn place_for(cgroups_path: Option<&str>, id: &str, systemd: bool) -> Result<Self, Error> {
        let path = cgroups_path.filter(|path| !path.is_empty());
        if systemd {
            return systemd::place(path, id);
        }
        match path {
            Some(path) if path.starts_with('/') => Ok(Group::at(&plain(path)?)),
            relative => {
                let file = Path::new("/proc/self/cgroup");
                let own = fs::read_to_string(file).map_err(|source| Error::Host { file: file.to_path_buf(), source })?;
                below_own(Layout::host()?, &own, relative.unwrap_or(id))
            }
        }
    }

    /// The group that a container's config asks for; nothing is made yet ([`Group::make`]).
    ///
    /// # Errors
    /// As [`Group::place_for`]; [`Error::NotEmpty`] for a group with processes: they would share the container's limits, and
    /// end with it.
    pub fn of_spec(spec: &Spec, id: &str, systemd: bool) -> Result<Self, Error> {
        let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref()).map(|path| path.to_string_lossy());
        let group = Group::place_for(path.as_deref(), id, systemd)?;
        let place = group.place()?;
        for dir in place.dirs() {
            if !control::pids(&Files { dir, group: place.path })?.is_empty() {
                return Err(Error::NotEmpty(group.path));
            }
        }
        Ok(group)
    }

    /// Makes the group with the config's limits, device rules and owner. One that is there already may be used, with what it
    /// is set to. A systemd unit is made with its first process ([`Group::join`]).
    ///
    /// Without the right to make groups, a caller that asks for no limit gets an absent group ([`Group::is_absent`]) and a
    /// warning: what such a caller may use is bounded by its own group anyway. A group that is absent already stays so.
    ///
    /// # Errors
    /// [`Error::Frozen`] for a group in which nothing could run; what could not be made or set. Nothing is left behind then.
    pub fn make(mut self, spec: &Spec) -> Result<Self, Error> {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let owner = owner(spec);
        if self.is_absent() {
            if resources.is_some_and(limits::asks) {
                tracing::warn!("linux.resources of the config do not hold: control groups are disabled");
            }
            return Ok(self);
        }
        if self.unit.is_some() {
            return self.described(spec, resources, owner);
        }
        let unprivileged = unprivileged();
        match self.place().and_then(|place| establish(&place, resources, owner, unprivileged)) {
            Ok(confinement) => {
                self.confinement = confinement;
                Ok(self)
            }
            Err(error) if unprivileged && error.kind() == ErrorKind::Forbidden && !resources.is_some_and(limits::asks) => {
                tracing::warn!(path = self.path, %error, "the container runs without a cgroup of its own");
                Ok(Group::absent())
            }
            Err(error) => Err(error),
        }
    }
}

/// Answers with the device rules that are still to be enforced.
fn establish(place: &Place<'_>, resources: Option<&LinuxResources>, owner: Option<u32>, unprivileged: bool) -> Result<Option<Confinement>, Error> {
    let before = place.dirs().into_iter().filter(|dir| dir.exists()).collect::<Vec<_>>();
    let confinement = Confinement::of(resources, !before.is_empty(), unprivileged);
    let later = place.layout.v2.is_some();
    let made = place.prepare(resources).and_then(|()| finish(place, (!later).then_some(&confinement), owner));
    if let Err(error) = made {
        let new = place.dirs().into_iter().filter(|dir| !before.contains(dir)).collect::<Vec<_>>();
        if let Err(leftover) = control::remove(&new) {
            tracing::warn!(%leftover, "cannot remove a cgroup after a failed creation");
        }
        return Err(error);
    }
    Ok(later.then_some(confinement))
}

/// What is left to do for a group that has its limits.
pub(super) fn finish(place: &Place<'_>, confinement: Option<&Confinement>, owner: Option<u32>) -> Result<(), Error> {
    // On a hybrid host a process is in two groups that can be frozen, and either would hold it for ever.
    let legacy = place.home("freezer");
    if control::is_frozen(&place.tracking()?, place.layout.v2.is_some()) || legacy.is_some_and(|(files, v2)| control::is_frozen(&files, v2)) {
        return Err(Error::Frozen(place.path.to_owned()));
    }
    confinement.map_or(Ok(()), |confinement| confinement.enforce(place))?;
    owner.map_or(Ok(()), |owner| hand_over(place, owner))
}

/// Gives a v2 group to the user who is to manage groups below it (config-linux.md, *Cgroup ownership*).
///
/// # Errors
/// [`Error::Own`]
fn hand_over(place: &Place<'_>, owner: u32) -> Result<(), Error> {
    let Some(files) = place.unified().filter(|_| place.layout.legacy.is_empty()) else { return Ok(()) };
    let list = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| DELEGATED.to_owned());
    let names = list.lines().filter(|name| !name.is_empty() && !name.contains('/'));
    for path in std::iter::once(files.dir.clone()).chain(names.map(|name| files.dir.join(name))) {
        match std::os::unix::fs::lchown(&path, Some(owner), None) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|source| Error::Own { path: path.clone(), owner, source })?,
        }
    }
    Ok(())
}

/// The host uid that is to own the group: that of the container's process, if the container gets a cgroup namespace of its own
/// and a writable mount of it. None: nobody but us.
fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let private = |kind| linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind && namespace.path().is_none());
    let writable = spec.mounts().iter().flatten().any(|mount| {
        let destination = mount.destination().components().as_path() == Path::new("/sys/fs/cgroup");
        let source = mount.source().as_deref() == Some(Path::new("cgroup"));
        destination && source && !mount.options().iter().flatten().any(|option| option == "ro")
    });
    if !writable || !private(LinuxNamespaceType::Cgroup) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    let owner = if private(LinuxNamespaceType::User) {
        let inside =
            |mapping: &&oci_spec::runtime::LinuxIdMapping| uid.checked_sub(mapping.container_id()).is_some_and(|offset| offset < mapping.size());
        let mapping = linux.uid_mappings().iter().flatten().find(inside)?;
        mapping.host_id().checked_add(uid - mapping.container_id())?
    } else {
        uid
    };
    (owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// See [`Group::sub`].
pub(super) fn below(group: &Group, place: &Place<'_>, paths: &[impl AsRef<str>]) -> Result<Group, Error> {
    let mut sub = group.clone();
    for given in paths.iter().map(AsRef::as_ref) {
        let (controllers, path) = given.split_once(':').map_or((None, given), |(controllers, path)| (Some(controllers), path));
        if path.split('/').all(|part| part.is_empty() || part == ".") {
            sub.exact = true;
            continue;
        }
        let tail = plain(path)?;
        let named = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
        let named = controllers.map(named);
        if let Some(unknown) = named.iter().flatten().find(|name| place.layout.legacy(name).is_none()) {
            return Err(Error::Controller { controller: format!("v1 {unknown}"), group: place.path.to_owned() });
        }
        let mut found = false;
        if let (None, Some(mount)) = (&named, &place.layout.v2) {
            found = mount.dir(&format!("{}{tail}", place.path)).is_dir();
            if found {
                // The common path changes, so where it does not is written down.
                for mount in place.layout.legacy.iter().map(|legacy| &legacy.mount) {
                    sub.elsewhere.entry(mount.base.clone()).or_insert_with(|| place.path_in(mount).to_owned());
                }
                sub.path = format!("{}{tail}", place.path);
                sub.exact = true;
            }
        }
        for legacy in place.layout.legacy.iter().filter(|legacy| named.as_ref().is_none_or(|named| named.iter().any(|name| legacy.has(name)))) {
            let path = format!("{}{tail}", place.path_in(&legacy.mount));
            if legacy.mount.dir(&path).is_dir() {
                found = true;
                sub.elsewhere.insert(legacy.mount.base.clone(), path);
            } else if named.is_some() {
                return Err(Error::NoSubgroup { path: given.to_owned() });
            }
        }
        if !found {
            return Err(Error::NoSubgroup { path: given.to_owned() });
        }
    }
    Ok(sub)
}

/// An absolute path in its plain form: no empty component, no `.`.
fn plain(path: &str) -> Result<String, Error> {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>();
    let plain = format!("/{}", parts.join("/"));
    super::hierarchy::validate(&plain).map_err(|_| Error::Path(path.to_owned()))?;
    Ok(plain)
}

/// `relative` below the groups that a process with this `/proc/PID/cgroup` is in.
fn below_own(layout: &Layout, membership: &str, relative: &str) -> Result<Group, Error> {
    let relative = plain(relative)?;
    let join = |own: String| if own == "/" { relative.clone() } else { format!("{own}{relative}") };
    let own = |controllers: &dyn Fn(&str) -> bool, root: &str| {
        let line = membership.lines().find_map(|line| {
            let (list, path) = line.split_once(':')?.1.split_once(':')?;
            controllers(list).then_some(path)
        });
        visible(line.unwrap_or("/"), root)
    };
    let unified = layout.v2.as_ref().map(|mount| {
        let own = own(&str::is_empty, &mount.root);
        // On hybrid hosts the v2 tree has no controllers, so processes in its inner groups are in nobody's way.
        join(if layout.legacy.is_empty() { parent(&own) } else { own })
    });
    let legacy = layout.legacy.iter().map(|legacy| {
        let shares = |list: &str| list.split(',').any(|name| legacy.has(name));
        (legacy.mount.base.clone(), join(own(&shares, &legacy.mount.root)))
    });
    let legacy: BTreeMap<PathBuf, String> = legacy.collect();
    let tracking = layout.tracking()?;
    let path = unified.or_else(|| legacy.get(&tracking.base).cloned()).ok_or(Error::NoHierarchy)?;
    let mut group = Group::at(&path);
    group.elsewhere = legacy.into_iter().filter(|(_, other)| *other != path).collect();
    Ok(group)
}

/// A group's path as seen below a mount that shows `root`; "/" for one that the mount does not show.
fn visible(path: &str, root: &str) -> String {
    let rest = if root == "/" { Some(path) } else { path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')) };
    // Above the root of our cgroup namespace groups are called "/../…".
    match rest.filter(|rest| !rest.is_empty() && !rest.starts_with("/..")) {
        Some(rest) => rest.to_owned(),
        None => "/".to_owned(),
    }
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Nobody in particular on this host: another user than root, or root of a user namespace only.
pub(super) fn unprivileged() -> bool {
    // `man 7 user_namespaces`: the initial one maps all ids onto themselves.
    let initial = || {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().eq(["0", "0", "4294967295"])
    };
    !rustix::process::geteuid().is_root() || !initial()
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::{Legacy, Mount};
    use super::*;
    use serde_json::json;

    fn mount(base: &str, root: &str) -> Mount {
        Mount { base: PathBuf::from(base), root: root.to_owned() }
    }

    fn legacy(base: &str, root: &str) -> Legacy {
        Legacy { controllers: vec![base.rsplit('/').next().unwrap().to_owned()], mount: mount(base, root) }
    }

    #[test]
    fn absolute_paths_are_below_the_mount_point_and_others_are_refused() {
        for (given, wanted) in [("/a/b", "/a/b"), ("//a/./b/", "/a/b"), ("/system.slice/x.scope", "/system.slice/x.scope")] {
            assert_eq!(Group::place_for(Some(given), "id", false).unwrap(), Group::at(wanted));
        }
        for bad in ["/", "/../x", "/a/../../b", "../x", "a/..", "/a\nb"] {
            assert!(matches!(Group::place_for(Some(bad), "id", false), Err(Error::Path(path)) if path == bad), "{bad:?}");
        }
    }

    #[test]
    fn relative_paths_are_below_the_runtime() {
        let v2 = Layout { v2: Some(mount("/c", "/")), legacy: Vec::new() };
        for (own, wanted) in [("0::/", "/x"), ("0::/a", "/x"), ("0::/user.slice/a.scope", "/user.slice/x"), ("0::/../a", "/x")] {
            let group = below_own(&v2, own, "x").unwrap();
            assert_eq!((group.path.as_str(), group.elsewhere.len()), (wanted, 0), "{own}");
        }
        let hybrid = Layout { v2: Some(mount("/c/unified", "/")), legacy: vec![legacy("/c/cpu", "/"), legacy("/c/memory", "/docker/abc")] };
        let group = below_own(&hybrid, "4:memory:/docker/abc/me\n2:cpu:/\n0::/own\n", "x/y").unwrap();
        assert_eq!(group.path, "/own/x/y");
        let elsewhere: Vec<_> = group.elsewhere.iter().map(|(base, path)| (base.to_str().unwrap(), path.as_str())).collect();
        assert_eq!(elsewhere, [("/c/cpu", "/x/y"), ("/c/memory", "/me/x/y")]);
        let place = Place::new(&hybrid, &group.path).with_exceptions(&group.elsewhere);
        assert_eq!(place.dirs(), ["/c/unified/own/x/y", "/c/cpu/x/y", "/c/memory/me/x/y"].map(PathBuf::from));
        let v1 = Layout { v2: None, legacy: vec![legacy("/c/cpu", "/"), legacy("/c/freezer", "/")] };
        let group = below_own(&v1, "4:freezer:/f\n2:cpu:/\n", "x").unwrap();
        assert_eq!((group.path.as_str(), group.elsewhere[Path::new("/c/cpu")].as_str()), ("/f/x", "/x"));
        let kept: Group = serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
        assert_eq!(kept, group);
        assert_eq!(serde_json::from_str::<Group>(r#"{"path":"/rcon/x"}"#).unwrap(), Group::at("/rcon/x"));
        assert_eq!(serde_json::to_string(&Group::at("/rcon/x")).unwrap(), r#"{"path":"/rcon/x"}"#);
    }

    #[test]
    fn the_owner_is_who_runs_the_container_with_a_writable_view() {
        let spec = |options: &[&str], namespaces: &[&str]| -> Spec {
            let namespaces: Vec<_> = namespaces.iter().map(|kind| json!({"type": kind})).collect();
            serde_json::from_value(json!({
                "ociVersion": "1.2.0",
                "process": {"user": {"uid": 5, "gid": 0}, "cwd": "/", "args": ["x"]},
                "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
                "linux": {"namespaces": namespaces, "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}]},
            }))
            .unwrap()
        };
        assert_eq!(owner(&spec(&["rw"], &["cgroup", "user"])), Some(100_005));
        assert_eq!(owner(&spec(&["rw"], &["cgroup"])), Some(5));
        assert_eq!(owner(&spec(&["ro"], &["cgroup", "user"])), None);
        assert_eq!(owner(&spec(&["rw"], &["user"])), None);
    }
}
