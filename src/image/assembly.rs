//! Indexes over images of this store, and what is attested of these: their bytes, and how they are pushed.
//!
//! Layout as BuildKit's (moby/buildkit docs/attestations/attestation-storage.md): the images first, then a manifest for what is
//! attested of each, for the platform `unknown/unknown`. Such a manifest names its image as its subject (image-spec
//! manifest.md), so that registries list it as a referrer of the image, too.

use super::artifact::{EMPTY, EMPTY_TYPE, attach};
use super::push::{self};
use super::reactor::Reactor;
use super::registry::Registry;
use super::{Error, Progress, PushOptions, Pushed, RegistryConfig, export};
use crate::base::{Cancel, Roots};
use crate::oci::{Descriptor, Digest, Index, Platform, PlatformSpec, Reference, media};
use crate::state::index::{Attestation, ImageIndex};
use crate::state::{Db, record};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What kind of artifact the manifest is that holds what is attested.
const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// in-toto attestation framework, v1.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// An index, and what belongs to it besides its images.
pub struct Assembled {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub attached: Vec<Attached>,
}

impl Assembled {
    /// Of the index.
    pub fn descriptor(&self) -> Descriptor {
        let size = self.bytes.len() as u64;
        let media_type = media::OCI_INDEX.to_owned();
        Descriptor { media_type, digest: self.digest.clone(), size, platform: None, annotations: BTreeMap::new() }
    }
}

/// The manifest of what is attested of one image, with the blobs that it names.
pub struct Attached {
    /// The image's manifest.
    pub subject: Digest,
    pub digest: Digest,
    pub manifest: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
}

fn broken(error: serde_json::Error) -> Error {
    Error::Start { what: "the index", source: Box::new(error) }
}

/// The index over the manifests of its members, in their order. `names`: what statements call the images.
///
/// # Errors
/// Nothing that can be helped: all is plain data.
pub fn assemble(index: &ImageIndex, manifests: &[Descriptor], names: &[Reference]) -> Result<Assembled, Error> {
    let (mut entries, mut attached) = (Vec::new(), Vec::new());
    for (member, manifest) in index.members.iter().zip(manifests) {
        let platform = spec(&member.platform);
        entries.push(Descriptor { platform: Some(platform), annotations: member.annotations.clone(), ..manifest.clone() });
        if !member.attestations.is_empty() {
            attached.push(attestations(&member.attestations, manifest, &subjects(names, &member.platform, &manifest.digest))?);
        }
    }
    entries.extend(attached.iter().map(|attached| {
        Descriptor {
            media_type: media::OCI_MANIFEST.to_owned(),
            digest: attached.digest.clone(),
            size: attached.manifest.len() as u64,
            platform: Some(PlatformSpec { architecture: "unknown".to_owned(), os: "unknown".to_owned(), ..PlatformSpec::default() }),
            annotations: [
                ("vnd.docker.reference.digest".to_owned(), attached.subject.to_string()),
                ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ]
            .into(),
        }
    }));
    let annotations = index.annotations.clone();
    let document = Index { schema_version: 2, media_type: Some(media::OCI_INDEX.to_owned()), manifests: entries, annotations };
    let bytes = serde_json::to_vec(&document).map_err(broken)?;
    Ok(Assembled { digest: Digest::of(&bytes), bytes, attached })
}

/// As an index entry names a platform.
fn spec(platform: &str) -> PlatformSpec {
    let parsed: Option<Platform> = platform.parse().ok();
    let Platform { os, arch, variant } = parsed.unwrap_or_else(Platform::host);
    PlatformSpec { architecture: arch, os, os_version: None, variant }
}

/// The image as statements name it: a package URL for each of its names.
fn subjects(names: &[Reference], platform: &str, digest: &Digest) -> Vec<Value> {
    let digests = json!({ digest.algorithm().as_str(): digest.hex() });
    let quoted = platform.replace('/', "%2F");
    let tagged = names.iter().filter_map(|name| Some((name.familiar_name(), name.tag()?)));
    let mut subjects: Vec<Value> =
        tagged.map(|(name, tag)| json!({ "name": format!("pkg:docker/{name}@{tag}?platform={quoted}"), "digest": digests })).collect();
    if subjects.is_empty() {
        // BuildKit's word for an image without a name.
        subjects.push(json!({ "name": "_", "digest": digests }));
    }
    subjects
}

fn attestations(list: &[Attestation], image: &Descriptor, subjects: &[Value]) -> Result<Attached, Error> {
    let mut blobs = vec![EMPTY.to_vec()];
    let mut layers = Vec::new();
    for attestation in list {
        let kind = &attestation.predicate_type;
        let statement = json!({ "_type": STATEMENT, "predicateType": kind, "subject": subjects, "predicate": attestation.predicate });
        let bytes = serde_json::to_vec(&statement).map_err(broken)?;
        layers.push(json!({
            "mediaType": IN_TOTO,
            "digest": Digest::of(&bytes),
            "size": bytes.len(),
            "annotations": { "in-toto.io/predicate-type": kind },
        }));
        blobs.push(bytes);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": ATTESTATION,
        "config": { "mediaType": EMPTY_TYPE, "digest": Digest::of(EMPTY), "size": EMPTY.len() },
        "layers": layers,
        "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.size },
    });
    let manifest = serde_json::to_vec(&manifest).map_err(broken)?;
    Ok(Attached { subject: image.digest.clone(), digest: Digest::of(&manifest), manifest, blobs })
}

/// The index as `save` writes it, and the manifests of its members.
///
/// # Errors
/// A member or one of its layers is gone.
pub fn saved(roots: &Roots, db: &Db, index: &ImageIndex, names: &[Reference]) -> Result<(Assembled, Vec<Descriptor>), Error> {
    let images = members(db, index)?;
    let manifests = images.iter().map(|image| export::descriptor(roots, db, image)).collect::<Result<Vec<_>, _>>()?;
    Ok((assemble(index, &manifests, names)?, manifests))
}

/// The images of an index, in its order.
///
/// # Errors
/// One is gone.
pub fn members(db: &Db, index: &ImageIndex) -> Result<Vec<record::Image>, Error> {
    index.members.iter().map(|member| db.image(&member.image)?.ok_or_else(|| Error::Vanished(member.image.clone()))).collect()
}

/// Pushes the images of an index, recorded or not, what is attested of them, and the index under the tag.
///
/// # Errors
/// As of [`super::push`].
pub fn push(
    roots: &Roots,
    db: &Db,
    config: &RegistryConfig,
    (index, images): (&ImageIndex, &[record::Image]),
    reference: &Reference,
    (options, cancel): (&PushOptions, &Cancel),
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pushed, Error> {
    let mut manifests = Vec::new();
    for image in images {
        // A reference without a tag: the manifest gets no name but its digest.
        let target = reference.with_digest(&image.id);
        let pushed = push::push(roots, db, config, image, &target, (options, cancel), progress)?;
        manifests.push(Descriptor {
            media_type: pushed.media_type,
            digest: pushed.digest,
            size: pushed.size,
            platform: None,
            annotations: BTreeMap::new(),
        });
    }
    let assembled = assemble(index, &manifests, std::slice::from_ref(reference))?;
    let registry = Registry::for_push(config, reference, &[])?;
    Reactor::start()?.wait(cancel, async {
        for attached in &assembled.attached {
            refer(&registry, attached).await?;
        }
        let name = reference.tag().filter(|_| !options.by_digest).unwrap_or(assembled.digest.as_str());
        registry.put_manifest(name, media::OCI_INDEX, &assembled.bytes).await
    })?;
    remember(db, reference, &manifests, &assembled.digest);
    Ok(Pushed { digest: assembled.digest, size: assembled.bytes.len() as u64, media_type: media::OCI_INDEX.to_owned() })
}

/// Pushes what is attested of an image that is there, and has the registry, or the tag in its stead, list it as a referrer.
async fn refer(registry: &Registry, attached: &Attached) -> Result<(), Error> {
    for blob in &attached.blobs {
        let digest = Digest::of(blob);
        if registry.has_blob(&digest).await?.is_none() {
            registry.push_bytes(&digest, Bytes::copy_from_slice(blob)).await?;
        }
    }
    let noted = registry.put_manifest(attached.digest.as_str(), media::OCI_MANIFEST, &attached.manifest).await?;
    if noted {
        return Ok(());
    }
    let entry = json!({ "mediaType": media::OCI_MANIFEST, "digest": attached.digest, "size": attached.manifest.len(), "artifactType": ATTESTATION });
    attach(registry, &attached.subject, entry).await
}

/// The name by the digest of the index leads where the tag does. The push has succeeded whether or not this is noted.
fn remember(db: &Db, reference: &Reference, manifests: &[Descriptor], digest: &Digest) {
    let by_digest = reference.with_digest(digest.as_str()).to_string();
    let written = db.write(false, |tx| {
        let Some(default) = db.image_named(&reference.to_string())? else { return Ok(()) };
        for manifest in manifests {
            let own = reference.with_digest(manifest.digest.as_str()).to_string();
            // What `images --digests` shows of it is what the tag names.
            if db.image_named(&own)?.as_deref() == Some(default.as_str()) {
                tx.delete_name(&own)?;
            }
        }
        tx.put_name(&by_digest, &default)
    });
    if let Err(error) = written {
        tracing::warn!("the index was pushed, but what was pushed could not be noted: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Document;
    use crate::state::index::IndexMember;

    #[test]
    fn what_is_attested_stands_beside_the_images() {
        let manifest = |text: &str| Descriptor {
            media_type: media::OCI_MANIFEST.to_owned(),
            digest: Digest::of(text.as_bytes()),
            size: text.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let attestation = Attestation { predicate_type: "https://spdx.dev/Document".to_owned(), predicate: json!({ "spdxVersion": "SPDX-2.3" }) };
        let member =
            |platform: &str, attestations: Vec<Attestation>| IndexMember { platform: platform.to_owned(), attestations, ..IndexMember::default() };
        let index = ImageIndex {
            version: 1,
            members: vec![member("linux/amd64", vec![attestation]), member("linux/arm/v7", Vec::new())],
            ..ImageIndex::default()
        };
        let manifests = [manifest("a"), manifest("bb")];
        let names = ["r.example/x:1".parse().unwrap()];
        let made = assemble(&index, &manifests, &names).unwrap();
        let Document::Index(read) = Document::parse(&made.bytes, Some(media::OCI_INDEX)).unwrap() else { panic!("no index") };
        assert_eq!(read.platforms(), ["linux/amd64", "linux/arm/v7"]);
        let entry = &read.manifests[2];
        let platform = entry.platform.as_ref().unwrap();
        assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("unknown", "unknown"));
        assert_eq!(entry.annotations["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(entry.annotations["vnd.docker.reference.digest"], manifests[0].digest.to_string());
        // No platform that anybody runs on takes it.
        for wanted in ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"] {
            let chosen = read.select(&wanted.parse().unwrap());
            assert!(chosen.is_none_or(|chosen| chosen.digest != entry.digest), "{wanted}");
        }
        let attached = &made.attached[0];
        let document: Value = serde_json::from_slice(&attached.manifest).unwrap();
        assert_eq!(document["subject"]["digest"], manifests[0].digest.to_string());
        assert_eq!(document["layers"][0]["mediaType"], IN_TOTO);
        let statement: Value = serde_json::from_slice(&attached.blobs[1]).unwrap();
        assert_eq!(statement["predicateType"], document["layers"][0]["annotations"]["in-toto.io/predicate-type"]);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], manifests[0].digest.hex());
        assert_eq!(statement["subject"][0]["name"], "pkg:docker/r.example/x@1?platform=linux%2Famd64");
        assert_eq!(document["layers"][0]["digest"], Digest::of(&attached.blobs[1]).to_string());
        let unnamed = assemble(&index, &manifests, &[]).unwrap();
        assert!(String::from_utf8_lossy(&unnamed.attached[0].blobs[1]).contains("\"name\":\"_\""));
    }
}
