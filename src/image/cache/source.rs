//! Reading a cache: its manifests at once, and of its layers those that are asked for.

use super::{CacheLayer, CacheManifest, CacheOrigin, LayoutEntry, check, entry, manifests, parsed, unsupported};
use crate::base::fs::Context;
use crate::base::{Cancel, Roots};
use crate::image::commit::{self, Fresh, Missing, Planned};
use crate::image::durable::Behind;
use crate::image::reactor::Reactor;
use crate::image::registry::Registry;
use crate::image::trust::{self, Gate};
use crate::image::{Error, Progress, RegistryConfig, content, export, garbage, import, pull, push, space};
use crate::oci::{CONFIG_LIMIT, Descriptor, Digest, Index, MANIFEST_LIMIT, Platform, Reference, chain_ids};
use crate::state::{Db, Tx};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A cache that layers are taken from, by several threads at once.
pub struct CacheSource {
    pub origin: CacheOrigin,
    settings: RegistryConfig,
    cancel: Cancel,
    /// Idle ones: each knows the credentials that the registry asked for.
    sessions: Mutex<Vec<Session>>,
}

/// One thread's view of the registry.
struct Session {
    reactor: Reactor,
    registry: Registry,
}

impl CacheSource {
    /// Reading it ends with `cancel`.
    pub fn new(origin: &CacheOrigin, settings: &RegistryConfig, cancel: &Cancel) -> Self {
        CacheSource { origin: origin.clone(), settings: settings.clone(), cancel: cancel.clone(), sessions: Mutex::default() }
    }

    /// The manifests of the cache, or of an image for these platforms, with their configs.
    ///
    /// # Errors
    /// It is not there, cannot be reached, is of another kind, does not verify, or is refused by the trust policy.
    pub fn read(&self, db: &Db, platforms: &[Platform]) -> Result<Vec<CacheManifest>, Error> {
        match &self.origin {
            CacheOrigin::Registry(reference) => self.read_remote(reference, platforms),
            CacheOrigin::Layout(directory, wanted) => self.read_layout(db, directory, wanted, platforms),
        }
    }

    fn read_remote(&self, reference: &Reference, platforms: &[Platform]) -> Result<Vec<CacheManifest>, Error> {
        let gate = Gate::of(&self.settings, reference)?;
        let session = self.session(reference)?;
        let (reactor, registry, cancel) = (&session.reactor, &session.registry, &self.cancel);
        let name = self.origin.to_string();
        let raw = reactor.wait(cancel, registry.manifest(reference.digest().or(reference.tag()).unwrap_or_default()))?;
        reactor.wait(cancel, gate.verify(registry, &[&raw.digest]))?;
        let fetch = |entry: &Descriptor| {
            let raw = reactor.wait(cancel, registry.manifest(entry.digest.as_str()))?;
            sized(&name, entry, raw.bytes)
        };
        let document = parsed(&name, &raw.bytes, raw.content_type.as_deref())?;
        let mut read = Vec::new();
        for manifest in manifests(&name, document, platforms, &fetch)? {
            check(&name, &manifest)?;
            let config = reactor.wait(cancel, registry.small_blob(&manifest.config, CONFIG_LIMIT, &format!("the config of {name}")))?;
            read.push(CacheManifest { config_type: manifest.config.media_type, config, layers: manifest.layers });
        }
        self.give_back(session);
        Ok(read)
    }

    fn read_layout(&self, db: &Db, directory: &Path, wanted: &LayoutEntry, platforms: &[Platform]) -> Result<Vec<CacheManifest>, Error> {
        let name = self.origin.to_string();
        let path = directory.join("index.json");
        let file = match regular(&path) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Err(unsupported(&name, "there is no cache yet")),
            other => other?,
        };
        let mut text = Vec::new();
        file.take(MANIFEST_LIMIT as u64).read_to_end(&mut text).on("read", &path)?;
        let index: Index = serde_json::from_slice(&text).map_err(std::io::Error::from).on("understand", &path)?;
        let top = entry(&self.origin, &index, wanted)?;
        trust::admit_load(&self.settings, db, &[], &top.digest)?;
        let small = |blob: &Descriptor, limit: usize| small(directory, &name, blob, limit);
        let document = parsed(&name, &small(top, MANIFEST_LIMIT)?, Some(&top.media_type))?;
        let mut read = Vec::new();
        for manifest in manifests(&name, document, platforms, &|entry| small(entry, MANIFEST_LIMIT))? {
            check(&name, &manifest)?;
            let config = small(&manifest.config, CONFIG_LIMIT)?;
            read.push(CacheManifest { config_type: manifest.config.media_type, config, layers: manifest.layers });
        }
        Ok(read)
    }

    /// Sees to it that a layer is there on top of `below` (chain ids, base first), and writes in the transaction that records
    /// it what `also` does with its chain id. True: it had to be fetched.
    ///
    /// # Errors
    /// It cannot be had, does not verify, or cannot be recorded.
    pub fn layer<E: From<Error> + From<crate::state::Error>>(
        &self,
        (roots, db): (&Roots, &Db),
        below: &[String],
        layer: &CacheLayer,
        also: impl FnOnce(&Tx<'_>, &str) -> Result<(), E>,
    ) -> Result<bool, E> {
        content::prepare(roots).map_err(Error::from)?;
        garbage::abandoned(roots, db)?;
        let _in_use = content::in_use(roots).map_err(Error::from)?;
        let planned = self.planned(db, below, layer)?;
        let chain = planned.last().map(|layer| layer.chain.to_string()).unwrap_or_default();
        let mut missing = commit::missing(roots, db, &planned, &|_| {})?;
        let Some(last) = missing.pop() else {
            db.write(false, |tx| also(tx, &chain))?;
            return Ok(false);
        };
        if !missing.is_empty() || last.position + 1 != planned.len() {
            return Err(Error::Vanished(below.last().cloned().unwrap_or_default()).into());
        }
        let name = self.origin.to_string();
        space::require(roots, &name, std::iter::once(&layer.blob))?;
        let behind = Behind::begin(roots).map_err(Error::from)?;
        let fresh = self.fetch(roots, last).map_err(|error| space::explain(roots, &name, std::slice::from_ref(&layer.blob), error))?;
        if self.settings.keep_blobs && matches!(self.origin, CacheOrigin::Registry(_)) {
            content::keep_download(roots, &layer.blob.digest).map_err(Error::from)?;
        }
        commit::commit_layer(roots, db, &planned, fresh, behind.as_ref(), |tx| also(tx, &chain))?;
        if let CacheOrigin::Registry(reference) = &self.origin {
            let seen = push::source(reference, &layer.diff_id, &layer.blob);
            // A hint for later pushes.
            if let Err(error) = db.write(false, |tx| tx.put_blob_sources(&[seen])) {
                tracing::warn!("the source of a layer of {name} could not be noted: {error}");
            }
        }
        // It is recorded: what stays behind is swept by the next pull.
        if let Err(error) = content::drop_download(roots, &layer.blob.digest) {
            tracing::warn!("{error}: {}", error.source);
        }
        Ok(true)
    }

    /// The layers below as they are here, and this one over them.
    fn planned(&self, db: &Db, below: &[String], layer: &CacheLayer) -> Result<Vec<Planned>, Error> {
        self.settings.limits.check(&self.origin.to_string(), std::slice::from_ref(&layer.blob))?;
        let rows = db.layers(below)?;
        if let Some(gone) = below.get(rows.len()) {
            return Err(Error::Vanished(gone.clone()));
        }
        let diff_id = |text: &str| text.parse::<Digest>().map_err(|_| Error::Vanished(text.to_owned()));
        let mut diff_ids = rows.iter().map(|row| diff_id(&row.diff_id)).collect::<Result<Vec<_>, _>>()?;
        diff_ids.push(layer.diff_id.clone());
        let blobs = import::blobs_of(db, below)?.into_iter().chain([layer.blob.clone()]);
        let limits = self.settings.limits;
        let layers = chain_ids(&diff_ids).into_iter().zip(diff_ids).zip(blobs);
        Ok(layers.map(|((chain, diff_id), blob)| Planned { chain, diff_id, blob, limits }).collect())
    }

    fn fetch(&self, roots: &Roots, missing: Missing) -> Result<Fresh, Error> {
        match &self.origin {
            CacheOrigin::Registry(reference) => {
                let session = self.session(reference)?;
                let keep = self.settings.keep_blobs;
                let quiet = |_: Progress| {};
                let fresh = std::thread::scope(|scope| {
                    session.reactor.wait(&self.cancel, pull::fetch_layer(scope, roots, &session.registry, missing, keep, &quiet))
                })?;
                self.give_back(session);
                Ok(fresh)
            }
            CacheOrigin::Layout(directory, _) => {
                let file = regular(&directory.join(export::blob_name(&missing.layer.blob.digest)))?;
                let (dir, unpacked) = pull::from_file(roots, &missing.layer, self.cancel.checked(file))?;
                Ok(Fresh { missing, dir, unpacked })
            }
        }
    }

    fn session(&self, reference: &Reference) -> Result<Session, Error> {
        if let Some(idle) = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(idle);
        }
        Ok(Session { reactor: Reactor::start()?, registry: Registry::new(&self.settings, reference)? })
    }

    fn give_back(&self, session: Session) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

fn sized(name: &str, entry: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.len() as u64 == entry.size {
        return Ok(bytes);
    }
    Err(Error::Size { what: format!("a manifest of {name}"), expected: entry.size, actual: bytes.len() as u64 })
}

/// A small blob of a layout, verified.
fn small(directory: &Path, name: &str, blob: &Descriptor, limit: usize) -> Result<Vec<u8>, Error> {
    let what = || format!("{} of {name}", blob.digest);
    if blob.size > limit as u64 {
        return Err(Error::TooLarge { what: what(), limit: limit as u64 });
    }
    let path = directory.join(export::blob_name(&blob.digest));
    let mut bytes = Vec::new();
    regular(&path)?.take(blob.size + 1).read_to_end(&mut bytes).on("read", &path)?;
    if bytes.len() as u64 != blob.size {
        return Err(Error::Size { what: what(), expected: blob.size, actual: bytes.len() as u64 });
    }
    if !blob.digest.matches(&bytes) {
        return Err(Error::Digest { what: what(), expected: blob.digest.clone(), actual: Digest::of(&bytes) });
    }
    Ok(bytes)
}

/// A file, and nothing that would be waited for.
fn regular(path: &Path) -> Result<File, crate::base::fs::FsError> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).on("open", path)?;
    if !file.metadata().on("read the metadata of", path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file")).on("read", path);
    }
    Ok(file)
}
