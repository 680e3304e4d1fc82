//! Merging mounts: image VOLUME < `--volumes-from` < `-v`/`--mount`/`--tmpfs`; two explicit ones on one path are
//! refused; a tmpfs suppresses the VOLUME.

use super::super::request::{CreateContainer, MountRequest, MountSource};
use super::super::volume::driver::Driver;
use super::super::{Engine, Error, Result};
use super::sources::looks_like_file;
use crate::base::{Timestamp, VolumeName, random_hex};
use crate::state::record::{Mount, MountKind, MountOptions, Volume};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Component, Path, PathBuf};

/// Docker marks anonymous volumes with this label.
pub(super) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// All mounts of a new container and the volumes that it may have to make.
#[derive(Debug, Default)]
pub(in crate::engine) struct Mounts {
    pub mounts: Vec<Mount>,
    /// Candidates: a named one may exist already.
    pub volumes: Vec<Volume>,
    /// Volume mounts of this container's own (not of `--volumes-from`): copy-up applies to them.
    pub own: Vec<(VolumeName, PathBuf)>,
}

/// An absolute container path without `.`, `..` and doubled slashes; never the root itself.
pub(super) fn clean(destination: &Path) -> Result<PathBuf> {
    let shown = destination.display();
    if !destination.is_absolute() {
        return Err(Error::invalid(format!("invalid mount path \"{shown}\": it must be absolute")));
    }
    let mut clean = PathBuf::from("/");
    for part in destination.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Error::invalid(format!("invalid mount path \"{shown}\": the destination can't be \"/\"")));
    }
    Ok(clean)
}

/// Merges what the three sources say. `inherited` are the mounts of each `--volumes-from` container with its clamp,
/// in the order given.
pub(in crate::engine) fn merge(
    request: &[MountRequest],
    inherited: &[(Vec<Mount>, bool)],
    image_volumes: &[String],
    images: &BTreeMap<String, String>,
) -> Result<Mounts> {
    let mut explicit: BTreeMap<PathBuf, &MountRequest> = BTreeMap::new();
    for mount in request {
        let destination = clean(&mount.destination)?;
        if explicit.insert(destination.clone(), mount).is_some() {
            return Err(Error::invalid(format!("duplicate mount point: {}", destination.display())));
        }
    }
    let mut merged: BTreeMap<PathBuf, Mount> = BTreeMap::new();
    for (mounts, read_only) in inherited {
        for mount in mounts.iter().filter(|m| !matches!(m.kind, MountKind::Tmpfs { .. } | MountKind::Image { .. })) {
            let mut copy = mount.clone();
            copy.read_only |= *read_only;
            copy.mode.clear();
            // Its files have their owner already.
            copy.options.chown = false;
            if let MountKind::Volume { no_copy, .. } = &mut copy.kind {
                *no_copy = true;
            }
            merged.insert(copy.destination.clone(), copy);
        }
    }
    let mut result = Mounts::default();
    for (destination, mount) in &explicit {
        merged.insert(destination.clone(), explicit_mount(destination, mount, images, &mut result)?);
    }
    for text in image_volumes {
        let destination = clean(Path::new(text))?;
        if let Entry::Vacant(place) = merged.entry(destination.clone()) {
            let kind = volume(None, false, BTreeMap::new(), BTreeMap::new(), &destination, &mut result)?;
            let options = MountOptions::default();
            place.insert(Mount { destination, kind, read_only: false, mode: String::new(), propagation: String::new(), options });
        }
    }
    result.mounts = merged.into_values().collect();
    Ok(result)
}

fn explicit_mount(destination: &Path, request: &MountRequest, images: &BTreeMap<String, String>, result: &mut Mounts) -> Result<Mount> {
    let kind = match &request.source {
        MountSource::Bind { source, recursive, .. } => {
            if !source.is_absolute() {
                return Err(Error::invalid(format!("invalid bind source \"{}\": it must be absolute", source.display())));
            }
            MountKind::Bind { source: source.clone(), recursive: *recursive }
        }
        MountSource::Volume { name, no_copy, subpath, labels, options } => {
            // A part of a volume must be there; nothing is copied into it.
            let no_copy = *no_copy || subpath.is_some();
            match volume(name.as_ref(), no_copy, labels.clone(), options.clone(), destination, result)? {
                MountKind::Volume { name, anonymous, no_copy, .. } => MountKind::Volume { name, anonymous, no_copy, subpath: subpath.clone() },
                other => other,
            }
        }
        MountSource::Image { reference, subpath } => {
            let id = images.get(reference).ok_or_else(|| Error::no_such("image", reference.as_str()))?;
            MountKind::Image { reference: reference.clone(), id: id.clone(), subpath: subpath.clone() }
        }
        MountSource::Tmpfs { options, from_flag } => MountKind::Tmpfs { options: options.clone(), from_flag: *from_flag },
    };
    Ok(Mount {
        destination: destination.to_path_buf(),
        kind,
        read_only: request.read_only,
        mode: request.mode.clone(),
        propagation: request.propagation.clone(),
        options: request.options.clone(),
    })
}

fn volume(
    name: Option<&VolumeName>,
    no_copy: bool,
    mut labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    destination: &Path,
    result: &mut Mounts,
) -> Result<MountKind> {
    Driver::parse(&options).map_err(|why| Error::invalid(format!("cannot mount a volume at {}: {why}", destination.display())))?;
    let anonymous = name.is_none();
    let name = match name {
        Some(name) => name.clone(),
        None => {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            random_hex(64).parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?
        }
    };
    if !result.volumes.iter().any(|v| v.name == name) {
        result.volumes.push(Volume { name: name.clone(), created: Timestamp::now(), driver: "local".to_owned(), labels, options, anonymous });
    }
    if !no_copy {
        result.own.push((name.clone(), destination.to_path_buf()));
    }
    Ok(MountKind::Volume { name, anonymous, no_copy, subpath: None })
}

impl Engine {
    /// The mounts of the containers named by `--volumes-from`, in order.
    pub(super) fn inherited_mounts(&self, request: &CreateContainer) -> Result<Vec<(Vec<Mount>, bool)>> {
        request
            .volumes_from
            .iter()
            .map(|from| {
                let source = self.find(&from.container)?;
                Ok((source.spec.mounts, from.read_only))
            })
            .collect()
    }
}

/// Makes missing sources of `-v` binds (root-owned directories); refuses those of `--mount`. Says so where a file or
/// socket was meant more likely.
pub(in crate::engine) fn prepare_binds(request: &[MountRequest], warnings: &mut Vec<String>) -> Result<()> {
    for mount in request {
        let MountSource::Bind { source, create, .. } = &mount.source else { continue };
        match std::fs::metadata(source) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && *create => {
                crate::base::fs::create_dir_all(source, 0o755)?;
                if looks_like_file(source) {
                    let shown = source.display();
                    warnings.push(format!("{shown} did not exist: an empty directory was made there. If a file or socket was meant, remove it and use --mount type=bind, which makes nothing"));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Invalid {
                    message: format!("invalid mount: bind source path does not exist: {}", source.display()),
                    hint: Some("make the source first, or use -v, which makes a missing directory".to_owned()),
                });
            }
            Err(e) => return Err(crate::base::fs::FsError { operation: "stat", path: source.clone(), source: e }.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(destination: &str, source: &str) -> MountRequest {
        MountRequest {
            destination: destination.into(),
            source: MountSource::Bind { source: source.into(), create: true, recursive: true },
            read_only: false,
            mode: String::new(),
            propagation: String::new(),
            bind_text: None,
            options: MountOptions::default(),
        }
    }

    fn inherited(destination: &str, read_only: bool) -> Mount {
        let kind = MountKind::Bind { source: "/from".into(), recursive: true };
        Mount { destination: destination.into(), kind, read_only, mode: "z".into(), propagation: String::new(), options: MountOptions::default() }
    }

    #[test]
    fn explicit_beats_inherited_beats_image() {
        let from = [(vec![inherited("/a", false), inherited("/b", true)], false), (vec![inherited("/c", false)], true)];
        let merged = merge(&[bind("/a/", "/mine")], &from, &["/b".into(), "/d".into()], &BTreeMap::new()).unwrap();
        let find = |d: &str| merged.mounts.iter().find(|m| m.destination == Path::new(d)).unwrap();
        assert_eq!(find("/a").kind, MountKind::Bind { source: "/mine".into(), recursive: true });
        assert!(find("/b").read_only, "rw cannot upgrade a read-only mount");
        assert!(find("/c").read_only, ":ro clamps");
        assert!(matches!(find("/d").kind, MountKind::Volume { anonymous: true, .. }));
        assert_eq!(merged.volumes.len(), 1);
        assert_eq!(merged.volumes[0].name.as_str().len(), 64);
        assert_eq!(merged.own.len(), 1);
    }

    #[test]
    fn duplicates_roots_and_relative_paths_are_refused() {
        assert_eq!(merge(&[bind("/a", "/x"), bind("/a/.", "/y")], &[], &[], &BTreeMap::new()).unwrap_err().to_string(), "duplicate mount point: /a");
        assert!(merge(&[bind("/..", "/x")], &[], &[], &BTreeMap::new()).is_err());
        assert!(merge(&[bind("a", "/x")], &[], &[], &BTreeMap::new()).is_err());
        assert!(merge(&[bind("/a", "x")], &[], &[], &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_tmpfs_suppresses_the_image_volume_and_is_not_inherited() {
        let tmpfs = MountRequest { source: MountSource::Tmpfs { options: String::new(), from_flag: true }, ..bind("/data", "/") };
        let merged = merge(&[tmpfs], &[], &["/data".into()], &BTreeMap::new()).unwrap();
        assert!(merged.volumes.is_empty());
        let again = merge(&[], &[(merged.mounts, false)], &["/data".into()], &BTreeMap::new()).unwrap();
        assert_eq!(again.volumes.len(), 1);
    }
}
