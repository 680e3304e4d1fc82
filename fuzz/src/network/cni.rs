//! What the linked files need of `src/network/cni.rs`.
mod result;
mod version;

pub use result::AddResult;
pub use version::{Version, candidates};
