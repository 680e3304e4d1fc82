//! `cp`: tar streams in and out of a container, and Docker's path rules around them.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    /// Copies out of a container: a tar stream of `path` (like `docker cp C:path -`). `follow`: a final symlink is resolved.
    pub fn copy_out(&self, name: &str, path: &[u8], follow: bool, out: &mut dyn Write) -> Result<()> { unimplemented!() }
    /// Copies a tar stream into directory `path` of a container.
    pub fn copy_in(&self, name: &str, path: &[u8], archive: &mut dyn Read, keep_ids: bool) -> Result<()> { unimplemented!() }
    /// `cp` with Docker's path rules between host and container.
    pub fn copy(&self, from: CopyPath<'_>, to: CopyPath<'_>, keep_ids: bool, follow: bool) -> Result<()> { unimplemented!() }
}
