//! Descriptors, manifests and indexes (OCI and Docker schema 2), read from raw bytes.
//!
//! A document is taken only when it is unambiguous: a body with both `layers` and `manifests` could be read as
//! two different images under one digest (CVE-2021-41190) and is refused, as is a `mediaType` that contradicts
//! the type the bytes were delivered under.

use super::{Digest, Platform, media};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of a manifest or index (registries refuse larger ones too).
pub const MANIFEST_LIMIT: usize = 4 << 20;
/// Most bytes of an image config.
pub const CONFIG_LIMIT: usize = 8 << 20;
/// Most layers: the kernel's limit of overlay lower directories.
pub const LAYER_LIMIT: usize = 500;
/// Most entries of an index.
pub const INDEX_LIMIT: usize = 10_000;

/// Why bytes are not a manifest or index rcon takes.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the document has {size} bytes, more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the document is not valid JSON of its kind")]
    Json(#[source] serde_json::Error),
    #[error("the document has both layers and manifests, so it is ambiguous")]
    Ambiguous,
    #[error("the document says media type \"{inside}\" but was delivered as \"{outside}\"")]
    MediaType { inside: String, outside: String },
    #[error("the image is in Docker's schema 1 format, which is obsolete and not supported: push it again with a current builder")]
    Schema1,
    #[error("media type \"{0}\" is not an image manifest or index")]
    Unsupported(String),
    #[error("the document has {count} {what}, more than the limit of {limit}")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("the document has schemaVersion {0}, not 2")]
    Version(u64),
}

/// A reference to content by digest (image-spec descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformSpec>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `platform` of an index entry, as written there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlatformSpec {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl PlatformSpec {
    /// The normalised platform.
    pub fn platform(&self) -> Platform {
        Platform::normalised(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// An image manifest: one config and its layers, base first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index (Docker: manifest list).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What raw bytes turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Only what decides the kind of a body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or index. `delivered` is the Content-Type or the descriptor's media type, if known.
    ///
    /// # Errors
    /// Why the bytes are not taken.
    pub fn parse(bytes: &[u8], delivered: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_LIMIT {
            return Err(ManifestError::TooLarge { size: bytes.len(), limit: MANIFEST_LIMIT });
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() || delivered.is_some_and(media::is_schema1) {
            return Err(ManifestError::Schema1);
        }
        if let Some(version) = shape.schema_version.filter(|v| *v != 2) {
            return Err(ManifestError::Version(version));
        }
        let as_manifest = shape.layers.is_some() || shape.config.is_some();
        if as_manifest && shape.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        // Some servers deliver every manifest as plain JSON or bytes; such a type says nothing.
        let delivered = delivered.map(|t| t.split(';').next().unwrap_or(t).trim());
        let delivered = delivered.filter(|t| !matches!(*t, "" | "application/json" | "application/octet-stream" | "text/plain"));
        let inside = shape.media_type.as_deref().filter(|t| !t.is_empty());
        if let (Some(inside), Some(outside)) = (inside, delivered)
            && inside != outside
        {
            return Err(ManifestError::MediaType { inside: inside.to_owned(), outside: outside.to_owned() });
        }
        let is_index = match inside.or(delivered) {
            Some(kind) if media::is_index(kind) => true,
            Some(kind) if media::is_manifest(kind) => false,
            Some(other) => return Err(ManifestError::Unsupported(other.escape_default().to_string())),
            // The OCI spec of 1.0 did not ask for a mediaType; the shape is unambiguous by now.
            None => shape.manifests.is_some(),
        };
        if is_index { Self::index(bytes) } else { Self::manifest(bytes) }
    }

    fn index(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let count = index.manifests.len();
        if count > INDEX_LIMIT {
            return Err(ManifestError::TooMany { what: "manifests", count, limit: INDEX_LIMIT });
        }
        Ok(Document::Index(index))
    }

    fn manifest(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let count = manifest.layers.len();
        if count > LAYER_LIMIT {
            return Err(ManifestError::TooMany { what: "layers", count, limit: LAYER_LIMIT });
        }
        Ok(Document::Manifest(manifest))
    }
}

impl Index {
    /// The entry that suits the platform best. An entry without a platform is taken only if there is no other.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let ranked = self.manifests.iter().filter_map(|entry| {
            if !entry.media_type.is_empty() && !media::is_index(&entry.media_type) && !media::is_manifest(&entry.media_type) {
                return None;
            }
            let spec = entry.platform.as_ref()?;
            platform.rank(&spec.platform()).map(|rank| (rank, entry))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
        best.or_else(|| match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        })
    }

    /// The platforms on offer, for an error sentence.
    pub fn platforms(&self) -> Vec<String> {
        let specs = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        specs.filter(|spec| spec.os != "unknown").map(|spec| spec.platform().to_string()).collect()
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(extra: &str) -> String {
        format!(r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{}","digest":"{D}","size":1}},"layers":[]}}"#, media::OCI_CONFIG)
    }

    #[test]
    fn ambiguous_and_contradicting_bodies_are_refused() {
        let both = r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#;
        assert!(matches!(Document::parse(both.as_bytes(), None), Err(ManifestError::Ambiguous)));
        let typed = manifest(&format!(r#""mediaType":"{}","#, media::OCI_MANIFEST));
        assert!(matches!(Document::parse(typed.as_bytes(), Some(media::OCI_INDEX)), Err(ManifestError::MediaType { .. })));
        assert!(Document::parse(typed.as_bytes(), Some(media::OCI_MANIFEST)).is_ok());
        let untyped = manifest("");
        assert!(matches!(Document::parse(untyped.as_bytes(), Some(media::OCI_INDEX)), Err(ManifestError::Json(_))));
        assert!(matches!(Document::parse(untyped.as_bytes(), None), Ok(Document::Manifest(_))));
        assert!(matches!(Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, None), Err(ManifestError::Schema1)));
        assert!(matches!(Document::parse(untyped.as_bytes(), Some("application/vnd.x")), Err(ManifestError::Unsupported(_))));
        let bad = untyped.replace(D, "sha256:../../x");
        assert!(matches!(Document::parse(bad.as_bytes(), None), Err(ManifestError::Json(_))));
    }

    #[test]
    fn selects_by_platform() {
        let entry = |os: &str, arch: &str, variant: Option<&str>, size: u64| Descriptor {
            media_type: media::OCI_MANIFEST.to_owned(),
            digest: D.parse().unwrap(),
            size,
            platform: Some(PlatformSpec { os: os.to_owned(), architecture: arch.to_owned(), variant: variant.map(str::to_owned), os_version: None }),
            annotations: BTreeMap::new(),
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            manifests: vec![
                entry("linux", "arm", Some("v5"), 1),
                entry("linux", "arm", Some("v7"), 2),
                entry("linux", "amd64", None, 3),
                entry("linux", "arm64", Some("v8"), 4),
                entry("unknown", "unknown", None, 5),
            ],
            annotations: BTreeMap::new(),
        };
        for (wanted, size) in
            [("linux/amd64", Some(3)), ("linux/arm64", Some(4)), ("linux/arm/v7", Some(2)), ("linux/arm/v6", Some(1)), ("linux/s390x", None)]
        {
            let platform: Platform = wanted.parse().unwrap();
            assert_eq!(index.select(&platform).map(|d| d.size), size, "{wanted}");
        }
        assert_eq!(index.platforms().len(), 4);
    }
}
