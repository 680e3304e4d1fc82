//! Images that are built: their manifest, their record, and archives of them with the layers in the form that is asked for.
//!
//! Invariant: an image that is only written somewhere is never recorded, not even for a moment. The caller holds the
//! layers ([`super::hold_layers`]).

use super::export::{self, Blob, DockerImage, Form, Sink, TarSink};
use super::push::compress::{self, Format, Setting};
use super::push::{manifest, nameless};
use super::{Error, RegistryConfig, bytes, commit, content, import, space};
use crate::base::fs::{self, Context as _};
use crate::base::{Cancel, Roots, Staged, Timestamp, failpoint};
use crate::oci::{Algorithm, Descriptor, Digest, DigestHasher, Index, Manifest, Reference, media};
use crate::state::index::ImageIndex;
use crate::state::{Db, record};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const OCI_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// An index of a layout that is larger is none.
const INDEX_LIMIT: u64 = 20 << 20;

/// What a manifest says besides its layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestForm {
    /// Docker's media types instead of OCI's.
    pub docker: bool,
    pub annotations: BTreeMap<String, String>,
}

/// An image of layers that are there (chain ids, base first), recorded nowhere; its manifest names their plain tars.
///
/// # Errors
/// The config does not fit the layers, or one of them is gone.
pub fn compose(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    layers: &[String],
    config: Vec<u8>,
    form: &ManifestForm,
) -> Result<record::Image, Error> {
    settings.usable()?;
    let (document, planned) = commit::plan(settings.limits, "the image", &config, import::blobs_of(db, layers)?)?;
    let rows = db.layers(layers)?;
    if let Some(gone) = layers.get(rows.len()) {
        return Err(Error::Vanished(gone.clone()));
    }
    let kind = if form.docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST };
    let mut image = record::Image {
        id: Digest::of(&config).to_string(),
        config,
        manifest_digest: None,
        manifest: None,
        manifest_type: Some(kind.to_owned()),
        layers: planned.iter().map(|layer| layer.chain.to_string()).collect(),
        size: rows.iter().map(|row| row.size).sum(),
        created: document.created.as_deref().and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER),
        pulled: Timestamp::now(),
    };
    let outline = |index| bytes::plain_outline(roots, db, &image, index);
    let descriptors = (0..layers.len()).map(|index| outline(index).map(|outline| plain(&outline))).collect::<Result<Vec<_>, _>>()?;
    let mut template = json!({ "schemaVersion": 2, "mediaType": kind });
    if !form.annotations.is_empty() {
        template["annotations"] = json!(form.annotations);
    }
    image.manifest = Some(template.to_string().into_bytes());
    let (bytes, kind) = manifest::build(&image, &descriptors)?;
    (image.manifest_digest, image.manifest, image.manifest_type) = (Some(Digest::of(&bytes).to_string()), Some(bytes), Some(kind));
    Ok(image)
}

fn plain(outline: &bytes::Outline) -> Descriptor {
    described(&outline.media_type, outline.digest.clone(), outline.size)
}

fn described(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

/// Records an image that [`compose`] made under all these names.
///
/// # Errors
/// A layer is gone; the database.
pub fn record_image(roots: &Roots, db: &Db, settings: &RegistryConfig, image: &record::Image, names: &[Reference]) -> Result<(), Error> {
    let shown = names.first().map_or_else(|| "the image".to_owned(), Reference::familiar);
    let (document, layers) = commit::plan(settings.limits, &shown, &image.config, import::blobs_of(db, &image.layers)?)?;
    let manifest = image.manifest.as_ref().zip(image.manifest_type.as_ref());
    let candidate = commit::Candidate {
        id: Digest::of(&image.config),
        config: image.config.clone(),
        document,
        manifest: manifest.map(|(bytes, kind)| (Digest::of(bytes), bytes.clone(), kind.clone())),
        layers,
        names: names.iter().map(ToString::to_string).collect(),
    };
    commit::commit(roots, db, &candidate, Vec::new(), None).map(drop).map_err(|error| space::explain(roots, "the image", &[], error))
}

/// The manifest's descriptor of an image that [`compose`] made.
///
/// # Errors
/// The image's config is damaged.
pub fn descriptor(image: &record::Image) -> Result<Descriptor, Error> {
    let kind = image.manifest_type.as_deref().unwrap_or(media::OCI_MANIFEST);
    export::manifest_descriptor(image, image.manifest.as_deref().unwrap_or_default(), kind)
}

/// An archive of images that [`compose`] made.
#[derive(Debug, Clone)]
pub struct Archive<'a> {
    pub form: Form,
    pub names: &'a [Reference],
    /// One, or those of the index in its order.
    pub images: &'a [record::Image],
    pub index: Option<&'a ImageIndex>,
    /// Position of the image that stands for all where a form has no indexes.
    pub default: usize,
    pub setting: Setting,
    /// So many of the lowest layers stay compressed as they are kept, if they are.
    pub any_form: usize,
    /// Of the descriptor of the manifest, or of the index, in the index of the layout.
    pub annotations: BTreeMap<String, String>,
    /// Writing it ends with this.
    pub cancel: &'a Cancel,
}

/// Where it goes.
pub enum Target<'a> {
    Stream(&'a mut dyn Write),
    /// An OCI layout in a directory. One that is there keeps its images of other names.
    Layout(&'a Path),
}

/// Writes images as an OCI layout. The descriptor of the manifest, or of the index.
///
/// # Errors
/// A layer cannot be read; what cannot be written.
pub fn write_archive(roots: &Roots, db: &Db, archive: &Archive<'_>, to: Target<'_>) -> Result<Descriptor, Error> {
    content::prepare(roots)?;
    let in_use = content::in_use(roots)?;
    let (mut blobs, mut manifests, mut list) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut done = BTreeMap::new();
    for (position, image) in archive.images.iter().enumerate() {
        let layers = pack(roots, db, (position, archive), &mut done, &mut blobs)?;
        let (bytes, kind) = manifest::build(image, &layers)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| Error::ArchiveWrite(e.into()))?;
        if position == archive.default {
            list.push(DockerImage::new(&manifest, &archive.names.iter().collect::<Vec<_>>()));
        }
        let descriptor = export::manifest_descriptor(image, &bytes, &kind)?;
        blobs.insert(manifest.config.digest, Blob::Bytes(image.config.clone()));
        blobs.insert(descriptor.digest.clone(), Blob::Bytes(bytes));
        manifests.push(descriptor);
    }
    let mut top = match (archive.index, manifests.as_slice()) {
        (Some(index), _) => export::put_index(index, &manifests, archive.names, &mut blobs)?,
        (None, [manifest, ..]) => manifest.clone(),
        (None, []) => return Err(Error::Vanished("of the build".to_owned())),
    };
    top.annotations.clone_from(&archive.annotations);
    let mut entries = export::named_entries(&top, archive.names);
    let open = |image: usize, layer: usize| bytes::layer_bytes(roots, db, &archive.images[image], layer);
    let mut sink: Box<dyn Sink + '_> = match to {
        Target::Stream(out) => Box::new(TarSink(tar::Builder::new(archive.cancel.checked(out)))),
        Target::Layout(path) => {
            entries = others(path, entries)?;
            Box::new(LayoutSink(path.to_owned(), archive.cancel))
        }
    };
    export::write_layout(&blobs, entries, (archive.form == Form::Docker).then_some(list), &open, &mut *sink)?;
    sink.finish()?;
    drop(in_use);
    Ok(top)
}

/// The layers of one image in the form that is wanted; compressed ones are files without a name. Their descriptors.
/// `done`: what was compressed for another image, by the digest of its tar.
pub(super) fn pack(
    roots: &Roots,
    db: &Db,
    (position, archive): (usize, &Archive<'_>),
    done: &mut BTreeMap<Digest, Descriptor>,
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Result<Vec<Descriptor>, Error> {
    let image = &archive.images[position];
    let mut descriptors = Vec::with_capacity(image.layers.len());
    for index in 0..image.layers.len() {
        let kept = bytes::outline(roots, db, image, index)?;
        if kept.compressed && index < archive.any_form {
            descriptors.push(plain(&kept));
            blobs.entry(kept.digest.clone()).or_insert(Blob::Layer(position, index, kept));
            continue;
        }
        let outline = bytes::plain_outline(roots, db, image, index)?;
        if archive.setting.format == Format::Plain && !kept.compressed {
            descriptors.push(plain(&outline));
            blobs.entry(outline.digest.clone()).or_insert(Blob::Layer(position, index, outline));
            continue;
        }
        if let Some(same) = done.get(&outline.digest) {
            descriptors.push(same.clone());
            continue;
        }
        let (file, size, digest) =
            packed(roots, db, (image, index), archive).map_err(|error| space::explain(roots, "the layers that are compressed", &[], error))?;
        let descriptor = described(archive.setting.media_type(), digest.clone(), size);
        blobs.insert(digest, Blob::File(file, size));
        done.insert(outline.digest, descriptor.clone());
        descriptors.push(descriptor);
    }
    Ok(descriptors)
}

fn packed(roots: &Roots, db: &Db, (image, index): (&record::Image, usize), archive: &Archive<'_>) -> Result<(std::fs::File, u64, Digest), Error> {
    let (outline, tar) = bytes::plain_bytes(roots, db, image, index)?;
    let mut out = Hashed { file: nameless(roots)?, hasher: DigestHasher::new(Algorithm::Sha256), size: 0 };
    let layer = outline.digest.short().to_owned();
    compress::compress(archive.setting, &mut archive.cancel.checked(tar), &mut out).map_err(|source| match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::PushWrite { layer, source },
    })?;
    Ok((out.file, out.size, out.hasher.finish()))
}

/// A file that is hashed while it is written.
struct Hashed {
    file: std::fs::File,
    hasher: DigestHasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The entries of a layout that is there which ours do not replace, then ours.
pub(super) fn others(layout: &Path, own: Vec<Descriptor>) -> Result<Vec<Descriptor>, Error> {
    let path = layout.join("index.json");
    let file = match std::fs::File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(own),
        other => other.on("open", &path)?,
    };
    let mut text = Vec::new();
    file.take(INDEX_LIMIT).read_to_end(&mut text).on("read", &path)?;
    let index: Index = serde_json::from_slice(&text).map_err(std::io::Error::from).on("understand", &path)?;
    let key = |entry: &Descriptor| ["io.containerd.image.name", OCI_REF_NAME].map(|name| entry.annotations.get(name).cloned());
    let replaced: Vec<_> = own.iter().map(key).collect();
    let stays =
        |entry: &Descriptor| !replaced.contains(&key(entry)) && own.iter().all(|ours| ours.digest != entry.digest || key(entry) != [None, None]);
    let others: Vec<Descriptor> = index.manifests.into_iter().filter(stays).collect();
    Ok(others.into_iter().chain(own).collect())
}

/// A layout in a directory: files take their names when they are whole, and what names the blobs comes last. It ends with the wish.
pub(super) struct LayoutSink<'a>(pub(super) PathBuf, pub(super) &'a Cancel);

impl Sink for LayoutSink<'_> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        Ok(fs::create_dir_all(&self.0.join(name), 0o755)?)
    }

    fn file(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<(), Error> {
        let path = self.0.join(name);
        if name.starts_with("blobs/") && std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == size) {
            return Ok(());
        }
        if name == "index.json" {
            failpoint::hit("image.layout.before_index").map_err(export::unwritten)?;
        }
        let mut staged = Staged::new(&path)?;
        std::io::copy(&mut self.1.checked(data), staged.file()).map_err(export::unwritten)?;
        Ok(staged.commit()?)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}
