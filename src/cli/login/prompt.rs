//! Questions at the terminal: a line, and a line that is not shown.

use super::Failure;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io::{self, Write};

/// Most bytes of an answer.
const LIMIT: usize = 64 << 10;
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];
const ERASE_LINE: u8 = 21;

/// Asks for a line.
///
/// # Errors
/// The terminal cannot be read, or hung up.
pub fn line(question: &str) -> Result<String, Failure> {
    say(question);
    let mut answer = String::new();
    let n = io::stdin().read_line(&mut answer).map_err(|e| Failure::caused("cannot read from the terminal", &e))?;
    if n == 0 {
        return Err(Failure::invalid("the input ended"));
    }
    Ok(answer.trim().to_owned())
}

/// The terminal's former modes, restored on every way out.
struct Hidden(Termios);

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that went away needs no restoring.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

/// Asks for a line that is not shown. Keys make no signals meanwhile: Ctrl-C is read, so that no way out leaves the
/// terminal mute.
///
/// # Errors
/// The terminal cannot be read or set; Ctrl-C.
pub fn hidden(question: &str) -> Result<String, Failure> {
    let failed = |e: rustix::io::Errno| Failure::caused("cannot read from the terminal", &e);
    let former = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
    let mut mute = former.clone();
    mute.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    mute.special_codes[SpecialCodeIndex::VMIN] = 1;
    mute.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &mute).map_err(failed)?;
    let guard = Hidden(former);
    say(question);
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(failed(e)),
        }
        match byte[0] {
            b'\n' | b'\r' | END => break,
            INTERRUPT => {
                drop(guard);
                say("\n");
                return Err(Failure::silent(130));
            }
            erase if BACKSPACE.contains(&erase) => drop(answer.pop()),
            ERASE_LINE => answer.clear(),
            other if answer.len() < LIMIT => answer.push(other),
            _ => return Err(Failure::invalid("the password is too long")),
        }
    }
    drop(guard);
    say("\n");
    String::from_utf8(answer).map_err(|e| Failure::caused("cannot use the password", &e))
}

/// Questions go to stderr: stdout is data.
fn say(text: &str) {
    let mut out = io::stderr();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
