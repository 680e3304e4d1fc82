//! `search`: looks for repositories in a registry.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::ps::filters;
use super::template;
use crate::image::Found;
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
const TITLES: &[(&str, &str)] =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL"), ("IsAutomated", "AUTOMATED")];
/// Characters of a description in the table.
const DESCRIPTION: usize = 45;

/// Search a registry for images
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Filter: stars=N, is-official=true|false
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Most results: 1 to 100
    #[arg(long, default_value = "25")]
    pub limit: usize,
    /// Do not shorten descriptions
    #[arg(long)]
    pub no_trunc: bool,
    /// [REGISTRY/]TERM
    pub term: String,
}

/// # Errors
/// An unknown filter, or the registry cannot be searched.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let found = context.engine()?.search(&args.term, args.limit, &filters(&args.filter)?)?;
    let rows: Vec<Value> = found.iter().map(|found| row(found, args.no_trunc)).collect();
    output::raw(&template::list(args.format.as_deref(), TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(found: &Found, no_trunc: bool) -> Value {
    let description: String = found.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let description = if no_trunc || description.chars().count() <= DESCRIPTION {
        description
    } else {
        description.chars().take(DESCRIPTION - 1).chain(['…']).collect()
    };
    json!({
        "Name": output::cell(&found.name),
        "Description": output::cell(&description),
        "StarCount": found.star_count.to_string(),
        "IsOfficial": if found.is_official { "[OK]" } else { "" },
        "IsAutomated": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_one_short_line() {
        let found = Found { name: "a".into(), description: format!("x\n{}\u{1b}", "y".repeat(60)), star_count: 3, is_official: true };
        let row = row(&found, false);
        assert_eq!((row["Description"].as_str().unwrap().chars().count(), &row["IsOfficial"], &row["StarCount"]), (45, &json!("[OK]"), &json!("3")));
        assert!(super::row(&found, true)["Description"].as_str().unwrap().ends_with("\\u{1b}"));
    }
}
