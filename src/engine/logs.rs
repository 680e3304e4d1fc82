//! logs: what a container said, from its files or from the journal; and what its records say besides.

use super::request::log::expand_tag;
use super::*;
use crate::base::ErrorKind;
use crate::monitor::LogContext;
use crate::state::record::Container;
use regex_lite::Regex;
use std::collections::BTreeMap;

/// The tag of drivers that need one; Docker's.
const DEFAULT_TAG: &str = "{{.ID}}";

impl Engine {
    /// Hands the lines of a container's log to `each` until it returns false, or the log ends (with `follow`: the
    /// container ends and all was read, or the engine is cancelled).
    ///
    /// # Errors
    /// `Unsupported` for a log driver that keeps nothing to read.
    pub fn logs(&self, name: &str, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        let record = self.readable(name)?;
        let log = &record.spec.host.log;
        let live_dir = self.privilege.roots.live(&record.id);
        let alive = || crate::monitor::is_alive(&live_dir) && !self.cancel.is_cancelled();
        if log.driver == "journald" {
            return Ok(crate::monitor::read_journal(record.id.as_str(), query, &alive, each)?);
        }
        let path = crate::monitor::log_path(&self.privilege.roots.container(&record.id), &log.driver);
        Ok(crate::monitor::read_log(&path, query, &alive, each)?)
    }

    /// # Errors
    /// As [`Engine::logs`], before anything is read.
    pub fn check_logs(&self, name: &str) -> Result<()> {
        self.readable(name).map(drop)
    }

    fn readable(&self, name: &str) -> Result<Container> {
        let record = self.view(name)?.record;
        match crate::monitor::unreadable_log(&record.spec.host.log) {
            None => Ok(record),
            Some(reason) => {
                Err(Error::Failed { operation: format!("read the log of container \"{name}\""), kind: ErrorKind::Unsupported, source: reason.into() })
            }
        }
    }

    /// Short id and name of a container, for lines of several.
    ///
    /// # Errors
    /// There is no such container.
    pub fn identify(&self, name: &str) -> Result<(String, String)> {
        let record = self.find(name)?;
        Ok((record.id.short().to_owned(), record.name.to_string()))
    }
}

/// What `labels`, `env`, `tag` and their like choose.
pub(in crate::engine) fn context(record: &Container) -> Result<LogContext> {
    let log = &record.spec.host.log;
    let mut attributes = BTreeMap::new();
    choose(&log.options, "labels", record.spec.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())), &mut attributes);
    choose(&log.options, "env", record.spec.process.env.iter().filter_map(|pair| pair.split_once('=')), &mut attributes);
    let given = log.options.get("tag");
    let tag = expand_tag(given.map_or(DEFAULT_TAG, String::as_str), |word| tag_word(record, word)).map_err(Error::invalid)?;
    let mut fields = BTreeMap::new();
    if log.driver == "journald" {
        for (key, value) in &attributes {
            fields.insert(journal_name(key), value.clone());
        }
        let own = [
            ("CONTAINER_ID", record.id.short()),
            ("CONTAINER_ID_FULL", record.id.as_str()),
            ("CONTAINER_NAME", record.name.as_str()),
            ("CONTAINER_TAG", &tag),
            ("IMAGE_NAME", &record.spec.image),
            ("SYSLOG_IDENTIFIER", &tag),
        ];
        fields.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    } else if given.is_some() && log.driver != "syslog" {
        attributes.insert("tag".to_owned(), tag.clone());
    }
    Ok(LogContext { attributes, tag, fields })
}

fn choose<'a>(options: &BTreeMap<String, String>, key: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>, into: &mut BTreeMap<String, String>) {
    let names: Vec<&str> = options.get(key).map(|list| list.split(',').map(str::trim).collect()).unwrap_or_default();
    let pattern = options.get(&format!("{key}-regex")).and_then(|text| Regex::new(text).ok());
    for (name, value) in pairs {
        if names.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
            into.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn tag_word(record: &Container, word: &str) -> Option<String> {
    let image = record.spec.image_id.as_str();
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    Some(match word {
        "ID" => record.id.short().to_owned(),
        "FullID" => record.id.to_string(),
        "Name" => record.name.to_string(),
        "ImageID" => hex.get(..12).unwrap_or(hex).to_owned(),
        "ImageFullID" => image.to_owned(),
        "ImageName" => record.spec.image.clone(),
        "DaemonName" => "rcon".to_owned(),
        _ => return None,
    })
}

/// A field of the journal: upper case, digits and underscores, not beginning with one (systemd.journal-fields(7)).
fn journal_name(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    name.trim_start_matches('_').chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_variables_are_chosen_by_name_or_pattern() {
        let options: BTreeMap<String, String> = [("labels", "a, b"), ("labels-regex", "^com\\.")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let mut chosen = BTreeMap::new();
        choose(&options, "labels", [("a", "1"), ("com.x", "2"), ("c", "3")].into_iter(), &mut chosen);
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["a", "com.x"]);
        assert_eq!(journal_name("com.example-x"), "COM_EXAMPLE_X");
        assert_eq!(journal_name("_a"), "A");
    }
}
