//! `inspect`: documents as JSON arrays, or through a template.

use super::context::{Context, is_missing};
use super::failure::Failure;
use super::{output, template};
use crate::engine::Engine;
use serde::Serialize;
use serde_json::Value;
use std::process::ExitCode;

/// Show everything about containers, images, volumes or pods
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    /// Show sizes of containers
    #[arg(short = 's', long)]
    pub size: bool,
    /// Only look at: container, image, network, volume, pod or secret
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Show everything about containers
#[derive(clap::Parser, Debug)]
pub struct ContainerArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    /// Show sizes
    #[arg(short = 's', long)]
    pub size: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub names: Vec<String>,
}

/// Show everything about images
#[derive(clap::Parser, Debug)]
pub struct ImageArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    /// Of an image for several platforms the one for this: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub names: Vec<String>,
}

/// Show everything about volumes
#[derive(clap::Parser, Debug)]
pub struct VolumeArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    #[arg(required = true, value_name = "VOLUME")]
    pub names: Vec<String>,
}

/// Show everything about networks, with who is on them
#[derive(clap::Parser, Debug)]
pub struct NetworkArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    /// As without (it is of networks of a cluster)
    #[arg(short = 'v', long)]
    pub verbose: bool,
    #[arg(required = true, value_name = "NETWORK")]
    pub names: Vec<String>,
}

/// # Errors
/// An unknown type or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let size = args.size;
    match args.kind.as_deref() {
        None => show(&args.names, args.format.as_deref(), |name| Ok(any(&engine, name, size)?)),
        Some("container") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_container(name, size)?)),
        Some("image") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_image(name)?)),
        Some("volume") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_volume(name)?)),
        Some("network") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_network(name)?)),
        Some("secret") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_secret(name, false)?)),
        Some("pod") => show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_pod(name)?)),
        Some(other) => Err(Failure::invalid(format!("--type: \"{other}\" is not container, image, network, volume, pod or secret"))),
    }
}

/// The object of that name; sizes are only computed when they are asked for.
fn any(engine: &Engine, name: &str, size: bool) -> Result<Value, crate::engine::Error> {
    if size && engine.view(name).is_ok() { engine.inspect_container(name, true) } else { engine.inspect_any(name) }
}

/// # Errors
/// A malformed template.
pub fn container(args: ContainerArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_container(name, args.size)?))
}

/// # Errors
/// A malformed template.
pub fn image(args: ImageArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    show(&args.names, args.format.as_deref(), |name| match &args.platform {
        Some(platform) => Ok(engine.inspect_image(&engine.require_platform(name, platform)?)?),
        None => Ok(engine.inspect_image(name)?),
    })
}

/// # Errors
/// A malformed template.
pub fn volume(args: VolumeArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_volume(name)?))
}

/// # Errors
/// A malformed template.
pub fn network(args: NetworkArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_network(name)?))
}

/// Looks up every name; what was found is shown even when others were not.
pub fn show(names: &[String], format: Option<&str>, look: impl Fn(&str) -> Result<Value, Failure>) -> Result<ExitCode, Failure> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match look(name) {
            // Whatever the engine calls one object, `inspect` shows it as an element of an array.
            Ok(Value::Array(list)) => found.extend(list),
            Ok(document) => found.push(document),
            Err(failure) => failures.push(failure),
        }
    }
    match format.filter(|format| !format.is_empty()) {
        Some("json") => output::line(Value::Array(found))?,
        Some(format) => {
            for document in &found {
                output::raw(&template::one(format, document)?)?;
            }
            if found.is_empty() && failures.iter().any(is_missing) {
                output::line("")?;
            }
        }
        None => output::raw(&pretty(&found))?,
    }
    for failure in &failures {
        failure.print();
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A JSON array with Docker's indent of four blanks.
fn pretty(documents: &[Value]) -> String {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    documents.serialize(&mut serializer).expect("invariant: JSON values can be written to memory");
    out.push(b'\n');
    String::from_utf8(out).expect("invariant: JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::pretty;
    use serde_json::json;

    #[test]
    fn arrays_are_indented_by_four() {
        assert_eq!(pretty(&[]), "[]\n");
        assert_eq!(pretty(&[json!({"A": [1], "B": {}})]), "[\n    {\n        \"A\": [\n            1\n        ],\n        \"B\": {}\n    }\n]\n");
    }
}
