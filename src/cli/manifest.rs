//! `manifest …`: indexes (manifest lists) made on this host, and manifests in registries.

use super::context::Context;
use super::failure::Failure;
use super::output;
use crate::engine::{ListAnnotation, ManifestView};
use base64::Engine as _;
use serde::Serialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Make a local manifest list out of images in a registry
#[derive(clap::Parser, Debug)]
pub struct CreateArgs {
    /// Add to a list that exists
    #[arg(short = 'a', long)]
    pub amend: bool,
    /// Allow plain HTTP to the registry
    #[arg(long)]
    pub insecure: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    pub list: String,
    #[arg(required = true, value_name = "MANIFEST")]
    pub members: Vec<String>,
}

/// Set the platform of an entry of a local manifest list
#[derive(clap::Parser, Debug)]
pub struct AnnotateArgs {
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Version of the operating system
    #[arg(long)]
    pub os_version: Option<String>,
    /// Features of the operating system: a,b,…
    #[arg(long, value_delimiter = ',')]
    pub os_features: Vec<String>,
    /// Variant of the architecture
    #[arg(long)]
    pub variant: Option<String>,
    #[arg(value_name = "MANIFEST_LIST")]
    pub list: String,
    #[arg(value_name = "MANIFEST")]
    pub member: String,
}

/// Show a local manifest list, or a manifest of a registry
#[derive(clap::Parser, Debug)]
pub struct InspectArgs {
    /// Also show the descriptors, and the manifests of a list
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Allow plain HTTP to the registry
    #[arg(long)]
    pub insecure: bool,
    /// Show the manifests that name this one as their subject (signatures, SBOMs, …) instead
    #[arg(long)]
    pub referrers: bool,
    /// With --referrers: only those of this type
    #[arg(long, value_name = "TYPE", requires = "referrers")]
    pub artifact_type: Option<String>,
    /// [MANIFEST_LIST] MANIFEST
    #[arg(required = true, num_args = 1..=2, value_name = "MANIFEST")]
    pub names: Vec<String>,
}

/// Push a local manifest list to its registry
#[derive(clap::Parser, Debug)]
pub struct PushArgs {
    /// Remove the local list after the push
    #[arg(short = 'p', long)]
    pub purge: bool,
    /// Allow plain HTTP to the registry
    #[arg(long)]
    pub insecure: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    pub list: String,
}

/// Remove local manifest lists
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    #[arg(required = true, value_name = "MANIFEST_LIST")]
    pub lists: Vec<String>,
}

/// # Errors
/// The list exists and is not amended, or a member cannot be read.
pub fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, Failure> {
    let name = context.engine()?.create_manifest_list(&args.list, &args.members, args.amend, args.insecure)?;
    output::line(format_args!("Created manifest list {name}"))?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such list or entry.
pub fn annotate(args: AnnotateArgs, context: &Context) -> Result<ExitCode, Failure> {
    let annotation =
        ListAnnotation { os: args.os, architecture: args.arch, variant: args.variant, os_version: args.os_version, os_features: args.os_features };
    context.engine()?.annotate_manifest_list(&args.list, &args.member, &annotation)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such list, or the registry does not take it.
pub fn push(args: PushArgs, context: &Context) -> Result<ExitCode, Failure> {
    let pushed = context.engine()?.push_manifest_list(&args.list, args.purge, args.insecure, &|_| {})?;
    output::line(pushed.digest)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// stdout cannot be written; a list that is not there is told about, and makes the exit code 1.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for list in &args.lists {
        if let Err(error) = engine.remove_manifest_list(list) {
            Failure::from(error).print();
            code = ExitCode::from(1);
        }
    }
    Ok(code)
}

/// # Errors
/// There is no such manifest.
pub fn inspect(args: InspectArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let (list, name) = match args.names.as_slice() {
        [list, name] => (Some(list.as_str()), name.as_str()),
        [name] => (None, name.as_str()),
        _ => return Err(Failure::invalid("manifest inspect takes one or two names")),
    };
    if args.referrers {
        let referrers = engine.referrers(name, args.artifact_type.as_deref(), args.insecure)?;
        output::line(indented(&referrers)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let views = engine.inspect_manifest(list, name, args.verbose, args.insecure)?;
    let text = match views.as_slice() {
        [only] if !args.verbose => indented(&json_of(&only.bytes)?)?,
        [only] if !only.of_list => indented(&verbose(only)?)?,
        many => indented(&Value::Array(many.iter().map(verbose).collect::<Result<_, _>>()?))?,
    };
    output::line(text)?;
    Ok(ExitCode::SUCCESS)
}

fn json_of(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::caused("cannot read the manifest", &e))
}

/// Docker's verbose form of one manifest.
fn verbose(view: &ManifestView) -> Result<Value, Failure> {
    let body = if view.media_type == crate::oci::media::DOCKER_MANIFEST { "SchemaV2Manifest" } else { "OCIManifest" };
    let mut descriptor = json!({ "mediaType": view.media_type, "digest": view.digest, "size": view.bytes.len() });
    if let Some(platform) = &view.platform {
        descriptor["platform"] = platform.clone();
    }
    Ok(json!({
        "Ref": view.reference,
        "Descriptor": descriptor,
        "Raw": base64::engine::general_purpose::STANDARD.encode(&view.bytes),
        body: json_of(&view.bytes)?,
    }))
}

/// JSON as `docker manifest inspect` prints it: with tabs.
pub fn indented(value: &Value) -> Result<String, Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).map_err(|e| Failure::caused("cannot write the manifest", &e))?;
    Ok(output::harmless(&String::from_utf8_lossy(&text)).into_owned())
}
