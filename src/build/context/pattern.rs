//! Patterns of ignore files, of `--exclude` and of sources with wildcards, matched against `/`-separated paths.
//!
//! Invariant: a match costs at most (characters of the path) × (tokens of the pattern): all states are followed at
//! once, so no hostile pattern can make it explode.
//!
//! The language is Go's `filepath.Match` (`*`, `?`, `[…]` within a segment, `\` escapes) and, where allowed, `**`.
//! Two oddities of moby's patternmatcher that people rely upon are kept: `**x` at the start matches whatever ends with
//! `x`, and `x**` at the end whatever begins with it. Unlike there, a class never matches a `/`.

/// A path cannot be longer, so a longer pattern is a mistake or an attack.
const TOKEN_LIMIT: usize = 4095;
const WORDS: usize = TOKEN_LIMIT / 64 + 1;
/// Bytes that are no UTF-8 match only themselves: they get numbers behind Unicode's.
const RAW: u32 = 0x11_0000;
const SLASH: u32 = b'/' as u32;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern has a class without an end: a literal \"[\" is written \"\\[\"")]
    Class,
    #[error("the pattern ends with a backslash that escapes nothing")]
    Escape,
    #[error("the pattern is longer than a path can be")]
    Long,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Char(u32),
    /// `?`: one character but `/`.
    One,
    /// `*`: any characters but `/`.
    Star,
    /// `**/`: nothing, or whole segments.
    Segments,
    /// `**` at an end: anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

/// The states reached, one bit for each position in the pattern.
struct States {
    words: [u64; WORDS],
    used: usize,
}

impl Pattern {
    /// Compiles a pattern in which `**` spans segments.
    ///
    /// # Errors
    /// What is malformed.
    pub fn new(text: &[u8]) -> Result<Self, PatternError> {
        Self::compile(text, true)
    }

    /// Compiles a pattern in which `**` is the same as `*`, as in `filepath.Match`.
    ///
    /// # Errors
    /// What is malformed.
    pub fn plain(text: &[u8]) -> Result<Self, PatternError> {
        Self::compile(text, false)
    }

    fn compile(text: &[u8], spanning: bool) -> Result<Self, PatternError> {
        let chars: Vec<u32> = characters(text).collect();
        let mut tokens = Vec::with_capacity(chars.len());
        let mut at = 0;
        while at < chars.len() {
            let token = match char::from_u32(chars[at]) {
                Some('*') if spanning && chars.get(at + 1) == Some(&u32::from('*')) => {
                    let slash = chars.get(at + 2) == Some(&SLASH);
                    let start = tokens.is_empty();
                    at += if slash { 2 } else { 1 };
                    if at + 1 == chars.len() || (start && !slash) { Token::Rest } else { Token::Segments }
                }
                Some('*') => Token::Star,
                Some('?') => Token::One,
                Some('[') => class(&chars, &mut at)?,
                Some('\\') => {
                    at += 1;
                    Token::Char(*chars.get(at).ok_or(PatternError::Escape)?)
                }
                _ => Token::Char(chars[at]),
            };
            at += 1;
            if token != Token::Star || tokens.last() != Some(&Token::Star) {
                tokens.push(token);
            }
        }
        if tokens.len() > TOKEN_LIMIT { Err(PatternError::Long) } else { Ok(Pattern { tokens }) }
    }

    /// The whole path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.run(path).is_some_and(|states| states.has(self.tokens.len()))
    }

    /// Something beneath the directory could match.
    pub fn may_match_beneath(&self, directory: &[u8]) -> bool {
        if directory.is_empty() {
            return true;
        }
        self.run(directory).is_some_and(|states| {
            let next = self.step(&states, SLASH);
            (0..self.tokens.len()).any(|state| next.has(state))
        })
    }

    #[cfg(test)]
    /// The path that the pattern stands for if it has no wildcard.
    pub fn literal(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            let Token::Char(c) = token else { return None };
            match char::from_u32(*c) {
                Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => out.push(u8::try_from(c - RAW).unwrap_or(0)),
            }
        }
        Some(out)
    }

    /// None as soon as nothing can match any more.
    fn run(&self, path: &[u8]) -> Option<States> {
        let mut states = States { words: [0; WORDS], used: self.tokens.len() / 64 + 1 };
        self.enter(&mut states, 0);
        for c in characters(path) {
            states = self.step(&states, c);
            if states.is_empty() {
                return None;
            }
        }
        Some(states)
    }

    fn step(&self, states: &States, c: u32) -> States {
        let mut next = States { words: [0; WORDS], used: states.used };
        for word in 0..states.used {
            let mut bits = states.words[word];
            while bits != 0 {
                let state = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                match self.tokens.get(state) {
                    None => {}
                    Some(Token::Star) if c != SLASH => self.enter(&mut next, state),
                    Some(Token::Star) => {}
                    Some(Token::Rest) => self.enter(&mut next, state),
                    Some(Token::Segments) => {
                        // Inside of a segment the rest of the pattern cannot begin.
                        next.add(state);
                        if c == SLASH {
                            self.enter(&mut next, state + 1);
                        }
                    }
                    Some(token) if token.accepts(c) => self.enter(&mut next, state + 1),
                    Some(_) => {}
                }
            }
        }
        next
    }

    /// Adds a state and those that are reached from it for nothing.
    fn enter(&self, states: &mut States, mut state: usize) {
        loop {
            states.add(state);
            if !matches!(self.tokens.get(state), Some(Token::Star | Token::Rest | Token::Segments)) {
                return;
            }
            state += 1;
        }
    }
}

impl Token {
    fn accepts(&self, c: u32) -> bool {
        match self {
            Token::Char(wanted) => *wanted == c,
            Token::One => c != SLASH,
            Token::Class { negated, ranges } => c != SLASH && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
            Token::Star | Token::Rest | Token::Segments => false,
        }
    }
}

impl States {
    fn add(&mut self, state: usize) {
        self.words[state / 64] |= 1 << (state % 64);
    }

    fn has(&self, state: usize) -> bool {
        self.words[state / 64] & (1 << (state % 64)) != 0
    }

    fn is_empty(&self) -> bool {
        self.words[..self.used].iter().all(|word| *word == 0)
    }
}

/// `[^a-z\]]`; `at` stands on `[` and is left on `]`.
fn class(chars: &[u32], at: &mut usize) -> Result<Token, PatternError> {
    let end = u32::from(']');
    *at += 1;
    let negated = chars.get(*at) == Some(&u32::from('^'));
    if negated {
        *at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        if chars.get(*at) == Some(&end) && !ranges.is_empty() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = member(chars, at)?;
        let high = if chars.get(*at) == Some(&u32::from('-')) {
            *at += 1;
            member(chars, at)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// One character of a class; `]` and `-` need a backslash there.
fn member(chars: &[u32], at: &mut usize) -> Result<u32, PatternError> {
    let mut c = *chars.get(*at).ok_or(PatternError::Class)?;
    if c == u32::from('-') || c == u32::from(']') {
        return Err(PatternError::Class);
    }
    if c == u32::from('\\') {
        *at += 1;
        c = *chars.get(*at).ok_or(PatternError::Class)?;
    }
    *at += 1;
    Ok(c)
}

fn characters(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.utf8_chunks().flat_map(|chunk| chunk.valid().chars().map(u32::from).chain(chunk.invalid().iter().map(|byte| RAW + u32::from(*byte))))
}

/// The text has a wildcard that no backslash takes away.
pub fn has_wildcards(text: &[u8]) -> bool {
    let mut escaped = false;
    text.iter().any(|byte| {
        let wild = !escaped && matches!(byte, b'*' | b'?' | b'[');
        escaped = !escaped && *byte == b'\\';
        wild
    })
}

/// Go's `filepath.Clean`: no doubled or trailing slashes, no `.`, and `..` taken back where something is before it.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join(&b'/');
    if rooted {
        [b"/", joined.as_slice()].concat()
    } else if joined.is_empty() {
        b".".to_vec()
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_as_in_moby() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*.go", ".go", true),
            ("a*b*c", "aXbYbc", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a?c", "aéc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a[^b]c", "a/c", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "aXb", false),
            ("**", "a/b/c", true),
            ("**/foo", "foo", true),
            ("**/foo", "a/b/foo", true),
            ("**/foo", "a/bfoo", false),
            ("**foo", "a/bfoo", true),
            ("**.txt", "a/b.txt", true),
            ("foo**", "foobar/x", true),
            ("foo/**", "foo/x/y", true),
            ("foo/**", "foo", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("**/**/x", "x", true),
            ("a**/b", "ab", true),
            ("**/*.o", "x/y.o", true),
            ("**/a*/**", "x/ab/c", true),
            (".", "", false),
            ("a.b", "axb", false),
            ("(a|b)+$", "(a|b)+$", true),
        ] {
            assert_eq!(Pattern::new(pattern.as_bytes()).unwrap().matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(!Pattern::plain(b"a/**").unwrap().matches(b"a/b/c"));
        assert!(Pattern::plain(b"a/**").unwrap().matches(b"a/b"));
        assert!(Pattern::new(b"a\xff?").unwrap().matches(b"a\xff\xfe"));
        assert!(!Pattern::new(b"a\xff").unwrap().matches(b"a\xfe"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for (pattern, error) in [
            ("[", PatternError::Class),
            ("[]a]", PatternError::Class),
            ("[a", PatternError::Class),
            ("[a-", PatternError::Class),
            ("[-a]", PatternError::Class),
            ("a\\", PatternError::Escape),
            (&*"x".repeat(5000), PatternError::Long),
        ] {
            assert_eq!(Pattern::new(pattern.as_bytes()), Err(error), "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let start = std::time::Instant::now();
        let pattern = Pattern::new("**/*a".repeat(300).as_bytes()).unwrap();
        assert!(!pattern.matches("a/".repeat(500).as_bytes()));
        let pattern = Pattern::new(format!("{}b", "*a".repeat(500)).as_bytes()).unwrap();
        assert!(!pattern.matches("a".repeat(1000).as_bytes()));
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn directories_that_cannot_hold_a_match_are_known() {
        for (pattern, directory, expected) in [
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("*/c", "x", true),
            ("*/c", "x/y", false),
            ("**/c", "x/y/z", true),
            ("a/**/c", "a/q", true),
            ("a/**/c", "b", false),
            ("x", "", true),
        ] {
            assert_eq!(Pattern::new(pattern.as_bytes()).unwrap().may_match_beneath(directory.as_bytes()), expected, "{pattern} {directory}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_by_go() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/..//a", "/a"),
            ("./", "."),
            ("!a/../b", "b"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert!(has_wildcards(b"a*") && has_wildcards(b"\\\\*") && !has_wildcards(b"\\*a") && has_wildcards(b"[a"));
        assert_eq!(Pattern::new(b"a\\*b\xff").unwrap().literal().unwrap(), b"a*b\xff");
    }
}
