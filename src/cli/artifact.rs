//! `artifact …`: files in a registry that are no images (OCI 1.1), attached to images or not.

use super::context::Context;
use super::failure::Failure;
use super::manifest::indented;
use super::output;
use super::progress::Progress;
use crate::engine::ArtifactRequest;
use std::path::PathBuf;
use std::process::ExitCode;

/// Upload files as an artifact
#[derive(clap::Parser, Debug)]
pub struct PushArgs {
    /// Type of the artifact
    #[arg(long = "artifact-type", visible_alias = "type", value_name = "TYPE", default_value = "application/vnd.unknown.artifact.v1")]
    pub artifact_type: String,
    /// Media type of the files
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    pub file_type: String,
    /// Image or artifact of the same repository that this one is about; without a tag in NAME none is set then
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
    /// Annotation of the artifact
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Do not show progress
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// NAME[:TAG]
    pub name: String,
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Download the files of an artifact
#[derive(clap::Parser, Debug)]
pub struct PullArgs {
    /// Directory to write the files to
    #[arg(short = 'o', long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Only print the artifact's digest
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// NAME[:TAG|@DIGEST]
    pub name: String,
}

/// Show the manifest of an artifact
#[derive(clap::Parser, Debug)]
pub struct InspectArgs {
    /// NAME[:TAG|@DIGEST]
    pub name: String,
}

/// # Errors
/// A file cannot be read, or the registry does not take it.
pub fn push(args: PushArgs, context: &Context) -> Result<ExitCode, Failure> {
    let mut annotations = Vec::new();
    for text in &args.annotation {
        let (key, value) = text.split_once('=').ok_or_else(|| Failure::invalid(format!("--annotation \"{text}\": expected KEY=VALUE")))?;
        annotations.push((key.to_owned(), value.to_owned()));
    }
    let request =
        ArtifactRequest { artifact_type: args.artifact_type, file_type: args.file_type, subject: args.subject, annotations, files: args.files };
    let progress = Progress::new(args.quiet, true);
    let pushed = context.engine()?.push_artifact(&args.name, &request, &|event| progress.show(event))?;
    progress.finish();
    output::line(pushed.digest)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such artifact, or a file cannot be written.
pub fn pull(args: PullArgs, context: &Context) -> Result<ExitCode, Failure> {
    let (digest, files) = context.engine()?.pull_artifact(&args.name, &args.output)?;
    if !args.quiet {
        for file in files {
            output::talk(output::cell(&file.to_string_lossy()));
        }
    }
    output::line(digest)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such artifact.
pub fn inspect(args: InspectArgs, context: &Context) -> Result<ExitCode, Failure> {
    let views = context.engine()?.inspect_manifest(None, &args.name, false, false)?;
    for view in views {
        let value = serde_json::from_slice(&view.bytes).map_err(|e| Failure::caused("cannot read the manifest", &e))?;
        output::line(indented(&value)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
