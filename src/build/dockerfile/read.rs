//! From a logical line to an instruction.

use super::expand::raw_words;
use super::instruction::{
    Argument, Command, Form, Healthcheck, Instruction, Origin, Pair, Run, RunNetwork, Security, Stage, Statement, Timing, Transfer, Trigger,
};
use super::line::{Heredoc, Logical, checks};
use super::mount::MountText;
use super::source::{Fault, Source, Span};
use super::words::{Array, Flag, Word, blank_separated, flags, json, quoted};
use crate::base::{go_duration, nearest};

/// Most sources of one COPY or ADD: each is looked for, and may be a directory that is walked again.
const SOURCE_LIMIT: usize = 10_000;

pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
/// What ONBUILD does not take.
const NO_TRIGGERS: [&str; 3] = ["FROM", "MAINTAINER", "ONBUILD"];
/// Least duration of a health check that is not 0.
const SHORTEST: i64 = 1_000_000;

pub enum Parsed {
    From(Stage),
    Statement(Statement),
}

/// A kind of flag: with a value, several times with a value, true or false.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    List,
    Switch,
}

/// An instruction taken apart.
struct Parts<'l> {
    source: &'l Source,
    logical: &'l Logical,
    escape: char,
    /// The keyword in upper case.
    name: String,
    keyword: Word,
    flags: Vec<Flag>,
    /// Where the arguments begin and end in the logical line.
    begin: usize,
    end: usize,
}

/// Reads one logical line.
pub fn read(source: &Source, logical: &Logical, escape: char) -> Result<Parsed, Fault> {
    let parts = Parts::new(source, logical, escape);
    if parts.name == "FROM" {
        return parts.stage().map(Parsed::From);
    }
    let instruction = parts.instruction()?;
    Ok(Parsed::Statement(Statement {
        instruction,
        keyword: parts.keyword.clone(),
        span: logical.span,
        text: logical.text.trim().to_owned(),
        comments: logical.comments.clone(),
        checks: checks(source, &logical.comments)?,
    }))
}

impl<'l> Parts<'l> {
    fn new(source: &'l Source, logical: &'l Logical, escape: char) -> Self {
        let text = &logical.text;
        let start = text.len() - text.trim_start().len();
        let stop = text[start..].find(char::is_whitespace).map_or(text.len(), |at| start + at);
        let (flags, begin) = flags(logical, stop, escape);
        let end = text.trim_end().len().max(begin);
        let keyword = logical.word(start, stop);
        Parts { source, logical, escape, name: keyword.text.to_ascii_uppercase(), keyword, flags, begin, end }
    }

    fn args(&self) -> &'l str {
        &self.logical.text[self.begin..self.end]
    }

    /// All arguments as one word.
    fn whole(&self) -> Word {
        self.logical.word(self.begin, self.end)
    }

    fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        self.source.fault(span, message)
    }

    /// An error about the instruction as a whole.
    fn wrong(&self, message: impl Into<String>) -> Fault {
        let span = if self.begin < self.end { self.whole().span } else { self.keyword.span };
        self.fault(span, message)
    }

    fn instruction(&self) -> Result<Instruction, Fault> {
        if !KEYWORDS.contains(&self.name.as_str()) {
            let fault = self.fault(self.keyword.span, format!("unknown instruction \"{}\"", self.keyword.text.escape_debug()));
            return Err(fault.nearest(&self.name, KEYWORDS));
        }
        let name = &self.name;
        match name.as_str() {
            "ADD" | "COPY" => {}
            "RUN" => {}
            "HEALTHCHECK" => {}
            _ => self.know(&[])?,
        }
        if self.args().is_empty() {
            let fault = self.fault(self.keyword.span, format!("{name} needs an argument"));
            let reset = ["CMD", "ENTRYPOINT"].contains(&name.as_str());
            return Err(if reset { fault.hint(format!("{name} [] takes away what the base image sets")) } else { fault });
        }
        Ok(match name.as_str() {
            "ADD" => Instruction::Add(self.transfer()?),
            "COPY" => Instruction::Copy(self.transfer()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "CMD" => Instruction::Cmd(self.command(self.begin)?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(self.begin)?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "EXPOSE" => Instruction::Expose(self.blank_separated()),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "MAINTAINER" => Instruction::Maintainer(self.whole()),
            "ONBUILD" => Instruction::Onbuild(self.trigger()?),
            "RUN" => Instruction::Run(self.run()?),
            "SHELL" => Instruction::Shell(self.shell()?),
            "STOPSIGNAL" => Instruction::Stopsignal(self.whole()),
            "USER" => Instruction::User(self.whole()),
            "VOLUME" => Instruction::Volume(self.volume()?),
            _ => Instruction::Workdir(self.whole()),
        })
    }

    /// Refuses flags that are not known, lack a value or stand twice.
    fn know(&self, known: &[(&str, Kind)]) -> Result<(), Fault> {
        for (at, flag) in self.flags.iter().enumerate() {
            let shown = flag.name.escape_debug();
            let Some((_, kind)) = known.iter().find(|(name, _)| *name == flag.name) else {
                let fault = self.fault(flag.span, format!("--{shown} is no flag of {}", self.name));
                let near = nearest(&flag.name, known.iter().map(|(name, _)| *name));
                return Err(match near {
                    Some(near) => fault.hint(format!("did you mean --{near}?")),
                    None => fault,
                });
            };
            if *kind != Kind::List && self.flags[..at].iter().any(|before| before.name == flag.name) {
                return Err(self.fault(flag.span, format!("--{shown} stands twice")));
            }
            match (kind, flag.value.as_deref()) {
                (Kind::Switch, None) => {}
                (Kind::Switch, Some(value)) if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => {}
                (Kind::Switch, Some(value)) => {
                    return Err(self.fault(flag.span, format!("--{shown} is true or false, not \"{}\"", value.escape_debug())));
                }
                (_, None) => return Err(self.fault(flag.span, format!("--{shown} needs a value: --{shown}=…"))),
                _ => {}
            }
        }
        Ok(())
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = Word> {
        let given = self.flags.iter().filter(move |flag| flag.name == name);
        given.filter_map(|flag| flag.value.as_ref().filter(|value| !value.is_empty()).map(|value| Word { text: value.clone(), span: flag.span }))
    }

    fn text(&self, name: &str) -> Option<Word> {
        self.texts(name).next()
    }

    fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.flags.iter().find(|flag| flag.name == name)?;
        Some(flag.value.as_ref().is_none_or(|value| value.eq_ignore_ascii_case("true")))
    }

    fn words(&self, ranges: &[(usize, usize)]) -> Vec<Word> {
        ranges.iter().map(|(start, end)| self.logical.word(*start, *end)).collect()
    }

    fn blank_separated(&self) -> Vec<Word> {
        self.words(&blank_separated(&self.logical.text[..self.end], self.begin))
    }

    /// The exec form of what starts at `from`, if it is one.
    fn exec(&self, from: usize) -> Result<Option<Vec<String>>, Fault> {
        match json(&self.logical.text[from..self.end]) {
            None => Ok(None),
            Some(Array::Strings(words)) => Ok(Some(words)),
            Some(Array::Other) => {
                let span = self.logical.span(from, self.end);
                Err(self.fault(span, format!("the array of {} may hold nothing but strings", self.name)))
            }
        }
    }

    fn command(&self, from: usize) -> Result<Command, Fault> {
        Ok(match self.exec(from)? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(self.logical.word(from, self.end)),
        })
    }

    /// Words, or the strings of an array.
    fn list(&self) -> Result<(Vec<Word>, bool), Fault> {
        Ok(match self.exec(self.begin)? {
            Some(words) => (words.into_iter().map(|text| Word { text, span: self.whole().span }).collect(), true),
            None => (self.blank_separated(), false),
        })
    }

    fn stage(&self) -> Result<Stage, Fault> {
        self.know(&[("platform", Kind::Text)])?;
        let words = self.blank_separated();
        let (base, as_keyword, name) = match words.as_slice() {
            [] => return Err(self.fault(self.keyword.span, "FROM needs an image, a stage or scratch")),
            [base] => (base, None, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("AS") => (base, Some(keyword.clone()), Some(name.clone())),
            [_, keyword] if keyword.text.eq_ignore_ascii_case("AS") => return Err(self.fault(keyword.span, "AS needs the name of the stage")),
            [_, other, ..] => {
                let fault = self.fault(other.span, format!("\"{}\" is not expected here", other.text.escape_debug()));
                return Err(fault.hint("FROM is written FROM [--platform=P] IMAGE [AS NAME]"));
            }
        };
        if let Some(name) = &name
            && !valid_stage_name(&name.text)
        {
            let fault = self.fault(name.span, format!("\"{}\" is no name for a stage", name.text.escape_debug()));
            return Err(fault.hint("a name begins with a letter and has letters, digits, '-', '_' and '.'"));
        }
        let comment = name.as_ref().and_then(|name| described(&self.logical.comments, &name.text));
        Ok(Stage {
            name,
            base: base.clone(),
            platform: self.text("platform"),
            instructions: Vec::new(),
            comment,
            span: self.logical.span,
            keyword: self.keyword.clone(),
            as_keyword,
            comments: self.logical.comments.clone(),
            checks: checks(self.source, &self.logical.comments)?,
        })
    }

    fn run(&self) -> Result<Run, Fault> {
        // `--device` is known only to be refused by name.
        self.know(&[("mount", Kind::List), ("network", Kind::Text), ("security", Kind::Text), ("device", Kind::List)])?;
        if let Some(device) = self.texts("device").next() {
            return Err(self.fault(device.span, "--device of RUN is not supported"));
        }
        let choice = |name: &str, known: &[&str]| match self.text(name) {
            None => Ok(0),
            Some(word) => known.iter().position(|known| *known == word.text).ok_or_else(|| {
                let fault = self.fault(word.span, format!("--{name} is {}, not \"{}\"", known.join(" or "), word.text.escape_debug()));
                fault.nearest(&word.text, known.iter().copied())
            }),
        };
        let network = [RunNetwork::Default, RunNetwork::None, RunNetwork::Host][choice("network", &["default", "none", "host"])?];
        let security = [Security::Sandbox, Security::Insecure][choice("security", &["sandbox", "insecure"])?];
        let mount = |word: Word| MountText::parse(&word.text, word.span).map_err(|why| self.fault(word.span, why));
        let mounts = self.texts("mount").map(mount).collect::<Result<_, _>>()?;
        Ok(Run { form: self.form()?, mounts, network, security })
    }

    fn form(&self) -> Result<Form, Fault> {
        let heredocs = &self.logical.heredocs;
        Ok(match self.command(self.begin)? {
            Command::Exec(words) if words.is_empty() => return Err(self.wrong("RUN needs a command")),
            Command::Exec(words) => Form::Exec(words),
            Command::Shell(text) => match heredocs.as_slice() {
                [] => Form::Shell(text),
                [one] if Heredoc::opened(&text.text).is_some() && raw_words(&text.text).is_some_and(|words| words.len() == 1) => {
                    Form::Script(one.clone())
                }
                _ => Form::Heredocs(text, heredocs.clone()),
            },
        })
    }

    fn transfer(&self) -> Result<Transfer, Fault> {
        let shared = [("chown", Kind::Text), ("chmod", Kind::Text), ("link", Kind::Switch), ("exclude", Kind::List)];
        let own: &[(&str, Kind)] = match self.name.as_str() {
            "ADD" => &[("checksum", Kind::Text), ("keep-git-dir", Kind::Switch), ("unpack", Kind::Switch)],
            _ => &[("from", Kind::Text), ("parents", Kind::Switch)],
        };
        self.know(&[shared.as_slice(), own].concat())?;
        let (mut words, array) = self.list()?;
        let destination = words.pop().filter(|_| !words.is_empty());
        let Some(destination) = destination else {
            return Err(self.wrong(format!("{} needs at least one source and a destination", self.name)));
        };
        if !array && Heredoc::opened(&destination.text).is_some() {
            return Err(self.fault(destination.span, "a here-document cannot be the destination"));
        }
        if let Some(more) = words.get(SOURCE_LIMIT) {
            return Err(self
                .fault(more.span, format!("more than {SOURCE_LIMIT} sources in one instruction"))
                .hint("name the directory that they are in"));
        }
        let mut heredocs = self.logical.heredocs.iter();
        let origin = |word: Word| match Heredoc::opened(&word.text).filter(|_| !array).and_then(|_| heredocs.next()) {
            Some(heredoc) => Origin::Heredoc(heredoc.clone()),
            None => Origin::Path(word),
        };
        let sources = words.into_iter().map(origin).collect();
        let from = self.text("from");
        if let Some(from) = from.as_ref().filter(|from| from.varies()) {
            let fault = self.fault(from.span, "--from takes no variables");
            return Err(fault.hint("give the image a name with FROM … AS before the first stage that needs it and use that"));
        }
        Ok(Transfer {
            sources,
            destination,
            from,
            chown: self.text("chown"),
            chmod: self.text("chmod"),
            link: self.switch("link").unwrap_or(false),
            parents: self.switch("parents").unwrap_or(false),
            exclude: self.texts("exclude").collect(),
            checksum: self.text("checksum"),
            keep_git_dir: self.switch("keep-git-dir"),
            unpack: self.switch("unpack"),
        })
    }

    fn arguments(&self) -> Result<Vec<Argument>, Fault> {
        let mut found = Vec::new();
        for (start, end) in quoted(&self.logical.text[..self.end], self.begin, self.escape) {
            let (name, default) = match self.logical.text[start..end].find('=') {
                Some(at) => (self.logical.word(start, start + at), Some(self.logical.word(start + at + 1, end))),
                None => (self.logical.word(start, end), None),
            };
            if name.text.is_empty() {
                return Err(self.fault(self.logical.span(start, end), "ARG needs a name before \"=\""));
            }
            found.push(Argument { name, default });
        }
        Ok(found)
    }

    fn pairs(&self) -> Result<Vec<Pair>, Fault> {
        let text = &self.logical.text[..self.end];
        let ranges = quoted(text, self.begin, self.escape);
        let Some((first, first_end)) = ranges.first().copied() else { return Err(self.wrong(format!("{} needs an argument", self.name))) };
        if !text[first..first_end].contains('=') {
            let stop = text[first..].find(char::is_whitespace).map_or(self.end, |at| first + at);
            let value = self.end - text[stop..].trim_start().len();
            if value >= self.end {
                let fault = self.wrong(format!("{} needs a value for \"{}\"", self.name, text[first..stop].escape_debug()));
                return Err(fault.hint(format!("write {} {}=value", self.name, &text[first..stop])));
            }
            return Ok(vec![Pair { key: self.logical.word(first, stop), value: self.logical.word(value, self.end), legacy: true }]);
        }
        let mut pairs = Vec::new();
        for (start, end) in ranges {
            let span = self.logical.span(start, end);
            let Some(at) = text[start..end].find('=') else {
                let fault = self.fault(span, format!("\"{}\" is not KEY=VALUE", text[start..end].escape_debug()));
                return Err(fault.hint("a value with blanks must be quoted"));
            };
            if at == 0 {
                return Err(self.fault(span, format!("{} needs a name before \"=\"", self.name)));
            }
            let (key, value) = (self.logical.word(start, start + at), self.logical.word(start + at + 1, end));
            pairs.push(Pair { key, value, legacy: false });
        }
        Ok(pairs)
    }

    fn volume(&self) -> Result<Vec<Word>, Fault> {
        let (words, _) = self.list()?;
        if words.is_empty() || words.iter().any(|word| word.text.is_empty()) {
            return Err(self.wrong("VOLUME needs a path"));
        }
        Ok(words)
    }

    fn shell(&self) -> Result<Vec<String>, Fault> {
        match self.exec(self.begin)? {
            Some(words) if !words.is_empty() => Ok(words),
            _ => Err(self.wrong("SHELL takes a JSON array of strings").hint("write SHELL [\"/bin/bash\", \"-c\"], with double quotes")),
        }
    }

    fn healthcheck(&self) -> Result<Healthcheck, Fault> {
        let durations = ["interval", "timeout", "start-period", "start-interval"];
        let known: Vec<(&str, Kind)> = durations.iter().chain(&["retries"]).map(|name| (*name, Kind::Text)).collect();
        self.know(&known)?;
        let stop = self.args().find(char::is_whitespace).map_or(self.end, |at| self.begin + at);
        let word = self.logical.word(self.begin, stop);
        let rest = self.end - self.logical.text[stop..self.end].trim_start().len();
        match word.text.to_ascii_uppercase().as_str() {
            "NONE" if rest < self.end => return Err(self.fault(self.logical.span(rest, self.end), "HEALTHCHECK NONE takes nothing more")),
            "NONE" => match self.flags.first() {
                Some(flag) => return Err(self.fault(flag.span, "HEALTHCHECK NONE takes no flags")),
                None => return Ok(Healthcheck::None),
            },
            "CMD" if rest >= self.end => return Err(self.fault(word.span, "HEALTHCHECK CMD needs a command")),
            "CMD" => {}
            _ => {
                let fault = self.fault(word.span, format!("HEALTHCHECK takes CMD or NONE, not \"{}\"", word.text.escape_debug()));
                return Err(fault.hint("write HEALTHCHECK [flags] CMD command"));
            }
        }
        let command = self.command(rest)?;
        if command == Command::Exec(Vec::new()) {
            return Err(self.fault(word.span, "HEALTHCHECK CMD needs a command"));
        }
        let [interval, timeout, start_period, start_interval] = durations.map(|name| self.duration(name));
        let retries = match self.text("retries") {
            None => 0,
            Some(word) => word
                .text
                .parse::<u32>()
                .ok()
                .filter(|n| i32::try_from(*n).is_ok())
                .ok_or_else(|| self.fault(word.span, format!("--retries: \"{}\" is no number of retries", word.text.escape_debug())))?,
        };
        let timing = Timing { interval: interval?, timeout: timeout?, start_period: start_period?, start_interval: start_interval?, retries };
        Ok(Healthcheck::Check { command, timing })
    }

    fn duration(&self, name: &str) -> Result<i64, Fault> {
        let Some(word) = self.text(name) else { return Ok(0) };
        match go_duration(&word.text) {
            Some(nanos) if nanos == 0 || nanos >= SHORTEST => Ok(nanos),
            Some(_) => Err(self.fault(word.span, format!("--{name} must be 0 or at least 1ms"))),
            None => {
                let fault = self.fault(word.span, format!("--{name}: \"{}\" is no duration", word.text.escape_debug()));
                Err(fault.hint("durations are written 30s, 1m30s, 500ms"))
            }
        }
    }

    fn trigger(&self) -> Result<Trigger, Fault> {
        let inner = self.logical.from(self.begin);
        let parts = Parts::new(self.source, &inner, self.escape);
        if NO_TRIGGERS.contains(&parts.name.as_str()) {
            return Err(self.fault(parts.keyword.span, format!("{} cannot be an ONBUILD trigger", parts.name)));
        }
        let Parsed::Statement(statement) = read(self.source, &inner, self.escape)? else {
            return Err(self.fault(parts.keyword.span, "FROM cannot be an ONBUILD trigger"));
        };
        let mut text = self.args().to_owned();
        for heredoc in &self.logical.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        Ok(Trigger { text, statement: Box::new(statement) })
    }
}

/// Letters, digits, `-`, `_` and `.`, a letter first.
fn valid_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The comment that begins with `name`, without it.
fn described(comments: &[(String, Span)], name: &str) -> Option<String> {
    comments.iter().find_map(|(comment, _)| comment.strip_prefix(name)?.strip_prefix(' ').map(|text| text.trim().to_owned()))
}
