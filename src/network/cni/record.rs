//! What is attached, on disk: `attachments/CONTAINER/INTERFACE.json`, with the configuration that was used.
//!
//! Invariants: a record is durable before the first plugin is asked to ADD, and goes only after the last one has done DEL,
//! so that whatever dies in between, somebody can still release what was given; an attachment is changed only under the
//! lock of its container, which the plugin that is at work holds too.

use super::config::{NetworkConfig, PluginConfig};
use super::error::Error;
use crate::base::fs::{self, Context};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the stored form.
const FORMAT: u32 = 1;
/// How often a lock that somebody holds is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// One attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub network: String,
    pub container: String,
    pub interface: String,
    /// The version it was attached with.
    pub version: String,
    /// The file that the configuration was read from.
    pub path: PathBuf,
    pub disable_check: bool,
    pub plugins: Vec<PluginConfig>,
    /// Where their programs were.
    pub directories: Vec<PathBuf>,
    pub netns: PathBuf,
    pub arguments: String,
    pub capabilities: Map<String, Value>,
    /// What the plugins that have ended gave so far.
    pub result: Option<Map<String, Value>>,
    /// Whether all of them have.
    pub complete: bool,
}

impl Record {
    pub fn new(network: &NetworkConfig, version: super::Version, container: &str, interface: &str) -> Self {
        Record {
            format: FORMAT,
            network: network.name.clone(),
            container: container.to_owned(),
            interface: interface.to_owned(),
            version: version.as_str().to_owned(),
            path: network.path.clone(),
            disable_check: network.disable_check,
            plugins: network.plugins.clone(),
            directories: Vec::new(),
            netns: PathBuf::new(),
            arguments: String::new(),
            capabilities: Map::new(),
            result: None,
            complete: false,
        }
    }
}

/// The directory of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store(pub PathBuf);

/// A locked file; the lock goes with the last copy of its descriptor.
pub(super) struct Lock {
    pub file: File,
    path: PathBuf,
}

impl Store {
    fn attachments(&self) -> PathBuf {
        self.0.join("attachments")
    }

    fn of(&self, container: &str) -> PathBuf {
        self.attachments().join(container)
    }

    fn file(&self, container: &str, interface: &str) -> PathBuf {
        self.of(container).join(format!("{interface}.json"))
    }

    /// Locks a network: shared for ADD, DEL and CHECK, alone for GC, which must not meet any of them.
    pub fn lock_network(&self, network: &str, alone: bool, patience: Duration) -> Result<Lock, Error> {
        let directory = self.0.join("networks");
        fs::create_dir_all(&directory, 0o700)?;
        let how = if alone { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        lock(directory.join(format!("{network}.lock")), how, patience, || format!("CNI network \"{network}\""))
    }

    /// Locks the attachments of a container.
    pub fn lock_container(&self, container: &str, patience: Duration) -> Result<Lock, Error> {
        let directory = self.of(container);
        let path = directory.join("lock");
        loop {
            fs::create_dir_all(&directory, 0o700)?;
            match lock(path.clone(), FlockOperation::NonBlockingLockExclusive, patience, || format!("the networks of {container}")) {
                // The one before us removed the directory with its last attachment.
                Err(Error::File(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
    }

    /// Lets go of a container, and of its directory if nothing is attached any more.
    pub fn release(&self, container: &str, lock: Lock) -> Result<(), Error> {
        if self.interfaces(container)?.is_empty() {
            // Unlinked while held: whoever waits for it sees that the name is gone.
            fs::remove_file(&lock.path)?;
            match std::fs::remove_dir(self.of(container)) {
                Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {}
                other => other.on("remove", &self.of(container))?,
            }
        }
        Ok(())
    }

    /// Whether anything of a container is recorded; one look at a directory.
    pub fn has(&self, container: &str) -> bool {
        self.of(container).is_dir()
    }

    pub fn read(&self, container: &str, interface: &str) -> Result<Option<Record>, Error> {
        let path = self.file(container, interface);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.on("read", &path)?,
        };
        let record: Record = serde_json::from_slice(&text).map_err(|why| Error::Record { path: path.clone(), why: why.to_string() })?;
        if record.format != FORMAT {
            return Err(Error::Record { path, why: format!("it has format {}, and this program knows {FORMAT}", record.format) });
        }
        Ok(Some(record))
    }

    /// Writes a record so that it survives the loss of power.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.file(&record.container, &record.interface);
        let text = serde_json::to_vec(record).expect("invariant: a record can be written as JSON");
        let temporary = path.with_extension("json.tmp");
        fs::write(&temporary, &text)?;
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all()).on("sync", path);
        sync(&temporary)?;
        std::fs::rename(&temporary, &path).on("replace", &path)?;
        let directory = self.of(&record.container);
        sync(&directory)?;
        Ok(sync(&self.attachments())?)
    }

    pub fn remove(&self, record: &Record) -> Result<(), Error> {
        Ok(fs::remove_file(&self.file(&record.container, &record.interface))?)
    }

    /// The interfaces of a container that have a record, in the order of their names.
    pub fn interfaces(&self, container: &str) -> Result<Vec<String>, Error> {
        let names = names(&self.of(container))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
    }

    /// The containers that have a directory.
    pub fn containers(&self) -> Result<Vec<String>, Error> {
        names(&self.attachments())
    }
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.on("list", directory)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn lock(path: PathBuf, how: FlockOperation, patience: Duration, what: impl Fn() -> String) -> Result<Lock, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).on("open", &path)?;
        loop {
            match flock(&file, how) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(Error::Busy(what())),
                Err(errno) => return Err(Err::<(), _>(errno).on("lock", &path).expect_err("invariant: made from an error").into()),
            }
        }
        // Its holder before us may have removed it: then it guards nothing any more.
        let ours = file.metadata().on("stat", &path)?;
        if std::fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Lock { file, path });
        }
    }
}
