//! `--secret NAME[,type=mount|env,target=…,uid=…,gid=…,mode=…]`.

use super::FlagError;
use crate::state::record::{SecretTarget, SecretUse};
use std::path::{Path, PathBuf};

const FLAG: &str = "--secret";
/// Where a secret without an absolute target is.
const DIRECTORY: &str = "/run/secrets";

/// # Errors
/// An unknown key or a malformed value, or a key that the type does not have.
pub fn parse(text: &str) -> Result<SecretUse, FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let mut parts = text.split(',').peekable();
    let mut secret = None;
    if parts.peek().is_some_and(|first| !first.contains('=')) {
        secret = parts.next().map(str::to_owned);
    }
    let (mut kind, mut target, mut ids, mut mode) = ("mount", None, [None, None], None);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong(format!("\"{part}\" is not key=value")))?;
        let id = || value.parse::<u32>().map_err(|_| wrong(format!("\"{value}\" is not a numeric id")));
        match key {
            "source" | "src" => secret = Some(value.to_owned()),
            "type" if matches!(value, "mount" | "env") => kind = value,
            "type" => return Err(wrong("type must be mount or env".to_owned())),
            "target" if !value.is_empty() => target = Some(value),
            "uid" => ids[0] = Some(id()?),
            "gid" => ids[1] = Some(id()?),
            "mode" => {
                let octal = u32::from_str_radix(value.trim_start_matches("0o"), 8).ok().filter(|mode| *mode <= 0o7777);
                mode = Some(octal.ok_or_else(|| wrong(format!("\"{value}\" is not an octal mode")))?);
            }
            _ => return Err(wrong(format!("unknown key \"{key}\": expected source, type, target, uid, gid or mode"))),
        }
    }
    let secret = secret.filter(|name| !name.is_empty()).ok_or_else(|| wrong("no secret is named".to_owned()))?;
    let target = if kind == "env" {
        if ids != [None, None] || mode.is_some() {
            return Err(wrong("uid, gid and mode are only possible with type=mount".to_owned()));
        }
        let variable = target.unwrap_or(&secret).to_owned();
        if variable.contains('=') {
            return Err(wrong(format!("\"{variable}\" is no name of a variable")));
        }
        SecretTarget::Env { variable }
    } else {
        let path = target.unwrap_or(&secret);
        let path = if path.starts_with('/') { PathBuf::from(path) } else { Path::new(DIRECTORY).join(path) };
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(wrong("the target must not contain \"..\"".to_owned()));
        }
        SecretTarget::Mount { path, uid: ids[0].unwrap_or(0), gid: ids[1].unwrap_or(0), mode: mode.unwrap_or(0o444) }
    };
    Ok(SecretUse { secret, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let mount = |path: &str, uid, gid, mode| SecretTarget::Mount { path: path.into(), uid, gid, mode };
        for (text, secret, target) in [
            ("db", "db", mount("/run/secrets/db", 0, 0, 0o444)),
            ("db,target=/etc/pw,uid=1,gid=2,mode=0400", "db", mount("/etc/pw", 1, 2, 0o400)),
            ("source=db,target=pw", "db", mount("/run/secrets/pw", 0, 0, 0o444)),
            ("db,type=env,target=PASSWORD", "db", SecretTarget::Env { variable: "PASSWORD".to_owned() }),
            ("db,type=env", "db", SecretTarget::Env { variable: "db".to_owned() }),
        ] {
            let parsed = parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((parsed.secret.as_str(), parsed.target), (secret, target), "{text}");
        }
        for bad in ["", "type=env", "a,b", "a,type=x", "a,mode=9", "a,uid=x", "a,type=env,uid=1", "a,colour=red", "a,target=../x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
