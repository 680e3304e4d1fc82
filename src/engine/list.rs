//! `ps`: listing and filtering, and `container prune` that uses it.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    /// Newest first; filters of cli.md `ps filters` (T1). `all`: also those not running.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<View>> { unimplemented!() }
    pub fn prune_containers(&self, filters: &Filters) -> Result<Pruned> { unimplemented!() }
}
