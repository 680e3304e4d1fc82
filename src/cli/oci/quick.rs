//! The command lines that engines write day by day, read without clap: setting clap up costs a good part of what a short
//! verb takes.
//!
//! Invariant: what is understood here is what clap makes of the same words; whatever else is typed is left to clap (None):
//! help, errors, other spellings, rare flags.

use std::ffi::OsString;

/// One step through a command line.
pub enum Word<'a> {
    /// With its dashes.
    Flag(&'a str),
    Other(&'a OsString),
}

/// What follows a flag.
pub struct Rest<'a>(&'a [OsString]);

impl<'a> Rest<'a> {
    /// The value of a flag. An empty one means that the flag is not given, which is left to clap.
    pub fn value(&mut self) -> Option<&'a OsString> {
        let (value, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(value).filter(|value| !value.is_empty())
    }

    /// All words that are left.
    pub fn all(&mut self) -> &'a [OsString] {
        std::mem::take(&mut self.0)
    }
}

/// Gives each word to `take`; None as soon as that does not understand one.
pub fn read<'a>(args: &'a [OsString], mut take: impl FnMut(Word<'a>, &mut Rest<'a>) -> Option<()>) -> Option<()> {
    let mut rest = Rest(args);
    while let Some((word, behind)) = rest.0.split_first() {
        rest.0 = behind;
        let text = word.to_str()?;
        take(if text.starts_with('-') { Word::Flag(text) } else { Word::Other(word) }, &mut rest)?;
    }
    Some(())
}

/// A verb that is given an id and nothing else.
pub fn only_id(args: &[OsString]) -> Option<String> {
    match args {
        [id] => id.to_str().filter(|id| !id.starts_with('-')).map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Globals, create};
    use std::ffi::OsString;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn what_is_read_is_what_clap_reads() {
        for text in ["--root /r --log /l --log-format json state x", "--systemd-cgroup run --bundle /b x", "kill --all x 9"] {
            let quick = Globals::quick(&words(text)).unwrap();
            let clap = super::super::globals_by_clap(&words(text)).unwrap();
            assert_eq!(format!("{quick:?}"), format!("{clap:?}"), "{text}");
        }
        assert!(Globals::quick(&words("--root /r --log /l --log-format json --systemd-cgroup create --bundle /b x")).is_some());
        create::quick_is_clap(&[
            "--bundle /b --pid-file /p x",
            "x",
            "-b /b --console-socket /c x",
            "-d x",
            "--detach --keep --bundle /b x",
            "--no-pivot --no-new-keyring x",
        ]);
    }

    #[test]
    fn the_rest_is_left_to_clap() {
        for text in ["--help", "--root", "--log-format yaml state x", "--root= x", "--debug=maybe x", "--rootless auto ps", "--what x", ""] {
            assert!(Globals::quick(&words(text)).is_none(), "{text}");
        }
        assert!(Globals::quick(&["--root".into(), OsString::new(), "ps".into()]).is_none());
        for args in ["", "x y", "--help", "-f x"] {
            assert!(super::only_id(&words(args)).is_none(), "{args}");
        }
        assert_eq!(super::only_id(&words("x")).as_deref(), Some("x"));
    }
}
