//! `--link NAME[:ALIAS]`.

use super::FlagError;
use crate::state::record::Link;

/// The container as typed (a name or id), and the name it is to be known by.
///
/// # Errors
/// No name, or more than two parts.
pub fn parse(text: &str) -> Result<Link, FlagError> {
    let (name, alias) = text.split_once(':').unwrap_or((text, ""));
    let name = name.strip_prefix('/').unwrap_or(name);
    let alias = if alias.is_empty() { name } else { alias.strip_prefix('/').unwrap_or(alias) };
    if name.is_empty() || alias.contains([':', '/']) || !crate::network::valid_host_entry(alias) {
        return Err(FlagError::new("--link", text, "expected NAME[:ALIAS]"));
    }
    Ok(Link { container: name.to_owned(), alias: alias.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, container, alias) in [("db", "db", "db"), ("db:sql", "db", "sql"), ("/db:/sql", "db", "sql"), ("db:", "db", "db")] {
            assert_eq!(parse(text).unwrap(), Link { container: container.into(), alias: alias.into() }, "{text}");
        }
        for bad in ["", ":x", "a:b:c", "a:b c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
