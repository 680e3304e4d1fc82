//! The sources of a container's mounts as they are at one start: which of them the monitor has to make, and whose files
//! they show. Reads the host; what comes of it is plain data for the OCI config.

use super::super::request::volume::clean;
use super::super::volume::driver::{self, Driver, Place};
use super::super::{Engine, Error, Result};
use super::create::make_directory;
use crate::base::fs::Context;
use crate::base::{ErrorKind, chown_tree};
use crate::runtime::{Base, BindSource, Overlay, Upper, User};
use crate::state::record::{Container, IdMap, Mount, MountIdmap, MountKind, ShownMap};
use crate::sys::mountinfo;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// In the container's directory: what `O` mounts and writable image mounts hold until the container ends.
pub(super) const OVERLAYS: &str = "overlays";
/// The ids that there are: -1 is nobody's.
const EVERY_ID: IdMap = IdMap { container: 0, host: 0, size: u32::MAX };
/// Trees that belong to the system: giving them to a container's user would break the host.
const SYSTEM: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv",
    "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/run", "/var/tmp",
];

/// How one mount differs from what its record alone says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    /// Where the files are, if not where the record's kind says.
    pub path: Option<PathBuf>,
    /// On disk → shown, for users and groups.
    pub maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
    /// The volume itself is read-only.
    pub read_only: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By destination; most mounts need none.
    pub shown: BTreeMap<PathBuf, Shown>,
    /// For the monitor.
    pub made: Vec<BindSource>,
}

impl Engine {
    /// Looks at every mount of a container that is about to start: makes overlays' directories, mounts volumes that are
    /// in memory, gives files to the container's user where that is asked for.
    pub(super) fn mount_sources(&self, record: &Container) -> Result<Sources> {
        let mut sources = Sources::default();
        let overlays = self.privilege.roots.container(&record.id).join(OVERLAYS);
        let mounts = &record.spec.mounts;
        if mounts.iter().any(|m| m.options.overlay || matches!(m.kind, MountKind::Image { .. })) {
            // What the last run left; it may have been killed.
            crate::base::fs::remove_tree(&overlays)?;
        }
        let mut account = None;
        for (index, mount) in mounts.iter().enumerate() {
            let mut shown = Shown::default();
            let made = self.base_of(record, mount, &overlays.join(index.to_string()), &mut shown)?;
            if mount.options.chown {
                let (uid, gid) = match account {
                    Some(known) => known,
                    None => *account.insert(self.account(record)?),
                };
                self.give(record, mount, made.as_ref(), (uid, gid))?;
            }
            if let Some(idmap) = &mount.options.idmap {
                shown.maps = self.maps(record, mount, idmap, made.as_ref())?;
            }
            if shown != Shown::default() {
                sources.shown.insert(mount.destination.clone(), shown);
            }
            sources.made.extend(made);
        }
        Ok(sources)
    }

    /// The source that must be made for a mount; None where a path says it all.
    fn base_of(&self, record: &Container, mount: &Mount, overlay: &Path, shown: &mut Shown) -> Result<Option<BindSource>> {
        let source = |base, subpath: &Option<PathBuf>| Some(BindSource { target: mount.destination.clone(), base, subpath: subpath.clone() });
        match &mount.kind {
            MountKind::Tmpfs { .. } => Ok(None),
            MountKind::Bind { source: path, .. } => {
                check_propagation(path, &mount.propagation)?;
                if !mount.options.overlay {
                    return Ok(None);
                }
                Ok(source(over(path, overlay)?, &None))
            }
            MountKind::Volume { name, subpath, .. } => {
                let volume = self.db.volume(name)?.ok_or_else(|| Error::no_such("volume", name.as_str()))?;
                self.finish_rename(name)?;
                let path = match Driver::of(&volume)?.place {
                    Place::Directory { .. } => self.volume_mountpoint(name),
                    Place::Tmpfs { options } => {
                        let path = self.mount_in_memory(&volume, &options, &record.id)?;
                        shown.path = Some(path.clone());
                        path
                    }
                    Place::FileSystem { .. } if mount.options.overlay => {
                        return Err(Error::invalid(format!("option O of {} is for directories and plain volumes", mount.destination.display())));
                    }
                    Place::FileSystem { kind, device, options } => {
                        shown.read_only = driver::is_read_only(&options);
                        return Ok(source(driver::base(&kind, &device, &options)?, subpath));
                    }
                };
                match (mount.options.overlay, subpath) {
                    (true, _) => Ok(source(over(&path, overlay)?, subpath)),
                    (false, Some(_)) => Ok(source(Base::Directory(path), subpath)),
                    (false, None) => Ok(None),
                }
            }
            MountKind::Image { id, subpath, .. } => {
                let image = self.db.image(id)?.ok_or_else(|| Error::no_such("image", id))?;
                let mut layers = crate::image::overlay(&self.privilege.roots, &self.db, &image)?;
                if !mount.read_only {
                    layers.upper = Some(fresh_upper(overlay)?);
                }
                Ok(source(Base::Overlay(layers), subpath))
            }
        }
    }

    /// The container's user in numbers, as its own passwd file says now.
    fn account(&self, record: &Container) -> Result<(u32, u32)> {
        let root = self.beneath(record)?.for_reading(&self.privilege.roots.container(&record.id)).open()?;
        Ok(crate::runtime::account(root.as_fd(), &User { name: record.spec.process.user.clone(), groups: Vec::new() })?)
    }

    /// `U`: the whole tree gets the container's user as its owner.
    fn give(&self, record: &Container, mount: &Mount, made: Option<&BindSource>, (uid, gid): (u32, u32)) -> Result<()> {
        let (path, tree) = self.mounted_top(mount, made)?;
        if let MountKind::Bind { source, .. } = &mount.kind {
            let real = std::fs::canonicalize(source).on("find", source)?;
            let home = std::env::var_os("HOME").map(PathBuf::from);
            if SYSTEM.iter().any(|system| real == Path::new(system)) || home.is_some_and(|home| clean(&home) == real) {
                return Err(Error::Invalid {
                    message: format!("option U would change the owner of everything in {}", real.display()),
                    hint: Some("mount a directory below it".to_owned()),
                });
            }
        }
        // Binds of a mapped container are not mapped: there its user has another number.
        let (uid, gid) = match (&mount.kind, &mount.options.idmap, record.spec.host.userns.maps()) {
            (MountKind::Bind { .. }, None, Some((uids, gids))) => (on_host(uids, uid)?, on_host(gids, gid)?),
            _ => (uid, gid),
        };
        Ok(chown_tree::give(&tree, uid, gid, &path)?)
    }

    /// The directory (or file) that a mount shows, opened for reading, and its name for messages.
    fn mounted_top(&self, mount: &Mount, made: Option<&BindSource>) -> Result<(PathBuf, OwnedFd)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Some(made) = made {
            let tree = made.open()?;
            return Ok((mount.destination.clone(), openat(&tree, ".", flags | OFlags::DIRECTORY, Mode::empty()).on("open", &mount.destination)?));
        }
        let path = match &mount.kind {
            MountKind::Bind { source, .. } => source.clone(),
            MountKind::Volume { name, .. } => self.volume_place(name)?,
            _ => return Err(Error::invalid(format!("{} has no owner to map or change", mount.destination.display()))),
        };
        let top = openat(CWD, &path, flags, Mode::empty()).on("open", &path)?;
        Ok((path, top))
    }

    /// The maps of an id-mapped mount; None: the container's own, or none at all.
    fn maps(&self, record: &Container, mount: &Mount, idmap: &MountIdmap, made: Option<&BindSource>) -> Result<Option<(Vec<IdMap>, Vec<IdMap>)>> {
        let whole = [EVERY_ID];
        let (uids, gids) = record.spec.host.userns.maps().unwrap_or((&whole, &whole));
        let wrong = |flag: &str, why: String| Error::invalid(format!("cannot map the {flag} of {}: {why}", mount.destination.display()));
        match idmap {
            MountIdmap::Container => Ok(None),
            MountIdmap::Owner { uid, gid } => {
                let (path, top) = self.mounted_top(mount, made)?;
                let status = rustix::fs::fstat(&top).on("examine", &path)?;
                let swap = |base: &[IdMap], owner: u32, wanted: &Option<u32>| swapped(base, owner, wanted.unwrap_or(owner));
                Ok(Some((
                    swap(uids, status.st_uid, uid).map_err(|why| wrong("users", why))?,
                    swap(gids, status.st_gid, gid).map_err(|why| wrong("groups", why))?,
                )))
            }
            MountIdmap::Maps { uids: wanted_uids, gids: wanted_gids } => Ok(Some((
                explicit(wanted_uids, uids).map_err(|why| wrong("users", why))?,
                explicit(wanted_gids, gids).map_err(|why| wrong("groups", why))?,
            ))),
        }
    }
}

fn on_host(maps: &[IdMap], id: u32) -> Result<u32> {
    shown_as(maps, id).ok_or_else(|| Error::invalid(format!("the container's user {id} is not in its user namespace")))
}

/// What `id` is outside.
fn shown_as(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|m| id.checked_sub(m.container).filter(|offset| *offset < m.size).map(|offset| m.host + offset))
}

/// The map `base`, with `owner` and `wanted` (ids on disk) exchanged.
fn swapped(base: &[IdMap], owner: u32, wanted: u32) -> std::result::Result<Vec<IdMap>, String> {
    if shown_as(base, wanted).is_none() {
        return Err(format!("{wanted} is not in the container's user namespace"));
    }
    if owner == wanted {
        return Ok(base.to_vec());
    }
    let mut lines = Vec::new();
    for map in base {
        // Up to three pieces between the two.
        let mut from = map.container;
        let end = map.container + map.size;
        let mut cuts = [owner, wanted];
        cuts.sort_unstable();
        for cut in cuts.into_iter().filter(|cut| (map.container..end).contains(cut)) {
            lines.push(IdMap { container: from, host: map.host + (from - map.container), size: cut - from });
            from = cut + 1;
        }
        lines.push(IdMap { container: from, host: map.host + (from - map.container), size: end - from });
    }
    lines.retain(|map| map.size > 0);
    for (disk, shown) in [(owner, wanted), (wanted, owner)] {
        lines.extend(shown_as(base, shown).map(|host| IdMap { container: disk, host, size: 1 }));
    }
    Ok(lines)
}

fn explicit(wanted: &[ShownMap], base: &[IdMap]) -> std::result::Result<Vec<IdMap>, String> {
    wanted
        .iter()
        .map(|map| {
            let host = if map.relative {
                let last = map.shown + (map.size - 1);
                let line = base.iter().find(|m| m.container <= map.shown && last - m.container < m.size);
                let line = line.ok_or_else(|| format!("ids {} to {last} are not together in the container's user namespace", map.shown))?;
                line.host + (map.shown - line.container)
            } else {
                map.shown
            };
            Ok(IdMap { container: map.disk, host, size: map.size })
        })
        .collect()
}

/// An overlay over a directory of the host.
fn over(source: &Path, directory: &Path) -> Result<Base> {
    let status = std::fs::metadata(source).on("examine", source)?;
    if !status.is_dir() {
        return Err(Error::invalid(format!("option O is for directories, and {} is none", source.display())));
    }
    let upper = fresh_upper(directory)?;
    // The merged directory looks like its upper one.
    std::os::unix::fs::chown(&upper.upper, Some(status.uid()), Some(status.gid())).on("change the owner of", &upper.upper)?;
    std::fs::set_permissions(&upper.upper, std::fs::Permissions::from_mode(status.mode() & 0o7777)).on("change the mode of", &upper.upper)?;
    Ok(Base::Overlay(Overlay { layers_dir: source.to_path_buf(), lowers: vec![PathBuf::from(".")], upper: Some(upper) }))
}

/// Volatile: what is dropped at the end of the container need not survive a crash.
fn fresh_upper(directory: &Path) -> Result<Upper> {
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    make_directory(&upper, 0o755)?;
    make_directory(&work, 0o700)?;
    Ok(Upper { upper, work, volatile: true })
}

/// Docker's rule: what is to be shared must come from a mount that is.
fn check_propagation(source: &Path, propagation: &str) -> Result<()> {
    let wanted = propagation.trim_start_matches('r');
    if !matches!(wanted, "shared" | "slave") {
        return Ok(());
    }
    let id = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID).on("examine", source)?.stx_mnt_id;
    let table = mountinfo::read().on("read", Path::new(mountinfo::PATH))?;
    let Some(mount) = mountinfo::parse(&table).find(|mount| mount.id == id) else { return Ok(()) };
    if mount.shared || (wanted == "slave" && mount.slave) {
        return Ok(());
    }
    let or_slave = if wanted == "slave" { " or slave" } else { "" };
    Err(Error::Failed {
        operation: format!("mount {} with propagation {propagation}", source.display()),
        kind: ErrorKind::Invalid,
        source: format!("it is mounted on {}, which is not a shared{or_slave} mount", mount.point().display()).into(),
    })
}

/// Whether a name that does not exist yet looks as if a file or socket were meant.
pub(super) fn looks_like_file(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !stem.ends_with('.')).map(|(_, extension)| extension);
    // A directory's name may well end in `.d`, a version or a domain.
    const FILES: &[&str] = &[
        "sock",
        "socket",
        "conf",
        "cnf",
        "cfg",
        "ini",
        "json",
        "yml",
        "yaml",
        "toml",
        "xml",
        "env",
        "pem",
        "crt",
        "cert",
        "key",
        "txt",
        "log",
        "sh",
        "sql",
        "pid",
        "db",
        "sqlite",
        "html",
        "js",
        "php",
        "py",
        "properties",
        "tmpl",
        "tpl",
        "csv",
        "jar",
        "gz",
        "tar",
        "zip",
    ];
    extension.is_some_and(|extension| FILES.contains(&extension.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    #[test]
    fn two_owners_change_places_and_all_others_stay() {
        let whole = [EVERY_ID];
        let maps = swapped(&whole, 1000, 0).unwrap();
        assert_eq!(maps, [map(1, 1, 999), map(1001, 1001, u32::MAX - 1001), map(1000, 0, 1), map(0, 1000, 1)]);
        assert_eq!(swapped(&whole, 5, 5).unwrap(), whole);
        let total: u64 = maps.iter().map(|m| u64::from(m.size)).sum();
        assert_eq!(total, u64::from(u32::MAX));
        // In a user namespace: shown are its own ids; an owner that it has no place for is shown all the same.
        let mapped = [map(0, 100_000, 10)];
        assert_eq!(swapped(&mapped, 70_000, 3).unwrap(), [map(0, 100_000, 3), map(4, 100_004, 6), map(70_000, 100_003, 1)]);
        assert!(swapped(&mapped, 1, 10).is_err());
    }

    #[test]
    fn explicit_maps_may_be_relative() {
        let shown = |disk, shown, size, relative| ShownMap { disk, shown, size, relative };
        let base = [map(0, 100_000, 10)];
        assert_eq!(explicit(&[shown(5, 2, 3, true), shown(50, 7, 1, false)], &base).unwrap(), [map(5, 100_002, 3), map(50, 7, 1)]);
        assert!(explicit(&[shown(5, 8, 3, true)], &base).is_err());
    }

    #[test]
    fn names_of_files_are_told_from_names_of_directories() {
        for name in ["/var/run/docker.sock", "/a/nginx.conf", "/x/.env.json", "/a/b.PEM"] {
            assert!(looks_like_file(Path::new(name)), "{name}");
        }
        for name in ["/data", "/etc/conf.d", "/srv/example.com", "/data.v1", "/a/.env", "/", "/x/sock"] {
            assert!(!looks_like_file(Path::new(name)), "{name}");
        }
    }
}
