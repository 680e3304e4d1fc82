//! Words as `runc`'s callers type them, turned into words that clap understands: long names after one dash
//! (`-bundle DIR`, `-format=json`), which Go's flag package takes, too; an empty value means that the flag is not given.

use clap::{Arg, ArgAction, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `words` for clap. With `in_order` flags end at the first other word; all after it is kept as it is.
pub fn plain(command: &Command, words: &[OsString], in_order: bool) -> Vec<OsString> {
    let mut plain = Vec::with_capacity(words.len() + 1);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            plain.push(word.clone());
            plain.extend(rest.by_ref().cloned());
            break;
        }
        if !bytes.starts_with(b"-") || bytes == b"-" {
            if in_order {
                plain.push("--".into());
                plain.push(word.clone());
                plain.extend(rest.by_ref().cloned());
                break;
            }
            plain.push(word.clone());
            continue;
        }
        let dashes = if bytes.starts_with(b"--") { 2 } else { 1 };
        let (name, joined) = match bytes[dashes..].iter().position(|byte| *byte == b'=') {
            Some(at) => (&bytes[dashes..dashes + at], Some(&bytes[dashes + at + 1..])),
            None => (&bytes[dashes..], None),
        };
        let Some(flag) = find(command, name, dashes) else {
            plain.push(word.clone());
            continue;
        };
        let value = match joined {
            Some(value) => Some(OsStr::from_bytes(value).to_owned()),
            None if takes_value(flag) => match rest.next() {
                Some(value) => Some(value.clone()),
                // Without its value: clap says so.
                None => {
                    plain.push(format!("--{}", flag.get_long().unwrap_or_default()).into());
                    break;
                }
            },
            None => None,
        };
        if value.as_ref().is_some_and(|value| value.is_empty()) && matches!(flag.get_action(), ArgAction::Set) {
            continue;
        }
        plain.push(long(flag, value));
    }
    plain
}

/// The flag of this name; one letter after one dash is a short name. Clusters of letters are clap's.
fn find<'a>(command: &'a Command, name: &[u8], dashes: usize) -> Option<&'a Arg> {
    let name = std::str::from_utf8(name).ok()?;
    let mut letters = name.chars();
    let short = letters.next().filter(|_| dashes == 1 && letters.next().is_none());
    command.get_arguments().find(|arg| match (arg.get_long(), arg.get_short()) {
        (Some(long), _) if long == name => true,
        (Some(_), Some(letter)) => short == Some(letter),
        _ => false,
    })
}

/// Whether the next word is its value. A boolean has one only after `=`.
fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

fn long(flag: &Arg, value: Option<OsString>) -> OsString {
    let mut word = format!("--{}", flag.get_long().unwrap_or_default()).into_bytes();
    if let Some(value) = value {
        word.push(b'=');
        word.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(word)
}

#[cfg(test)]
mod tests {
    use super::plain;
    use crate::cli::flags;
    use clap::Parser;
    use std::ffi::OsString;

    /// Help.
    #[derive(Parser, Debug)]
    struct Args {
        #[arg(short = 'b', long)]
        bundle: Option<String>,
        #[arg(short = 'e', long)]
        env: Vec<String>,
        #[arg(short = 't', long)]
        tty: bool,
        #[arg(trailing_var_arg = true)]
        words: Vec<String>,
    }

    fn read(words: &[&str], in_order: bool) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let command = flags::command::<Args>("x");
        plain(&command, &words, in_order).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn go_style_words_become_plain_ones() {
        for (typed, expected) in [
            (&["-bundle", "/b", "id"][..], &["--bundle=/b", "id"][..]),
            (&["--bundle", "--", "-tty", "id"], &["--bundle=--", "--tty", "id"]),
            (&["-bundle=/b", "-tty=false"], &["--bundle=/b", "--tty=false"]),
            (&["-b", "", "-e", "", "id"], &["--env=", "id"]),
            (&["-tb", "/b"], &["-tb", "/b"]),
            (&["-b"], &["--bundle"]),
            (&["-", "--", "-b"], &["-", "--", "-b"]),
            (&["--what", "id"], &["--what", "id"]),
        ] {
            assert_eq!(read(typed, false), expected, "{typed:?}");
        }
    }

    #[test]
    fn flags_end_at_the_first_word_of_a_command() {
        assert_eq!(read(&["-t", "id", "-bundle", "x"], true), ["--tty", "--", "id", "-bundle", "x"]);
        let words: Vec<OsString> = ["-t", "id", "-bundle", "x", "--", "y"].iter().map(OsString::from).collect();
        let command = flags::command::<Args>("x");
        let plain = plain(&command, &words, true);
        let args: Args = flags::parse("x", &plain).unwrap();
        assert!(args.tty && args.bundle.is_none() && args.env.is_empty());
        assert_eq!(args.words, ["id", "-bundle", "x", "--", "y"]);
    }
}
