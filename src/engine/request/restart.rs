//! `--restart no|on-failure[:N]|always|unless-stopped`.

use super::FlagError;
use crate::state::record::RestartPolicy;

/// Parses a restart policy; the empty text is `no`.
///
/// # Errors
/// An unknown policy, or a count on another policy than on-failure.
pub fn parse(text: &str) -> Result<RestartPolicy, FlagError> {
    let wrong = |reason: &str| FlagError::new("--restart", text, reason);
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let policy = match name {
        "" | "no" => RestartPolicy::No,
        "on-failure" => {
            let count = count.map_or(Ok(0), str::parse).map_err(|_| wrong("the maximum retry count is not a non-negative number"))?;
            return Ok(RestartPolicy::OnFailure(count));
        }
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        _ => return Err(wrong("expected no, on-failure[:N], always or unless-stopped")),
    };
    if count.is_some() {
        return Err(wrong("only on-failure takes a maximum retry count"));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_grammar() {
        for (text, policy) in [
            ("no", RestartPolicy::No),
            ("", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure(0)),
            ("on-failure:3", RestartPolicy::OnFailure(3)),
        ] {
            assert_eq!(parse(text), Ok(policy), "{text}");
        }
        for bad in ["never", "always:3", "no:1", "on-failure:x", "on-failure:-1", "on-failure:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
