//! Failures as callers of an OCI runtime read them: a line in `--log`, and the same words on stderr.

use crate::base::Timestamp;
use crate::cli::failure::Failure;
use crate::cli::output;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where failures are written.
pub struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    pub fn new(file: Option<PathBuf>, format: LogFormat) -> Self {
        Log { file, format }
    }

    /// Reports a failure; its exit code, which is 1 unless it is fixed.
    pub fn report(&self, failure: &Failure) -> ExitCode {
        let text = failure.one_line();
        if text.is_empty() {
            return ExitCode::from(failure.fixed_code().unwrap_or(1));
        }
        output::talk(format_args!("{}: {}", super::NAME, output::harmless(&text)));
        if let Some(file) = &self.file {
            let line = self.line("error", &text);
            let written = OpenOptions::new().append(true).create(true).open(file).and_then(|mut log| log.write_all(line.as_bytes()));
            if let Err(error) = written {
                output::talk(format_args!("{}: cannot write the log {}: {error}", super::NAME, file.display()));
            }
        }
        ExitCode::from(failure.fixed_code().filter(|code| *code != crate::cli::failure::USAGE).unwrap_or(1))
    }

    /// One line with its end; both forms are those that callers parse.
    fn line(&self, level: &str, text: &str) -> String {
        let time = Timestamp::now().to_string();
        match self.format {
            LogFormat::Json => format!("{}\n", serde_json::json!({"level": level, "msg": text, "time": time})),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(text)),
        }
    }
}

/// Wrong global flags: the log is not known then.
pub fn usage(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(u8::from(failure.fixed_code() != Some(0)))
}
