//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and `\` before them; nothing else is special.
//! Matching never goes back, and its work is counted.

/// Most steps that one expansion may take.
const STEPS: usize = 20_000_000;

/// What may still be done.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Budget(STEPS)
    }
}

impl Budget {
    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.0 = self.0.checked_sub(steps).ok_or("a pattern takes too long on this value")?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Char(char),
}

#[derive(Debug)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    pub fn new(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' if tokens.last() == Some(&Token::Any) => continue,
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(c),
                    Some(c) => return Err(format!("\"\\{}\" is no escape of a pattern", c.escape_debug())),
                    None => return Err("the pattern ends in a backslash".to_owned()),
                },
                c => Token::Char(c),
            };
            tokens.push(token);
        }
        Ok(Pattern(tokens))
    }

    /// Bytes of the shortest or longest match at the start of `value`.
    pub fn prefix(&self, value: &str, longest: bool, budget: &mut Budget) -> Result<Option<usize>, String> {
        matched(&self.0, value.char_indices().map(|(at, c)| (at + c.len_utf8(), c)), longest, budget)
    }

    /// Where the shortest or longest match at the end of `value` begins.
    pub fn suffix(&self, value: &str, longest: bool, budget: &mut Budget) -> Result<Option<usize>, String> {
        let reversed: Vec<Token> = self.0.iter().rev().copied().collect();
        let bytes = matched(&reversed, value.char_indices().rev().map(|(at, c)| (value.len() - at, c)), longest, budget)?;
        Ok(bytes.map(|bytes| value.len() - bytes))
    }

    /// `value` with the first match, or all, replaced; `limit` bounds the result.
    pub fn replace(&self, value: &str, by: &str, all: bool, budget: &mut Budget, limit: usize) -> Result<String, String> {
        let mut out = String::new();
        let mut at = 0;
        let mut after_match = false;
        while at <= value.len() {
            let rest = &value[at..];
            let found = self.prefix(rest, true, budget)?.filter(|bytes| *bytes > 0 || !after_match);
            let next = rest.chars().next();
            match found {
                Some(bytes) => {
                    out.push_str(by);
                    if !all {
                        out.push_str(&rest[bytes..]);
                        return Ok(out);
                    }
                    at += bytes;
                    after_match = bytes > 0;
                    if bytes == 0 {
                        out.extend(next);
                        at += next.map_or(1, char::len_utf8);
                    }
                }
                None => {
                    out.extend(next);
                    at += next.map_or(1, char::len_utf8);
                    after_match = false;
                }
            }
            if out.len() > limit {
                return Err(format!("it grows beyond {limit} bytes"));
            }
        }
        Ok(out)
    }
}

/// Simulates all ways at once: `states[i]` is that the first `i` tokens have matched.
fn matched(tokens: &[Token], value: impl Iterator<Item = (usize, char)>, longest: bool, budget: &mut Budget) -> Result<Option<usize>, String> {
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    let close = |states: &mut [bool]| {
        for (i, token) in tokens.iter().enumerate() {
            if states[i] && *token == Token::Any {
                states[i + 1] = true;
            }
        }
    };
    close(&mut states);
    let mut best = states[tokens.len()].then_some(0);
    for (bytes, c) in value {
        if best.is_some() && !longest {
            break;
        }
        budget.spend(tokens.len() + 1)?;
        let mut next = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| states[*i]) {
            match token {
                Token::Any if c != '\n' => next[i] = true,
                Token::One if c != '\n' => next[i + 1] = true,
                Token::Char(wanted) if *wanted == c => next[i + 1] = true,
                _ => {}
            }
        }
        close(&mut next);
        if !next.contains(&true) {
            break;
        }
        if next[tokens.len()] {
            best = Some(bytes);
        }
        states = next;
    }
    Ok(best)
}
