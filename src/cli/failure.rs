//! What went wrong, as the user reads it, and the one mapping from error kinds to exit codes.
//!
//! Shown as `error: …`, then one `caused by:` line per cause, then a `hint:` if there is an action to take.

use super::output::harmless;
use crate::base::ErrorKind;
use crate::engine;
use crate::engine::request::FlagError;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Exit code of a failure before any process ran, and of a wrong flag.
pub const USAGE: u8 = 125;
/// Exit code when whoever read our output went away: 128 + SIGPIPE.
const PIPE: u8 = 141;

/// How a verb's failures become exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `run`: 125 for us, 126 and 127 for the command.
    Run,
    /// `exec`: 126 and 127 for the command, 1 for us.
    Exec,
    /// All the others: 1.
    Other,
}

/// The exit code for an error of this kind in a verb of this class.
pub fn exit_code(kind: ErrorKind, class: Class) -> u8 {
    match (class, kind) {
        (Class::Run | Class::Exec, ErrorKind::CommandNotFound) => 127,
        (Class::Run | Class::Exec, ErrorKind::CommandNotExecutable) => 126,
        (Class::Run, _) => USAGE,
        (Class::Exec | Class::Other, _) => 1,
    }
}

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    kind: ErrorKind,
    /// An exit code that is fixed whatever the verb is.
    code: Option<u8>,
    /// Printed as it is, without `error:`; empty prints nothing.
    verbatim: bool,
}

impl Failure {
    /// Wrong as it stands: the verb's own exit code.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure { message: message.into(), causes: Vec::new(), hint: None, kind: ErrorKind::Invalid, code: None, verbatim: false }
    }

    /// A usage error (exit code 125 unless another is set): `text`, then how to get help.
    pub fn usage(text: &str, command: &str) -> Self {
        let message = format!("{}\n\nRun '{command} --help' for more information", text.trim_end());
        Failure { code: Some(USAGE), verbatim: true, ..Failure::invalid(message) }
    }

    /// Ends quietly with this exit code: everything was said already.
    pub fn silent(code: u8) -> Self {
        Failure { code: Some(code), verbatim: true, ..Failure::invalid("") }
    }

    pub fn with_code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An operation of this room failed: `operation` reads `cannot …`.
    pub fn caused(operation: impl Into<String>, cause: &dyn StdError) -> Self {
        let mut failure = Failure { kind: ErrorKind::Internal, ..Failure::invalid(operation) };
        failure.add_causes(cause);
        failure
    }

    /// The same failure as the cause of another operation's.
    pub fn within(mut self, operation: impl Into<String>) -> Self {
        let message = std::mem::replace(&mut self.message, operation.into());
        self.causes.insert(0, message);
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn exit_code(&self, class: Class) -> u8 {
        self.code.unwrap_or_else(|| exit_code(self.kind, class))
    }

    fn add_causes(&mut self, first: &dyn StdError) {
        let mut next = Some(first);
        while let Some(cause) = next {
            let text = cause.to_string();
            // A transparent error shows its source's words: say them once.
            if self.causes.last().unwrap_or(&self.message) != &text {
                self.causes.push(text);
            }
            next = cause.source();
        }
    }

    /// The exit code that this failure has whatever the verb is.
    pub fn fixed_code(&self) -> Option<u8> {
        self.code
    }

    /// Message and causes in one line, as programs read them.
    pub fn one_line(&self) -> String {
        let parts = std::iter::once(&self.message).chain(&self.causes);
        parts.map(|text| text.replace('\n', " ")).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
    }

    /// The whole text, with its line ends.
    pub fn render(&self) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let mut text = if self.verbatim { format!("{}\n", self.message) } else { format!("error: {}\n", harmless(&self.message)) };
        for cause in &self.causes {
            writeln!(text, "caused by: {}", harmless(cause)).expect("invariant: writing to a String cannot fail");
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "hint: {}", harmless(hint)).expect("invariant: writing to a String cannot fail");
        }
        text
    }

    /// Says it on stderr.
    pub fn print(&self) {
        // Nothing can be told to anybody when stderr itself is gone.
        drop(io::stderr().write_all(self.render().as_bytes()));
    }
}

impl From<crate::build::Error> for Failure {
    fn from(error: crate::build::Error) -> Self {
        let mut failure = Failure { kind: error.kind(), hint: error.hint(), ..Failure::invalid(error.to_string()) };
        if let Some(source) = error.source() {
            failure.add_causes(source);
        }
        failure
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let message = match &error {
            // The words that Docker's users grep for.
            engine::Error::NoSuch { what, name, .. } => format!("No such {what}: {name}"),
            other => other.to_string(),
        };
        let mut failure = Failure { kind: error.kind(), hint: error.hint(), ..Failure::invalid(message) };
        if let Some(source) = error.source() {
            failure.add_causes(source);
        }
        failure
    }
}

impl From<FlagError> for Failure {
    fn from(error: FlagError) -> Self {
        let failure = Failure::invalid(error.to_string());
        if is_left_to_the_engine(&error) { failure } else { failure.with_code(USAGE) }
    }
}

/// Values that Docker's command line hands on as they are, so that its engine refuses them: the verb's own code.
fn is_left_to_the_engine(error: &FlagError) -> bool {
    match error.flag {
        "--stop-signal" | "--cap-add" | "--cap-drop" | "--tmpfs" | "--log-driver" | "--log-opt" => true,
        // Only a count that is no number is seen at once.
        "--restart" => error.value.split_once(':').is_none_or(|(_, count)| count.parse::<i64>().is_ok()),
        _ => false,
    }
}

impl From<crate::runtime::Error> for Failure {
    fn from(error: crate::runtime::Error) -> Self {
        let mut failure = Failure { kind: error.kind(), ..Failure::invalid(error.to_string()) };
        if let Some(source) = error.source() {
            failure.add_causes(source);
        }
        failure
    }
}

impl From<crate::base::fs::FsError> for Failure {
    fn from(error: crate::base::fs::FsError) -> Self {
        Failure::caused(error.to_string(), &error.source)
    }
}

/// Writing our own output failed.
pub fn output(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe { Failure::silent(PIPE) } else { Failure::caused("cannot write the output", error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_exit_codes() {
        use ErrorKind::*;
        for (kind, run, exec, other) in [
            (CommandNotFound, 127, 127, 1),
            (CommandNotExecutable, 126, 126, 1),
            (Invalid, 125, 1, 1),
            (NotFound, 125, 1, 1),
            (Conflict, 125, 1, 1),
            (Unauthorized, 125, 1, 1),
            (Forbidden, 125, 1, 1),
            (Unsupported, 125, 1, 1),
            (Unavailable, 125, 1, 1),
            (Internal, 125, 1, 1),
        ] {
            assert_eq!((exit_code(kind, Class::Run), exit_code(kind, Class::Exec), exit_code(kind, Class::Other)), (run, exec, other), "{kind:?}");
        }
    }

    #[test]
    fn chains_and_hints_are_shown() {
        let source: Box<dyn StdError + Send + Sync> = Box::new(io::Error::other("no space"));
        let error = engine::Error::Failed { operation: "start container \"web\"".into(), kind: ErrorKind::Internal, source };
        let failure = Failure::from(error).with_hint("free some");
        assert_eq!(failure.render(), "error: cannot start container \"web\"\ncaused by: no space\nhint: free some\n");
        assert_eq!(failure.exit_code(Class::Run), 125);
        assert_eq!(Failure::from(engine::Error::no_such("container", "x")).render(), "error: No such container: x\n");
        assert_eq!(Failure::usage("error: bad\n", "rcon run").exit_code(Class::Other), 125);
        assert_eq!(Failure::silent(3).render(), "");
    }
}
