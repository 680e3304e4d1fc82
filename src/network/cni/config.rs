//! Network configurations: the files of a directory such as /etc/cni/net.d, read and understood as far as a runtime must.
//!
//! Invariants: keys that are the plugins' own business are kept as they are, in their order; a file that cannot be used is
//! named with its key and does not keep others from being used; where two files have one name, the first in the order of
//! file names has it.

use super::error::Error;
use super::version::{self, Version};
use crate::base::fs::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most bytes of one file.
const LIMIT: u64 = 1 << 20;
/// Most plugins of one network, and most files of one directory.
const MOST: usize = 256;
/// Longest name: a lock file is called by it.
const LONGEST_NAME: usize = 200;

/// What is in one directory.
#[derive(Debug, Default)]
pub struct Configs {
    directory: PathBuf,
    /// In the order of their files.
    pub networks: Vec<NetworkConfig>,
    /// Files that cannot be used.
    pub faults: Vec<Error>,
}

/// One network: the plugins that a container is attached with, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    pub name: String,
    /// The file it is from.
    pub path: PathBuf,
    /// The versions that it may be driven with, newest first; at least one.
    pub versions: Vec<Version>,
    /// CHECK must not be used.
    pub disable_check: bool,
    /// GC must not be used, such as when another runtime has attachments too.
    pub disable_gc: bool,
    /// At least one.
    pub plugins: Vec<PluginConfig>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PluginConfig(Map<String, Value>);

impl Configs {
    /// Reads the files `*.conf`, `*.conflist` and `*.json` of a directory; a missing directory has none.
    ///
    /// # Errors
    /// The directory cannot be read. What is wrong with a file is among the faults.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let mut configs = Configs { directory: directory.to_owned(), ..Configs::default() };
        let mut named = BTreeSet::new();
        for path in files(directory, &["conf", "conflist", "json"])? {
            match NetworkConfig::read(&path) {
                Err(fault) => configs.faults.push(fault),
                Ok(network) if named.contains(&network.name) => {
                    let why = format!("another file before it has the network \"{}\"", network.name);
                    configs.faults.push(Error::Config { path, why });
                }
                Ok(network) => {
                    named.insert(network.name.clone());
                    configs.networks.push(network);
                }
            }
        }
        Ok(configs)
    }

    /// # Errors
    /// There is no such network; the files that could not be used are told.
    pub fn find(&self, name: &str) -> Result<&NetworkConfig, Error> {
        self.networks.iter().find(|network| network.name == name).ok_or_else(|| Error::NoNetwork {
            name: name.escape_default().to_string(),
            directory: self.directory.clone(),
            faults: self.faults.iter().map(Error::in_full).collect(),
        })
    }
}

/// The files of a directory with one of these endings, in the order of their names.
fn files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("list", directory)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.on("list", directory)?.path();
        if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort_unstable();
    if found.len() > MOST {
        return Err(Error::Config { path: directory.to_owned(), why: format!("more than {MOST} files") });
    }
    Ok(found)
}

/// A file's text. What root executes by it must not be written by others.
fn text(path: &Path) -> Result<String, Error> {
    let wrong = |why: String| Error::Config { path: path.to_owned(), why };
    let file = File::open(path).on("open", path)?;
    let status = file.metadata().on("stat", path)?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&status.uid());
    if !ours || status.mode() & 0o022 != 0 {
        return Err(wrong("others than its owner and root may write to it: chown it to root and chmod it to 0644".to_owned()));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).on("read", path)?;
    if text.len() as u64 > LIMIT {
        return Err(wrong(format!("it has more than {LIMIT} bytes")));
    }
    Ok(text)
}

fn object(path: &Path) -> Result<Map<String, Value>, Error> {
    let wrong = |why: String| Error::Config { path: path.to_owned(), why };
    match serde_json::from_str(&text(path)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("it is not a JSON object".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

impl NetworkConfig {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut network = Self::parse(path, object(path)?)?;
        let inlined_only = network.1;
        if !inlined_only {
            let more = path.parent().unwrap_or(Path::new("/")).join(&network.0.name);
            for file in files(&more, &["conf"])? {
                let plugin = PluginConfig::parse(object(&file)?).map_err(|why| Error::Config { path: file.clone(), why })?;
                network.0.plugins.push(plugin);
            }
        }
        let network = network.0;
        let wrong = |why: String| Err(Error::Config { path: path.to_owned(), why });
        match network.plugins.len() {
            0 => wrong("key \"plugins\" is missing or empty: a network needs a plugin".to_owned()),
            1..=MOST => Ok(network),
            count => wrong(format!("{count} plugins are more than {MOST}")),
        }
    }

    /// A list of plugins, or (until 0.4.0, but still found) one plugin that is a network by itself. Also whether plugins are
    /// to be taken from this file alone.
    fn parse(path: &Path, mut object: Map<String, Value>) -> Result<(Self, bool), Error> {
        let wrong = |why: String| Error::Config { path: path.to_owned(), why };
        let name = take_text(&object, "name").map_err(wrong)?.ok_or_else(|| wrong("key \"name\" is missing".to_owned()))?;
        if !valid_name(&name) {
            return Err(wrong(format!("key \"name\": \"{}\" is no name: letters, digits and _.- after a letter or digit", name.escape_default())));
        }
        let main = take_text(&object, "cniVersion").map_err(wrong)?;
        let others = match object.get("cniVersions") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => {
                serde_json::from_value::<Vec<String>>(list.clone()).map_err(|_| wrong("key \"cniVersions\" is not a list of strings".to_owned()))?
            }
        };
        if main.is_none() && others.is_empty() {
            return Err(wrong("key \"cniVersion\" is missing".to_owned()));
        }
        let versions = version::candidates(main.as_deref(), &others).map_err(|source| Error::Version { path: path.to_owned(), source })?;
        let list = object.contains_key("plugins") || !object.contains_key("type");
        let (disable_check, disable_gc, inlined_only, plugins) = if list {
            let flag = |key: &str| take_flag(&object, key).map_err(wrong);
            let flags = (flag("disableCheck")?, flag("disableGC")?, flag("loadOnlyInlinedPlugins")?);
            let plugins = match object.remove("plugins") {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(items)) => items,
                Some(_) => return Err(wrong("key \"plugins\" is not a list".to_owned())),
            };
            (flags.0, flags.1, flags.2, plugins)
        } else {
            (false, false, true, vec![Value::Object(object)])
        };
        let mut parsed = Vec::with_capacity(plugins.len());
        for (index, plugin) in plugins.into_iter().enumerate() {
            let place = |why: String| if list { wrong(format!("plugin {} of \"plugins\": {why}", index + 1)) } else { wrong(why) };
            let Value::Object(object) = plugin else { return Err(place("it is not an object".to_owned())) };
            parsed.push(PluginConfig::parse(object).map_err(place)?);
        }
        Ok((NetworkConfig { name, path: path.to_owned(), versions, disable_check, disable_gc, plugins: parsed }, inlined_only))
    }

    /// Whether one of the plugins declares a capability.
    pub fn is_capable(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.has(capability))
    }
}

impl PluginConfig {
    fn parse(object: Map<String, Value>) -> Result<Self, String> {
        let kind = take_text(&object, "type")?.ok_or_else(|| "key \"type\" is missing".to_owned())?;
        if kind.is_empty() || kind.starts_with('.') || kind.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
            return Err(format!("key \"type\": \"{}\" is not the name of a program", kind.escape_default()));
        }
        let wrong = || "key \"capabilities\" is not an object of true and false".to_owned();
        match object.get("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(capabilities)) if capabilities.values().all(Value::is_boolean) => {}
            Some(_) => return Err(wrong()),
        }
        Ok(PluginConfig(object))
    }

    /// The name of its program.
    pub fn kind(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it takes the argument of a capability.
    pub fn has(&self, capability: &str) -> bool {
        self.0.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A value that well-known plugins have, such as `bridge` or `ipam`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The configuration as the plugin gets it (section 3, "Deriving request configuration"): what is the runtime's to say
    /// replaces what a file said.
    pub(super) fn request(&self, name: &str, version: Version) -> Map<String, Value> {
        let mut request = Map::new();
        request.insert("cniVersion".to_owned(), version.as_str().into());
        request.insert("name".to_owned(), name.into());
        let ours = |key: &str| {
            matches!(key, "cniVersion" | "cniVersions" | "name" | "capabilities" | "prevResult" | "runtimeConfig") || key.starts_with("cni.dev/")
        };
        request.extend(self.0.iter().filter(|(key, _)| !ours(key)).map(|(key, value)| (key.clone(), value.clone())));
        request
    }
}

fn take_text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("key \"{key}\" is not a string")),
    }
}

/// A truth value; as a string too, as 0.4.0 said.
fn take_flag(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("key \"{key}\" is neither true nor false")),
    }
}

/// Letters, digits and `_.-` after a letter or digit.
fn valid_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests;
