//! `history`: the steps an image was built in.

use super::context::Context;
use super::failure::Failure;
use super::images::identifier;
use super::{humanise, output, template};
use crate::base::{ByteSize, Timestamp};
use crate::engine::Step;
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
    ("Tags", "TAGS"),
];
/// Characters of a command that Docker shows.
const WIDTH: usize = 45;
const MISSING: &str = "<missing>";

/// Show the steps an image was built in
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Sizes and times as people read them
    #[arg(short = 'H', long, default_value = "true")]
    pub human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Platform that the image must be for: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    pub image: String,
}

/// # Errors
/// The image does not exist or is for another platform, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let image = match &args.platform {
        Some(platform) => engine.require_platform(&args.image, platform)?,
        None => args.image.clone(),
    };
    let steps = engine.history(&image)?;
    let id = |step: &Step| step.id.as_deref().map_or_else(|| MISSING.to_owned(), |id| identifier(id, !args.no_trunc));
    if args.quiet && args.format.is_none() {
        for step in &steps {
            output::line(id(step))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows: Vec<Value> = steps.iter().map(|step| row(step, id(step), args.human, !args.no_trunc, now)).collect();
    output::raw(&template::list(args.format.as_deref(), TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(step: &Step, id: String, human: bool, trunc: bool, now: Timestamp) -> Value {
    let by = step.created_by.replace('\t', " ");
    let at = if step.created.is_never() { "N/A".to_owned() } else { step.created.to_string() };
    json!({
        "Comment": step.comment,
        "CreatedAt": at,
        "CreatedBy": if trunc { humanise::ellipsis(&by, WIDTH) } else { by },
        "CreatedSince": if human { humanise::ago(step.created, now) } else { at },
        "ID": id,
        "Size": if human { ByteSize(step.size).decimal() } else { step.size.to_string() },
        "Tags": step.tags.join(","),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_for_people_only() {
        let step = Step {
            id: None,
            created: Timestamp::parse_rfc3339("2024-01-02T03:04:05Z").unwrap(),
            created_by: format!("RUN\t{}", "x".repeat(60)),
            size: 1_500_000,
            comment: String::new(),
            tags: Vec::new(),
        };
        let now = Timestamp::parse_rfc3339("2024-01-03T03:04:05Z").unwrap();
        let human = row(&step, MISSING.to_owned(), true, true, now);
        assert_eq!((human["Size"].as_str(), human["CreatedSince"].as_str()), (Some("1.5MB"), Some("24 hours ago")));
        assert_eq!(human["CreatedBy"].as_str().map(|by| by.chars().count()), Some(WIDTH));
        let plain = row(&step, MISSING.to_owned(), false, false, now);
        assert_eq!((plain["Size"].as_str(), plain["CreatedSince"].as_str()), (Some("1500000"), Some("2024-01-02T03:04:05Z")));
        assert_eq!(plain["CreatedBy"].as_str().map(|by| by.chars().count()), Some(64));
    }
}
