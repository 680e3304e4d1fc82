//! Indexes (Docker: manifest lists) put together on this host out of manifests in registries.
//!
//! A list of Docker manifests alone becomes a Docker manifest list; with any OCI member it becomes an OCI index.

use super::push::{copy_blob, reactor};
use super::registry::{Mount, RawManifest, Referrers, Registry};
use super::{Error, Progress, Pushed, RegistryConfig, content};
use crate::base::Roots;
use crate::oci::{CONFIG_LIMIT, Descriptor, Digest, Document, INDEX_LIMIT, Manifest, Reference, media};
use crate::state::sources::{ListMember, ManifestList};
use serde_json::{Value, json};

/// A manifest or index of a registry, and what it is.
pub struct Remote {
    pub raw: RawManifest,
    pub document: Document,
    pub media_type: String,
}

/// Reads a manifest or index by what the reference names.
///
/// # Errors
/// The registry has none, or it is no manifest.
pub fn read(config: &RegistryConfig, reference: &Reference) -> Result<Remote, Error> {
    let registry = Registry::new(config, reference)?;
    reactor()?.block_on(fetch(&registry, reference))
}

async fn fetch(registry: &Registry, reference: &Reference) -> Result<Remote, Error> {
    let wanted = reference.digest().or(reference.tag()).unwrap_or_default();
    let raw = registry.manifest(wanted).await?;
    let parsed = Document::parse(&raw.bytes, raw.content_type.as_deref());
    let document = parsed.map_err(|source| Error::Manifest { reference: reference.familiar(), source })?;
    let (inside, default) = match &document {
        Document::Manifest(manifest) => (&manifest.media_type, media::OCI_MANIFEST),
        Document::Index(index) => (&index.media_type, media::OCI_INDEX),
    };
    let delivered = raw.content_type.clone().filter(|kind| media::is_manifest(kind) || media::is_index(kind));
    let media_type = inside.clone().or(delivered).unwrap_or_else(|| default.to_owned());
    Ok(Remote { raw, document, media_type })
}

/// Reads an image manifest and its config's platform, as a member of a list.
///
/// # Errors
/// It is itself a list, or cannot be read.
pub fn member(config: &RegistryConfig, reference: &Reference) -> Result<ListMember, Error> {
    let registry = Registry::new(config, reference)?;
    reactor()?.block_on(async {
        let remote = fetch(&registry, reference).await?;
        let Document::Manifest(manifest) = remote.document else {
            let message = format!("{} is itself a manifest list: name its members by digest", reference.familiar());
            return Err(Error::List { message, missing: false });
        };
        let platform = if media::is_image_config(&manifest.config.media_type) {
            let what = format!("the config of {}", reference.familiar());
            let config = registry.small_blob(&manifest.config, CONFIG_LIMIT, &what).await?;
            serde_json::from_slice(&config).map_err(|e| Error::Config { reference: reference.familiar(), why: e.to_string() })?
        } else {
            Value::Null
        };
        let text = |key: &str| platform.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let features = platform.get("os.features").and_then(Value::as_array).into_iter().flatten();
        let manifest = String::from_utf8(remote.raw.bytes).map_err(|_| {
            let message = format!("the manifest of {} is not UTF-8", reference.familiar());
            Error::List { message, missing: false }
        })?;
        Ok(ListMember {
            reference: reference.to_string(),
            media_type: remote.media_type,
            digest: remote.raw.digest.to_string(),
            manifest,
            os: text("os"),
            architecture: text("architecture"),
            variant: text("variant"),
            os_version: text("os.version"),
            os_features: features.filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    })
}

/// `platform` of an index entry (image-spec image-index.md); None if nothing is known.
pub fn platform(member: &ListMember) -> Option<Value> {
    if member.os.is_empty() && member.architecture.is_empty() {
        return None;
    }
    let mut platform = json!({ "architecture": member.architecture, "os": member.os });
    if !member.os_version.is_empty() {
        platform["os.version"] = json!(member.os_version);
    }
    if !member.os_features.is_empty() {
        platform["os.features"] = json!(member.os_features);
    }
    if !member.variant.is_empty() {
        platform["variant"] = json!(member.variant);
    }
    Some(platform)
}

/// The bytes of the index over these members, and its media type.
///
/// # Errors
/// It has too many members.
pub fn build(list: &ManifestList) -> Result<(Vec<u8>, &'static str), Error> {
    let wrong = |message: String| Error::List { message, missing: false };
    if list.members.len() > INDEX_LIMIT {
        return Err(wrong(format!("the list has {} members, more than the limit of {INDEX_LIMIT}", list.members.len())));
    }
    let docker = list.members.iter().all(|member| member.media_type == media::DOCKER_MANIFEST);
    let kind = if docker { media::DOCKER_LIST } else { media::OCI_INDEX };
    let entries = list.members.iter().map(|member| {
        let mut entry = json!({ "mediaType": member.media_type, "size": member.manifest.len(), "digest": member.digest });
        if let Some(platform) = platform(member) {
            entry["platform"] = platform;
        }
        entry
    });
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries.collect::<Vec<_>>() });
    Ok((serde_json::to_vec_pretty(&index).map_err(|e| wrong(e.to_string()))?, kind))
}

/// Pushes a list and whatever of its members its repository lacks.
///
/// # Errors
/// A member cannot be brought there, or the registry refuses it.
pub fn push(
    roots: &Roots,
    config: &RegistryConfig,
    list: &ManifestList,
    target: &Reference,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pushed, Error> {
    content::prepare(roots)?;
    let members = list.members.iter().map(|member| {
        let reference: Result<Reference, String> = member.reference.parse();
        reference.map(|reference| (member, reference)).map_err(|message| Error::List { message, missing: false })
    });
    let members = members.collect::<Result<Vec<_>, _>>()?;
    let here = members.iter().filter(|(_, reference)| reference.registry() == target.registry());
    let mut from: Vec<String> = here.map(|(_, reference)| reference.repository().to_owned()).collect();
    from.sort();
    from.dedup();
    let registry = Registry::for_push(config, target, &from)?;
    let (bytes, kind) = build(list)?;
    reactor()?.block_on(async {
        for (member, reference) in &members {
            if let Err(error) = bring(roots, config, &registry, target, member, reference, progress).await {
                registry.cancel_all().await;
                return Err(error);
            }
        }
        let digest = Digest::of(&bytes);
        registry.put_manifest(target.tag().unwrap_or(digest.as_str()), kind, &bytes).await?;
        Ok(Pushed { digest, size: bytes.len() as u64, media_type: kind.to_owned() })
    })
}

/// Sees to it that the repository of the list has one member with all its blobs.
async fn bring(
    roots: &Roots,
    config: &RegistryConfig,
    registry: &Registry,
    target: &Reference,
    member: &ListMember,
    reference: &Reference,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    if registry.has_manifest(&member.digest).await? {
        return Ok(());
    }
    let damaged = |why: String| Error::Config { reference: reference.familiar(), why };
    let manifest: Manifest = serde_json::from_str(&member.manifest).map_err(|e| damaged(e.to_string()))?;
    let source = Registry::new(config, reference)?;
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        // Layers that live outside of registries stay there (image-spec layer.md, "Non-Distributable Layers").
        if is_foreign(blob) || registry.has_blob(&blob.digest).await?.is_some() {
            continue;
        }
        let mut session = None;
        if reference.registry() == target.registry() {
            match registry.mount(&blob.digest, reference.repository()).await? {
                Mount::Mounted => continue,
                Mount::Refused(open) => session = open,
            }
        }
        copy_blob(roots, registry, &source, blob, session, progress).await?;
    }
    registry.put_manifest(&member.digest, &member.media_type, member.manifest.as_bytes()).await.map(drop)
}

fn is_foreign(blob: &Descriptor) -> bool {
    blob.media_type.contains(".foreign.") || blob.media_type.contains(".nondistributable.")
}

/// The manifests that have this one as their subject.
///
/// # Errors
/// The registry cannot be asked.
pub fn referrers(config: &RegistryConfig, reference: &Reference, artifact_type: Option<&str>) -> Result<Referrers, Error> {
    let registry = Registry::new(config, reference)?;
    reactor()?.block_on(async {
        let digest = match reference.digest() {
            Some(digest) => digest.parse().map_err(|_| Error::NotFound { reference: reference.familiar() })?,
            None => fetch(&registry, reference).await?.raw.digest,
        };
        registry.referrers(&digest, artifact_type).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: &str, architecture: &str) -> ListMember {
        ListMember {
            reference: "r.example/a:1".to_owned(),
            media_type: kind.to_owned(),
            digest: Digest::of(b"{}").to_string(),
            manifest: "{}".to_owned(),
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..ListMember::default()
        }
    }

    #[test]
    fn the_members_decide_the_kind() {
        for (kinds, expected) in [
            (vec![media::DOCKER_MANIFEST, media::DOCKER_MANIFEST], media::DOCKER_LIST),
            (vec![media::DOCKER_MANIFEST, media::OCI_MANIFEST], media::OCI_INDEX),
            (vec![media::OCI_MANIFEST], media::OCI_INDEX),
        ] {
            let members = kinds.iter().map(|kind| member(kind, "arm64")).collect();
            let (bytes, kind) = build(&ManifestList { version: 1, members }).unwrap();
            let Document::Index(index) = Document::parse(&bytes, Some(kind)).unwrap() else { panic!("no index") };
            assert_eq!((kind, index.manifests.len(), index.platforms()[0].as_str()), (expected, kinds.len(), "linux/arm64"));
        }
        let annotated = ListMember { os_version: "1".into(), os_features: vec!["f".into()], variant: "v8".into(), ..member("x", "arm64") };
        let expected = json!({"architecture": "arm64", "os": "linux", "os.version": "1", "os.features": ["f"], "variant": "v8"});
        assert_eq!(platform(&annotated), Some(expected));
        assert_eq!(platform(&ListMember::default()), None);
    }
}
