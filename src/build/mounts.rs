//! `RUN --mount`: what each mount means, its part of the step's key, and what is mounted while the step runs.

use super::cache::Layers;
use super::dockerfile::{Cache, Handed, Mount, Sharing};
use super::error::{Error, Result};
use super::from::From;
use super::key::Key;
use super::stage::StageRun;
use super::state::joined;
use super::transfer::{self, Selected, Target};
use crate::base::fs;
use crate::base::fs::Context as _;
use crate::base::held;
use crate::base::{Cancel, Timestamp};
use crate::engine::{Engine, StepMount, StepSource, cache_digits};
use crate::image::Draft;
use crate::oci::Digest;
use crate::state::build::{CacheKind, CacheRecord};
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid, open};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Copies of one private cache mount that are in use at once.
const PRIVATE_LIMIT: usize = 1000;
/// Between two looks at a cache that another step has locked: flock(2) could not be woken.
const POLL: Duration = Duration::from_millis(20);
/// Before the name of a directory that is being filled and is not the cache's yet.
const MAKING: &str = crate::engine::MAKING;

/// The mounts of one instruction.
#[derive(Default)]
pub struct Mounts {
    pub secrets: Vec<Handed>,
    pub agents: Vec<Handed>,
    entries: Vec<Entry>,
}

struct Entry {
    target: PathBuf,
    read_only: bool,
    source: Source,
}

enum Source {
    /// Of a stage or an image.
    Tree {
        layers: Layers,
        path: String,
    },
    /// Of a context: what is not ignored.
    Files {
        selected: Selected,
        digest: Digest,
    },
    Cache {
        cache: Cache,
        first: Option<Box<Source>>,
    },
    Memory(Option<u64>),
}

/// What is mounted, and what must live as long.
pub struct Held {
    pub mounts: Vec<StepMount>,
    _drafts: Vec<Draft>,
    /// Caches by their key: one that is mounted twice is locked once.
    locks: BTreeMap<String, OwnedFd>,
}

/// `directory`: what relative targets start from.
///
/// # Errors
/// A source that is not there; a target that cannot be mounted on.
pub fn resolve(stage: &StageRun<'_, '_>, list: &[Mount], directory: &str) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    let namespace = stage.solver.request.arguments.get("BUILDKIT_CACHE_MOUNT_NS").filter(|namespace| !namespace.is_empty());
    for mount in list {
        match mount.clone() {
            Mount::Secret(handed) => mounts.secrets.push(handed),
            Mount::Ssh(handed) => mounts.agents.push(handed),
            Mount::Tmpfs { target, size } => mounts.add(directory, &target, false, Source::Memory(size))?,
            Mount::Bind { target, from, source, writable } => {
                let from = source_of(stage, from.as_deref(), source.as_deref().unwrap_or("/"))?;
                mounts.add(directory, &target, !writable, from)?;
            }
            Mount::Cache(mut cache) => {
                if let Some(namespace) = namespace {
                    // As BuildKit puts the two together.
                    let id = cache.id.take().unwrap_or_else(|| joined(directory, &cache.target));
                    cache.id = Some(format!("{namespace}/{}", id.trim_start_matches('/')));
                }
                let source = |from: &String| source_of(stage, Some(from), cache.source.as_deref().unwrap_or("/")).map(Box::new);
                let first = cache.from.as_ref().map(source).transpose()?;
                let (target, read_only) = (cache.target.clone(), cache.read_only);
                mounts.add(directory, &target, read_only, Source::Cache { cache, first })?;
            }
        }
    }
    Ok(mounts)
}

fn source_of(stage: &StageRun<'_, '_>, from: Option<&str>, path: &str) -> Result<Source> {
    match From::open(stage, from)? {
        From::Tree { layers, .. } => Ok(Source::Tree { layers, path: path.trim_start_matches('/').to_owned() }),
        From::Context(context) => {
            let path = path.as_bytes().to_vec();
            let selected = context.select("RUN --mount", &[path], false, &[])?.until(stage.solver.cancel);
            let digest = stage.solver.shared.digest(&selected)?;
            Ok(Source::Files { selected, digest })
        }
    }
}

impl Mounts {
    fn add(&mut self, directory: &str, target: &str, read_only: bool, source: Source) -> Result<()> {
        let target = joined(directory, target);
        if target == "/" {
            return Err(Error::invalid("RUN --mount: the target cannot be /"));
        }
        self.entries.push(Entry { target: target.into(), read_only, source });
        Ok(())
    }

    /// Content of caches, secrets and agents is no part of a key.
    pub fn add_to(&self, key: &mut Key) {
        for Entry { target, read_only, source } in &self.entries {
            key.field("mount", target.as_os_str().as_encoded_bytes());
            key.field("access", if *read_only { "ro" } else { "rw" });
            match source {
                Source::Tree { layers, path } => {
                    key.field("tree", layers.last().map_or("", String::as_str));
                    key.field("path", path);
                }
                Source::Files { digest, .. } => key.field("files", digest.as_str()),
                Source::Cache { cache, .. } => key.field("cache", cache.id.as_deref().unwrap_or_default()),
                Source::Memory(size) => key.field("memory", format!("{size:?}")),
            }
        }
        for handed in self.secrets.iter().chain(&self.agents) {
            // The id decides the usual target.
            key.field("handed", format!("{:?}", (&handed.id, &handed.target, &handed.env)));
        }
    }

    /// Prepares everything that is to be mounted.
    ///
    /// # Errors
    /// A tree or a cache cannot be had.
    pub fn hold(&self, engine: &Engine, mounts: Vec<StepMount>) -> Result<Held> {
        let mut held = Held { mounts, _drafts: Vec::new(), locks: BTreeMap::new() };
        // Always in one order, so that two steps never wait for each other's caches.
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| if let Source::Cache { cache, .. } = &entry.source { Some(cache_id(entry, cache)) } else { None });
        for entry in entries {
            let source = held.source(engine, entry)?;
            held.mounts.push(StepMount { target: entry.target.clone(), read_only: entry.read_only, source });
        }
        Ok(held)
    }
}

impl Held {
    fn source(&mut self, engine: &Engine, entry: &Entry) -> Result<StepSource> {
        match &entry.source {
            Source::Memory(size) => Ok(StepSource::Memory { size: *size }),
            Source::Tree { layers, path } => {
                let roots = &engine.privilege.roots;
                let overlay = if entry.read_only {
                    crate::image::stack(roots, &engine.db, layers)?
                } else {
                    let draft = Draft::new(roots, &engine.db)?;
                    let overlay = draft.overlay(roots, &engine.db, layers)?;
                    self._drafts.push(draft);
                    overlay
                };
                Ok(StepSource::Tree { overlay, subpath: (!path.is_empty()).then(|| path.into()) })
            }
            Source::Files { selected, .. } => {
                let draft = Draft::new(&engine.privilege.roots, &engine.db)?;
                let upper = draft.upper();
                let is_directory = put(selected, &upper)?;
                self._drafts.push(draft);
                Ok(StepSource::Host(if is_directory { upper } else { upper.join(FILE) }))
            }
            Source::Cache { cache, first } => self.cache(engine, entry, cache, first.as_deref()),
        }
    }

    /// A directory that outlives the build, locked as the mount's sharing says.
    fn cache(&mut self, engine: &Engine, entry: &Entry, cache: &Cache, first: Option<&Source>) -> Result<StepSource> {
        let id = cache_id(entry, cache);
        for copy in 0..PRIVATE_LIMIT {
            let key = Digest::of(if copy == 0 { id.clone() } else { format!("{id}\0{copy}") }.as_bytes()).to_string();
            let path = engine.cache_mounts().join(cache_digits(&key));
            let data = path.join("data");
            if self.locks.contains_key(&key) {
                return Ok(StepSource::Host(data));
            }
            let Some(lock) = lock(&path, cache.sharing, &engine.cancel)? else { continue };
            if !data.exists() {
                self.fill(engine, &path, cache, first)?;
            }
            let now = Timestamp::now();
            let description = format!("cache mount {id}");
            let kind = CacheKind::Mount;
            let record = CacheRecord { key, chain_id: None, below: None, kind, description, created: now, used: now, uses: 0, size: 0 };
            // What it takes is measured at the end of a build: of the next one if this is killed.
            engine.db.write(false, |tx| if tx.use_cache(&record.key, now)? { tx.size_cache(&record.key, 0) } else { tx.put_cache(&record) })?;
            self.locks.insert(record.key.clone(), lock);
            return Ok(StepSource::Host(data));
        }
        Err(Error::invalid(format!("the private cache mount {id} is in use {PRIVATE_LIMIT} times")))
    }

    /// Makes the directory whole before it has its name: killed meanwhile, it is begun anew by the next step.
    fn fill(&mut self, engine: &Engine, path: &Path, cache: &Cache, first: Option<&Source>) -> Result<()> {
        let (making, _held) = begin(path)?;
        match first {
            None => {}
            Some(Source::Files { selected, .. }) => put(selected, &making).map(|_| ())?,
            Some(Source::Tree { layers, path }) => {
                let tree = super::from::mount(engine, layers)?;
                let sources = [path.clone().into_bytes()];
                let selection = transfer::Selection {
                    instruction: "RUN --mount",
                    place: "the source of a cache",
                    sources: &sources,
                    parents: false,
                    exclude: &[],
                    keep_owner: true,
                };
                put(&transfer::select(tree.as_fd(), None, &selection)?, &making)?;
            }
            Some(_) => return Err(Error::invalid("a cache mount cannot be filled from this")),
        }
        let (uid, gid) = (Uid::from_raw(cache.uid), Gid::from_raw(cache.gid));
        rustix::fs::chownat(CWD, &making, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).on("change the owner of", &making)?;
        std::fs::set_permissions(&making, std::fs::Permissions::from_mode(cache.mode)).on("change the mode of", &making)?;
        match std::fs::rename(&making, path.join("data")) {
            // Another build was first.
            Err(_) if path.join("data").exists() => Ok(fs::remove_tree(&making)?),
            other => Ok(other.on("rename", &making)?),
        }
    }
}

/// A directory for what will be the cache at `path`, held while it is filled; those that killed builds left there are removed.
fn begin(path: &Path) -> Result<(PathBuf, OwnedFd)> {
    held::sweep(path, MAKING);
    loop {
        let making = path.join(format!("{MAKING}{}", crate::base::random_hex(8)));
        fs::create_dir_all(&making, 0o700)?;
        // Another that begins may have taken it for left over.
        if let Some(held) = held::lock(&making, FlockOperation::NonBlockingLockExclusive)? {
            return Ok((making, held));
        }
    }
}

/// What tells a cache from others.
fn cache_id(entry: &Entry, cache: &Cache) -> String {
    cache.id.clone().unwrap_or_else(|| entry.target.to_string_lossy().into_owned())
}

/// Locks the directory of a cache, made if it is not there. None: a private one that is in use.
fn lock(path: &Path, sharing: Sharing, cancel: &Cancel) -> Result<Option<OwnedFd>> {
    let operation = match sharing {
        Sharing::Shared => FlockOperation::NonBlockingLockShared,
        Sharing::Locked | Sharing::Private => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        fs::create_dir_all(path, 0o700)?;
        match held::lock(path, operation)? {
            // Another step has it, or it was pruned meanwhile and is made again.
            None if sharing != Sharing::Private => {
                if cancel.pause(POLL) {
                    return Err(Error::Cancelled);
                }
            }
            locked => return Ok(locked),
        }
    }
}

/// Name of a single file that is mounted.
const FILE: &str = "file";

/// Copies what was selected into an empty directory; false: it is one file, under [`FILE`].
fn put(selected: &Selected, directory: &Path) -> Result<bool> {
    let root = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", directory)?;
    let is_directory = selected.is_directory();
    let destination: &[u8] = if is_directory { b"/" } else { b"/file" };
    transfer::apply(selected, &Target { root: root.as_fd(), destination, accounts: root.as_fd(), chown: None, chmod: None })?;
    Ok(is_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_was_filling_is_begun_anew() {
        let path = std::env::temp_dir().join(format!("rcon-mounts-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(path.join("making-dead/half")).unwrap();
        let (living, held) = begin(&path).unwrap();
        let (other, _held) = begin(&path).unwrap();
        assert!(living.exists() && other != living && !path.join("making-dead").exists());
        drop(held);
        let (_third, _its) = begin(&path).unwrap();
        assert!(!living.exists() && other.exists());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_locked_cache_is_waited_for_until_it_is_cancelled() {
        let path = std::env::temp_dir().join(format!("rcon-mounts-{}", crate::base::random_hex(8)));
        let cancel = Cancel::default();
        let _held = lock(&path, Sharing::Locked, &cancel).unwrap().unwrap();
        assert!(lock(&path, Sharing::Private, &cancel).unwrap().is_none());
        std::thread::scope(|scope| {
            scope.spawn(|| cancel.cancel());
            assert!(matches!(lock(&path, Sharing::Shared, &cancel), Err(Error::Cancelled)));
        });
        std::fs::remove_dir_all(path).unwrap();
    }
}
