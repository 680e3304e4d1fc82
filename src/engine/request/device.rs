//! `--device host[:container][:rwm]` and `--device-cgroup-rule "c 42:* rmw"`.

use super::FlagError;
use crate::state::record::Device;
use std::path::PathBuf;

/// Parses one `--device` value.
///
/// # Errors
/// A malformed value, or a CDI device name (not supported).
pub fn parse(text: &str) -> Result<Device, FlagError> {
    let wrong = |reason: String| FlagError::new("--device", text, reason);
    if !text.starts_with('/') {
        if text.contains('=') && text.contains('/') {
            return Err(wrong("CDI devices are not supported; name the device file".to_owned()));
        }
        return Err(wrong("the device is not an absolute path".to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, second] if is_access(second) => (host, host, second),
        [host, container] => (host, container, "rwm"),
        [host, container, access] => (host, container, access),
        _ => return Err(wrong("expected host[:container][:rwm]".to_owned())),
    };
    if !container.starts_with('/') {
        return Err(wrong(format!("\"{container}\" is neither an absolute path nor an access of r, w and m")));
    }
    if !is_access(access) {
        return Err(wrong(format!("\"{access}\" is not an access of r, w and m")));
    }
    Ok(Device { host: PathBuf::from(host), container: PathBuf::from(container), access: access.to_owned() })
}

/// A non-empty subset of `rwm`, each letter at most once.
fn is_access(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && text.matches(c).count() == 1)
}

/// Checks one `--device-cgroup-rule` value: `[acb] major:minor access`, `*` for any number.
///
/// # Errors
/// The rule does not follow that form.
pub fn parse_rule(text: &str) -> Result<String, FlagError> {
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let parts: Vec<&str> = text.split(' ').collect();
    let fine = match parts[..] {
        ["a" | "b" | "c", numbers, access] => {
            numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor)) && is_access(access)
        }
        _ => false,
    };
    if fine { Ok(text.to_owned()) } else { Err(FlagError::new("--device-cgroup-rule", text, "expected \"a|b|c major:minor rwm\", * for any number")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_grammar() {
        for (text, container, access) in
            [("/dev/a", "/dev/a", "rwm"), ("/dev/a:/dev/b", "/dev/b", "rwm"), ("/dev/a:r", "/dev/a", "r"), ("/dev/a:/dev/b:rw", "/dev/b", "rw")]
        {
            let device = parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((device.container.to_str(), device.access.as_str()), (Some(container), access), "{text}");
        }
        for bad in ["", "dev/a", "vendor.com/class=gpu", "/dev/a:b", "/dev/a:/b:x", "/dev/a:/b:rr", "/dev/a:/b:r:w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rule_grammar() {
        for good in ["c 42:* rmw", "b *:* r", "a 1:2 m"] {
            assert!(parse_rule(good).is_ok(), "{good}");
        }
        for bad in ["", "c 42 rmw", "x 1:1 r", "c 1:1 x", "c  1:1 r", "c a:1 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
