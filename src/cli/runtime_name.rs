//! The second name of the binary, `rcon-runtime`: the OCI runtime's verbs, which this release does not have.

use super::output;
use std::ffi::OsString;
use std::process::ExitCode;

/// Says so, naming the verb; `--version` works.
pub fn main(args: &[OsString]) -> ExitCode {
    let word = args.first().map(|word| word.to_string_lossy().into_owned());
    match word.as_deref() {
        Some("--version" | "-v") => match output::line(format_args!("rcon-runtime version {}\nspec: 1.2.0", env!("CARGO_PKG_VERSION"))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Some(verb) => {
            output::talk(format_args!("error: rcon-runtime {verb}: the OCI runtime command line is not in this release; use rcon run"));
            ExitCode::FAILURE
        }
        None => {
            output::talk("error: rcon-runtime: the OCI runtime command line is not in this release; use rcon run");
            ExitCode::FAILURE
        }
    }
}
