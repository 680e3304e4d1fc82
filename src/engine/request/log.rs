//! `--log-driver json-file|none` and `--log-opt max-size=…,max-file=…`.

use super::FlagError;
use crate::base::ByteSize;
use crate::state::record::LogSpec;

/// The log of a request.
///
/// # Errors
/// Another driver, or an option that the driver does not have, by name.
pub fn parse(driver: Option<&str>, options: &[String]) -> Result<LogSpec, FlagError> {
    let mut spec = LogSpec::default();
    match driver {
        None | Some("" | "json-file") => {}
        Some("none") => "none".clone_into(&mut spec.driver),
        Some(other) => return Err(FlagError::new("--log-driver", other, "the driver is not supported; use json-file or none")),
    }
    for option in options {
        let wrong = |reason: String| FlagError::new("--log-opt", option, reason);
        let (key, value) = option.split_once('=').ok_or_else(|| wrong("expected key=value".to_owned()))?;
        if spec.driver == "none" {
            return Err(wrong("the driver none has no options".to_owned()));
        }
        match key {
            "max-size" => {
                let size: ByteSize = value.parse().map_err(wrong)?;
                if size.0 == 0 {
                    return Err(wrong("the size must be positive".to_owned()));
                }
            }
            "max-file" => {
                value.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(|| wrong("the number of files must be positive".to_owned()))?;
            }
            _ => return Err(wrong(format!("the option {key} is not supported; json-file has max-size and max-file"))),
        }
        spec.options.insert(key.to_owned(), value.to_owned());
    }
    if spec.options.contains_key("max-file") && !spec.options.contains_key("max-size") && spec.options["max-file"] != "1" {
        return Err(FlagError::new("--log-opt", &format!("max-file={}", spec.options["max-file"]), "it needs max-size"));
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        assert_eq!(parse(None, &[]).unwrap().driver, "json-file");
        assert_eq!(parse(Some("none"), &[]).unwrap().driver, "none");
        let spec = parse(Some("json-file"), &["max-size=10m".into(), "max-file=3".into()]).unwrap();
        assert_eq!((spec.options["max-size"].as_str(), spec.options["max-file"].as_str()), ("10m", "3"));
        for (driver, option) in [
            ("syslog", None),
            ("json-file", Some("compress=true")),
            ("none", Some("max-size=1m")),
            ("json-file", Some("max-size=x")),
            ("json-file", Some("max-size")),
            ("json-file", Some("max-file=0")),
            ("json-file", Some("max-file=3")),
        ] {
            let options: Vec<String> = option.iter().map(|o| (*o).to_owned()).collect();
            assert!(parse(Some(driver), &options).is_err(), "{driver} {option:?}");
        }
    }
}
