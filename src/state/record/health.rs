//! A container's health check as Docker's image config and `inspect` spell it.

use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Docker's least interval and timeout.
const LEAST: i64 = 1_000_000;

/// What is run inside the container to see whether it is well. Zero stands for the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, `CMD` and words, or `CMD-SHELL` and a text; empty: nothing is probed.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Nanoseconds from the end of a probe to the next.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds that a probe may take.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds after the start in which failures do not count until the first success.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between probes in the start period until the first success.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Consecutive failures that make it unhealthy.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// What happens to a container that has become unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    #[default]
    None,
    /// SIGKILL; the restart policy decides what follows.
    Kill,
    /// Stopped and started again, whatever the restart policy.
    Restart,
    /// Stopped as by the user.
    Stop,
}

impl HealthAction {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthAction::None => "none",
            HealthAction::Kill => "kill",
            HealthAction::Restart => "restart",
            HealthAction::Stop => "stop",
        }
    }
}

impl Healthcheck {
    /// The program and arguments of a probe; `shell` is the image's SHELL. None: there is nothing to probe.
    pub fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        match self.test.split_first() {
            Some((form, words)) if form == "CMD" && !words.is_empty() => Some(words.to_vec()),
            Some((form, [text, ..])) if form == "CMD-SHELL" => {
                let shell = if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell.to_vec() };
                Some(shell.into_iter().chain([text.clone()]).collect())
            }
            _ => None,
        }
    }

    pub fn interval(&self) -> Duration {
        or_default(self.interval, INTERVAL)
    }

    pub fn timeout(&self) -> Duration {
        or_default(self.timeout, TIMEOUT)
    }

    pub fn start_period(&self) -> Duration {
        or_default(self.start_period, Duration::ZERO)
    }

    pub fn start_interval(&self) -> Duration {
        or_default(self.start_interval, START_INTERVAL)
    }

    pub fn retries(&self) -> u32 {
        u32::try_from(self.retries).ok().filter(|n| *n > 0).unwrap_or(RETRIES)
    }

    /// Docker's rules for a whole check.
    ///
    /// # Errors
    /// Which field is out of its range, or a test of no known form.
    pub fn check(&self) -> Result<(), String> {
        let times =
            [("interval", self.interval), ("timeout", self.timeout), ("start period", self.start_period), ("start interval", self.start_interval)];
        if let Some((name, _)) = times.iter().find(|(_, nanos)| *nanos != 0 && *nanos < LEAST) {
            return Err(format!("the {name} of the health check cannot be less than 1ms"));
        }
        if self.retries < 0 || u32::try_from(self.retries).is_err() {
            return Err("the retries of the health check cannot be negative or beyond 32 bits".to_owned());
        }
        match self.test.first().map(String::as_str) {
            None | Some("NONE" | "CMD" | "CMD-SHELL") => Ok(()),
            Some(other) => Err(format!("unknown type of health check \"{other}\": expected NONE, CMD or CMD-SHELL")),
        }
    }
}

fn or_default(nanos: i64, default: Duration) -> Duration {
    u64::try_from(nanos).ok().filter(|n| *n > 0).map_or(default, Duration::from_nanos)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes nil slices as null.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Earlier builds stored the image's value unread: what is no health check is none.
pub(super) fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Healthcheck>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(from)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(words: &[&str]) -> Healthcheck {
        Healthcheck { test: words.iter().map(|w| (*w).to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn forms_of_a_test() {
        let shell = ["/bin/ash".to_owned(), "-ec".to_owned()];
        for (words, command) in [
            (&["CMD", "probe", "-x"][..], Some("probe -x")),
            (&["CMD-SHELL", "exit 1"], Some("/bin/ash -ec exit 1")),
            (&["NONE"], None),
            (&[], None),
            (&["CMD"], None),
            (&["CMD-SHELL"], None),
        ] {
            assert_eq!(test(words).command(&shell).map(|c| c.join(" ")).as_deref(), command, "{words:?}");
        }
        assert_eq!(test(&["CMD-SHELL", "x"]).command(&[]).unwrap(), ["/bin/sh", "-c", "x"]);
    }

    #[test]
    fn zero_is_dockers_default_and_odd_values_are_refused() {
        let none = Healthcheck::default();
        assert_eq!((none.interval(), none.timeout(), none.retries()), (INTERVAL, TIMEOUT, 3));
        assert_eq!((none.start_period(), none.start_interval()), (Duration::ZERO, START_INTERVAL));
        assert!(none.check().is_ok());
        for bad in [
            Healthcheck { interval: -1, ..none.clone() },
            Healthcheck { timeout: 999_999, ..none.clone() },
            Healthcheck { retries: -1, ..none.clone() },
            test(&["SHELL", "x"]),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn documents_are_dockers() {
        let read: Healthcheck = serde_json::from_str(r#"{"Test":null,"Interval":5000000000,"Retries":2,"Other":1}"#).unwrap();
        assert_eq!((read.interval(), read.retries()), (Duration::from_secs(5), 2));
        assert_eq!(serde_json::to_string(&test(&["NONE"])).unwrap(), r#"{"Test":["NONE"]}"#);
    }
}
