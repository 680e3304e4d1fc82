//! What a build shows: plain lines, JSON lines, or on a terminal the steps that run with the end of their output.

use crate::build::{Event, Stream, Warning};
use crate::cli::output::{self, harmless};
use crate::cli::session;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two redraws.
pub const FRAME: Duration = Duration::from_millis(100);
/// Lines of output shown below a step that runs.
const TAIL: usize = 5;
/// Bytes of one step's output that are kept, to be shown if it fails: the last ones.
const KEPT: usize = 1 << 20;
/// Bytes of one line of output.
const LINE: usize = 64 << 10;

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Terminal,
    Plain,
    Json,
    /// Only what fails.
    Quiet,
    /// Nothing: the warnings are what the user wants.
    Check,
}

struct Step {
    name: String,
    since: Instant,
    /// Not yet a whole line.
    open: Vec<u8>,
    kept: Vec<u8>,
    tail: Vec<String>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<u32, Step>,
    /// Lines now on the terminal that are to be overwritten.
    drawn: usize,
    last: Option<Instant>,
    finished: usize,
    /// Name and output of the step that failed.
    failed: Option<(String, Vec<u8>)>,
    warnings: Vec<Warning>,
}

/// Takes the events of one build.
pub struct View {
    mode: Mode,
    begun: Instant,
    state: Mutex<State>,
}

impl View {
    pub fn new(mode: Mode) -> Self {
        View { mode, begun: Instant::now(), state: Mutex::default() }
    }

    pub fn show(&self, event: Event) {
        let mut state = self.state();
        if self.mode == Mode::Json {
            write(&format!("{}\n", output::json(&line(&event).to_string())));
        }
        match event {
            Event::Begun { step, name } => {
                if self.mode == Mode::Plain {
                    write(&format!("#{step} {}\n", harmless(&name)));
                }
                state.running.insert(step, Step { name, since: Instant::now(), open: Vec::new(), kept: Vec::new(), tail: Vec::new() });
            }
            Event::Output { step, bytes, .. } => self.output(&mut state, step, &bytes),
            Event::Done { step, took } => self.end(&mut state, step, &format!("DONE {:.1}s", took.as_secs_f64()), &seconds(took)),
            Event::Cached { step } => self.end(&mut state, step, "CACHED", "CACHED"),
            Event::Cancelled { step } => self.end(&mut state, step, "CANCELED", "CANCELED"),
            Event::Failed { step, message, .. } => {
                let output = state.running.get_mut(&step).map(|running| (running.name.clone(), std::mem::take(&mut running.kept)));
                state.failed = state.failed.take().or(output);
                self.end(&mut state, step, &format!("ERROR: {}", harmless(&message)), "ERROR");
            }
            Event::Warning(warning) => state.warnings.push(warning),
        }
        self.draw(&mut state, false);
    }

    /// Time has passed.
    pub fn tick(&self) {
        self.draw(&mut self.state(), false);
    }

    /// A signal has come: what was typed for it (`^C`) stands on the terminal, and is not overwritten.
    pub fn cancelling(&self) {
        let mut state = self.state();
        if self.mode == Mode::Terminal && state.drawn > 0 {
            write("\n");
            state.drawn = 0;
        }
        if matches!(self.mode, Mode::Terminal | Mode::Plain) {
            write("cancelling the build; once more to end it at once\n");
        }
    }

    /// Nothing comes any more: warnings, which are returned too, and the output of what failed.
    pub fn finish(&self) -> Vec<Warning> {
        let mut state = self.state();
        self.erase(&mut state);
        if matches!(self.mode, Mode::Json | Mode::Check) {
            return std::mem::take(&mut state.warnings);
        }
        if self.mode != Mode::Quiet && !state.warnings.is_empty() {
            let count = state.warnings.len();
            let with_lines = state.warnings.iter().any(|warning| !warning.excerpt.is_empty());
            let hint = if with_lines { " (use --check to see them with their lines)" } else { "" };
            write(&format!("\n {count} warning{} found{hint}:\n", if count == 1 { "" } else { "s" }));
            for warning in &state.warnings {
                write(&format!(" - {}\n", harmless(&warning.to_string())));
            }
        }
        if let Some((name, output)) = state.failed.take() {
            write(&format!("------\n > {}:\n", harmless(&name)));
            for text in String::from_utf8_lossy(&output).lines() {
                write(&format!("{}\n", legible(text)));
            }
            write("------\n");
        }
        std::mem::take(&mut state.warnings)
    }

    fn output(&self, state: &mut State, step: u32, bytes: &[u8]) {
        let Some(running) = state.running.get_mut(&step) else { return };
        running.kept.extend_from_slice(bytes);
        if running.kept.len() > 2 * KEPT {
            let from = running.kept.len() - KEPT;
            running.kept.drain(..from);
        }
        running.open.extend_from_slice(bytes);
        // What never ends its line is cut.
        let end = |open: &[u8]| open.iter().position(|byte| *byte == b'\n').or_else(|| (open.len() > LINE).then_some(LINE));
        let open = std::mem::take(&mut running.open);
        let (mut rest, mut lines) = (open.as_slice(), String::new());
        while let Some(end) = end(rest) {
            let (text, after) = rest.split_at(end + 1);
            rest = after;
            let text = legible(&String::from_utf8_lossy(text));
            if self.mode == Mode::Plain {
                lines.push_str(&format!("#{step} {:.3} {text}\n", running.since.elapsed().as_secs_f64()));
            }
            running.tail.push(text);
            if running.tail.len() > TAIL {
                running.tail.remove(0);
            }
        }
        running.open = rest.to_vec();
        if !lines.is_empty() {
            write(&lines);
        }
    }

    fn end(&self, state: &mut State, step: u32, plain: &str, short: &str) {
        let Some(running) = state.running.remove(&step) else { return };
        state.finished += 1;
        match self.mode {
            Mode::Plain => {
                if !running.open.is_empty() {
                    let text = legible(&String::from_utf8_lossy(&running.open));
                    write(&format!("#{step} {:.3} {text}\n", running.since.elapsed().as_secs_f64()));
                }
                write(&format!("#{step} {plain}\n\n"));
            }
            Mode::Terminal => {
                self.erase(state);
                write(&format!("{}\n", fitted(&format!(" => {}", harmless(&running.name)), short, columns())));
                self.draw(state, true);
            }
            Mode::Json | Mode::Quiet | Mode::Check => {}
        }
    }

    fn erase(&self, state: &mut State) {
        if state.drawn > 0 {
            write(&format!("\x1b[{}A\x1b[J", state.drawn));
            state.drawn = 0;
        }
    }

    fn draw(&self, state: &mut State, now: bool) {
        if self.mode != Mode::Terminal || (!now && state.last.is_some_and(|last| last.elapsed() < FRAME)) {
            return;
        }
        let (columns, rows) = (columns(), session::terminal_size().map_or(24, |(_, rows)| usize::from(rows).max(6)));
        let total = state.finished + state.running.len();
        let mut lines = vec![format!("[+] Building {} ({}/{total})", seconds(self.begun.elapsed()), state.finished)];
        for step in state.running.values() {
            lines.push(fitted(&format!(" => {}", harmless(&step.name)), &seconds(step.since.elapsed()), columns));
            lines.extend(step.tail.iter().map(|text| cut(&format!(" => => # {text}"), columns)));
        }
        lines.truncate(rows - 1);
        self.erase(state);
        state.drawn = lines.len();
        state.last = Some(Instant::now());
        write(&lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of a process's output as it would stand on a terminal in the end: what was overwritten is gone, colours and
/// other escape sequences are, and no control character is left.
fn legible(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            text.push(c);
            continue;
        }
        match rest.next() {
            // A control sequence ends with a letter, an operating system command with BEL or ESC \.
            Some('[') => drop(rest.by_ref().find(|c| ('@'..='~').contains(c))),
            Some(']') => drop(rest.by_ref().find(|c| matches!(c, '\u{7}' | '\\'))),
            _ => {}
        }
    }
    harmless(&text).into_owned()
}

fn columns() -> usize {
    session::terminal_size().map_or(80, |(columns, _)| usize::from(columns).max(20))
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns - 1).collect()
}

/// `left` and, at the right edge, `right`.
fn fitted(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.chars().count() + 2);
    let left: String = left.chars().take(room).collect();
    format!("{left:<room$} {right}")
}

/// An event as one line of JSON.
fn line(event: &Event) -> serde_json::Value {
    match event {
        Event::Begun { step, name } => json!({ "step": step, "event": "begun", "name": name }),
        Event::Output { step, stream, bytes } => {
            let stream = if *stream == Stream::Out { "stdout" } else { "stderr" };
            json!({ "step": step, "event": "output", "stream": stream, "text": String::from_utf8_lossy(bytes) })
        }
        Event::Done { step, took } => json!({ "step": step, "event": "done", "seconds": took.as_secs_f64() }),
        Event::Cached { step } => json!({ "step": step, "event": "cached" }),
        Event::Failed { step, took, message } => json!({ "step": step, "event": "failed", "seconds": took.as_secs_f64(), "error": message }),
        Event::Cancelled { step } => json!({ "step": step, "event": "canceled" }),
        Event::Warning(warning) => json!({ "event": "warning", "text": warning.to_string() }),
    }
}

fn write(text: &str) {
    // Progress that nobody can see is not worth failing a build.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        assert_eq!(fitted(" => RUN make", "1.2s", 20), " => RUN make   1.2s");
        assert_eq!(fitted(&"x".repeat(40), "1.2s", 20).chars().count(), 19);
        assert_eq!(cut("abcdef", 4), "abc");
    }

    #[test]
    fn output_is_plain() {
        for (raw, expected) in [
            ("text\n", "text"),
            ("\u{1b}[31mred\u{1b}[0m\r\n", "red"),
            ("10%\r50%\r100%\n", "100%"),
            ("\u{1b}]0;title\u{7}x\u{8}", "x\\u{8}"),
            ("\u{1b}", ""),
        ] {
            assert_eq!(legible(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn the_output_of_what_fails_is_kept() {
        let view = View::new(Mode::Quiet);
        view.show(Event::Begun { step: 1, name: "RUN false".to_owned() });
        view.show(Event::Output { step: 1, stream: Stream::Out, bytes: b"one\ntwo".to_vec() });
        view.show(Event::Failed { step: 1, took: Duration::ZERO, message: "exit code: 1".to_owned() });
        assert_eq!(view.state().failed, Some(("RUN false".to_owned(), b"one\ntwo".to_vec())));
    }
}
