//! How an instruction's line is taken apart: keyword, flags, words, JSON arrays, comma lists. Nothing is expanded here.

use super::line::Logical;
use super::source::Span;

/// A piece of the file: its text (a flag's value without quotes, all else as written), and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

impl Word {
    /// Whether a variable may be in it.
    pub fn varies(&self) -> bool {
        self.text.contains('$')
    }
}

/// A flag in front of an instruction's arguments: `--name[=value]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    pub name: String,
    pub value: Option<String>,
    pub span: Span,
}

/// The first word, and the rest without blanks around it.
pub fn keyword(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// What follows the flags.
pub fn skip_flags(text: &str, escape: char) -> &str {
    let mut rest = text;
    while let Some((_, after)) = flag_word(rest, escape) {
        rest = after;
    }
    rest.trim_start()
}

/// The flags of `text`, which starts at byte `from` of the logical line, and where the arguments begin.
pub fn flags(logical: &Logical, from: usize, escape: char) -> (Vec<Flag>, usize) {
    let mut found = Vec::new();
    let mut rest = &logical.text[from..];
    while let Some((word, after)) = flag_word(rest, escape) {
        let trimmed = rest.trim_start();
        let start = logical.text.len() - trimmed.len();
        let end = logical.text.len() - after.len();
        rest = after;
        let Some(word) = word else { break };
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        found.push(Flag { name, value, span: logical.span(start, end) });
    }
    let begin = logical.text.len() - rest.trim_start().len();
    (found, begin)
}

/// One flag without its dashes, quotes and escapes, and what follows it; `--` alone gives None and ends the flags.
fn flag_word(text: &str, escape: char) -> Option<(Option<String>, &str)> {
    let text = text.trim_start();
    if !text.starts_with("--") {
        return None;
    }
    let (mut word, mut quote, mut end) = (String::new(), None, text.len());
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                end = at;
                break;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            Some('\'') => word.push(c),
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    let name = word.strip_prefix("--").unwrap_or_default().to_owned();
    Some(((!name.is_empty()).then_some(name), &text[end..]))
}

/// Pieces between blanks; quotes are nothing special. Ranges of the text of the logical line.
pub fn blank_separated(text: &str, from: usize) -> Vec<(usize, usize)> {
    let mut pieces = Vec::new();
    let mut start = None;
    for (at, c) in text[from..].char_indices().chain([(text.len() - from, ' ')]) {
        match (c.is_whitespace(), start) {
            (true, Some(begin)) => {
                pieces.push((from + begin, from + at));
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    pieces
}

/// Pieces between blanks that are neither quoted nor escaped. Ranges of the text of the logical line.
pub fn quoted(text: &str, from: usize, escape: char) -> Vec<(usize, usize)> {
    let mut pieces = Vec::new();
    let (mut start, mut quote) = (None, None);
    let mut end = text.len();
    let mut chars = text[from..].char_indices().map(|(at, c)| (from + at, c));
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                pieces.extend(start.take().map(|begin| (begin, at)));
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            Some('\'') => {}
            // An escape that ends the line escapes nothing.
            _ if c == escape && chars.next().is_none() => end = at,
            _ => {}
        }
        start = start.or(Some(at));
    }
    pieces.extend(start.map(|begin| (begin, end)).filter(|(begin, end)| begin < end));
    pieces
}

/// What an array that may be the exec form is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Array {
    Strings(Vec<String>),
    /// An array, but not of strings alone.
    Other,
}

/// A JSON array; None if the text is none, which makes it the shell form.
pub fn json(text: &str) -> Option<Array> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Array(items)) => {
            let strings: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            Some(strings.map_or(Array::Other, Array::Strings))
        }
        _ => None,
    }
}
