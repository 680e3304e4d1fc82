//! Ignore files: which paths of a context a build does not see.
//!
//! The last pattern that matches decides. A pattern that matches a directory covers what is beneath it, unless a later
//! `!` pattern takes something out again; so a covered directory is still entered where such a pattern could match.

use super::pattern::{Pattern, PatternError, clean};

/// A larger ignore file is a mistake or an attack.
pub const SIZE_LIMIT: u64 = 4 << 20;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why an ignore file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    #[error("line {line} of {file}: \"{text}\" is no pattern")]
    Pattern {
        file: String,
        line: usize,
        text: String,
        #[source]
        source: PatternError,
    },
    #[error("line {line} of {file}: \"!\" alone takes nothing out: name what is to be seen")]
    Empty { file: String, line: usize },
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// `!`: what matches is seen.
    seen: bool,
    line: usize,
}

/// The patterns of an ignore file, or of several `--exclude`.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// As it is shown in messages: `.dockerignore`.
    file: String,
}

/// Which patterns match a directory or one above it.
#[derive(Debug, Clone, Default)]
pub struct Covered(Vec<bool>);

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// The line that is no pattern.
    pub fn parse(text: &[u8], file: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(BOM).unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.starts_with(b"#"));
        Self::of(lines.map(|(number, line)| (number + 1, line)), file)
    }

    /// Patterns that are given one by one (`--exclude`); errors count them as lines of `name`.
    ///
    /// # Errors
    /// The one that is no pattern.
    pub fn patterns(patterns: &[Vec<u8>], name: &str) -> Result<Self, IgnoreError> {
        Self::of(patterns.iter().enumerate().map(|(number, text)| (number + 1, text.as_slice())), name)
    }

    fn of<'a>(lines: impl Iterator<Item = (usize, &'a [u8])>, file: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let text = text.trim_ascii();
            let (seen, pattern) = match text.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, text),
            };
            if pattern.is_empty() {
                if seen {
                    return Err(IgnoreError::Empty { file: file.to_owned(), line });
                }
                continue;
            }
            // A leading slash means the context's own root, where every pattern begins.
            let cleaned = clean(pattern);
            let relative = match cleaned.as_slice() {
                [b'/', rest @ ..] if !rest.is_empty() => rest,
                other => other,
            };
            let shown = || String::from_utf8_lossy(text).into_owned();
            let pattern = Pattern::new(relative).map_err(|source| IgnoreError::Pattern { file: file.to_owned(), line, text: shown(), source })?;
            rules.push(Rule { pattern, seen, line });
        }
        Ok(Ignore { rules, file: file.to_owned() })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether a path is left out, given what covers its directory; and what then covers the path itself.
    pub fn look(&self, path: &[u8], directory: &Covered) -> (bool, Covered) {
        let mut hidden = false;
        let mut covered = vec![false; self.rules.len()];
        for (index, rule) in self.rules.iter().enumerate() {
            // A pattern that would change nothing is not tried (and, as in moby, does not count for what is beneath).
            let matched = directory.0.get(index).copied().unwrap_or(false) || (rule.seen == hidden && rule.pattern.matches(path));
            covered[index] = matched;
            if matched {
                hidden = !rule.seen;
            }
        }
        (hidden, Covered(covered))
    }

    /// What covers a path, asked from the top.
    pub fn at(&self, path: &[u8]) -> (bool, Covered) {
        let (mut hidden, mut covered) = (false, Covered::default());
        if path.is_empty() {
            return (hidden, covered);
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            (hidden, covered) = self.look(&path[..end], &covered);
        }
        (hidden, covered)
    }

    /// Something beneath a directory that is left out may be seen all the same.
    pub fn may_be_seen_beneath(&self, directory: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.seen && rule.pattern.may_match_beneath(directory))
    }

    /// The line that leaves a path out.
    pub fn line(&self, path: &[u8]) -> Option<usize> {
        let (hidden, covered) = self.at(path);
        let last = self.rules.iter().zip(&covered.0).rfind(|(rule, matched)| **matched && !rule.seen);
        last.filter(|_| hidden).map(|(rule, _)| rule.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str, path: &str) -> bool {
        Ignore::parse(text.as_bytes(), ".dockerignore").unwrap().at(path.as_bytes()).0
    }

    #[test]
    fn the_last_match_wins_and_parents_cover() {
        for (text, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a/", "a/b", true),
            ("a/../b", "b", true),
            ("./a", "a", true),
            ("*", "x/y", true),
            ("*\n!x", "x/y", false),
            ("*\n!x/y", "x/y", false),
            ("*\n!x/y", "x/z", true),
            ("*\n!x\nx/z", "x/z", true),
            ("!x\n*", "x", true),
            ("a\n!a/b\na/b/c", "a/b/c", true),
            ("a\n!a/b\na/b/c", "a/b/d", false),
            ("**/*.md\n!README.md", "README.md", false),
            ("**/*.md\n!README.md", "docs/README.md", true),
            ("**/node_modules", "a/b/node_modules/c", true),
            ("  a  ", "a", true),
            ("a\r", "a", true),
            ("\u{feff}a", "a", true),
            ("# a\n#b", "#b", false),
            (" #b", "#b", true),
            ("\\!a", "!a", true),
            ("! a\n", "a", false),
            ("*\n! a", "a", false),
            (".", "a", false),
            ("..", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(hidden(text, path), expected, "{text:?} {path}");
        }
        assert!(!hidden("*", ""), "the context itself is always there");
    }

    #[test]
    fn the_line_that_hides_is_told() {
        let ignore = Ignore::parse(b"# x\nb\na\n!a/b\n", ".dockerignore").unwrap();
        assert_eq!(ignore.line(b"a/c"), Some(3));
        assert_eq!(ignore.line(b"a/b"), None);
        assert_eq!(ignore.line(b"b"), Some(2));
        assert!(ignore.may_be_seen_beneath(b"a") && !ignore.may_be_seen_beneath(b"b"));
        let error = Ignore::parse(b"a\n[\n", ".dockerignore").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of .dockerignore: \"[\" is no pattern");
        assert!(Ignore::parse(b"!", "x").is_err());
    }
}
