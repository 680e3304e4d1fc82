//! Files that tell what came out: `--iidfile` and `--metadata-file`.
//!
//! Invariant: what can be known to be impossible is told before the first step. Of a build that has failed there is no id: one of an
//! earlier build goes before the first step too, as with docker.

use crate::base::Staged;
use crate::build::{Built, Output};
use crate::cli::failure::{Failure, USAGE};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::path::Path;

/// A file that a flag has named.
#[derive(Debug, Clone, Copy)]
pub struct ResultFile<'a> {
    flag: &'static str,
    what: &'static str,
    path: &'a Path,
}

impl<'a> ResultFile<'a> {
    /// Without a name there is none, as with docker.
    fn new(flag: &'static str, what: &'static str, path: Option<&'a Path>) -> Option<Self> {
        path.filter(|path| !path.as_os_str().is_empty()).map(|path| ResultFile { flag, what, path })
    }

    pub fn id(path: Option<&'a Path>) -> Option<Self> {
        Self::new("--iidfile", "image ID", path)
    }

    pub fn metadata(path: Option<&'a Path>) -> Option<Self> {
        Self::new("--metadata-file", "metadata", path)
    }

    fn failed(&self, error: &dyn std::error::Error) -> Failure {
        let failure = Failure::caused(format!("cannot write the {} file {}", self.what, self.path.display()), error);
        failure.with_hint(format!("name a file in a directory that can be written to with {}", self.flag)).with_code(USAGE)
    }

    /// A pipe or a device, which is written to and not replaced.
    fn is_node(&self) -> bool {
        std::fs::metadata(self.path).is_ok_and(|meta| !meta.is_file())
    }

    /// Whether it can be written, found out without a trace. `outputs`: what the build itself may make a directory for it with.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self, outputs: &[Output]) -> Result<(), Failure> {
        // A path that ends with a slash is a directory's, also of one that is not there.
        if self.path.is_dir() || self.path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(self.failed(&std::io::Error::from(Errno::ISDIR)));
        }
        if self.is_node() {
            return accessat(CWD, self.path, Access::WRITE_OK, AtFlags::EACCESS).map_err(|errno| self.failed(&std::io::Error::from(errno)));
        }
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists());
        if parent.is_some_and(|parent| outputs.iter().filter_map(Output::directory).any(|made| parent.starts_with(made))) {
            return Ok(());
        }
        // A file without a name, in the place where the one is made that takes this name.
        Staged::new(self.path).map(drop).map_err(|error| self.failed(&error))
    }

    /// Removes what an earlier build has left there.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn forget(&self) -> Result<(), Failure> {
        if self.is_node() {
            return Ok(());
        }
        crate::base::fs::remove_file(self.path).map_err(|error| self.failed(&error))
    }

    /// Writes a file that is whole or not there. A link is replaced and not followed, for it may be the context's; pipes and devices
    /// are written to.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        if self.is_node() {
            return std::fs::write(self.path, text).map_err(|e| self.failed(&e));
        }
        crate::base::fs::replace(self.path, text.as_bytes(), 0o644).map_err(|e| self.failed(&e))
    }
}

/// As buildx has it, the fields that exist here: no history of builds is kept that `buildx.build.ref` could name.
pub fn metadata(built: &Built) -> serde_json::Value {
    let mut metadata = serde_json::json!({});
    if !built.several {
        metadata["containerimage.config.digest"] = serde_json::json!(built.image);
    }
    if let Some(manifest) = &built.manifest {
        metadata["containerimage.digest"] = serde_json::json!(manifest.digest);
        metadata["containerimage.descriptor"] = serde_json::json!(manifest);
        if manifest.platform.is_some() {
            metadata["containerimage.descriptor"]["annotations"]["config.digest"] = serde_json::json!(built.image);
        }
    }
    if !built.names.is_empty() {
        let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
        metadata["image.name"] = serde_json::json!(names.join(","));
    }
    metadata
}
