//! The names of those who are on a network, for the resolvers of all of them: written anew by whoever starts, ends, connects,
//! disconnects or renames one.

use super::*;
use crate::base::Roots;
use crate::base::fs::Context;
use crate::network::dns::{Entry, Plan, PlannedNetwork, names};
use crate::state::Db;
use crate::state::record::Endpoint;
use rustix::fs::FlockOperation;
use std::path::PathBuf;

fn directory(roots: &Roots, network: &Network) -> PathBuf {
    roots.run.join("networks").join(&network.id)
}

fn file(roots: &Roots, network: &Network) -> PathBuf {
    directory(roots, network).join("names")
}

/// Writes the names files of these networks from the records. Idempotent; the last of several at once writes what all committed.
///
/// # Errors
/// The database's failure, or a file cannot be written.
pub(in crate::engine) fn refresh(db: &Db, roots: &Roots, networks: &[Network]) -> Result<()> {
    for network in networks.iter().filter(|network| network.dns) {
        let directory = directory(roots, network);
        crate::base::fs::create_dir_all(&directory, 0o700)?;
        let path = directory.join("lock");
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).on("open", &path)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(std::io::Error::from).on("lock", &path)?;
        names::write(&file(roots, network), &entries(db, network)?)?;
    }
    Ok(())
}

/// What is left of a network that was removed.
pub(super) fn forget(roots: &Roots, network: &Network) -> Result<()> {
    Ok(crate::base::fs::remove_tree(&directory(roots, network))?)
}

fn entries(db: &Db, network: &Network) -> Result<Vec<Entry>> {
    let of_network = |attachment: &&Attachment| attachment.is_to(network);
    let mut entries = Vec::new();
    for id in db.network_members(&network.name)? {
        if let Some(record) = db.container(&id)? {
            let aliases = |attachment: &Attachment| attachment.aliases.clone();
            let mut names: Vec<String> = record.spec.host.attachments().iter().filter(of_network).flat_map(aliases).collect();
            names.push(record.spec.hostname.clone());
            entries.extend(entry(network, &id, record.name.as_str(), names, &record.endpoints));
        } else if let Some(pod) = db.pod(&id)? {
            // The members are reached where their pod is.
            let mut names = vec![pod.spec.hostname.clone()];
            names.extend(db.pod_members(&id)?.iter().map(|member| member.name.to_string()));
            names.extend(pod.spec.host.attachments().iter().filter(of_network).flat_map(|a| a.aliases.clone()));
            entries.extend(entry(network, &id, pod.name.as_str(), names, &pod.endpoints));
        }
    }
    Ok(entries)
}

fn entry(network: &Network, id: &crate::base::ContainerId, name: &str, mut aliases: Vec<String>, endpoints: &[Endpoint]) -> Option<Entry> {
    let endpoint = endpoints.iter().find(|endpoint| endpoint.network == network.name)?;
    aliases.retain(|alias| !alias.is_empty() && alias != name);
    Some(Entry { container: id.to_string(), name: name.to_owned(), aliases, ipv4: endpoint.ipv4, ipv6: endpoint.ipv6 })
}

/// What the resolver of a container on these networks has to know.
pub(in crate::engine) fn plan(roots: &Roots, networks: &[Network], servers: &[String]) -> serde_json::Value {
    let planned = |network: &Network| PlannedNetwork { name: network.name.clone(), names: file(roots, network) };
    let plan = Plan {
        networks: networks.iter().filter(|network| network.dns).map(planned).collect(),
        servers: servers.to_vec(),
        forward: networks.iter().any(|network| !network.internal),
    };
    serde_json::to_value(plan).expect("invariant: texts and paths below our own roots are JSON")
}
