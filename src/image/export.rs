//! Saving images: one tar that is an OCI layout and a docker-archive at once, an OCI layout alone (tar or
//! directory), or the directory form of the containers tools (`dir:`).
//!
//! The same images give the same bytes: files are sorted and carry no time. The manifest is the one the image
//! came with as long as its blobs are here, so that its digest survives; else one over the uncompressed layers.

use super::bytes::{self, Outline};
use super::{Error, assembly, content};
use crate::base::Roots;
use crate::base::fs::{self, Context};
use crate::oci::{Descriptor, Digest, ImageDocument, Index, Manifest, Platform, PlatformSpec, Reference, media};
use crate::state::index::ImageIndex;
use crate::state::{Db, record};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// An OCI layout with docker's `manifest.json`: every tool reads it.
    #[default]
    Docker,
    /// An OCI layout alone (image-spec image-layout.md).
    Oci,
    /// `manifest.json`, `version` and blobs named by their digits, of one image: `dir:` of skopeo and podman.
    Dir,
}

/// Where it goes.
pub enum Output<'a> {
    /// One tar.
    Stream(&'a mut dyn Write),
    /// A directory, made here; it must not exist.
    Directory(&'a Path),
}

/// A file of the layout.
pub(super) enum Blob {
    Bytes(Vec<u8>),
    /// Layer of an image (positions in their lists).
    Layer(usize, usize, Outline),
    /// A file of ours and its size.
    File(std::fs::File, u64),
}

/// One entry of docker's `manifest.json`.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl DockerImage {
    pub(super) fn new(manifest: &Manifest, names: &[&Reference]) -> Self {
        DockerImage {
            config: blob_name(&manifest.config.digest),
            repo_tags: names.iter().filter(|name| name.tag().is_some()).map(|name| name.familiar()).collect(),
            layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        }
    }
}

/// Where a blob is in a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

type Images<'a> = &'a [(Vec<Reference>, record::Image)];

/// An index over images that are saved with it.
pub struct Whole {
    pub names: Vec<Reference>,
    pub index: ImageIndex,
    /// Id of the member that stands for all where a form has no indexes.
    pub default: String,
}

pub fn save(roots: &Roots, db: &Db, (images, wholes): (Images<'_>, &[Whole]), form: Form, out: Output<'_>) -> Result<(), Error> {
    content::prepare(roots)?;
    let in_use = content::in_use(roots)?;
    let mut sink: Box<dyn Sink + '_> = match out {
        Output::Stream(out) => Box::new(TarSink(tar::Builder::new(out))),
        Output::Directory(path) => Box::new(DirSink::new(path)?),
    };
    match form {
        Form::Docker | Form::Oci => save_layout(roots, db, (images, wholes), form == Form::Docker, &mut *sink)?,
        Form::Dir => save_dir(roots, db, images, &mut *sink)?,
    }
    sink.finish()?;
    drop(in_use);
    Ok(())
}

fn save_layout(roots: &Roots, db: &Db, (images, wholes): (Images<'_>, &[Whole]), docker: bool, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
    let mut entries: Vec<Descriptor> = Vec::new();
    let mut list = Vec::new();
    let mut manifests: BTreeMap<&str, Descriptor> = BTreeMap::new();
    for (position, (names, image)) in images.iter().enumerate() {
        let (descriptor, manifest) = describe(roots, db, position, image, &mut blobs)?;
        let mut tags: Vec<&Reference> = names.iter().collect();
        let mut alone = true;
        for whole in wholes.iter().filter(|whole| whole.index.members.iter().any(|member| member.image == image.id)) {
            // It is found through the index.
            alone = false;
            if whole.default == image.id {
                tags.extend(&whole.names);
            }
        }
        if alone || !names.is_empty() {
            entries.extend(named_entries(&descriptor, names));
        }
        manifests.insert(&image.id, descriptor);
        if alone || !tags.is_empty() || wholes.iter().any(|whole| whole.default == image.id) {
            list.push(DockerImage::new(&manifest, &tags));
        }
    }
    for whole in wholes {
        entries.extend(put_whole(whole, &manifests, &mut blobs)?);
    }
    let open = |image: usize, layer: usize| bytes::layer_bytes(roots, db, &images[image].1, layer);
    write_layout(&blobs, entries, docker.then_some(list), &open, sink)
}

/// Opens a layer of an image by the positions of both.
pub(super) type Open<'a> = &'a dyn Fn(usize, usize) -> Result<bytes::LayerBytes, Error>;

/// Writes a whole layout: blobs by their digests, then what names them.
pub(super) fn write_layout(
    blobs: &BTreeMap<Digest, Blob>,
    entries: Vec<Descriptor>,
    docker: Option<Vec<DockerImage>>,
    open: Open<'_>,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let algorithms: BTreeSet<String> = blobs.keys().map(|digest| format!("blobs/{}/", digest.algorithm().as_str())).collect();
    for directory in std::iter::once("blobs/".to_owned()).chain(algorithms) {
        sink.directory(&directory)?;
    }
    for (digest, blob) in blobs {
        put(open, digest, blob, &blob_name(digest), sink)?;
    }
    let index = Index { schema_version: 2, media_type: Some(media::OCI_INDEX.to_owned()), manifests: entries, annotations: BTreeMap::new() };
    put_bytes(sink, "index.json", &json(&index)?)?;
    if let Some(list) = docker {
        put_bytes(sink, "manifest.json", &json(&list)?)?;
    }
    put_marker(sink)
}

/// What says that a directory is a layout (image-spec image-layout.md).
pub(super) fn put_marker(sink: &mut dyn Sink) -> Result<(), Error> {
    put_bytes(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// Adds a saved index to the blobs; its entries of `index.json`.
fn put_whole(whole: &Whole, manifests: &BTreeMap<&str, Descriptor>, blobs: &mut BTreeMap<Digest, Blob>) -> Result<Vec<Descriptor>, Error> {
    let member = |image: &str| manifests.get(image).cloned().ok_or_else(|| Error::Vanished(image.to_owned()));
    let members = whole.index.members.iter().map(|entry| member(&entry.image)).collect::<Result<Vec<_>, _>>()?;
    Ok(named_entries(&put_index(&whole.index, &members, &whole.names, blobs)?, &whole.names))
}

/// Adds an index and what is attested of its members to the blobs. Its descriptor.
pub(super) fn put_index(
    index: &ImageIndex,
    members: &[Descriptor],
    names: &[Reference],
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Result<Descriptor, Error> {
    let made = assembly::assemble(index, members, names)?;
    let descriptor = made.descriptor();
    for attached in made.attached {
        blobs.extend(attached.blobs.into_iter().map(|blob| (Digest::of(&blob), Blob::Bytes(blob))));
        blobs.insert(attached.digest, Blob::Bytes(attached.manifest));
    }
    blobs.insert(made.digest, Blob::Bytes(made.bytes));
    Ok(descriptor)
}

/// The descriptor of an image's manifest as it would be saved.
pub fn descriptor(roots: &Roots, db: &Db, image: &record::Image) -> Result<Descriptor, Error> {
    Ok(describe(roots, db, 0, image, &mut BTreeMap::new())?.0)
}

/// The form has one manifest: the caller gives one image.
fn save_dir(roots: &Roots, db: &Db, images: Images<'_>, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
    for (position, (_, image)) in images.iter().enumerate().take(1) {
        let (descriptor, _) = describe(roots, db, position, image, &mut blobs)?;
        let Some(Blob::Bytes(manifest)) = blobs.remove(&descriptor.digest) else { continue };
        let open = |image: usize, layer: usize| bytes::layer_bytes(roots, db, &images[image].1, layer);
        for (digest, blob) in &blobs {
            put(&open, digest, blob, digest.hex(), sink)?;
        }
        put_bytes(sink, "manifest.json", &manifest)?;
    }
    put_bytes(sink, "version", b"Directory Transport Version: 1.1\n")
}

fn put(open: Open<'_>, digest: &Digest, blob: &Blob, name: &str, sink: &mut dyn Sink) -> Result<(), Error> {
    match blob {
        Blob::Bytes(bytes) => put_bytes(sink, name, bytes),
        Blob::File(file, size) => {
            let mut file = file;
            file.rewind().map_err(Error::ArchiveWrite)?;
            sink.file(name, *size, &mut file)
        }
        Blob::Layer(image, layer, outline) => {
            let mut layer = open(*image, *layer)?;
            if layer.outline != *outline {
                return Err(Error::Vanished(digest.to_string()));
            }
            sink.file(name, outline.size, &mut layer.reader)
        }
    }
}

fn put_bytes(sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> Result<(), Error> {
    sink.file(name, bytes.len() as u64, &mut &*bytes)
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::ArchiveWrite(e.into()))
}

/// The layer's own failure, if the reader had one; else the output's.
pub(super) fn unwritten(error: std::io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(Error::ArchiveWrite)
}

/// What takes the files.
pub(super) trait Sink {
    fn directory(&mut self, name: &str) -> Result<(), Error>;
    fn file(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<(), Error>;
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

pub(super) struct TarSink<W: Write>(pub(super) tar::Builder<W>);

impl<W: Write> TarSink<W> {
    fn append(&mut self, name: &str, kind: tar::EntryType, size: u64, data: &mut dyn Read) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(Error::ArchiveWrite)?;
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.append(&header, data).map_err(unwritten)
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        self.append(name, tar::EntryType::Directory, 0, &mut std::io::empty())
    }

    fn file(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<(), Error> {
        self.append(name, tar::EntryType::Regular, size, data)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.0.into_inner().and_then(|mut out| out.flush()).map_err(Error::ArchiveWrite)
    }
}

struct DirSink(PathBuf);

impl DirSink {
    fn new(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir(path).on("create directory", path)?;
        Ok(DirSink(path.to_owned()))
    }
}

impl Sink for DirSink {
    fn directory(&mut self, name: &str) -> Result<(), Error> {
        Ok(fs::create_dir_all(&self.0.join(name), 0o755)?)
    }

    fn file(&mut self, name: &str, _size: u64, data: &mut dyn Read) -> Result<(), Error> {
        let path = self.0.join(name);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).on("create", &path)?;
        std::io::copy(data, &mut file).map(|_| ()).map_err(unwritten)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// The manifest of an image: its own if all its blobs are here, else one over the bytes that can be had.
fn describe(
    roots: &Roots,
    db: &Db,
    position: usize,
    image: &record::Image,
    blobs: &mut BTreeMap<Digest, Blob>,
) -> Result<(Descriptor, Manifest), Error> {
    let outlines = (0..image.layers.len()).map(|index| bytes::outline(roots, db, image, index)).collect::<Result<Vec<_>, _>>()?;
    let original = image.manifest.as_ref().and_then(|bytes| {
        let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
        let same = manifest.layers.len() == outlines.len() && manifest.layers.iter().zip(&outlines).all(|(layer, have)| layer.digest == have.digest);
        same.then_some((bytes.clone(), manifest))
    });
    let (bytes, manifest, kind) = match original {
        Some((bytes, manifest)) => (bytes, manifest, image.manifest_type.clone().unwrap_or_else(|| media::OCI_MANIFEST.to_owned())),
        None => {
            let manifest = assemble(image, &outlines)?;
            let kind = manifest.media_type.clone().unwrap_or_else(|| media::OCI_MANIFEST.to_owned());
            (json(&manifest)?, manifest, kind)
        }
    };
    blobs.insert(manifest.config.digest.clone(), Blob::Bytes(image.config.clone()));
    for (index, outline) in outlines.into_iter().enumerate() {
        blobs.entry(outline.digest.clone()).or_insert(Blob::Layer(position, index, outline));
    }
    let descriptor = manifest_descriptor(image, &bytes, &kind)?;
    blobs.insert(descriptor.digest.clone(), Blob::Bytes(bytes));
    Ok((descriptor, manifest))
}

/// Of the manifest of an image, with its platform.
pub(super) fn manifest_descriptor(image: &record::Image, manifest: &[u8], kind: &str) -> Result<Descriptor, Error> {
    let corrupt = |e: serde_json::Error| Error::Config { reference: image.id.clone(), why: e.to_string() };
    let document: ImageDocument = serde_json::from_slice(&image.config).map_err(corrupt)?;
    let platform = Platform::normalised(&document.os, &document.architecture, document.variant.as_deref());
    let platform = PlatformSpec { architecture: platform.arch, os: platform.os, os_version: None, variant: platform.variant };
    let (digest, size) = (Digest::of(manifest), manifest.len() as u64);
    Ok(Descriptor { media_type: kind.to_owned(), digest, size, platform: Some(platform), annotations: BTreeMap::new() })
}

/// A manifest over the layers as they can be had: an OCI one, unless the image was made for Docker's format, which has no zstd.
fn assemble(image: &record::Image, outlines: &[Outline]) -> Result<Manifest, Error> {
    let describe = |media_type: &str, digest: &Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let compression = |outline: &Outline| match media::layer(&outline.media_type) {
        Ok(compression) if outline.compressed => compression,
        _ => media::Compression::None,
    };
    let asked = image.manifest.is_none() && image.manifest_type.as_deref() == Some(media::DOCKER_MANIFEST);
    let docker = asked && outlines.iter().all(|outline| compression(outline) != media::Compression::Zstd);
    let layer = |outline: &Outline| {
        // A manifest names the types of its own format; what the blob is does not change.
        let kind = match (docker, compression(outline)) {
            (false, media::Compression::Gzip) => media::OCI_LAYER_GZIP,
            (false, media::Compression::Zstd) => media::OCI_LAYER_ZSTD,
            (false, media::Compression::None) => media::OCI_LAYER,
            (true, media::Compression::Gzip) => media::DOCKER_LAYER_GZIP,
            (true, _) => media::DOCKER_LAYER,
        };
        describe(kind, &outline.digest, outline.size)
    };
    let id = image.id.parse::<Digest>().map_err(|e| Error::Config { reference: image.id.clone(), why: e.to_string() })?;
    let config = describe(if docker { media::DOCKER_CONFIG } else { media::OCI_CONFIG }, &id, image.config.len() as u64);
    let layers = outlines.iter().map(layer).collect();
    let own: Option<Manifest> = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    let annotations = own.map(|own| own.annotations).unwrap_or_default();
    let kind = if docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST };
    Ok(Manifest { schema_version: 2, media_type: Some(kind.to_owned()), config, layers, annotations })
}

/// One index entry a name, or one without a name.
pub(super) fn named_entries(descriptor: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    let tagged = names.iter().filter_map(|name| Some((name, name.tag()?)));
    let entries: Vec<Descriptor> = tagged
        .map(|(name, tag)| {
            let mut entry = descriptor.clone();
            entry.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
            entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
            entry
        })
        .collect();
    if entries.is_empty() { vec![descriptor.clone()] } else { entries }
}
