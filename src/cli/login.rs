//! `login`: verifies credentials at a registry and keeps them where docker's tools do.

mod prompt;

use super::context::Context;
use super::failure::Failure;
use super::{output, session};
use crate::image::Kept;
use std::io::Read;
use std::process::ExitCode;

/// Most bytes of a password on stdin.
const PASSWORD_LIMIT: u64 = 64 << 10;
/// The name docker shows for its default registry.
pub const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// Log in to a registry
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// User name
    #[arg(short = 'u', long)]
    pub username: Option<String>,
    /// Password or access token; other users of this machine can see it
    #[arg(short = 'p', long)]
    pub password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Print the user name that is kept for the registry
    #[arg(long)]
    pub get_login: bool,
    /// HOST[:PORT] of the registry; Docker Hub by default
    pub server: Option<String>,
}

/// # Errors
/// Contradicting flags, no terminal to ask at, a refused login.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let server = args.server.unwrap_or_default();
    if args.get_login {
        let stored = engine.stored_login(&server)?;
        let (user, _) = stored.ok_or_else(|| Failure::invalid(format!("not logged in to {}", shown(&server))))?;
        output::line(user)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.password.is_some() {
        output::talk("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if args.password_stdin {
            return Err(Failure::invalid("--password and --password-stdin are mutually exclusive"));
        }
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Failure::invalid("Must provide --username with --password-stdin"));
    }
    let password = if args.password_stdin { Some(from_stdin()?) } else { args.password };
    if let (None, None) = (&args.username, &password)
        && let Some((user, password)) = engine.stored_login(&server)?
    {
        output::line("Authenticating with existing credentials...")?;
        match engine.login(&server, &user, &password) {
            Ok(_) => return succeeded(),
            Err(error) if session::stdin_is_tty() => output::talk(format_args!("Login did not succeed, error: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    if (args.username.is_none() || password.is_none()) && !session::stdin_is_tty() {
        let failure = Failure::invalid("Cannot perform an interactive login from a non TTY device");
        return Err(failure.with_hint("use --username and --password-stdin"));
    }
    let user = match args.username {
        Some(user) => user,
        None => prompt::line(&format!("Username for {}: ", shown(&server)))?,
    };
    if user.is_empty() {
        return Err(Failure::invalid("username is empty"));
    }
    let password = match password {
        Some(password) => password,
        None => prompt::hidden("Password: ")?,
    };
    if password.is_empty() {
        return Err(Failure::invalid("password is empty"));
    }
    if let Kept::File(path) = engine.login(&server, &user, &password)? {
        output::talk(format_args!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    succeeded()
}

fn succeeded() -> Result<ExitCode, Failure> {
    output::line("Login Succeeded")?;
    Ok(ExitCode::SUCCESS)
}

/// How messages name a server.
pub fn shown(server: &str) -> &str {
    if server.is_empty() { DEFAULT_SERVER } else { server }
}

/// All of stdin without the line end that `echo` adds.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_LIMIT).read_to_string(&mut text);
    read.map_err(|e| Failure::caused("cannot read the password from stdin", &e))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
