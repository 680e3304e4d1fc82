//! The sections `[image]`, `[registry]` and `[trust]` of the settings files become a [`RegistryConfig`].

use super::{RegistryConfig, trust};
use crate::base::settings::{SettingsError, Table};
use std::path::PathBuf;

/// Most layers fetched at once that may be asked for.
const DOWNLOADS: u64 = 64;

/// Collects what one file after the other says.
#[derive(Default)]
pub struct Draft {
    config: RegistryConfig,
    trust: trust::Draft,
}

impl Draft {
    /// Takes the sections of this room out of a file; a later file overrides single keys of an earlier one.
    ///
    /// # Errors
    /// An unknown key or a value that is not valid, with its line.
    pub fn read(&mut self, file: &mut Table<'_>) -> Result<(), SettingsError> {
        if let Some(section) = file.table("image")? {
            self.image(section)?;
        }
        if let Some(mut section) = file.table("registry")? {
            for (host, table) in section.tables()? {
                self.registry(&host, table)?;
            }
        }
        if let Some(section) = file.table("trust")? {
            self.trust.read(section)?;
        }
        Ok(())
    }

    /// The whole after the last file.
    ///
    /// # Errors
    /// The trust policy asks for signatures and names no key.
    pub fn finish(mut self) -> Result<RegistryConfig, SettingsError> {
        self.config.trust = self.trust.finish()?;
        Ok(self.config)
    }

    fn image(&mut self, mut table: Table<'_>) -> Result<(), SettingsError> {
        self.config.keep_blobs = table.boolean("keep_blobs")?.unwrap_or(self.config.keep_blobs);
        self.config.wait_for_disk = table.boolean("wait_for_disk")?.unwrap_or(self.config.wait_for_disk);
        if let Some(downloads) = table.integer("max_concurrent_downloads", 1..=DOWNLOADS)? {
            self.config.downloads = usize::try_from(downloads).unwrap_or(1);
        }
        if let Some(limits) = table.table("limits")? {
            self.config.limits.read(limits)?;
        }
        table.finish()
    }

    fn registry(&mut self, host: &str, mut table: Table<'_>) -> Result<(), SettingsError> {
        let Some(host) = registry_name(host) else {
            return Err(table.wrong("not the name of a registry: expected a host name or address with an optional port, such as \"docker.io\""));
        };
        if let Some(mirrors) = table.texts("mirrors")? {
            for mirror in &mirrors {
                if !mirror.value.starts_with("https://") && !mirror.value.starts_with("http://") {
                    return Err(table.wrong_value("mirrors", mirror, format!("\"{}\" is not http(s)://host", mirror.value.escape_default())));
                }
            }
            self.config.mirrors.insert(host.clone(), mirrors.into_iter().map(|mirror| mirror.value).collect());
        }
        if let Some(insecure) = table.boolean("insecure")? {
            self.config.insecure.retain(|known| *known != host);
            if insecure {
                self.config.insecure.push(host.clone());
            }
        }
        if let Some(directories) = table.texts("certs")? {
            for directory in &directories {
                if !directory.value.starts_with('/') {
                    return Err(table.wrong_value("certs", directory, "expected the absolute path of a directory"));
                }
            }
            self.config.certs.insert(host, directories.into_iter().map(|directory| PathBuf::from(directory.value)).collect());
        }
        table.finish()
    }
}

/// The registry that a section is about, as references name it.
fn registry_name(text: &str) -> Option<String> {
    let reference: crate::oci::Reference = format!("{text}/x").parse().ok()?;
    let same = reference.registry() == text || text == "index.docker.io";
    same.then(|| reference.registry().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::Source;

    fn read(texts: &[&str]) -> Result<RegistryConfig, String> {
        let mut draft = Draft::default();
        for text in texts {
            let source = Source::of(text);
            let mut table = source.table().map_err(|e| e.to_string())?;
            draft.read(&mut table).and_then(|()| table.finish()).map_err(|e| e.to_string())?;
        }
        draft.finish().map_err(|e| e.to_string())
    }

    #[test]
    fn later_files_override_single_keys() {
        let config = read(&[
            "[image]\nkeep_blobs=true\nmax_concurrent_downloads=8\n[registry.'docker.io']\nmirrors=['https://a','http://localhost:5000']\n[registry.'h:5000']\ninsecure=true\ncerts=['/etc/x']",
            "image.max_concurrent_downloads=2\n[registry.'docker.io']\nmirrors=['https://b']\n[registry.'h:5000']\ninsecure=false\n[registry.'i']\ninsecure=true",
        ]);
        // `i` alone reads as a repository of the default registry.
        assert!(config.unwrap_err().contains("registry.i: not the name of a registry"));
        let config = read(&[
            "[image]\nkeep_blobs=true\nmax_concurrent_downloads=8\n[registry.'index.docker.io']\nmirrors=['https://a','http://localhost:5000']\n[registry.'h:5000']\ninsecure=true\ncerts=['/etc/x']",
            "image.max_concurrent_downloads=2\n[registry.'docker.io']\nmirrors=['https://b']\n[registry.'h:5000']\ninsecure=false\n[registry.'i.example']\ninsecure=true",
        ])
        .unwrap();
        assert_eq!((config.keep_blobs, config.downloads, config.mirrors["docker.io"].as_slice()), (true, 2, &["https://b".to_owned()][..]));
        assert_eq!((config.insecure, config.certs["h:5000"].clone()), (vec!["i.example".to_owned()], vec![PathBuf::from("/etc/x")]));
        assert_eq!(read(&[]), Ok(RegistryConfig::default()));
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("[images]", "line 1: unknown key images; did you mean image?"),
            ("[registry.'docker.io']\nmirror=['https://a']", "line 2: unknown key registry.\"docker.io\".mirror; did you mean mirrors?"),
            ("[registry.'docker.io']\nmirrors=['a']", "line 2: registry.\"docker.io\".mirrors: \"a\" is not http(s)://host"),
            ("[registry.'a/b']", "line 1: registry.\"a/b\": not the name of a registry"),
            ("[registry]\ninsecure=['a']", "line 2: registry.insecure: expected a table, found an array"),
            ("[registry.'h:1']\ncerts=['x']", "line 2: registry.\"h:1\".certs: expected the absolute path"),
            ("[image]\nmax_concurrent_downloads=0", "line 2: image.max_concurrent_downloads: expected a whole number from 1 to 64"),
            ("[image.limits]\nmax_layer=1", "line 2: unknown key image.limits.max_layer; did you mean max_layers?"),
        ] {
            let error = read(&[text]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
