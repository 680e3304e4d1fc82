//! House rules that clippy cannot check: row order, the walls of files and functions, door headings, forbidden names,
//! where `unsafe` lives, that nothing unused is kept quiet.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by row; a room imports only from rows beneath it, and rooms on one row never import each other.
const ROWS: &[(&str, u32)] = &[
    ("cli", 8),
    ("server", 7),
    ("compose", 6),
    ("cluster", 6),
    ("build", 5),
    ("engine", 4),
    ("image", 3),
    ("network", 3),
    ("monitor", 3),
    ("manifest", 3),
    ("runtime", 2),
    ("state", 2),
    ("oci", 1),
    ("base", 1),
    ("sys", 0),
];

const WALL: usize = 800;
const FUNCTION_WALL: usize = 70;
/// Functions that may be longer, each with the reason. Empty, and better so.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];
const FORBIDDEN_FILES: &[&str] = &["mod.rs", "utils.rs", "util.rs", "helpers.rs", "helper.rs", "common.rs", "misc.rs", "types.rs"];
const HEADINGS: &[&str] = &["Lives here", "Invariants", "Not here", "Decisions"];

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&root.join("src"), &mut paths);
    sources(&root.join("tests"), &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "the sources were found");
    paths.into_iter().map(|p| (p.strip_prefix(root).unwrap().display().to_string(), fs::read_to_string(&p).unwrap())).collect()
}

fn room(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let name = rest.split('/').next()?.trim_end_matches(".rs");
    (name != "lib" && name != "main").then_some(name)
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn rooms_import_only_from_rows_beneath() {
    let rows: BTreeMap<&str, u32> = ROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for (path, text) in all() {
        let Some(here) = room(&path) else { continue };
        let Some(&row) = rows.get(here) else {
            faults.push(format!("{path}: room \"{here}\" is not in the plan"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for (at, _) in code.match_indices("crate::") {
                let names = code[at + 7..].trim_start_matches('{');
                let name: String = names.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if let Some(&other) = rows.get(name.as_str())
                    && name != here
                    && other >= row
                {
                    faults.push(format!("{path}:{}: {here} (row {row}) imports {name} (row {other})", number + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn no_file_is_over_the_wall() {
    let faults: Vec<String> =
        all().iter().filter(|(_, text)| text.lines().count() > WALL).map(|(path, text)| format!("{path}: {} lines", text.lines().count())).collect();
    report(&faults);
}

/// What stands between the lines `start` and the next heading of a module's own documentation.
fn section<'a>(text: &'a str, heading: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    lines.by_ref().find(|line| line.strip_prefix("## ") == Some(heading))?;
    Some(lines.take_while(|line| !line.starts_with("## ")).filter(|line| !line.is_empty()).collect())
}

#[test]
fn every_door_has_its_four_headings() {
    let mut faults = Vec::new();
    for (path, text) in all() {
        let Some(name) = path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")) else { continue };
        if name.contains('/') || name == "lib" || name == "main" {
            continue;
        }
        for heading in HEADINGS {
            match section(&text, heading) {
                None => faults.push(format!("{path}: the door lacks \"{heading}\"")),
                Some(lines) if lines.is_empty() => faults.push(format!("{path}: \"{heading}\" is empty")),
                Some(_) => {}
            }
        }
    }
    report(&faults);
}

/// Name, first line (from 1) and number of lines of each function with a body.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(keyword) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifier =
            |word: &str| word.starts_with("pub") || word.ends_with(')') || ["in", "const", "async", "unsafe", "extern", "\"C\""].contains(&word);
        if !words[..keyword].iter().all(|word| qualifier(word)) {
            continue;
        }
        // The house's layout: a body ends with a brace that stands as deep as its `fn`.
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = if one_line { 1 } else { lines[at..].iter().position(|l| *l == end).map_or(lines.len() - at, |n| n + 1) };
        let name = words.get(keyword + 1).and_then(|w| w.split(['(', '<']).next()).unwrap_or_default();
        found.push((name.to_owned(), at + 1, length));
    }
    found
}

#[test]
fn no_function_is_over_the_wall() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for (path, text) in all() {
        for (name, line, length) in functions(&text) {
            seen += 1;
            if length > FUNCTION_WALL && !LONG_FUNCTIONS.iter().any(|(file, function, _)| *file == path && *function == name) {
                faults.push(format!("{path}:{line}: {name} has {length} lines"));
            }
        }
    }
    assert!(seen > 1000, "the functions were found: {seen}");
    report(&faults);
}

#[test]
fn functions_are_counted() {
    let text = concat!("    pub(super) async f", "n a<T>(\n        x: T,\n    ) {\n        {\n        }\n    }\nf", "n b() {}\n");
    assert_eq!(functions(text), [("a".to_owned(), 1, 6), ("b".to_owned(), 7, 1)]);
}

#[test]
fn nothing_unused_is_kept_quiet() {
    let words = [
        concat!("allow(", "dead_code"),
        concat!("allow(", "unused"),
        concat!("expect(", "dead_code"),
        concat!("expect(", "unused"),
        concat!("allow(", "warnings"),
    ];
    let mut faults = Vec::new();
    for (path, text) in all() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_file_says_what_it_is() {
    let faults: Vec<String> = all().iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path.clone()).collect();
    report(&faults);
}

#[test]
fn no_forbidden_file_names() {
    let faults: Vec<String> =
        all().iter().filter(|(path, _)| FORBIDDEN_FILES.iter().any(|f| path.ends_with(&format!("/{f}")))).map(|(path, _)| path.clone()).collect();
    report(&faults);
}

#[test]
fn unsafe_lives_in_sys_alone() {
    let lift = concat!("allow(", "unsafe_code)");
    let faults: Vec<String> = all()
        .iter()
        .filter(|(path, text)| !path.starts_with("src/sys/") && path != "src/sys.rs" && text.contains(lift))
        .map(|(path, _)| path.clone())
        .collect();
    report(&faults);
}

#[test]
fn no_test_is_ignored_and_nothing_is_unfinished() {
    let words = [concat!("#[", "ignore"), concat!("unimplemented", "!("), concat!("STUB", ":"), concat!("FIX", "ME"), concat!("should_", "panic")];
    let mut faults = Vec::new();
    for (path, text) in all() {
        for (number, line) in text.lines().enumerate() {
            for word in words {
                if line.contains(word) {
                    faults.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    report(&faults);
}

/// A copy without its link would hold the path as its text, and no target would compile.
#[test]
fn what_is_fuzzed_is_linked() {
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/src"), &mut paths);
    let texts = paths.iter().filter(|path| fs::read_to_string(path).unwrap().starts_with("../"));
    report(&texts.map(|path| format!("{} is no link", path.display())).collect::<Vec<_>>());
}

#[test]
fn only_cli_prints() {
    let mut faults = Vec::new();
    for (path, text) in all() {
        let test = path.ends_with("tests.rs") || path.contains("/tests/");
        if path.starts_with("src/cli") || !path.starts_with("src/") || test {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
        for word in [concat!("print", "!("), concat!("println", "!(")] {
            if code.contains(word) {
                faults.push(format!("{path}: prints"));
            }
        }
    }
    report(&faults);
}
