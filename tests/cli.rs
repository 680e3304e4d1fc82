//! The command line as a user meets it: real containers, own roots, own network namespace, leak check at the end of each test.

#![allow(clippy::unwrap_used)]

#[path = "cli/build.rs"]
mod build;
#[path = "cli/build_cache.rs"]
mod build_cache;
#[path = "cli/build_cancel.rs"]
mod build_cancel;
#[path = "cli/build_outputs.rs"]
mod build_outputs;
#[path = "cli/build_platforms.rs"]
mod build_platforms;
#[path = "cli/build_reproducible.rs"]
mod build_reproducible;
#[path = "cli/changes.rs"]
mod changes;
#[path = "cli/cni.rs"]
mod cni;
#[path = "cli/commit.rs"]
mod commit;
#[path = "cli/containers.rs"]
mod containers;
#[path = "cli/environment.rs"]
mod environment;
#[path = "cli/events.rs"]
mod events;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/flags.rs"]
mod flags;
#[path = "cli/health.rs"]
mod health;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/images.rs"]
mod images;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/moving.rs"]
mod moving;
#[path = "shared/outcome.rs"]
mod outcome;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/partings.rs"]
mod partings;
#[path = "cli/pods.rs"]
mod pods;
#[path = "cli/rows.rs"]
mod rows;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/system.rs"]
mod system;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/userns.rs"]
mod userns;
#[path = "cli/verbs.rs"]
mod verbs;
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
