//! Volumes: create, list, inspect, remove, prune.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    pub fn create_volume(&self, name: Option<&str>, labels: &[(String, String)]) -> Result<record::Volume> { unimplemented!() }
    pub fn volumes(&self, filters: &Filters) -> Result<Vec<record::Volume>> { unimplemented!() }
    pub fn inspect_volume(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> { unimplemented!() }
    pub fn prune_volumes(&self, all: bool, filters: &Filters) -> Result<Pruned> { unimplemented!() }
}
