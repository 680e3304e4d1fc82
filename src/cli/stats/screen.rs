//! The screen of `stats`: drawn over itself line by line, so that nothing flickers, cut to the terminal's size.

use crate::cli::failure::Failure;
use crate::cli::{output, session};
use crate::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Terminals of unknown size.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Empties the screen once, hides the cursor.
const BEGIN: &str = "\x1b[?25l\x1b[H\x1b[2J";
/// Shows the cursor again.
const END: &str = "\x1b[?25h";
/// One picture: a terminal that knows synchronised updates shows it at once, others ignore the marks.
const FRAME: &str = "\x1b[?2026h\x1b[H";
const FRAME_END: &str = "\x1b[J\x1b[?2026l";

pub struct Screen {
    signals: SignalFd,
    /// The last picture, to draw it again when the terminal changes its size.
    text: String,
}

impl Screen {
    /// # Errors
    /// Signals cannot be caught, or the terminal cannot be written.
    pub fn open() -> Result<Self, Failure> {
        let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGWINCH];
        let signals = SignalFd::block(&signals).map_err(|e| Failure::caused("cannot catch signals", &e))?;
        let screen = Screen { signals, text: String::new() };
        output::raw(BEGIN)?;
        Ok(screen)
    }

    /// # Errors
    /// The terminal cannot be written.
    pub fn draw(&mut self, text: &str) -> Result<(), Failure> {
        text.clone_into(&mut self.text);
        let (columns, rows) = session::terminal_size().unwrap_or(DEFAULT_SIZE);
        output::raw(&frame(text, columns.into(), rows.into()))
    }

    /// Until the time has passed, drawing anew at a changed size; Some: the user ended it.
    ///
    /// # Errors
    /// The wait itself failed.
    pub fn wait(&mut self, pause: Duration) -> Result<Option<ExitCode>, Failure> {
        let failed = |e: std::io::Error| Failure::caused("cannot wait for signals", &e);
        let deadline = Instant::now() + pause;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            while let Some(signal) = self.signals.next().map_err(failed)? {
                if signal != libc::SIGWINCH {
                    return Ok(Some(ExitCode::from(128 + signal as u8)));
                }
                let text = std::mem::take(&mut self.text);
                if !text.is_empty() {
                    self.draw(&text)?;
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no cursor.
        drop(output::raw(END));
    }
}

/// The lines that fit, each erased behind its end; what does not fit is counted.
fn frame(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last row stays free: a line end there would scroll.
    let room = rows.saturating_sub(1).max(1);
    let shown = if lines.len() > room { room.saturating_sub(1).max(1) } else { lines.len() };
    let mut out = FRAME.to_owned();
    for line in &lines[..shown] {
        out.extend(line.chars().take(columns));
        out.push_str("\x1b[K\r\n");
    }
    if shown < lines.len() {
        out.push_str(&format!("… and {} more\x1b[K\r\n", lines.len() - shown));
    }
    out.push_str(FRAME_END);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_erases_what_was_there() {
        let text = "NAME   CPU\nweb    1%\ndb     2%\ncache  3%\n";
        assert_eq!(frame(text, 8, 24), format!("{FRAME}NAME   C\x1b[K\r\nweb    1\x1b[K\r\ndb     2\x1b[K\r\ncache  3\x1b[K\r\n{FRAME_END}"));
        let small = frame(text, 80, 4);
        assert!(small.contains("web    1%") && !small.contains("db") && small.contains("… and 2 more"), "{small}");
        assert_eq!(frame("", 80, 24), format!("{FRAME}{FRAME_END}"));
        assert!(frame(text, 0, 0).contains("… and 3 more"));
    }
}
