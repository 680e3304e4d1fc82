//! `created_by` of a history entry, as BuildKit writes it: tools read it, and people compare it.

use std::fmt::Write;

/// Ends the text of a step that made a layer from files or a process.
const MARK: &str = " # buildkit";

/// `RUN |2 A=1 B=2 /bin/sh -c cmd # buildkit`.
pub fn run<'a>(arguments: impl Iterator<Item = (&'a str, Option<&'a str>)>, argv: &[String]) -> String {
    let arguments: Vec<String> = arguments.map(|(name, value)| format!("{name}={}", value.unwrap_or_default())).collect();
    let count = if arguments.is_empty() { String::new() } else { format!("|{} {} ", arguments.len(), arguments.join(" ")) };
    format!("RUN {count}{}{MARK}", argv.join(" "))
}

/// `COPY --chown=1 src /dst # buildkit`, of words in their order.
pub fn transfer(keyword: &str, words: &[String]) -> String {
    format!("{keyword} {}{MARK}", words.join(" "))
}

/// `ENV a=b c=d`.
pub fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{keyword} {}", shown.join(" "))
}

/// `ARG a=b c`.
pub fn arguments(list: &[(String, Option<String>)]) -> String {
    let shown = |(name, value): &(String, Option<String>)| value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"));
    format!("ARG {}", list.iter().map(shown).collect::<Vec<_>>().join(" "))
}

/// `CMD ["a" "b"]`.
pub fn command(keyword: &str, words: &[String]) -> String {
    format!("{keyword} {}", quoted_list(words))
}

/// `EXPOSE [80/tcp]`, `VOLUME [/a /b]`, `SHELL [/bin/sh -c]`.
pub fn list(keyword: &str, words: &[String]) -> String {
    format!("{keyword} [{}]", words.join(" "))
}

/// `HEALTHCHECK &{["CMD-SHELL" "x"] "30s" "0s" "0s" "0s" '\x03'}`: how Go prints the struct.
pub fn healthcheck(test: &[String], durations: [i64; 4], retries: u32) -> String {
    let durations = durations.map(|nanos| format!("\"{}\"", duration(nanos))).join(" ");
    let retries = match char::from_u32(retries) {
        Some('\'') => "\\'".to_owned(),
        Some('"') => "\"".to_owned(),
        Some(c) => escaped(c),
        None => "\u{fffd}".to_owned(),
    };
    format!("HEALTHCHECK &{{{} {durations} '{retries}'}}", quoted_list(test))
}

fn quoted_list(words: &[String]) -> String {
    let quote = |word: &String| format!("\"{}\"", word.chars().map(escaped).collect::<String>());
    format!("[{}]", words.iter().map(quote).collect::<Vec<_>>().join(" "))
}

/// One character as Go's `%q` writes it within double quotes.
fn escaped(c: char) -> String {
    match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\x0b' => "\\v".to_owned(),
        '\'' => "'".to_owned(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.escape_debug().len() == 1 => c.to_string(),
        c => {
            let mut out = String::new();
            let (mark, width) = if u32::from(c) > 0xffff { ('U', 8) } else { ('u', 4) };
            write!(out, "\\{mark}{:0width$x}", u32::from(c)).expect("invariant: a string takes what is written");
            out
        }
    }
}

/// As Go prints a duration: `1m30s`, `500ms`, `0s`.
fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |unit: u64| {
        let digits = unit.ilog10() as usize;
        let rest = total % unit;
        let text = format!("{rest:0digits$}");
        let text = text.trim_end_matches('0');
        if rest == 0 { String::new() } else { format!(".{text}") }
    };
    let body = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}{}µs", total / 1_000, fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}{}ms", total / 1_000_000, fraction(1_000_000)),
        _ => {
            let seconds = total / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let tail = format!("{}{}s", seconds % 60, fraction(1_000_000_000));
            match (hours, minutes) {
                (0, 0) => tail,
                (0, minutes) => format!("{minutes}m{tail}"),
                (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
            }
        }
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, written) in [
            (0, "0s"),
            (5, "5ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (60_250_000_000, "1m0.25s"),
            (-2_000_000_000, "-2s"),
        ] {
            assert_eq!(duration(nanos), written);
        }
    }
}
