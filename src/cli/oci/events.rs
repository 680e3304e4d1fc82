//! `events`: statistics and OOM kills as lines of JSON.

use super::{Context, parse};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::runtime::cgroup::{NetworkInterface, OomEvent};
use crate::runtime::container::Container;
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Show a container's statistics at intervals, and OOM kills as they happen.
#[derive(Parser, Debug)]
struct Events {
    /// Time between two statistics (5s, 1m30s, 500ms)
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Show the statistics once
    #[arg(long)]
    stats: bool,
    id: String,
}

pub fn events(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Events = parse("events", args)?;
    let container = context.open(&flags.id)?;
    if flags.stats {
        print(&container, "stats", Some(stats(&container)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut watch = container.oom_watch()?;
    let mut next = Instant::now() + flags.interval;
    loop {
        let seen = watch.wait(next.saturating_duration_since(Instant::now()));
        match seen.map_err(|error| Failure::caused(format!("cannot watch container {}", container.id()), &error))? {
            OomEvent::Oom => print(&container, "oom", None)?,
            OomEvent::Gone => return Ok(ExitCode::SUCCESS),
            OomEvent::Quiet => {
                print(&container, "stats", Some(stats(&container)?))?;
                next = Instant::now() + flags.interval;
            }
        }
    }
}

fn print(container: &Container, kind: &str, data: Option<Value>) -> Result<(), Failure> {
    let mut event = json!({"type": kind, "id": container.id()});
    if let Some(data) = data {
        event["data"] = data;
    }
    output::line(event)
}

fn stats(container: &Container) -> Result<Value, Failure> {
    let mut stats = container.stats()?;
    // The init process shows its own network namespace there.
    let devices = container.record().init.and_then(|init| std::fs::read_to_string(format!("/proc/{}/net/dev", init.pid)).ok());
    stats.network_interfaces = devices.as_deref().map(interfaces);
    serde_json::to_value(&stats).map_err(|error| Failure::caused("cannot print the statistics", &error))
}

/// Reads `/proc/PID/net/dev` (`man 5 proc_pid_net`); the loopback is left out, as nothing comes in or goes out by it.
fn interfaces(text: &str) -> Vec<NetworkInterface> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = counters[..] else {
            return None;
        };
        let name = name.trim().to_owned();
        Some(NetworkInterface { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
    };
    text.lines().filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

/// A duration as Go writes it: numbers with units, one after the other.
fn interval(text: &str) -> Result<Duration, String> {
    let invalid = || format!("\"{text}\" is no duration above zero: expected one like 5s, 1m30s or 500ms");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(tail.len());
        let seconds = match &tail[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = &tail[unit..];
    }
    if total.is_zero() { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_gos_durations() {
        for (text, milliseconds) in [("5s", 5000), ("1m30s", 90_000), ("500ms", 500), ("1.5s", 1500), ("1h", 3_600_000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "0s", "-1s", "s", "5x", "1e9s", "99999999999999999999h"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_read_with_their_counters() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:     120       2    0    0    0     0          0         0      120       2    0    0    0     0       0          0\n  \
            eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!(
            serde_json::to_value(&found[0]).unwrap(),
            json!({"Name": "eth0", "RxBytes": 1, "RxPackets": 2, "RxErrors": 3, "RxDropped": 4, "TxBytes": 9, "TxPackets": 10, "TxErrors": 11, "TxDropped": 12})
        );
    }
}
