//! `--call`: what a Dockerfile offers or where it is likely to be wrong, as tables or as the JSON that BuildKit writes.

use crate::build::{Lines, Outline, Parameter, Target, Targets, Wanted, Warning};
use crate::cli::failure::{Failure, USAGE};
use crate::cli::{output, table};
use crate::engine::request::FlagError;
use base64::Engine as _;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What is asked of the Dockerfile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Build,
    Check,
    Outline,
    Targets,
}

/// `METHOD[,format=json|text]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    pub json: bool,
}

impl Call {
    /// # Errors
    /// An unknown method or format.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |reason: &str| Failure::from(FlagError::new("--call", text, reason));
        let mut call = Call::default();
        for field in text.split(',').map(str::trim) {
            match field {
                "build" | "" => call.method = Method::Build,
                "check" | "lint" => call.method = Method::Check,
                "outline" => call.method = Method::Outline,
                "targets" => call.method = Method::Targets,
                "format=json" => call.json = true,
                "format=text" | "format=table" | "format=default" => call.json = false,
                _ => return Err(wrong("expected build, check, outline or targets, and format=json or format=text")),
            }
        }
        if call.json && call.method == Method::Build {
            return Err(
                Failure::from(FlagError::new("--call", text, "a build has no format: --metadata-file writes its result as JSON")).with_code(USAGE)
            );
        }
        Ok(call)
    }
}

/// # Errors
/// Standard output cannot be written.
pub fn targets(found: &Targets, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let document = json!({ "targets": found.targets.iter().map(target).collect::<Vec<_>>(), "sources": [encoded(&found.source)] });
        output::line(format_args!("{document:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec!["TARGET\tDESCRIPTION".to_owned()];
    for target in &found.targets {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            (None, false) => String::new(),
        };
        lines.push(row(&[&name, target.description.as_deref().unwrap_or_default()]));
    }
    print(&lines)
}

/// # Errors
/// Standard output cannot be written.
pub fn outline(found: &Outline, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::line(format_args!("{:#}", document(found)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut parts = Vec::new();
    let mut head = Vec::new();
    head.extend(found.name.as_ref().map(|name| row(&["TARGET:", name])));
    head.extend(found.description.as_ref().map(|text| row(&["DESCRIPTION:", text])));
    parts.push(head);
    let argument = |argument: &Parameter| {
        let (value, description) = (argument.value.as_deref().unwrap_or_default(), argument.description.as_deref().unwrap_or_default());
        row(&[&argument.name, value, description])
    };
    parts.push(part("BUILD ARG\tVALUE\tDESCRIPTION", found.arguments.iter().map(argument)));
    let wanted = |wanted: &Wanted| row(&[&wanted.id, if wanted.required { "true" } else { "" }]);
    parts.push(part("SECRET\tREQUIRED", found.secrets.iter().map(wanted)));
    parts.push(part("SSH\tREQUIRED", found.agents.iter().map(wanted)));
    parts.retain(|part| !part.is_empty());
    for (index, lines) in parts.iter().enumerate() {
        if index > 0 {
            output::line("")?;
        }
        print(lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a check found; a warning is a failure.
///
/// # Errors
/// Standard output cannot be written.
pub fn check(warnings: &[Warning], json: bool) -> Result<ExitCode, Failure> {
    if json {
        let warning = |warning: &Warning| {
            let line = warning.place.rsplit(':').next().and_then(|line| line.parse().ok());
            let lines = line.map(|line| Lines { first: line, last: line });
            json!({ "ruleName": warning.rule, "detail": warning.text, "location": lines.map(location) })
        };
        let document = json!({ "warnings": warnings.iter().map(warning).collect::<Vec<_>>(), "sources": [] });
        output::line(format_args!("{document:#}"))?;
    } else if warnings.is_empty() {
        output::line("Check complete, no warnings found.")?;
    } else {
        let (count, ending) = (warnings.len(), if warnings.len() == 1 { " has been" } else { "s have been" });
        output::line(format_args!("Check complete, {count} warning{ending} found."))?;
        for warning in warnings {
            output::line(format_args!("\nWARNING: {}", output::harmless(&warning.to_string())))?;
            if !warning.excerpt.is_empty() {
                output::line(output::harmless(warning.excerpt.trim_end()))?;
            }
        }
    }
    Ok(if warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(cells: &[&str]) -> String {
    cells.iter().map(|cell| output::cell(cell).to_string()).collect::<Vec<_>>().join("\t")
}

/// A table with its title; nothing without rows.
fn part(title: &str, rows: impl Iterator<Item = String>) -> Vec<String> {
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() { rows } else { std::iter::once(title.to_owned()).chain(rows).collect() }
}

fn print(lines: &[String]) -> Result<ExitCode, Failure> {
    for line in table::render(lines).lines() {
        output::line(line.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn encoded(source: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(source)
}

fn location(lines: Lines) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.first }, "end": { "line": lines.last } }] })
}

/// Fields that say nothing are left out, as in BuildKit.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

fn target(target: &Target) -> Value {
    object([
        ("name", target.name.as_ref().map(|name| json!(name))),
        ("default", target.default.then(|| json!(true))),
        ("description", target.description.as_ref().map(|text| json!(text))),
        ("base", Some(json!(target.base))),
        ("platform", target.platform.as_ref().map(|platform| json!(platform))),
        ("location", Some(location(target.lines))),
    ])
}

fn document(found: &Outline) -> Value {
    let argument = |argument: &Parameter| {
        object([
            ("name", Some(json!(argument.name))),
            ("description", argument.description.as_ref().map(|text| json!(text))),
            ("value", argument.value.as_ref().map(|value| json!(value))),
            ("location", Some(location(argument.lines))),
        ])
    };
    let wanted = |wanted: &Wanted| {
        let required = wanted.required.then(|| json!(true));
        object([("name", Some(json!(wanted.id))), ("required", required), ("location", Some(location(wanted.lines)))])
    };
    let list = |list: Vec<Value>| (!list.is_empty()).then_some(Value::Array(list));
    object([
        ("name", found.name.as_ref().map(|name| json!(name))),
        ("description", found.description.as_ref().map(|text| json!(text))),
        ("args", list(found.arguments.iter().map(argument).collect())),
        ("secrets", list(found.secrets.iter().map(wanted).collect())),
        ("ssh", list(found.agents.iter().map(wanted).collect())),
        ("sources", Some(json!([encoded(&found.source)]))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let call = |text| Call::parse(text).ok().map(|call| (call.method, call.json));
        assert_eq!(call("outline,format=json"), Some((Method::Outline, true)));
        assert_eq!(call("lint"), Some((Method::Check, false)));
        assert_eq!((call("build"), call("build,format=json"), call("plan")), (Some((Method::Build, false)), None, None));
    }
}
