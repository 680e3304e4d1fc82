//! The command line as a user meets it: real containers, own roots, own network namespace, leak check at the end of each test.

#![allow(clippy::unwrap_used)]

#[path = "cli/changes.rs"]
mod changes;
#[path = "cli/containers.rs"]
mod containers;
#[path = "cli/environment.rs"]
mod environment;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/images.rs"]
mod images;
#[path = "shared/outcome.rs"]
mod outcome;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/userns.rs"]
mod userns;
#[path = "cli/volumes.rs"]
mod volumes;

#[test]
fn no_test_file_is_forgotten() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli.rs")).unwrap();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(text.contains(&format!("cli/{name}")), "{name} is not part of tests/cli.rs");
    }
}
