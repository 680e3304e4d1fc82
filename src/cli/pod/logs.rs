//! `pod logs`: prints what the containers of a pod wrote.

use crate::base::Timestamp;
use crate::cli::context::Context;
use crate::cli::failure::{self, Failure, USAGE};
use crate::cli::logs::describe;
use crate::cli::options::request::given;
use crate::cli::output;
use crate::monitor::{LogLine, LogQuery};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Foreground colours of a terminal, one container after another.
const COLOURS: [&str; 6] = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m", "\x1b[36m"];
const PLAIN: &str = "\x1b[0m";
/// Digits of an id before a line.
const ID_WIDTH: usize = 12;

/// Print the logs of the containers of a pod
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Follow the output
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only these containers
    #[arg(short = 'c', long, value_name = "CONTAINER")]
    pub container: Vec<String>,
    /// Show names instead of ids
    #[arg(short = 'n', long)]
    pub names: bool,
    /// A colour for each container
    #[arg(long)]
    pub color: bool,
    /// Only the last N lines of each container
    #[arg(long, default_value = "-1", value_name = "N")]
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
    pub pod: String,
}

/// # Errors
/// No such pod or container, a malformed time, or a log that cannot be read.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let now = Timestamp::now();
    let time = |text: &str| {
        crate::engine::parse_time(text, now).ok_or_else(|| {
            Failure::invalid(format!("invalid time \"{text}\": expected RFC 3339, a date, Unix seconds or a duration like 10m")).with_code(USAGE)
        })
    };
    let query = LogQuery {
        since: given(&args.since).map(time).transpose()?,
        until: given(&args.until).map(time).transpose()?,
        // Negative or not a number means all.
        tail: args.tail.parse().ok(),
        follow: args.follow,
        details: false,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut error = io::stderr().lock();
    let mut written = Ok(());
    let mut seen: Vec<String> = Vec::new();
    let mut each = |id: &str, name: &str, line: LogLine| {
        let place = seen.iter().position(|known| known == id).unwrap_or_else(|| {
            seen.push(id.to_owned());
            seen.len() - 1
        });
        let who = if args.names { name } else { &id[..ID_WIDTH.min(id.len())] };
        let who = if args.color { format!("{}{who}{PLAIN}", COLOURS[place % COLOURS.len()]) } else { who.to_owned() };
        if let Some(gap) = line.gap {
            output::talk(format_args!("warning: {name}: {}", describe(gap)));
            return true;
        }
        let stamp = if args.timestamps { format!("{} ", line.at.fixed()) } else { String::new() };
        written = write_line(&mut out, &mut error, &line, &format!("{who} {stamp}"), args.follow);
        written.is_ok()
    };
    context.engine()?.pod_logs(&args.pod, &args.container, &query, &mut each)?;
    written.and_then(|()| out.flush()).map_err(|e| failure::output(&e))?;
    Ok(ExitCode::SUCCESS)
}

fn write_line(out: &mut impl Write, error: &mut impl Write, line: &LogLine, prefix: &str, flush: bool) -> io::Result<()> {
    // A line that the container left unfinished must not swallow the next one's prefix.
    let end: &[u8] = if line.data.ends_with(b"\n") { b"" } else { b"\n" };
    if line.stream == 2 {
        // Keep the order that the log has, as far as two streams have one.
        out.flush()?;
        return error.write_all(&[prefix.as_bytes(), &line.data, end].concat());
    }
    out.write_all(prefix.as_bytes())?;
    out.write_all(&line.data)?;
    out.write_all(end)?;
    if flush { out.flush() } else { Ok(()) }
}
