//! `save` and `load`: images as tar archives or directories.

use super::context::Context;
use super::failure::{self, Failure, USAGE};
use super::progress::Progress;
use super::{output, session};
use crate::engine::Engine;
use crate::image::{Form, Output};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write images to a tar archive
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Write to this file (or directory) instead of stdout
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form: docker-archive (also an OCI layout), oci-archive, oci-dir, docker-dir
    #[arg(long, value_name = "FORM", default_value = "docker-archive")]
    pub format: String,
    /// Platform that the images must be for: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Do not show progress (there is none)
    #[arg(short = 'q', long)]
    pub quiet: bool,
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Read images from a tar archive
#[derive(clap::Parser, Debug)]
pub struct LoadArgs {
    /// Read from this file instead of stdin
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Platform to take where the archive has several: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Do not show progress
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// The form and whether it is a directory.
fn form(text: &str) -> Result<(Form, bool), Failure> {
    match text {
        "docker-archive" => Ok((Form::Docker, false)),
        "oci-archive" => Ok((Form::Oci, false)),
        "oci-dir" => Ok((Form::Oci, true)),
        "docker-dir" => Ok((Form::Dir, true)),
        other => Err(Failure::invalid(format!("--format: \"{other}\" is not docker-archive, oci-archive, oci-dir or docker-dir")).with_code(USAGE)),
    }
}

/// # Errors
/// stdout is a terminal, an image does not exist, or the archive cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let (form, directory) = form(&args.format)?;
    let save = |engine: &Engine, out: Output<'_>| engine.save(&args.images, args.platform.as_deref(), form, out).map_err(Failure::from);
    match &args.output {
        None if directory => {
            return Err(Failure::invalid(format!("--format {} needs a directory", args.format)).with_hint("name it with -o DIRECTORY"));
        }
        None if session::stdout_is_tty() => {
            return Err(Failure::invalid("cowardly refusing to save to a terminal").with_hint("use -o FILE, or redirect stdout"));
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            save(&context.engine()?, Output::Stream(&mut out))?;
            out.flush().map_err(|e| failure::output(&e))?;
        }
        Some(path) if directory => {
            let engine = context.engine()?;
            beside(path, |temporary| save(&engine, Output::Directory(temporary)))?;
        }
        Some(path) => {
            let engine = context.engine()?;
            to_file(path, |out| save(&engine, Output::Stream(out)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a writer for the file at `path`. A regular file is written beside its place and renamed: a failure leaves
/// no broken file under the asked name. Anything else (a device, a pipe) is written as it is.
///
/// # Errors
/// The writer's, or the file cannot be made.
pub fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let cannot = |e: &io::Error| Failure::caused(format!("cannot write {}", path.display()), e);
    let whole = |target: &Path| {
        let mut out = BufWriter::with_capacity(256 << 10, File::create(target).map_err(|e| cannot(&e))?);
        write(&mut out)?;
        out.flush().map_err(|e| cannot(&e))
    };
    if std::fs::metadata(path).map_or(true, |meta| meta.is_file()) { beside(path, whole) } else { whole(path) }
}

/// Writes under a name of ours beside `path` and renames it there.
fn beside(path: &Path, write: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    // `out/` names the directory `out`.
    while name.len() > 1 && name.as_encoded_bytes().ends_with(b"/") {
        name = std::ffi::OsString::from(name.to_string_lossy().trim_end_matches('/').to_owned());
    }
    name.push(format!(".{}.tmp", crate::base::random_hex(8)));
    let temporary = PathBuf::from(name);
    let cannot = |e: io::Error| Failure::caused(format!("cannot write {}", path.display()), &e);
    let written = write(&temporary).and_then(|()| std::fs::rename(&temporary, path).map_err(cannot));
    if written.is_err() {
        // The name is ours alone; the failure itself is what the user must see.
        drop(std::fs::remove_file(&temporary).or_else(|_| std::fs::remove_dir_all(&temporary)));
    }
    written
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
    let platform = context.platform(args.platform);
    let loaded = context.engine()?.load(&mut *input, platform.as_deref(), &|event| progress.show(event))?;
    progress.finish();
    for name in loaded {
        let label = if name.starts_with("sha256:") { "Loaded image ID" } else { "Loaded image" };
        output::line(format_args!("{label}: {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(form("oci-dir").ok(), Some((Form::Oci, true)));
        assert_eq!(form("docker-archive").ok(), Some((Form::Docker, false)));
        let failure = form("tar").unwrap_err();
        assert!(failure.render().contains("oci-archive"), "{}", failure.render());
    }

    #[test]
    fn a_failed_write_leaves_neither_file_nor_directory() {
        let base = std::env::temp_dir().join(format!("rcon-save-{}", crate::base::random_hex(8)));
        std::fs::create_dir(&base).unwrap();
        let failed = to_file(&base.join("a.tar"), |out| {
            out.write_all(b"half").unwrap();
            Err(Failure::invalid("no"))
        });
        assert!(failed.is_err());
        let failed = beside(&base.join("d/"), |path| {
            std::fs::create_dir(path).unwrap();
            Err(Failure::invalid("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
        to_file(&base.join("a.tar"), |out| out.write_all(b"all").map_err(|e| Failure::caused("x", &e))).unwrap();
        assert_eq!(std::fs::read(base.join("a.tar")).unwrap(), b"all");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
