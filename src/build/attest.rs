//! What is attested of an image on request: what it holds (`--sbom`) and how it came to be (`--provenance`).
//!
//! Here the predicates are made. The statements around them name the digest of a manifest, so they are made when the image is
//! written somewhere (`image`).

mod packages;
mod provenance;
mod sbom;

pub use provenance::{Call, Invocation, Materials};

use super::error::Result;
use super::from;
use super::progress::Begun;
use super::stage::Finished;
use crate::base::csv;
use crate::engine::Engine;
use crate::engine::request::parse_bool;
use crate::oci::Digest;
use crate::state::index::Attestation;
use std::os::fd::AsFd;

/// Predicate types (spdx.dev, slsa.dev/spec/v1.0/provenance).
const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// What is asked for; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    pub sbom: bool,
    pub provenance: Option<Provenance>,
}

/// How much of a build is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Also build arguments, names of secrets, and the Dockerfile.
    pub max: bool,
    /// The URI of whoever vouches for the build; None: this program.
    pub builder: Option<String>,
    /// The user says that the build is reproducible.
    pub reproducible: bool,
}

impl Attest {
    pub fn is_empty(&self) -> bool {
        !self.sbom && self.provenance.is_none()
    }

    /// `--attest type=sbom|provenance,…`.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn add(&mut self, text: &str) -> std::result::Result<(), String> {
        let fields = csv::split(text)?;
        let kind = fields.iter().find_map(|field| field.strip_prefix("type=")).ok_or("type is missing: sbom or provenance")?.to_owned();
        let options: Vec<String> = fields.into_iter().filter(|field| !field.starts_with("type=")).collect();
        match kind.as_str() {
            "sbom" => self.add_sbom(&options.join(",")),
            "provenance" => self.add_provenance(&options.join(",")),
            other => Err(format!("the type {other} is not supported: expected sbom or provenance")),
        }
    }

    /// `--sbom`: `true`, `false`, or options.
    ///
    /// # Errors
    /// As [`Attest::add`].
    pub fn add_sbom(&mut self, text: &str) -> std::result::Result<(), String> {
        let mut wanted = true;
        for (key, value) in options(text)? {
            match key.as_str() {
                "disabled" => wanted = !flag(&key, &value)?,
                "generator" => return Err(format!("the generator {value} is not run: the packages of the image are listed by rcon itself")),
                _ => return Err(format!("{key} is no option of an SBOM: expected true, false or disabled=true")),
            }
        }
        self.sbom = wanted;
        Ok(())
    }

    /// `--provenance`: `true`, `false`, or options.
    ///
    /// # Errors
    /// As [`Attest::add`].
    pub fn add_provenance(&mut self, text: &str) -> std::result::Result<(), String> {
        let (mut wanted, mut provenance) = (true, Provenance::default());
        for (key, value) in options(text)? {
            match (key.as_str(), value.as_str()) {
                ("disabled", _) => wanted = !flag(&key, &value)?,
                ("mode", "min") => provenance.max = false,
                ("mode", "max") => provenance.max = true,
                ("mode", other) => return Err(format!("the mode {other} is neither min nor max")),
                ("version", "v1" | "1") => {}
                ("version", other) => return Err(format!("the version {other} of SLSA provenance is not written: only v1")),
                ("builder-id", uri) if uri.contains(':') => provenance.builder = Some(uri.to_owned()),
                ("reproducible", _) => provenance.reproducible = flag(&key, &value)?,
                ("builder-id", other) => return Err(format!("the builder-id \"{other}\" is no URI")),
                _ => {
                    let known = "true, false, mode=min|max, version=v1, reproducible=true or builder-id=URI";
                    return Err(format!("{key} is no option of provenance: expected {known}"));
                }
            }
        }
        self.provenance = wanted.then_some(provenance);
        Ok(())
    }
}

/// `true`, `false` and nothing are said shortly.
fn options(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    match parse_bool(text) {
        _ if text.is_empty() => return Ok(Vec::new()),
        Ok(wanted) => return Ok(vec![("disabled".to_owned(), (!wanted).to_string())]),
        Err(_) => {}
    }
    let pair = |field: &String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("\"{field}\" is not KEY=VALUE")),
    };
    csv::split(text)?.iter().map(pair).collect()
}

fn flag(key: &str, value: &str) -> std::result::Result<bool, String> {
    parse_bool(value).map_err(|_| format!("{key}={value}: expected true or false"))
}

/// The predicates of one image, whose config is given.
///
/// # Errors
/// Its files cannot be read.
pub fn attest(
    engine: &Engine,
    wanted: &Attest,
    (finished, materials, invocation): (&Finished, &Materials, &Invocation<'_>),
    config: &[u8],
    begun: &Begun<'_>,
) -> Result<Vec<Attestation>> {
    let mut attestations = Vec::new();
    if wanted.sbom {
        let tree = from::mount(engine, &finished.layers)?;
        let found = packages::list(tree.as_fd())?;
        begun.say(&format!("listed {} packages of the image for {}", found.packages.len(), finished.platform));
        found.unread.iter().for_each(|what| begun.say(&format!("not listed: {what}")));
        let subject = sbom::Subject { name: invocation.name(), id: &Digest::of(config), config };
        attestations.push(Attestation { predicate_type: SPDX.to_owned(), predicate: sbom::document(&subject, &found)? });
    }
    if let Some(provenance) = &wanted.provenance {
        let predicate = provenance::predicate(provenance, finished, materials, invocation);
        attestations.push(Attestation { predicate_type: SLSA.to_owned(), predicate });
    }
    Ok(attestations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let mut attest = Attest::default();
        attest.add_sbom("true").unwrap();
        attest.add_provenance("mode=max,reproducible=true,builder-id=https://ci.example/1").unwrap();
        let provenance = Provenance { max: true, builder: Some("https://ci.example/1".to_owned()), reproducible: true };
        assert_eq!(attest, Attest { sbom: true, provenance: Some(provenance) });
        attest.add("type=sbom,disabled=true").unwrap();
        attest.add_provenance("false").unwrap();
        assert!(attest.is_empty());
        attest.add("type=provenance").unwrap();
        assert_eq!(attest.provenance, Some(Provenance::default()));
        for (text, words) in [
            ("type=sbom,generator=docker/scout", "is not run"),
            ("type=vex", "type vex"),
            ("mode=max", "type is missing"),
            ("type=provenance,mode=most", "neither min nor max"),
            ("type=provenance,version=v0.2", "only v1"),
            ("type=provenance,builder-id=me", "no URI"),
            ("type=sbom,disabled=perhaps", "true or false"),
        ] {
            let why = Attest::default().add(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
