//! `logs`: prints what containers wrote.

use super::context::Context;
use super::failure::{self, Failure};
use super::options::request::given;
use super::output;
use crate::base::Timestamp;
use crate::monitor::{Gap, LogLine, LogQuery};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::mpsc;

/// Colours of `--color`, one after the other.
const COLOURS: [u8; 6] = [32, 33, 34, 35, 36, 31];
/// Lines of several containers that may wait to be printed.
const WAITING: usize = 1024;

/// Print the logs of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Follow the output
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only the last N lines ("all" for everything)
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    pub tail: String,
    /// Show timestamps
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Only lines after this time (2026-01-02T15:04:05Z, or 10m for ten minutes ago)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only lines before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show labels, variables and tag that --log-opt chose
    #[arg(long)]
    pub details: bool,
    /// Begin each line with the container's name
    #[arg(long)]
    pub names: bool,
    /// Give each container's lines a colour
    #[arg(long)]
    pub color: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// A `--since` or `--until`.
///
/// # Errors
/// It is no time.
pub fn time(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    crate::engine::parse_time(text, now)
        .ok_or_else(|| Failure::invalid(format!("invalid time \"{text}\": expected RFC 3339, a date, Unix seconds or a duration like 10m")))
}

/// # Errors
/// No such container, a malformed time, or a log that cannot be read.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let now = Timestamp::now();
    let time = |text: Option<&str>| text.map(|text| time(text, now)).transpose();
    let query = LogQuery {
        since: time(given(&args.since))?,
        until: time(given(&args.until))?,
        // Negative or not a number means all.
        tail: args.tail.parse().ok(),
        follow: args.follow,
        details: args.details,
    };
    let engine = context.engine()?;
    let mut printers = Vec::new();
    for (index, name) in args.containers.iter().enumerate() {
        let (id, known) = engine.identify(name)?;
        let prefix = if args.names {
            known
        } else if args.containers.len() > 1 {
            id
        } else {
            String::new()
        };
        let colour = args.color.then(|| COLOURS[index % COLOURS.len()]);
        printers.push(Printer { prefix, colour, timestamps: args.timestamps, flush: args.follow, begun: [true; 2] });
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if args.follow && args.containers.len() > 1 {
        drop(engine);
        return together(&args.containers, &query, printers, context, &mut out);
    }
    for (name, printer) in args.containers.iter().zip(&mut printers) {
        let mut written = Ok(());
        engine.logs(name, &query, &mut |line| {
            written = printer.show(&mut out, &line);
            written.is_ok()
        })?;
        written.map_err(|e| failure::output(&e))?;
    }
    out.flush().map_err(|e| failure::output(&e))?;
    Ok(ExitCode::SUCCESS)
}

/// Follows several containers at once, a thread each, until all have ended.
fn together(names: &[String], query: &LogQuery, mut printers: Vec<Printer>, context: &Context, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let (sender, receiver) = mpsc::sync_channel(WAITING);
    for (index, name) in names.iter().enumerate() {
        let (sender, name, query, engine) = (sender.clone(), name.clone(), query.clone(), context.engine()?);
        // Not waited for: a container that says nothing must not keep us when nobody reads our output any more.
        std::thread::spawn(move || {
            let result = engine.logs(&name, &query, &mut |line| sender.send((index, Ok(line))).is_ok());
            if let Err(error) = result {
                // Nobody listens any more: then nobody wants to know.
                sender.send((index, Err(error))).ok();
            }
        });
    }
    drop(sender);
    for (index, line) in receiver {
        match line {
            Ok(line) => printers[index].show(out, &line).map_err(|e| failure::output(&e))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the lines of one container are shown.
struct Printer {
    /// Before each line; empty for none.
    prefix: String,
    colour: Option<u8>,
    timestamps: bool,
    /// Lines of one second may arrive at once; a follower sees each at once, a reader gets them in blocks.
    flush: bool,
    /// The next data of stdout and stderr begins a line.
    begun: [bool; 2],
}

impl Printer {
    fn show(&mut self, out: &mut impl Write, line: &LogLine) -> io::Result<()> {
        if let Some(gap) = line.gap {
            out.flush()?;
            let of = if self.prefix.is_empty() { String::new() } else { format!("{}: ", self.prefix) };
            output::talk(format_args!("warning: {of}{}", describe(gap)));
            return Ok(());
        }
        let begins = &mut self.begun[usize::from(line.stream == 2)];
        let mut text = Vec::with_capacity(line.data.len() + 64);
        if let Some(colour) = self.colour {
            text.extend_from_slice(format!("\x1b[{colour}m").as_bytes());
        }
        if std::mem::replace(begins, line.data.ends_with(b"\n")) {
            if !self.prefix.is_empty() {
                text.extend_from_slice(format!("{} ", self.prefix).as_bytes());
            }
            if self.timestamps {
                text.extend_from_slice(format!("{} ", line.at.fixed()).as_bytes());
            }
            if !line.details.is_empty() {
                let details: Vec<String> = line.details.iter().map(|(key, value)| format!("{key}={value}")).collect();
                text.extend_from_slice(format!("{} ", details.join(",")).as_bytes());
            }
        }
        match (self.colour, line.data.strip_suffix(b"\n")) {
            (Some(_), whole) => {
                text.extend_from_slice(whole.unwrap_or(&line.data));
                text.extend_from_slice(b"\x1b[0m");
                text.extend_from_slice(if whole.is_some() { b"\n" } else { b"" });
            }
            (None, _) => text.extend_from_slice(&line.data),
        }
        if line.stream == 2 {
            // Keep the order that the log has, as far as two streams have one.
            out.flush()?;
            return io::stderr().lock().write_all(&text);
        }
        out.write_all(&text)?;
        if self.flush { out.flush() } else { Ok(()) }
    }
}

/// What is missing, for a warning.
pub fn describe(gap: Gap) -> String {
    match gap {
        Gap::Lines(1) => "1 line is missing here: the log could not be written".to_owned(),
        Gap::Lines(lines) => format!("{lines} lines are missing here: the log could not be written"),
        Gap::Files(1) => "lines are missing here: 1 log file was rotated away before it could be read".to_owned(),
        Gap::Files(files) => format!("lines are missing here: {files} log files were rotated away before they could be read"),
        Gap::Unknown => "lines may be missing here: the log was rotated faster than it could be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stand_at_the_beginning_of_lines() {
        let mut printer = Printer { prefix: "web".to_owned(), colour: None, timestamps: false, flush: true, begun: [true; 2] };
        let mut out = Vec::new();
        for data in ["one\n", "tw", "o\n"] {
            let details = vec![("tag".to_owned(), "t".to_owned())];
            printer.show(&mut out, &LogLine { stream: 1, data: data.into(), details, ..LogLine::nothing() }).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), "web tag=t one\nweb tag=t two\n");
        let mut out = Vec::new();
        printer.colour = Some(32);
        printer.show(&mut out, &LogLine { stream: 1, data: "x\n".into(), ..LogLine::nothing() }).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[32mweb x\x1b[0m\n");
        assert!(describe(Gap::Lines(3)).starts_with("3 lines are missing"));
    }
}
