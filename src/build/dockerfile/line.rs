//! From physical lines to logical ones: directives, comments, continuations and here-documents.

use super::expand::raw_words;
use super::source::{Fault, Source, Span};
use super::words::{Word, json, keyword, skip_flags};

/// Most here-documents of one instruction.
const HEREDOC_LIMIT: usize = 100;

/// The parser directives at the top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: kept for those who ask, nothing is downloaded for it.
    pub syntax: Option<String>,
    pub escape: Option<char>,
    pub check: Checks,
}

impl Directives {
    pub fn escape(&self) -> char {
        self.escape.unwrap_or('\\')
    }
}

/// `# check=skip=A,B;error=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    pub skip: Vec<String>,
    pub skip_all: bool,
    pub experimental: Vec<String>,
    pub experimental_all: bool,
    pub error: bool,
}

impl Checks {
    /// # Errors
    /// A key that is not known, or a value that is not right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut checks = Checks::default();
        let list = |value: &str| value.split(',').map(|rule| rule.trim().to_owned()).filter(|rule| !rule.is_empty()).collect::<Vec<_>>();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').ok_or_else(|| format!("check option \"{option}\" is not KEY=VALUE"))?;
            match (key.trim(), value.trim()) {
                ("skip", "all") => checks.skip_all = true,
                ("skip", value) => checks.skip = list(value),
                ("experimental", "all") => checks.experimental_all = true,
                ("experimental", value) => checks.experimental = list(value),
                ("error", "true" | "1") => checks.error = true,
                ("error", "false" | "0") => checks.error = false,
                ("error", value) => return Err(format!("check option error is true or false, not \"{value}\"")),
                (key, _) => return Err(format!("check option \"{key}\" is not known: skip, error and experimental are")),
            }
        }
        Ok(checks)
    }

    /// Whether warnings of a rule are left out.
    pub fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skip.iter().any(|skipped| skipped.eq_ignore_ascii_case(rule))
    }

    pub fn merge(&mut self, other: &Checks) {
        self.skip.extend(other.skip.iter().cloned());
        self.skip_all |= other.skip_all;
        self.experimental.extend(other.experimental.iter().cloned());
        self.experimental_all |= other.experimental_all;
        self.error |= other.error;
    }
}

/// A here-document: `<<EOF`, its lines and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// `<<-`: tabs at the start of lines are taken away.
    pub strip: bool,
    /// The word was not quoted.
    pub expand: bool,
    /// As written, the end line left out.
    pub raw: String,
    pub span: Span,
}

impl Heredoc {
    /// The body that a file or a script gets.
    pub fn body(&self) -> String {
        if !self.strip {
            return self.raw.clone();
        }
        self.raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// What `word` opens, if it is the start of a here-document.
    pub fn opened(word: &str) -> Option<Heredoc> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strip, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let quoted = rest.contains(['"', '\'', '\\']);
        if rest.is_empty() || rest.contains('<') || (rest.contains(char::is_whitespace) && !quoted) {
            return None;
        }
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        (!name.is_empty()).then(|| Heredoc { name, strip, expand: !quoted, raw: String::new(), span: Span::default() })
    }
}

/// One instruction as it is joined from its lines.
#[derive(Debug, Clone, Default)]
pub struct Logical {
    pub text: String,
    /// Where pieces of `text` come from: offset in `text`, offset in the source.
    pieces: Vec<(usize, usize)>,
    /// All lines with the here-documents.
    pub span: Span,
    /// The comments directly above, without their `#`.
    pub comments: Vec<(String, Span)>,
    pub heredocs: Vec<Heredoc>,
    /// Empty lines within.
    pub empty: Vec<Span>,
}

impl Logical {
    fn push(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    fn at(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|(own, _)| *own <= offset).saturating_sub(1);
        self.pieces.get(piece).map_or(self.span.start, |(own, source)| source + (offset - own.min(&offset)))
    }

    /// Where bytes `start..end` of the text stand in the source.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let first = self.at(start);
        Span { start: first, end: if end > start { (self.at(end - 1) + 1).max(first) } else { first } }
    }

    /// Bytes `start..end` of the text as a word.
    pub fn word(&self, start: usize, end: usize) -> Word {
        Word { text: self.text[start..end].to_owned(), span: self.span(start, end) }
    }

    /// The same from byte `start` of the text on: what ONBUILD keeps.
    pub fn from(&self, start: usize) -> Logical {
        let mut rest = Logical { span: self.span, heredocs: self.heredocs.clone(), ..Logical::default() };
        rest.text = self.text[start..].to_owned();
        rest.pieces.push((0, self.at(start)));
        rest.pieces.extend(self.pieces.iter().filter(|(own, _)| *own > start).map(|(own, source)| (own - start, *source)));
        rest
    }
}

/// Reads the logical lines of a source one after the other.
pub struct Lines<'s> {
    source: &'s Source,
    next: usize,
    pub directives: Directives,
}

impl<'s> Lines<'s> {
    /// Reads the directives.
    ///
    /// # Errors
    /// A directive twice, or with a value that is not right.
    pub fn new(source: &'s Source) -> Result<Self, Fault> {
        let mut lines = Lines { source, next: 0, directives: Directives::default() };
        lines.read_directives()?;
        Ok(lines)
    }

    /// A line without its end and the byte order mark, and where it starts.
    fn physical(&self, index: usize) -> Option<(&'s str, usize)> {
        if index >= self.source.lines() {
            return None;
        }
        let span = self.source.line(index);
        let text = self.source.slice(span).trim_end_matches(['\n', '\r']);
        let without = if index == 0 { text.trim_start_matches('\u{feff}') } else { text };
        Some((without, span.start + text.len() - without.len()))
    }

    fn read_directives(&mut self) -> Result<(), Fault> {
        let mut index = usize::from(self.physical(0).is_some_and(|(line, _)| line.starts_with("#!")));
        self.next = index;
        let (mut syntax, mut escape, mut check) = (false, false, false);
        while let Some((line, start)) = self.physical(index) {
            let Some((key, value)) = directive(line) else { break };
            let span = Span { start, end: start + line.len() };
            let fault = |why: String| self.source.fault(span, why);
            let seen = match key.as_str() {
                "syntax" => &mut syntax,
                "escape" => &mut escape,
                "check" => &mut check,
                _ => break,
            };
            if std::mem::replace(seen, true) {
                return Err(fault(format!("the directive {key} may stand only once")));
            }
            match key.as_str() {
                "syntax" => self.directives.syntax = Some(value.to_owned()),
                "check" => self.directives.check = Checks::parse(value).map_err(fault)?,
                _ => {
                    self.directives.escape = match value {
                        "\\" => Some('\\'),
                        "`" => Some('`'),
                        other => return Err(fault(format!("the escape is \\ or `, not \"{}\"", other.escape_debug()))),
                    }
                }
            }
            index += 1;
        }
        self.next = index;
        Ok(())
    }

    /// The text before a trailing escape, if the line continues.
    fn continued<'l>(&self, line: &'l str) -> Option<&'l str> {
        let escape = self.directives.escape();
        let text = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
        // An escaped escape is content.
        (!text.ends_with(escape)).then_some(text)
    }

    /// The next instruction.
    ///
    /// # Errors
    /// A here-document without an end, or text that is no UTF-8.
    pub fn next(&mut self) -> Result<Option<Logical>, Fault> {
        let mut comments: Vec<(String, Span)> = Vec::new();
        while let Some((line, start)) = self.physical(self.next) {
            self.next += 1;
            let text = line.trim_start();
            let start = start + line.len() - text.len();
            if let Some(comment) = text.strip_prefix('#') {
                comments.push((comment.trim().to_owned(), Span { start, end: start + text.trim_end().len() }));
                continue;
            }
            if text.is_empty() {
                comments.clear();
                continue;
            }
            let mut logical = Logical { comments: std::mem::take(&mut comments), ..Logical::default() };
            self.join(&mut logical, text, start);
            if logical.text.trim().is_empty() {
                continue;
            }
            self.legal(&logical)?;
            self.read_heredocs(&mut logical)?;
            return Ok(Some(logical));
        }
        Ok(None)
    }

    fn join(&mut self, logical: &mut Logical, first: &str, start: usize) {
        logical.span = Span { start, end: start + first.trim_end().len() };
        let mut more = self.continued(first);
        logical.push(more.unwrap_or(first), start);
        while more.is_some() {
            let Some((line, start)) = self.physical(self.next) else { break };
            self.next += 1;
            let text = line.trim_start();
            let at = Span { start, end: start + line.trim_end().len() };
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                logical.empty.push(at);
                continue;
            }
            more = self.continued(line);
            logical.push(more.unwrap_or(line), start);
            logical.span.end = at.end.max(logical.span.end);
        }
    }

    fn legal(&self, logical: &Logical) -> Result<(), Fault> {
        let bad = |c: char| c == '\0' || (c == '\u{fffd}' && self.source.replaced());
        match logical.text.char_indices().find(|(_, c)| bad(*c)) {
            None => Ok(()),
            Some((at, c)) => {
                let what = if c == '\0' { "a zero byte cannot be part of an instruction" } else { "this is not UTF-8" };
                Err(self.source.fault(logical.span(at, at + c.len_utf8()), what))
            }
        }
    }

    fn read_heredocs(&mut self, logical: &mut Logical) -> Result<(), Fault> {
        for (mut heredoc, at) in opened(&logical.text, self.directives.escape()) {
            if logical.heredocs.len() == HEREDOC_LIMIT {
                return Err(self.source.fault(logical.span, format!("more than {HEREDOC_LIMIT} here-documents in one instruction")));
            }
            let start = self.source.line(self.next).start;
            let mut end = start;
            loop {
                let Some((line, line_start)) = self.physical(self.next) else {
                    let place = at.map_or(logical.span, |(from, to)| logical.span(from, to));
                    let fault = self.source.fault(place, format!("the here-document \"{}\" has no end", heredoc.name.escape_debug()));
                    return Err(fault.hint(format!("end it with a line that is only {}", heredoc.name.escape_debug())));
                };
                self.next += 1;
                logical.span.end = line_start + line.len();
                let candidate = if heredoc.strip { line.trim_start_matches('\t') } else { line };
                if candidate == heredoc.name {
                    break;
                }
                end = self.source.line(self.next - 1).end;
            }
            heredoc.span = Span { start, end };
            heredoc.raw = self.source.slice(heredoc.span).to_owned();
            if heredoc.raw.contains('\0') || (self.source.replaced() && heredoc.raw.contains('\u{fffd}')) {
                return Err(self.source.fault(heredoc.span, "a here-document must be UTF-8 without zero bytes"));
            }
            logical.heredocs.push(heredoc);
        }
        Ok(())
    }
}

/// `# key = value`.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let fine = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (fine && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// The here-documents that an instruction opens, with where each stands if that is plain.
fn opened(text: &str, escape: char) -> Vec<(Heredoc, Option<(usize, usize)>)> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let (mut word, mut rest) = keyword(text);
    if word.eq_ignore_ascii_case("ONBUILD") {
        (word, rest) = keyword(skip_flags(rest, escape));
    }
    if !["RUN", "COPY", "ADD"].iter().any(|known| word.eq_ignore_ascii_case(known)) || json(skip_flags(rest, escape)).is_some() {
        return Vec::new();
    }
    let mut from = 0;
    let mut found = Vec::new();
    for word in raw_words(text).unwrap_or_default() {
        let Some(heredoc) = Heredoc::opened(&word) else { continue };
        let at = text[from..].find(&word).map(|at| (from + at, from + at + word.len()));
        from = at.map_or(from, |(_, end)| end);
        found.push((heredoc, at));
    }
    found
}

/// What a comment directly above an instruction says about its checks.
pub fn checks(source: &Source, comments: &[(String, Span)]) -> Result<Option<Checks>, Fault> {
    let mut found: Option<Checks> = None;
    for (comment, span) in comments {
        let Some((key, value)) = comment.split_once('=') else { continue };
        if key.trim().eq_ignore_ascii_case("check") {
            let own = Checks::parse(value.trim()).map_err(|why| source.fault(*span, why))?;
            found.get_or_insert_default().merge(&own);
        }
    }
    Ok(found)
}
