//! One stage: its base, then instruction by instruction. `state` says what each of them comes to; here that is done.

use super::cache::{self, Layers, Solved, Work};
use super::dockerfile::{self, Instruction, Source, Span, Stage, Statement};
use super::error::{Error, Result};
use super::key::Key;
use super::progress::Begun;
use super::solve::{IMAGE, Solver};
use super::state::{Effect, ImageState, Site, Step};
use super::{copy, exec, platform};
use crate::base::{Timestamp, rooted};
use crate::engine::request::PullPolicy;
use crate::engine::{Engine, Sandbox};
use crate::image::{self, Draft};
use crate::oci::{ImageDocument, Platform};
use crate::runtime::{Base, BindSource, User, account};
use crate::state::record::{Image, NetworkMode};
use rustix::fs::{Gid, OFlags, Uid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// What a stage came to.
#[derive(Debug, Clone)]
pub struct Finished {
    pub layers: Layers,
    pub state: ImageState,
    pub platform: Platform,
    pub history: History,
}

/// How the image came to be, instruction by instruction.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The config document of the base image; None: there is none.
    pub base: Option<Arc<Vec<u8>>>,
    /// So many of the lowest layers are the base image's.
    pub base_layers: usize,
    pub entries: Vec<Entry>,
    /// The steps that changed files, or might have.
    pub steps: Vec<cache::Step>,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub created_by: String,
    /// None: with the entry before it.
    pub created: Option<Timestamp>,
    /// It added no layer.
    pub empty: bool,
}

/// A stage that is being built.
pub struct StageRun<'s, 'e> {
    pub solver: &'s Solver<'s>,
    pub engine: &'e Engine,
    pub index: usize,
    pub stage: &'s Stage,
    pub layers: Layers,
    pub state: ImageState,
    pub platform: Platform,
    history: History,
    /// The text that is evaluated: the Dockerfile, or a trigger of the base image.
    source: Arc<Source>,
    escape: char,
    /// Results that are there are not used.
    pub anew: bool,
    /// Made when a step first runs on such a network.
    pub sandboxes: Vec<(NetworkMode, Sandbox<'e>)>,
    /// Steps so far, and of the whole stage.
    position: (usize, usize),
}

/// Builds stage number `index`.
///
/// # Errors
/// The first instruction that fails; [`Error::Cancelled`] if something else fails meanwhile.
pub fn build(solver: &Solver<'_>, engine: &Engine, index: usize) -> Result<Finished> {
    let mut run = StageRun::begin(solver, engine, index)?;
    for trigger in run.state.take_triggers() {
        let name = format!("the ONBUILD trigger of {}", run.stage.base.text);
        let (source, statement) = dockerfile::parse_trigger(&trigger, &name)?;
        let (own, escape) = (std::mem::replace(&mut run.source, source), std::mem::replace(&mut run.escape, '\\'));
        run.statement(&statement)?;
        (run.source, run.escape) = (own, escape);
    }
    for statement in &run.stage.instructions {
        run.statement(statement)?;
    }
    solver.warn(std::mem::take(&mut run.state.warnings));
    Ok(Finished { layers: run.layers, state: run.state, platform: run.platform, history: run.history })
}

/// Whether an instruction is a step of its own in the progress.
fn is_step(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_))
}

impl<'s, 'e> StageRun<'s, 'e> {
    fn begin(solver: &'s Solver<'s>, engine: &'e Engine, index: usize) -> Result<Self> {
        let stage = &solver.file.stages[index];
        let total = 1 + stage.instructions.iter().filter(|statement| is_step(&statement.instruction)).count();
        let is_named = |name: &String| solver.file.stage(name, index + 1) == Some(index);
        let mut run = StageRun {
            solver,
            engine,
            index,
            stage,
            layers: Layers::new(),
            state: ImageState::scratch(solver.arguments.clone()),
            platform: solver.platform_of(stage)?,
            history: History::default(),
            source: solver.file.source.clone(),
            escape: solver.file.directives.escape(),
            anew: solver.request.no_cache || solver.request.no_cache_stages.iter().any(is_named),
            sandboxes: Vec::new(),
            position: (0, total),
        };
        run.base(&solver.base_name(stage)?)?;
        Ok(run)
    }

    /// What the stage is built from.
    fn base(&mut self, name: &str) -> Result<()> {
        let solver = self.solver;
        if let Some(earlier) = solver.stage_named(name, self.index) {
            self.position.0 += 1;
            let base = solver.finished(self.engine, earlier)?;
            self.layers.clone_from(&base.layers);
            (self.state, self.history) = (base.state.child(), base.history.clone());
            if self.stage.platform.is_none() {
                self.platform = base.platform.clone();
            }
        } else if name.eq_ignore_ascii_case("scratch") && !solver.request.contexts.contains_key("scratch") {
            self.position.0 += 1;
        } else {
            let begun = self.begin_step(&format!("FROM {name}"));
            let image = self.image(name, &begun).and_then(|image| Ok((described(name, &image)?, image)));
            let (document, image) = self.conclude(begun, image, self.stage.base.span)?;
            if !document.architecture.is_empty() {
                self.platform = Platform::normalised(&document.os, &document.architecture, document.variant.as_deref());
            }
            let wanted = solver.platform_of(self.stage)?;
            if self.platform != wanted {
                solver.warn(vec![super::lint::base_platform(self.stage, name, &self.platform, &wanted)]);
            }
            self.layers = image.layers;
            self.history.base_layers = self.layers.len();
            self.history.base = Some(Arc::new(image.config));
            self.state = ImageState::new(document.config.unwrap_or_default(), document.author, solver.arguments.clone());
        }
        Ok(())
    }

    /// The image of a name, local or pulled, or what takes its place.
    pub fn image(&self, name: &str, begun: &Begun<'_>) -> Result<Image> {
        let replaced = self.solver.request.contexts.get(&name.to_ascii_lowercase());
        let name = match replaced.map(|text| text.strip_prefix(IMAGE).ok_or(text)) {
            None => name,
            Some(Ok(image)) => image,
            Some(Err(text)) => return Err(Error::invalid(format!("--build-context {name}={text}: an image is needed here, as docker-image://NAME"))),
        };
        let policy = if self.solver.request.pull { PullPolicy::Always } else { PullPolicy::Missing };
        let mut warnings = Vec::new();
        let asked = self.platform != Platform::host() || !self.solver.request.platforms.is_empty();
        let _turn = self.solver.shared.image_turn();
        let platform = asked.then(|| self.platform.to_string());
        let progress = |event: image::Progress| {
            if let Some(line) = pull_line(&event) {
                begun.say(&line);
            }
        };
        let image = self.engine.stage_image(name, platform.as_deref(), policy, &mut warnings, &progress)?;
        warnings.iter().for_each(|warning| begun.say(warning));
        self.solver.materials.image(self.engine, name, &self.platform, &image)?;
        Ok(image)
    }

    /// Begins a step under its number in the stage.
    fn begin_step(&mut self, what: &str) -> Begun<'s> {
        self.position.0 += 1;
        let stage = match self.stage.key() {
            Some(name) => format!("{name} "),
            None if self.solver.file.stages.len() > 1 => format!("stage-{} ", self.index),
            None => String::new(),
        };
        let platform = if self.solver.shared.several { platform::step(&self.platform, self.solver.platform()) } else { String::new() };
        let (at, total) = self.position;
        // Triggers of a base image are steps more than the stage has.
        Begun::new(self.solver.sink, self.solver.numbers, self.solver.cancel, format!("[{platform}{stage}{at}/{}] {what}", total.max(at)))
    }

    /// Ends a step; its error points to the place in the Dockerfile.
    fn conclude<T>(&self, begun: Begun<'_>, outcome: Result<T>, span: Span) -> Result<T> {
        begun.conclude(outcome).map_err(|error| self.locate(error, span))
    }

    fn locate(&self, error: Error, span: Span) -> Error {
        match error {
            Error::Cancelled | Error::Dockerfile(_) | Error::Located { .. } => error,
            other => {
                let fault = self.source.fault(span, "");
                let excerpt = format!("{}:{}\n{}", self.source.name(), fault.place().line, fault.excerpt());
                Error::Located { excerpt, source: Box::new(other) }
            }
        }
    }

    fn statement(&mut self, statement: &Statement) -> Result<()> {
        if self.solver.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let source = self.source.clone();
        let Step { created_by, effect } = self.state.apply(Site { source: &source, escape: self.escape }, statement)?;
        let text = &statement.text;
        let begun;
        let solved = match effect {
            Effect::Config => {
                self.history.entries.extend(created_by.map(|created_by| Entry { created_by, created: None, empty: true }));
                return Ok(());
            }
            Effect::Workdir(path) => {
                begun = self.begin_step(text);
                self.workdir(&path, &begun)
            }
            Effect::Run(run) => {
                begun = self.begin_step(text);
                exec::run(self, text, &run, &begun)
            }
            Effect::Transfer(transfer) => {
                begun = self.begin_step(text);
                copy::copy(self, text, &transfer, &begun)
            }
        };
        let solved = match solved {
            Ok(solved) if solved.cached => {
                begun.cached();
                solved
            }
            outcome => self.conclude(begun, outcome, statement.span)?,
        };
        self.layers = solved.layers;
        let layer = self.layers.last().filter(|_| solved.added).cloned();
        self.history.steps.push(cache::Step { key: solved.key, description: text.clone(), created: solved.created, layer });
        let entry = |created_by| Entry { created_by, created: Some(solved.created), empty: !solved.added };
        self.history.entries.extend(created_by.map(entry));
        Ok(())
    }

    /// Makes the working directory if it is not there.
    fn workdir(&mut self, path: &str, begun: &Begun<'_>) -> Result<Solved> {
        let mut key = Key::new("workdir", self.below());
        key.field("path", path);
        key.field("user", self.user());
        let description = format!("WORKDIR {path}");
        let shared = self.solver.shared;
        let work = Work { key: key.finish(), description: &description, below: &self.layers, anew: self.anew, shared, begun };
        cache::solve(self.engine, &work, |draft| self.make_directory(draft, path))
    }

    /// False: it was there.
    fn make_directory(&self, draft: &Draft, path: &str) -> Result<bool> {
        let root = self.tree(draft)?;
        if rooted::open(root.as_fd(), Path::new(path), OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(false);
        }
        let user = User { name: self.user().to_owned(), groups: Vec::new() };
        let (uid, gid) = if user.name.is_empty() { (0, 0) } else { account(root.as_fd(), &user)? };
        super::transfer::make_directory(root.as_fd(), path.as_bytes(), (Uid::from_raw(uid), Gid::from_raw(gid)))?;
        Ok(true)
    }

    /// As `USER` says; empty: root.
    fn user(&self) -> String {
        self.state.config().user.unwrap_or_default()
    }

    /// The chain id of the layers so far.
    pub fn below(&self) -> Option<&str> {
        self.layers.last().map(String::as_str)
    }

    /// The tree so far with the draft over it, mounted nowhere.
    pub fn tree(&self, draft: &Draft) -> Result<OwnedFd> {
        let overlay = draft.overlay(&self.engine.privilege.roots, &self.engine.db, &self.layers)?;
        Ok(BindSource { target: "/".into(), base: Base::Overlay(overlay), subpath: None }.open()?)
    }
}

/// What the configuration of a base says: one that cannot be read is no base, rather than one without any setting.
fn described(name: &str, image: &Image) -> Result<ImageDocument> {
    serde_json::from_slice(&image.config).map_err(|e| Error::invalid(format!("the configuration of image {name} cannot be read: {e}")))
}

/// The lines of a pull that are worth showing among others.
fn pull_line(event: &image::Progress) -> Option<String> {
    match event {
        image::Progress::Note(text) => Some(text.clone()),
        image::Progress::Done { id } => Some(format!("{id}: Pull complete")),
        image::Progress::Retrying { id, seconds, why } => Some(format!("{id}: Retrying in {seconds} seconds: {why}")),
        _ => None,
    }
}
