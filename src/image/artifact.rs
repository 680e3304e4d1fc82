//! Artifacts: files in a registry under a manifest that is no image (image-spec manifest.md, "Guidelines for Artifact
//! Usage"), with a subject or without.
//!
//! A file's name comes from an annotation that anybody may write, so it is taken only if it is one plain component.

use super::push::reactor;
use super::registry::{Fetched, Grown, Outgoing, Registry, fallback_tag};
use super::{Error, Progress, Pushed, RegistryConfig};
use crate::base::fs::{Context, FsError};
use crate::oci::{Descriptor, Digest, DigestHasher, Document, LAYER_LIMIT, Reference, media};
use bytes::Bytes;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The config of an artifact that needs none (image-spec manifest.md, "Guidance for an Empty Descriptor").
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub const EMPTY: &[u8] = b"{}";
/// Names a file of an artifact.
const TITLE: &str = "org.opencontainers.image.title";
/// Most bytes of a file name.
const NAME_LIMIT: usize = 255;
/// Network pieces waiting to be written.
const QUEUE: usize = 32;

/// What is to be pushed.
pub struct Artifact<'a> {
    pub artifact_type: &'a str,
    /// Media type of the files.
    pub file_type: &'a str,
    pub files: &'a [PathBuf],
    pub annotations: &'a [(String, String)],
    /// Tag or digest, in the same repository, of what this is about.
    pub subject: Option<&'a Reference>,
}

/// Pushes files as an artifact under a tag, or by digest alone if `tagged` is false.
///
/// # Errors
/// A file cannot be read, the subject is not there, or the registry refuses something.
pub fn push(
    config: &RegistryConfig,
    target: &Reference,
    tagged: bool,
    artifact: &Artifact<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pushed, Error> {
    let files = artifact.files.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let registry = Registry::for_push(config, target, &[])?;
    reactor()?.block_on(async {
        let subject = match artifact.subject {
            Some(subject) => {
                let raw = registry.manifest(subject.digest().or(subject.tag()).unwrap_or_default()).await?;
                let kind = raw.content_type.clone().unwrap_or_else(|| media::OCI_MANIFEST.to_owned());
                Some((json!({ "mediaType": kind, "digest": raw.digest, "size": raw.bytes.len() }), raw.digest))
            }
            None => None,
        };
        let empty = Digest::of(EMPTY);
        if registry.has_blob(&empty).await?.is_none() {
            registry.push_bytes(&empty, Bytes::from_static(EMPTY)).await?;
        }
        let mut layers = Vec::new();
        for (name, file, size, digest) in files {
            send(&registry, file, size, &digest, progress).await?;
            layers.push(json!({ "mediaType": artifact.file_type, "digest": digest, "size": size, "annotations": { TITLE: name } }));
        }
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "artifactType": artifact.artifact_type,
            "config": { "mediaType": EMPTY_TYPE, "digest": empty, "size": EMPTY.len() },
            "layers": layers,
        });
        if let Some((descriptor, _)) = &subject {
            manifest["subject"] = descriptor.clone();
        }
        let annotations: serde_json::Map<String, Value> = artifact.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        if !annotations.is_empty() {
            manifest["annotations"] = Value::Object(annotations.clone());
        }
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::Start { what: "the manifest", source: Box::new(e) })?;
        let digest = Digest::of(&bytes);
        let name = target.tag().filter(|_| tagged).unwrap_or(digest.as_str());
        let noted = registry.put_manifest(name, media::OCI_MANIFEST, &bytes).await?;
        if let Some((_, subject)) = subject.filter(|_| !noted) {
            let mut entry = json!({
                "mediaType": media::OCI_MANIFEST,
                "digest": digest,
                "size": bytes.len(),
                "artifactType": artifact.artifact_type,
            });
            if !annotations.is_empty() {
                entry["annotations"] = Value::Object(annotations);
            }
            attach(&registry, &subject, entry).await?;
        }
        Ok(Pushed { digest, size: bytes.len() as u64, media_type: media::OCI_MANIFEST.to_owned() })
    })
}

/// Adds an entry to the tag that stands in for the referrers API (distribution-spec, "Pushing Manifests with Subject").
///
/// # Errors
/// The registry cannot be asked, or refuses the list.
pub async fn attach(registry: &Registry, subject: &Digest, entry: Value) -> Result<(), Error> {
    let known = registry.referrers(subject, None).await?;
    if known.by_registry {
        return Ok(());
    }
    let mut entries = known.manifests;
    entries.retain(|old| old.get("digest") != entry.get("digest"));
    entries.push(entry);
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries });
    let bytes = serde_json::to_vec(&index).map_err(|e| Error::Start { what: "the list of referrers", source: Box::new(e) })?;
    registry.put_manifest(&fallback_tag(subject), media::OCI_INDEX, &bytes).await.map(drop)
}

async fn send(registry: &Registry, file: File, size: u64, digest: &Digest, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Error> {
    let id = digest.short().to_owned();
    if registry.has_blob(digest).await?.is_some() {
        progress(Progress::Present { id });
        return Ok(());
    }
    let (sender, grown) = watch::channel(Grown::Complete(size, digest.clone()));
    let sent = registry.push_file(&id, &Outgoing { file: Arc::new(file), grown }, None, progress).await;
    drop(sender);
    sent?;
    progress(Progress::Pushed { id });
    Ok(())
}

/// A file with its name, size and digest.
fn open(path: &Path) -> Result<(String, File, u64, Digest), Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !is_plain(&name) {
        let message = format!("cannot push \"{}\": its name must be letters, digits, '.', '_', '-' and '+'", path.display());
        return Err(Error::List { message, missing: false });
    }
    let file = File::open(path).on("open", path)?;
    let (digest, size) = Digest::of_stream(crate::oci::Algorithm::Sha256, &file).on("read", path)?;
    Ok((name, file, size, digest))
}

/// One component of harmless characters (CVE-2025-62725: a title that left the directory).
fn is_plain(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    !name.is_empty() && name.len() <= NAME_LIMIT && !matches!(name, "." | "..") && name.bytes().all(fine)
}

/// Writes the files of an artifact into a directory and returns its digest and their paths.
///
/// # Errors
/// It is an image, a name is refused, or a file does not verify or cannot be written.
pub fn pull(config: &RegistryConfig, reference: &Reference, directory: &Path) -> Result<(Digest, Vec<PathBuf>), Error> {
    let registry = Registry::new(config, reference)?;
    let refuse = |why: String| Error::Unsupported { reference: reference.familiar(), why };
    reactor()?.block_on(async {
        let raw = registry.manifest(reference.digest().or(reference.tag()).unwrap_or_default()).await?;
        let parsed = Document::parse(&raw.bytes, raw.content_type.as_deref());
        let Document::Manifest(manifest) = parsed.map_err(|source| Error::Manifest { reference: reference.familiar(), source })? else {
            return Err(refuse("it is an index, not an artifact".to_owned()));
        };
        if matches!(manifest.config.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG) {
            return Err(refuse("it is a container image, not an artifact: use rcon pull".to_owned()));
        }
        let mut names: Vec<(String, Descriptor)> = Vec::new();
        for layer in manifest.layers.into_iter().take(LAYER_LIMIT) {
            let name = layer.annotations.get(TITLE).cloned().unwrap_or_else(|| layer.digest.hex().to_owned());
            if !is_plain(&name) {
                return Err(refuse(format!("it names a file \"{}\", which is not a plain file name", name.escape_default())));
            }
            if names.iter().any(|(known, _)| *known == name) {
                return Err(refuse(format!("it names the file \"{name}\" twice")));
            }
            names.push((name, layer));
        }
        std::fs::create_dir_all(directory).on("create", directory)?;
        let mut written = Vec::new();
        for (name, layer) in names {
            let path = directory.join(&name);
            fetch(&registry, &layer, &path).await?;
            written.push(path);
        }
        Ok((raw.digest, written))
    })
}

/// Writes one verified blob to a path, all of it or nothing.
async fn fetch(registry: &Registry, blob: &Descriptor, path: &Path) -> Result<(), Error> {
    let temporary = path.with_file_name(format!(".rcon-{}.tmp", crate::base::random_hex(8)));
    let outcome = fetch_into(registry, blob, &temporary).await;
    let outcome = outcome.and_then(|()| std::fs::rename(&temporary, path).on("move into place", path).map_err(Error::from));
    if outcome.is_err() {
        // The name is ours alone; the failure itself is what must be told.
        drop(std::fs::remove_file(&temporary));
    }
    outcome
}

async fn fetch_into(registry: &Registry, blob: &Descriptor, path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).on("create", path)?;
    let (to, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let quiet = |_: Progress| {};
    let read = async {
        let fetched = registry.blob(blob, 0, &to, &quiet).await;
        drop(to);
        fetched
    };
    let write = async {
        let mut hasher = DigestHasher::new(blob.digest.algorithm());
        let mut size = 0;
        while let Some(piece) = pieces.recv().await {
            (&file).write_all(&piece).on("write", path)?;
            hasher.update(&piece);
            size += piece.len() as u64;
            if size > blob.size {
                break;
            }
        }
        pieces.close();
        Ok::<_, FsError>((size, hasher.finish()))
    };
    let (fetched, written) = futures_util::future::join(read, write).await;
    let (size, actual) = written?;
    let what = || format!("file {}", blob.digest.short());
    if fetched? != Fetched::Complete || size != blob.size {
        return Err(Error::Size { what: what(), expected: blob.size, actual: size });
    }
    if actual != blob.digest {
        return Err(Error::Digest { what: what(), expected: blob.digest.clone(), actual });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_stay_in_the_directory() {
        for bad in ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b", "a\nb", "ä", &"x".repeat(256)] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert!(is_plain("sbom.spdx.json") && is_plain(".hidden") && is_plain("a+b_c-1"));
    }
}
