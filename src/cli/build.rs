//! `build`: an image from a Dockerfile.

mod call;
mod interrupt;
mod result;
mod view;

use super::context::Context;
use super::failure::Failure;
use super::options::Limits;
use super::options::request::{all, client_variable, usage};
use super::output;
use crate::base::{Cancel, Writer, csv};
use crate::build::{Allow, Annotation, Attest, BuildRequest, Built, CacheFrom, CacheTo, Output, SecretSource};
use crate::engine::Engine;
use crate::engine::request::{FlagError, add_host, env, network};
use crate::oci::Reference;
use crate::state::record::HostSpec;
use call::{Call, Method};
use interrupt::Interrupts;
use result::{ResultFile, metadata};
use rustix::termios::isatty;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use view::{Mode, View};

/// The time of a reproducible build.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Build an image from a Dockerfile
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Name of the image: NAME[:TAG]
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    pub tag: Vec<String>,
    /// The Dockerfile (default: Dockerfile in the context); - reads it from standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<String>,
    /// Value of an ARG: NAME=VALUE, or NAME to take it from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Where a stage or image of this name comes from instead: NAME=PATH, URL, docker-image://IMAGE
    #[arg(long, value_name = "NAME=SOURCE")]
    pub build_context: Vec<String>,
    /// Stage to build (default: the last one)
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Platforms, each os/arch[/variant]: several give an index over an image for each
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Ask the registries for newer versions of the base images
    #[arg(long)]
    pub pull: bool,
    /// What to do: build, check (look for likely mistakes), outline (arguments, secrets), targets; [,format=json]
    #[arg(long, value_name = "METHOD", default_value = "build")]
    pub call: String,
    /// Only look for likely mistakes in the Dockerfile: as --call check
    #[arg(long)]
    pub check: bool,
    /// Do not use results of earlier builds
    #[arg(long)]
    pub no_cache: bool,
    /// Do not use results of earlier builds for these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Where results are taken from that are not here: IMAGE, type=registry,ref=NAME, type=local,src=DIR[,tag=|digest=]
    #[arg(long, value_name = "SPEC")]
    pub cache_from: Vec<String>,
    /// Where results are written: NAME, type=registry,ref=NAME, type=local,dest=DIR[,tag=], type=inline (in the image); registry,
    /// local: mode=min|max compression=uncompressed|gzip|zstd compression-level= force-compression= ignore-error=
    #[arg(long, value_name = "SPEC")]
    pub cache_to: Vec<String>,
    /// Only print the image's id
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// How progress is shown: auto, tty, plain, rawjson, quiet
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub progress: String,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|env=NAME]
    #[arg(long, value_name = "SPEC")]
    pub secret: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh: default or ID[=SOCKET]
    #[arg(long, value_name = "SPEC")]
    pub ssh: Vec<String>,
    /// Network of RUN: default, none, host or one of `network ls`
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,
    /// Line of /etc/hosts for RUN: NAME:ADDRESS
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,
    /// What the Dockerfile may ask for: network.host, security.insecure
    #[arg(long, value_name = "RIGHT")]
    pub allow: Vec<String>,
    /// What becomes of the result: DIR, - (a tar), type=image|registry|local|tar|oci|docker|cacheonly[,KEY=VALUE…]: all: dest=;
    /// images: name= push= push-by-digest= store= compression=uncompressed|gzip|zstd compression-level= force-compression=
    /// oci-mediatypes= rewrite-timestamp= annotation.KEY=; oci, docker: tar=; local, tar: platform-split=; local: mode=copy|delete
    #[arg(short = 'o', long, value_name = "SPEC")]
    pub output: Vec<String>,
    /// Annotation of the image: [manifest|manifest-descriptor][[PLATFORM]]:KEY=VALUE
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Push the image: as --output type=registry
    #[arg(long)]
    pub push: bool,
    /// Keep the image in the store beside other outputs: as --output type=docker
    #[arg(long)]
    pub load: bool,
    /// Write ids and names of the image to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    #[command(flatten)]
    pub limits: Limits,
    /// Only true: intermediate containers are always removed
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    pub rm: bool,
    #[arg(long, hide = true)]
    pub force_rm: bool,
    /// The context is not sent anywhere
    #[arg(long, hide = true)]
    pub compress: bool,
    /// Attest something of the image: type=sbom, type=provenance[,mode=max]
    #[arg(long, value_name = "type=TYPE")]
    pub attest: Vec<String>,
    /// Attest how the image came to be: true, mode=min (the same), mode=max (also arguments and the Dockerfile)
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Attest which packages the image has (dpkg, apk, Python, npm)
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// The context: a directory, an address, or - for standard input
    #[arg(value_name = "PATH | URL | -")]
    pub context: String,
}

/// # Errors
/// A flag that does not follow its grammar, or the build fails.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let call = args.call()?;
    let request = args.request(context, call)?;
    let mode = if call.method == Method::Build { args.mode()? } else { Mode::Check };
    let (interrupts, cancel) = (Interrupts::catch()?, Cancel::default());
    let engine = context.engine()?.with_cancel(cancel.clone());
    let view = View::new(mode);
    interrupts
        .during(&cancel, &|| view.cancelling(), || args.answer(&engine, &request, (call, mode, &view)))?
        .map_err(|failure| interrupts.failure().unwrap_or(failure))
}

/// Standard output for an archive: a pipe that nobody reads holds up no build that is cancelled.
fn stdout(cancel: &Cancel) -> Result<Writer, Failure> {
    let own = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map_err(std::io::Error::from);
    own.and_then(|own| cancel.writer(own.into())).map_err(|error| Failure::caused("cannot write to standard output", &error))
}

/// The failure with the place in the Dockerfile above it.
fn failure(error: crate::build::Error) -> Failure {
    if let Some(excerpt) = error.excerpt() {
        output::talk(excerpt.trim_end());
    }
    Failure::from(error)
}

impl Args {
    fn answer(&self, engine: &Engine, request: &BuildRequest, (call, mode, view): (Call, Mode, &View)) -> Result<ExitCode, Failure> {
        let sink = |event| view.show(event);
        match call.method {
            Method::Outline => return call::outline(&crate::build::outline(engine, request, &sink).map_err(failure)?, call.json),
            Method::Targets => return call::targets(&crate::build::targets(engine, request, &sink).map_err(failure)?, call.json),
            Method::Build => self.prepare(&request.outputs)?,
            Method::Check => {}
        }
        let built = std::thread::scope(|scope| {
            let (over, ended) = std::sync::mpsc::channel::<()>();
            if mode == Mode::Terminal {
                scope.spawn(move || {
                    while ended.recv_timeout(view::FRAME) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                        view.tick();
                    }
                });
            }
            let built = stdout(&engine.cancel).map(|mut out| crate::build::build(engine, request, &sink, &mut out));
            drop(over);
            built
        });
        let warnings = view.finish();
        match built?.map_err(failure)? {
            Some(built) => self.tell(&built).map(|()| ExitCode::SUCCESS),
            None => call::check(&warnings, call.json),
        }
    }

    fn id_file(&self) -> Option<ResultFile<'_>> {
        ResultFile::id(self.iidfile.as_deref())
    }

    fn metadata_to(&self) -> Option<ResultFile<'_>> {
        ResultFile::metadata(self.metadata_file.as_deref())
    }

    /// Makes sure that what comes out can be told.
    fn prepare(&self, outputs: &[Output]) -> Result<(), Failure> {
        self.id_file().into_iter().chain(self.metadata_to()).try_for_each(|file| file.check(outputs))?;
        self.id_file().map_or(Ok(()), |file| file.forget())
    }

    fn tell(&self, built: &Built) -> Result<(), Failure> {
        if let Some(file) = self.id_file() {
            file.write(&built.image)?;
        }
        if let Some(file) = self.metadata_to() {
            file.write(&format!("{:#}\n", metadata(built)))?;
        }
        // Standard output may be an archive's.
        if self.quiet && !self.outputs()?.iter().any(Output::is_stdout) {
            output::line(&built.image)?;
        }
        Ok(())
    }

    fn platforms(&self, context: &Context) -> Vec<String> {
        let asked: Vec<String> = self.platform.iter().filter(|platform| !platform.is_empty()).cloned().collect();
        if asked.is_empty() { context.platform(None).into_iter().collect() } else { asked }
    }

    fn call(&self) -> Result<Call, Failure> {
        let call = Call::parse(&self.call)?;
        match (self.check, call.method) {
            (false, _) | (true, Method::Check) => Ok(call),
            (true, Method::Build) => Ok(Call { method: Method::Check, ..call }),
            (true, _) => Err(usage(format!("--check and --call {} exclude each other", self.call))),
        }
    }

    fn mode(&self) -> Result<Mode, Failure> {
        Ok(match self.progress.as_str() {
            _ if self.quiet => Mode::Quiet,
            "auto" | "" if isatty(rustix::stdio::stderr()) => Mode::Terminal,
            "auto" | "" | "plain" => Mode::Plain,
            "tty" if isatty(rustix::stdio::stderr()) => Mode::Terminal,
            "tty" => return Err(usage("--progress tty: standard error is not a terminal")),
            "rawjson" | "json" => Mode::Json,
            "quiet" | "none" => Mode::Quiet,
            other => return Err(FlagError::new("--progress", other, "expected auto, tty, plain, rawjson, quiet or none").into()),
        })
    }

    fn outputs(&self) -> Result<Vec<Output>, Failure> {
        let mut outputs = all(&self.output, |text| Output::parse(text).map_err(|why| FlagError::new("--output", text, why)))?;
        if self.push {
            outputs.push(Output::registry());
        }
        if self.load {
            outputs.push(Output::store());
        }
        if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
            return Err(usage("--output: only one of them can go to standard output"));
        }
        self.annotate(&mut outputs)?;
        Ok(outputs)
    }

    fn annotate(&self, outputs: &mut Vec<Output>) -> Result<(), Failure> {
        let parse = |text: &String| Annotation::parse(text).map_err(|why| Failure::from(FlagError::new("--annotation", text, why)));
        let annotations: Vec<Annotation> = self.annotation.iter().map(parse).collect::<Result<Vec<_>, _>>()?.concat();
        if annotations.is_empty() {
            return Ok(());
        }
        if outputs.is_empty() {
            outputs.push(Output::store());
        }
        let mut any = false;
        for output in outputs {
            any |= output.annotate(&annotations).map_err(|why| usage(format!("--annotation: {why}")))?;
        }
        if any { Ok(()) } else { Err(usage("--annotation: no --output is an image")) }
    }

    fn request(&self, context: &Context, call: Call) -> Result<BuildRequest, Failure> {
        let tag = |text: &String| {
            let reference: Reference = text.parse().map_err(|e: String| Failure::from(FlagError::new("--tag", text, e)))?;
            match reference.digest() {
                Some(_) => Err(usage(format!("--tag {text}: an image is not named by a digest before it is built"))),
                None => Ok(reference),
            }
        };
        let pairs = |flag: &'static str, values: &[String]| -> Result<BTreeMap<String, String>, Failure> {
            Ok(all(values, |text| env::key_value(flag, text))?.into_iter().collect())
        };
        let mut host = HostSpec { extra_hosts: all(&self.add_host, add_host::parse)?, ..HostSpec::default() };
        self.limits.apply(&mut host)?;
        let network: Vec<String> = self.network.iter().map(|mode| if mode == "default" { "bridge".to_owned() } else { mode.clone() }).collect();
        (host.network, host.attachments) = network::choose(&network, &network::Given::default())?;
        Ok(BuildRequest {
            context: self.context.clone(),
            dockerfile: self.file.clone(),
            contexts: pairs("--build-context", &self.build_context)?.into_iter().map(|(name, source)| (name.to_ascii_lowercase(), source)).collect(),
            tags: self.tag.iter().map(tag).collect::<Result<_, _>>()?,
            outputs: self.outputs()?,
            target: self.target.clone(),
            arguments: arguments(&self.build_arg),
            labels: env::labels(&[], &self.label)?,
            platforms: self.platforms(context),
            attest: attest(self)?,
            check: call.method == Method::Check,
            pull: self.pull,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter.clone(),
            cache_from: all(&self.cache_from, |text| CacheFrom::parse(text).map_err(|why| FlagError::new("--cache-from", text, why)))?.concat(),
            cache_to: all(&self.cache_to, |text| CacheTo::parse(text).map_err(|why| FlagError::new("--cache-to", text, why)))?.concat(),
            host,
            secrets: self.secret.iter().map(|text| secret(text)).collect::<Result<_, _>>()?,
            agents: self.ssh.iter().map(|text| agent(text)).collect::<Result<_, _>>()?,
            allow: allow(&self.allow)?,
        })
    }
}

/// Those without a value take that of the client's environment, or are not there.
fn arguments(values: &[String]) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for text in values {
        match text.split_once('=') {
            Some((name, value)) => drop(arguments.insert(name.to_owned(), value.to_owned())),
            None => drop(client_variable(text).map(|value| arguments.insert(text.clone(), value))),
        }
    }
    // As buildx does: whoever sets it for a build means all of it.
    if !values.iter().any(|text| text.split('=').next() == Some(EPOCH))
        && let Some(value) = client_variable(EPOCH).filter(|value| !value.is_empty())
    {
        arguments.insert(EPOCH.to_owned(), value);
    }
    arguments
}

fn secret(text: &str) -> Result<(String, SecretSource), Failure> {
    let wrong = |reason: &str| Failure::from(FlagError::new("--secret", text, reason));
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in &csv::split(text).map_err(|why| wrong(&why))? {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("expected KEY=VALUE"))?;
        match key {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(PathBuf::from(value)),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            "type" => return Err(wrong("the type is file or env")),
            _ => return Err(wrong("expected id, src, env or type")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("id is missing"))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take().map(|name| name.to_string_lossy().into_owned());
    }
    let variable = variable.or_else(|| (file.is_none() && kind.as_deref() != Some("file") && client_variable(&id).is_some()).then(|| id.clone()));
    match (variable, file) {
        (Some(_), Some(_)) => Err(wrong("src and env exclude each other")),
        (Some(name), None) => {
            let value = client_variable(&name).ok_or_else(|| wrong("the variable is not set"))?;
            Ok((id, SecretSource::Value(value.into_bytes())))
        }
        (None, file) => {
            let path = file.unwrap_or_else(|| PathBuf::from(&id));
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() => Ok((id, SecretSource::File(path))),
                Ok(_) => Err(wrong("the source is not a file")),
                Err(error) => Err(Failure::caused(format!("cannot read the secret {id} from {}", path.display()), &error)),
            }
        }
    }
}

/// Attestations that are asked for: the flags that name one win over `--attest`.
fn attest(args: &Args) -> Result<Attest, Failure> {
    let mut attest = Attest::default();
    let wrong = |flag: &'static str, text: &String, why: String| Failure::from(FlagError::new(flag, text, why));
    for text in &args.attest {
        attest.add(text).map_err(|why| wrong("--attest", text, why))?;
    }
    if let Some(text) = &args.sbom {
        attest.add_sbom(text).map_err(|why| wrong("--sbom", text, why))?;
    }
    if let Some(text) = &args.provenance {
        attest.add_provenance(text).map_err(|why| wrong("--provenance", text, why))?;
    }
    Ok(attest)
}

fn agent(text: &str) -> Result<(String, PathBuf), Failure> {
    let wrong = |reason: &str| Failure::from(FlagError::new("--ssh", text, reason));
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, PathBuf::from(socket)),
        None => (text, client_variable("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| wrong("SSH_AUTH_SOCK is not set: is an agent running?"))?),
    };
    match std::fs::metadata(&socket) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => Ok((id.to_owned(), socket)),
        Ok(_) => Err(wrong("only sockets of agents are supported: add the key to an agent with ssh-add")),
        Err(error) => Err(Failure::caused(format!("cannot reach the agent at {}", socket.display()), &error)),
    }
}

fn allow(values: &[String]) -> Result<Allow, Failure> {
    let mut allowed = Allow::default();
    for value in values {
        match value.as_str() {
            "network.host" => allowed.host_network = true,
            "security.insecure" => allowed.insecure = true,
            other => return Err(FlagError::new("--allow", other, "expected network.host or security.insecure").into()),
        }
    }
    Ok(allowed)
}
