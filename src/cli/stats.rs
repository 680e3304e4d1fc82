//! `stats`: resource use of containers, once, as lines, or as a screen that is drawn again and again.

mod screen;

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::{output, session, template};
use crate::base::ByteSize;
use crate::engine::{Pressure, StatsView, Status};
use screen::Screen;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
/// With the shares of time in which processes had to wait for CPU, memory and I/O, where the kernel tells.
const PRESSED: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}\t{{.CPUPressure}}\t{{.MemPressure}}\t{{.IOPressure}}";
const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
    ("CPUPressure", "CPU WAIT"),
    ("MemPressure", "MEM WAIT"),
    ("IOPressure", "I/O WAIT"),
];
/// Time between the two samples of `--no-stream`, and before the first picture.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its first line.
pub const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show resource use of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show all containers, not only running ones
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Show one sample and quit
    #[arg(long)]
    pub no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Seconds between two samples
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1")]
    pub interval: String,
    /// Do not draw over the last picture
    #[arg(long)]
    pub no_reset: bool,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// No such container, or a malformed template or interval.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let interval = interval(&args.interval)?;
    let engine = context.engine()?;
    let format = args.format.as_deref().or_else(|| context.setting("statsFormat")).map(str::trim).filter(|format| !format.is_empty());
    let is_table = format.is_none_or(|format| format.starts_with("table"));
    let mut sampler = engine.sampler(&args.containers, args.all);
    let mut screen = if args.no_stream || args.no_reset || !is_table || !session::stdout_is_tty() { None } else { Some(Screen::open()?) };
    let mut pause = interval.min(INTERVAL);
    if !sampler.sample()?.is_empty() || screen.is_none() {
        // The first rates are those of a moment too, not of the whole life.
        if let Some(code) = rest(screen.as_mut(), pause)? {
            return Ok(code);
        }
    }
    loop {
        let mut views = sampler.sample()?;
        if screen.is_some() {
            views.sort_by(|a, b| a.view.record.name.as_str().cmp(b.view.record.name.as_str()));
        }
        let rows: Vec<Value> = views.iter().map(|view| row(view, typed(view, &args.containers), !args.no_trunc)).collect();
        let pressed = screen.is_some() && views.iter().any(|view| view.stats.pressure.is_some());
        let text = template::list(format, if pressed { PRESSED } else { TABLE }, TITLES, &rows)?;
        match &mut screen {
            Some(screen) => screen.draw(&text)?,
            None => output::raw(&text)?,
        }
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
        pause = interval;
        if let Some(code) = rest(screen.as_mut(), pause)? {
            return Ok(code);
        }
    }
}

/// Waits; Some: the user has seen enough.
fn rest(screen: Option<&mut Screen>, pause: Duration) -> Result<Option<ExitCode>, Failure> {
    match screen {
        Some(screen) => screen.wait(pause),
        None => {
            std::thread::sleep(pause);
            Ok(None)
        }
    }
}

fn interval(text: &str) -> Result<Duration, Failure> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    let wrong = || Failure::invalid(format!("invalid --interval \"{text}\": expected seconds, 0.1 to 86400")).with_code(USAGE);
    seconds.map(Duration::from_secs_f64).ok_or_else(wrong)
}

/// How the user named it.
fn typed<'a>(view: &StatsView, names: &'a [String]) -> Option<&'a String> {
    let record = &view.view.record;
    names.iter().find(|name| {
        let bare = name.strip_prefix('/').unwrap_or(name);
        record.name.as_str() == bare || record.id.as_str().starts_with(bare)
    })
}

pub fn row(view: &StatsView, typed: Option<&String>, trunc: bool) -> Value {
    let record = &view.view.record;
    let stats = &view.stats;
    let id = if trunc { record.id.short() } else { record.id.as_str() };
    let container = typed.map_or(id, String::as_str);
    if !matches!(view.view.status, Status::Running | Status::Paused) {
        return json!({
            "BlockIO": "--", "CPUPerc": "--", "Container": container, "ID": id, "MemPerc": "--", "MemUsage": "-- / --", "Name": record.name.as_str(),
            "NetIO": "--", "PIDs": "--", "CPUPressure": "--", "MemPressure": "--", "IOPressure": "--",
        });
    }
    let percent = if stats.memory_limit == 0 { 0.0 } else { stats.memory_usage as f64 / stats.memory_limit as f64 * 100.0 };
    let pressure = |which: fn(&Pressure) -> f64| stats.pressure.as_ref().map_or_else(|| "--".to_owned(), |p| format!("{:.1}%", which(p)));
    json!({
        "BlockIO": format!("{} / {}", short(stats.block_read), short(stats.block_write)),
        "CPUPerc": format!("{:.2}%", view.cpu_percent),
        "Container": container,
        "ID": id,
        "MemPerc": format!("{percent:.2}%"),
        "MemUsage": format!("{} / {}", ByteSize(stats.memory_usage).binary(), ByteSize(stats.memory_limit).binary()),
        "Name": record.name.as_str(),
        "NetIO": format!("{} / {}", short(view.rx), short(view.tx)),
        "PIDs": stats.pids.to_string(),
        "CPUPressure": pressure(|p| p.cpu),
        "MemPressure": pressure(|p| p.memory),
        "IOPressure": pressure(|p| p.io),
    })
}

fn short(bytes: u64) -> String {
    ByteSize(bytes).decimal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(interval("5").unwrap(), Duration::from_secs(5));
        assert_eq!(interval("0.5").unwrap(), Duration::from_millis(500));
        for bad in ["0", "-1", "x", "", "1e9", "NaN"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
