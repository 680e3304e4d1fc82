//! `logs`: prints what a container wrote.

use super::context::Context;
use super::failure::{self, Failure, USAGE};
use super::humanise;
use crate::base::Timestamp;
use crate::monitor::{LogLine, LogQuery};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Print the logs of a container
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
    pub container: String,
}

/// # Errors
/// No such container, a malformed time, or a log that cannot be read.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let now = Timestamp::now();
    let time = |text: &str| {
        crate::engine::parse_time(text, now).ok_or_else(|| {
            Failure::invalid(format!("invalid time \"{text}\": expected RFC 3339, a date, Unix seconds or a duration like 10m")).with_code(USAGE)
        })
    };
    let query = LogQuery {
        since: args.since.as_deref().map(time).transpose()?,
        until: args.until.as_deref().map(time).transpose()?,
        // Negative or not a number means all.
        tail: args.tail.parse().ok(),
        follow: args.follow,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut error = io::stderr().lock();
    let mut written = Ok(());
    // Lines of one second may arrive at once; a follower sees each at once, a reader gets them in blocks.
    let mut each = |line: LogLine| {
        written = show(&mut out, &mut error, &line, args.timestamps, args.follow);
        written.is_ok()
    };
    context.engine()?.logs(&args.container, &query, &mut each)?;
    written.and_then(|()| out.flush()).map_err(|e| failure::output(&e))?;
    Ok(ExitCode::SUCCESS)
}

fn show(out: &mut impl Write, error: &mut impl Write, line: &LogLine, timestamps: bool, flush: bool) -> io::Result<()> {
    let stamp = if timestamps { format!("{} ", humanise::fixed(line.at)) } else { String::new() };
    if line.stream == 2 {
        // Keep the order that the log has, as far as two streams have one.
        out.flush()?;
        error.write_all(stamp.as_bytes())?;
        return error.write_all(&line.data);
    }
    out.write_all(stamp.as_bytes())?;
    out.write_all(&line.data)?;
    if flush { out.flush() } else { Ok(()) }
}
