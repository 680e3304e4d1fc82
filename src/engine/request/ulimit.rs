//! `--ulimit type=soft[:hard]`, `-1` for unlimited.

use super::FlagError;
use crate::state::record::Ulimit;

const FLAG: &str = "--ulimit";
const NAMES: &[&str] =
    &["core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"];

/// Parses one `--ulimit` value; without a hard limit the soft one is both.
///
/// # Errors
/// An unknown limit, not a number, or a soft limit above the hard one.
pub fn parse(text: &str) -> Result<Ulimit, FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let (name, limits) = text.split_once('=').ok_or_else(|| wrong("expected type=soft[:hard]".to_owned()))?;
    if !NAMES.contains(&name) {
        return Err(wrong(format!("unknown limit \"{name}\"")));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(value) if value >= -1 => Ok(value),
        _ => Err(wrong(format!("\"{text}\" is not a number (-1 is unlimited)"))),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(wrong(format!("the soft limit {soft} is above the hard limit {hard}")));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimit_grammar() {
        for (text, soft, hard) in [("nofile=1024", 1024, 1024), ("nofile=1:2", 1, 2), ("core=-1", -1, -1), ("core=5:-1", 5, -1), ("nproc=0", 0, 0)] {
            assert_eq!(parse(text).map(|u| (u.soft, u.hard)), Ok((soft, hard)), "{text}");
        }
        for bad in ["nofile", "nofile=", "nofile=x", "bogus=1", "nofile=2:1", "core=-1:5", "core=-2", "nofile=1:2:3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
