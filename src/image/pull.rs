//! Pulling: resolve a reference to one manifest, fetch and unpack the missing layers several at once, record.

use super::commit::{self, Candidate, Fresh, Missing, Planned};
use super::content::{self, Ingest, LayerDir};
use super::durable::Behind;
use super::reactor::Reactor;
use super::registry::{Fetched, RawManifest, Registry};
use super::stream::{self, Expected};
use super::trust::Gate;
use super::{Error, Progress, Pulled, RegistryConfig, bytes, garbage, space};
use crate::base::{Cancel, Roots};
use crate::oci::{CONFIG_LIMIT, Digest, Document, Manifest, Platform, Reference, media};
use crate::state::{Db, record};
use ::bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread::Scope;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

/// Network pieces waiting for a slow unpacker.
const QUEUE: usize = 32;
/// Nested indexes that are followed.
const INDEX_DEPTH: usize = 3;
/// Between two looks at a download that another holds. Its file lock cannot be awaited without a thread that
/// nothing could wake when this pull is given up.
const POLL: Duration = Duration::from_millis(50);

/// Where the bytes of a layer come from.
enum Source {
    /// A layer directory that gives the same tar.
    Twin(PathBuf),
    Store(Box<dyn Read + Send>),
    Network(Ingest, u64),
}

/// One manifest, chosen and verified.
struct Resolved {
    /// What the tag or digest of the reference named: an index or the manifest itself.
    top: Digest,
    raw: RawManifest,
    manifest: Manifest,
}

pub fn pull(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    reference: &Reference,
    platform: &Platform,
    cancel: &Cancel,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pulled, Error> {
    content::prepare(roots)?;
    garbage::abandoned(roots, db)?;
    let in_use = content::in_use(roots)?;
    let reactor = Reactor::start()?;
    let gate = Gate::of(settings, reference)?;
    let registry = Registry::new(settings, reference)?;
    let shown = reference.digest().filter(|_| reference.tag().is_none()).or(reference.tag()).unwrap_or_default();
    progress(Progress::Note(format!("{shown}: Pulling from {}", reference.repository())));
    // Where a signature is wanted and none was verified, what is here is not taken for what the registry means: the
    // whole chain of digests is followed again.
    if let Some(current) = reactor.wait(cancel, up_to_date(roots, db, &registry, reference, platform))?
        && gate.known(db, &current.image.id)?
    {
        return Ok(current);
    }
    let resolved = reactor.wait(cancel, resolve(&registry, reference, platform))?;
    let verified = reactor.wait(cancel, gate.verify(&registry, &[&resolved.top, &resolved.raw.digest]))?;
    if let Some(verified) = &verified {
        progress(Progress::Note(format!("{shown}: {verified}")));
    }
    let config = reactor.wait(cancel, read_config(&registry, reference, &resolved.manifest))?;
    let behind = if settings.wait_for_disk { None } else { Behind::begin(roots)? };
    let mut replans = 0;
    let pulled = loop {
        match fetch(roots, db, (&reactor, cancel), settings, &registry, reference, platform, &resolved, &config, behind.as_ref(), progress) {
            Err(Error::Vanished(_)) if replans < commit::REPLANS => replans += 1,
            other => break other,
        }
    };
    let pulled = pulled.map_err(|error| {
        let full = space::explain(roots, &reference.familiar(), &resolved.manifest.layers, error);
        if matches!(full, Error::DiskFull { .. }) {
            forget_downloads(roots, &resolved.manifest);
        }
        full
    });
    drop(in_use);
    if let Ok(pulled) = &pulled {
        gate.remember(db, &pulled.image.id, verified.as_ref())?;
    }
    pulled
}

/// The image a name already points to, if the registry still means the same and all of it is here.
async fn up_to_date(roots: &Roots, db: &Db, registry: &Registry, reference: &Reference, platform: &Platform) -> Result<Option<Pulled>, Error> {
    let known = match reference.digest() {
        Some(digest) => Some(digest.to_owned()),
        None if db.image_named(&reference.to_string())?.is_none() => None,
        None => registry.head().await.map(String::from),
    };
    let Some(digest) = known else { return Ok(None) };
    let by_digest = reference.with_digest(&digest).to_string();
    let Some(id) = db.image_named(&by_digest)? else { return Ok(None) };
    // `name:tag@digest` records no tag, so there the digest alone decides.
    if reference.digest().is_none() && db.image_named(&reference.to_string())?.as_deref() != Some(id.as_str()) {
        return Ok(None);
    }
    let Some(image) = db.image(&id)? else { return Ok(None) };
    if !suits(&image, platform) || !commit::all_there(roots, db, &image)? {
        return Ok(None);
    }
    Ok(Some(Pulled { image, digest, changed: false }))
}

fn suits(image: &record::Image, platform: &Platform) -> bool {
    platform_of(image).is_some_and(|own| platform.rank(&own).is_some())
}

/// What a recorded image is for; None for a config that does not parse.
pub fn platform_of(image: &record::Image) -> Option<Platform> {
    let document: crate::oci::ImageDocument = serde_json::from_slice(&image.config).ok()?;
    Some(Platform::normalised(&document.os, &document.architecture, document.variant.as_deref()))
}

async fn resolve(registry: &Registry, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
    let name = reference.familiar();
    let wanted = reference.digest().or(reference.tag()).unwrap_or_default();
    let mut raw = registry.manifest(wanted).await?;
    let top = raw.digest.clone();
    for _ in 0..=INDEX_DEPTH {
        let document = Document::parse(&raw.bytes, raw.content_type.as_deref());
        match document.map_err(|source| Error::Manifest { reference: name.clone(), source })? {
            Document::Manifest(manifest) => return Ok(Resolved { top, raw, manifest }),
            Document::Index(index) => {
                let chosen = index.select(platform).ok_or_else(|| Error::Platform {
                    reference: name.clone(),
                    wanted: platform.to_string(),
                    offered: index.platforms().join(", "),
                })?;
                raw = registry.manifest(chosen.digest.as_str()).await?;
                if raw.bytes.len() as u64 != chosen.size {
                    let what = format!("the manifest of {name}");
                    return Err(Error::Size { what, expected: chosen.size, actual: raw.bytes.len() as u64 });
                }
            }
        }
    }
    Err(Error::Unsupported { reference: name, why: format!("its indexes are nested deeper than {INDEX_DEPTH}") })
}

/// Reads the config after a look at the media types: an artifact is refused before anything large is fetched.
async fn read_config(registry: &Registry, reference: &Reference, manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let refuse = |why: String| Error::Unsupported { reference: reference.familiar(), why };
    if !media::is_image_config(&manifest.config.media_type) {
        let kind = manifest.config.media_type.escape_default();
        return Err(refuse(format!("its config has media type {kind}: this is an artifact, not a container image")));
    }
    for layer in &manifest.layers {
        media::layer(&layer.media_type).map_err(refuse)?;
    }
    registry.small_blob(&manifest.config, CONFIG_LIMIT, &format!("the config of {}", reference.familiar())).await
}

#[expect(clippy::too_many_arguments, reason = "one call; each is a thing that the pull hands on")]
fn fetch(
    roots: &Roots,
    db: &Db,
    (reactor, cancel): (&Reactor, &Cancel),
    settings: &RegistryConfig,
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
    resolved: &Resolved,
    config: &[u8],
    behind: Option<&Behind>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pulled, Error> {
    let keep_blobs = settings.keep_blobs;
    let (document, layers) = commit::plan(settings.limits, &reference.familiar(), config, resolved.manifest.layers.clone())?;
    let offered = Platform::normalised(&document.os, &document.architecture, document.variant.as_deref());
    if !document.os.is_empty() && platform.rank(&offered).is_none() {
        progress(Progress::Note(format!("{}: the image is for {offered}, not for {platform}", reference.familiar())));
    }
    let missing = commit::missing(roots, db, &layers, progress)?;
    let absent = missing.iter().filter(|missing| missing.twin.is_none() || keep_blobs).map(|missing| &missing.layer.blob);
    space::require(roots, &reference.familiar(), absent)?;
    for missing in &missing {
        let blob = &missing.layer.blob;
        progress(Progress::Layer { id: blob.digest.short().to_owned(), total: blob.size });
    }
    let fresh: Vec<Fresh> = std::thread::scope(|scope| {
        reactor.wait(cancel, async {
            let jobs = missing.into_iter().map(|missing| fetch_layer(scope, roots, registry, missing, keep_blobs, progress));
            futures_util::stream::iter(jobs).buffer_unordered(settings.downloads).try_collect().await
        })
    })?;
    let downloads: Vec<Digest> = fresh.iter().map(|fresh| fresh.missing.layer.blob.digest.clone()).collect();
    for fresh in fresh.iter().filter(|fresh| keep_blobs || !fresh.dir.can_reassemble()) {
        content::keep_download(roots, &fresh.missing.layer.blob.digest)?;
    }
    let by_digest = reference.with_digest(resolved.top.as_str()).to_string();
    let mut names = vec![by_digest];
    if reference.digest().is_none() {
        names.extend(reference.tagged().map(|tagged| tagged.to_string()));
    }
    let id = resolved.manifest.config.digest.clone();
    let before = db.image_named(names.last().map_or("", String::as_str))?;
    let changed = !fresh.is_empty() || before.as_deref() != Some(id.as_str());
    let kind = resolved.manifest.media_type.clone().or_else(|| resolved.raw.content_type.clone());
    let kind = kind.filter(|kind| media::is_manifest(kind)).unwrap_or_else(|| media::OCI_MANIFEST.to_owned());
    let manifest = Some((resolved.raw.digest.clone(), resolved.raw.bytes.clone(), kind));
    let candidate = Candidate { id, config: config.to_vec(), document, manifest, layers, names };
    let seen: Vec<_> = candidate.layers.iter().map(|layer| super::push::source(reference, &layer.diff_id, &layer.blob)).collect();
    let behind = behind.filter(|_| !fresh.is_empty());
    let image = commit::commit(roots, db, &candidate, fresh, behind)?;
    // A hint for later pushes: the pull has succeeded whether or not it is noted.
    if let Err(error) = db.write(false, |tx| tx.put_blob_sources(&seen)) {
        tracing::warn!("the sources of {} could not be noted: {error}", reference.familiar());
    }
    for digest in &downloads {
        // The image is recorded: what stays behind is swept by the next pull.
        if let Err(error) = content::drop_download(roots, digest) {
            tracing::warn!("{error}: {}", error.source);
        }
    }
    // After that: what is removed need not be written.
    behind.map_or(Ok(()), |behind| behind.start(roots, db))?;
    Ok(Pulled { image, digest: resolved.top.to_string(), changed })
}

/// Fetches and unpacks one layer. Bytes that an earlier pull left are used, and dropped if they prove wrong.
///
/// # Errors
/// The registry does not give it, or it is not what its digests say.
pub async fn fetch_layer<'scope>(
    scope: &'scope Scope<'scope, '_>,
    roots: &'scope Roots,
    registry: &Registry,
    missing: Missing,
    keep_blobs: bool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Fresh, Error> {
    let blob = missing.layer.blob.clone();
    let id = blob.digest.short().to_owned();
    if let Some(twin) = missing.twin.as_ref().filter(|_| !keep_blobs) {
        let source = Source::Twin(roots.layers().join(twin));
        match attempt(scope, roots, registry, &missing.layer, source, progress).await {
            Ok((dir, unpacked)) => {
                progress(Progress::Done { id });
                return Ok(Fresh { missing, dir, unpacked });
            }
            // It was removed or damaged meanwhile; the registry has the bytes too.
            Err(error) => tracing::debug!("layer {id} cannot be made from {twin}: {error}"),
        }
    }
    let source = stored(roots, &missing.layer, progress).await?;
    let mirrored = registry.asks_mirrors();
    let leftover = matches!(source, Source::Store(_) | Source::Network(_, 1..));
    let (dir, unpacked) = match attempt(scope, roots, registry, &missing.layer, source, progress).await {
        Err(Error::Digest { .. } | Error::Size { .. } | Error::Decompress { .. } | Error::Layer { .. }) if leftover || mirrored => {
            // What an earlier pull left may be a mirror's too.
            registry.distrust_mirrors();
            let why = if leftover { "the bytes of an earlier pull are damaged" } else { "the bytes of a mirror are damaged" };
            progress(Progress::Retrying { id: id.clone(), seconds: 0, why: why.to_owned() });
            let source = Source::Network(Ingest::new(roots)?, 0);
            attempt(scope, roots, registry, &missing.layer, source, progress).await?
        }
        other => other?,
    };
    progress(Progress::Done { id });
    Ok(Fresh { missing, dir, unpacked })
}

/// The blob, or the part of it that is here. While another pull (or another layer of this one) fetches the same
/// blob it is waited for. No deadlock: whoever holds a download is at work on it and waits for no other.
async fn stored(roots: &Roots, layer: &Planned, progress: &(dyn Fn(Progress) + Sync)) -> Result<Source, Error> {
    let mut told = false;
    loop {
        if let Some(file) = content::open_blob(roots, &layer.blob.digest)? {
            return Ok(Source::Store(Box::new(file)));
        }
        if let Some(mut ingest) = Ingest::resume(roots, &layer.blob.digest)? {
            let have = ingest.len()?;
            if have <= layer.blob.size {
                return Ok(Source::Network(ingest, have));
            }
            ingest.spoil();
            return Ok(Source::Network(Ingest::new(roots)?, 0));
        }
        if !told {
            told = true;
            progress(Progress::Note(format!("{}: its download is under way elsewhere, waiting", layer.blob.digest.short())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// After a disk turned out to be full: what was fetched would only keep it full.
fn forget_downloads(roots: &Roots, manifest: &Manifest) {
    for layer in &manifest.layers {
        match Ingest::resume(roots, &layer.digest) {
            Ok(Some(mut download)) => download.spoil(),
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}: {}", error.source),
        }
    }
}

async fn attempt<'scope>(
    scope: &'scope Scope<'scope, '_>,
    roots: &'scope Roots,
    registry: &Registry,
    layer: &Planned,
    source: Source,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(LayerDir, super::layer::Unpacked), Error> {
    let from = match &source {
        Source::Store(_) | Source::Twin(_) => layer.blob.size,
        Source::Network(_, have) => *have,
    };
    let (to, pieces) = channel::<Bytes>(QUEUE);
    let (report, outcome) = oneshot::channel();
    let layer_of_thread = layer.clone();
    scope.spawn(move || {
        // The receiver is gone only when the whole pull was given up.
        drop(report.send(unpack(roots, &layer_of_thread, source, pieces)));
    });
    let fetched = if from < layer.blob.size { registry.blob(&layer.blob, from, &to, progress).await } else { Ok(Fetched::Complete) };
    drop(to);
    let outcome = outcome.await.unwrap_or_else(|_| Err(Error::CutOff(layer.blob.digest.short().to_owned())));
    match (fetched, outcome) {
        (Err(error), Err(Error::CutOff(_))) => Err(error),
        (_, outcome) => outcome,
    }
}

/// Unpacks a layer whose blob is a file at hand.
///
/// # Errors
/// It is not what its digests say, or cannot be unpacked.
pub fn from_file(roots: &Roots, layer: &Planned, file: impl Read + Send + 'static) -> Result<(LayerDir, super::layer::Unpacked), Error> {
    let (_, nothing) = channel::<Bytes>(1);
    unpack(roots, layer, Source::Store(Box::new(file)), nothing)
}

/// The blocking half: reads what the network thread sends, keeps and unpacks it.
fn unpack(roots: &Roots, layer: &Planned, source: Source, pieces: Receiver<Bytes>) -> Result<(LayerDir, super::layer::Unpacked), Error> {
    let blob = &layer.blob;
    let expected = Expected {
        layer: blob.digest.short().to_owned(),
        blob: Some((blob.digest.clone(), blob.size)),
        diff_id: layer.diff_id.clone(),
        limits: layer.limits,
    };
    let dir = LayerDir::new(roots)?;
    match source {
        Source::Twin(twin) => {
            let layer = expected.layer.clone();
            let tar = bytes::assemble(&twin).map_err(|source| Error::Decompress { layer, source })?;
            let unpacked = stream::unpack(tar, &Expected { blob: None, ..expected }, &dir.diff())?;
            Ok((dir, unpacked))
        }
        Source::Store(file) => {
            let unpacked = stream::unpack(file, &expected, &dir.diff())?;
            Ok((dir, unpacked))
        }
        Source::Network(mut ingest, have) => {
            let feed = Feed { file: &ingest.file, stored: have, pieces, current: Bytes::new(), missing: blob.size.saturating_sub(have) };
            match stream::unpack(feed, &expected, &dir.diff()) {
                Ok(unpacked) => {
                    ingest.complete(roots, &blob.digest)?;
                    Ok((dir, unpacked))
                }
                Err(error) => {
                    if !matches!(error, Error::CutOff(_)) {
                        ingest.spoil();
                    }
                    Err(error)
                }
            }
        }
    }
}

/// A blob as one stream: first what an earlier pull left on disk, then what arrives, which is written down.
struct Feed<'a> {
    file: &'a File,
    /// Bytes on disk not read yet.
    stored: u64,
    pieces: Receiver<Bytes>,
    current: Bytes,
    /// Bytes that have not arrived.
    missing: u64,
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stored > 0 {
            let n = self.file.read(buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.stored = self.stored.saturating_sub(n as u64);
            return Ok(n);
        }
        if self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => {
                    self.file.write_all(&piece)?;
                    self.missing = self.missing.saturating_sub(piece.len() as u64);
                    self.current = piece;
                }
                None if self.missing > 0 => return Err(stream::cut()),
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
