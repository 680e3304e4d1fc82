//! # oci
//! ## Lives here
//! The types of the OCI image and distribution specs and Docker's reference grammar: `Digest`, `Reference`,
//! `Platform`, descriptors, manifests, indexes, image configs; whiteout names. The OCI *runtime* config is
//! the `oci-spec` crate's.
//! ## Invariants
//! Every value is validated by its parser; a digest is over the raw bytes received, which are kept.
//! ## Not here
//! I/O.
//! ## Decisions
//! - `oci-spec` for the runtime config (complete, maintained); our own structs for image documents, because
//!   Docker's extensions (Healthcheck, OnBuild, Shell) and absent-versus-empty must survive a round trip.

use std::fmt;
use std::str::FromStr;

/// STUB: the owner makes it a full implementation in `src/oci/reference.rs`.
/// A normalised image reference: `docker.io/library/busybox:latest`, `…@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference(String);

impl Reference {
    /// `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        unimplemented!()
    }
    /// `library/busybox`.
    pub fn repository(&self) -> &str {
        unimplemented!()
    }
    pub fn tag(&self) -> Option<&str> {
        unimplemented!()
    }
    pub fn digest(&self) -> Option<&str> {
        unimplemented!()
    }
    /// As Docker shows it: `busybox:latest`, `localhost:5000/a:b`.
    pub fn familiar(&self) -> String {
        unimplemented!()
    }
    /// Familiar name without tag or digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        unimplemented!()
    }
    /// The same repository by digest.
    pub fn with_digest(&self, _digest: &str) -> Reference {
        unimplemented!()
    }
}

impl FromStr for Reference {
    type Err = String;
    fn from_str(_text: &str) -> Result<Self, String> {
        unimplemented!()
    }
}

/// The full normalised form.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `os/arch[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub arch: String,
    pub variant: Option<String>,
}

impl Platform {
    pub fn host() -> Self {
        unimplemented!()
    }
}

/// The image config document (Docker's extensions included). Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ImageDocument {
    pub created: Option<String>,
    pub author: Option<String>,
    pub architecture: String,
    pub os: String,
    pub variant: Option<String>,
    pub config: Option<ImageDefaults>,
    pub rootfs: RootFs,
    pub history: Vec<History>,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct History {
    pub created: Option<String>,
    pub created_by: Option<String>,
    pub comment: Option<String>,
    pub empty_layer: bool,
}

/// What an image says about its containers (`config` of the image document).
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDefaults {
    pub user: Option<String>,
    pub exposed_ports: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub volumes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    pub working_dir: Option<String>,
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    pub stop_signal: Option<String>,
    pub healthcheck: Option<serde_json::Value>,
    pub on_build: Option<Vec<String>>,
    pub shell: Option<Vec<String>>,
}
