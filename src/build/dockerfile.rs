//! The Dockerfile language: text in, stages and instructions with their places out. No I/O and no decisions.
//!
//! Hostile text is bounded: sizes and counts have limits (4 MiB, 10,000 instructions, 1,000 stages, 10,000 sources of a COPY, 100
//! here-documents of an instruction, 256 KiB of a word, 4 MiB of a body, 32 substitutions in each other), nothing recurses deeper than a few calls, and all work is
//! proportional to the text.

mod expand;
mod glob;
mod instruction;
mod line;
mod mount;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod words;

pub use expand::{Expanded, expand, expand_body};
pub use instruction::{Argument, Command, Form, Healthcheck, Instruction, Origin, Pair, Run, RunNetwork, Security, Stage, Statement, Transfer};
pub use line::{Checks, Directives, Heredoc};
pub use mount::{Cache, Handed, Mount, Sharing};
pub use source::{Fault, Source, Span};
pub use words::Word;

use line::Lines;
use read::{Parsed, read};
use std::sync::Arc;

/// Most bytes of a Dockerfile.
const SIZE_LIMIT: usize = 4 << 20;
/// Most instructions of a Dockerfile.
const INSTRUCTION_LIMIT: usize = 10_000;
const STAGE_LIMIT: usize = 1_000;

/// A Dockerfile that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    pub source: Arc<Source>,
    pub directives: Directives,
    /// `ARG` before the first `FROM`.
    pub globals: Vec<Statement>,
    pub stages: Vec<Stage>,
    /// What the lines themselves give reason to warn of; `lint` adds the rest.
    pub warnings: Vec<Warning>,
}

/// Something that works, but is likely to be a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The name under which `# check=skip=` knows it.
    pub rule: &'static str,
    pub text: String,
    pub span: Span,
}

impl Dockerfile {
    /// The stage that a name or a number means, looked for among the first `before`: names first, the last of one name.
    pub fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let before = before.min(self.stages.len());
        let name = name.to_ascii_lowercase();
        let named = self.stages[..before].iter().rposition(|stage| stage.key().as_deref() == Some(name.as_str()));
        named.or_else(|| name.parse().ok().filter(|index| *index < before))
    }

    /// An error at a place of this file.
    pub fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        self.source.fault(span, message)
    }
}

/// Reads a Dockerfile; `name` is what errors call it.
///
/// # Errors
/// The first thing in it that cannot be read, with its place.
pub fn parse(text: &[u8], name: &str) -> Result<Dockerfile, Fault> {
    let whole = if text.len() > SIZE_LIMIT { &[] } else { text };
    let source = Arc::new(Source::new(whole, name));
    if text.len() > SIZE_LIMIT {
        return Err(source.fault(Span::default(), format!("it has {} bytes; at most {SIZE_LIMIT} are read", text.len())));
    }
    let mut lines = Lines::new(&source)?;
    let escape = lines.directives.escape();
    let (mut globals, mut stages, mut warnings) = (Vec::new(), Vec::<Stage>::new(), Vec::new());
    let mut count = 0;
    while let Some(logical) = lines.next()? {
        count += 1;
        if count > INSTRUCTION_LIMIT {
            return Err(source.fault(logical.span, format!("more than {INSTRUCTION_LIMIT} instructions")));
        }
        let empty = logical.empty.first().map(|first| logical.empty.iter().fold(*first, |all, next| all.to(*next)));
        warnings.extend(empty.map(|span| Warning { rule: "NoEmptyContinuation", text: "an empty line within an instruction".to_owned(), span }));
        match read(&source, &logical, escape)? {
            Parsed::From(_) if stages.len() == STAGE_LIMIT => {
                return Err(source.fault(logical.span, format!("more than {STAGE_LIMIT} stages")));
            }
            Parsed::From(stage) => stages.push(stage),
            Parsed::Statement(statement) => match stages.last_mut() {
                Some(stage) => stage.instructions.push(statement),
                None if matches!(statement.instruction, Instruction::Arg(_)) => globals.push(statement),
                None => {
                    let fault = source.fault(statement.keyword.span, format!("{} stands before the first FROM", statement.keyword.text));
                    return Err(fault.hint("begin with FROM; only ARG may stand before it"));
                }
            },
        }
    }
    let directives = lines.directives;
    if stages.is_empty() {
        let span = source.line(0);
        let what = if count == 0 { "it has no instructions" } else { "it has no FROM" };
        return Err(source.fault(span, what).hint("begin with FROM and an image, or FROM scratch"));
    }
    Ok(Dockerfile { source, directives, globals, stages, warnings })
}

/// Reads an `ONBUILD` trigger of a base image; `name` is what errors call it.
///
/// # Errors
/// The text is no single instruction that a trigger may be.
pub fn parse_trigger(text: &str, name: &str) -> Result<(Arc<Source>, Statement), Fault> {
    let source = Arc::new(Source::new(text.as_bytes(), name));
    if text.len() > SIZE_LIMIT {
        return Err(source.fault(Span::default(), format!("a trigger has more than {SIZE_LIMIT} bytes")));
    }
    let mut lines = Lines::new(&source)?;
    let Some(logical) = lines.next()? else { return Err(source.fault(Span::default(), "an ONBUILD trigger is empty")) };
    let statement = match read(&source, &logical, '\\')? {
        Parsed::Statement(statement) if !matches!(statement.instruction, Instruction::Onbuild(_) | Instruction::Maintainer(_)) => statement,
        _ => return Err(source.fault(logical.span, "this cannot be an ONBUILD trigger")),
    };
    match lines.next()? {
        Some(more) => Err(source.fault(more.span, "an ONBUILD trigger is one instruction")),
        None => Ok((source, statement)),
    }
}
