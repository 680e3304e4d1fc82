//! Printing: data to stdout, talk to stderr, neither of which may panic when its reader is gone.

use super::failure::{self, Failure};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// One line of data.
///
/// # Errors
/// stdout cannot be written.
pub fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|e| failure::output(&e))
}

/// Data as it is.
///
/// # Errors
/// stdout cannot be written.
pub fn raw(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| failure::output(&e))
}

/// One line of talk. A closed stderr is nobody's loss.
pub fn talk(text: impl Display) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Text that may come from an image: control characters, which could steer the terminal, are shown escaped; line
/// ends and tabs are left.
pub fn harmless(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// A JSON text: of the control characters it may hold DEL and those of eight bits as they are, which a terminal may obey.
pub fn json(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// A value that is one cell of one line: no control character at all.
pub fn cell(text: &str) -> Cow<'_, str> {
    escape(text, char::is_control)
}

fn escape(text: &str, which: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&which) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if which(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The warnings of the engine.
pub fn warnings(list: &[String]) {
    for warning in list {
        talk(format_args!("warning: {}", harmless(warning)));
    }
}

/// Does `work` for every name: a success prints the name as typed, a failure is told at once; exit code 1 if
/// any failed.
///
/// # Errors
/// stdout cannot be written.
pub fn each(names: &[String], mut work: impl FnMut(&str) -> Result<(), Failure>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match work(name) {
            Ok(()) => line(name)?,
            Err(failure) => {
                failure.print();
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// Asks y/N on stderr; end of input is no.
///
/// # Errors
/// stdin cannot be read.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    drop(write!(io::stderr(), "{question}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    let length = io::stdin().read_line(&mut answer).map_err(|e| Failure::caused("cannot read the answer", &e))?;
    if length == 0 {
        drop(writeln!(io::stderr(), "\nnobody answered: nothing was done (-f does it without asking)"));
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        let text = "a\u{7f}\u{9b}é\n";
        assert_eq!(harmless(text), "a\\u{7f}\\u{9b}é\n");
        let shown = json(&serde_json::Value::from(text).to_string()).into_owned();
        assert_eq!(shown, r#""a\u007f\u009bé\n""#);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
