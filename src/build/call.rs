//! What a Dockerfile offers, without a build: its stages (`--call targets`), and what one of them can be given (`outline`).

use super::dockerfile::{Argument, Dockerfile, Instruction, Span, Stage, Statement};
use super::error::Result;
use super::progress::{Begun, Numbers, Sink};
use super::request::BuildRequest;
use super::solve::{self, Solver};
use super::{load, platform, shared, standard_input};
use crate::engine::Engine;
use std::collections::BTreeMap;

/// Lines of a place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    pub first: usize,
    pub last: usize,
}

/// The stages that can be built.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    pub targets: Vec<Target>,
    pub source: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// None: the stage has no name.
    pub name: Option<String>,
    /// It is what is built when none is asked for.
    pub default: bool,
    pub description: Option<String>,
    pub base: String,
    pub platform: Option<String>,
    pub lines: Lines,
}

/// What a build of one stage can be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    pub name: Option<String>,
    pub description: Option<String>,
    pub arguments: Vec<Parameter>,
    pub secrets: Vec<Wanted>,
    pub agents: Vec<Wanted>,
    pub source: Vec<u8>,
}

/// An `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// What it has: given, or its default.
    pub value: Option<String>,
    pub description: Option<String>,
    pub lines: Lines,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub id: String,
    pub required: bool,
    pub lines: Lines,
}

fn lines(file: &Dockerfile, span: Span) -> Lines {
    let first = file.source.place(span.start).line;
    Lines { first, last: file.source.place(span.end.saturating_sub(1).max(span.start)).line }
}

/// The stages of the Dockerfile in their order.
///
/// # Errors
/// The context or the Dockerfile cannot be read; there is no such target.
pub fn targets(engine: &Engine, request: &BuildRequest, sink: Sink<'_>) -> Result<Targets> {
    let begun = Begun::new(sink, &Numbers::default(), &engine.cancel, "[internal] load build definition".to_owned());
    let loaded = standard_input(engine).and_then(|mut input| load(engine, request, &mut input, &begun));
    let (file, _, text) = begun.conclude(loaded)?;
    let default = solve::target(&file, request.target.as_deref())?;
    let target = |(index, stage): (usize, &Stage)| Target {
        name: stage.name.as_ref().map(|name| name.text.clone()),
        default: index == default,
        description: stage.comment.clone(),
        base: stage.base.text.clone(),
        platform: stage.platform.as_ref().map(|platform| platform.text.clone()),
        lines: lines(&file, stage.span),
    };
    Ok(Targets { targets: file.stages.iter().enumerate().map(target).collect(), source: text.text })
}

/// What the target, with all stages that it needs, can be given.
///
/// # Errors
/// As [`targets`]; a default that cannot be expanded.
pub fn outline(engine: &Engine, request: &BuildRequest, sink: Sink<'_>) -> Result<Outline> {
    let numbers = Numbers::default();
    let begun = Begun::new(sink, &numbers, &engine.cancel, "[internal] load build definition".to_owned());
    let loaded = standard_input(engine).and_then(|mut input| load(engine, request, &mut input, &begun));
    let (file, context, text) = begun.conclude(loaded)?;
    let target = solve::target(&file, request.target.as_deref())?;
    let shared = shared::Shared::new(engine, false);
    let platform = platform::wanted(request)?.swap_remove(0);
    let solver = Solver::new(request, (platform, &shared), (&file, &context), (sink, &numbers, &engine.cancel))?;
    let needed = solver.needed_for(target)?;
    let stages = || file.stages.iter().enumerate().filter(|(index, _)| needed[*index]).map(|(_, stage)| stage);
    let mut outline = Outline {
        name: file.stages[target].name.as_ref().map(|name| name.text.clone()),
        description: file.stages[target].comment.clone(),
        arguments: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
        source: text.text,
    };
    let mut collector = Collector { file: &file, solver: &solver, found: BTreeMap::new() };
    for statement in file.globals.iter().filter(|statement| stages().any(|stage| uses(&file, stage, statement))) {
        collector.arguments(statement, None);
    }
    for stage in stages() {
        for statement in &stage.instructions {
            collector.arguments(statement, Some(stage));
            outline.handed(&file, statement);
        }
    }
    outline.arguments = collector.found.into_values().collect();
    outline.arguments.sort_by_key(|argument| argument.lines.first);
    Ok(outline)
}

/// Whether a stage's `FROM` uses an argument of the global scope, or the stage takes one over, directly or through others.
fn uses(file: &Dockerfile, stage: &Stage, global: &Statement) -> bool {
    let Instruction::Arg(list) = &global.instruction else { return false };
    let refers = |text: &str, name: &str| text.contains(&format!("${name}")) || text.contains(&format!("${{{name}"));
    list.iter().any(|argument| {
        let name = &argument.name.text;
        let in_from = refers(&stage.base.text, name) || stage.platform.as_ref().is_some_and(|platform| refers(&platform.text, name));
        let taken = stage.instructions.iter().any(|statement| match &statement.instruction {
            Instruction::Arg(list) => list.iter().any(|own| own.name.text == *name && own.default.is_none()),
            _ => false,
        });
        let later = file.globals.iter().filter(|other| other.span.start > global.span.start);
        let through = later.filter(|other| match &other.instruction {
            Instruction::Arg(list) => list.iter().any(|other| other.default.as_ref().is_some_and(|default| refers(&default.text, name))),
            _ => false,
        });
        in_from || taken || through.into_iter().any(|other| uses(file, stage, other))
    })
}

/// The comment above that begins with the argument's name, without it.
fn described(statement: &Statement, name: &str) -> Option<String> {
    statement.comments.iter().find_map(|(comment, _)| Some(comment.strip_prefix(name)?.strip_prefix(' ')?.trim().to_owned()))
}

struct Collector<'a> {
    file: &'a Dockerfile,
    solver: &'a Solver<'a>,
    /// The first declaration of a name tells where; what it lacks is taken from later ones.
    found: BTreeMap<String, Parameter>,
}

impl Collector<'_> {
    fn arguments(&mut self, statement: &Statement, stage: Option<&Stage>) {
        let Instruction::Arg(list) = &statement.instruction else { return };
        for argument in list {
            let name = argument.name.text.clone();
            let value = self.value(argument, stage);
            let description = described(statement, &name);
            let lines = lines(self.file, statement.span);
            // The automatic ones are no choice of the user's.
            if value.is_none() && self.solver.is_automatic(&name) {
                continue;
            }
            let known = self.found.entry(name.clone()).or_insert(Parameter { name, value: None, description: None, lines });
            known.value = known.value.take().or(value);
            known.description = known.description.take().or(description);
        }
    }

    fn value(&self, argument: &Argument, stage: Option<&Stage>) -> Option<String> {
        let name = &argument.name.text;
        if let Some(given) = self.solver.arguments.given(name) {
            return Some(given.to_owned());
        }
        match (&argument.default, stage) {
            (None, _) if self.solver.is_automatic(name) => None,
            (_, None) | (None, Some(_)) => self.solver.arguments.inherited(name).map(str::to_owned),
            // With what the stage's own variables make of it, which only a build knows.
            (Some(default), Some(_)) if default.varies() => Some(default.text.clone()),
            (Some(default), Some(_)) => self.solver.arguments.global(self.file, default).ok().map(|expanded| expanded.text),
        }
    }
}

impl Outline {
    fn handed(&mut self, file: &Dockerfile, statement: &Statement) {
        let Instruction::Run(run) = &statement.instruction else { return };
        for mount in &run.mounts {
            let value = |wanted: &str| mount.options.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| value.as_deref());
            let (list, usual) = match value("type").flatten() {
                Some("secret") => (&mut self.secrets, value("target").flatten().and_then(|path| path.rsplit('/').next())),
                Some("ssh") => (&mut self.agents, Some("default")),
                _ => continue,
            };
            let Some(id) = value("id").flatten().or(usual) else { continue };
            let required =
                value("required").is_some_and(|value| value.is_none_or(|value| crate::engine::request::parse_bool(value).unwrap_or(false)));
            match list.iter_mut().find(|known| known.id == id) {
                Some(known) => known.required |= required,
                None => list.push(Wanted { id: id.to_owned(), required, lines: lines(file, statement.span) }),
            }
        }
    }
}
