//! Saving images as one tar that is an OCI layout and a docker-archive at once.
//!
//! The same images give the same bytes: files are sorted and carry no time. The manifest is the one the image
//! came with as long as its blobs are here, so that its digest survives.

use super::{Error, content};
use crate::base::Roots;
use crate::base::fs::Context;
use crate::oci::{Descriptor, Digest, ImageDocument, Index, Manifest, Platform, PlatformSpec, Reference, media};
use crate::state::{Db, record};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// A file of the layout.
enum Blob {
    Bytes(Vec<u8>),
    /// A layer of the content store with its size.
    Stored(u64),
}

/// One entry of docker's `manifest.json`.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

pub fn save(roots: &Roots, db: &Db, images: &[(Vec<Reference>, record::Image)], out: &mut dyn Write) -> Result<(), Error> {
    let in_use = content::in_use(roots)?;
    let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
    let mut entries: Vec<Descriptor> = Vec::new();
    let mut docker = Vec::new();
    for (names, image) in images {
        let (descriptor, manifest) = describe(roots, db, image, &mut blobs)?;
        entries.extend(named_entries(&descriptor, names));
        let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
        docker.push(DockerImage {
            config: path(&manifest.config.digest),
            repo_tags: names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect(),
            layers: manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
        });
    }
    let index = Index { schema_version: 2, media_type: Some(media::OCI_INDEX.to_owned()), manifests: entries, annotations: BTreeMap::new() };
    let mut tar = tar::Builder::new(out);
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, directory, tar::EntryType::Directory, 0, &mut std::io::empty())?;
    }
    for (digest, blob) in &blobs {
        let name = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
        match blob {
            Blob::Bytes(bytes) => append(&mut tar, &name, tar::EntryType::Regular, bytes.len() as u64, &mut bytes.as_slice())?,
            Blob::Stored(size) => {
                let path = content::blob_path(roots, digest);
                let file = std::fs::File::open(&path).on("open", &path)?;
                append(&mut tar, &name, tar::EntryType::Regular, *size, &mut file.take(*size))?;
            }
        }
    }
    for (name, bytes) in
        [("index.json", json(&index)?), ("manifest.json", json(&docker)?), ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]
    {
        append(&mut tar, name, tar::EntryType::Regular, bytes.len() as u64, &mut bytes.as_slice())?;
    }
    tar.into_inner().and_then(|out| out.flush()).map_err(Error::ArchiveWrite)?;
    drop(in_use);
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::ArchiveWrite(e.into()))
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, kind: tar::EntryType, size: u64, data: &mut dyn Read) -> Result<(), Error> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(Error::ArchiveWrite)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    tar.append(&header, data).map_err(Error::ArchiveWrite)
}

/// The manifest of an image: its own if all blobs are here, else one over the blobs that are.
fn describe(roots: &Roots, db: &Db, image: &record::Image, blobs: &mut BTreeMap<Digest, Blob>) -> Result<(Descriptor, Manifest), Error> {
    let corrupt = |why: String| Error::Config { reference: image.id.clone(), why };
    let stored = |layer: &Descriptor| std::fs::metadata(content::blob_path(roots, &layer.digest)).is_ok_and(|m| m.len() == layer.size);
    let original = image.manifest.as_ref().and_then(|bytes| {
        let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
        manifest.layers.iter().all(stored).then_some((bytes.clone(), manifest))
    });
    let (bytes, manifest, kind) = match original {
        Some((bytes, manifest)) => (bytes, manifest, image.manifest_type.clone().unwrap_or_else(|| media::OCI_MANIFEST.to_owned())),
        None => {
            let manifest = assemble(db, image)?;
            if let Some(lost) = manifest.layers.iter().find(|layer| !stored(layer)) {
                return Err(Error::BlobMissing { image: image.id.clone(), layer: lost.digest.to_string() });
            }
            (json(&manifest)?, manifest, media::OCI_MANIFEST.to_owned())
        }
    };
    blobs.insert(manifest.config.digest.clone(), Blob::Bytes(image.config.clone()));
    for layer in &manifest.layers {
        blobs.insert(layer.digest.clone(), Blob::Stored(layer.size));
    }
    let document: ImageDocument = serde_json::from_slice(&image.config).map_err(|e| corrupt(e.to_string()))?;
    let platform = Platform::normalised(&document.os, &document.architecture, document.variant.as_deref());
    let platform = PlatformSpec { architecture: platform.arch, os: platform.os, os_version: None, variant: platform.variant };
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    blobs.insert(digest.clone(), Blob::Bytes(bytes));
    Ok((Descriptor { media_type: kind, digest, size, platform: Some(platform), annotations: BTreeMap::new() }, manifest))
}

/// An OCI manifest over the blobs of the layer records.
fn assemble(db: &Db, image: &record::Image) -> Result<Manifest, Error> {
    let corrupt = |why: String| Error::Config { reference: image.id.clone(), why };
    let descriptor = |media_type: &str, digest: &str, size: u64| -> Result<Descriptor, Error> {
        let digest = digest.parse::<Digest>().map_err(|e| corrupt(e.to_string()))?;
        Ok(Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() })
    };
    let mut layers = Vec::new();
    for row in db.layers(&image.layers)? {
        let blob = row.blob.as_deref().ok_or_else(|| Error::BlobMissing { image: image.id.clone(), layer: row.diff_id.clone() })?;
        // An OCI manifest names OCI types; what the blob is does not change.
        let kind = match media::layer(&row.media_type) {
            Ok(media::Compression::Gzip) => media::OCI_LAYER_GZIP,
            Ok(media::Compression::Zstd) => media::OCI_LAYER_ZSTD,
            Ok(media::Compression::None) | Err(_) => media::OCI_LAYER,
        };
        layers.push(descriptor(kind, blob, row.blob_size)?);
    }
    let config = descriptor(media::OCI_CONFIG, &image.id, image.config.len() as u64)?;
    Ok(Manifest { schema_version: 2, media_type: Some(media::OCI_MANIFEST.to_owned()), config, layers, annotations: BTreeMap::new() })
}

/// One index entry a name, or one without a name.
fn named_entries(descriptor: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
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
