//! `--log-driver` and `--log-opt`.

use super::FlagError;
use crate::state::record::LogSpec;

/// The log of a request.
///
/// # Errors
/// A driver that does not exist or is not supported, or an option that the driver does not have, by name.
pub fn parse(driver: Option<&str>, options: &[String]) -> Result<LogSpec, FlagError> {
    let mut spec = LogSpec::default();
    if let Some(driver) = driver.filter(|driver| !driver.is_empty()) {
        driver.clone_into(&mut spec.driver);
    }
    for option in options {
        let (key, value) = option.split_once('=').ok_or_else(|| FlagError::new("--log-opt", option, "expected key=value".to_owned()))?;
        if key == "tag" {
            expand_tag(value, |word| TAG_WORDS.contains(&word).then(String::new)).map_err(|reason| FlagError::new("--log-opt", option, reason))?;
        }
        spec.options.insert(key.to_owned(), value.to_owned());
    }
    match crate::monitor::check_log_options(&spec) {
        Ok(()) => Ok(spec),
        Err(crate::monitor::Error::LogOption { key, value, reason }) if key == "driver" => Err(FlagError::new("--log-driver", &value, reason)),
        Err(crate::monitor::Error::LogOption { key, value, reason }) => Err(FlagError::new("--log-opt", &format!("{key}={value}"), reason)),
        Err(other) => Err(FlagError::new("--log-opt", &options.join(" "), other.to_string())),
    }
}

/// What a tag may name.
const TAG_WORDS: &[&str] = &["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName"];

/// A tag with its `{{.Word}}` replaced.
///
/// # Errors
/// A word that there is not, or something else between braces.
pub fn expand_tag(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (inside, behind) = after.split_once("}}").ok_or("a {{ of the tag is not closed")?;
        let word = inside.trim().strip_prefix('.').and_then(&value);
        out.push_str(&word.ok_or_else(|| format!("the tag may name .{}, not \"{}\"", TAG_WORDS.join(" ."), inside.trim()))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        assert_eq!(parse(None, &[]).unwrap().driver, "json-file");
        assert_eq!(parse(Some("none"), &[]).unwrap().driver, "none");
        let spec = parse(Some("json-file"), &["max-size=10m".into(), "max-file=3".into(), "compress=true".into()]).unwrap();
        assert_eq!((spec.options["max-size"].as_str(), spec.options["max-file"].as_str()), ("10m", "3"));
        assert!(parse(Some("syslog"), &["syslog-address=udp://10.0.0.1:514".into(), "tag={{.Name}}/{{.ID}}".into()]).is_ok());
        for (driver, option, word) in [
            ("fluentd", None, "fluentd"),
            ("none", Some("max-size=1m"), "max-size"),
            ("json-file", Some("max-size=x"), "max-size"),
            ("json-file", Some("max-size"), "key=value"),
            ("json-file", Some("max-file=0"), "max-file"),
            ("json-file", Some("tag={{.Nope}}"), "Nope"),
            ("json-file", Some("tag={{.Name"), "closed"),
            ("syslog", Some("syslog-tls-key=x"), "TLS"),
        ] {
            let options: Vec<String> = option.iter().map(|o| (*o).to_owned()).collect();
            let error = parse(Some(driver), &options).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn tags_name_the_container() {
        let value = |word: &str| (word == "Name").then(|| "web".to_owned());
        assert_eq!(expand_tag("a{{.Name}}/{{ .Name }}b", value).unwrap(), "aweb/webb");
        assert!(expand_tag("{{.Other}}", value).is_err());
    }
}
