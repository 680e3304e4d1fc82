//! Docker-compatible `inspect` documents.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    /// Docker-compatible document.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<serde_json::Value> { unimplemented!() }
    /// Inspect whatever has that name: container, image, volume, network.
    pub fn inspect_any(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
}
