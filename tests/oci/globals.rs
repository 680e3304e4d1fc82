//! Flags before the verb, the log, help, spec and features.

use super::lab::Lab;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn versions_and_help() {
    let lab = Lab::new();
    let version = lab.runtime(&["--version"]).ok();
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("rcon-runtime version ") && lines.iter().any(|line| line.starts_with("spec: 1.")), "{version}");
    assert_eq!(lab.runtime(&["-v"]).ok(), version);
    let help = lab.runtime(&["help"]).ok();
    assert_eq!((lab.runtime(&["--help"]).ok(), lab.runtime(&[]).ok()), (help.clone(), help.clone()));
    let verbs = ["create", "delete", "exec", "features", "kill", "list", "pause", "ps", "resume", "run", "spec", "start", "state", "update"];
    for verb in verbs {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
        let text = lab.runtime(&[verb, "--help"]).ok();
        assert!(text.contains(&format!("Usage: rcon-runtime {verb}")), "{text}");
        assert_eq!(lab.runtime(&["help", verb]).ok(), text);
        lab.runtime(&[verb, "--no-such-flag"]).fails(1, "--no-such-flag");
    }
    lab.runtime(&["bogus"]).fails(1, "no such command");
    lab.runtime(&["--bogus", "list"]).fails(1, "--bogus");
    for verb in ["checkpoint", "restore"] {
        lab.run(&[verb, "--image-path", "x", "web"]).fails(1, &format!("{verb} is not supported"));
    }
}

#[test]
fn the_log_has_a_line_for_each_message() {
    let lab = Lab::new();
    let log = lab.path("log");
    let done = lab.run(&["--log", &log, "--log-format", "json", "state", "none"]).fails(1, "rcon-runtime: container \"none\" does not exist\n");
    assert_eq!(done.out, "");
    lab.run(&["-log", &log, "-log-format=json", "exec", "none", "sh"]).fails(255, "exec failed");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["level"], &lines[0]["msg"]), (&json!("error"), &json!("container \"none\" does not exist")));
    assert_eq!(lines[1]["msg"], "exec failed: container \"none\" does not exist");
    assert!(lines.iter().all(|line| line["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    fs::remove_file(&log).unwrap();
    // A warning goes there alone.
    fs::create_dir_all(lab.state_dir().join("broken")).unwrap();
    fs::write(lab.state_dir().join("broken/state.json"), "{").unwrap();
    let done = lab.run(&["--log", &log, "list", "-q"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("time=\"") && text.contains(" level=warning msg=\"container broken: "), "{text}");
    fs::remove_dir_all(lab.state_dir().join("broken")).unwrap();
    // Success is silent.
    fs::remove_file(&log).unwrap();
    let done = lab.run(&["--log", &log, "list", "-q"]);
    assert_eq!((done.err.as_str(), fs::exists(&log).unwrap()), ("", false));
    lab.run(&["--log-format", "xml", "list"]).fails(1, "xml");
    lab.run(&["--log", "/none/log", "state", "x"]).fails(1, "/none/log").fails(1, "does not exist");
    let done = lab.run(&["--log-format", "json", "state", "x"]);
    assert_eq!(serde_json::from_str::<Value>(&done.err).unwrap()["level"], "error");
}

#[test]
fn the_state_directory_is_private_and_chosen() {
    let lab = Lab::with_script("sleep 600");
    lab.run(&["run", "-d", "web"]).ok();
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(lab.state_dir()), mode(lab.state_dir().join("web"))), (0o700, 0o700));
    let list = |rootless: &str| {
        let mut command = lab.bare();
        command.env("XDG_RUNTIME_DIR", lab.root.join("xdg")).args(["--rootless", rootless, "list", "-q"]);
        lab.finish(command)
    };
    fs::create_dir(lab.root.join("xdg")).unwrap();
    std::os::unix::fs::symlink(lab.state_dir(), lab.root.join("xdg/rcon-runtime")).unwrap();
    assert_eq!(list("true").ok(), "web");
    assert_ne!(list("false").ok(), "web");
    list("maybe").fails(1, "maybe");
}

#[test]
fn spec_writes_a_config_that_runs() {
    let lab = Lab::new();
    let config = lab.bundle().join("config.json");
    lab.runtime(&["spec"]).fails(1, "exists. Remove it first");
    fs::remove_file(&config).unwrap();
    lab.runtime(&["spec"]).ok();
    let written: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!((&written["process"]["args"], &written["root"]["readonly"]), (&json!(["sh"]), &json!(true)));
    lab.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["hostname"]);
    });
    assert_eq!(lab.run(&["run", "web"]).ok(), "rcon");
    fs::remove_file(&config).unwrap();
    lab.runtime(&["spec", "--rootless", "--bundle", lab.bundle().to_str().unwrap()]).ok();
    lab.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["cat", "/proc/self/uid_map"]);
    });
    assert_eq!(lab.run(&["run", "web"]).ok().split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
}

#[test]
fn features_are_a_document_of_the_spec() {
    let lab = Lab::new();
    let document: Value = serde_json::from_str(&lab.runtime(&["features"]).ok()).unwrap();
    assert_eq!(document["ociVersionMin"], "1.0.0");
    for version in [&document["ociVersionMin"], &document["ociVersionMax"]] {
        lab.edit(|config| {
            config["ociVersion"] = version.clone();
            config["process"]["args"] = json!(["true"]);
        });
        lab.run(&["run", "web"]).ok();
    }
    assert_eq!(document["hooks"].as_array().unwrap().len(), 6);
}
