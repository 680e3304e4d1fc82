//! The status of a container in a few words, as `ps` and Docker's API show it.

use super::{Status, View};
use crate::base::Timestamp;
use crate::monitor::HealthStatus;
use std::time::Duration;

/// `About an hour`, `3 minutes`, `5 days`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded to the nearest, everything else is cut.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 minutes ago`; `N/A` for a time that never was.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    if at.is_never() { "N/A".to_owned() } else { format!("{} ago", duration(now.since(at))) }
}

/// `Up 3 minutes (Paused)`, `Exited (4) 2 hours ago`, and what the OOM killer did: `Up 3 minutes (2 OOM kills)`.
pub fn status(view: &View, now: Timestamp) -> String {
    let record = &view.record;
    let killed = match record.oom_kills {
        0 => String::new(),
        1 => " (1 OOM kill)".to_owned(),
        kills => format!(" ({kills} OOM kills)"),
    };
    plain_status(view, now) + &killed
}

fn plain_status(view: &View, now: Timestamp) -> String {
    let record = &view.record;
    match view.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match &view.health {
            None => format!("Up {}", duration(now.since(view.started))),
            Some(health) if health.status == HealthStatus::Starting => format!("Up {} (health: starting)", duration(now.since(view.started))),
            Some(health) => format!("Up {} ({})", duration(now.since(view.started)), health.status.as_str()),
        },
        Status::Paused => format!("Up {} (Paused)", duration(now.since(view.started))),
        Status::Restarting => format!("Restarting ({}) {}", record.exit_code, ago(record.finished, now)),
        Status::Exited => format!("Exited ({}) {}", record.exit_code, ago(record.finished, now)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(ago(Timestamp::NEVER, Timestamp::now()), "N/A");
    }
}
