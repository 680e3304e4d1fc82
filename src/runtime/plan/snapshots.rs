//! What representative configs compile to, in full and in words: [`engines`] has what engines write, [`features`] one
//! feature of the specification a case.
//!
//! Not of a plan, and so not here: limits and rules of cgroups (`runtime::cgroup`), poststart and poststop hooks (checked by
//! the compiler, run by `start` and `delete`), the console's size (`runtime::terminal`).

mod engines;
mod features;

use super::text::{self, render};
use super::{Plan, Request};
use crate::runtime::hooks::State;
use crate::runtime::{Root, config, process};
use serde_json::{Value, json};

/// A container with nothing but a mount namespace.
const BARE: &str = r#"{
    "ociVersion": "1.2.0", "root": {"path": "/r"},
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]}
}"#;

/// The plan of a config with some changes (RFC 7396), read as `create` reads it.
fn plan(config: &str, changes: Value) -> Plan {
    compile(config, changes, false)
}

fn compile(config: &str, changes: Value, no_pivot: bool) -> Plan {
    let mut document: Value = serde_json::from_str(config).unwrap();
    merge(&mut document, changes);
    let spec = config::read(&serde_json::to_vec(&document).unwrap()).unwrap().document;
    let state = State { oci_version: "1.2.0".to_owned(), id: "web".to_owned(), bundle: "/b".into(), annotations: Default::default() };
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    let request = Request {
        spec: &spec,
        root: &Root::Directory("/r".into()),
        bundle: Some("/b".as_ref()),
        sources: &[],
        no_pivot,
        user: None,
        keyring: Some("web"),
        terminal,
        netns: false,
        state: Some(&state),
    };
    Plan::compile(&request).unwrap()
}

/// What an exec of this process makes of it, as the second one of its container.
fn exec(document: Value) -> String {
    let own = config::read_process(&serde_json::to_vec(&document).unwrap()).unwrap().document;
    let spec = serde_json::from_str(BARE).unwrap();
    let request = process::Request { process: &own, user: None, spec: &spec, defaults: Some(&own), keyring: None };
    text::process(&process::compile(&request).unwrap())
}

/// JSON Merge Patch: objects are merged, null removes, all else replaces.
fn merge(into: &mut Value, changes: Value) {
    let Value::Object(changes) = changes else {
        *into = changes;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in changes {
        match into.as_object_mut() {
            Some(map) if value.is_null() => {
                map.remove(&key);
            }
            Some(map) => merge(map.entry(key).or_insert(Value::Null), value),
            None => unreachable!("it was made an object"),
        }
    }
}

/// Compares with the text in the test, in which indentation does not count.
fn expect(plan: &Plan, text: &str) {
    compare(&render(plan), text);
}

fn compare(actual: &str, text: &str) {
    let expected: Vec<&str> = text.trim().lines().map(str::trim_start).collect();
    let same = actual.lines().map(portable).eq(expected.iter().copied().map(portable));
    assert!(same, "the plan is another\n== expected ==\n{}\n== actual ==\n{actual}\n== end ==", expected.join("\n"));
}

/// The length of a filter is that of x86_64: another machine's tables of system calls make another.
fn portable(line: &str) -> &str {
    let rest = line.strip_prefix("seccomp: ").and_then(|filter| filter.split_once(" instructions"));
    if cfg!(target_arch = "x86_64") { line } else { rest.map_or(line, |(_, rest)| rest) }
}
