//! Variables and quotes in the words of a Dockerfile: `$v`, `${v:-w}`, `"…"`, `'…'`, escapes.
//!
//! Hostile text cannot make it grow without end: the result, the depth of nesting and the work of patterns are limited.

use super::glob::{Budget, Pattern};
use std::collections::BTreeSet;

/// Most bytes that one word may become: execve(2) takes no longer string than half of it.
pub const WORD_LIMIT: usize = 256 << 10;
/// Most bytes that the body of a here-document may become.
pub const BODY_LIMIT: usize = 4 << 20;
/// Most `${…${…}…}` within one another.
const DEPTH_LIMIT: usize = 32;

/// What a variable is; None where it is not set.
pub type Lookup<'a, 'v> = &'a dyn Fn(&str) -> Option<&'v str>;

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// As one word, blanks kept.
    pub text: String,
    /// Split at blanks that are neither quoted nor escaped, those of variables' values included.
    pub words: Vec<String>,
    /// Variables that were asked for and not set.
    pub undefined: BTreeSet<String>,
}

/// How quotes and escapes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Taken away.
    Taken,
    /// Ordinary characters: the body of a here-document.
    Plain,
    /// Read but kept, as are escapes and variables that are not set: to find words without changing them.
    Kept,
}

/// Expands one word.
///
/// # Errors
/// Why it cannot be: an open quote or brace, an unknown modifier, a `${v:?message}` that fails, a result beyond the limit.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_, '_>) -> Result<Expanded, String> {
    run(word, escape, lookup, Quotes::Taken)
}

/// Expands the body of a here-document: quotes are content, the escape is always a backslash.
///
/// # Errors
/// As [`expand`].
pub fn expand_body(text: &str, lookup: Lookup<'_, '_>) -> Result<Expanded, String> {
    run(text, '\\', lookup, Quotes::Plain)
}

/// The words of a shell line with their quotes and variables, None if a quote is left open.
pub(super) fn raw_words(line: &str) -> Option<Vec<String>> {
    run(line, '\\', &|_| None, Quotes::Kept).ok().map(|expanded| expanded.words)
}

fn run(word: &str, escape: char, lookup: Lookup<'_, '_>, quotes: Quotes) -> Result<Expanded, String> {
    let mut lexer = Lexer { rest: word, escape, lookup, quotes, undefined: BTreeSet::new(), depth: 0, budget: Budget::default() };
    let (text, words) = lexer.until(None, quotes == Quotes::Kept)?;
    Ok(Expanded { text, words, undefined: lexer.undefined })
}

struct Lexer<'t, 'a, 'v> {
    rest: &'t str,
    escape: char,
    lookup: Lookup<'a, 'v>,
    quotes: Quotes,
    undefined: BTreeSet<String>,
    depth: usize,
    budget: Budget,
}

/// Collects the text and its words at once.
#[derive(Default)]
struct Words {
    text: String,
    word: String,
    words: Vec<String>,
}

impl Words {
    /// Blanks end a word.
    fn plain(&mut self, piece: &str) {
        self.text.push_str(piece);
        let mut rest = piece;
        while let Some(at) = rest.find(char::is_whitespace) {
            self.word.push_str(&rest[..at]);
            self.end();
            rest = rest[at..].trim_start();
        }
        self.word.push_str(rest);
    }

    /// Blanks belong to the word.
    fn raw(&mut self, piece: &str) {
        self.text.push_str(piece);
        self.word.push_str(piece);
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

impl Lexer<'_, '_, '_> {
    fn limit(&self) -> usize {
        if self.quotes == Quotes::Taken { WORD_LIMIT } else { BODY_LIMIT }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Up to `stop` (which is taken) or the end. `raw` keeps escapes.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(String, Vec<String>), String> {
        let mut out = Words::default();
        let mut buffer = [0; 4];
        let escape = self.escape;
        loop {
            let special = |c: char| matches!(c, '$' | '\'' | '"') || c == escape || Some(c) == stop;
            let (run, rest) = self.rest.split_at(self.rest.find(special).unwrap_or(self.rest.len()));
            self.rest = rest;
            out.plain(run);
            let Some(c) = self.next() else { break };
            if Some(c) == stop {
                out.end();
                return Ok((out.text, out.words));
            }
            match c {
                '$' => out.plain(&self.dollar()?),
                '\'' if self.quotes != Quotes::Plain => out.raw(&self.single()?),
                '"' if self.quotes != Quotes::Plain => out.raw(&self.double(raw)?),
                c if c == self.escape => {
                    if raw {
                        out.raw(c.encode_utf8(&mut buffer));
                    }
                    if let Some(c) = self.next() {
                        out.raw(c.encode_utf8(&mut buffer));
                    }
                }
                c => out.plain(c.encode_utf8(&mut buffer)),
            }
            if out.text.len() > self.limit() {
                return Err(format!("it grows beyond {} bytes", self.limit()));
            }
        }
        match stop {
            Some(stop) => Err(format!("\"{stop}\" is missing in a substitution")),
            None => {
                out.end();
                Ok((out.text, out.words))
            }
        }
    }

    fn single(&mut self) -> Result<String, String> {
        let (text, rest) = self.rest.split_once('\'').ok_or("the quote ' is not closed")?;
        self.rest = rest;
        Ok(if self.quotes == Quotes::Kept { format!("'{text}'") } else { text.to_owned() })
    }

    fn double(&mut self, raw: bool) -> Result<String, String> {
        let kept = self.quotes == Quotes::Kept;
        let mut out = String::new();
        if kept {
            out.push('"');
        }
        while let Some(c) = self.next() {
            match c {
                '"' => {
                    if kept {
                        out.push('"');
                    }
                    return Ok(out);
                }
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => match self.peek() {
                    None => {}
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        if raw {
                            out.push(c);
                        }
                        out.push(next);
                        self.next();
                    }
                    Some(_) => out.push(c),
                },
                c => out.push(c),
            }
            if out.len() > self.limit() {
                return Err(format!("it grows beyond {} bytes", self.limit()));
            }
        }
        Err("the quote \" is not closed".to_owned())
    }

    fn name(&mut self) -> String {
        let Some(first) = self.peek() else { return String::new() };
        let digits = first.is_ascii_digit();
        if !digits && "@*#?-$!".contains(first) {
            self.next();
            return first.to_string();
        }
        let belongs = |c: char| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || c == '_' };
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() {
            self.undefined.insert(name.to_owned());
        }
        value.map(str::to_owned)
    }

    /// What follows a `$` that was taken.
    fn dollar(&mut self) -> Result<String, String> {
        let before = self.rest;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name);
            let kept = self.quotes == Quotes::Kept;
            return Ok(value.unwrap_or_else(|| if kept { format!("${name}") } else { String::new() }));
        }
        self.next();
        if self.depth >= DEPTH_LIMIT {
            return Err(format!("more than {DEPTH_LIMIT} substitutions are nested"));
        }
        self.depth += 1;
        let value = self.braces()?;
        self.depth -= 1;
        if self.quotes == Quotes::Kept {
            return Ok(format!("${}", &before[..before.len() - self.rest.len()]));
        }
        Ok(value)
    }

    /// What follows `${`, the closing brace taken.
    fn braces(&mut self) -> Result<String, String> {
        if self.quotes == Quotes::Kept {
            // The shell that runs the line knows more modifiers than we do.
            return self.until(Some('}'), true).map(|(text, _)| text);
        }
        match self.peek() {
            None => return Err("\"}\" is missing in a substitution".to_owned()),
            Some('{' | '}' | ':') => return Err("\"${\" must be followed by the name of a variable".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        if name.is_empty() {
            return Err("\"${\" must be followed by the name of a variable".to_owned());
        }
        let Some(modifier) = self.next() else { return Err("\"}\" is missing in a substitution".to_owned()) };
        match modifier {
            '}' => Ok(self.value(&name).unwrap_or_default()),
            ':' => match self.next() {
                Some(c @ ('-' | '+' | '?')) => self.default(&name, c, true),
                Some(c) => Err(format!("\":{}\" is no modifier of a substitution", c.escape_debug())),
                None => Err("\"}\" is missing in a substitution".to_owned()),
            },
            '-' | '+' | '?' => self.default(&name, modifier, false),
            '#' | '%' => self.trim(&name, modifier),
            '/' => self.replace(&name),
            other => Err(format!("\"{}\" is no modifier of a substitution", other.escape_debug())),
        }
    }

    fn default(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String, String> {
        let (word, _) = self.until(Some('}'), false)?;
        // A default says what an unset variable means: asking for it is no mistake.
        let known = self.undefined.contains(name);
        let value = self.value(name);
        if !known && modifier != '?' {
            self.undefined.remove(name);
        }
        let set = value.clone().filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, set) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if !word.is_empty() => Err(format!("{name}: {word}")),
            (_, None) => Err(format!("{name} must not be {}", if value.is_some() { "empty" } else { "unset" })),
        }
    }

    fn trim(&mut self, name: &str, modifier: char) -> Result<String, String> {
        let longest = self.peek() == Some(modifier);
        if longest {
            self.next();
        }
        let (word, _) = self.until(Some('}'), true)?;
        let value = self.value(name).unwrap_or_default();
        let pattern = Pattern::new(&word)?;
        let (from, to) = (value.as_str(), value.len());
        Ok(match modifier {
            '#' => from[pattern.prefix(from, longest, &mut self.budget)?.unwrap_or(0)..].to_owned(),
            _ => from[..pattern.suffix(from, longest, &mut self.budget)?.unwrap_or(to)].to_owned(),
        })
    }

    fn replace(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (word, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.value(name).unwrap_or_default();
        let limit = self.limit();
        Pattern::new(&word)?.replace(&value, &replacement, all, &mut self.budget, limit)
    }
}
