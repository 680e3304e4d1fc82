//! Progress of a pull: one line per layer redrawn in place on a terminal, plain lines elsewhere.

use super::session;
use crate::base::ByteSize;
use crate::image::Progress as Event;
use rustix::termios::isatty;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two redraws.
const FRAME: Duration = Duration::from_millis(80);
const BAR: usize = 30;

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    id: String,
    total: u64,
    text: String,
    finished: bool,
}

struct State {
    lines: Vec<Line>,
    /// Lines now on the terminal.
    drawn: usize,
    last: Option<Instant>,
}

/// A renderer that several threads may report to.
pub struct Progress {
    quiet: bool,
    /// Talk goes to stderr (`run`), not to stdout (`pull`).
    talk: bool,
    terminal: bool,
    state: Mutex<State>,
}

impl Progress {
    pub fn new(quiet: bool, talk: bool) -> Self {
        let terminal = !quiet && if talk { isatty(rustix::stdio::stderr()) } else { session::stdout_is_tty() };
        Progress { quiet, talk, terminal, state: Mutex::new(State { lines: Vec::new(), drawn: 0, last: None }) }
    }

    /// Takes one event.
    pub fn show(&self, event: Event) {
        if self.quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note(text) => {
                self.erase(&mut state);
                self.write(&format!("{text}\n"));
                self.redraw(&mut state, true);
            }
            event => {
                let (line, important) = state.take(&event);
                let Some(line) = line else { return };
                if self.terminal {
                    self.redraw(&mut state, important);
                } else if important {
                    self.write(&format!("{line}\n"));
                }
            }
        }
    }

    /// Draws the final state; nothing is redrawn after it.
    pub fn finish(&self) {
        if !self.quiet && self.terminal {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.redraw(&mut state, true);
            state.lines.clear();
            state.drawn = 0;
        }
    }

    fn erase(&self, state: &mut State) {
        if self.terminal && state.drawn > 0 {
            self.write(&format!("\x1b[{}A\x1b[J", state.drawn));
            state.drawn = 0;
        }
    }

    fn redraw(&self, state: &mut State, now: bool) {
        if !self.terminal || state.lines.is_empty() || (!now && state.last.is_some_and(|last| last.elapsed() < FRAME)) {
            return;
        }
        // A line that wraps, or lines above the screen, could not be overwritten.
        let (columns, rows) = session::terminal_size().map_or((80, 24), |(columns, rows)| (usize::from(columns).max(20), usize::from(rows).max(4)));
        let mut text = if state.drawn > 0 { format!("\x1b[{}A", state.drawn) } else { String::new() };
        let shown = &state.lines[state.lines.len().saturating_sub(rows - 1)..];
        for line in shown {
            let line: String = format!("{}: {}", line.id, line.text).chars().take(columns - 1).collect();
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        state.drawn = shown.len();
        state.last = Some(Instant::now());
        self.write(&text);
    }

    fn write(&self, text: &str) {
        // Progress that nobody can see is not worth failing a pull.
        drop(if self.talk {
            io::stderr().write_all(text.as_bytes())
        } else {
            io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
        });
    }
}

impl State {
    /// Updates the layer; returns its plain line, and whether it is worth one where nothing is redrawn.
    fn take(&mut self, event: &Event) -> (Option<String>, bool) {
        let (id, total, text, finished, important) = match event {
            Event::Note(_) => return (None, false),
            Event::Layer { id, total } => (id, Some(*total), "Pulling fs layer".to_owned(), false, true),
            Event::Exists { id } => (id, None, "Already exists".to_owned(), true, true),
            Event::Downloading { id, done } => (id, None, bar(*done, self.total(id)), false, false),
            Event::Done { id } => (id, None, "Pull complete".to_owned(), true, true),
            Event::Preparing { id } => (id, None, "Preparing".to_owned(), false, true),
            Event::Uploading { id, done } => (id, None, format!("Pushing {}", ByteSize(*done).decimal()), false, false),
            Event::Pushed { id } => (id, None, "Pushed".to_owned(), true, true),
            Event::Present { id } => (id, None, "Layer already exists".to_owned(), true, true),
            Event::Mounted { id, from } => (id, None, format!("Mounted from {from}"), true, true),
            Event::Retrying { id, seconds, why } => (id, None, format!("Retrying in {seconds} seconds: {why}"), false, true),
        };
        let at = self.lines.iter().position(|line| line.id == *id).unwrap_or_else(|| {
            self.lines.push(Line { id: id.clone(), total: 0, text: String::new(), finished: false });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        line.total = total.unwrap_or(line.total);
        // A late report of another thread must not undo the end.
        if line.finished && !finished {
            return (None, false);
        }
        line.finished = finished;
        line.text = text;
        (Some(format!("{id}: {}", line.text)), important)
    }

    fn total(&self, id: &str) -> u64 {
        self.lines.iter().find(|line| line.id == id).map_or(0, |line| line.total)
    }
}

/// `Downloading [=====>    ] 1.5MB/3MB`.
fn bar(done: u64, total: u64) -> String {
    if total == 0 {
        return format!("Downloading {}", ByteSize(done).decimal());
    }
    let done = done.min(total);
    if done == total {
        return "Extracting".to_owned();
    }
    let filled = (done as f64 / total as f64 * BAR as f64) as usize;
    let bar = format!("{}>", "=".repeat(filled));
    format!("Downloading [{bar:<width$}] {}/{}", ByteSize(done).decimal(), ByteSize(total).decimal(), width = BAR + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(bar(0, 0), "Downloading 0B");
        assert_eq!(bar(1_500_000, 3_000_000), format!("Downloading [{}>{}] 1.5MB/3MB", "=".repeat(15), " ".repeat(15)));
        assert_eq!(bar(5, 5), "Extracting");
    }

    #[test]
    fn plain_lines_for_what_matters() {
        let mut state = State { lines: Vec::new(), drawn: 0, last: None };
        let id = || "abc".to_owned();
        assert_eq!(state.take(&Event::Layer { id: id(), total: 10 }), (Some("abc: Pulling fs layer".into()), true));
        assert!(!state.take(&Event::Downloading { id: id(), done: 5 }).1);
        assert_eq!(state.take(&Event::Done { id: id() }), (Some("abc: Pull complete".into()), true));
        assert_eq!(state.take(&Event::Downloading { id: id(), done: 6 }), (None, false));
        assert_eq!(state.lines.len(), 1);
    }
}
