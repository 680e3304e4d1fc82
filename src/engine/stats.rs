//! stats: resource use of containers, sampled again and again.

use super::{Engine, Result, StatsView, View};
use crate::base::{ContainerId, Timestamp};
use crate::monitor::Live;
use crate::runtime::cgroup;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Samples the same choice of containers repeatedly; rates are those since the last sample.
pub struct Sampler<'a> {
    engine: &'a Engine,
    names: Vec<String>,
    all: bool,
    /// CPU time (nanoseconds) of each container when it was last sampled.
    before: HashMap<ContainerId, (u64, Instant)>,
    begun: bool,
}

impl Engine {
    /// Resource use of the named containers, or of all running ones; `all`: also the others, with zeroes.
    pub fn sampler(&self, names: &[String], all: bool) -> Sampler<'_> {
        Sampler { engine: self, names: names.to_vec(), all, before: HashMap::new(), begun: false }
    }

    /// One sample with the rates of an interval, for which the call waits if anything runs.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn stats(&self, names: &[String], all: bool, interval: Duration) -> Result<Vec<StatsView>> {
        let mut sampler = self.sampler(names, all);
        if sampler.sample()?.iter().any(|row| row.view.pid != 0) {
            std::thread::sleep(interval);
        }
        sampler.sample()
    }
}

impl Sampler<'_> {
    /// The present state of the chosen containers. The first sample of a container has its rate since its start. A named
    /// container that is removed later leaves the list.
    ///
    /// # Errors
    /// `NoSuch` for a name, in the first sample; a group that cannot be read although its container runs.
    pub fn sample(&mut self) -> Result<Vec<StatsView>> {
        let mut before = std::mem::take(&mut self.before);
        let mut rows = Vec::new();
        for view in self.views()? {
            let id = view.record.id.clone();
            let row = self.row(view, before.remove(&id))?;
            rows.push(row);
        }
        self.begun = true;
        Ok(rows)
    }

    fn views(&self) -> Result<Vec<View>> {
        if self.names.is_empty() {
            return self.engine.list(self.all, &[]);
        }
        let mut views = Vec::with_capacity(self.names.len());
        for name in &self.names {
            match self.engine.view_revived(name) {
                Err(super::Error::NoSuch { .. }) if self.begun => {}
                other => views.push(other?),
            }
        }
        Ok(views)
    }

    fn row(&mut self, view: View, before: Option<(u64, Instant)>) -> Result<StatsView> {
        let roots = &self.engine.privilege.roots;
        let none = |view| StatsView { view, stats: cgroup::Stats::default(), cpu_percent: 0.0, rx: 0, tx: 0 };
        let live = if view.pid == 0 { None } else { Live::read(&roots.live(&view.record.id)) };
        let Some(live) = live else { return Ok(none(view)) };
        let stats = match live.cgroup.stats() {
            Ok(stats) => stats,
            // It ended while we looked.
            Err(_) if !crate::monitor::is_alive(&roots.live(&view.record.id)) => return Ok(none(view)),
            Err(_) if Live::read(&roots.live(&view.record.id)).is_none_or(|now| now.pid != live.pid) => return Ok(none(view)),
            Err(e) => return Err(e.into()),
        };
        let now = Instant::now();
        // Less than before: another run of it.
        let cpu_percent = match before {
            Some((used, at)) if used <= stats.cpu_total => cpu_percent(stats.cpu_total - used, now - at),
            _ => cpu_percent(stats.cpu_total, Timestamp::now().since(view.started)),
        };
        self.before.insert(view.record.id.clone(), (stats.cpu_total, now));
        let (rx, tx) = crate::network::traffic(view.pid).unwrap_or((0, 0));
        Ok(StatsView { view, stats, cpu_percent, rx, tx })
    }
}

/// Percent of one CPU.
fn cpu_percent(used_nanos: u64, elapsed: Duration) -> f64 {
    let elapsed = elapsed.as_nanos() as f64;
    if elapsed > 0.0 { used_nanos as f64 / elapsed * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_percents_of_one_processor() {
        assert!((cpu_percent(500_000_000, Duration::from_secs(1)) - 50.0).abs() < 1e-9);
        assert!(cpu_percent(1, Duration::ZERO).abs() < 1e-9);
    }
}
