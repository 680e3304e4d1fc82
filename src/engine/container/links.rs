//! `--link`: lines of `/etc/hosts` and variables about other containers of the default bridge, as they are at each start.
//!
//! Variables (Docker's "legacy container links"): `ALIAS_NAME`, `ALIAS_PORT`, for each exposed port
//! `ALIAS_PORT_80_TCP{,_ADDR,_PORT,_PROTO}`, and the other's own variables as `ALIAS_ENV_K`.

use super::super::{Engine, Error, Result};
use crate::state::record::{Container, DEFAULT_NETWORK, Link, NetworkMode};
use std::net::Ipv4Addr;

/// A linked container that runs.
#[derive(Debug)]
pub(in crate::engine) struct Linked {
    pub names: Vec<String>,
    pub address: Ipv4Addr,
    pub env: Vec<String>,
}

impl Engine {
    /// The linked containers must exist; they are recorded by id, so that a rename breaks nothing.
    pub(super) fn resolve_links(&self, links: &mut [Link], requires: &mut [String]) -> Result<()> {
        for link in links {
            let other = self.find(&link.container)?;
            if other.spec.host.network != NetworkMode::Bridge {
                return Err(Error::Conflict {
                    message: format!("cannot link to container {}: it is not on the default bridge", link.container),
                    hint: Some("create that one with --network bridge".to_owned()),
                });
            }
            link.container = other.id.to_string();
        }
        for name in requires {
            *name = self.find(name)?.id.to_string();
        }
        Ok(())
    }

    /// What the container gets to know of those it is linked to.
    ///
    /// # Errors
    /// One of them does not run.
    pub(super) fn linked(&self, record: &Container) -> Result<Vec<Linked>> {
        record.spec.host.links.iter().map(|link| self.look_at(record, link)).collect()
    }

    fn look_at(&self, record: &Container, link: &Link) -> Result<Linked> {
        let view = self.view(&link.container)?;
        let other = &view.record;
        let address = other.endpoints.iter().find(|endpoint| endpoint.network == DEFAULT_NETWORK).and_then(|endpoint| endpoint.ipv4);
        let (Some(address), true) = (address, view.pid != 0) else {
            return Err(Error::Conflict {
                message: format!("cannot link to a non running container: {} as {}", other.name, link.alias),
                hint: Some(format!("start {} first", other.name)),
            });
        };
        let mut names = vec![link.alias.clone(), other.spec.hostname.clone(), other.name.to_string()];
        names.retain(|name| !name.is_empty());
        names.dedup();
        Ok(Linked { names, address, env: variables(record.name.as_str(), &link.alias, other, address) })
    }

    /// Takes a link away, named `CONTAINER/ALIAS` as Docker does. The names go out of a running container's hosts file; the
    /// variables of its processes stay.
    ///
    /// # Errors
    /// `NoSuch` for the container or the alias; `Invalid` for another form.
    pub fn unlink(&self, text: &str) -> Result<()> {
        let Some((name, alias)) = text.trim_start_matches('/').split_once('/') else {
            return Err(Error::Invalid { message: format!("\"{text}\" names no link"), hint: Some("give it as CONTAINER/ALIAS".to_owned()) });
        };
        let roots = &self.privilege.roots;
        let id = self.find(name)?.id;
        let _lock = super::locks::lock(roots, &id)?;
        let mut record = self.db.container(&id)?.ok_or_else(|| Error::no_such("container", name))?;
        let place = record.spec.host.links.iter().position(|link| link.alias == alias).ok_or_else(|| Error::no_such("link", text))?;
        let link = record.spec.host.links.remove(place);
        // Of one that does not run there are no names anywhere.
        let linked = self.look_at(&record, &link).ok();
        self.db.write(true, |tx| tx.update_container(&record))?;
        let elsewhere = record.spec.host.links.iter().any(|other| other.container == link.container);
        if let (Some(linked), true) = (linked, self.view_of(record.clone()).pid != 0) {
            let names = if elsewhere { &linked.names[..1] } else { &linked.names[..] };
            super::etc::forget(&roots.container(&id), linked.address.into(), names)?;
        }
        Ok(())
    }

    /// Starts what `--requires` names, in the order given; those that run already are fine.
    pub(super) fn start_required(&self, record: &Container) -> Result<()> {
        for id in &record.spec.host.requires {
            let other = self.view(id)?;
            if other.pid == 0 {
                self.start(&other.record.id, Default::default(), (0, 0))?;
            }
        }
        Ok(())
    }
}

fn variables(own: &str, alias: &str, other: &Container, address: Ipv4Addr) -> Vec<String> {
    let prefix: String = alias.to_ascii_uppercase().replace('-', "_");
    let mut env = vec![format!("{prefix}_NAME=/{own}/{alias}")];
    for (index, exposed) in other.spec.exposed.iter().enumerate() {
        let (port, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let url = format!("{protocol}://{address}:{port}");
        let key = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
        if index == 0 {
            env.push(format!("{prefix}_PORT={url}"));
        }
        env.push(format!("{key}={url}"));
        env.push(format!("{key}_ADDR={address}"));
        env.push(format!("{key}_PORT={port}"));
        env.push(format!("{key}_PROTO={protocol}"));
    }
    let inherited = other.spec.process.env.iter().filter(|entry| !entry.starts_with("PATH=") && !entry.starts_with("HOME="));
    env.extend(inherited.filter(|entry| entry.contains('=')).map(|entry| format!("{prefix}_ENV_{entry}")));
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ContainerId;
    use crate::state::record::ContainerSpec;

    #[test]
    fn variables_are_dockers() {
        let mut spec = ContainerSpec { exposed: vec!["5432/tcp".to_owned(), "53/udp".to_owned()], ..ContainerSpec::default() };
        spec.process.env = vec!["PATH=/bin".to_owned(), "K=v".to_owned(), "BARE".to_owned()];
        let other = Container::new(ContainerId::random(), "db".parse().unwrap(), spec);
        let env = variables("web", "my-sql", &other, "10.0.0.2".parse().unwrap());
        let expected = "MY_SQL_NAME=/web/my-sql MY_SQL_PORT=tcp://10.0.0.2:5432 MY_SQL_PORT_5432_TCP=tcp://10.0.0.2:5432 \
            MY_SQL_PORT_5432_TCP_ADDR=10.0.0.2 MY_SQL_PORT_5432_TCP_PORT=5432 MY_SQL_PORT_5432_TCP_PROTO=tcp \
            MY_SQL_PORT_53_UDP=udp://10.0.0.2:53 MY_SQL_PORT_53_UDP_ADDR=10.0.0.2 MY_SQL_PORT_53_UDP_PORT=53 MY_SQL_PORT_53_UDP_PROTO=udp \
            MY_SQL_ENV_K=v";
        assert_eq!(env.join(" "), expected);
    }
}
