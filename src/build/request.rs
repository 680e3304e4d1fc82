//! What a build is asked for.

use super::attest::Attest;
use super::cache::{CacheFrom, CacheTo};
use super::error::Error;
use super::output::Output;
use crate::base::fs::{self, FsError};
use crate::engine::request::parse_bool;
use crate::oci::Reference;
use crate::state::record::HostSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The options of `rcon build`, parsed.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// A directory, `-`, or an address.
    pub context: String,
    /// `-f`.
    pub dockerfile: Option<String>,
    /// `--build-context`: where stages and images of these names come from instead.
    pub contexts: BTreeMap<String, String>,
    pub tags: Vec<Reference>,
    /// Empty: an image in the store.
    pub outputs: Vec<Output>,
    /// Name or number of the stage that is wanted; None: the last one.
    pub target: Option<String>,
    /// Arguments with their values; those without one were looked up by the caller.
    pub arguments: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// `os/arch[/variant]`, each; none: the host's.
    pub platforms: Vec<String>,
    /// What is to be attested of the result.
    pub attest: Attest,
    /// Only look for likely mistakes in the Dockerfile; nothing is built.
    pub check: bool,
    /// Ask the registries for newer images.
    pub pull: bool,
    /// Results of steps that are there are not used.
    pub no_cache: bool,
    /// Stages of which that is so.
    pub no_cache_stages: Vec<String>,
    /// Caches that results are taken from where there are none here.
    pub cache_from: Vec<CacheFrom>,
    pub cache_to: Vec<CacheTo>,
    /// Network, hosts and limits of the steps.
    pub host: HostSpec,
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of agents by their id.
    pub agents: BTreeMap<String, PathBuf>,
    /// What steps may do that they may not by default.
    pub allow: Allow,
}

/// The build argument that asks for a cache inside of the image.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

impl BuildRequest {
    /// Whether the image names the results that it is made of.
    ///
    /// # Errors
    /// The argument is neither true nor false.
    pub fn inline_cache(&self) -> Result<bool, Error> {
        let text = self.arguments.get(INLINE_CACHE).filter(|text| !text.is_empty());
        let asked = text.map(|text| parse_bool(text).map_err(|why| Error::invalid(format!("--build-arg {INLINE_CACHE}={text}: {why}"))));
        Ok(asked.transpose()?.unwrap_or(false) || self.cache_to.contains(&CacheTo::Inline))
    }
}

/// Where the bytes of a secret are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    Value(Vec<u8>),
}

/// Entitlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// `network.host`
    pub host_network: bool,
    /// `security.insecure`
    pub insecure: bool,
}

impl SecretSource {
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, FsError> {
        match self {
            SecretSource::File(path) => fs::read(path),
            SecretSource::Value(bytes) => Ok(bytes.clone()),
        }
    }
}
