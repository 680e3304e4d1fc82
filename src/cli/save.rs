//! `save` and `load`: images as tar archives.

use super::context::Context;
use super::failure::{self, Failure};
use super::progress::Progress;
use super::{output, session};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write images to a tar archive
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Write to this file instead of stdout
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Read images from a tar archive
#[derive(clap::Parser, Debug)]
pub struct LoadArgs {
    /// Read from this file instead of stdin
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Do not show progress
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// # Errors
/// stdout is a terminal, an image does not exist, or the archive cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let Some(path) = &args.output else {
        if session::stdout_is_tty() {
            return Err(Failure::invalid("cowardly refusing to save to a terminal").with_hint("use -o FILE, or redirect stdout"));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        context.engine()?.save(&args.images, &mut out)?;
        out.flush().map_err(|e| failure::output(&e))?;
        return Ok(ExitCode::SUCCESS);
    };
    let engine = context.engine()?;
    // Written beside the target and renamed: a failed save leaves no broken archive under the asked name.
    let is_file = std::fs::metadata(path).map_or(true, |meta| meta.is_file());
    let temporary = if is_file { with_suffix(path) } else { path.clone() };
    let cannot = |e: &io::Error| Failure::caused(format!("cannot write {}", path.display()), e);
    let mut out = BufWriter::new(File::create(&temporary).map_err(|e| cannot(&e))?);
    let saved = engine.save(&args.images, &mut out).map_err(Failure::from).and_then(|()| out.flush().map_err(|e| cannot(&e)));
    let saved = saved.and_then(|()| if is_file { std::fs::rename(&temporary, path).map_err(|e| cannot(&e)) } else { Ok(()) });
    if saved.is_err() && is_file {
        // The name is ours alone; the failure itself is what the user must see.
        drop(std::fs::remove_file(&temporary));
    }
    saved.map(|()| ExitCode::SUCCESS)
}

fn with_suffix(path: &std::path::Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", crate::base::random_hex(8)));
    PathBuf::from(name)
}

/// # Errors
/// The archive cannot be read or is malformed.
pub fn load(args: LoadArgs, context: &Context) -> Result<ExitCode, Failure> {
    let mut input: Box<dyn Read + Send> = match &args.input {
        Some(path) => Box::new(File::open(path).map_err(|e| Failure::caused(format!("cannot open {}", path.display()), &e))?),
        None if session::stdin_is_tty() => {
            return Err(Failure::invalid("requested load from stdin, but stdin is a terminal").with_hint("use -i FILE, or redirect stdin"));
        }
        None => Box::new(io::stdin()),
    };
    let progress = Progress::new(args.quiet, true);
    let loaded = context.engine()?.load(&mut *input, &|event| progress.show(event))?;
    progress.finish();
    for name in loaded {
        let label = if name.starts_with("sha256:") { "Loaded image ID" } else { "Loaded image" };
        output::line(format_args!("{label}: {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
