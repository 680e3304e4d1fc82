//! `volume export`, `volume import` and `volume clone`: a volume's files as a tar or as another volume, whether it is in
//! use or not.

use super::pack::Packer;
use super::unpack::{Owner, Scope, Unpacker};
use super::{BUFFER, CopyError};
use crate::base::fs::{Context, remove_tree};
use crate::base::{Timestamp, Undo, VolumeName, copy_tree, failpoint, random_hex};
use crate::engine::volume::driver::{self, Driver, Place};
use crate::engine::{Engine, Error, Result, events};
use crate::runtime::BindSource;
use crate::state::record::Volume;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Begins the name of a directory that becomes a volume; no volume's name begins with a dot.
const UNFINISHED: &str = ".clone-";

impl Engine {
    /// Writes the files of a volume as a tar.
    ///
    /// # Errors
    /// `NoSuch`; what cannot be mounted, read or written.
    pub fn export_volume(&self, name: &str, out: &mut dyn Write) -> Result<()> {
        let root = self.open_volume(name)?;
        let same = |uid, gid| (uid, gid);
        let pack = || {
            let mut packer = Packer::new(BufWriter::with_capacity(BUFFER, out), Some(root.as_fd()), &same)?;
            packer.add_contents(&root)?;
            packer.finish()
        };
        pack().map_err(|e: CopyError| e.about(&format!("export volume \"{name}\"")))
    }

    /// Unpacks a tar into a volume that exists, over what is there, as `cp` to the host would with the archive's owners.
    ///
    /// # Errors
    /// `NoSuch`; an archive that is damaged or leads out of the volume; what cannot be written.
    pub fn import_volume(&self, name: &str, archive: &mut dyn Read) -> Result<()> {
        let root = self.open_volume(name)?;
        let same = |uid, gid| (uid, gid);
        // As on the host, where whoever knows the way may open what is in a volume: no device files.
        let scope = Scope::Beneath { dir: root };
        let unpacked = Unpacker::new(scope, Owner::Keep(&same)).unpack(archive);
        unpacked.map(drop).map_err(|e| e.about(&format!("import into volume \"{name}\"")))
    }

    /// Makes a volume with the files of another one, which share their blocks where the file system can do that
    /// (copy_file_range(2)). What is written meanwhile may be in it or not.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if the new name is taken; `Unsupported` for a volume that is no plain directory.
    pub fn clone_volume(&self, from: &str, to: &str, labels: &[(String, String)]) -> Result<Volume> {
        let source = self.find_volume(from)?;
        let name: VolumeName = to.parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
        if !matches!(Driver::of(&source)?.place, Place::Directory { .. }) {
            return Err(Error::Failed {
                operation: format!("clone volume \"{from}\""),
                kind: crate::base::ErrorKind::Unsupported,
                source: "its files are on a file system of its own: export it and import into another volume".into(),
            });
        }
        let taken = || Error::conflict(format!("volume \"{name}\" exists already"));
        if self.db.volume(&name)?.is_some() {
            return Err(taken());
        }
        let volumes = self.privilege.roots.volumes();
        sweep(&volumes)?;
        let unfinished = volumes.join(format!("{UNFINISHED}{}", random_hex(16)));
        crate::base::fs::create_dir_all(&unfinished, 0o701)?;
        let mut undo = Undo::new();
        let made = unfinished.clone();
        undo.push("the unfinished volume", move || remove_tree(&made));
        let held = copy_tree::open_directory(&unfinished)?;
        flock(&held, FlockOperation::LockExclusive).on("lock", &unfinished)?;
        let data = unfinished.join("_data");
        crate::base::fs::create_dir_all(&data, 0o700)?;
        driver::set_up(&Driver::of(&source)?.place, &name, &data)?;
        let (old, new) = (copy_tree::open_directory(&self.volume_mountpoint(&source.name))?, copy_tree::open_directory(&data)?);
        copy_tree::copy(old.as_fd(), Path::new("/"), new.as_fd())?;
        // The record must not survive a power cut that the files do not.
        rustix::fs::syncfs(&new).on("write out", &data)?;
        hit("engine.volume.clone.copied")?;
        let labels: BTreeMap<String, String> = if labels.is_empty() { source.labels } else { labels.iter().cloned().collect() };
        let volume =
            Volume { name: name.clone(), created: Timestamp::now(), driver: source.driver, labels, options: source.options, anonymous: false };
        let place = volumes.join(name.as_str());
        self.db.write(true, |tx| {
            if !tx.insert_volume(&volume)? {
                return Err(taken());
            }
            // Without a record, what lies here is debris.
            remove_tree(&place)?;
            std::fs::rename(&unfinished, &place).on("rename", &unfinished)?;
            hit("engine.volume.clone.renamed")
        })?;
        undo.commit();
        self.emit([events::of_volume(&volume, "create")]);
        Ok(volume)
    }

    /// The root of a volume's files, mounted detached.
    fn open_volume(&self, name: &str) -> Result<OwnedFd> {
        let volume = self.find_volume(name)?;
        let Some((base, _)) = self.volume_base(&volume.name)? else {
            return Err(Error::conflict(format!("volume \"{name}\" is in memory and has files only while a container uses it")));
        };
        let tree = BindSource { target: Path::new("/").join(name), base, subpath: None }.open()?;
        Ok(openat(&tree, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open volume", Path::new(name))?)
    }
}

fn hit(name: &str) -> Result<()> {
    failpoint::hit(name).map_err(|source| Error::Failed {
        operation: format!("pass {name}"),
        kind: crate::base::ErrorKind::Internal,
        source: Box::new(source),
    })
}

/// Removes what clones that were killed have left: directories that nobody holds.
pub(in crate::engine) fn sweep(volumes: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(volumes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.on("list", volumes)?,
    };
    for entry in entries {
        let entry = entry.on("list", volumes)?;
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        let Ok(held) = copy_tree::open_directory(&path) else { continue };
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => remove_tree(&path)?,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Ok(Err(error).on("lock", &path)?),
        }
    }
    Ok(())
}
