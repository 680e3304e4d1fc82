//! `system check`: verifies the store and mends it.

use super::context::Context;
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Verify images, layers and volumes on disk
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Only look whether everything is there, not at its content
    #[arg(short = 'q', long)]
    pub quick: bool,
    /// Remove what is damaged or left over, so that a pull brings it back
    #[arg(short = 'r', long)]
    pub repair: bool,
}

/// # Errors
/// The store cannot be read, or a repair fails. Exit code 1 while a problem stands.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let checked = context.engine()?.check(args.quick, args.repair)?;
    for trouble in &checked.problems {
        output::line(format_args!("{}: {}", trouble.object, trouble.problem))?;
        if let Some(mended) = &trouble.mended {
            output::line(format_args!("  mended: {mended}"))?;
        }
        if let Some(hint) = &trouble.hint {
            output::line(format_args!("  hint: {hint}"))?;
        }
    }
    for layer in &checked.unverified {
        output::talk(format_args!("warning: layer {layer} carries no record of its tar: its content cannot be verified"));
    }
    for chain in &checked.blockers {
        output::talk(format_args!(
            "warning: {chain} drops what is forwarded unless a rule there accepts it: containers reach the outside, and are reached, only as far as it lets them (README, Networks)"
        ));
    }
    let standing = checked.problems.iter().filter(|trouble| trouble.mended.is_none()).count();
    let (found, images, layers) = (checked.problems.len(), checked.images, checked.layers);
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let looked_at = format!("{} and {}", count(images, "image"), count(layers, "layer"));
    output::line(match (found, standing) {
        (0, _) => format!("{looked_at} are sound"),
        (found, 0) => format!("{looked_at} checked, {}, all mended", count(found, "problem")),
        (found, standing) => format!("{looked_at} checked, {}, {standing} of them stand", count(found, "problem")),
    })?;
    Ok(if standing == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
