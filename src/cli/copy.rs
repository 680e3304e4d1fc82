//! `cp`: copies between a container and the host, or a tar stream with `-`.

use super::context::Context;
use super::failure::{self, Failure};
use super::{output, session};
use crate::engine::CopyPath;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// Copy files between a container and the host, or between containers ("-" is a tar stream)
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Keep uid and gid
    #[arg(short = 'a', long)]
    pub archive: bool,
    /// Follow a symbolic link in the source
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not report success
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// CONTAINER:PATH, PATH or -
    pub source: OsString,
    /// CONTAINER:PATH, PATH or -
    pub destination: OsString,
}

/// One side of a copy.
#[derive(Debug, PartialEq)]
enum Side<'a> {
    Stream,
    Host(&'a Path),
    Container { container: &'a str, path: &'a [u8] },
}

/// Splits `container:path`; a text that starts like a path, or has no colon, is a path.
fn side(text: &OsStr) -> Result<Side<'_>, Failure> {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Ok(Side::Stream);
    }
    let colon = bytes.iter().position(|b| *b == b':').filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."));
    let Some(colon) = colon else { return Ok(Side::Host(Path::new(text))) };
    let container = std::str::from_utf8(&bytes[..colon]).map_err(|_| Failure::invalid("the container's name is not UTF-8"))?;
    let path = &bytes[colon + 1..];
    if container.is_empty() || path.is_empty() {
        return Err(Failure::invalid(format!("\"{}\" is not CONTAINER:PATH", text.to_string_lossy())));
    }
    Ok(Side::Container { container, path })
}

/// # Errors
/// No side is a container, or the copy fails.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let (from, to) = (side(&args.source)?, side(&args.destination)?);
    match (&from, &to) {
        (Side::Container { .. }, _) | (_, Side::Container { .. }) => {}
        _ => return Err(Failure::invalid("must specify at least one container source or destination")),
    }
    let engine = context.engine()?;
    match (from, to) {
        (Side::Container { container, path }, Side::Stream) => {
            let mut out = io::stdout().lock();
            engine.copy_out(container, path, args.follow_link, &mut out)?;
            out.flush().map_err(|e| failure::output(&e))?;
            return Ok(ExitCode::SUCCESS);
        }
        (Side::Stream, Side::Container { container, path }) => engine.copy_in(container, path, &mut io::stdin().lock(), args.archive)?,
        (Side::Container { container, path }, Side::Host(host)) => {
            engine.copy(CopyPath::Container { container, path }, CopyPath::Host(host), args.archive, args.follow_link)?;
        }
        (Side::Host(host), Side::Container { container, path }) => {
            engine.copy(CopyPath::Host(host), CopyPath::Container { container, path }, args.archive, args.follow_link)?;
        }
        (Side::Container { container, path }, Side::Container { container: to, path: to_path }) => {
            let to = CopyPath::Container { container: to, path: to_path };
            engine.copy(CopyPath::Container { container, path }, to, args.archive, args.follow_link)?;
        }
        _ => unreachable!("invariant: one side is a container"),
    }
    if !args.quiet && session::stdout_is_tty() {
        output::talk(format_args!("Successfully copied to {}", args.destination.to_string_lossy()));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        for (text, expected) in [
            ("-", Side::Stream),
            ("web:/etc", Side::Container { container: "web", path: b"/etc" }),
            ("web:a:b", Side::Container { container: "web", path: b"a:b" }),
            ("./web:/etc", Side::Host(Path::new("./web:/etc"))),
            ("/a:b", Side::Host(Path::new("/a:b"))),
            ("file", Side::Host(Path::new("file"))),
        ] {
            assert_eq!(side(OsStr::new(text)).unwrap(), expected, "{text}");
        }
        assert!(side(OsStr::new(":/a")).is_err() && side(OsStr::new("web:")).is_err());
    }
}
