//! The settings of an engine: every section of the settings files, each read by the room that it belongs to.

use crate::base::settings::{self, SettingsError};
use crate::image::{RegistryConfig, SettingsDraft};
use std::path::{Path, PathBuf};

/// What the settings files say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The files that were read, in the order in which they apply.
    pub files: Vec<PathBuf>,
    /// `[image]`, `[registry]` and `[trust]`.
    pub registry: RegistryConfig,
}

impl Settings {
    /// Reads the settings: of `explicit` and its drop-ins alone, or of this machine and then of the `user`.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn read(explicit: Option<&Path>, user: Option<&Path>) -> Result<Self, SettingsError> {
        let sources = settings::sources(explicit, user)?;
        if sources.is_empty() {
            return Ok(Settings::default());
        }
        let mut registry = SettingsDraft::default();
        for source in &sources {
            let mut table = source.table()?;
            registry.read(&mut table)?;
            table.finish()?;
        }
        Ok(Settings { registry: registry.finish()?, files: sources.into_iter().map(|source| source.path).collect() })
    }
}
