//! How an image came to be, as SLSA provenance v1 (slsa.dev/spec/v1.0/provenance), with the parameters that BuildKit writes.
//!
//! Secrets are never part of it: of those that were given only the names are told, and no address with its credentials.

use super::Provenance;
use super::sbom::quoted;
use crate::base::Timestamp;
use crate::build::context::redacted;
use crate::build::error::Result;
use crate::build::request::BuildRequest;
use crate::build::stage::Finished;
use crate::engine::Engine;
use crate::oci::{Digest, Platform, Reference};
use crate::state::record::Image;
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the fields of a build definition mean.
const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// This program as a builder.
const BUILDER: &str = concat!("pkg:generic/rcon@", env!("CARGO_PKG_VERSION"));

/// What a build was made of, each once.
#[derive(Debug, Default)]
pub struct Materials(Mutex<BTreeMap<String, Material>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Material {
    algorithm: &'static str,
    digest: String,
    /// What the digest is of, where that is not what anybody would think.
    of: Option<&'static str>,
}

impl Materials {
    /// A base image, or one that files were copied from.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn image(&self, engine: &Engine, name: &str, platform: &Platform, image: &Image) -> Result<()> {
        let Ok(reference) = name.parse::<Reference>() else { return Ok(()) };
        let own = |text: &String| {
            let named: Reference = text.parse().ok()?;
            (named.name() == reference.name()).then(|| named.digest().map(str::to_owned))?
        };
        let named = engine.db.names()?.into_iter().filter(|(_, id)| *id == image.id).find_map(|(text, _)| own(&text));
        let (digest, of) = match reference.digest().map(str::to_owned).or(named).or_else(|| image.manifest_digest.clone()) {
            Some(digest) => (digest, None),
            None => (image.id.clone(), Some("the image's config: it was never in a registry")),
        };
        let tag = reference.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
        let uri = format!("pkg:docker/{}{tag}?platform={}", reference.familiar_name(), quoted(&platform.to_string()));
        self.add(uri, &digest, of);
        Ok(())
    }

    /// A file that was fetched.
    pub fn file(&self, url: &str, digest: &Digest) {
        self.add(public(url), digest.as_str(), None);
    }

    /// A commit of a repository.
    pub fn commit(&self, url: &str, commit: &str) {
        self.all().insert(public(url), Material { algorithm: hash(commit), digest: commit.to_owned(), of: None });
    }

    fn add(&self, uri: String, digest: &str, of: Option<&'static str>) {
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
        let algorithm = if algorithm == "sha512" { "sha512" } else { "sha256" };
        self.all().insert(uri, Material { algorithm, digest: hex.to_owned(), of });
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Material>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self) -> Vec<Value> {
        let document = |(uri, material): (&String, &Material)| {
            let mut document = json!({ "uri": uri, "digest": { material.algorithm: material.digest } });
            if let Some(of) = material.of {
                document["annotations"] = json!({ "digestOf": of });
            }
            document
        };
        self.all().iter().map(document).collect()
    }
}

/// An address without its credentials: of HTTP ones also a name alone may be a token.
fn public(text: &str) -> String {
    let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else { return redacted(text) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// Git names commits by SHA-1 or SHA-256.
fn hash(commit: &str) -> &'static str {
    if commit.len() == 64 { "sha256" } else { "sha1" }
}

/// One call of the builder.
pub struct Invocation<'a> {
    pub request: &'a BuildRequest,
    /// Name and text of the Dockerfile.
    pub dockerfile: (&'a str, &'a [u8]),
    /// Of a context that is a repository.
    pub commit: Option<&'a str>,
    /// None with SOURCE_DATE_EPOCH.
    pub call: Option<Call>,
}

/// What tells one call of the builder from another with the same sources.
pub struct Call {
    pub id: String,
    pub began: Timestamp,
    pub ended: Timestamp,
}

impl Invocation<'_> {
    /// How the image is called: by its first tag, else by nothing but what it is.
    pub fn name(&self) -> String {
        self.request.tags.first().map_or_else(|| "image".to_owned(), Reference::to_string)
    }

    fn is_remote(&self) -> bool {
        self.commit.is_some() || self.request.context.contains("://")
    }

    fn source(&self) -> Value {
        let mut source = json!({ "path": self.dockerfile.0 });
        if self.is_remote() {
            source["uri"] = json!(public(&self.request.context));
        }
        if let Some(commit) = self.commit {
            source["digest"] = json!({ hash(commit): commit });
        }
        source
    }

    fn parameters(&self, max: bool) -> Value {
        let request = self.request;
        let mut args = serde_json::Map::new();
        if let Some(target) = &request.target {
            args.insert("target".to_owned(), json!(target));
        }
        let locals = if self.is_remote() { Vec::new() } else { vec![json!({ "name": "context" }), json!({ "name": "dockerfile" })] };
        let mut parameters = json!({ "frontend": "dockerfile.v0", "args": args, "locals": locals });
        if max {
            let args = parameters["args"].as_object_mut().expect("invariant: built as an object");
            args.extend(request.arguments.iter().map(|(name, value)| (format!("build-arg:{name}"), json!(public(value)))));
            args.extend(request.labels.iter().map(|(name, value)| (format!("label:{name}"), json!(value))));
            args.extend(request.contexts.iter().map(|(name, value)| (format!("context:{name}"), json!(public(value)))));
            if request.no_cache {
                args.insert("no-cache".to_owned(), json!(""));
            }
            let named = |ids: Vec<&String>| ids.into_iter().map(|id| json!({ "id": id, "optional": true })).collect::<Vec<_>>();
            parameters["secrets"] = json!(named(request.secrets.keys().collect()));
            parameters["ssh"] = json!(named(request.agents.keys().collect()));
        }
        parameters
    }
}

/// The predicate.
pub fn predicate(wanted: &Provenance, finished: &Finished, materials: &Materials, invocation: &Invocation<'_>) -> Value {
    if let (Some(commit), true) = (invocation.commit, invocation.is_remote()) {
        materials.commit(&invocation.request.context, commit);
    }
    let mut internal = json!({ "builderPlatform": Platform::host().to_string(), "targetPlatform": finished.platform.to_string() });
    let mut metadata = json!({
        "buildkit_completeness": { "request": wanted.max, "resolvedDependencies": false },
        "buildkit_reproducible": wanted.reproducible,
    });
    if let Some(call) = &invocation.call {
        metadata["invocationId"] = json!(call.id);
        metadata["startedOn"] = json!(call.began.to_string());
        metadata["finishedOn"] = json!(call.ended.to_string());
    }
    if wanted.max {
        let steps: Vec<&String> = finished.history.entries.iter().map(|entry| &entry.created_by).collect();
        internal["buildConfig"] = json!({ "steps": steps });
        let (name, text) = invocation.dockerfile;
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        metadata["buildkit_metadata"] = json!({ "source": { "infos": [{ "filename": name, "language": "Dockerfile", "data": data }] } });
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": { "configSource": invocation.source(), "request": invocation.parameters(wanted.max) },
            "internalParameters": internal,
            "resolvedDependencies": materials.documents(),
        },
        "runDetails": { "builder": { "id": wanted.builder.as_deref().unwrap_or(BUILDER) }, "metadata": metadata },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::request::SecretSource;
    use crate::build::stage::History;
    use crate::build::state::{Arguments, ImageState};
    use std::sync::Arc;

    #[test]
    fn secrets_and_arguments_are_told_only_as_asked() {
        let request = BuildRequest {
            context: "https://user:hunter2@git.example/x.git#main".to_owned(),
            arguments: [("VERSION".to_owned(), "7".to_owned())].into(),
            secrets: [("key".to_owned(), SecretSource::Value(b"hunter2".to_vec()))].into(),
            ..BuildRequest::default()
        };
        let commit = "a".repeat(40);
        let invocation = Invocation {
            request: &request,
            dockerfile: ("Dockerfile", b"FROM scratch\n"),
            commit: Some(&commit),
            call: Some(Call { id: "1".to_owned(), began: Timestamp::NEVER, ended: Timestamp::NEVER }),
        };
        let finished = Finished {
            layers: Vec::new(),
            state: ImageState::scratch(Arc::new(Arguments::default())),
            platform: "linux/arm64".parse().unwrap(),
            history: History::default(),
        };
        let materials = Materials::default();
        materials.file("https://hunter2@files.example/f", &Digest::of(b"f"));
        let min = predicate(&Provenance::default(), &finished, &materials, &invocation);
        let max = predicate(&Provenance { max: true, ..Provenance::default() }, &finished, &materials, &invocation);
        for text in [min.to_string(), max.to_string()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(!min.to_string().contains("VERSION") && !min.to_string().contains("\"key\""));
        let parameters = &max["buildDefinition"]["externalParameters"];
        assert_eq!(parameters["request"]["args"]["build-arg:VERSION"], "7");
        assert_eq!(parameters["request"]["secrets"][0]["id"], "key");
        assert_eq!(parameters["configSource"]["digest"]["sha1"], commit);
        assert_eq!(
            (&max["runDetails"]["metadata"]["invocationId"], &max["runDetails"]["metadata"]["buildkit_reproducible"]),
            (&json!("1"), &json!(false))
        );
        let timeless = Invocation { call: None, ..invocation };
        let wanted = Provenance { reproducible: true, ..Provenance::default() };
        let metadata = &predicate(&wanted, &finished, &Materials::default(), &timeless)["runDetails"]["metadata"];
        let keys: Vec<&String> = metadata.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["buildkit_completeness", "buildkit_reproducible"], "nothing that another call would have otherwise");
        assert_eq!(metadata["buildkit_reproducible"], true);
        let materials = max["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        assert_eq!(materials.len(), 2);
        assert!(materials.iter().any(|material| material["digest"]["sha256"] == Digest::of(b"f").hex()));
    }
}
