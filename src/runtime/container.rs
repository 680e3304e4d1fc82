//! OCI containers: what the verbs of `rcon-runtime` act upon, kept in a state directory `<root>/<id>`.
//!
//! `state.json` says what the container is ([`Record`]), `config.json` is the config it was created with, `gate` is the
//! socket at which the init stage waits for `start`.
//!
//! Invariants: a record is written before anything that it names is made, so that whatever a killed `create` leaves can be
//! found and removed; the status is never stored but asked of the kernel, so that it is true at any time; a pid counts only
//! together with its start time.

mod control;
mod create;
mod exec;
mod lifecycle;
mod record;
mod status;

pub use create::{Outcome, Request};
pub use exec::Process;
pub use record::Record;
pub use status::Status;

use super::{Error, config};
use crate::base::fs::{self, Context};
use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const GATE: &str = "gate";

/// Longest id: it becomes a file name and part of cgroup names.
const ID_LIMIT: usize = 200;

/// A container's id as the runtime's callers may choose it: letters, digits and `_+-.`, neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// # Errors
    /// `Invalid`, quoting the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if text.is_empty() || text == "." || text == ".." || text.len() > ID_LIMIT || !text.bytes().all(legal) {
            let rule = format!("1 to {ID_LIMIT} letters, digits and _+-.");
            return Err(Error::Invalid(format!("invalid container id \"{text}\": expected {rule}")));
        }
        Ok(Id(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All containers of one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    pub fn new(root: PathBuf) -> Self {
        Store { root }
    }

    /// # Errors
    /// `NotFound`; or the record cannot be read.
    pub fn open(&self, id: &Id) -> Result<Container, Error> {
        let dir = self.root.join(id.as_str());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = match rustix::fs::open(&dir, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(Error::NotFound(id.as_str().to_owned())),
            other => other.on("open", &dir)?,
        };
        let record = Record::read(&dir.join(RECORD), id)?;
        Ok(Container { dir, held, record })
    }

    /// Every container, by id. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// The root cannot be read; one that does not exist has no containers.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.on("read", &self.root)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.on("read", &self.root)?.file_name();
            let Some(id) = name.to_str().and_then(|name| Id::parse(name).ok()) else { continue };
            match self.open(&id) {
                Ok(container) => found.push(container),
                Err(Error::NotFound(_)) => {}
                Err(error) => tracing::warn!("container {}: {error}", id.as_str()),
            }
        }
        found.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        Ok(found)
    }

    /// Takes the id: its directory, which nobody else has.
    fn claim(&self, id: &Id) -> Result<PathBuf, Error> {
        fs::create_dir_all(&self.root, 0o700)?;
        let dir = self.root.join(id.as_str());
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(id)),
            other => Ok(other.on("create directory", &dir).map(|()| dir)?),
        }
    }
}

/// Callers look for these words.
fn taken(id: &Id) -> Error {
    Error::Conflict(format!("container with id exists: {}", id.as_str()))
}

/// One container's state directory, held open, and its record as it was when it was opened.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    held: OwnedFd,
    record: Record,
}

impl Container {
    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The config that the container was created with.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn spec(&self) -> Result<Spec, Error> {
        let path = self.dir.join(CONFIG);
        let text = fs::read(&path)?;
        config::read(&text).map(|read| read.document).map_err(|source| Error::Json { path, source })
    }

    /// Waits for other operations on this container; the lock ends with the descriptor.
    ///
    /// # Errors
    /// `NotFound`: one of these was its deletion, whether or not the name is taken again.
    fn lock(&self) -> Result<OwnedFd, Error> {
        let gone = || Error::NotFound(self.record.id.clone());
        // A descriptor of its own: locks of the held one would be shared with whoever holds a copy.
        let lock = match rustix::fs::openat(&self.held, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Err(gone()),
            other => other.on("open", &self.dir)?,
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive)).on("lock", &self.dir)?;
        let held = rustix::fs::fstat(&lock).on("examine", &self.dir)?;
        match rustix::fs::stat(&self.dir) {
            Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => Ok(lock),
            Ok(_) | Err(rustix::io::Errno::NOENT) => Err(gone()),
            Err(error) => Err(error).on("examine", &self.dir)?,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A bundle as it was read: directory, config as text and as document.
pub struct Bundle {
    /// Absolute.
    pub dir: PathBuf,
    text: Vec<u8>,
    pub spec: Spec,
}

impl Bundle {
    /// # Errors
    /// `config.json` is missing in the bundle, or it is no OCI config of a version that is understood.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let dir = std::fs::canonicalize(dir).on("find bundle", dir)?;
        let path = dir.join(CONFIG);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Invalid(format!("JSON specification file {} not found", path.display())));
            }
            other => other.on("read", &path)?,
        };
        let config::Read { document: spec, warnings } = config::read(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        for warning in warnings {
            tracing::warn!("{}: {warning}", path.display());
        }
        let major = spec.version().split('.').next().unwrap_or_default();
        // SemVer 2.0: everything of one major version is compatible (config.md, Specification version).
        if major != "1" {
            return Err(Error::Unsupported(format!("ociVersion \"{}\" of {}", spec.version(), path.display())));
        }
        Ok(Bundle { dir, text, spec })
    }
}
