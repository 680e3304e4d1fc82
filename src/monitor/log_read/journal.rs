//! Reading back what went to the journal, through `journalctl` (its files are a format of many versions; nothing but
//! systemd reads them all).

use super::super::{Error, LogLine, LogQuery};
use crate::base::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How often it is asked whether the container still runs.
const LIVENESS: Duration = Duration::from_millis(100);
/// How long the journal may take to show the last lines of a container that has ended.
const LAST_LINES: Duration = Duration::from_millis(500);

/// As [`super::read_log`], for the container's messages in the journal.
///
/// # Errors
/// `journalctl` cannot be run or fails.
pub fn read_journal(id: &str, query: &LogQuery, alive: &dyn Fn() -> bool, each: &mut dyn FnMut(LogLine) -> bool) -> Result<(), Error> {
    let mut child = command(id, query).spawn().map_err(Error::system("run journalctl"))?;
    let result = match child.stdout.take() {
        Some(stdout) => relay(stdout, query, alive, each),
        None => Ok(false),
    };
    let wanted_all = result.as_ref().is_ok_and(|all| *all);
    end(&mut child, wanted_all)?;
    result.map(drop)
}

fn command(id: &str, query: &LogQuery) -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output=json", "--all"]);
    command.arg(query.tail.map_or_else(|| "--lines=all".to_owned(), |count| format!("--lines={count}")));
    if query.follow {
        command.arg("--follow");
    }
    if let Some(since) = query.since {
        command.arg(format!("--since=@{}", since.seconds()));
    }
    command.arg(format!("CONTAINER_ID_FULL={id}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// True: journalctl ended by itself.
fn relay(stdout: ChildStdout, query: &LogQuery, alive: &dyn Fn() -> bool, each: &mut dyn FnMut(LogLine) -> bool) -> Result<bool, Error> {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        if query.follow && reader.buffer().is_empty() {
            let running = alive();
            let patience = if running { LIVENESS } else { LAST_LINES };
            match poll(&mut [PollFd::new(reader.get_ref(), PollFlags::IN)], Some(&super::super::relay::timespec(patience))) {
                Ok(0) if !running || query.until.is_some_and(|until| Timestamp::now() > until) => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(Error::system("wait for journalctl")(error)),
            }
        }
        line.clear();
        if reader.by_ref().read_until(b'\n', &mut line).map_err(Error::system("read from journalctl"))? == 0 {
            return Ok(true);
        }
        let Some(line) = parse(&line, query.details) else { continue };
        if query.since.is_some_and(|since| line.at < since) {
            continue;
        }
        if query.until.is_some_and(|until| line.at > until) || !each(line) {
            return Ok(false);
        }
    }
}

fn end(child: &mut Child, by_itself: bool) -> Result<(), Error> {
    if !by_itself {
        // It follows for ever, or has more than was wanted.
        child.kill().map_err(Error::system("end journalctl"))?;
    }
    let status = child.wait().map_err(Error::system("wait for journalctl"))?;
    if by_itself && !status.success() {
        return Err(Error::System { operation: "read the journal", source: std::io::Error::other(format!("journalctl failed: {status}")) });
    }
    Ok(())
}

/// A message as `--output=json` writes it (systemd, Journal JSON Format): texts, or arrays of bytes where they are none.
fn parse(text: &[u8], details: bool) -> Option<LogLine> {
    let entry: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    let field = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
    let mut data = match entry.get("MESSAGE")? {
        serde_json::Value::String(text) => text.clone().into_bytes(),
        serde_json::Value::Array(bytes) => bytes.iter().filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect(),
        _ => Vec::new(),
    };
    if field("CONTAINER_PARTIAL_MESSAGE") != Some("true") {
        data.push(b'\n');
    }
    let received = || field("__REALTIME_TIMESTAMP").and_then(|micros| micros.parse::<i64>().ok()).map(|micros| Timestamp::from_nanos(micros * 1000));
    let at = field("SYSLOG_TIMESTAMP").and_then(Timestamp::parse_rfc3339).or_else(received)?;
    let stream = if field("PRIORITY") == Some("3") { 2 } else { 1 };
    let details = field("CONTAINER_TAG").filter(|_| details).map(|tag| ("tag".to_owned(), tag.to_owned())).into_iter().collect();
    Some(LogLine { at, stream, data, details, gap: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_again() {
        let text = br#"{"MESSAGE":"hi","PRIORITY":"3","SYSLOG_TIMESTAMP":"2026-01-02T03:04:05.123456789Z","__REALTIME_TIMESTAMP":"1"}"#;
        let line = parse(text, false).unwrap();
        assert_eq!((line.stream, line.data.as_slice(), line.at.nanos() % 1000), (2, &b"hi\n"[..], 789));
        let text = br#"{"MESSAGE":[255,10,97],"PRIORITY":"6","CONTAINER_PARTIAL_MESSAGE":"true","__REALTIME_TIMESTAMP":"1700000000000000"}"#;
        let line = parse(text, false).unwrap();
        assert_eq!((line.stream, line.data.as_slice(), line.at.seconds()), (1, &b"\xff\na"[..], 1_700_000_000));
        assert!(parse(b"{}", false).is_none());
    }
}
