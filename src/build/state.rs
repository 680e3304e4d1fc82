//! A stage while its instructions are applied: config, variables, history texts. No I/O: what an instruction does to files
//! or runs is handed back, its words expanded.

mod arguments;
mod history;
#[cfg(test)]
mod tests;
mod variables;

pub use arguments::Arguments;

use super::dockerfile::{
    Argument, Command, Fault, Form, Healthcheck, Heredoc, Instruction, Mount, Origin, Pair, Run, RunNetwork, Security, Source, Span, Statement,
    Transfer, Warning, Word, expand, expand_body,
};
use crate::oci::{ImageDefaults, exposed_ports};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use variables::Variables;

/// What a command of the shell form is given to.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The search path where the base has none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a script of a here-document is while it runs.
pub const SCRIPTS: &str = "/dev/pipes";
/// Most bytes that all words of a build may become.
const TOTAL_LIMIT: usize = 32 << 20;
/// Most warnings of one stage.
const WARNING_LIMIT: usize = 100;
/// Most variables among which the one that was meant is looked for.
const CANDIDATES: usize = 1_000;

/// A stage between two instructions.
#[derive(Debug, Clone)]
pub struct ImageState {
    /// All but the environment, which `variables` holds.
    config: ImageDefaults,
    pub author: Option<String>,
    variables: Variables,
    arguments: Arc<Arguments>,
    /// This stage set CMD itself.
    cmd_set: bool,
    /// Bytes that words have become.
    spent: usize,
    /// Undefined variables that were used.
    pub warnings: Vec<Warning>,
}

/// What an instruction came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Of the history entry; None adds none.
    pub created_by: Option<String>,
    pub effect: Effect,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Nothing but the config changed.
    Config,
    /// The directory must be there; only `/` needs no layer for it.
    Workdir(String),
    Run(Box<RunStep>),
    Transfer(Box<TransferStep>),
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    pub argv: Vec<String>,
    /// `KEY=value`: the environment, then arguments that it lacks, then PATH if nobody sets it.
    pub environment: Vec<String>,
    /// Proxies that no ARG declared: for the process alone, not for keys.
    pub proxies: Vec<String>,
    pub directory: String,
    pub user: Option<String>,
    /// File name and content of a script with its own interpreter, to be put into [`SCRIPTS`] read-only with mode 0755.
    pub script: Option<(String, String)>,
    pub mounts: Vec<Mount>,
    pub network: RunNetwork,
    pub security: Security,
}

/// Files to bring in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferStep {
    /// `ADD`, else `COPY`.
    pub add: bool,
    pub sources: Vec<Given>,
    /// As written, or joined to nothing: it may be relative to `directory`.
    pub destination: String,
    /// The working directory.
    pub directory: String,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<String>,
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    Path(String),
    /// A here-document as a file.
    File {
        name: String,
        content: String,
    },
}

/// Where an instruction was read.
#[derive(Debug, Clone, Copy)]
pub struct Site<'s> {
    pub source: &'s Source,
    pub escape: char,
}

impl ImageState {
    /// On a base image.
    pub fn new(config: ImageDefaults, author: Option<String>, arguments: Arc<Arguments>) -> Self {
        let variables = Variables::new(config.env.as_deref().unwrap_or_default());
        ImageState { config, author, variables, arguments, cmd_set: false, spent: 0, warnings: Vec::new() }
    }

    /// `FROM scratch`.
    pub fn scratch(arguments: Arc<Arguments>) -> Self {
        let config = ImageDefaults { env: Some(vec![format!("PATH={PATH}")]), working_dir: Some("/".to_owned()), ..ImageDefaults::default() };
        ImageState::new(config, None, arguments)
    }

    /// A stage built `FROM` this one: arguments stay declared, a CMD counts as inherited.
    #[must_use]
    pub fn child(&self) -> Self {
        ImageState { cmd_set: false, warnings: Vec::new(), ..self.clone() }
    }

    /// The config of the image that the stage is now.
    pub fn config(&self) -> ImageDefaults {
        let environment = self.variables.environment();
        ImageDefaults { env: (!environment.is_empty()).then_some(environment), ..self.config.clone() }
    }

    /// The triggers of the base image, which the child does not inherit.
    pub fn take_triggers(&mut self) -> Vec<String> {
        self.config.on_build.take().unwrap_or_default()
    }

    pub fn label(&mut self, key: &str, value: &str) {
        self.config.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }

    /// Absolute.
    pub fn directory(&self) -> String {
        joined("/", self.config.working_dir.as_deref().unwrap_or("/"))
    }

    /// A variable as an instruction sees it.
    #[cfg(test)]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.find(name)
    }

    /// Applies one instruction.
    ///
    /// # Errors
    /// A word that cannot be expanded, or a value that the instruction does not take.
    pub fn apply(&mut self, site: Site<'_>, statement: &Statement) -> Result<Step, Fault> {
        let created_by = match &statement.instruction {
            Instruction::Add(transfer) => return self.transfer(site, transfer, true),
            Instruction::Copy(transfer) => return self.transfer(site, transfer, false),
            Instruction::Run(run) => return self.run(site, run),
            Instruction::Workdir(path) => {
                let path = joined(&self.directory(), &self.word(site, path)?);
                self.config.working_dir = Some(path.clone());
                return Ok(Step { created_by: Some(format!("WORKDIR {path}")), effect: Effect::Workdir(path) });
            }
            Instruction::Onbuild(trigger) => {
                self.config.on_build.get_or_insert_default().push(trigger.text.clone());
                return Ok(Step { created_by: None, effect: Effect::Config });
            }
            Instruction::Env(pairs) => {
                let pairs = self.pairs(site, pairs)?;
                for (key, value) in &pairs {
                    self.variables.set(key, value.clone());
                }
                history::pairs("ENV", &pairs)
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(site, pairs)?;
                self.config.labels.get_or_insert_default().extend(pairs.iter().cloned());
                history::pairs("LABEL", &pairs)
            }
            Instruction::Arg(list) => self.arg(site, list)?,
            Instruction::Cmd(command) => {
                let words = self.argv(command);
                self.cmd_set = true;
                self.config.cmd = Some(words.clone());
                history::command("CMD", &words)
            }
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Expose(words) => self.expose(site, words)?,
            Instruction::Healthcheck(check) => self.healthcheck(check),
            Instruction::Maintainer(author) => {
                self.author = Some(author.text.clone());
                format!("MAINTAINER {}", author.text)
            }
            Instruction::Shell(words) => {
                self.config.shell = Some(words.clone());
                history::list("SHELL", words)
            }
            Instruction::Stopsignal(signal) => self.stopsignal(site, signal)?,
            Instruction::User(word) => {
                let user = self.word(site, word)?;
                if user.is_empty() {
                    return Err(site.source.fault(word.span, "USER needs a name or a number; its variables are empty"));
                }
                self.config.user = Some(user.clone());
                format!("USER {user}")
            }
            Instruction::Volume(words) => self.volume(site, words)?,
        };
        Ok(Step { created_by: Some(created_by), effect: Effect::Config })
    }

    fn spend(&mut self, site: Site<'_>, span: Span, bytes: usize) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > TOTAL_LIMIT {
            return Err(site.source.fault(span, format!("the words of the build grow beyond {TOTAL_LIMIT} bytes")));
        }
        Ok(())
    }

    /// Warns of variables that are neither set nor declared.
    fn note(&mut self, span: Span, undefined: &BTreeSet<String>) {
        for name in undefined {
            let real = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if !real || name == "PATH" || self.variables.declared(name) || self.warnings.len() >= WARNING_LIMIT {
                continue;
            }
            let near = crate::base::nearest(name, self.variables.names().take(CANDIDATES));
            let meant = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
            self.warnings.push(Warning { rule: "UndefinedVar", text: format!("the variable ${name} is not defined{meant}"), span });
        }
    }

    fn word(&mut self, site: Site<'_>, word: &Word) -> Result<String, Fault> {
        let variables = &self.variables;
        let expanded = expand(&word.text, site.escape, &|name| variables.find(name)).map_err(|why| site.source.fault(word.span, why))?;
        self.spend(site, word.span, expanded.text.len())?;
        self.note(word.span, &expanded.undefined);
        Ok(expanded.text)
    }

    fn option(&mut self, site: Site<'_>, word: Option<&Word>) -> Result<Option<String>, Fault> {
        Ok(word.map(|word| self.word(site, word)).transpose()?.filter(|text| !text.is_empty()))
    }

    /// All words see the values from before the instruction.
    fn pairs(&mut self, site: Site<'_>, pairs: &[Pair]) -> Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        for pair in pairs {
            let key = self.word(site, &pair.key)?;
            if key.is_empty() || key.contains('=') {
                return Err(site.source.fault(pair.key.span, "this is no name of a variable or label"));
            }
            found.push((key, self.word(site, &pair.value)?));
        }
        Ok(found)
    }

    fn arg(&mut self, site: Site<'_>, list: &[Argument]) -> Result<String, Fault> {
        let mut values = Vec::new();
        for argument in list {
            let name = self.word(site, &argument.name)?;
            let value = match (self.arguments.given(&name).map(str::to_owned), &argument.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.word(site, default)?),
                (None, None) => self.arguments.inherited(&name).map(str::to_owned),
            };
            self.spend(site, argument.name.span, value.as_ref().map_or(0, String::len))?;
            values.push((name, value));
        }
        for (name, value) in &values {
            self.variables.declare(name, value.clone());
        }
        Ok(history::arguments(&values))
    }

    fn with_shell(&self, line: &str) -> Vec<String> {
        let shell = self.config.shell.clone().filter(|shell| !shell.is_empty());
        shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec()).into_iter().chain([line.to_owned()]).collect()
    }

    fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => self.with_shell(&line.text),
        }
    }

    /// A CMD that the base set does not fit another entrypoint; one that this stage set is meant for it.
    fn entrypoint(&mut self, command: &Command) -> String {
        let words = self.argv(command);
        self.config.entrypoint = (!words.is_empty()).then(|| words.clone());
        if !self.cmd_set {
            self.config.cmd = None;
        }
        history::command("ENTRYPOINT", &words)
    }

    fn expose(&mut self, site: Site<'_>, words: &[Word]) -> Result<String, Fault> {
        let mut all: Vec<String> = Vec::new();
        for word in words {
            let variables = &self.variables;
            let expanded = expand(&word.text, site.escape, &|name| variables.find(name)).map_err(|why| site.source.fault(word.span, why))?;
            self.note(word.span, &expanded.undefined);
            for port in &expanded.words {
                let no_port = || site.source.fault(word.span, format!("\"{}\" is no port", port.escape_debug()));
                let ports = exposed_ports(port).ok_or_else(|| no_port().hint("ports are written 80, 80/udp, 8000-8010/tcp"))?;
                self.spend(site, word.span, 64 * ports.len())?;
                all.extend(ports);
            }
        }
        let known = self.config.exposed_ports.get_or_insert_default();
        known.extend(all.iter().map(|port| (port.clone(), json!({}))));
        let mut seen = BTreeSet::new();
        all.retain(|port| seen.insert(port.clone()));
        Ok(history::list("EXPOSE", &all))
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> String {
        let (test, timing) = match check {
            Healthcheck::None => (vec!["NONE".to_owned()], Default::default()),
            Healthcheck::Check { command, timing } => {
                let (kind, words) = match command {
                    Command::Shell(line) => ("CMD-SHELL", vec![line.text.clone()]),
                    Command::Exec(words) => ("CMD", words.clone()),
                };
                (std::iter::once(kind.to_owned()).chain(words).collect(), *timing)
            }
        };
        let durations = [timing.interval, timing.timeout, timing.start_period, timing.start_interval];
        let mut value = serde_json::Map::new();
        value.insert("Test".to_owned(), json!(test));
        for (key, nanos) in ["Interval", "Timeout", "StartPeriod", "StartInterval"].iter().zip(durations).filter(|(_, nanos)| *nanos != 0) {
            value.insert((*key).to_owned(), json!(nanos));
        }
        if timing.retries != 0 {
            value.insert("Retries".to_owned(), json!(timing.retries));
        }
        self.config.healthcheck = Some(Value::Object(value));
        history::healthcheck(&test, durations, timing.retries)
    }

    fn stopsignal(&mut self, site: Site<'_>, word: &Word) -> Result<String, Fault> {
        let text = self.word(site, word)?;
        text.parse::<crate::base::Signal>().map_err(|why| site.source.fault(word.span, why))?;
        self.config.stop_signal = Some(text.clone());
        Ok(format!("STOPSIGNAL {text}"))
    }

    fn volume(&mut self, site: Site<'_>, words: &[Word]) -> Result<String, Fault> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.word(site, word)?;
            if path.is_empty() {
                return Err(site.source.fault(word.span, "VOLUME needs a path; its variables are empty"));
            }
            paths.push(path);
        }
        self.config.volumes.get_or_insert_default().extend(paths.iter().map(|path| (path.clone(), json!({}))));
        Ok(history::list("VOLUME", &paths))
    }

    fn run(&mut self, site: Site<'_>, run: &Run) -> Result<Step, Fault> {
        let mut script = None;
        let argv = match &run.form {
            Form::Shell(line) => self.with_shell(&line.text),
            Form::Exec(words) => words.clone(),
            Form::Script(heredoc) => {
                let body = heredoc.body();
                if body.starts_with("#!") {
                    let name = heredoc.name.replace('/', "_");
                    let argv = vec![format!("{SCRIPTS}/{name}")];
                    script = Some((name, body));
                    argv
                } else {
                    self.with_shell(&body)
                }
            }
            // The shell reads the here-documents: they are put back behind the line.
            Form::Heredocs(line, heredocs) => {
                let bodies: String = heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.raw, heredoc.name)).collect();
                self.with_shell(&format!("{}{bodies}", line.text))
            }
        };
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            let resolved = mount.resolve(&mut |value| {
                let word = Word { text: value.to_owned(), span: mount.span };
                self.word(site, &word).map_err(|fault| fault.message().to_owned())
            });
            mounts.push(resolved.map_err(|why| site.source.fault(mount.span, why))?);
        }
        let mut environment = self.variables.environment();
        let missing = self.variables.arguments().filter(|(name, _)| !self.variables.has(name));
        environment.extend(missing.filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))));
        if self.variables.find("PATH").is_none() {
            environment.push(format!("PATH={PATH}"));
        }
        let undeclared = self.arguments.proxies().filter(|(name, _)| self.variables.find(name).is_none());
        let created_by = history::run(self.variables.arguments(), &argv);
        let step = RunStep {
            proxies: undeclared.map(|(name, value)| format!("{name}={value}")).collect(),
            argv,
            environment,
            directory: self.directory(),
            user: self.config.user.clone().filter(|user| !user.is_empty()),
            script,
            mounts,
            network: run.network,
            security: run.security,
        };
        Ok(Step { created_by: Some(created_by), effect: Effect::Run(Box::new(step)) })
    }

    fn content(&mut self, site: Site<'_>, heredoc: &Heredoc) -> Result<String, Fault> {
        let body = heredoc.body();
        if !heredoc.expand {
            return Ok(body);
        }
        let variables = &self.variables;
        let expanded = expand_body(&body, &|name| variables.find(name)).map_err(|why| site.source.fault(heredoc.span, why))?;
        self.spend(site, heredoc.span, expanded.text.len())?;
        self.note(heredoc.span, &expanded.undefined);
        Ok(expanded.text)
    }

    fn transfer(&mut self, site: Site<'_>, transfer: &Transfer, add: bool) -> Result<Step, Fault> {
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for origin in &transfer.sources {
            match origin {
                Origin::Path(word) => paths.push(Given::Path(self.word(site, word)?)),
                Origin::Heredoc(heredoc) => files.push(Given::File { name: heredoc.name.clone(), content: self.content(site, heredoc)? }),
            }
        }
        let exclude = transfer.exclude.iter().map(|word| self.word(site, word)).collect::<Result<_, _>>()?;
        let step = TransferStep {
            add,
            sources: paths.into_iter().chain(files).collect(),
            destination: self.word(site, &transfer.destination)?,
            directory: self.directory(),
            from: transfer.from.as_ref().map(|from| from.text.clone()),
            chown: self.option(site, transfer.chown.as_ref())?,
            chmod: self.option(site, transfer.chmod.as_ref())?,
            link: transfer.link,
            parents: transfer.parents,
            exclude,
            checksum: self.option(site, transfer.checksum.as_ref())?,
            keep_git_dir: transfer.keep_git_dir,
            unpack: transfer.unpack,
        };
        if step.destination.is_empty() {
            return Err(site.source.fault(transfer.destination.span, "the destination is empty; its variables are not set"));
        }
        let mut words = Vec::new();
        words.extend(step.parents.then(|| "--parents".to_owned()));
        words.extend(step.chown.iter().map(|owner| format!("--chown={owner}")));
        words.extend(step.chmod.iter().map(|mode| format!("--chmod={mode}")));
        words.extend(step.sources.iter().map(|source| match source {
            Given::Path(path) => path.clone(),
            Given::File { name, .. } => format!("<<{name}"),
        }));
        words.push(step.destination.clone());
        let created_by = history::transfer(if add { "ADD" } else { "COPY" }, &words);
        Ok(Step { created_by: Some(created_by), effect: Effect::Transfer(Box::new(step)) })
    }
}

/// `path` beneath `base`, without `.`, `..` and double slashes.
pub fn joined(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
