//! The functions of templates: Go's built-in ones and Docker's (json, split, join, title, lower, upper, pad,
//! truncate), and how Go prints values.

use serde_json::Value;
use std::cmp::Ordering;

const NAMES: &[&str] = &[
    "json", "split", "join", "title", "lower", "upper", "pad", "truncate", "println", "print", "printf", "index", "len", "eq", "ne", "lt", "le",
    "gt", "ge", "and", "or", "not", "slice", "html", "js", "urlquery",
];

/// Widest field that printf and pad make.
const MAX_WIDTH: usize = 10_000;

pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Compact JSON without the hidden keys.
pub fn json(value: &Value) -> String {
    match value {
        Value::Object(map) if map.keys().any(|key| key.starts_with('\0')) => {
            let shown: serde_json::Map<String, Value> =
                map.iter().filter(|(key, _)| !key.starts_with('\0')).map(|(k, v)| (k.clone(), v.clone())).collect();
            Value::Object(shown).to_string()
        }
        other => other.to_string(),
    }
}

/// A value as Go's `%v` prints it.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().filter(|(key, _)| !key.starts_with('\0')).collect();
            items.sort_by(|a, b| a.0.cmp(b.0));
            format!("map[{}]", items.iter().map(|(key, value)| format!("{key}:{}", show(value))).collect::<Vec<_>>().join(" "))
        }
    }
}

fn number(n: &serde_json::Number) -> String {
    match (n.as_i64(), n.as_u64(), n.as_f64()) {
        (Some(i), ..) => i.to_string(),
        (_, Some(u), _) => u.to_string(),
        (.., Some(f)) => f.to_string(),
        _ => n.to_string(),
    }
}

/// False for null, false, zero and everything empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls a function that [`exists`].
///
/// # Errors
/// Wrong arguments.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("json", [value]) => Ok(json(value).into()),
        ("split", [text, Value::String(separator)]) if separator.is_empty() => {
            Ok(str_of(text)?.chars().map(|c| Value::from(c.to_string())).collect())
        }
        ("split", [text, separator]) => Ok(str_of(text)?.split(str_of(separator)?).map(Value::from).collect()),
        ("join", [Value::Null, _]) => Ok("".into()),
        ("join", [Value::Array(list), separator]) => Ok(list.iter().map(show).collect::<Vec<_>>().join(str_of(separator)?).into()),
        ("title", [text]) => Ok(title(&show(text)).into()),
        ("lower", [text]) => Ok(show(text).to_lowercase().into()),
        ("upper", [text]) => Ok(show(text).to_uppercase().into()),
        ("pad", [text, before, after]) => {
            let blanks = |value: &Value| int_of(value).map(|n| " ".repeat(usize::try_from(n).unwrap_or(0).min(MAX_WIDTH)));
            let text = show(text);
            Ok(if text.is_empty() { text.into() } else { format!("{}{text}{}", blanks(before)?, blanks(after)?).into() })
        }
        ("truncate", [text, length]) => {
            let length = usize::try_from(int_of(length)?).map_err(|_| "the length is negative")?;
            Ok(show(text).chars().take(length).collect::<String>().into())
        }
        ("println", list) => Ok((list.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("print", list) => Ok(print(list).into()),
        ("printf", [format, rest @ ..]) => printf(str_of(format)?, rest).map(Value::from),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("len", [value]) => length(value).map(Value::from),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            let mut equal = false;
            for other in rest {
                equal |= equals(first, other)?;
            }
            Ok(equal.into())
        }
        ("ne", [a, b]) => Ok((!equals(a, b)?).into()),
        ("lt", [a, b]) => Ok((compare(a, b)? == Ordering::Less).into()),
        ("le", [a, b]) => Ok((compare(a, b)? != Ordering::Greater).into()),
        ("gt", [a, b]) => Ok((compare(a, b)? == Ordering::Greater).into()),
        ("ge", [a, b]) => Ok((compare(a, b)? != Ordering::Less).into()),
        // The machine stopped at the first value that decides; here the last one is left.
        ("and" | "or", [.., last]) => Ok(last.clone()),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("html", list) => Ok(escaped(&print(list), html).into()),
        ("js", list) => Ok(escaped(&print(list), js).into()),
        ("urlquery", list) => Ok(urlquery(&print(list)).into()),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        _ => Err("wrong number or type of arguments".to_owned()),
    }
}

fn str_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("expected a string, not {}", show(value)))
}

fn int_of(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("expected an integer, not {}", show(value)))
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

/// Blanks between operands when neither is a string, as Go's `Sprint`.
fn print(list: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in list.iter().enumerate() {
        if i > 0 && !list[i - 1].is_string() && !value.is_string() {
            out.push(' ');
        }
        out.push_str(&show(value));
    }
    out
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of {}", show(other))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Err("index of untyped nil".to_owned()),
        Value::Array(list) => {
            let at = int_of(key)?;
            usize::try_from(at).ok().and_then(|at| list.get(at)).cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::Object(map) => match map.get(str_of(key)?) {
            Some(value) => Ok(value.clone()),
            // The zero value of a map of strings is the empty string.
            None if map.values().all(Value::is_string) => Ok("".into()),
            None => Ok(Value::Null),
        },
        other => Err(format!("can't index {}", show(other))),
    }
}

fn equals(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Ok(a.as_f64() == b.as_f64()),
        _ if a.is_null() || b.is_null() => Ok(a == b),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(|| "numbers without an order".to_owned()),
        },
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let size = length(value)?;
    let bound = |i: usize, default: usize| {
        bounds.get(i).map_or(Ok(default), |b| int_of(b).and_then(|b| usize::try_from(b).map_err(|_| format!("index out of range: {b}"))))
    };
    let (from, to) = (bound(0, 0)?, bound(1, size)?);
    if from > to || to > size {
        return Err(format!("index out of range: {from}:{to}"));
    }
    match value {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(|| "the slice cuts a character".to_owned()),
        Value::Array(list) => Ok(list[from..to].to_vec().into()),
        other => Err(format!("can't slice {}", show(other))),
    }
}

/// Go's Sprintf with the verbs %s %v %d %q %t %x %X %o %b %c %U %e %f %g %T %% and flags, width and precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut plus) = (false, false, false);
        while let Some(flag @ ('-' | '0' | '+' | ' ' | '#')) = chars.peek().copied() {
            left |= flag == '-';
            zero |= flag == '0';
            plus |= flag == '+';
            chars.next();
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = Some((number.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
                chars.next();
            }
            number
        };
        let width = digits(&mut chars).unwrap_or(0);
        let precision = chars.next_if_eq(&'.').map(|_| digits(&mut chars).unwrap_or(0));
        let verb = chars.next().ok_or("the format ends with %")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = rest.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let mut text = verb_text(verb, value, precision);
        if plus && value.is_number() && !text.starts_with('-') {
            text.insert(0, '+');
        }
        let blanks = width.saturating_sub(text.chars().count());
        match (left, zero && value.is_number()) {
            (true, _) => out.push_str(&(text + &" ".repeat(blanks))),
            (false, true) => {
                let at = usize::from(text.starts_with(['-', '+']));
                text.insert_str(at, &"0".repeat(blanks));
                out.push_str(&text);
            }
            (false, false) => out.push_str(&(" ".repeat(blanks) + &text)),
        }
    }
    Ok(out)
}

fn verb_text(verb: char, value: &Value, precision: Option<usize>) -> String {
    let float = |n: &serde_json::Number| n.as_f64().unwrap_or(0.0);
    match (verb, value) {
        ('s' | 'v', Value::String(text)) => text.chars().take(precision.unwrap_or(usize::MAX)).collect(),
        ('v' | 's', Value::Array(_) | Value::Object(_) | Value::Null) | ('v', _) => show(value),
        ('q', Value::String(text)) => Value::from(text.as_str()).to_string(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::String(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('T', _) => type_name(value).to_owned(),
        ('f' | 'F', Value::Number(n)) if n.is_f64() => format!("{:.*}", precision.unwrap_or(6), float(n)),
        ('e', Value::Number(n)) if n.is_f64() => exponent(float(n), precision.unwrap_or(6)),
        ('g', Value::Number(n)) if n.is_f64() => float(n).to_string(),
        (_, Value::Number(n)) if !n.is_f64() => integer(verb, n).unwrap_or_else(|| wrong_verb(verb, value)),
        _ => wrong_verb(verb, value),
    }
}

fn wrong_verb(verb: char, value: &Value) -> String {
    if value.is_null() { format!("%!{verb}(<nil>)") } else { format!("%!{verb}({}={})", type_name(value), show(value)) }
}

fn integer(verb: char, n: &serde_json::Number) -> Option<String> {
    let (negative, size) = match n.as_i64() {
        Some(i) => (i < 0, i.unsigned_abs()),
        None => (false, n.as_u64()?),
    };
    let digits = match verb {
        'd' => size.to_string(),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'o' => format!("{size:o}"),
        'b' => format!("{size:b}"),
        'c' => return Some(u32::try_from(size).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()),
        'U' => format!("U+{size:04X}"),
        _ => return None,
    };
    Some(if negative { format!("-{digits}") } else { digits })
}

/// Go writes two digits of exponent at least, with a sign.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn escaped(text: &str, replace: impl Fn(char) -> Option<String>) -> String {
    text.chars().map(|c| replace(c).unwrap_or_else(|| c.to_string())).collect()
}

/// As text/template's HTMLEscape.
fn html(c: char) -> Option<String> {
    let entity = match c {
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '\0' => "\u{fffd}",
        _ => return None,
    };
    Some(entity.to_owned())
}

/// As text/template's JSEscape.
fn js(c: char) -> Option<String> {
    match c {
        '\\' | '\'' | '"' => Some(format!("\\{c}")),
        '<' | '>' | '&' | '=' => Some(format!("\\u{:04X}", u32::from(c))),
        c if c.is_control() => Some(format!("\\u{:04X}", u32::from(c))),
        _ => None,
    }
}

/// As net/url's QueryEscape.
fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
