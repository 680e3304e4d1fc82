//! `org.systemd.property.*`: further properties of the unit, from annotations of the container's config.
//!
//! Invariant: only the properties listed here pass, each with its own type; a value is one constant in GVariant's text form
//! (<https://docs.gtk.org/glib/gvariant-text-format.html>), never a command, a path to execute or another unit's business.

use super::super::Error;
use super::manager::Property;
use super::wire::Value;
use std::collections::HashMap;

const PREFIX: &str = "org.systemd.property.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Uint,
    Long,
    Text,
    Texts,
}

/// What may be set, sorted by name (types: `man 5 org.freedesktop.systemd1`, *Scope Unit Objects*). Left out is what would let
/// an annotation undo the driver's own work (`Delegate`, `PIDs`, `Slice`, `DevicePolicy`, …).
const ALLOWED: &[(&str, Kind)] = &[
    ("AddRef", Kind::Bool),
    ("After", Kind::Texts),
    ("Before", Kind::Texts),
    ("BindsTo", Kind::Texts),
    ("BlockIOAccounting", Kind::Bool),
    ("BlockIOWeight", Kind::Long),
    ("CPUAccounting", Kind::Bool),
    ("CPUQuotaPerSecUSec", Kind::Long),
    ("CPUQuotaPeriodUSec", Kind::Long),
    ("CPUShares", Kind::Long),
    ("CPUWeight", Kind::Long),
    ("CollectMode", Kind::Text),
    ("Conflicts", Kind::Texts),
    ("DefaultDependencies", Kind::Bool),
    ("Description", Kind::Text),
    ("Documentation", Kind::Texts),
    ("FinalKillSignal", Kind::Int),
    ("IOAccounting", Kind::Bool),
    ("IOWeight", Kind::Long),
    ("IPAccounting", Kind::Bool),
    ("IgnoreOnIsolate", Kind::Bool),
    ("JobRunningTimeoutUSec", Kind::Long),
    ("JobTimeoutUSec", Kind::Long),
    ("KillMode", Kind::Text),
    ("KillSignal", Kind::Int),
    ("ManagedOOMMemoryPressure", Kind::Text),
    ("ManagedOOMMemoryPressureLimit", Kind::Uint),
    ("ManagedOOMPreference", Kind::Text),
    ("ManagedOOMSwap", Kind::Text),
    ("MemoryAccounting", Kind::Bool),
    ("MemoryHigh", Kind::Long),
    ("MemoryLimit", Kind::Long),
    ("MemoryLow", Kind::Long),
    ("MemoryMax", Kind::Long),
    ("MemoryMin", Kind::Long),
    ("MemorySwapMax", Kind::Long),
    ("OOMPolicy", Kind::Text),
    ("PartOf", Kind::Texts),
    ("Requires", Kind::Texts),
    ("RequiresMountsFor", Kind::Texts),
    ("Requisite", Kind::Texts),
    ("RestartKillSignal", Kind::Int),
    ("RuntimeMaxUSec", Kind::Long),
    ("SendSIGHUP", Kind::Bool),
    ("SendSIGKILL", Kind::Bool),
    ("StartupBlockIOWeight", Kind::Long),
    ("StartupCPUShares", Kind::Long),
    ("StartupCPUWeight", Kind::Long),
    ("StartupIOWeight", Kind::Long),
    ("TasksAccounting", Kind::Bool),
    ("TasksMax", Kind::Long),
    ("TimeoutStopUSec", Kind::Long),
    ("UpheldBy", Kind::Texts),
    ("Wants", Kind::Texts),
];

/// The properties that annotations ask for, by name.
///
/// # Errors
/// [`Error::Annotation`] for a property that may not be set, or a value of another type.
pub(super) fn read(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Error> {
    let mut properties = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let invalid = |why: &str| Error::Annotation { key: key.clone(), value: text.clone(), why: why.to_owned() };
        // Units files write seconds where the bus has microseconds; both names are in use.
        let seconds = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')).map(|stem| format!("{stem}USec"));
        let name = seconds.as_deref().unwrap_or(name);
        let found = ALLOWED.binary_search_by(|(known, _)| (*known).cmp(name));
        let kind = found.map(|at| ALLOWED[at].1).map_err(|_| invalid("this property cannot be set by an annotation"))?;
        let value = parse(kind, text.trim(), seconds.is_some()).ok_or_else(|| invalid(expected(kind)))?;
        properties.push((name.to_owned(), value));
    }
    properties.sort_by(|one, other| one.0.cmp(&other.0));
    if let Some(pair) = properties.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (key, value) = (format!("{PREFIX}{}", pair[0].0), format!("{:?}", pair[1].1));
        return Err(Error::Annotation { key, value, why: "it is given twice, in seconds and microseconds".to_owned() });
    }
    Ok(properties)
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "expected true or false",
        Kind::Int => "expected a number like 15 or int32 15",
        Kind::Uint => "expected a number like 7 or uint32 7",
        Kind::Long => "expected a number like 7 or uint64 7",
        Kind::Text => "expected a text in quotes, like 'inactive-or-failed'",
        Kind::Texts => "expected a list like ['a.service', 'b.service']",
    }
}

fn parse(kind: Kind, text: &str, seconds: bool) -> Option<Value> {
    match kind {
        Kind::Bool => match bare(text, "boolean", "@b") {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::Int => {
            let text = bare(text, "int32", "@i");
            let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
            let number = i64::try_from(integer(digits)?).ok()?;
            i32::try_from(if negative { -number } else { number }).ok().map(Value::Int)
        }
        Kind::Uint => u32::try_from(integer(bare(text, "uint32", "@u"))?).ok().map(Value::Uint),
        Kind::Long if seconds => microseconds(text).map(Value::Long),
        Kind::Long => integer(bare(text, "uint64", "@t")).map(Value::Long),
        Kind::Text => quoted(bare(text, "string", "@s")).and_then(|(text, rest)| rest.trim().is_empty().then_some(Value::Text(text))),
        Kind::Texts => list(bare(text, "", "@as")).map(Value::Texts),
    }
}

/// The value without the type that may be written in front (`uint64 5`, `@t 5`).
fn bare<'a>(text: &'a str, word: &str, mark: &str) -> &'a str {
    let without = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !prefix.is_empty() && rest.starts_with(char::is_whitespace));
    without(word).or_else(|| without(mark)).map_or(text, str::trim_start)
}

/// A number as in C: decimal, `0x…` or `0…`.
fn integer(text: &str) -> Option<u64> {
    let digits = |text: &str, radix: u32| (!text.starts_with('+')).then(|| u64::from_str_radix(text, radix).ok()).flatten();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(&text[1..], 8),
        None => digits(text, 10),
    }
}

/// Seconds, of whatever number type, as microseconds.
fn microseconds(text: &str) -> Option<u64> {
    let words = ["uint64", "int64", "uint32", "int32", "uint16", "int16", "byte", "double"];
    let text = words.iter().map(|word| bare(text, word, "")).find(|rest| *rest != text).unwrap_or(text);
    if let Some(number) = integer(text) {
        return number.checked_mul(1_000_000);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = text.parse().ok().filter(|_| plain)?;
    (seconds < 1e12).then(|| (seconds * 1e6).round() as u64)
}

/// A text in single or double quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|first| *first == '\'' || *first == '"')?;
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            end if end == quote => return Some((out, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                same @ ('\\' | '\'' | '"') => out.push(same),
                _ => return None,
            },
            // D-Bus texts have no zero byte; nobody means another control character.
            other if other.is_control() => return None,
            other => out.push(other),
        }
    }
    None
}

fn list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.trim_start();
    let mut texts = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return after.trim().is_empty().then_some(texts);
        }
        let (text, after) = quoted(rest)?;
        texts.push(text);
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.starts_with(']') => rest,
            None => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<Property, String> {
        let map = HashMap::from([(format!("{PREFIX}{name}"), value.to_owned()), ("other".to_owned(), "x".to_owned())]);
        read(&map).map(|mut list| list.remove(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_have_the_type_of_their_property() {
        assert!(ALLOWED.is_sorted_by(|one, other| one.0 < other.0));
        let text = |text: &str| Value::Text(text.to_owned());
        for (name, value, wanted) in [
            ("TimeoutStopUSec", "uint64 123456789", Value::Long(123_456_789)),
            ("TimeoutStopUSec", "@t 0x10", Value::Long(16)),
            ("CollectMode", "'inactive-or-failed'", text("inactive-or-failed")),
            ("Description", r#""it's \"so\"""#, text("it's \"so\"")),
            ("DefaultDependencies", "false", Value::Bool(false)),
            ("KillSignal", "int32 15", Value::Int(15)),
            ("KillSignal", "-1", Value::Int(-1)),
            ("After", "['a.service' , \"b.service\"]", Value::Texts(vec!["a.service".to_owned(), "b.service".to_owned()])),
            ("Wants", "@as []", Value::Texts(Vec::new())),
            ("ManagedOOMMemoryPressureLimit", "uint32 7", Value::Uint(7)),
        ] {
            assert_eq!(one(name, value).unwrap(), (name.to_owned(), wanted), "{name} {value}");
        }
        assert_eq!(one("TimeoutStopSec", "uint64 2").unwrap(), ("TimeoutStopUSec".to_owned(), Value::Long(2_000_000)));
        assert_eq!(one("RuntimeMaxSec", "1.5").unwrap(), ("RuntimeMaxUSec".to_owned(), Value::Long(1_500_000)));
    }

    #[test]
    fn free_text_and_other_properties_are_refused() {
        for (name, value) in [
            ("TimeoutStopUSec", "soon"),
            ("TimeoutStopUSec", "'5'"),
            ("TimeoutStopUSec", "int32 5"),
            ("CollectMode", "inactive"),
            ("CollectMode", "'a' 'b'"),
            ("CollectMode", "'a\n'"),
            ("After", "['a' 'b']"),
            ("After", "['a'"),
            ("DefaultDependencies", "yes"),
            ("KillSignal", "99999999999"),
        ] {
            assert!(one(name, value).is_err(), "{name} {value}");
        }
        let error = one("ExecStart", "'/bin/sh'").unwrap_err();
        assert_eq!(error, "invalid annotation org.systemd.property.ExecStart=\"'/bin/sh'\": this property cannot be set by an annotation");
        for name in ["Delegate", "PIDs", "Slice", "DeviceAllow", "", "Sec", "after"] {
            assert!(one(name, "true").is_err(), "{name}");
        }
    }
}
