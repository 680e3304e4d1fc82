//! Networks of CNI configurations: what the settings say about them, attaching and releasing containers and pods, and what
//! `system check` looks at.
//!
//! Invariant: whoever is attached has a record that says it is started, so that an attachment without one is a leftover; and
//! its network namespace is held as a file in its live directory until the plugins have released it.

use super::check::{Checked, Trouble};
use super::{Engine, Error, Result};
use crate::base::address::parse_mac;
use crate::base::fs::{self, Context};
use crate::base::settings::{SettingsError, Table};
use crate::base::{ContainerId, Roots, Timestamp};
use crate::network::cni::{self, AddResult, Attached, Configs, Dns, Driver, InterfaceName, NetworkConfig, Plugins, Wishes};
use crate::oci::Digest;
use crate::state::pod::PodPhase;
use crate::state::record::{self, Attachment, DEFAULT_NETWORK, Endpoint, HostSpec, Network, Phase, Pool, PublishedPort};
use rustix::mount::UnmountFlags;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where distributions and Kubernetes put plugins.
const PLUGIN_DIRS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];
const CONFIG_DIR: &str = "/etc/cni/net.d";
/// A plugin that asks a DHCP server or a daemon may take its time.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Name of the namespace's file in the live directory.
const NET: &str = "net";

/// `[cni]` of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniSettings {
    pub config_dir: PathBuf,
    pub plugin_dirs: Vec<PathBuf>,
    pub timeout: Duration,
    /// No other runtime uses these networks: GC may tell the plugins that nobody else has an attachment.
    pub exclusive: bool,
}

impl Default for CniSettings {
    fn default() -> Self {
        CniSettings {
            config_dir: PathBuf::from(CONFIG_DIR),
            plugin_dirs: PLUGIN_DIRS.map(PathBuf::from).to_vec(),
            timeout: TIMEOUT,
            exclusive: false,
        }
    }
}

impl CniSettings {
    /// Takes over what one file says.
    ///
    /// # Errors
    /// A value that cannot be, with its place.
    pub(super) fn read(&mut self, table: &mut Table<'_>) -> std::result::Result<(), SettingsError> {
        let Some(mut section) = table.table("cni")? else { return Ok(()) };
        if let Some(directory) = section.text("config_dir")? {
            if !directory.value.starts_with('/') {
                return Err(section.wrong_value(
                    "config_dir",
                    &directory,
                    format!("\"{}\" is not an absolute path", directory.value.escape_default()),
                ));
            }
            self.config_dir = PathBuf::from(directory.value);
        }
        if let Some(directories) = section.texts("plugin_dirs")? {
            for directory in &directories {
                if !directory.value.starts_with('/') || directory.value.contains(':') {
                    let why = format!("\"{}\" is not an absolute path without colons", directory.value.escape_default());
                    return Err(section.wrong_value("plugin_dirs", directory, why));
                }
            }
            self.plugin_dirs = directories.into_iter().map(|directory| PathBuf::from(directory.value)).collect();
        }
        if let Some(seconds) = section.integer("timeout", 1..=3600)? {
            self.timeout = Duration::from_secs(seconds);
        }
        if let Some(exclusive) = section.boolean("exclusive")? {
            self.exclusive = exclusive;
        }
        section.finish()
    }
}

/// Whether an endpoint is on a CNI network.
pub(super) fn is_cni(endpoint: &Endpoint) -> bool {
    endpoint.network != DEFAULT_NETWORK && endpoint.network_id == record_of(&endpoint.network, Vec::new()).id
}

fn records(roots: &Roots) -> PathBuf {
    roots.data.join("cni")
}

/// Holds a network namespace as a file for the plugins, and says where.
///
/// # Errors
/// The file or the mount cannot be made.
pub(super) fn hold(live: &Path, namespace: BorrowedFd<'_>) -> Result<PathBuf> {
    let path = live.join(NET);
    fs::create_dir_all(live, 0o700)?;
    let_go(live);
    fs::write(&path, b"")?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    rustix::mount::mount_bind(&source, &path).on("hold a namespace at", &path)?;
    Ok(path)
}

/// Takes the mount away, if there is one.
fn let_go(live: &Path) {
    let path = live.join(NET);
    match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not mounted, or not there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!("cannot unmount {}: {error}", path.display()),
    }
}

/// Releases what a container or pod has of CNI networks, with the plugins that it was attached with. What a plugin does not
/// release stays recorded: the next start, or `system check --repair`, tries again.
pub(super) fn release(roots: &Roots, id: &ContainerId) {
    let driver = Driver::new(records(roots), Plugins { directories: Vec::new(), timeout: TIMEOUT });
    if let Err(error) = driver.del_all(id) {
        tracing::warn!("cannot release the CNI networks of {}: {}", id.short(), error.in_full());
    }
    let_go(&roots.live(id));
}

/// The record that stands for a CNI network: it is in no table, and always the same for a name. `pools`: what its plugins
/// give addresses of, as far as their configuration says; never with them where leases are taken.
pub(super) fn record_of(name: &str, pools: Vec<Pool>) -> Network {
    let id = Digest::of(format!("cni:{name}").as_bytes()).hex().to_owned();
    Network { id, pools, created: Timestamp::NEVER, dns: false, ..Network::new(name, record::Driver::Cni, BTreeMap::new()) }
}

/// Pools of the plugin `host-local` and those that are written like it.
fn pools_of(network: &NetworkConfig) -> Vec<Pool> {
    let mut pools = Vec::new();
    for ipam in network.plugins.iter().filter_map(|plugin| plugin.value("ipam")) {
        let sets = ipam.get("ranges").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_array).flatten();
        pools.extend(std::iter::once(ipam).chain(sets).filter_map(pool_of));
    }
    pools
}

fn pool_of(range: &Value) -> Option<Pool> {
    let (subnet, prefix) = range.get("subnet")?.as_str()?.split_once('/')?;
    let gateway = range.get("gateway").and_then(Value::as_str).and_then(|text| text.parse().ok());
    Some(Pool { subnet: subnet.parse().ok()?, prefix: prefix.parse().ok()?, gateway, range: None, auxiliary: BTreeMap::new() })
}

/// What a container asks of one network.
fn wishes(host: &HostSpec, asked: &Attachment, published: &[PublishedPort]) -> Result<Wishes> {
    let mut ips: Vec<(IpAddr, Option<u8>)> = Vec::new();
    ips.extend(asked.ipv4.map(|ip| (ip.into(), None)));
    ips.extend(asked.ipv6.map(|ip| (ip.into(), None)));
    let dns = Dns { servers: host.dns.clone(), searches: host.dns_search.clone(), options: host.dns_options.clone() };
    Ok(Wishes {
        ports: published.to_vec(),
        ips,
        mac: asked.mac.as_deref().map(parse_mac).transpose().map_err(|error| Error::invalid(format!("invalid MAC address: {error}")))?,
        bandwidth: None,
        dns: (dns != Dns::default()).then_some(dns),
        aliases: asked.aliases.clone(),
    })
}

/// Takes over what the plugins gave.
fn take_over(endpoint: &mut Endpoint, result: &AddResult) {
    (endpoint.ipv4, endpoint.ipv6) = (None, None);
    for ip in result.addresses(&endpoint.interface) {
        match ip.address {
            IpAddr::V4(address) => endpoint.ipv4 = endpoint.ipv4.or(Some(address)),
            IpAddr::V6(address) => endpoint.ipv6 = endpoint.ipv6.or(Some(address)),
        }
    }
    // Links without a hardware address have none to tell.
    let mac = result.mac(&endpoint.interface).and_then(|text| parse_mac(text).ok());
    endpoint.mac = mac.unwrap_or_default();
}

impl Engine {
    /// The CNI network of that name, or whose id begins so, as leases are taken of it.
    ///
    /// # Errors
    /// There is none; files that cannot be used are told.
    pub(super) fn cni_network(&self, name: &str) -> Result<Network> {
        let configs = self.cni_configs()?;
        let found = configs.networks.iter().map(|network| record_of(&network.name, Vec::new()));
        let mut fits: Vec<Network> = found.filter(|network| network.name == name || (!name.is_empty() && network.id.starts_with(name))).collect();
        match fits.len() {
            1 => Ok(fits.remove(0)),
            0 if configs.faults.is_empty() => Err(self.no_such("network", name)),
            0 => Err(configs
                .find(name)
                .map(drop)
                .map_err(crate::network::Error::from)
                .err()
                .map_or_else(|| Error::no_such("network", name), Error::from)),
            _ => Err(Error::Ambiguous { what: "network", name: name.to_owned() }),
        }
    }

    /// A network as it is shown: what a CNI network gives addresses of.
    pub(super) fn with_cni_pools(&self, network: Network) -> Result<Network> {
        if network.driver != record::Driver::Cni {
            return Ok(network);
        }
        Ok(self.cni_networks()?.into_iter().find(|other| other.id == network.id).unwrap_or(network))
    }

    /// The same for what one container or pod has of its networks: prefix and gateway as the plugins gave them.
    pub(super) fn with_given_pools(&self, owner: &ContainerId, networks: &mut [Network]) -> Result<()> {
        if networks.iter().all(|network| network.driver != record::Driver::Cni) {
            return Ok(());
        }
        let attached = self.cni_driver().attached_to(owner.as_str()).map_err(crate::network::Error::from)?;
        for network in networks.iter_mut().filter(|network| network.driver == record::Driver::Cni) {
            let ips = attached.iter().filter(|attached| attached.network == network.name).filter_map(|attached| attached.result.as_ref());
            let pool = |ip: &cni::Ip| Pool { subnet: ip.address, prefix: ip.prefix, gateway: ip.gateway, range: None, auxiliary: BTreeMap::new() };
            network.pools = ips.flat_map(|result| result.ips.iter().map(pool)).collect();
        }
        Ok(())
    }

    /// What it asks of name servers, and where it asks nothing what the plugins of its networks gave; the first of them that gave
    /// any.
    pub(super) fn with_given_dns<'a>(&self, owner: &ContainerId, host: &'a HostSpec, endpoints: &[Endpoint]) -> Result<Cow<'a, HostSpec>> {
        if !endpoints.iter().any(is_cni) {
            return Ok(Cow::Borrowed(host));
        }
        let attached = self.cni_driver().attached_to(owner.as_str()).map_err(crate::network::Error::from)?;
        let results = attached.into_iter().filter_map(|attached| attached.result.map(|result| result.dns));
        let Some(mut dns) = results.into_iter().find(|dns| !dns.nameservers.is_empty()) else { return Ok(Cow::Borrowed(host)) };
        let mut host = host.clone();
        dns.nameservers.retain(|server| server.parse::<IpAddr>().is_ok());
        if dns.search.is_empty() {
            dns.search.extend(dns.domain);
        }
        for (asked, mut given) in [(&mut host.dns, dns.nameservers), (&mut host.dns_search, dns.search), (&mut host.dns_options, dns.options)] {
            given.retain(|word| crate::network::valid_host_entry(word));
            if asked.is_empty() {
                *asked = given;
            }
        }
        Ok(Cow::Owned(host))
    }

    /// All CNI networks, with their pools.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn cni_networks(&self) -> Result<Vec<Network>> {
        Ok(self.cni_configs()?.networks.iter().map(|network| record_of(&network.name, pools_of(network))).collect())
    }

    /// Attaches those endpoints that are on CNI networks, and fills in what the plugins gave them. Published ports go with
    /// the one that has the default route. Whoever fails calls [`release`].
    ///
    /// # Errors
    /// A network is not configured any more, or what its plugins say.
    pub(super) fn attach_cni(
        &self,
        id: &ContainerId,
        netns: &Path,
        host: &HostSpec,
        endpoints: &mut [Endpoint],
        published: &[PublishedPort],
    ) -> Result<()> {
        if !endpoints.iter().any(is_cni) {
            return Ok(());
        }
        let (driver, configs) = (self.cni_driver(), self.cni_configs()?);
        // What an earlier run left because a plugin failed.
        driver.del_all(id).map_err(crate::network::Error::from)?;
        let asked = host.attachments();
        for endpoint in endpoints.iter_mut().filter(|endpoint| is_cni(endpoint)) {
            let network = configs.find(&endpoint.network).map_err(crate::network::Error::from)?;
            let asked = asked.iter().find(|asked| asked.network == endpoint.network || asked.network == endpoint.network_id);
            let ports = if endpoint.gateway { published } else { &[] };
            let wishes = wishes(host, &asked.cloned().unwrap_or_default(), ports)?;
            let interface: InterfaceName = endpoint.interface.parse().map_err(crate::network::Error::from)?;
            let attachment = cni::Attachment { container: id, interface: &interface, netns, arguments: &[], wishes: &wishes };
            let result = driver.add(network, &attachment).map_err(crate::network::Error::from)?;
            take_over(endpoint, &result);
        }
        Ok(())
    }

    pub(super) fn cni_configs(&self) -> Result<Configs> {
        Ok(Configs::load(&self.cni.config_dir).map_err(crate::network::Error::from)?)
    }

    pub(super) fn cni_driver(&self) -> Driver {
        let plugins = Plugins { directories: self.cni.plugin_dirs.clone(), timeout: self.cni.timeout };
        Driver::new(records(&self.privilege.roots), plugins)
    }

    /// Whether a container or pod may have attachments. One whose record cannot be read may.
    fn may_be_attached(&self, id: &str) -> bool {
        let Ok(id) = id.parse::<ContainerId>() else { return false };
        let container = match self.db.container(&id) {
            Ok(record) => record.is_some_and(|record| record.phase == Phase::Started),
            Err(_) => true,
        };
        container
            || match self.db.pod(&id) {
                Ok(pod) => pod.is_some_and(|pod| matches!(pod.phase, PodPhase::Started | PodPhase::Stopping)),
                Err(_) => true,
            }
    }

    /// Attachments without a container that runs, those that plugins do not find as they made them (unless `quick`), and
    /// networks that are not ready. `repair` releases the first, and has the plugins collect where the settings say that
    /// nobody else uses the networks.
    pub(super) fn check_cni(&self, quick: bool, repair: bool, checked: &mut Checked) -> Result<()> {
        let driver = self.cni_driver();
        let attached = driver.attached().map_err(crate::network::Error::from)?;
        if attached.is_empty() {
            return Ok(());
        }
        let mut used = BTreeSet::new();
        for attached in &attached {
            used.insert(attached.network.as_str());
            let trouble = if self.may_be_attached(&attached.container) {
                if quick { None } else { check_living(&driver, attached) }
            } else {
                self.check_leftover(&driver, attached, repair)?
            };
            checked.problems.extend(trouble);
        }
        let configs = self.cni_configs()?;
        for network in configs.networks.iter().filter(|network| used.contains(network.name.as_str())) {
            let object = format!("CNI network {}", network.name);
            if let Err(error) = driver.status(network) {
                checked.problems.push(stands(object, &error, None));
            } else if repair && self.cni.exclusive {
                let collected = driver.gc(network, &|id| self.may_be_attached(id)).map_err(crate::network::Error::from)?;
                checked.problems.extend(collected.failures.iter().map(|error| stands(object.clone(), error, None)));
            }
        }
        Ok(())
    }

    fn check_leftover(&self, driver: &Driver, attached: &Attached, repair: bool) -> Result<Option<Trouble>> {
        let (object, problem) = (object(attached), format!("a leftover on CNI network \"{}\": nothing of that id runs", attached.network));
        if !repair {
            return Ok(Some(Trouble { object, problem, mended: None, hint: Some("mend it with --repair".to_owned()) }));
        }
        let Ok(id) = attached.container.parse::<ContainerId>() else { return Ok(None) };
        // Whoever starts it right now holds the lock, and releases what is left itself.
        let Some(_lock) = super::container::try_lock(&self.privilege.roots, &id)? else { return Ok(None) };
        if self.may_be_attached(id.as_str()) {
            return Ok(None);
        }
        Ok(Some(match driver.del(&id, &attached.interface) {
            Ok(()) => Trouble { object, problem, mended: Some("released".to_owned()), hint: None },
            Err(error) => stands(object, &error, None),
        }))
    }
}

fn object(attached: &Attached) -> String {
    format!("{} of {}", attached.interface, attached.container.get(..12).unwrap_or(&attached.container))
}

fn check_living(driver: &Driver, attached: &Attached) -> Option<Trouble> {
    let id = attached.container.parse::<ContainerId>().ok()?;
    let hint = Some(format!("restart {}, or set disableCheck where the plugin is mistaken", id.short()));
    match driver.check(&id, &attached.interface) {
        Ok(_) => None,
        // It went while we looked, or is not ready yet.
        Err(cni::Error::NotAttached { .. } | cni::Error::Busy(_)) => None,
        Err(error) => Some(stands(object(attached), &error, hint)),
    }
}

fn stands(object: String, error: &cni::Error, hint: Option<String>) -> Trouble {
    Trouble { object, problem: error.in_full(), mended: None, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::Source;

    fn read(text: &str) -> std::result::Result<CniSettings, String> {
        let (source, mut settings) = (Source::of(text), CniSettings::default());
        let mut table = source.table().map_err(|error| error.to_string())?;
        settings.read(&mut table).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn settings_are_read_and_checked() {
        let settings = read("[cni]\nconfig_dir = \"/x\"\nplugin_dirs = [\"/a\", \"/b\"]\ntimeout = 5\nexclusive = true\n").unwrap();
        assert_eq!(settings.config_dir, Path::new("/x"));
        assert_eq!(settings.plugin_dirs, [Path::new("/a"), Path::new("/b")]);
        assert_eq!((settings.timeout, settings.exclusive), (Duration::from_secs(5), true));
        assert_eq!(read("").unwrap(), CniSettings::default());
        for (text, expected) in [
            ("[cni]\nconfig_dir = \"x\"\n", "line 2: cni.config_dir: \"x\" is not an absolute path"),
            ("[cni]\nplugin_dirs = [\"/a:/b\"]\n", "line 2: cni.plugin_dirs: \"/a:/b\" is not an absolute path without colons"),
            ("[cni]\ntimeout = 0\n", "line 2: cni.timeout: expected a whole number from 1 to 3600, found 0"),
            ("[cni]\nplugin_dir = \"/a\"\n", "line 2: unknown key cni.plugin_dir; did you mean plugin_dirs?"),
        ] {
            assert_eq!(read(text).unwrap_err(), format!("cannot use the settings in /test/rcon.toml, {expected}"));
        }
    }
}
