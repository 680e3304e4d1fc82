//! # image
//! ## Lives here
//! Registry client, content store (blobs by digest), layers unpacked one directory each, docker-archive and OCI-layout
//! archives, garbage collection.
//! ## Invariants
//! - An image record exists only when every byte was verified: manifest digest, config digest, blob digests, DiffIDs.
//! - A layer is visible by its database row; a directory without a row is swept unless its lock is held.
//! ## Not here
//! Container roots (`runtime`), which image a user means by an id prefix in use by containers (`engine`).
//! ## Decisions
//! - Layers are unpacked independently of the layers below, several at once, each straight into its overlay
//!   directory. What needs the layers below (hard links into them, directories the tar does not describe) is
//!   collected and done before the layer is recorded. Rejected: applying one after the other on a mounted
//!   overlay, as the peers do: it serialises the slowest work.
//! - A tar entry beneath a symbolic link of the same layer goes where the link leads inside the layer, as in every
//!   peer: merged `/usr` trees are packed so. The way is worked out on names and then opened without following. Rejected:
//!   refusing it (images that every peer takes), `RESOLVE_IN_ROOT` (the path that the tar's record needs would be lost).
//! - An image is stored once: compressed blobs are dropped when the image is recorded, and `layers/<dir>/tar-split`
//!   lets the exact uncompressed tar be made again (`bytes::layer_bytes`). `keep_blobs` keeps them, for the original
//!   digests. Rejected: keeping them always (half as much disk again for what is hardly ever asked for).
//! - A finished download waits under `ingest/` until the record of its layer is written: a kill at any moment costs
//!   no byte that was fetched.
//! - Requests are made with reqwest; `oci-client` lends its types. Rejected: its own requests: they read manifests of
//!   any size, follow any token realm, hash each byte twice and hide status and `Retry-After`.
//! - Redirects are followed by us, not by the HTTP client: each host has a client of its own, so that neither the
//!   header with credentials nor the client certificate of a registry is offered to where it sends us.
//! - ECR tokens are asked for with a Signature Version 4 of our own (sixty lines over ring's HMAC, tested with AWS's
//!   vectors) and AWS's documented order of key sources. Rejected: the AWS SDK, a hundred crates and a second HTTP stack
//!   for one request. Profiles that need single sign-on or a second factor are refused by name: their helper does it.
//! - A registry listed as insecure is asked over TLS without verification, then in plain HTTP, as Docker has it; a
//!   loopback registry in plain HTTP unless it says that it wants TLS or `certs.d` has its certificates.
//! - Tar headers are read with the `tar` crate's types, the iteration is ours: that crate reads extension headers of
//!   any size into memory and splits PAX records at newlines, which breaks binary attributes.
//! - A push keeps the original manifest if each layer can be had in its original form, even from the registry it was
//!   pulled from; signatures name digests. Only otherwise it compresses anew: in blocks on all processors, as one gzip
//!   member, into a file without a name that is sent while it grows. Rejected: compressing straight into the request
//!   (a broken connection would cost all of it) and before the upload (the two take as long one after the other).
//! - An index is a row beside a name that leads to one image, not an image of a second kind: what needs one image never meets
//!   it. What is attested stands in it as BuildKit has it, under a manifest that names its image as its subject, so that one
//!   manifest serves both who reads indexes and who asks for referrers. Rejected: artifacts beside the image alone, which
//!   copies of the index would leave behind.
//! - What `manifest create` puts together is a row of the database, not a directory of files: no half list to explain.
//! - A build cache elsewhere is an image manifest whose config is none of an image (`cache`): every registry keeps it, and push,
//!   pull and layouts serve it as they are. Rejected: an index over layers, as BuildKit's default has it, which some refuse.
//! - Artifacts are pushed from files and pulled into files and not stored here. Rejected: a second kind of image in the
//!   store that nothing but `artifact` could use.
//! - While a layer is unpacked, what its files do not hold of its tar is taken down beside it (`layer/split.rs`), so
//!   that the tar can be made again without its blob. What a later entry of a tar replaces is renamed out of the
//!   layer for that, not copied. Rejected: the format of the Go tar-split library (JSON in gzip,
//!   a checksum a file): costlier to write and to read, and its checksums repeat what the DiffID says.
//! - Inflate is flate2 with zlib-rs: on a Debian layer of 80 MB one thread gives 500–640 MB/s, as much as libdeflate over
//!   a whole buffer (370–580 in the same runs) and near ISA-L's igzip (0.11–0.12 s of a core). Rejected: libdeflate, which
//!   needs the whole layer in memory; ISA-L, assembler that hostile bytes reach and that needs autotools and nasm to build.
//! - Signatures are verified with `ring`, which TLS brings along, over exact forms of P-256 and Ed25519 keys. Rejected:
//!   the sigstore crate (hundreds of dependencies for what are two signature checks and one JSON document).
//! - A verified signature is remembered with its key, and looked up at each run: a run needs no registry, and a key that
//!   leaves the policy is worth nothing from then on.
//! - A pull returns when its tree is whole in memory and recorded as not yet synced; a process of its own (`durable`)
//!   does one `syncfs` and takes that note away. What the power takes before then is known by the note, compared with
//!   its tar and fetched anew: never a broken image, and the compressed bytes are hardly ever written. Rejected: syncing
//!   first, where everybody's dirty pages are waited for; syncing not at all as the peers do (empty files after a power
//!   cut); leaving it to the kernel's timer and the next command (half a minute in which an image can be lost, and a
//!   comparison of gigabytes after every reboot). `load` and `import` sync before they record: what they are given may
//!   be gone afterwards.
//! - Layers are spread over an ext4 (`content::spread`). Measured on one without a journal on which images had just been
//!   removed: a pull of 600 MB in 8 layers takes 2.4 s instead of 5.2, two thirds of which went into looking at the
//!   inodes of the removed files.
//! - Locks: `locks/content` is held shared by pulls and loads and exclusively by the sweep of unrecorded
//!   things; `locks/chain-…` by whoever makes a layer, so that two pulls of one image share the work.

mod archive;
pub mod artifact;
pub mod assembly;
mod bytes;
mod cache;
pub mod check;
mod commit;
mod compression;
mod content;
mod draft;
mod durable;
mod error;
mod export;
mod garbage;
mod import;
pub mod index;
mod layer;
mod limits;
mod lock;
mod product;
mod pull;
mod push;
mod reactor;
mod registry;
mod settings;
mod space;
mod stream;
#[cfg(test)]
mod tests;
mod trust;
mod url;

pub use cache::{CACHE_CONFIG, CacheExport, CacheForm, CacheLayer, CacheManifest, CacheOrigin, CacheSource, LayoutEntry, push_cache, write_cache};
pub use compression::{bounded, decompressor};
pub use draft::{Draft, hold_layers, is_complete, stack, sync_behind, turn};
pub use durable::sync_stage;
pub use error::Error;
pub use export::{Form, Output, Whole};
pub use import::{Spool, add_layer, import};
pub use layer::tar::{Kind as TarKind, Member as TarMember, Reader as TarReader};
pub use layer::{Holes, UnpackError};
pub use limits::Limits;
pub use product::{Archive, ManifestForm, Target as ArchiveTarget, compose, descriptor, record_image, write_archive};
pub use push::compress::{Format as CompressionFormat, Setting as CompressionSetting};
pub use push::{PushOptions, Pushed, push};
pub use registry::Found;
pub use settings::Draft as SettingsDraft;
pub use space::require_bytes;
pub use url::{Answer, ask as ask_url, server as server_of_url};
pub use url::{Download, open as open_url};

use crate::base::settings::SettingsError;
use crate::base::{Cancel, Roots};
use crate::oci::{Platform, Reference};
use crate::runtime::Overlay;
use crate::state::{Db, record};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// Layers fetched at once unless the settings say otherwise.
const DOWNLOADS: usize = 4;

/// What happens to one layer or blob; the caller renders it.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A line of talk: `latest: Pulling from library/busybox`.
    Note(String),
    /// A layer (short id) is known: total compressed bytes.
    Layer {
        id: String,
        total: u64,
    },
    Exists {
        id: String,
    },
    Downloading {
        id: String,
        done: u64,
    },
    /// Unpacked and verified.
    Done {
        id: String,
    },
    /// A layer of a push was looked at.
    Preparing {
        id: String,
    },
    Uploading {
        id: String,
        done: u64,
    },
    Pushed {
        id: String,
    },
    /// The registry has the layer.
    Present {
        id: String,
    },
    /// The registry shares the layer with this repository.
    Mounted {
        id: String,
        from: String,
    },
    /// Waiting before a retry.
    Retrying {
        id: String,
        seconds: u64,
        why: String,
    },
}

pub struct Pulled {
    pub image: record::Image,
    pub digest: String,
    /// False: it was already up to date.
    pub changed: bool,
}

/// How registries are reached, what is taken from them and what is kept; read from the settings files, and by `cli`
/// from the environment and Docker's config file.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// Text of `~/.docker/config.json`, if it exists.
    pub docker_config: Option<String>,
    /// Where that file is; `login` and `logout` write it.
    pub docker_config_path: PathBuf,
    /// Directories that hold one directory `HOST[:PORT]` with `*.crt`, `*.cert` and `*.key` for each registry that
    /// needs a certificate authority or a client certificate of its own; all are read.
    pub certs_dirs: Vec<PathBuf>,
    /// Registries that may be spoken to in plain HTTP besides loopback ones.
    pub insecure: Vec<String>,
    /// registry → mirror base URLs, tried in order before it.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// registry → directories with such files for it alone, besides those of its name in `certs_dirs`.
    pub certs: BTreeMap<String, Vec<PathBuf>>,
    /// Compressed blobs stay in the content store after unpacking: then `save` and `push` give the original digests,
    /// and each image takes its compressed size more.
    pub keep_blobs: bool,
    /// A pull returns only when the image is on disk; otherwise it is synced behind it.
    pub wait_for_disk: bool,
    /// Layers fetched at once.
    pub downloads: usize,
    pub limits: Limits,
    /// Which images are let in.
    pub trust: trust::Policy,
    /// Why the settings cannot be used: then everything that depends on them is refused.
    pub broken: Option<SettingsError>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig {
            docker_config: None,
            docker_config_path: PathBuf::new(),
            certs_dirs: Vec::new(),
            insecure: Vec::new(),
            mirrors: BTreeMap::new(),
            certs: BTreeMap::new(),
            keep_blobs: false,
            wait_for_disk: false,
            downloads: DOWNLOADS,
            limits: Limits::default(),
            trust: trust::Policy::default(),
            broken: None,
        }
    }
}

impl RegistryConfig {
    /// What holds while the settings cannot be read: nothing comes in, nothing that is there is thrown away, and
    /// whatever needs no settings works.
    pub fn broken(error: SettingsError) -> Self {
        RegistryConfig { keep_blobs: true, broken: Some(error), ..Self::default() }
    }

    /// # Errors
    /// [`Error::Settings`] if they could not be read.
    pub fn usable(&self) -> Result<(), Error> {
        self.broken.clone().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Asks whether a local image, which the user called `name`, may be used under the trust policy in force. Whoever
/// makes a container or a build stage of an image asks this first.
///
/// # Errors
/// [`Error::Refused`] says why and where the policy is written; the settings cannot be used; database.
pub fn admit(config: &RegistryConfig, db: &Db, name: &str, image: &record::Image) -> Result<(), Error> {
    trust::admit(config, db, name, &image.id)
}

pub use registry::Kept;

/// Verifies a user name and password (or access token) at a registry, and keeps them where docker's tools do.
/// `server` is a host, or an address of it. Starts its own small reactor.
///
/// # Errors
/// The registry refuses them or cannot be reached; they cannot be kept.
pub fn login(registry: &RegistryConfig, server: &str, user: &str, password: &str) -> Result<Kept, Error> {
    registry::login(registry, server, user, password)
}

/// Asks a registry whether it takes these credentials; nothing is kept.
///
/// # Errors
/// The registry refuses them or cannot be reached.
pub fn verify_login(registry: &RegistryConfig, server: &str, user: &str, password: &str) -> Result<(), Error> {
    registry::verify_login(registry, server, user, password)
}

/// Name and password that are kept for a registry; none for an anonymous user or an identity token.
///
/// # Errors
/// A credential helper failed.
pub fn stored_login(registry: &RegistryConfig, server: &str) -> Result<Option<(String, String)>, Error> {
    registry::stored(registry, server)
}

/// Forgets the credentials of a registry. False: none were kept.
///
/// # Errors
/// The docker config or a credential helper cannot be changed.
pub fn logout(registry: &RegistryConfig, server: &str) -> Result<bool, Error> {
    registry::logout(registry, server)
}

/// Pulls a reference: resolve, verify, unpack several layers at once, record. Starts its own small reactor.
///
/// # Errors
/// What the registry refused, what did not verify, or what the host could not do.
pub fn pull(
    roots: &Roots,
    db: &Db,
    registry: &RegistryConfig,
    reference: &Reference,
    platform: &Platform,
    cancel: &Cancel,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pulled, Error> {
    pull::pull(roots, db, registry, reference, platform, cancel, progress)
}

/// Every tag of a repository, as its registry lists them. Starts its own small reactor.
///
/// # Errors
/// The registry cannot be asked, or has no such repository.
pub fn remote_tags(config: &RegistryConfig, repository: &Reference) -> Result<Vec<String>, Error> {
    let registry = registry::Registry::new(config, repository)?;
    push::reactor()?.block_on(registry.tags())
}

/// Repositories of the registry `host` that match a word, at most `limit`.
///
/// # Errors
/// The registry cannot be asked, or cannot be searched.
pub fn search(config: &RegistryConfig, host: &str, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
    push::reactor()?.block_on(registry::search(config, host, term, limit))
}

/// Loads a docker-archive or OCI layout tar (plain, gzip or zstd). Returns (reference if named, image).
///
/// # Errors
/// The archive is malformed or does not verify, the trust policy does not let an image in, or the host could not
/// store it.
pub fn load(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    archive: &mut (dyn Read + Send),
    platform: Option<&Platform>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<(Option<Reference>, record::Image)>, Error> {
    archive::load(roots, db, settings, archive, platform, progress)
}

/// Writes images in the form asked for, and indexes over some of them.
///
/// # Errors
/// A layer is damaged, or the output cannot be written.
pub fn save(roots: &Roots, db: &Db, images: &[(Vec<Reference>, record::Image)], wholes: &[Whole], form: Form, out: Output<'_>) -> Result<(), Error> {
    export::save(roots, db, (images, wholes), form, out)
}

/// Refuses an image that is for another platform.
///
/// # Errors
/// [`Error::Platform`] names both.
pub fn require_platform(image: &record::Image, platform: &Platform) -> Result<(), Error> {
    match pull::platform_of(image) {
        Some(own) if platform.rank(&own).is_some() => Ok(()),
        own => Err(Error::Platform {
            reference: image.id.clone(),
            wanted: platform.to_string(),
            offered: own.map_or_else(|| "an unknown one".to_owned(), |own| own.to_string()),
        }),
    }
}

/// False: this machine stopped before a layer of the image was on disk. It is forgotten with its images; a pull brings them back.
///
/// # Errors
/// Database, or the store cannot be read.
pub fn survived(roots: &Roots, db: &Db, image: &record::Image) -> Result<bool, Error> {
    durable::settle(roots, db, &image.layers)
}

/// Overlay lowers of an image (top first), with `upper: None`.
///
/// # Errors
/// A layer of the image has no record.
pub fn overlay(roots: &Roots, db: &Db, image: &record::Image) -> Result<Overlay, Error> {
    durable::settle(roots, db, &image.layers)?;
    let layers = db.layers(&image.layers)?;
    let lowers = layers.iter().rev().map(|layer| PathBuf::from(&layer.dir).join("diff")).collect();
    Ok(Overlay { layers_dir: roots.layers(), lowers, upper: None })
}

/// Deletes layers and blobs that nothing refers to (after an image record was removed), and abandoned partial
/// unpacks; unfinished downloads are kept for a day unless `all` is meant. Returns freed bytes. While another process pulls or loads,
/// only unused layers are deleted; while one builds, none is.
///
/// # Errors
/// Database, or something cannot be removed.
pub fn collect_garbage(roots: &Roots, db: &Db, all: bool) -> Result<u64, Error> {
    garbage::collect(roots, db, all)
}

/// The name under which this process reopens one of its descriptors.
fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
