//! What a Dockerfile says, instruction by instruction, before any variable is expanded.

use super::line::{Checks, Heredoc};
use super::mount::MountText;
use super::source::Span;
use super::words::Word;

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// As written; names are compared in lower case.
    pub name: Option<Word>,
    /// An image, an earlier stage or a named context; variables of the global scope are expanded in it.
    pub base: Word,
    /// `--platform`, unexpanded.
    pub platform: Option<Word>,
    pub instructions: Vec<Statement>,
    /// From the comment directly above, if it begins with the stage's name.
    pub comment: Option<String>,
    /// The lines of `FROM`.
    pub span: Span,
    pub keyword: Word,
    /// `AS`, as written.
    pub as_keyword: Option<Word>,
    /// All comments directly above.
    pub comments: Vec<(String, Span)>,
    pub checks: Option<Checks>,
}

impl Stage {
    /// The name in the form in which it is looked up.
    pub fn key(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.text.to_ascii_lowercase())
    }
}

/// One instruction of a stage, or `ARG` before the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub instruction: Instruction,
    /// As written: `RUN`, `run`.
    pub keyword: Word,
    /// All its lines, here-documents included.
    pub span: Span,
    /// The joined line without comments and here-documents, as progress shows it.
    pub text: String,
    pub comments: Vec<(String, Span)>,
    pub checks: Option<Checks>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    Add(Transfer),
    Arg(Vec<Argument>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(Trigger),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `NAME` or `NAME=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub name: Word,
    pub default: Option<Word>,
}

/// `KEY=value` of `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: Word,
    pub value: Word,
    /// `KEY value`, the old form.
    pub legacy: bool,
}

/// A command in one of its two forms; it is never expanded here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Shell(Word),
    Exec(Vec<String>),
}

/// What `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    Shell(Word),
    Exec(Vec<String>),
    /// One here-document and nothing else: the script itself.
    Script(Heredoc),
    /// A shell line that opens here-documents: the shell reads them.
    Heredocs(Word, Vec<Heredoc>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub form: Form,
    pub mounts: Vec<MountText>,
    pub network: RunNetwork,
    pub security: Security,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunNetwork {
    #[default]
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// `COPY` and `ADD`. All words are unexpanded; `from` never is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub sources: Vec<Origin>,
    pub destination: Word,
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<Word>,
    pub checksum: Option<Word>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
}

/// Where `COPY` and `ADD` take something from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A path, an URL or a git repository.
    Path(Word),
    Heredoc(Heredoc),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    None,
    Check { command: Command, timing: Timing },
}

/// Nanoseconds as Docker stores them; 0 inherits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: u32,
}

/// What `ONBUILD` keeps for the image built upon this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// As the image's config keeps it.
    pub text: String,
    pub statement: Box<Statement>,
}
