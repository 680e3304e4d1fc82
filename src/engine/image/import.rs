//! `import`: an image from a tar of files, with a config made of Dockerfile instructions.

use super::changes;
use crate::base::Timestamp;
use crate::engine::{Engine, Error, Result};
use crate::oci::{Digest, ImageDefaults, ImageDocument, Platform};
use serde_json::json;
use std::io::Read;

/// What `import` was asked for besides the tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Where the tar comes from, for the history: `-`, a file name, a URL.
    pub source: String,
    /// Dockerfile instructions: `CMD ["sh"]`, `ENV A=b`, …
    pub changes: Vec<String>,
    /// Message of the history.
    pub message: Option<String>,
    pub platform: Option<String>,
    /// Name that the image gets.
    pub name: Option<String>,
}

impl Engine {
    /// Makes an image of one layer and returns its id.
    ///
    /// # Errors
    /// `Invalid` for a malformed name, platform or instruction, before the tar is read; what is wrong with the tar.
    pub fn import(&self, archive: &mut (dyn Read + Send), options: &ImportOptions) -> Result<String> {
        let name = options.name.as_deref().map(super::parse_reference).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::invalid("cannot import to a reference with a digest"));
        }
        let platform = match &options.platform {
            Some(text) => text.parse().map_err(Error::invalid)?,
            None => Platform::host(),
        };
        let mut defaults = ImageDefaults::default();
        for change in &options.changes {
            changes::apply(&mut defaults, change)?;
        }
        let config = |diff_id: &Digest| document(diff_id, defaults, &platform, options);
        let image = crate::image::import(&self.privilege.roots, &self.db, &self.registry, archive, config, name.as_ref())?;
        self.emit([crate::engine::events::of_image(&image, "import", &image.id, options.name.as_deref().unwrap_or(&image.id))]);
        Ok(image.id)
    }
}

fn document(diff_id: &Digest, defaults: ImageDefaults, platform: &Platform, options: &ImportOptions) -> Vec<u8> {
    let created = Timestamp::now().to_string();
    let comment = options.message.clone().unwrap_or_else(|| format!("Imported from {}", options.source));
    let value = json!({
        "created": created,
        "architecture": platform.arch,
        "os": platform.os,
        "variant": platform.variant,
        "config": defaults,
        "rootfs": { "type": "layers", "diff_ids": [diff_id.as_str()] },
        "history": [{ "created": created, "comment": comment }],
    });
    // Through the typed document: absent fields are left out as in every other config.
    let document: ImageDocument = serde_json::from_value(value).expect("invariant: made of its own fields");
    serde_json::to_vec(&document).expect("invariant: a config document is JSON")
}
