//! Where the layers of an image can be had from, cheapest first.

use super::PushOptions;
use super::compress::Format;
use crate::base::Roots;
use crate::image::registry::{Mount, Registry};
use crate::image::{Error, RegistryConfig, content};
use crate::oci::{Descriptor, Digest, Manifest, Reference, media};
use crate::state::sources::BlobSource;
use crate::state::{Db, record};
use futures_util::stream::{StreamExt, TryStreamExt};
use reqwest::Url;
use std::fs::File;
use std::path::PathBuf;

/// Layers asked about at once.
const PARALLEL: usize = 8;
/// Repositories that a mount is tried from, for one layer.
const MOUNTS: usize = 3;
/// Other registries that are asked for an original blob, for one layer.
const ELSEWHERE: usize = 2;

/// A layer of the image to be pushed.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Id of the image, for messages.
    pub image: String,
    /// Holds `diff` and what its tar needs besides.
    pub directory: PathBuf,
    pub diff_id: Digest,
    /// What the image's own manifest says.
    original: Option<Descriptor>,
    /// A blob of our store.
    pub held: Option<(Descriptor, PathBuf)>,
    /// At the target's registry, latest first.
    near: Vec<BlobSource>,
    /// At other registries, latest first.
    far: Vec<BlobSource>,
    /// Repository of the target.
    repository: String,
}

impl Layer {
    /// As progress names it.
    pub fn id(&self) -> String {
        self.diff_id.short().to_owned()
    }
}

/// Where one layer is to be had.
pub enum Place {
    /// At the target.
    There(Descriptor),
    /// Shared from that repository now.
    Mounted(Descriptor, String),
    /// In our store; with the session of a refused mount.
    Stored(Descriptor, File, Option<Url>),
    /// At another registry.
    Elsewhere(Descriptor, Box<Registry>),
    /// It must be compressed.
    Nowhere,
}

/// One place a layer, and whether all of them are what the image's own manifest names.
pub struct Places {
    pub places: Vec<Place>,
    pub original: bool,
}

/// What is known of each layer, base first.
///
/// # Errors
/// Database, or a damaged record.
pub fn layers(roots: &Roots, db: &Db, image: &record::Image, reference: &Reference) -> Result<Vec<Layer>, Error> {
    let manifest: Option<Manifest> = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    let rows = db.layers(&image.layers)?;
    let originals = manifest.map(|manifest| manifest.layers).filter(|layers| layers.len() == rows.len());
    let mut layers = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let wrong = |_| Error::Config { reference: image.id.clone(), why: format!("layer {} has no valid DiffID", row.chain_id) };
        let diff_id: Digest = row.diff_id.parse().map_err(wrong)?;
        let (near, far) = db.blob_sources(&row.diff_id)?.into_iter().partition(|source| source.registry == reference.registry());
        let (near, far): (Vec<BlobSource>, Vec<BlobSource>) = (near, far);
        // The manifest of an image that was built names plain tars, which no registry has unless they were seen at one.
        let seen = |blob: &Descriptor| blob.digest != diff_id || near.iter().chain(&far).any(|source| source.digest == blob.digest.as_str());
        let original = originals.as_ref().map(|layers| layers[at].clone()).filter(seen);
        let held = row.blob.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
        let held = held.map(|digest| descriptor(&row.media_type, digest, row.blob_size));
        let held = original.iter().chain(held.iter()).find_map(|blob| {
            let path = content::blob_path(roots, &blob.digest);
            std::fs::metadata(&path).is_ok_and(|meta| meta.len() == blob.size).then(|| (blob.clone(), path))
        });
        let repository = reference.repository().to_owned();
        layers.push(Layer { image: image.id.clone(), directory: roots.layers().join(&row.dir), diff_id, original, held, near, far, repository });
    }
    Ok(layers)
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: Default::default() }
}

/// The repositories of the target's registry that may be mounted from.
pub fn mountable(layers: &[Layer]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for source in layers.iter().flat_map(|layer| layer.near.iter().filter(|s| s.repository != layer.repository).take(MOUNTS)) {
        if !names.contains(&source.repository) {
            names.push(source.repository.clone());
        }
    }
    names
}

/// Finds a place for each layer.
///
/// # Errors
/// The registry cannot be asked, or refuses us.
pub async fn find(registry: &Registry, config: &RegistryConfig, roots: &Roots, layers: &[Layer], options: &PushOptions) -> Result<Places, Error> {
    if options.is_default() && !layers.is_empty() && layers.iter().all(|layer| layer.original.is_some()) {
        let originals = each(layers.iter().map(|layer| original(registry, config, layer))).await?;
        if originals.iter().all(|place| !matches!(place, Place::Nowhere)) {
            return Ok(Places { places: originals, original: true });
        }
        // Those that were found stay; the others are looked for in other forms.
        let others = layers.iter().zip(originals).map(|(layer, place)| async move {
            match place {
                Place::Nowhere => variant(registry, roots, layer, options).await,
                found => Ok(found),
            }
        });
        return Ok(Places { places: each(others).await?, original: false });
    }
    let any = PushOptions { format: None, level: None, ..*options };
    let places = layers.iter().enumerate().map(|(at, layer)| variant(registry, roots, layer, if at < options.any_form { &any } else { options }));
    let places = each(places).await?;
    // An image without layers has nothing but its manifest to keep.
    Ok(Places { places, original: options.is_default() && layers.is_empty() })
}

async fn each<F: Future<Output = Result<Place, Error>>>(jobs: impl Iterator<Item = F>) -> Result<Vec<Place>, Error> {
    futures_util::stream::iter(jobs).buffered(PARALLEL).try_collect().await
}

/// The layer as the image's manifest names it.
async fn original(registry: &Registry, config: &RegistryConfig, layer: &Layer) -> Result<Place, Error> {
    let Some(blob) = layer.original.clone() else { return Ok(Place::Nowhere) };
    if registry.has_blob(&blob.digest).await?.is_some() {
        return Ok(Place::There(blob));
    }
    let held = layer.held.as_ref().filter(|(held, _)| held.digest == blob.digest);
    if let Some(place) = at_hand(registry, layer, &blob, held.map(|(_, path)| path)).await? {
        return Ok(place);
    }
    let known = layer.far.iter().filter(|source| source.digest == blob.digest.as_str());
    for source in known.take(ELSEWHERE) {
        let Ok(reference) = format!("{}/{}", source.registry, source.repository).parse::<Reference>() else { continue };
        let other = Registry::new(config, &reference)?;
        match other.has_blob(&blob.digest).await {
            Ok(Some(_)) => return Ok(Place::Elsewhere(blob, Box::new(other))),
            Ok(None) => {}
            Err(error) => tracing::debug!("{}: {error}", source.registry),
        }
    }
    Ok(Place::Nowhere)
}

/// By mount, or from our store.
async fn at_hand(registry: &Registry, layer: &Layer, blob: &Descriptor, path: Option<&PathBuf>) -> Result<Option<Place>, Error> {
    let sources = layer.near.iter().filter(|source| source.digest == blob.digest.as_str() && source.repository != layer.repository);
    let mut session = None;
    for source in sources.take(MOUNTS) {
        match registry.mount(&blob.digest, &source.repository).await {
            Ok(Mount::Mounted) => {
                if let Some(session) = session {
                    registry.cancel(session).await;
                }
                return Ok(Some(Place::Mounted(blob.clone(), source.repository.clone())));
            }
            Ok(Mount::Refused(open)) => {
                if let Some(old) = std::mem::replace(&mut session, open) {
                    registry.cancel(old).await;
                }
            }
            // Whoever may not write learns it here; any other trouble with a mount is no reason to give up.
            Err(error @ (Error::PushDenied { .. } | Error::Credentials { .. })) => return Err(error),
            Err(error) => tracing::debug!("{error}"),
        }
    }
    let file = match path {
        Some(path) => File::open(path).map_err(|source| Error::PushRead { layer: layer.id(), source })?,
        None => {
            if let Some(session) = session {
                registry.cancel(session).await;
            }
            return Ok(None);
        }
    };
    Ok(Some(Place::Stored(blob.clone(), file, session)))
}

/// The layer in any form that the options allow and that need not be made.
async fn variant(registry: &Registry, roots: &Roots, layer: &Layer, options: &PushOptions) -> Result<Place, Error> {
    if options.level.is_some() {
        return Ok(Place::Nowhere);
    }
    let suits = |blob: &Descriptor| match media::layer(&blob.media_type) {
        Ok(media::Compression::Gzip) => options.format.is_none_or(|format| format == Format::Gzip),
        Ok(media::Compression::Zstd) => options.format.is_none_or(|format| format == Format::Zstd),
        Ok(media::Compression::None) => options.format == Some(Format::Plain),
        Err(_) => false,
    };
    let near = layer.near.iter().filter_map(|source| Some(descriptor(&source.media_type, source.digest.parse().ok()?, source.size)));
    let mut known: Vec<Descriptor> = layer.original.iter().cloned().chain(layer.held.iter().map(|(blob, _)| blob.clone())).chain(near).collect();
    known.retain(suits);
    let mut seen = std::collections::HashSet::new();
    known.retain(|blob| seen.insert(blob.digest.clone()));
    for blob in &known {
        if registry.has_blob(&blob.digest).await?.is_some() {
            return Ok(Place::There(plain(blob)));
        }
    }
    for blob in &known {
        let path = content::blob_path(roots, &blob.digest);
        let path = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == blob.size).then_some(&path);
        if let Some(place) = at_hand(registry, layer, &plain(blob), path).await? {
            return Ok(place);
        }
    }
    Ok(Place::Nowhere)
}

/// Without what only its own manifest meant.
fn plain(blob: &Descriptor) -> Descriptor {
    descriptor(&blob.media_type, blob.digest.clone(), blob.size)
}
