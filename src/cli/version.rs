//! `version` and `--version`, in Docker's layout.

use super::context::Context;
use super::failure::Failure;
use super::{output, template};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show the version
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Version of the Docker API whose documents `inspect` and the other verbs print.
const API_VERSION: &str = "1.51";
/// Where releases are built, their commit and its time are in the environment; elsewhere nobody knows them.
const COMMIT: &str = known(option_env!("RCON_COMMIT"));
const BUILT: &str = known(option_env!("RCON_BUILT"));

const fn known(value: Option<&'static str>) -> &'static str {
    match value {
        Some(value) => value,
        None => "unknown",
    }
}

/// `rcon --version`.
///
/// # Errors
/// stdout cannot be written.
pub fn short() -> Result<ExitCode, Failure> {
    output::line(format_args!("rcon version {VERSION}, build {COMMIT}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Go's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// # Errors
/// A malformed template.
pub fn run(args: Args, _context: &Context) -> Result<ExitCode, Failure> {
    let document = document();
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::raw(&template::one(format, &document)?)?,
        None => output::raw(&text(&document))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Client and engine are one program here; scripts ask for either.
fn document() -> Value {
    let part = || {
        json!({
            "Version": VERSION,
            "ApiVersion": API_VERSION,
            "APIVersion": API_VERSION,
            "DefaultAPIVersion": API_VERSION,
            "MinAPIVersion": API_VERSION,
            "GitCommit": COMMIT,
            "Compiler": env!("RCON_COMPILER"),
            "Os": "linux",
            "Arch": architecture(),
            "BuildTime": BUILT,
        })
    };
    let (mut client, mut server) = (part(), part());
    client["Context"] = json!("default");
    server["KernelVersion"] = json!(rustix::system::uname().release().to_string_lossy());
    server["Experimental"] = json!(false);
    server["Platform"] = json!({"Name": "rcon"});
    server["Components"] = json!([{
        "Name": "Engine",
        "Version": VERSION,
        "Details": {
            "ApiVersion": API_VERSION, "Arch": architecture(), "BuildTime": BUILT, "Experimental": "false", "GitCommit": COMMIT, "Compiler": env!("RCON_COMPILER"),
            "KernelVersion": server["KernelVersion"], "MinAPIVersion": API_VERSION, "Os": "linux",
        },
    }]);
    json!({"Client": client, "Server": server})
}

/// The server's part as the API's `/version` has it.
pub fn server() -> Value {
    let mut document = document()["Server"].take();
    document["GoVersion"] = json!("");
    document
}

fn text(document: &Value) -> String {
    let lines = |part: &Value, indent: &str| {
        let word = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
        let rows = [
            ("Version", word("Version")),
            ("API version", word("APIVersion")),
            ("Compiler", word("Compiler")),
            ("Git commit", word("GitCommit")),
            ("Built", word("BuildTime")),
            ("OS/Arch", format!("{}/{}", word("Os"), word("Arch"))),
        ];
        rows.map(|(title, value)| format!("{indent}{:<18}{value}\n", format!("{title}:"))).concat()
    };
    format!(
        "Client: rcon\n{} Context:          default\n\nServer: rcon\n Engine:\n{}  Kernel:           {}\n",
        lines(&document["Client"], " "),
        lines(&document["Server"], "  "),
        document["Server"]["KernelVersion"].as_str().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_blocks_have_all_lines() {
        let text = text(&document());
        for line in ["Version:", "API version:", "Compiler:         rustc ", "Git commit:", "Built:", "OS/Arch:          linux/"] {
            assert_eq!(text.matches(line).count(), 2, "{line}: {text}");
        }
    }
}
