//! ADD, DEL and CHECK of one attachment: the plugins of a network in their order, or the reverse (section 3 of the
//! specification).

use super::capability::Wishes;
use super::config::NetworkConfig;
use super::error::Error;
use super::plugin::{Call, Plugins, Subject, Verb, memory};
use super::record::{Lock, Record, Store};
use super::result::{AddResult, in_form_of};
use super::version::Version;
use crate::base::{ContainerId, Undo, failpoint};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How much longer than one plugin an operation waits for another one on the same container.
const SLACK: Duration = Duration::from_secs(5);
/// `statfs` type of a namespace's file (include/uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A name for an interface in the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
        if (1..16).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(wrong) {
            Ok(InterfaceName(text.to_owned()))
        } else {
            Err(Error::InterfaceName(text.escape_default().to_string()))
        }
    }
}

/// What is to be attached.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    pub container: &'a ContainerId,
    pub interface: &'a InterfaceName,
    /// A path that leads to the network namespace for as long as it is attached, for plugins and their daemons alike: a bind
    /// mount of its file.
    pub netns: &'a Path,
    /// `CNI_ARGS`.
    pub arguments: &'a [(String, String)],
    pub wishes: &'a Wishes,
}

/// What is attached.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    pub network: String,
    pub container: String,
    pub interface: String,
    /// None: ADD did not end.
    pub result: Option<AddResult>,
}

/// What CHECK came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    Fine,
    /// By `disableCheck` of the configuration.
    Disabled,
    /// The version of the attachment has no CHECK.
    TooOld,
}

/// Drives plugins and remembers what they gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    pub(super) store: Store,
    pub(super) plugins: Plugins,
}

impl Driver {
    /// `directory` (durable) holds the records. What is attached already is detached with the programs of then, so that
    /// whoever only does that may know of none.
    pub fn new(directory: PathBuf, plugins: Plugins) -> Self {
        Driver { store: Store(directory), plugins }
    }

    fn patience(&self) -> Duration {
        self.plugins.timeout + SLACK
    }

    pub(super) fn share(&self, network: &str) -> Result<Lock, Error> {
        self.store.lock_network(network, false, self.patience())
    }

    pub(super) fn alone(&self, network: &str) -> Result<Lock, Error> {
        self.store.lock_network(network, true, self.patience())
    }

    pub(super) fn hold(&self, container: &str) -> Result<Lock, Error> {
        self.store.lock_container(container, self.patience())
    }

    /// Attaches a container: every plugin of the network in its order, each with the result of the one before. If one fails,
    /// all of them are asked to release what they gave. What an ADD that was killed left is released first.
    ///
    /// # Errors
    /// A plugin is missing or fails; the network cannot do what is wished; it is attached already.
    pub fn add(&self, network: &NetworkConfig, attachment: &Attachment<'_>) -> Result<AddResult, Error> {
        let programs = self.programs(network)?;
        let capabilities = attachment.wishes.arguments(network)?;
        let arguments = joined(attachment.arguments)?;
        let version = self.negotiate(network, &programs)?;
        let (container, interface) = (attachment.container.as_str(), attachment.interface.as_str());
        let _network = self.share(&network.name)?;
        let lock = self.hold(container)?;
        match self.store.read(container, interface)? {
            Some(record) if record.complete => {
                return Err(Error::Attached {
                    container: attachment.container.short().to_owned(),
                    interface: interface.to_owned(),
                    network: record.network,
                });
            }
            Some(leftover) => self.take_back(&leftover, &lock)?,
            None => {}
        }
        let mut record = Record::new(network, version, container, interface);
        record.directories.clone_from(&self.plugins.directories);
        (record.netns, record.arguments, record.capabilities) = (attachment.netns.to_owned(), arguments, capabilities);
        let outcome = self.add_under(&lock, &mut record, &programs);
        let released = self.store.release(container, lock);
        outcome.and_then(|result| released.map(|()| result))
    }

    fn add_under(&self, lock: &Lock, record: &mut Record, programs: &[PathBuf]) -> Result<AddResult, Error> {
        self.store.write(record)?;
        let (container, interface) = (record.container.clone(), record.interface.clone());
        let mut undo = Undo::new();
        undo.push("an attachment to a CNI network", || match self.store.read(&container, &interface)? {
            Some(record) => self.take_back(&record, lock),
            None => Ok(()),
        });
        failpoint::hit("cni.add.recorded").map_err(Error::Failpoint)?;
        let version: Version = record.version.parse().map_err(|source| Error::Version { path: record.path.clone(), source })?;
        let mut parsed = AddResult::default();
        for (plugin, program) in record.plugins.clone().iter().zip(programs) {
            let request = request(record, plugin, version, record.result.as_ref());
            let call = Call {
                network: &record.network,
                plugin: (plugin.kind(), program),
                verb: Verb::Add,
                subject: Some(subject(record)),
                request: &request,
            };
            let wrong =
                |why: &str| Error::Answer { plugin: plugin.kind().to_owned(), command: "ADD", network: record.network.clone(), why: why.to_owned() };
            let mut result = match self.plugins.call(&call, &lock.file)? {
                Some(Value::Object(result)) => result,
                Some(_) => return Err(wrong("it is not an object")),
                None => return Err(wrong("it is empty")),
            };
            in_form_of(version, &mut result);
            // Looked at now, so that the plugin that is wrong is named.
            parsed = AddResult::parse(&result).map_err(|why| wrong(&why))?;
            failpoint::hit("cni.add.plugin").map_err(Error::Failpoint)?;
            record.result = Some(result);
            self.store.write(record)?;
        }
        record.complete = true;
        self.store.write(record)?;
        failpoint::hit("cni.add.stored").map_err(Error::Failpoint)?;
        undo.commit();
        Ok(parsed)
    }

    /// Detaches an interface with the configuration that it was attached with; nothing attached is fine.
    ///
    /// # Errors
    /// A plugin is missing or fails: the record stays, so that it can be tried again.
    pub fn del(&self, container: &ContainerId, interface: &str) -> Result<(), Error> {
        self.del_recorded(container.as_str(), interface)
    }

    pub(super) fn del_recorded(&self, container: &str, interface: &str) -> Result<(), Error> {
        let Some(record) = self.store.read(container, interface)? else { return Ok(()) };
        let _network = self.share(&record.network)?;
        self.del_shared(container, interface)
    }

    /// The same for whoever has the network locked.
    pub(super) fn del_shared(&self, container: &str, interface: &str) -> Result<(), Error> {
        let lock = self.hold(container)?;
        // Read anew: somebody else may have been faster.
        let outcome = match self.store.read(container, interface) {
            Ok(Some(record)) => self.take_back(&record, &lock),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let released = self.store.release(container, lock);
        outcome.and(released)
    }

    /// Detaches all interfaces of a container, the last one first. Costs one look at a directory if there are none.
    ///
    /// # Errors
    /// The first failure, after trying all of them.
    pub fn del_all(&self, container: &ContainerId) -> Result<(), Error> {
        let container = container.as_str();
        if !self.store.has(container) {
            return Ok(());
        }
        let mut outcome = Ok(());
        for interface in self.store.interfaces(container)?.iter().rev() {
            outcome = outcome.and(self.del_recorded(container, interface));
        }
        // What was killed before its first record leaves an empty directory.
        let lock = self.hold(container)?;
        outcome.and(self.store.release(container, lock))
    }

    /// DEL for every plugin in the reverse order, then the record goes. A plugin that fails ends it.
    fn take_back(&self, record: &Record, lock: &Lock) -> Result<(), Error> {
        let version: Version = record.version.parse().map_err(|source| Error::Version { path: record.path.clone(), source })?;
        let previous = record.result.as_ref().filter(|_| version.has_check());
        let plugins = self.plugins.after(&record.directories);
        for plugin in record.plugins.iter().rev() {
            let program = plugins.program(plugin.kind(), &record.network)?;
            let request = request(record, plugin, version, previous);
            let call = Call {
                network: &record.network,
                plugin: (plugin.kind(), &program),
                verb: Verb::Del,
                subject: Some(subject(record)),
                request: &request,
            };
            match plugins.call(&call, &lock.file) {
                // The container is unknown there: nothing to clean up (code 3).
                Ok(_) | Err(Error::Plugin { code: 3, .. }) => {}
                Err(error) => return Err(error),
            }
            failpoint::hit("cni.del.plugin").map_err(Error::Failpoint)?;
        }
        self.store.remove(record)
    }

    /// Asks the plugins whether an interface is still as they made it.
    ///
    /// # Errors
    /// It is not attached, or what the first plugin says that does not find it so.
    pub fn check(&self, container: &ContainerId, interface: &str) -> Result<Checked, Error> {
        let missing = || Error::NotAttached { container: container.short().to_owned(), interface: interface.escape_default().to_string() };
        let record = self.store.read(container.as_str(), interface)?.ok_or_else(missing)?;
        let _network = self.share(&record.network)?;
        let lock = self.hold(container.as_str())?;
        let outcome = match self.store.read(container.as_str(), interface) {
            Ok(Some(record)) => self.check_under(&record, &lock),
            Ok(None) => Err(missing()),
            Err(error) => Err(error),
        };
        let released = self.store.release(container.as_str(), lock);
        outcome.and_then(|checked| released.map(|()| checked))
    }

    fn check_under(&self, record: &Record, lock: &Lock) -> Result<Checked, Error> {
        let version: Version = record.version.parse().map_err(|source| Error::Version { path: record.path.clone(), source })?;
        if record.disable_check {
            return Ok(Checked::Disabled);
        }
        if !version.has_check() {
            return Ok(Checked::TooOld);
        }
        let Some(result) = record.result.as_ref().filter(|_| record.complete) else {
            return Err(Error::NotAttached { container: record.container.clone(), interface: record.interface.clone() });
        };
        let plugins = self.plugins.after(&record.directories);
        for plugin in &record.plugins {
            let program = plugins.program(plugin.kind(), &record.network)?;
            let request = request(record, plugin, version, Some(result));
            let call = Call {
                network: &record.network,
                plugin: (plugin.kind(), &program),
                verb: Verb::Check,
                subject: Some(subject(record)),
                request: &request,
            };
            plugins.call(&call, &lock.file)?;
        }
        Ok(Checked::Fine)
    }

    /// Everything that is attached, in the order of containers and interfaces.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn attached(&self) -> Result<Vec<Attached>, Error> {
        let mut all = Vec::new();
        for container in self.store.containers()? {
            all.append(&mut self.attached_to(&container)?);
        }
        Ok(all)
    }

    /// What a container is attached to.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn attached_to(&self, container: &str) -> Result<Vec<Attached>, Error> {
        let mut all = Vec::new();
        for interface in self.store.interfaces(container)? {
            let Some(record) = self.store.read(container, &interface)? else { continue };
            let result = record.result.as_ref().filter(|_| record.complete).and_then(|raw| AddResult::parse(raw).ok());
            all.push(Attached { network: record.network, container: record.container, interface: record.interface, result });
        }
        Ok(all)
    }

    /// The programs of all plugins: one that is missing is told before any is executed.
    pub(super) fn programs(&self, network: &NetworkConfig) -> Result<Vec<PathBuf>, Error> {
        network.plugins.iter().map(|plugin| self.plugins.program(plugin.kind(), &network.name)).collect()
    }

    /// The newest version of the configuration that all plugins speak. They are asked only where there is a choice.
    pub(super) fn negotiate(&self, network: &NetworkConfig, programs: &[PathBuf]) -> Result<Version, Error> {
        let newest = network.versions[0];
        if network.versions.len() == 1 {
            return Ok(newest);
        }
        let (mut common, mut offers) = (network.versions.clone(), Vec::new());
        for (plugin, program) in network.plugins.iter().zip(programs) {
            let request = Map::from_iter([("cniVersion".to_owned(), newest.as_str().into())]);
            let call = Call { network: &network.name, plugin: (plugin.kind(), program), verb: Verb::Version, subject: None, request: &request };
            let wrong = |why: &str| Error::Answer {
                plugin: plugin.kind().to_owned(),
                command: "VERSION",
                network: network.name.clone(),
                why: why.to_owned(),
            };
            let answer = self.plugins.call(&call, &memory()?)?.ok_or_else(|| wrong("it is empty"))?;
            let spoken = answer.get("supportedVersions").and_then(Value::as_array).ok_or_else(|| wrong("key \"supportedVersions\" is not a list"))?;
            let spoken: Vec<&str> = spoken.iter().filter_map(Value::as_str).collect();
            common.retain(|version| spoken.contains(&version.as_str()));
            offers.push(format!("{} speaks {}", plugin.kind(), spoken.join(", ").escape_default()));
        }
        let wanted = || network.versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ");
        common.first().copied().ok_or_else(|| Error::NoCommonVersion { network: network.name.clone(), wanted: wanted(), offers: offers.join("; ") })
    }
}

/// `CNI_ARGS`.
fn joined(arguments: &[(String, String)]) -> Result<String, Error> {
    let plain = |text: &str| !text.contains(|c: char| c == ';' || c.is_control());
    for (key, value) in arguments {
        if key.is_empty() || key.contains('=') || !plain(key) || !plain(value) {
            return Err(Error::Argument(format!("{key}={value}").escape_default().to_string()));
        }
    }
    Ok(arguments.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";"))
}

fn subject(record: &Record) -> Subject<'_> {
    let netns = Some(record.netns.as_path()).filter(|path| is_namespace(path));
    Subject { container: &record.container, interface: &record.interface, netns, arguments: &record.arguments }
}

fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|status| u64::try_from(status.f_type).is_ok_and(|kind| kind == NSFS_MAGIC))
}

/// What a plugin gets on its standard input.
fn request(record: &Record, plugin: &super::PluginConfig, version: Version, previous: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut request = plugin.request(&record.network, version);
    let taken: Map<String, Value> =
        record.capabilities.iter().filter(|(capability, _)| plugin.has(capability)).map(|(key, value)| (key.clone(), value.clone())).collect();
    if !taken.is_empty() {
        request.insert("runtimeConfig".to_owned(), Value::Object(taken));
    }
    if let Some(previous) = previous {
        request.insert("prevResult".to_owned(), Value::Object(previous.clone()));
    }
    request
}
