//! `run`: creates a container, starts it, and stays with it unless detached.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::options::{Options, Streams};
use super::output;
use super::progress::Progress;
use super::session::{self, DetachKeys, End, Session};
use crate::base::Signal;
use crate::engine::{AttachStreams, Condition, Engine, Status};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Create a container from an image and run a command in it
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Run in the background and print the container's id
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Forward signals to the process
    #[arg(long, default_value = "true")]
    pub sig_proxy: bool,
    #[command(flatten)]
    pub options: Options,
    /// Image, command and arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    pub words: Vec<String>,
}

/// # Errors
/// Exit code 125 for us, 126 and 127 for the command; the container's code comes back as Ok.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let streams = args.options.streams(args.detach)?;
    let request = args.options.request(&args.words, streams, context)?;
    let detach_keys = keys(args.detach_keys.as_deref(), context)?;
    require_terminal(args.options.tty, streams.stdin)?;
    let cidfile = CidFile::create(args.options.cidfile.as_deref())?;
    if args.detach && args.options.extras.rmi {
        return Err(Failure::invalid("conflicting options: --rmi and --detach: nobody waits for the end").with_code(USAGE));
    }
    let engine = context.engine()?;
    replace(&engine, &args.options)?;
    let progress = Progress::new(args.options.quiet, true);
    let console = console(args.options.tty);
    let (created, started) = engine.run(&request, attach_streams(streams), console, &|event| progress.show(event))?;
    progress.finish();
    output::warnings(&created.warnings);
    cidfile.keep(created.record.id.as_str())?;
    let attached = started.map_err(|error| misplaced(error, args.words.get(1), "run", "image"))?;
    if args.detach {
        output::line(&attached.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !streams.stdout && !streams.stderr {
        output::line(&attached.id)?;
        if !streams.stdin {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let image = created.record.spec.image_id.clone();
    let name = created.record.name.as_str().to_owned();
    let id = attached.id.as_str().to_owned();
    let forward = forwarder(&engine, &id);
    let session = Session {
        client: attached.client,
        tty: attached.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        detach: detach_keys,
        proxy: args.sig_proxy.then_some(&forward as &dyn Fn(Signal)),
        recorded: &recorded(&engine, &id),
    };
    let code = ended(&engine, &id, session.run()?).code(&name);
    if args.options.extras.rmi {
        remove_image(&engine, &id, &image);
    }
    Ok(code)
}

/// `--replace`: the container of that name goes first.
///
/// # Errors
/// It cannot be removed.
pub fn replace(engine: &Engine, options: &Options) -> Result<(), Failure> {
    let Some(name) = options.name.as_deref().filter(|_| options.extras.replace) else { return Ok(()) };
    match engine.view(name) {
        // An id or a prefix of one is another container's.
        Ok(view) if view.record.name.as_str() == name.trim_start_matches('/') => Ok(engine.remove(view.record.id.as_str(), true, false)?),
        Ok(_) | Err(crate::engine::Error::NoSuch { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `--rmi`: the image goes with the container, unless another one uses it. That is no failure of the command that ran.
fn remove_image(engine: &Engine, container: &str, image: &str) {
    if let Err(error) = engine.wait_for(container, &[Condition::Removed], std::time::Duration::from_millis(20)) {
        tracing::debug!("the container is gone: {error}");
    }
    if let Err(error) = engine.remove_image(image, false) {
        output::warnings(&[format!("the image is kept: {error}")]);
    }
}

/// A command that is not there and looks like a flag was meant as one.
pub fn misplaced(error: crate::engine::Error, command: Option<&String>, verb: &str, before: &str) -> Failure {
    let is_flag = error.kind() == crate::base::ErrorKind::CommandNotFound && command.is_some_and(|word| word.starts_with('-'));
    let failure = Failure::from(error);
    if is_flag { failure.with_hint(format!("flags of rcon {verb} stand before the {before}")) } else { failure }
}

/// Tells the journal when the user left a session.
pub fn ended(engine: &Engine, id: &str, end: End) -> End {
    if end == End::Detached
        && let Err(error) = engine.detached(id)
    {
        tracing::debug!("the detaching is not recorded: {error}");
    }
    end
}

/// How a container ended whose monitor does not say it (any more).
pub fn recorded<'a>(engine: &'a Engine, id: &'a str) -> impl Fn() -> Result<i32, Failure> + 'a {
    move || match engine.view(id) {
        Ok(view) if view.status == Status::Exited && view.record.error.is_empty() => Ok(view.record.exit_code),
        Ok(_) => Err(Failure::invalid("the container's monitor was killed").with_code(USAGE)),
        Err(error) => Err(Failure::caused("the container has ended, and its exit code is not known", &error).with_code(USAGE)),
    }
}

/// Sends a signal to a container; one that has just ended needs none.
pub fn forwarder<'a>(engine: &'a Engine, id: &'a str) -> impl Fn(Signal) + 'a {
    move |signal| {
        if let Err(error) = engine.kill(id, signal) {
            tracing::debug!("could not forward {signal}: {error}");
        }
    }
}

/// The detach keys of the flag, else of `config.json`, else Docker's.
///
/// # Errors
/// An unknown key: exit code 1, as with Docker, whose engine reads them.
pub fn keys(flag: Option<&str>, context: &Context) -> Result<DetachKeys, Failure> {
    match flag.filter(|text| !text.is_empty()).or_else(|| context.setting("detachKeys")) {
        Some(text) => DetachKeys::parse(text).map_err(|e| Failure::invalid(format!("--detach-keys: {e}")).with_code(1)),
        None => Ok(DetachKeys::default()),
    }
}

/// `-it` needs a terminal to read from.
///
/// # Errors
/// There is none (exit code 1, as with Docker).
pub fn require_terminal(tty: bool, stdin: bool) -> Result<(), Failure> {
    if tty && stdin && !session::stdin_is_tty() {
        return Err(Failure::invalid("the input device is not a TTY").with_code(1));
    }
    Ok(())
}

/// Columns and rows to start a terminal with.
pub fn console(tty: bool) -> (u16, u16) {
    if tty { session::terminal_size().unwrap_or((0, 0)) } else { (0, 0) }
}

pub fn attach_streams(streams: Streams) -> AttachStreams {
    AttachStreams { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr }
}

/// The file of `--cidfile`: made before anything else, removed again if no container came to be.
pub struct CidFile(Option<(PathBuf, std::fs::File)>);

impl CidFile {
    /// # Errors
    /// The file exists or cannot be made.
    pub fn create(path: Option<&str>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(CidFile(None)) };
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(CidFile(Some((path.into(), file)))),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let failure = Failure::invalid(format!("container ID file found at {path}; make sure the other container isn't running"));
                Err(failure.with_hint(format!("delete {path}")))
            }
            Err(e) => Err(Failure::caused(format!("cannot create the container ID file {path}"), &e)),
        }
    }

    /// Writes the id and keeps the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(mut self, id: &str) -> Result<(), Failure> {
        match self.0.take() {
            None => Ok(()),
            Some((path, mut file)) => file
                .write_all(id.as_bytes())
                .map_err(|e| Failure::caused(format!("cannot write the container ID file {}", path.display()), &e).with_code(USAGE)),
        }
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            // We made it; if it is gone already, that is what we want.
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CidFile;

    #[test]
    fn cidfile_is_exclusive_and_removed_on_failure() {
        let path = std::env::temp_dir().join(format!("rcon-cid-{}", crate::base::random_hex(12)));
        let text = path.to_str();
        drop(CidFile::create(text).unwrap());
        assert!(!path.exists());
        CidFile::create(text).unwrap().keep("abc").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(CidFile::create(text).err().unwrap().exit_code(crate::cli::failure::Class::Run), 125);
        std::fs::remove_file(&path).unwrap();
    }
}
