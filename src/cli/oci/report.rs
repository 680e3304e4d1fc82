//! What callers of an OCI runtime read: one line a message in `--log`, in the form that they asked for. Failures are also
//! said on stderr; without `--log` everything is.

use crate::base::Timestamp;
use crate::cli::failure::Failure;
use crate::cli::output;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where messages are written.
#[derive(Debug, Clone)]
pub struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
    level: LevelFilter,
    /// The process that may write: a clone of it lives among foreign files and descriptors.
    pid: u32,
    /// Opened by the first message: most commands have none.
    open: Arc<OnceLock<File>>,
}

impl Log {
    pub fn new(file: Option<PathBuf>, format: LogFormat, debug: bool) -> Self {
        let level = if debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
        Log { file, format, level, pid: std::process::id(), open: Arc::default() }
    }

    /// The warnings of every room go here from now on.
    pub fn install(&self) {
        // It fails only when one is set already; then that one serves.
        drop(tracing::subscriber::set_global_default(self.clone()));
    }

    /// Reports a failure; its exit code, which is 1 unless it is fixed.
    pub fn report(&self, failure: &Failure) -> ExitCode {
        let text = failure.one_line();
        // clap's own word, which comes with usage errors.
        let text = text.strip_prefix("error: ").unwrap_or(&text).split("  ").filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return ExitCode::from(failure.fixed_code().unwrap_or(1));
        }
        self.write("error", &text);
        if self.file.is_some() {
            say(&format!("{}: {}\n", super::NAME, output::harmless(&text)));
        }
        ExitCode::from(failure.fixed_code().filter(|code| *code != crate::cli::failure::USAGE).unwrap_or(1))
    }

    fn write(&self, level: &str, text: &str) {
        let Some(path) = &self.file else {
            return match (self.format, level) {
                (LogFormat::Json, _) => say(&self.line(level, text)),
                (LogFormat::Text, "error") => say(&format!("{}: {}\n", super::NAME, output::harmless(text))),
                (LogFormat::Text, _) => say(&format!("{}: {level}: {}\n", super::NAME, output::harmless(text))),
            };
        };
        let line = self.line(level, text);
        let opened = match self.open.get() {
            Some(file) => Ok(file),
            None => OpenOptions::new().append(true).create(true).open(path).map(|file| self.open.get_or_init(|| file)),
        };
        // One write: lines of several commands in one file stay whole.
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            say(&format!("{}: cannot write the log {}: {error}\n{}: {level}: {text}\n", super::NAME, path.display(), super::NAME));
        }
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

/// stderr in one write; when it is gone there is nobody to tell.
fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    // Spans carry nothing that callers read.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if std::process::id() != self.pid {
            return;
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            // logrus's word, which callers parse.
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut text = Text::default();
        event.record(&mut text);
        self.write(level, text.0.trim_start());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, then its fields as `name=value`.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = if field.name() == "message" { format!(" {value:?}") } else { format!(" {}={value:?}", field.name()) };
        self.0.write_str(&text).expect("invariant: writing to a String cannot fail");
    }
}

/// Wrong global flags: the log is not known then.
pub fn usage(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(u8::from(failure.fixed_code() != Some(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(format: LogFormat, debug: bool) -> String {
        let file = std::env::temp_dir().join(format!("rcon-log-{}", crate::base::random_hex(8)));
        let log = Log::new(Some(file.clone()), format, debug);
        tracing::subscriber::with_default(log.clone(), || {
            tracing::warn!(code = 7, "a \"quoted\"\nthing");
            tracing::debug!("small talk");
        });
        assert_eq!(format!("{:?}", log.report(&Failure::invalid("wrong"))), format!("{:?}", ExitCode::from(1)));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        text
    }

    #[test]
    fn json_lines_have_level_msg_and_time() {
        let text = messages(LogFormat::Json, false);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0]["level"].as_str(), lines[0]["msg"].as_str()), (Some("warning"), Some("a \"quoted\"\nthing code=7")));
        assert_eq!((lines[1]["level"].as_str(), lines[1]["msg"].as_str()), (Some("error"), Some("wrong")));
        assert!(lines.iter().all(|line| Timestamp::parse_rfc3339(line["time"].as_str().unwrap()).is_some()));
    }

    #[test]
    fn debug_messages_are_asked_for() {
        let text = messages(LogFormat::Text, true);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("level=debug msg=\"small talk\"") && text.contains("level=warning msg=\"a \\\"quoted\\\"\\nthing code=7\""), "{text}");
        assert!(!messages(LogFormat::Text, false).contains("small talk"));
    }
}
