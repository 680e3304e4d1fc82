//! The credential helper protocol: `docker-credential-NAME get|store|erase`, the server or a document on stdin, JSON on
//! stdout.
//!
//! Invariant: a helper that fails is an error, never a reason to look elsewhere (CVE-2021-41092). One that a reactor waits for is
//! asked by another thread, and killed when nobody waits any longer.

use super::credentials::Credentials;
use crate::base::Cancel;
use crate::image::Error;
use oci_distribution::secrets::RegistryAuth;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Time for a credential helper to answer.
const TIME: Duration = Duration::from_secs(30);
/// Most bytes a credential helper may answer.
const LIMIT: u64 = 64 << 10;
/// What helpers answer when they have nothing for a server.
const NOT_FOUND: &str = "credentials not found";
/// The user name under which a helper keeps an identity token.
const TOKEN_USER: &str = "<token>";

/// One helper and the server it is asked about.
pub struct Helper<'a> {
    pub name: &'a str,
    pub server: &'a str,
    /// It is killed then.
    pub cancel: &'a Cancel,
}

/// Ends the helper with the future that waits for it.
struct Ends(Cancel);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// [`Helper::get`] for a reactor: who drops the future has the helper killed.
///
/// # Errors
/// As there.
pub async fn get(name: &str, server: &str) -> Result<Credentials, Error> {
    let ends = Ends(Cancel::default());
    let (own_name, own_server, cancel) = (name.to_owned(), server.to_owned(), ends.0.clone());
    let asked = tokio::task::spawn_blocking(move || Helper { name: &own_name, server: &own_server, cancel: &cancel }.get()).await;
    asked.unwrap_or_else(|lost| Err(Helper { name, server, cancel: &ends.0 }.failed(lost.to_string())))
}

impl Helper<'_> {
    /// What the helper knows; anonymous if nothing.
    ///
    /// # Errors
    /// It cannot be run, fails, or answers nonsense.
    pub fn get(&self) -> Result<Credentials, Error> {
        let (status, output) = self.run("get", self.server.as_bytes())?;
        if status.success() {
            return parse(&output).ok_or_else(|| self.failed("its answer is not the expected JSON".to_owned()));
        }
        if says_not_found(&output) {
            return Ok(Credentials::Plain(RegistryAuth::Anonymous));
        }
        Err(self.failed(said(&output)))
    }

    /// Has the helper keep credentials.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn store(&self, user: &str, secret: &str, identity: bool) -> Result<(), Error> {
        let user = if identity { TOKEN_USER } else { user };
        let document = serde_json::json!({"ServerURL": self.server, "Username": user, "Secret": secret}).to_string();
        let (status, output) = self.run("store", document.as_bytes())?;
        if status.success() { Ok(()) } else { Err(self.failed(said(&output))) }
    }

    /// Has the helper forget; false: it knew nothing.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn erase(&self) -> Result<bool, Error> {
        let (status, output) = self.run("erase", self.server.as_bytes())?;
        match status.success() {
            true => Ok(true),
            false if says_not_found(&output) => Ok(false),
            false => Err(self.failed(said(&output))),
        }
    }

    fn failed(&self, why: String) -> Error {
        Error::Helper { helper: self.name.escape_default().to_string(), registry: self.server.to_owned(), why }
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<(ExitStatus, Vec<u8>), Error> {
        let failed = |why: String| self.failed(why);
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(failed("its name is not a file name".to_owned()));
        }
        let mut command = Command::new(format!("docker-credential-{}", self.name));
        let command = command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = crate::sys::process::with_own_signals(command).spawn().map_err(|e| failed(e.to_string()))?;
        // Not reaped yet, so the number is its own; the descriptor means it and no other ever after.
        let process = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => process,
            Err(errno) => {
                drop(child.kill().and_then(|()| child.wait()));
                return Err(failed(std::io::Error::from(errno).to_string()));
            }
        };
        let _watch = self.cancel.watch(move || {
            if let Err(errno) = pidfd_send_signal(&process, Signal::KILL) {
                tracing::debug!("the credential helper has ended already: {errno}");
            }
        });
        let mut stdin = child.stdin.take().expect("invariant: stdin is piped");
        let stdout = child.stdout.take().expect("invariant: stdout is piped");
        // A helper that does not read its input has closed the pipe; what it answers tells.
        drop(stdin.write_all(input));
        drop(stdin);
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout.take(LIMIT).read_to_end(&mut output);
            // Nobody listens after the deadline.
            drop(sender.send(read.map(|_| output)));
        });
        let answer = receiver.recv_timeout(TIME);
        if answer.is_err() {
            child.kill().map_err(|e| failed(e.to_string()))?;
        }
        let status = child.wait().map_err(|e| failed(e.to_string()))?;
        // After the deadline a child of the helper may still hold the pipe: its reader is left to itself.
        let output = answer.map_err(|_| failed(format!("it did not answer in {} seconds", TIME.as_secs())))?;
        if reader.join().is_err() {
            return Err(failed("its output cannot be read".to_owned()));
        }
        Ok((status, output.map_err(|e| failed(e.to_string()))?))
    }
}

fn says_not_found(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).contains(NOT_FOUND)
}

fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "it failed without a word".to_owned() } else { text }
}

fn parse(output: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let answer: Answer = serde_json::from_slice(output).ok()?;
    Some(match answer.username.as_str() {
        TOKEN_USER => Credentials::Identity(answer.secret),
        "" => Credentials::Plain(RegistryAuth::Anonymous),
        user => Credentials::Plain(RegistryAuth::Basic(user.to_owned(), answer.secret)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        assert_eq!(parse(br#"{"ServerURL":"x","Username":"<token>","Secret":"s"}"#), Some(Credentials::Identity("s".to_owned())));
        let basic = Credentials::Plain(RegistryAuth::Basic("u".to_owned(), "s".to_owned()));
        assert_eq!(parse(br#"{"Username":"u","Secret":"s"}"#), Some(basic));
        assert_eq!(parse(b"nonsense"), None);
        assert!(says_not_found(b"credentials not found in native keychain\n") && !says_not_found(b"locked"));
        assert_eq!(said(b" \n"), "it failed without a word");
    }

    #[test]
    fn names_are_file_names() {
        for name in ["", "../evil", "a/b", "a b"] {
            let helper = Helper { name, server: "r", cancel: &Cancel::default() };
            assert!(matches!(helper.get(), Err(Error::Helper { why, .. }) if why.contains("not a file name")), "{name}");
        }
    }
}
