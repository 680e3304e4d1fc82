//! Health checks: which one a container gets, what its monitor is told, and a probe on demand.

use super::super::request::{CreateContainer, HealthRequest};
use super::super::{Engine, Error, Result};
use super::contact::{await_death, connect};
use super::stop::{stop_signal, stop_timeout};
use super::view::running;
use crate::base::ErrorKind;
use crate::monitor::{Event, HealthPlan};
use crate::oci::ImageDefaults;
use crate::state::record::{ContainerSpec, HealthAction, Healthcheck};
use std::time::Duration;

/// How long after its timeout a probe on demand may take to be answered: the one in flight ends first.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// The request's fields over the image's; a test in the request does not take away the image's times (Docker's rule).
///
/// # Errors
/// A time or a number is out of its range, or an action has nothing to act on.
pub(super) fn merge(request: &HealthRequest, image: &ImageDefaults, warnings: &mut Vec<String>) -> Result<Option<Healthcheck>> {
    if request.disable {
        return Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }));
    }
    let mut found = image.healthcheck.as_ref().and_then(|value| match serde_json::from_value::<Healthcheck>(value.clone()) {
        Ok(check) => Some(check),
        Err(error) => {
            warnings.push(format!("the image's HEALTHCHECK is ignored: {error}"));
            None
        }
    });
    if request.is_given() {
        let check = found.get_or_insert_default();
        if let Some(text) = &request.command {
            check.test = vec!["CMD-SHELL".to_owned(), text.clone()];
        }
        if let Some(words) = &request.words {
            check.test = ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect();
        }
        for (given, field) in [
            (request.interval, &mut check.interval),
            (request.timeout, &mut check.timeout),
            (request.start_period, &mut check.start_period),
            (request.start_interval, &mut check.start_interval),
            (request.retries, &mut check.retries),
        ] {
            *field = given.filter(|value| *value != 0).unwrap_or(*field);
        }
    }
    if let Some(check) = &found {
        check.check().map_err(Error::invalid)?;
    }
    let probed = found.as_ref().is_some_and(|check| check.command(&[]).is_some());
    if request.action != HealthAction::None && !probed {
        return Err(Error::Invalid {
            message: format!(
                "--health-on-failure {} needs a health check, and neither the image nor --health-cmd gives one",
                request.action.as_str()
            ),
            hint: Some("give one with --health-cmd".to_owned()),
        });
    }
    Ok(found)
}

/// Refuses what cannot go together.
///
/// # Errors
/// A container that is removed at its end cannot be restarted.
pub(super) fn check_request(request: &CreateContainer) -> Result<()> {
    if request.host.auto_remove && request.health.action == HealthAction::Restart {
        return Err(Error::invalid("conflicting options: cannot specify both --health-on-failure restart and --rm"));
    }
    Ok(())
}

/// What the monitor is to probe; None: nothing.
pub(super) fn plan(spec: &ContainerSpec) -> Option<HealthPlan> {
    let check = spec.healthcheck.as_ref()?;
    Some(HealthPlan {
        command: check.command(&spec.shell)?,
        interval: check.interval(),
        timeout: check.timeout(),
        start_period: check.start_period(),
        start_interval: check.start_interval(),
        retries: check.retries(),
        action: spec.health_action,
        stop_signal: stop_signal(&spec.process),
        stop_timeout: stop_timeout(&spec.process, None),
    })
}

impl Engine {
    /// Probes the health of a running container now; true: it is well. The result counts as that of any other probe.
    ///
    /// # Errors
    /// It has no health check, does not run, or is paused.
    pub fn probe(&self, name: &str) -> Result<bool> {
        let record = self.find(name)?;
        let Some(plan) = plan(&record.spec) else { return Err(Error::conflict(format!("container {name} has no defined healthcheck"))) };
        running(&self.privilege.roots, &record.id, name)?;
        let not_running = || Error::conflict(format!("container {name} is not running"));
        let live_dir = self.privilege.roots.live(&record.id);
        let mut client = connect(&live_dir)?.ok_or_else(not_running)?;
        client.probe()?;
        let failed = |kind, text: String| Error::Failed { operation: format!("check the health of container \"{name}\""), kind, source: text.into() };
        loop {
            match client.next(Some(plan.timeout * 2 + ANSWER_PATIENCE)) {
                Ok(Some(Event::Probed { well })) => return Ok(well),
                Ok(Some(Event::Failed { message, .. })) => return Err(failed(ErrorKind::Conflict, message)),
                Ok(Some(Event::Gone)) => return Err(not_running()),
                Ok(Some(_)) => {}
                Ok(None) => return Err(failed(ErrorKind::Unavailable, "its monitor does not answer".to_owned())),
                Err(error @ crate::monitor::Error::Lost) => {
                    let text = "its monitor was started by an earlier version of rcon that does not probe on demand";
                    let dead = await_death(&client, &live_dir, error).is_ok();
                    return Err(if dead { not_running() } else { failed(ErrorKind::Unavailable, text.to_owned()) });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(value: serde_json::Value) -> ImageDefaults {
        ImageDefaults { healthcheck: Some(value), ..ImageDefaults::default() }
    }

    #[test]
    fn the_request_goes_over_the_image_field_by_field() {
        let image = image(json!({"Test": ["CMD", "probe"], "Interval": 5_000_000_000i64, "Retries": 7}));
        let merged = |request: &HealthRequest| merge(request, &image, &mut Vec::new()).unwrap().unwrap();
        let own = merged(&HealthRequest::default());
        assert_eq!((own.test.join(" ").as_str(), own.retries), ("CMD probe", 7));
        let over = merged(&HealthRequest { command: Some("exit 0".to_owned()), retries: Some(2), ..HealthRequest::default() });
        assert_eq!((over.test.join(" ").as_str(), over.interval, over.retries), ("CMD-SHELL exit 0", 5_000_000_000, 2));
        let none = merged(&HealthRequest { disable: true, ..HealthRequest::default() });
        assert_eq!((none.test, none.interval), (vec!["NONE".to_owned()], 0));
    }

    #[test]
    fn an_unreadable_check_of_an_image_is_told_and_an_action_needs_a_check() {
        let mut warnings = Vec::new();
        let odd = image(json!({"Test": 5}));
        assert_eq!(merge(&HealthRequest::default(), &odd, &mut warnings).unwrap(), None);
        assert!(warnings[0].contains("HEALTHCHECK"));
        let act = HealthRequest { action: HealthAction::Kill, ..HealthRequest::default() };
        assert!(merge(&act, &ImageDefaults::default(), &mut warnings).unwrap_err().to_string().contains("needs a health check"));
        let short = HealthRequest { command: Some("x".to_owned()), interval: Some(5), ..HealthRequest::default() };
        assert!(merge(&short, &ImageDefaults::default(), &mut warnings).unwrap_err().to_string().contains("less than 1ms"));
    }
}
