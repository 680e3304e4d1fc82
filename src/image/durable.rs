//! When the files of a pulled layer reach the disk.
//!
//! A pull returns when its layers are whole in memory and recorded as unpacked under this boot of the kernel; a small
//! process of its own then syncs them and takes the note away. After a crash of the machine the note names another
//! boot: such a layer is compared with its tar, and used if it is sound, or forgotten, so that it is fetched anew.
//!
//! Invariant: a layer without a note was synced before that was recorded. One with a note is used only under the boot
//! that unpacked it, or after the comparison.

use super::check::{self, Contents};
use super::{Error, commit, content};
use crate::base::Roots;
use crate::base::fs::{Context, FsError};
use crate::oci::Digest;
use crate::state::unsynced::Unsynced;
use crate::state::{Db, record};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name of the process that syncs; `main` knows the stage by it.
const STAGE: &str = "rcon-sync";
/// The kernel makes it at each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// In place of a boot: the disk refused what it was told to keep. No boot has this id.
const REFUSED: &str = "refused by the disk";

/// A pull whose layers are synced behind its back.
#[derive(Debug)]
pub struct Behind {
    boot: String,
    /// The data root, opened before the first byte was written: errors of writes since then are seen here (syncfs(2)).
    disk: File,
}

impl Behind {
    /// None where the kernel does not name its boot: then the pull syncs before it records.
    ///
    /// # Errors
    /// The data root cannot be opened.
    pub fn begin(roots: &Roots) -> Result<Option<Self>, FsError> {
        match boot() {
            Ok(boot) => Ok(Some(Behind { boot, disk: content::disk(roots)? })),
            Err(error) => {
                tracing::debug!("{error}: {}", error.source);
                Ok(None)
            }
        }
    }

    /// The note for a layer that was just unpacked.
    pub fn note(&self, layer: &record::Layer) -> Unsynced {
        Unsynced { chain_id: layer.chain_id.clone(), dir: layer.dir.clone(), boot: self.boot.clone() }
    }

    /// Has the recorded layers synced by a detached process, or here if it cannot be started.
    ///
    /// # Errors
    /// As [`finish`].
    pub fn start(&self, roots: &Roots, db: &Db) -> Result<(), Error> {
        // A test's binary has no hidden stages.
        if cfg!(test) {
            return Ok(());
        }
        match self.spawn(roots) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::debug!("cannot start a process that syncs the store: {error}");
                finish(roots, db, &self.disk)
            }
        }
    }

    fn spawn(&self, roots: &Roots) -> Result<(), Box<dyn std::error::Error>> {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let text = |path: &OsStr| CString::new(path.as_bytes());
        // The process works in `/`.
        let (data, run) = (std::path::absolute(&roots.data)?, std::path::absolute(&roots.run)?);
        let (data, run) = (text(data.as_os_str())?, text(run.as_os_str())?);
        let name = CString::new(STAGE)?;
        let failpoints = std::env::var_os("RCON_FAILPOINT").map(|value| CString::new([b"RCON_FAILPOINT=", value.as_bytes()].concat()));
        let failpoints = failpoints.transpose()?;
        let environment: Vec<_> = failpoints.iter().map(CString::as_c_str).collect();
        let executable = crate::runtime::protected_exe()?;
        let arguments = [name.as_c_str(), &data, &run];
        Ok(crate::sys::spawn::detached(executable.as_fd(), &arguments, &environment, null.as_fd(), self.disk.as_fd())?)
    }
}

/// The hidden stage; None when this process was not started as one. `main` asks before anything opens a descriptor.
pub fn sync_stage() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != STAGE {
        return None;
    }
    let disk = File::from(crate::sys::peer::inherited_directory(3)?);
    let roots = Roots { data: PathBuf::from(arguments.next()?), run: PathBuf::from(arguments.next()?) };
    // Whoever removed the store meanwhile does not get another one.
    let same = |there: Metadata, held: Metadata| (there.dev(), there.ino()) == (held.dev(), held.ino());
    if !std::fs::metadata(&roots.data).and_then(|there| Ok(same(there, disk.metadata()?))).unwrap_or(false) {
        return Some(ExitCode::FAILURE);
    }
    // Nobody listens: what is not done is left to the next pull, and to the comparison after the next boot.
    let done = Db::open(&roots).map_err(Error::from).and_then(|db| {
        finish(&roots, &db, &disk)?;
        Ok(db.checkpoint_if_large()?)
    });
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Syncs the layers that were recorded so far under this boot, and takes their notes away. Several callers do it once.
///
/// # Errors
/// The disk refused something: these layers will not be used again. Database, locks.
pub fn finish(roots: &Roots, db: &Db, disk: &File) -> Result<(), Error> {
    let _turn = content::syncing(roots)?;
    let boot = boot()?;
    let waiting: Vec<Unsynced> = db.unsynced_layers()?.into_iter().filter(|layer| layer.boot == boot).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    point("image.sync.before")?;
    if let Err(error) = rustix::fs::syncfs(disk) {
        refused(db, waiting)?;
        return Err(error).on("sync the filesystem of", &roots.data).map_err(Error::from);
    }
    point("image.sync.before_record")?;
    db.write(true, |tx| waiting.iter().try_for_each(|layer| tx.synced(&layer.chain_id, &layer.dir))).map_err(Error::from)
}

fn point(name: &str) -> Result<(), Error> {
    crate::base::failpoint::hit(name).map_err(|e| Error::Start { what: "the sync of the store", source: Box::new(e) })
}

/// What the disk did not take may still look right in memory: a comparison would prove nothing.
pub(super) fn refused(db: &Db, layers: Vec<Unsynced>) -> Result<(), Error> {
    db.write(true, |tx| layers.into_iter().try_for_each(|layer| tx.put_unsynced(&Unsynced { boot: REFUSED.to_owned(), ..layer })))
        .map_err(Error::from)
}

fn boot() -> Result<String, FsError> {
    let path = Path::new(BOOT_ID);
    let text = std::fs::read_to_string(path).on("read", path)?;
    match text.trim() {
        "" => Err(Errno::NODATA).on("read", path),
        boot => Ok(boot.to_owned()),
    }
}

/// Looks at the layers `chains` (base first) that an earlier boot left without a sync: sound ones are used from now on,
/// others forgotten. False: a layer was forgotten. Costs one look at an empty table where there are none.
///
/// # Errors
/// Database, locks, or a layer cannot be removed.
pub fn settle(roots: &Roots, db: &Db, chains: &[String]) -> Result<bool, Error> {
    let unsynced = db.unsynced_layers()?;
    if unsynced.is_empty() {
        return Ok(true);
    }
    settle_under(roots, db, chains, &unsynced, &boot().unwrap_or_default())
}

pub(super) fn settle_under(roots: &Roots, db: &Db, chains: &[String], unsynced: &[Unsynced], boot: &str) -> Result<bool, Error> {
    let mut whole = true;
    // Top first; None above a layer that is lost: what comes from it cannot be compared.
    let mut lowers = Some(Vec::new());
    for chain in chains {
        if unsynced.iter().any(|layer| layer.chain_id == *chain && layer.boot != boot) {
            whole &= settle_one(roots, db, chain, lowers.as_deref(), boot)?;
        }
        lowers = match (lowers, db.layer(chain)?) {
            (Some(mut lowers), Some(row)) => {
                lowers.insert(0, commit::diff_path(roots, &row.dir));
                Some(lowers)
            }
            _ => None,
        };
    }
    Ok(whole)
}

/// Under the lock of the layer, so that it is looked at once and not while it is made anew.
fn settle_one(roots: &Roots, db: &Db, chain: &str, lowers: Option<&[PathBuf]>, boot: &str) -> Result<bool, Error> {
    let digest: Option<Digest> = chain.parse().ok();
    let _lock = digest.map(|digest| content::wait_chain(roots, &digest)).transpose()?;
    let note = db.unsynced_layers()?.into_iter().find(|layer| layer.chain_id == chain && layer.boot != boot);
    let (Some(note), Some(row)) = (note, db.layer(chain)?) else { return Ok(db.layer(chain)?.is_some()) };
    let problem = if note.boot == REFUSED { Some("the disk did not take it".to_owned()) } else { problem(roots, &row, lowers) };
    match problem {
        None => {
            db.write(true, |tx| tx.synced(chain, &row.dir))?;
            Ok(true)
        }
        Some(problem) => {
            tracing::warn!("layer {chain} was not on disk when this machine stopped, and is fetched anew: {problem}");
            forget(roots, db, &row)?;
            Ok(false)
        }
    }
}

/// As if it had never been pulled: the layer goes, and with it the names of the images that hold it, and these themselves
/// unless a container was made of them.
fn forget(roots: &Roots, db: &Db, row: &record::Layer) -> Result<(), Error> {
    db.write(true, |tx| {
        let names = db.names()?;
        for image in db.images()?.into_iter().filter(|image| image.layers.contains(&row.chain_id)) {
            names.iter().filter(|(_, id)| *id == image.id).try_for_each(|(name, _)| tx.delete_name(name))?;
            tx.dissolve_indexes(&image.id)?;
            match tx.delete_image(&image.id) {
                Err(crate::state::Error::ImageInUse { .. }) => {}
                other => other?,
            }
        }
        tx.delete_layer(&row.chain_id).map_err(Error::from)
    })?;
    Ok(crate::base::fs::remove_tree(&roots.layers().join(&row.dir))?)
}

fn problem(roots: &Roots, row: &record::Layer, lowers: Option<&[PathBuf]>) -> Option<String> {
    if let Some(blob) = &row.blob {
        let Ok(digest) = blob.parse() else { return Some("its record names no blob".to_owned()) };
        if let Some(problem) = check::blob_problem(roots, &digest, row.blob_size, false) {
            return Some(problem);
        }
    }
    match check::contents(&roots.layers().join(&row.dir), row, lowers) {
        Contents::Sound => None,
        Contents::Unknown(problem) | Contents::Wrong(problem) => Some(problem),
    }
}
