//! From a Dockerfile to the stage that is wanted: which stages it needs, several at once, each after those that it takes
//! something from.

use super::attest::Materials;
use super::context::{self, Context};
use super::dockerfile::{self, Dockerfile, Fault, Instruction, Stage};
use super::epoch::{self, Asked};
use super::error::{Error, Result};
use super::lint;
use super::progress::{Event, Numbers, Sink, Warning};
use super::request::BuildRequest;
use super::schedule::Schedule;
use super::shared::Shared;
use super::stage::{self, Finished};
use super::state::Arguments;
use crate::base::Cancel;
use crate::engine::Engine;
use crate::oci::Platform;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, OnceLock};

/// Before the name of an image in `--build-context`.
pub const IMAGE: &str = "docker-image://";

/// Stages that are built at once even where there are fewer processors: many wait for a network.
const STAGES: usize = 4;

/// One build.
pub struct Solver<'a> {
    pub request: &'a BuildRequest,
    pub file: &'a Dockerfile,
    pub context: &'a Arc<Context>,
    pub arguments: Arc<Arguments>,
    /// What SOURCE_DATE_EPOCH came to.
    pub epoch: Asked,
    /// What it is built for.
    platform: Platform,
    pub shared: &'a Shared,
    /// What the result was made of.
    pub materials: Materials,
    pub sink: Sink<'a>,
    pub numbers: &'a Numbers,
    pub cancel: &'a Cancel,
    /// Set before the first stage begins.
    schedule: OnceLock<Arc<Schedule<Finished>>>,
}

/// The stage that is wanted.
///
/// # Errors
/// There is no such stage.
pub fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let Some(name) = wanted else { return Ok(file.stages.len() - 1) };
    file.stage(name, file.stages.len()).ok_or_else(|| {
        let known: Vec<String> = file.stages.iter().filter_map(Stage::key).collect();
        let near = crate::base::nearest(&name.to_ascii_lowercase(), known.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
        Error::Invalid { message: format!("--target {name}: the Dockerfile has no such stage"), hint: near }
    })
}

/// What each stage that is needed for `target` is made from; None for the others.
///
/// # Errors
/// A stage takes files from one that comes later, or from itself.
fn graph(solver: &Solver<'_>, target: usize) -> Result<Vec<Option<Vec<usize>>>> {
    let mut needed = vec![false; solver.file.stages.len()];
    let mut graph = vec![None; needed.len()];
    needed[target] = true;
    for index in (0..=target).rev() {
        if needed[index] {
            let sources = sources(solver, index)?;
            sources.iter().for_each(|source| needed[*source] = true);
            graph[index] = Some(sources);
        }
    }
    Ok(graph)
}

/// The earlier stages that a stage takes something from.
fn sources(solver: &Solver<'_>, index: usize) -> Result<Vec<usize>> {
    let (file, stage) = (solver.file, &solver.file.stages[index]);
    let mut found = Vec::new();
    let base = solver.base_name(stage)?;
    found.extend(solver.stage_named(&base, index));
    for statement in &stage.instructions {
        let names: Vec<(&str, dockerfile::Span)> = match &statement.instruction {
            Instruction::Copy(transfer) | Instruction::Add(transfer) => transfer.from.iter().map(|from| (from.text.as_str(), from.span)).collect(),
            Instruction::Run(run) => run.mounts.iter().filter_map(|mount| Some((mount.from()?, mount.span))).collect(),
            _ => Vec::new(),
        };
        for (name, span) in names {
            match solver.stage_named(name, index) {
                Some(source) => found.push(source),
                None if solver.stage_named(name, file.stages.len()).is_some() => return Err(later(file, span, name).into()),
                None => {}
            }
        }
    }
    Ok(found)
}

fn later(file: &Dockerfile, span: dockerfile::Span, name: &str) -> Fault {
    file.fault(span, format!("stage {name} is not there yet: files can only be taken from stages that come before")).hint("move that stage up")
}

/// Builds the stage for each platform at once, with all that it needs.
///
/// # Errors
/// The first error of any of them; the others are ended.
pub fn solve(engine: &Engine, solvers: &[Solver<'_>], target: usize) -> Result<Vec<Arc<Finished>>> {
    let Some((first, others)) = solvers.split_first() else { return Ok(Vec::new()) };
    let others = others.iter().map(|solver| Ok((solver, engine.again()?))).collect::<Result<Vec<_>>>()?;
    // A stage is a thread and a connection to the database; what it runs may want a processor.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = (processors.max(STAGES) / solvers.len()).max(1);
    let solve = |solver: &Solver<'_>, engine: &Engine| {
        let solved = solver.solve(engine, target, workers);
        if solved.is_err() {
            solver.cancel.cancel();
        }
        solved
    };
    let solved: Vec<Result<Arc<Finished>>> = std::thread::scope(|scope| {
        let running: Vec<_> = others.into_iter().map(|(solver, engine)| scope.spawn(move || solve(solver, &engine))).collect();
        let own = solve(first, engine);
        let rest = running.into_iter().map(|running| running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(rest).collect()
    });
    let mut finished = Vec::new();
    let mut failed = None;
    for solved in solved {
        match solved {
            Ok(solved) => finished.push(solved),
            // A cancelled platform is the consequence of another's error.
            Err(error) if matches!(failed, None | Some(Error::Cancelled)) => failed = Some(error),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(finished), Err)
}

impl<'a> Solver<'a> {
    pub fn new(
        request: &'a BuildRequest,
        (platform, shared): (Platform, &'a Shared),
        (file, context): (&'a Dockerfile, &'a Arc<Context>),
        (sink, numbers, cancel): (Sink<'a>, &'a Numbers, &'a Cancel),
    ) -> Result<Self> {
        let arguments = Arc::new(Arguments::new(file, request.arguments.clone(), automatic(request, &platform))?);
        if let Some(name) = arguments.unheeded() {
            return Err(Error::invalid(format!("--build-arg {name}: the builder does not support what it asks for")));
        }
        Ok(Solver {
            request,
            file,
            context,
            arguments,
            epoch: Asked::No,
            platform,
            shared,
            materials: Materials::default(),
            sink,
            numbers,
            cancel,
            schedule: OnceLock::new(),
        })
    }

    /// Finds out what SOURCE_DATE_EPOCH comes to.
    ///
    /// # Errors
    /// It is neither a time nor the name of a source.
    pub fn date(&mut self, engine: &Engine) -> Result<()> {
        let mut arguments = (*self.arguments).clone();
        let area = super::area(engine);
        let named = |name: &str| self.named_context(engine, name);
        let sources = epoch::Sources {
            request: self.request,
            file: self.file,
            context: self.context,
            area: &area,
            limits: engine.registry.limits,
            cancel: self.cancel,
            named: &named,
        };
        self.epoch = epoch::resolve(&mut arguments, &sources)?;
        self.arguments = Arc::new(arguments);
        Ok(())
    }

    /// Builds the stage and all that it needs, so many at once.
    ///
    /// # Errors
    /// The first error of any of them; the others are ended.
    fn solve(&self, engine: &Engine, target: usize, workers: usize) -> Result<Arc<Finished>> {
        let schedule = Arc::new(Schedule::new(graph(self, target)?));
        let schedule = self.schedule.get_or_init(|| schedule);
        let waker = schedule.clone();
        let _watch = self.cancel.watch(move || waker.wake());
        // A database connection is one thread's.
        let others = (1..schedule.count().min(workers)).map(|_| Ok(engine.again()?)).collect::<Result<Vec<_>>>()?;
        let work = |engine: &Engine| schedule.work(self.cancel, &|index| stage::build(self, engine, index));
        std::thread::scope(|scope| {
            for engine in others {
                scope.spawn(move || work(&engine));
            }
            work(engine);
        });
        schedule.outcome(target)
    }

    /// Whether each stage is needed for a target.
    ///
    /// # Errors
    /// A stage takes files from one that comes later, or from itself.
    pub fn needed_for(&self, target: usize) -> Result<Vec<bool>> {
        Ok(graph(self, target)?.iter().map(Option::is_some).collect())
    }

    /// The builder itself sets an argument of this name.
    pub fn is_automatic(&self, name: &str) -> bool {
        automatic(self.request, &self.platform).contains_key(name)
    }

    /// What an earlier stage came to.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it fails.
    pub fn finished(&self, engine: &Engine, index: usize) -> Result<Arc<Finished>> {
        let Some(schedule) = self.schedule.get().filter(|schedule| schedule.is_needed(index)) else {
            // Only a trigger of a base image can name a stage that the Dockerfile itself takes nothing from.
            let name = self.file.stages[index].key().unwrap_or_else(|| index.to_string());
            let hint = Some(format!("take something from it in the Dockerfile, too: COPY --from={name} …"));
            return Err(Error::Invalid { message: format!("stage {name}, which an ONBUILD trigger takes files from, is not built here"), hint });
        };
        schedule.wait(self.cancel, index, &|index| stage::build(self, engine, index))
    }

    /// All stages that were built.
    pub fn built(&self) -> Vec<Arc<Finished>> {
        self.schedule.get().map(|schedule| schedule.all()).unwrap_or_default()
    }

    /// The platform that is built for.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// What stands after `FROM`, with its variables.
    ///
    /// # Errors
    /// It cannot be expanded, or is empty then.
    pub fn base_name(&self, stage: &Stage) -> Result<String> {
        let name = self.arguments.global(self.file, &stage.base)?.text;
        if name.is_empty() {
            let fault = self.file.fault(stage.base.span, format!("the base name {} is empty", stage.base.text));
            return Err(fault.hint("give the argument a default before the first FROM, or a value with --build-arg").into());
        }
        Ok(name)
    }

    /// `--platform` of a stage, with its variables; that of the build without it.
    ///
    /// # Errors
    /// It cannot be expanded, or is no platform.
    pub fn platform_of(&self, stage: &Stage) -> Result<Platform> {
        let Some(word) = &stage.platform else { return Ok(self.platform.clone()) };
        let text = self.arguments.global(self.file, word)?.text;
        Ok(text.parse().map_err(|why: String| self.file.fault(word.span, why))?)
    }

    /// Tells of likely mistakes that the file alone shows, and of arguments that nobody asks for. How many mistakes there are.
    ///
    /// # Errors
    /// A default of a global ARG cannot be expanded.
    pub fn lint(&self) -> Result<usize> {
        let found = lint::lint(self.file, &self.file.directives.check, &automatic(self.request, &self.platform))?;
        let ignored = lint::kept(self.file, &self.file.directives.check, self.ignored());
        let found = [found, ignored].concat();
        found.iter().for_each(|warning| self.tell(warning));
        for name in self.arguments.unused(self.file) {
            let text = format!("--build-arg {name} is not used: no ARG of the Dockerfile asks for it");
            (self.sink)(Event::Warning(Warning { rule: "UnusedBuildArg", text, place: self.file.source.name().to_owned(), excerpt: String::new() }));
        }
        Ok(found.len())
    }

    /// Sources that the ignore file takes out of the context.
    fn ignored(&self) -> Vec<dockerfile::Warning> {
        let mut found = Vec::new();
        for statement in self.file.stages.iter().flat_map(|stage| &stage.instructions) {
            let (Instruction::Copy(transfer) | Instruction::Add(transfer)) = &statement.instruction else { continue };
            for source in transfer.sources.iter().filter(|_| transfer.from.is_none()) {
                let dockerfile::Origin::Path(word) = source else { continue };
                let path = context::clean(format!("/{}", word.text).as_bytes())[1..].to_vec();
                if !word.varies() && !path.is_empty() && self.context.ignore().at(&path).0 {
                    found.push(lint::copy_ignored(&statement.keyword.text, &word.text, word.span));
                }
            }
        }
        found
    }

    /// Tells of what only the build has shown, unless the file says to skip it.
    pub fn warn(&self, found: Vec<dockerfile::Warning>) {
        lint::kept(self.file, &self.file.directives.check, found).iter().for_each(|warning| self.tell(warning));
    }

    fn tell(&self, warning: &dockerfile::Warning) {
        let fault = self.file.fault(warning.span, "");
        let place = format!("{}:{}", self.file.source.name(), fault.place().line);
        let warning = Warning { rule: warning.rule, text: warning.text.clone(), place, excerpt: fault.excerpt().to_owned() };
        if self.shared.is_new(&warning) {
            (self.sink)(Event::Warning(warning));
        }
    }

    /// The stage that a name means to stage number `before`, unless a named context takes its place.
    pub fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        if self.request.contexts.contains_key(&name.to_ascii_lowercase()) { None } else { self.file.stage(name, before) }
    }

    /// The directory of a named context; None: there is none of that name, or it is an image.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn named_context(&self, engine: &Engine, name: &str) -> Result<Option<Arc<Context>>> {
        let Some(text) = self.request.contexts.get(&name.to_ascii_lowercase()) else { return Ok(None) };
        self.shared.context(engine, name, text)
    }
}

/// Arguments that are always there.
fn automatic(request: &BuildRequest, platform: &Platform) -> BTreeMap<String, String> {
    let host = Platform::host();
    let mut arguments = BTreeMap::new();
    for (prefix, platform) in [("TARGET", platform), ("BUILD", &host)] {
        let parts = [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.arch.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ];
        arguments.extend(parts.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
    }
    arguments.insert("TARGETSTAGE".to_owned(), request.target.clone().unwrap_or_else(|| "default".to_owned()));
    arguments
}
