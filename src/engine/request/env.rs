//! `-e/--env`, `--env-file`, `--label`, `--label-file`: variables and labels, and the format of their files.
//!
//! A file is UTF-8 (a byte order mark is dropped), one `KEY=VALUE` a line; leading blanks are cut, `#` starts a
//! comment only as the first character; quotes, inline `#`, `$VAR` and trailing blanks are literal.

use super::FlagError;
use std::collections::BTreeMap;

/// Answers the client's value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The lines of an env or label file as (key, value); None for a bare key.
///
/// # Errors
/// What is wrong with which line.
pub fn parse_file(text: &[u8]) -> Result<Vec<(String, Option<String>)>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)));
        // A bare key may have blanks behind it; a key before `=` may not.
        let key = if value.is_none() { key.trim_end() } else { key };
        if key.is_empty() {
            return Err(format!("line {}: no variable name before \"=\"", number + 1));
        }
        if key.contains(char::is_whitespace) {
            return Err(format!("line {}: variable \"{key}\" contains whitespace", number + 1));
        }
        entries.push((key.to_owned(), value.map(str::to_owned)));
    }
    Ok(entries)
}

/// The environment of a request: files first, then flags; a bare key takes the client's value. Unset on the
/// client it is dropped (file) or stays bare, which removes the image's (flag).
///
/// # Errors
/// A flag without a name; a malformed file, by its name.
pub fn merge(files: &[(String, Vec<u8>)], flags: &[String], client: Lookup<'_>) -> Result<Vec<String>, FlagError> {
    let mut env = Vec::new();
    for (name, text) in files {
        for (key, value) in parse_file(text).map_err(|reason| FlagError::new("--env-file", name, reason))? {
            if let Some(value) = value.or_else(|| client(&key)) {
                env.push(format!("{key}={value}"));
            }
        }
    }
    for flag in flags {
        let (key, value) = flag.split_once('=').map_or((flag.as_str(), None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            return Err(FlagError::new("--env", flag, "no variable name"));
        }
        match (value, client(key)) {
            (None, Some(value)) => env.push(format!("{key}={value}")),
            _ => env.push(flag.clone()),
        }
    }
    Ok(env)
}

/// The labels of a request: files first, then flags; the last wins; a bare key has the empty value.
///
/// # Errors
/// A flag without a key; a malformed file, by its name.
pub fn labels(files: &[(String, Vec<u8>)], flags: &[String]) -> Result<BTreeMap<String, String>, FlagError> {
    let mut labels = BTreeMap::new();
    for (name, text) in files {
        for (key, value) in parse_file(text).map_err(|reason| FlagError::new("--label-file", name, reason))? {
            labels.insert(key, value.unwrap_or_default());
        }
    }
    for flag in flags {
        let (key, value) = key_value("--label", flag)?;
        labels.insert(key, value);
    }
    Ok(labels)
}

/// `key=value` or a bare `key` with the empty value.
///
/// # Errors
/// The key is empty.
pub fn key_value(flag: &'static str, text: &str) -> Result<(String, String), FlagError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err(FlagError::new(flag, text, "no key before \"=\"")) } else { Ok((key.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_format() {
        let text = b"\xef\xbb\xbf# comment\n  A=1 \n\nB=\"q\" # no comment\n\tC=$A\nD\nE=\nF=x=y\r\n  #x\n";
        let entries: Vec<_> = parse_file(text).unwrap();
        let shown: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", v.as_deref().unwrap_or("-"))).collect();
        assert_eq!(shown, ["A:1 ", "B:\"q\" # no comment", "C:$A", "D:-", "E:", "F:x=y"]);
        for bad in ["export A=1", "=x", "A B=1", "\u{feff}=1"] {
            assert!(parse_file(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_file(b"A=\xff").is_err());
    }

    #[test]
    fn files_then_flags_and_the_clients_values() {
        let client = |key: &str| (key == "SET").then(|| "client".to_owned());
        let files = [("f".to_owned(), b"A=file\nSET\nUNSET\n".to_vec())];
        let flags = ["A=flag".to_owned(), "SET".to_owned(), "GONE".to_owned(), "E=".to_owned()];
        assert_eq!(merge(&files, &flags, &client).unwrap(), ["A=file", "SET=client", "A=flag", "SET=client", "GONE", "E="]);
        assert!(merge(&[], &["=x".to_owned()], &client).is_err());
        assert!(merge(&[("f".to_owned(), b"export A=1".to_vec())], &[], &client).unwrap_err().to_string().contains("whitespace"));
    }

    #[test]
    fn label_merge() {
        let labels = labels(&[("f".to_owned(), b"a=1\nb\n".to_vec())], &["a=2".to_owned(), "c".to_owned()]).unwrap();
        assert_eq!(labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["a=2", "b=", "c="]);
        assert!(key_value("--label", "=x").is_err());
    }
}
