//! The user's terminal: its size, and raw mode that is undone on every way out, a panic included.

use super::Failure;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::sync::{Mutex, Once, PoisonError};

/// Modes to restore; set exactly while the terminal is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal of stdin in raw mode while this lives.
pub struct RawMode(());

impl RawMode {
    /// None when stdin is no terminal.
    ///
    /// # Errors
    /// The modes cannot be read or set.
    pub fn enter() -> Result<Option<Self>, Failure> {
        if !stdin_is_tty() {
            return Ok(None);
        }
        let failed = |e: rustix::io::Errno| Failure::caused("cannot set the terminal's mode", &e);
        let former = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        let mut raw = former.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(former);
        if let Err(e) = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw) {
            restore();
            return Err(failed(e));
        }
        Ok(Some(RawMode(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(former) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that went away needs no restoring.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &former).ok();
    }
}

pub fn stdin_is_tty() -> bool {
    isatty(rustix::stdio::stdin())
}

pub fn stdout_is_tty() -> bool {
    isatty(rustix::stdio::stdout())
}

/// Columns and rows of the terminal we write to (or else read from).
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).or_else(|_| tcgetwinsize(rustix::stdio::stdin())).ok()?;
    Some((size.ws_col, size.ws_row))
}
