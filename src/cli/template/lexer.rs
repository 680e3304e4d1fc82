//! Template text → tokens: literal text, and the words inside `{{ }}`.

/// One token. `Open` and `Close` bracket an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Text(String),
    Open,
    Close,
    Dot,
    /// `.Name`; `adjacent` when it follows the token before without a blank.
    Field {
        name: String,
        adjacent: bool,
    },
    /// `$` or `$name`, without the dollar.
    Variable(String),
    Word(String),
    Str(String),
    Int(i64),
    Float(f64),
    LeftParen,
    RightParen,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// # Errors
/// An action, a string or a comment that is left open, or a character that no token has.
pub fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    loop {
        let start = rest.find("{{");
        let mut literal = &rest[..start.unwrap_or(rest.len())];
        if trim_next {
            literal = literal.trim_start();
        }
        let Some(start) = start else {
            push_text(&mut tokens, literal);
            return Ok(tokens);
        };
        let mut action = &rest[start + 2..];
        if let Some(trimmed) = action.strip_prefix('-').filter(|after| after.starts_with(char::is_whitespace)) {
            literal = literal.trim_end();
            action = trimmed;
        }
        push_text(&mut tokens, literal);
        if let Some(comment) = action.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or("unclosed comment")?;
            let after = comment[end + 2..].trim_start();
            (rest, trim_next) = match (after.strip_prefix("}}"), after.strip_prefix("-}}")) {
                (Some(after), _) => (after, false),
                (_, Some(after)) => (after, true),
                _ => return Err("a comment ends before its action does".to_owned()),
            };
            continue;
        }
        tokens.push(Token::Open);
        (rest, trim_next) = lex_action(action, &mut tokens)?;
        tokens.push(Token::Close);
    }
}

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// Lexes up to `}}`; returns what follows, and whether its leading blanks are cut.
fn lex_action<'a>(mut rest: &'a str, tokens: &mut Vec<Token>) -> Result<(&'a str, bool), String> {
    loop {
        let trimmed = rest.trim_start();
        let adjacent = trimmed.len() == rest.len();
        if let Some(after) = trimmed.strip_prefix("-}}").filter(|_| !adjacent) {
            return Ok((after, true));
        }
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Ok((after, false));
        }
        if trimmed.is_empty() {
            return Err("unclosed action".to_owned());
        }
        let (token, after) = next(trimmed, adjacent)?;
        tokens.push(token);
        rest = after;
    }
}

fn next(text: &str, adjacent: bool) -> Result<(Token, &str), String> {
    for (prefix, token) in
        [("(", Token::LeftParen), (")", Token::RightParen), ("|", Token::Pipe), (",", Token::Comma), (":=", Token::Declare), ("=", Token::Assign)]
    {
        if let Some(rest) = text.strip_prefix(prefix) {
            return Ok((token, rest));
        }
    }
    let first = text.chars().next().unwrap_or(' ');
    match first {
        '"' => quoted(&text[1..], '"').map(|(value, rest)| (Token::Str(value), rest)),
        '\'' => character(&text[1..]),
        '`' => {
            let end = text[1..].find('`').ok_or("unterminated raw string")?;
            Ok((Token::Str(text[1..=end].to_owned()), &text[end + 2..]))
        }
        '$' => {
            let (name, rest) = word(&text[1..]);
            Ok((Token::Variable(name.to_owned()), rest))
        }
        '.' if !text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (name, rest) = word(&text[1..]);
            let token = if name.is_empty() { Token::Dot } else { Token::Field { name: name.to_owned(), adjacent } };
            Ok((token, rest))
        }
        '0'..='9' | '-' | '+' | '.' => number(text),
        _ => {
            let (name, rest) = word(text);
            if name.is_empty() { Err(format!("unexpected \"{first}\" in an action")) } else { Ok((Token::Word(name.to_owned()), rest)) }
        }
    }
}

/// The longest identifier at the start, and the rest.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_alphanumeric() || *c == '.' || *c == '_' || (*i == 0 && matches!(c, '-' | '+'))))
        .map_or(text.len(), |(i, _)| i);
    let (digits, rest) = text.split_at(end);
    if let Some(value) = integer(digits) {
        return Ok((Token::Int(value), rest));
    }
    digits.replace('_', "").parse::<f64>().map(|value| (Token::Float(value), rest)).map_err(|_| format!("bad number \"{digits}\""))
}

/// Go's integer literals: `10`, `1_000`, `0x1f`, `0b11`, `0o17`.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-'])) {
            return i64::from_str_radix(&format!("{sign}{digits}"), base).ok();
        }
    }
    if digits.starts_with(['+', '-']) { None } else { format!("{sign}{digits}").parse().ok() }
}

/// A character constant, after its opening quote: its number.
fn character(text: &str) -> Result<(Token, &str), String> {
    let (value, rest) = quoted(text, '\'').map_err(|_| "unterminated character constant")?;
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok((Token::Int(i64::from(u32::from(c))), rest)),
        _ => Err("malformed character constant".to_owned()),
    }
}

/// An interpreted string, after its opening quote; what follows the closing one.
fn quoted(text: &str, close: char) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == close => return Ok((value, &text[at + c.len_utf8()..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some(c @ ('"' | '\\' | '\'')) => value.push(c),
                Some(kind @ ('x' | 'u' | 'U')) => {
                    let digits: String = chars
                        .by_ref()
                        .take(if kind == 'x' {
                            2
                        } else if kind == 'u' {
                            4
                        } else {
                            8
                        })
                        .map(|(_, c)| c)
                        .collect();
                    let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    value.push(c.ok_or_else(|| format!("unknown escape \"\\{kind}{digits}\" in a string"))?);
                }
                other => return Err(format!("unknown escape \"\\{}\" in a string", other.map(String::from).unwrap_or_default())),
            },
            '\n' => break,
            c => value.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let field = |name: &str, adjacent| Token::Field { name: name.into(), adjacent };
        let tokens = lex("a{{- .A.B (f $x) -3 1.5 -}} b{{.}}").unwrap();
        assert_eq!(tokens[..3], [Token::Text("a".into()), Token::Open, field("A", false)]);
        assert_eq!(tokens[3], field("B", true));
        assert!(tokens.contains(&Token::Int(-3)) && tokens.contains(&Token::Float(1.5)) && tokens.contains(&Token::Text("b".into())));
        assert_eq!(lex("{{\"a\\\"}}b\"}}").unwrap()[1], Token::Str("a\"}}b".into()));
        assert!(lex("{{/* x}}").is_err() && lex("{{#}}").is_err());
    }
}
