//! Credentials as the docker CLI keeps them: `~/.docker/config.json` and its credential helpers.

use super::credential_helper::{self, Helper};
use crate::base::Cancel;
use crate::base::fs::{Context, FsError};
use crate::image::{Error, RegistryConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_distribution::secrets::RegistryAuth;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The name under which docker keeps the credentials of its default registry.
pub const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// What is known about us at a registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    Plain(RegistryAuth),
    /// An OAuth2 refresh token (`docker login` with a browser).
    Identity(String),
}

/// The parts of docker's config file that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, AuthEntry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Where credentials come from.
pub struct Stores {
    config: DockerConfig,
    path: PathBuf,
}

/// Where credentials went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable for its owner.
    File(PathBuf),
    /// With this credential helper.
    Helper(String),
}

impl Credentials {
    pub fn anonymous() -> Self {
        Credentials::Plain(RegistryAuth::Anonymous)
    }

    pub fn basic(user: &str, secret: &str) -> Self {
        Credentials::Plain(RegistryAuth::Basic(user.to_owned(), secret.to_owned()))
    }
}

impl Stores {
    /// A docker config that is not valid is warned about, and we are anonymous: as docker has it. Only what would write
    /// to such a file is refused.
    pub fn new(config: &RegistryConfig) -> Self {
        let path = config.docker_config_path.clone();
        let parsed = config.docker_config.as_deref().map(serde_json::from_str).transpose();
        let parsed = parsed.unwrap_or_else(|error| {
            tracing::warn!("no credentials are used: {} is not a valid docker config: {error}", path.display());
            None
        });
        Stores { config: parsed.unwrap_or_default(), path }
    }

    /// The credentials for a registry: its helper, else the common helper, else the file. A helper that is
    /// configured but fails is an error, never a reason to look elsewhere (CVE-2021-41092).
    ///
    /// # Errors
    /// A helper that cannot be run or answers nonsense.
    pub fn find(&self, registry: &str) -> Result<Credentials, Error> {
        let server = server_of(registry);
        if let Some(name) = self.helper(server) {
            return Helper { name, server, cancel: &Cancel::default() }.get();
        }
        Ok(self.of_file(server))
    }

    /// [`Stores::find`] for a reactor, which goes on while a helper is asked.
    ///
    /// # Errors
    /// As there.
    pub async fn ask(&self, registry: &str) -> Result<Credentials, Error> {
        let server = server_of(registry);
        match self.helper(server) {
            Some(name) => credential_helper::get(name, server).await,
            None => Ok(self.of_file(server)),
        }
    }

    fn of_file(&self, server: &str) -> Credentials {
        let entry = self.config.auths.get(server).or_else(|| {
            let same = self.config.auths.iter().find(|(name, _)| host_of(name) == host_of(server));
            same.map(|(_, entry)| entry)
        });
        entry.map_or(Credentials::anonymous(), AuthEntry::credentials)
    }

    /// The helper that keeps the credentials of `server`.
    fn helper(&self, server: &str) -> Option<&str> {
        let own = self.config.cred_helpers.iter().find(|(name, _)| host_of(name) == host_of(server)).map(|(_, helper)| helper);
        own.or(self.config.creds_store.as_ref()).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    /// Keeps verified credentials of a registry: with its helper, or else in the file. `identity` is an OAuth2 refresh
    /// token that the registry gave for the password; the password itself is then not kept.
    ///
    /// # Errors
    /// The helper fails, or the file cannot be written.
    pub fn keep(&self, registry: &str, user: &str, password: &str, identity: Option<&str>) -> Result<Kept, Error> {
        let server = server_of(registry);
        if let Some(name) = self.helper(server) {
            Helper { name, server, cancel: &Cancel::default() }.store(user, identity.unwrap_or(password), identity.is_some())?;
            // Docker marks a login that a helper keeps with an empty entry.
            self.edit(|auths| drop(auths.insert(server.to_owned(), json!({}))))?;
            return Ok(Kept::Helper(name.to_owned()));
        }
        let entry = match identity {
            Some(token) => json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": token}),
            None => json!({"auth": STANDARD.encode(format!("{user}:{password}"))}),
        };
        self.edit(|auths| drop(auths.insert(server.to_owned(), entry)))?;
        Ok(Kept::File(self.path.clone()))
    }

    /// Forgets the credentials of a registry, under each name it may be kept by. False: there were none.
    ///
    /// # Errors
    /// The helper fails, or the file cannot be written.
    pub fn forget(&self, registry: &str) -> Result<bool, Error> {
        let server = server_of(registry);
        let mut found = false;
        if let Some(name) = self.helper(server) {
            // Helpers that know nothing of a server answer so, or succeed: only what they had before tells.
            found = Helper { name, server, cancel: &Cancel::default() }.get()? != Credentials::anonymous();
            if found {
                Helper { name, server, cancel: &Cancel::default() }.erase()?;
            }
        }
        if self.config.auths.keys().any(|name| host_of(name) == host_of(server)) {
            found = true;
            self.edit(|auths| auths.retain(|name, _| host_of(name) != host_of(server)))?;
        }
        Ok(found)
    }

    /// Changes `auths` of the file, and nothing else in it; several processes take turns.
    fn edit(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Error> {
        // A link to a file elsewhere (a synchronised home) stays a link.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = path.parent().unwrap_or(Path::new("/"));
        crate::base::fs::create_dir_all(dir, 0o700)?;
        let lock = File::open(dir).on("open", dir)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).on("lock", dir)?;
        let mut config = match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => json!({}),
            Ok(text) => serde_json::from_str(&text).map_err(Error::DockerConfig)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(source) => return Err(FsError { operation: "read", path, source }.into()),
        };
        let object = config.as_object_mut().ok_or_else(|| malformed("it is no JSON object"))?;
        let auths = object.entry("auths").or_insert_with(|| json!({}));
        change(auths.as_object_mut().ok_or_else(|| malformed("\"auths\" is no JSON object"))?);
        // The indent is docker's.
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        serde::Serialize::serialize(&config, &mut serde_json::Serializer::with_formatter(&mut text, formatter)).map_err(Error::DockerConfig)?;
        crate::base::fs::replace(&path, &text, 0o600)?;
        Ok(())
    }
}

fn malformed(why: &str) -> Error {
    Error::DockerConfig(serde::de::Error::custom(why))
}

impl AuthEntry {
    fn credentials(&self) -> Credentials {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Credentials::Identity(token);
        }
        if let Some(token) = filled(&self.registrytoken) {
            return Credentials::Plain(RegistryAuth::Bearer(token));
        }
        let decoded = filled(&self.auth).and_then(|auth| STANDARD.decode(auth.trim()).ok());
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| {
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        });
        let pair = pair.or_else(|| Some((filled(&self.username)?, self.password.clone().unwrap_or_default())));
        Credentials::Plain(pair.map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password)))
    }
}

/// The name under which docker's tools keep a registry.
pub fn server_of(registry: &str) -> &str {
    if registry == "docker.io" { DEFAULT_SERVER } else { registry }
}

/// `https://index.docker.io/v1/` → `index.docker.io`; the default registry's names are one.
pub fn host_of(server: &str) -> &str {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match bare.split('/').next().unwrap_or(bare) {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(text: &str) -> Stores {
        Stores::new(&RegistryConfig { docker_config: Some(text.to_owned()), ..Default::default() })
    }

    #[test]
    fn finds_entries_as_docker_writes_them() {
        let stores = stores(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="},"quay.io":{"identitytoken":"i"},
            "http://r.example:5000/v2/":{"username":"a","password":"b"},"empty.example":{}},"credHelpers":{"bad.example":"../evil"}}"#,
        );
        assert_eq!(stores.find("docker.io").unwrap(), Credentials::basic("u", "p:w"));
        assert_eq!(stores.find("quay.io").unwrap(), Credentials::Identity("i".to_owned()));
        assert_eq!(stores.find("r.example:5000").unwrap(), Credentials::basic("a", "b"));
        assert_eq!(stores.find("r.example").unwrap(), Credentials::anonymous());
        assert_eq!(stores.find("empty.example").unwrap(), Credentials::anonymous());
        assert!(matches!(stores.find("bad.example"), Err(Error::Helper { .. })));
    }

    #[test]
    fn the_file_keeps_what_is_not_ours() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("rcon-credentials-{}", crate::base::random_hex(8)));
        let path = dir.join("deep/config.json");
        let open = || {
            let docker_config = std::fs::read_to_string(&path).ok();
            Stores::new(&RegistryConfig { docker_config, docker_config_path: path.clone(), ..Default::default() })
        };
        assert_eq!(open().keep("docker.io", "u", "p", None).unwrap(), Kept::File(path.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, r#"{"psFormat":"x","auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}},"HttpHeaders":{}}"#).unwrap();
        open().keep("r.example", "v", "q", Some("refresh")).unwrap();
        assert_eq!(open().find("docker.io").unwrap(), Credentials::basic("u", "p"));
        assert_eq!(open().find("r.example").unwrap(), Credentials::Identity("refresh".to_owned()));
        assert!(open().forget("docker.io").unwrap() && !open().forget("docker.io").unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n\t\"psFormat\": \"x\"") && text.contains("HttpHeaders") && !text.contains("index.docker.io"), "{text}");
        std::fs::write(&path, "[]").unwrap();
        assert!(matches!(open_err(&path), Error::DockerConfig(_)));
        std::fs::write(&path, "{no").unwrap();
        assert_eq!(open().find("docker.io").unwrap(), Credentials::anonymous());
        assert!(matches!(open_err(&path), Error::DockerConfig(_)), "a file that cannot be read is not written over");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn open_err(path: &Path) -> Error {
        let stores = Stores::new(&RegistryConfig { docker_config_path: path.to_owned(), ..Default::default() });
        stores.keep("r.example", "u", "p", None).unwrap_err()
    }
}
