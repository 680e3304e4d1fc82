//! Images: pull, load, save, list, tag, remove, prune, inspect.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    pub fn pull(&self, reference: &str, platform: Option<&str>, progress: &(dyn Fn(Progress) + Sync)) -> Result<crate::image::Pulled> { unimplemented!() }
    pub fn load(&self, archive: &mut (dyn Read + Send), progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<String>> { unimplemented!() }
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()> { unimplemented!() }
    pub fn images(&self, filters: &Filters) -> Result<Vec<ImageView>> { unimplemented!() }
    pub fn image(&self, name: &str) -> Result<ImageView> { unimplemented!() }
    pub fn inspect_image(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
    pub fn tag(&self, source: &str, target: &str) -> Result<()> { unimplemented!() }
    pub fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> { unimplemented!() }
    pub fn prune_images(&self, all: bool, filters: &Filters) -> Result<Pruned> { unimplemented!() }
}
