//! Docker's documents of `host` and `none`, which are modes of a container rather than networks that somebody made.

use super::{Engine, Error, Result, record};
use crate::base::Timestamp;
use crate::oci::Digest;
use record::{NetworkMode, Phase};
use serde_json::{Map, Value, json};

impl Engine {
    /// # Errors
    /// `NoSuch` for any other name.
    pub(super) fn builtin_network(&self, name: &str) -> Result<Value> {
        let (name, driver, mode) = match name {
            "host" => ("host", "host", NetworkMode::Host),
            "none" => ("none", "null", NetworkMode::None),
            other => return Err(Error::no_such("network", other)),
        };
        let created = self.db.network("bridge")?.map_or(Timestamp::NEVER, |bridge| bridge.created);
        let mut containers = Map::new();
        for record in self.db.active_containers()?.into_iter().filter(|record| record.phase == Phase::Started && record.spec.host.network == mode) {
            let endpoint = json!({
                "Name": record.name.as_str(), "EndpointID": record.id.as_str(), "MacAddress": "", "IPv4Address": "", "IPv6Address": "",
            });
            containers.insert(record.id.as_str().to_owned(), endpoint);
        }
        Ok(json!({
            "Name": name,
            "Id": builtin_id(name),
            "Created": created.to_string(),
            "Scope": "local",
            "Driver": driver,
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": [] },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": {},
            "Labels": {},
        }))
    }
}

/// The same on every host: there is one of each, and nothing is stored.
pub fn builtin_id(name: &str) -> String {
    Digest::of(format!("network {name}").as_bytes()).hex().to_owned()
}

/// Whether `host` or `none`, which have no record, are among what the filters leave.
pub fn builtin_matches(filters: &[(String, String)], name: &str, driver: &str) -> bool {
    let fits = |key: &str, value: &str| match key {
        "driver" => value == driver,
        "name" => name.contains(value),
        "id" => builtin_id(name).contains(value),
        "scope" => value == "local",
        "type" => value == "builtin",
        _ => false,
    };
    // The same key repeated is OR, different keys are AND.
    filters.iter().all(|(key, _)| filters.iter().any(|(other, value)| other == key && fits(key, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Privilege, Roots};

    #[test]
    fn host_and_none_have_documents() {
        let root = std::env::temp_dir().join(format!("rcon-builtin-{}", crate::base::random_hex(8)));
        let privilege = Privilege { roots: Roots { data: root.join("data"), run: root.join("run") }, ..Privilege::detect(None, None) };
        let engine = Engine::open(privilege, crate::image::RegistryConfig::default()).unwrap();
        for (name, driver) in [("host", "host"), ("none", "null")] {
            let document = engine.inspect_any(name).unwrap();
            assert_eq!((document["Name"].as_str(), document["Driver"].as_str(), &document["IPAM"]["Config"]), (Some(name), Some(driver), &json!([])));
            assert_eq!(document["Id"].as_str().map(str::len), Some(64));
        }
        assert!(matches!(engine.inspect_network("nosuch"), Err(Error::NoSuch { .. })));
        std::fs::remove_dir_all(root).unwrap();
    }
}
