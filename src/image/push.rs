//! Pushing: find each layer where it can be had most cheaply, send what the registry lacks, then the manifest.
//!
//! The manifest that an image came with, and so its digest, is kept whenever every layer can be had in its original
//! form: at the target, in another repository of the same registry, in our store, or still where it was pulled
//! from. Otherwise layers are compressed anew from their tars, whose DiffIDs are verified on the way, into a file
//! without a name: a killed push leaves nothing.

pub mod compress;
mod locate;
pub mod manifest;

use self::compress::{Format, Setting};
use self::locate::{Layer, Place};
use super::reactor::Reactor;
use super::registry::{Fetched, Grown, Outgoing, Registry};
use super::{Error, Progress, RegistryConfig, content, space, stream};
use crate::base::fs::{Context, FsError};
use crate::base::{Cancel, Roots};
use crate::oci::{Descriptor, Digest, DigestHasher, Reference};
use crate::state::sources::BlobSource;
use crate::state::{Db, record};
use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread::Scope;
use tokio::sync::mpsc::channel;
use tokio::sync::{oneshot, watch};

/// Layers sent at once, as with Docker.
const PARALLEL: usize = 5;
/// Network pieces waiting to be written down.
const QUEUE: usize = 32;
/// Seconds in which a registry must have heard that begun uploads are given up.
const CLEANING: u64 = 60;
/// Bytes of tar read at once.
const PIECE: usize = 256 << 10;

/// How to push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Push layers in this format; None: as they came, else gzip.
    pub format: Option<Format>,
    /// Compress all layers anew with this level.
    pub level: Option<i32>,
    /// So many of the lowest layers may stay in any form that can be had: neither format nor level is meant for them.
    pub any_form: usize,
    /// Push the manifest under its digest, and no tag.
    pub by_digest: bool,
}

impl PushOptions {
    fn setting(&self) -> Result<Setting, Error> {
        Setting::new(self.format.unwrap_or(Format::Gzip), self.level).map_err(|message| Error::List { message, missing: false })
    }

    fn is_default(&self) -> bool {
        self.format.is_none() && self.level.is_none()
    }
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
    /// Of the manifest, or of an index.
    pub media_type: String,
}

/// A layer that the registry has now, and in which form.
struct Sent {
    position: usize,
    descriptor: Descriptor,
}

/// The reactor of one command.
pub fn reactor() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::Start { what: "the network reactor", source: Box::new(e) })
}

/// Pushes an image to where `reference` (a tag) says.
///
/// # Errors
/// The registry refuses it, a layer cannot be had, or the host cannot read or write.
pub fn push(
    roots: &Roots,
    db: &Db,
    config: &RegistryConfig,
    image: &record::Image,
    reference: &Reference,
    (options, cancel): (&PushOptions, &Cancel),
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pushed, Error> {
    let setting = options.setting()?;
    content::prepare(roots)?;
    let in_use = content::in_use(roots)?;
    let layers = locate::layers(roots, db, image, reference)?;
    let registry = Registry::for_push(config, reference, &locate::mountable(&layers))?;
    for layer in &layers {
        progress(Progress::Preparing { id: layer.id() });
    }
    let job = Job { roots, config, registry: &registry, setting, progress };
    let pushed = std::thread::scope(|scope| {
        let reactor = Reactor::start()?;
        let pushed = reactor.wait(cancel, job.run(scope, db, image, reference, layers, options));
        if pushed.is_err() {
            // Whoever cancels does not wait long for a registry: it forgets begun uploads by itself.
            let patience = tokio::time::Duration::from_secs(if cancel.is_cancelled() { 1 } else { CLEANING });
            let cleaning = async {
                tokio::time::timeout(patience, registry.cancel_all()).await.ok();
                Ok(())
            };
            reactor.wait(&Cancel::default(), cleaning)?;
        }
        pushed
    });
    drop(in_use);
    pushed.map_err(|error| space::explain(roots, &format!("the layers of {} that are compressed", reference.familiar()), &[], error))
}

/// The surroundings of one push.
struct Job<'a> {
    roots: &'a Roots,
    config: &'a RegistryConfig,
    registry: &'a Registry,
    setting: Setting,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Job<'_> {
    async fn run<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        db: &Db,
        image: &record::Image,
        reference: &Reference,
        layers: Vec<Layer>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let id: Digest = image.id.parse().map_err(|_| Error::Config { reference: image.id.clone(), why: "its id is no digest".to_owned() })?;
        // Asked first: who may not write, or nobody there, shows before anything is compressed.
        let known = self.registry.has_blob(&id).await?.is_some();
        let found = locate::find(self.registry, self.config, self.roots, &layers, options).await?;
        let original = found.original;
        let jobs = layers.iter().zip(found.places).enumerate().map(|(at, (layer, place))| self.layer(scope, at, layer, place));
        let mut sent: Vec<Sent> = futures_util::stream::iter(jobs).buffer_unordered(PARALLEL).try_collect().await?;
        sent.sort_by_key(|sent| sent.position);
        let descriptors: Vec<Descriptor> = sent.into_iter().map(|sent| sent.descriptor).collect();
        if !known {
            self.registry.push_bytes(&id, Bytes::copy_from_slice(&image.config)).await?;
        }
        let (bytes, kind) = match (original, &image.manifest) {
            (true, Some(bytes)) => (bytes.clone(), manifest::kind(image)),
            _ => manifest::build(image, &descriptors)?,
        };
        crate::base::failpoint::hit("image.push.before_manifest").map_err(|e| Error::Start { what: "the manifest", source: Box::new(e) })?;
        let digest = Digest::of(&bytes);
        let name = reference.tag().filter(|_| !options.by_digest).unwrap_or(digest.as_str());
        self.registry.put_manifest(name, &kind, &bytes).await?;
        remember(db, image, reference, &digest, &layers, &descriptors);
        Ok(Pushed { digest, size: bytes.len() as u64, media_type: kind })
    }

    /// Sees to it that the registry has one layer.
    async fn layer<'scope>(&self, scope: &'scope Scope<'scope, '_>, position: usize, layer: &Layer, place: Place) -> Result<Sent, Error> {
        let id = layer.id();
        let descriptor = match place {
            Place::There(descriptor) => {
                (self.progress)(Progress::Present { id });
                return Ok(Sent { position, descriptor });
            }
            Place::Mounted(descriptor, from) => {
                (self.progress)(Progress::Mounted { id, from });
                return Ok(Sent { position, descriptor });
            }
            Place::Stored(descriptor, file, session) => {
                let (sender, grown) = watch::channel(Grown::Complete(descriptor.size, descriptor.digest.clone()));
                let outgoing = Outgoing { file: Arc::new(file), grown };
                (self.progress)(Progress::Uploading { id: id.clone(), done: 0 });
                if let Err(error) = self.registry.push_file(&id, &outgoing, session, self.progress).await {
                    // What a registry says of damaged bytes differs from one to the next.
                    return Err(if is_intact(&outgoing.file, &descriptor) { error } else { layer.damaged("its kept blob has another digest") });
                }
                drop(sender);
                descriptor
            }
            Place::Elsewhere(descriptor, source) => {
                (self.progress)(Progress::Uploading { id: id.clone(), done: 0 });
                copy_blob(self.roots, self.registry, &source, &descriptor, None, self.progress).await?;
                descriptor
            }
            Place::Nowhere => self.make(scope, layer).await?,
        };
        (self.progress)(Progress::Pushed { id });
        Ok(Sent { position, descriptor })
    }

    /// Compresses a layer from its tar while it is sent.
    async fn make<'scope>(&self, scope: &'scope Scope<'scope, '_>, layer: &Layer) -> Result<Descriptor, Error> {
        let id = layer.id();
        let file = Arc::new(nameless(self.roots)?);
        let (grow, grown) = watch::channel(Grown::Growing(0));
        let outgoing = Outgoing { file: file.clone(), grown };
        let (report, outcome) = oneshot::channel();
        let (work, setting) = (Work { layer: layer.clone(), file, grow }, self.setting);
        scope.spawn(move || {
            // The receiver is gone only when the whole push was given up.
            drop(report.send(work.run(setting)));
        });
        (self.progress)(Progress::Uploading { id: id.clone(), done: 0 });
        let sent = self.registry.push_file(&id, &outgoing, None, self.progress).await;
        // Nobody reads the file now; a thread that still writes to it stops.
        drop(outgoing);
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => match outcome.await {
                Ok(Err(Error::PushWrite { source, .. })) if source.kind() == io::ErrorKind::BrokenPipe => return Err(error),
                Ok(Err(cause)) => return Err(cause),
                _ => return Err(error),
            },
        };
        Ok(Descriptor {
            media_type: self.setting.media_type().to_owned(),
            digest: sent.1,
            size: sent.0,
            platform: None,
            annotations: Default::default(),
        })
    }
}

/// Sends a blob that another registry or repository has; it is verified before the target is told that it is complete.
///
/// # Errors
/// It cannot be read there, is not what it is said to be, or cannot be sent.
pub async fn copy_blob(
    roots: &Roots,
    target: &Registry,
    source: &Registry,
    blob: &Descriptor,
    session: Option<reqwest::Url>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    let id = blob.digest.short();
    let file = Arc::new(nameless(roots)?);
    let (grow, grown) = watch::channel(Grown::Growing(0));
    let outgoing = Outgoing { file: file.clone(), grown };
    let receive = async {
        let outcome = receive(source, blob, &file, &grow).await;
        grow.send_replace(if outcome.is_ok() { Grown::Complete(blob.size, blob.digest.clone()) } else { Grown::Failed });
        outcome
    };
    let (received, sent) = futures_util::future::join(receive, target.push_file(id, &outgoing, session, progress)).await;
    received?;
    sent.map(drop)
}

/// Writes a blob of a registry down and verifies it, telling how far it is.
async fn receive(source: &Registry, blob: &Descriptor, file: &File, grow: &watch::Sender<Grown>) -> Result<(), Error> {
    let id = blob.digest.short();
    let (to, mut pieces) = channel::<Bytes>(QUEUE);
    let quiet = |_: Progress| {};
    let fetch = async {
        let fetched = source.blob(blob, 0, &to, &quiet).await;
        drop(to);
        fetched
    };
    let write = async {
        let mut hasher = DigestHasher::new(blob.digest.algorithm());
        let mut size = 0;
        let mut file = file;
        while let Some(piece) = pieces.recv().await {
            file.write_all(&piece).map_err(|source| Error::PushWrite { layer: id.to_owned(), source })?;
            hasher.update(&piece);
            size += piece.len() as u64;
            if size > blob.size {
                break;
            }
            grow.send_replace(Grown::Growing(size));
        }
        pieces.close();
        Ok::<_, Error>((size, hasher.finish()))
    };
    let (fetched, written) = futures_util::future::join(fetch, write).await;
    let (size, actual) = written?;
    let what = format!("the blob of layer {id}");
    if fetched? != Fetched::Complete || size != blob.size {
        return Err(Error::Size { what, expected: blob.size, actual: size });
    }
    if actual != blob.digest {
        return Err(Error::Digest { what, expected: blob.digest.clone(), actual });
    }
    Ok(())
}

/// The blocking half of compressing a layer.
struct Work {
    layer: Layer,
    file: Arc<File>,
    grow: watch::Sender<Grown>,
}

impl Work {
    fn run(self, setting: Setting) -> Result<(), Error> {
        let outcome = self.compress(setting);
        self.grow.send_replace(match &outcome {
            Ok((size, digest)) => Grown::Complete(*size, digest.clone()),
            Err(_) => Grown::Failed,
        });
        outcome.map(drop)
    }

    fn compress(&self, setting: Setting) -> Result<(u64, Digest), Error> {
        let id = self.layer.id();
        let tar = self.layer.tar()?;
        let mut tar = Verified { input: tar, hasher: DigestHasher::new(self.layer.diff_id.algorithm()), failed: None };
        let mut out = Growing { file: &self.file, grow: &self.grow, hasher: DigestHasher::new(crate::oci::Algorithm::Sha256), size: 0 };
        let outcome = compress::compress(setting, &mut tar, &mut out);
        if let Some(source) = tar.failed {
            return Err(Error::PushRead { layer: id, source });
        }
        outcome.map_err(|source| Error::PushWrite { layer: id.clone(), source })?;
        let actual = tar.hasher.finish();
        if actual != self.layer.diff_id {
            return Err(self.layer.damaged(&format!("its files make a tar with the digest {actual}")));
        }
        Ok((out.size, out.hasher.finish()))
    }
}

/// Hashes a tar, and keeps the reason why it could not be read.
struct Verified<R> {
    input: R,
    hasher: DigestHasher,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(n) => {
                self.hasher.update(&buffer[..n]);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let shown = io::Error::new(e.kind(), e.to_string());
                self.failed = Some(e);
                Err(shown)
            }
        }
    }
}

/// Writes a file that somebody is sending already.
struct Growing<'a> {
    file: &'a File,
    grow: &'a watch::Sender<Grown>,
    hasher: DigestHasher,
    size: u64,
}

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.grow.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        self.grow.send_replace(Grown::Growing(self.size));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file is what its descriptor says; one that cannot be read is not.
fn is_intact(file: &File, blob: &Descriptor) -> bool {
    let mut hasher = DigestHasher::new(blob.digest.algorithm());
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while let Ok(n) = file.read_at(&mut piece, at) {
        if n == 0 {
            return at == blob.size && hasher.finish() == blob.digest;
        }
        hasher.update(&piece[..n]);
        at += n as u64;
    }
    false
}

impl Layer {
    fn damaged(&self, why: &str) -> Error {
        Error::Damaged { image: self.image.clone(), layer: self.diff_id.to_string(), why: why.to_owned() }
    }

    /// The uncompressed tar: from the blob if it is held, else made again from the files.
    fn tar(&self) -> Result<Box<dyn Read>, Error> {
        let unreadable = |source| Error::PushRead { layer: self.id(), source };
        if let Some((_, path)) = &self.held {
            let file = BufReader::with_capacity(PIECE, File::open(path).map_err(unreadable)?);
            return stream::decompressor(file).map_err(unreadable);
        }
        Ok(Box::new(crate::image::layer::split::assemble(&self.directory).map_err(unreadable)?))
    }
}

/// A file in the store that has no name, so that nothing of it outlives us.
///
/// # Errors
/// It cannot be made.
pub fn nameless(roots: &Roots) -> Result<File, FsError> {
    let directory = roots.ingest();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(&directory) {
        Ok(file) => Ok(file),
        // Some filesystems have no such files (open(2), O_TMPFILE): one that loses its name at once will do.
        Err(_) => {
            let path = directory.join(crate::base::random_hex(16));
            let file = options.create_new(true).open(&path).on("create", &path)?;
            remove(&path)?;
            Ok(file)
        }
    }
}

fn remove(path: &Path) -> Result<(), FsError> {
    crate::base::fs::remove_file(path)
}

/// Keeps in mind what the registry has now. The push has succeeded whether or not this does.
fn remember(db: &Db, image: &record::Image, reference: &Reference, digest: &Digest, layers: &[Layer], descriptors: &[Descriptor]) {
    let sources: Vec<BlobSource> = layers.iter().zip(descriptors).map(|(layer, blob)| source(reference, &layer.diff_id, blob)).collect();
    let by_digest = reference.with_digest(digest.as_str()).to_string();
    let written = db.write(false, |tx| {
        tx.put_blob_sources(&sources)?;
        match tx.put_name(&by_digest, &image.id) {
            // A build has pushed what it does not keep.
            Err(crate::state::Error::ImageMissing { .. }) => Ok(()),
            other => other,
        }
    });
    if let Err(error) = written {
        tracing::warn!("the image was pushed, but what was pushed could not be noted: {error}");
    }
}

/// Where a layer was seen.
pub fn source(reference: &Reference, diff_id: &Digest, blob: &Descriptor) -> BlobSource {
    BlobSource {
        diff_id: diff_id.to_string(),
        registry: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        digest: blob.digest.to_string(),
        size: blob.size,
        media_type: blob.media_type.clone(),
    }
}
