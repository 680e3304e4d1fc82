//! The command line row by row: the cases of tests/rows with rcon, a file at a time; docs/compatibility.md tells their
//! differences to the peers and is held to them. `integration/peers/rows.sh` runs the same cases with Docker and podman.

use crate::environment::Environment;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const PEERS: [&str; 2] = ["docker", "podman"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rows")
}

/// Runs the cases of one file in an engine of their own.
#[track_caller]
fn run(name: &str) {
    let engine = Environment::new();
    let work = engine.root.join("work");
    fs::create_dir(&work).unwrap();
    let mut command = engine.inside(directory().join("run.sh").to_str().unwrap());
    command.args(["rcon", directory().join(name).with_added_extension("rows").to_str().unwrap()]);
    command.env("E", env!("CARGO_BIN_EXE_rcon")).env("I", "busybox").env("WORK", &work);
    command.env("RCON_ROOT", engine.root.join("data")).env("RCON_RUN_ROOT", engine.root.join("run"));
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.lines().filter(|line| line.starts_with("  ok  ")).count() > 0, "no case was run: {text}");
}

macro_rules! files {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            run($name);
        })*

        const FILES: &[&str] = &[$($name),*];
    };
}

files! {
    conventions "0-conventions"
    containers "1-containers"
    flags "1a-flags"
    attach "1b-attach"
    mounts "1c-mounts"
    env_files "1d-files"
    stopping "1e-stop"
    health "1f-health"
    listings "1g-listings"
    documents "1h-inspect"
    volumes "3-volumes"
    networks "4-networks"
    pods "5-pods"
    system "6-system"
}

/// One case, as far as the document needs it.
struct Case {
    section: String,
    row: String,
    what: String,
    /// (peer, why, it lacks the row).
    differences: Vec<(String, String, bool)>,
}

/// A difference has a reason, and is one.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in FILES {
        let text = fs::read_to_string(directory().join(name).with_added_extension("rows")).unwrap();
        for block in text.split("\n## ").skip(1) {
            let (title, body) = block.split_once('\n').unwrap();
            let (row, what) = title.split_once(" | ").unwrap_or_else(|| panic!("{name}: \"{title}\" is not ROW | WHAT"));
            let mut parts = body.split("\n-- ");
            let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let (_, wanted) = parts.next().unwrap().split_once("\n--\n").unwrap_or_else(|| panic!("{name}: \"{title}\" says not what it prints"));
            let difference = |part: &str| {
                let (head, body) = part.split_once('\n').unwrap_or((part, ""));
                let (lacks, rest) = head.strip_prefix("lacks ").map_or((false, head), |rest| (true, rest));
                let (peer, why) = rest.split_once(": ").unwrap_or_else(|| panic!("{name}: \"{head}\" gives no reason"));
                assert!(PEERS.contains(&peer) && why.len() > 10, "{name}: \"{head}\" is no difference of a peer with its reason");
                assert!(lacks || lines(body) != lines(wanted), "{name}: \"{title}\": {peer} does not differ");
                (peer.to_owned(), why.to_owned(), lacks)
            };
            let section = name.split('-').next().unwrap();
            cases.push(Case {
                section: section.to_owned(),
                row: row.to_owned(),
                what: what.to_owned(),
                differences: parts.map(difference).collect(),
            });
        }
    }
    cases
}

/// (section, row, why rcon lacks it).
fn index() -> Vec<(String, String, Option<String>)> {
    let text = fs::read_to_string(directory().join("index.txt")).unwrap();
    let row = |line: &str| {
        let mut parts = line.splitn(3, " | ").map(str::to_owned);
        let lacks = |text: String| text.strip_prefix("lacks: ").unwrap_or_else(|| panic!("\"{line}\"")).to_owned();
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().map(lacks))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

#[test]
fn every_row_has_its_case_or_is_named_as_missing() {
    let cases = cases();
    let covered: BTreeSet<(&str, &str)> = cases.iter().map(|case| (case.section.as_str(), case.row.as_str())).collect();
    let index = index();
    let mut faults = Vec::new();
    for (section, row, lacks) in &index {
        if covered.contains(&(section.as_str(), row.as_str())) == lacks.is_some() {
            faults.push(format!("{section} {row}: {}", if lacks.is_some() { "has a case and is said to be missing" } else { "has no case" }));
        }
    }
    for (section, row) in &covered {
        if !index.iter().any(|(s, r, _)| s == section && r == row) {
            faults.push(format!("{section} {row}: is not in index.txt"));
        }
    }
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.strip_suffix(".rows").is_some_and(|name| !FILES.contains(&name)) {
            faults.push(format!("{name}: is not run"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The sections as the document heads them.
const SECTIONS: &[(&str, &str)] = &[
    ("0", "Conventions"),
    ("1", "Commands about containers"),
    ("1a", "Flags of run and create"),
    ("1b", "Attach, terminals, signals"),
    ("1c", "Mounts and volumes"),
    ("1d", "Env files"),
    ("1e", "Stop and restart"),
    ("1f", "Health checks"),
    ("1g", "Listings, logs, cp, diff"),
    ("1h", "Documents of inspect"),
    ("3", "Volumes"),
    ("4", "Networks"),
    ("5", "Pods"),
    ("6", "The engine itself"),
];

fn document() -> String {
    let (cases, index) = (cases(), index());
    let mut text = format!(
        "# Compatibility\n\n{} cases, a row of Docker's and podman's command line at a time, are run with rcon, Docker (command line 28.2, engine 20.10) and\n\
         podman (4.3). What is not named here is the same with all three. This file is written from the cases in `tests/rows`\n\
         (`RCON_BLESS=1 cargo test --test cli rows`), which say exactly what each engine answers.\n",
        cases.len()
    );
    for (section, title) in SECTIONS {
        let mut rows = String::new();
        for case in cases.iter().filter(|case| case.section == *section) {
            for (peer, why, lacks) in &case.differences {
                let peer = if *peer == "docker" { "Docker" } else { "podman" };
                let lacks = if *lacks { " (not run there)" } else { "" };
                writeln!(rows, "| `{}` | {} | {peer} | {why}{lacks} |", cell(&case.row), cell(&case.what)).unwrap();
            }
        }
        if !rows.is_empty() {
            write!(text, "\n## {title}\n\n| row | what | differs | how |\n|---|---|---|---|\n{rows}").unwrap();
        }
    }
    let missing: Vec<_> = index.iter().filter_map(|(section, row, lacks)| Some((section, row, lacks.as_ref()?))).collect();
    if !missing.is_empty() {
        text.push_str("\n## What rcon does not have\n\n| row | why |\n|---|---|\n");
        for (section, row, why) in missing {
            let title = SECTIONS.iter().find(|(name, _)| name == section).unwrap().1;
            writeln!(text, "| {title}: `{}` | {why} |", cell(row)).unwrap();
        }
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_document_says_what_the_cases_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let wanted = document();
    if std::env::var_os("RCON_BLESS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/compatibility.md is not what the cases say: RCON_BLESS=1 cargo test --test cli rows");
}
