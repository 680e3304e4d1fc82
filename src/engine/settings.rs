//! The settings of an engine: every section of the settings files, each read by the room that it belongs to.

use super::{CachePolicy, CniSettings, Defaults};
use crate::base::settings::{self, Item, SettingsError, Table};
use crate::image::{RegistryConfig, SettingsDraft};
use std::path::{Path, PathBuf};

/// What the settings files say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The files that were read, in the order in which they apply.
    pub files: Vec<PathBuf>,
    /// `[image]`, `[registry]` and `[trust]`.
    pub registry: RegistryConfig,
    /// `[container]`.
    pub defaults: Defaults,
    /// `[userns] pool`: host ids for `--userns auto`, as first id and size; empty: those of `containers` in /etc/subuid and
    /// /etc/subgid, or a range that is nobody's.
    pub id_pool: Vec<(u32, u32)>,
    /// `[cni]`.
    pub cni: CniSettings,
    /// `[build]`.
    pub build: CachePolicy,
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
        let (mut registry, mut defaults) = (SettingsDraft::default(), Defaults::default());
        let (mut id_pool, mut cni, mut build) = (Vec::new(), CniSettings::default(), CachePolicy::default());
        for source in &sources {
            let mut table = source.table()?;
            registry.read(&mut table)?;
            defaults.read(&mut table)?;
            cni.read(&mut table)?;
            build.read(&mut table)?;
            if let Some(mut section) = table.table("userns")? {
                if let Some(pool) = section.texts("pool")? {
                    id_pool = pool.iter().map(|item| range(&section, item)).collect::<Result<_, _>>()?;
                }
                section.finish()?;
            }
            table.finish()?;
        }
        Ok(Settings { id_pool, cni, build, defaults, registry: registry.finish()?, files: sources.into_iter().map(|source| source.path).collect() })
    }
}

/// `FIRST:SIZE`.
fn range(section: &Table<'_>, item: &Item<String>) -> Result<(u32, u32), SettingsError> {
    let numbers = item.value.split_once(':').and_then(|(first, size)| Some((first.parse::<u32>().ok()?, size.parse::<u32>().ok()?)));
    // Id 0 is the host's root, the last one nobody's.
    numbers
        .filter(|(first, size)| *first > 0 && *size > 0 && first.checked_add(*size).is_some())
        .ok_or_else(|| section.wrong_value("pool", item, format!("\"{}\" is not FIRST:SIZE, a range of ids above 0", item.value.escape_default())))
}
