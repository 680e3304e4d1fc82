//! The text of a Dockerfile with places in it, and the errors that point at them.

use std::fmt;

/// Lines shown above and below the faulty one.
const AROUND: usize = 2;
/// Most characters of a line that an excerpt shows.
const WIDTH: usize = 160;
/// Characters kept before the caret where a line is cut.
const BEFORE_CARET: usize = 60;

/// Bytes `start..end` of a source's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// From the start of one to the end of the other.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A line and a column, both from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// A named text. Bytes that are no UTF-8 are replaced; spans are over the text as it then is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    /// Where each line starts.
    starts: Vec<usize>,
    /// Some bytes were no UTF-8.
    replaced: bool,
}

impl Source {
    pub fn new(text: &[u8], name: &str) -> Self {
        let replaced = std::str::from_utf8(text).is_err();
        let text = String::from_utf8_lossy(text).into_owned();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).filter(|at| *at == 0 || *at < text.len()).collect();
        Source { name: name.to_owned(), text, starts, replaced }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether some bytes were no UTF-8.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    pub fn lines(&self) -> usize {
        self.starts.len()
    }

    /// Line `index` (from 0) with its newline.
    pub fn line(&self, index: usize) -> Span {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        Span { start: self.starts.get(index).copied().unwrap_or(end), end }
    }

    /// The text of a span; empty where the span is not of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    pub fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Place { line, column: before.trim_start_matches('\u{feff}').chars().count() + 1 }
    }

    /// An error at `span`.
    pub fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        let place = self.place(span.start);
        Fault { message: message.into(), file: self.name.clone(), place, excerpt: self.excerpt(span), hint: None }
    }

    /// The lines around `span` with their numbers, and carets under what it covers of its first line.
    pub fn excerpt(&self, span: Span) -> String {
        let Place { line, column } = self.place(span.start);
        let first = line.saturating_sub(AROUND).max(1);
        let last = (line + AROUND).min(self.lines());
        let gutter = last.to_string().len();
        let cut = if column > WIDTH { column - BEFORE_CARET } else { 0 };
        let mut out = String::new();
        for number in first..=last {
            let bytes = self.line(number - 1);
            let text = self.slice(bytes).trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}');
            let cut = if number == line { cut } else { 0 };
            let marker = if number == line { '>' } else { ' ' };
            out.push_str(format!("{marker} {number:>gutter$} | {}", shown(text, cut)).trim_end());
            out.push('\n');
            if number == line {
                let covered = self.slice(Span { start: span.start, end: span.end.min(bytes.end) }).trim_end().chars().count();
                let left = column - 1 - cut + usize::from(cut > 0);
                let carets = covered.clamp(1, WIDTH.saturating_sub(left).max(1));
                out.push_str(&format!("  {:gutter$} | {}{}\n", "", " ".repeat(left), "^".repeat(carets)));
            }
        }
        out
    }
}

/// A line as it can be shown: no control characters, not too long, `cut` characters left out in front.
fn shown(text: &str, cut: usize) -> String {
    let mut out = String::new();
    if cut > 0 {
        out.push('…');
    }
    let mut left = text.chars().skip(cut);
    out.extend(left.by_ref().take(WIDTH).map(|c| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }));
    if left.next().is_some() {
        out.push('…');
    }
    out
}

/// What is wrong with a Dockerfile, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    message: String,
    file: String,
    place: Place,
    excerpt: String,
    hint: Option<String>,
}

impl Fault {
    /// The same with what may help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the known word that is nearest, if one is near.
    #[must_use]
    pub fn nearest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match crate::base::nearest(word, known) {
            Some(meant) => self.hint(format!("did you mean {meant}?")),
            None => self,
        }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The excerpt alone.
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }

    #[cfg(test)]
    /// The message, the lines around the place, and what may help.
    pub fn render(&self) -> String {
        let mut out = format!("{self}\n{}", self.excerpt);
        if let Some(hint) = &self.hint {
            out.push_str(&format!("hint: {hint}\n"));
        }
        out
    }
}

/// `Dockerfile:3:5: message`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.escape_debug(), self.place.line, self.place.column, self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_points_at_the_place() {
        let source = Source::new(b"\xef\xbb\xbfFROM a\n\nRNU x\ty\r\nCMD z\n# end\n# no", "Dockerfile");
        assert_eq!(source.place(3), Place { line: 1, column: 1 });
        let at = source.text().find("RNU").unwrap();
        let fault = source.fault(Span { start: at, end: at + 3 }, "unknown instruction \"RNU\"").nearest("RNU", ["RUN", "CMD"]);
        let expected = concat!(
            "Dockerfile:3:1: unknown instruction \"RNU\"\n",
            "  1 | FROM a\n",
            "  2 |\n",
            "> 3 | RNU x y\n",
            "    | ^^^\n",
            "  4 | CMD z\n",
            "  5 | # end\n",
            "hint: did you mean RUN?\n"
        );
        assert_eq!(fault.render(), expected);
        assert!(expected.contains(fault.excerpt()) && fault.excerpt().starts_with("  1 |"));
        assert_eq!(source.name(), "Dockerfile");
    }

    #[test]
    fn long_lines_and_strange_spans_are_cut() {
        let text = format!("{}X{}\n", "é".repeat(500), "b".repeat(500));
        let source = Source::new(text.as_bytes(), "f");
        let at = text.find('X').unwrap();
        let excerpt = source.excerpt(Span { start: at, end: text.len() });
        let lines: Vec<&str> = excerpt.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < 180), "{excerpt}");
        assert_eq!(lines[0].chars().position(|c| c == 'X'), lines[1].chars().position(|c| c == '^'));
        for span in [Span { start: 1, end: 2 }, Span { start: 5000, end: 9000 }, Span::default()] {
            assert!(!source.excerpt(span).is_empty());
        }
        assert_eq!(Source::new(b"", "f").excerpt(Span::default()), "> 1 |\n    | ^\n");
    }
}
