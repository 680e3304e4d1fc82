//! The command line of `rcon-runtime` as its callers use it: real containers, own roots, a leak check at the end of each test.

#![allow(clippy::unwrap_used)]

#[path = "oci/exec.rs"]
mod exec;
#[path = "oci/globals.rs"]
mod globals;
#[path = "oci/half_created.rs"]
mod half_created;
#[path = "oci/lab.rs"]
mod lab;
#[path = "oci/lifecycle.rs"]
mod lifecycle;
#[path = "oci/limits.rs"]
mod limits;
#[path = "shared/outcome.rs"]
mod outcome;
#[path = "oci/streams.rs"]
mod streams;

#[test]
fn no_test_file_is_forgotten() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oci.rs")).unwrap();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oci")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(text.contains(&format!("oci/{name}")), "{name} is not part of tests/oci.rs");
    }
}
