//! `rmi`: untags and deletes images.

use super::context::{Context, is_missing};
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Remove images
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Remove even with several names or stopped containers
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Keep untagged parents (no image has any here: the same)
    #[arg(long)]
    pub no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.images {
        match engine.remove_image(name, args.force).map_err(Failure::from) {
            Ok(removed) => {
                for line in
                    removed.untagged.iter().map(|text| labelled("Untagged", text)).chain(removed.deleted.iter().map(|text| labelled("Deleted", text)))
                {
                    output::line(line)?;
                }
            }
            Err(failure) => {
                if !(args.force && is_missing(&failure)) {
                    code = ExitCode::from(1);
                }
                failure.print();
            }
        }
    }
    Ok(code)
}

/// The engine's text with its label, which it may carry already.
fn labelled(label: &str, text: &str) -> String {
    if text.starts_with(&format!("{label}: ")) { text.to_owned() } else { format!("{label}: {text}") }
}
