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
//! - Our own `Reference` instead of a crate's: Docker's normalisation (`localhost`, the `library/` prefix,
//!   upper-case refusal with a clear sentence) is what users see in every command.

mod digest;
mod document;
mod exposed;
mod manifest;
pub mod media;
mod platform;
mod reference;
pub mod whiteout;

pub use digest::{Algorithm, Digest, DigestHasher, chain_ids};
pub use document::{ImageDefaults, ImageDocument};
pub use exposed::exposed_ports;
pub use manifest::{CONFIG_LIMIT, Descriptor, Document, INDEX_LIMIT, Index, LAYER_LIMIT, MANIFEST_LIMIT, Manifest, ManifestError, PlatformSpec};
pub use platform::Platform;
pub use reference::Reference;
