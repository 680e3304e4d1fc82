//! `[container]` of the settings files: what new containers get that say nothing else themselves.

use super::request::{CreateContainer, FlagError, log, network, ulimit};
use crate::base::settings::{SettingsError, Table};
use crate::state::record::{LogSpec, NetworkMode, Ulimit};

/// Longest stop timeout that may be asked for: a day.
const STOP_TIMEOUT: u64 = 86_400;

/// What `[container]` says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults {
    pub ulimits: Vec<Ulimit>,
    /// Addresses of name servers.
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// Seconds.
    pub stop_timeout: Option<i64>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    log_driver: Option<String>,
    log_options: Vec<String>,
    /// Of driver and options together.
    pub log: LogSpec,
}

impl Defaults {
    /// Takes the section out of a file; a later file overrides single keys of an earlier one.
    ///
    /// # Errors
    /// An unknown key or a value that is not valid, with its line.
    pub fn read(&mut self, file: &mut Table<'_>) -> Result<(), SettingsError> {
        let Some(mut table) = file.table("container")? else { return Ok(()) };
        if let Some(list) = parsed(&mut table, "ulimits", ulimit::parse)? {
            self.ulimits = list;
        }
        if let Some(list) = parsed(&mut table, "dns", network::parse_dns)? {
            self.dns = list;
        }
        for (key, to) in [("dns_search", &mut self.dns_search), ("dns_options", &mut self.dns_options)] {
            if let Some(list) = table.texts(key)? {
                *to = list.into_iter().map(|item| item.value).collect();
            }
        }
        if let Some(seconds) = table.integer("stop_timeout", 0..=STOP_TIMEOUT)? {
            self.stop_timeout = i64::try_from(seconds).ok();
        }
        self.shm_size = table.size("shm_size")?.or(self.shm_size);
        if let Some(driver) = table.text("log_driver")? {
            self.log_driver = Some(driver.value);
            // Those of an earlier file are another driver's.
            self.log_options.clear();
        }
        if let Some(list) = table.texts("log_options")? {
            self.log_options = list.into_iter().map(|item| item.value).collect();
        }
        self.log = log::parse(self.log_driver.as_deref(), &self.log_options).map_err(|error| table.wrong(error))?;
        table.finish()
    }

    /// The request with what it leaves open.
    pub(super) fn fill(&self, request: &CreateContainer) -> CreateContainer {
        let mut request = request.clone();
        let host = &mut request.host;
        for limit in &self.ulimits {
            if !host.ulimits.iter().any(|own| own.name == limit.name) {
                host.ulimits.push(limit.clone());
            }
        }
        // A container on another's network, or in a pod, has the names of that one.
        if !matches!(host.network, NetworkMode::Container(_)) && request.pod.is_none() {
            for (own, default) in [(&mut host.dns, &self.dns), (&mut host.dns_search, &self.dns_search), (&mut host.dns_options, &self.dns_options)] {
                if own.is_empty() {
                    own.clone_from(default);
                }
            }
        }
        if host.shm_size == 0 {
            host.shm_size = self.shm_size.unwrap_or(0);
        }
        if !request.log_given {
            host.log.clone_from(&self.log);
        }
        request.stop_timeout = request.stop_timeout.or(self.stop_timeout);
        request
    }
}

/// A list of texts in the grammar of a flag.
fn parsed<T>(table: &mut Table<'_>, key: &'static str, parse: impl Fn(&str) -> Result<T, FlagError>) -> Result<Option<Vec<T>>, SettingsError> {
    let Some(list) = table.texts(key)? else { return Ok(None) };
    list.into_iter()
        .map(|item| parse(&item.value).map_err(|error| table.wrong_value(key, &item, error.reason)))
        .collect::<Result<Vec<T>, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::Source;

    fn read(text: &str) -> Result<Defaults, String> {
        let source = Source::of(text);
        let mut table = source.table().unwrap();
        let mut defaults = Defaults::default();
        defaults.read(&mut table).map_err(|error| error.to_string())?;
        Ok(defaults)
    }

    #[test]
    fn what_a_request_leaves_open_is_filled() {
        let text = "[container]\nulimits=[\"nofile=10:20\", \"core=0\"]\ndns=[\"192.0.2.1\"]\ndns_search=[\"example.org\"]\nstop_timeout=3\nshm_size=\"1m\"\n";
        let defaults = read(text).unwrap();
        let mut request = CreateContainer::default();
        request.host.ulimits.push(ulimit::parse("nofile=1:2").unwrap());
        let filled = defaults.fill(&request);
        assert_eq!(filled.host.ulimits.iter().map(|u| (u.name.as_str(), u.soft)).collect::<Vec<_>>(), [("nofile", 1), ("core", 0)]);
        assert_eq!(
            (filled.host.dns, filled.host.dns_search, filled.stop_timeout, filled.host.shm_size),
            (vec!["192.0.2.1".to_owned()], vec!["example.org".to_owned()], Some(3), 1 << 20)
        );
        request.stop_timeout = Some(9);
        let defaults = Defaults { log: log::parse(None, &["max-size=1m".to_owned()]).unwrap(), ..defaults };
        assert_eq!(defaults.fill(&request).host.log.options["max-size"], "1m");
        request.log_given = true;
        assert!(defaults.fill(&request).host.log.options.is_empty());
        request.host.network = NetworkMode::Container("x".to_owned());
        let filled = defaults.fill(&request);
        assert!(filled.host.dns.is_empty() && filled.stop_timeout == Some(9));
    }

    #[test]
    fn wrong_values_name_their_line() {
        for (text, part) in [
            ("[container]\nulimits=[\"bogus=1\"]", "line 2: container.ulimits"),
            ("[container]\ndns=[\"x\"]", "not an IP address"),
            ("[container]\nstop_timeout=-1", "line 2"),
            ("[container]\nbogus=1", "bogus"),
            ("[container]\nlog_driver=\"none\"\nlog_options=[\"max-size=1m\"]", "container: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
