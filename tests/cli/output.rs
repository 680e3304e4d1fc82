//! What commands print: tables, formats, filters, help.

use crate::environment::Environment;

#[test]
fn ps_tables_formats_and_filters() {
    let engine = Environment::new();
    let id = engine.rcon(&["run", "-d", "--name", "web", "-l", "tier=front", "-p", "127.0.0.1:8080:80", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["run", "--name", "done", "busybox", "sh", "-c", "exit 3"]).fails(3, "");
    let table = engine.rcon(&["ps"]).ok();
    let head: Vec<&str> = table.lines().next().unwrap().split("  ").map(str::trim).filter(|s| !s.is_empty()).collect();
    assert_eq!(head, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(table.lines().nth(1).unwrap().starts_with(&id[..12]), "{table}");
    assert!(table.contains("127.0.0.1:8080->80/tcp"), "{table}");
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok().lines().count(), 2);
    assert_eq!(engine.rcon(&["ps", "-q", "--no-trunc"]).ok(), id);
    assert_eq!(engine.rcon(&["ps", "-a", "--format", "{{.Names}}:{{.State}}"]).ok(), "done:exited\nweb:running");
    assert_eq!(engine.rcon(&["ps", "--filter", "status=exited", "--format", "{{.Names}}"]).ok(), "done");
    assert_eq!(engine.rcon(&["ps", "-a", "--filter", "exited=3", "--format", "{{.Names}}"]).ok(), "done");
    assert_eq!(engine.rcon(&["ps", "--filter", "label=tier=front", "--format", "{{.Names}} {{.Label \"tier\"}}"]).ok(), "web front");
    assert_eq!(engine.rcon(&["ps", "-l", "--format", "{{.Names}}"]).ok(), "done");
    let json = engine.rcon(&["ps", "--format", "json"]).ok();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Names"], "web");
    assert!(engine.rcon(&["ps", "-a", "--filter", "name=done"]).ok().contains("Exited (3)"));
    let both = engine.rcon(&["container", "ls", "-aq"]).ok();
    assert_eq!(both, engine.rcon(&["ps", "-aq"]).ok());
}

#[test]
fn inspect_is_an_array_and_takes_templates() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "-p", "8080:80", "-e", "A=1", "busybox", "sleep", "1000"]).ok();
    let all: serde_json::Value = serde_json::from_str(&engine.rcon(&["inspect", "web"]).ok()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    for key in [
        "Id",
        "Created",
        "Path",
        "Args",
        "State",
        "Image",
        "Name",
        "RestartCount",
        "HostConfig",
        "GraphDriver",
        "Mounts",
        "Config",
        "NetworkSettings",
    ] {
        assert!(all[0].get(key).is_some(), "{key}");
    }
    assert_eq!(engine.see("web", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}"), "8080");
    assert_eq!(engine.see("web", "{{range .Config.Env}}{{if eq . \"A=1\"}}yes{{end}}{{end}}"), "yes");
    assert_eq!(engine.see("web", "{{json .State.Running}}"), "true");
    let address = engine.see("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    assert_eq!(engine.rcon(&["container", "inspect", "-f", "{{.Name}}", "web"]).ok(), "/web");
}

#[test]
fn images_tag_rmi() {
    let engine = Environment::new();
    assert_eq!(engine.rcon(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "busybox:latest");
    engine.rcon(&["tag", "busybox", "localhost:5000/team/box:1.0"]).ok();
    assert_eq!(engine.rcon(&["images", "-q"]).ok().lines().count(), 2);
    engine.rcon(&["create", "--name", "user", "busybox"]).ok();
    assert_eq!(engine.rcon(&["rmi", "localhost:5000/team/box:1.0"]).ok(), "Untagged: localhost:5000/team/box:1.0");
    engine.rcon(&["rmi", "busybox"]).fails(1, "container");
    engine.rcon(&["rm", "user"]).ok();
    assert!(engine.rcon(&["rmi", "busybox"]).ok().contains("Deleted: sha256:"));
    assert_eq!(engine.rcon(&["images", "-q"]).ok(), "");
    engine.rcon(&["tag", "busybox", "Upper/Case"]).fails(1, "Upper/Case");
}

#[test]
fn help_version_and_unknown_commands() {
    let engine = Environment::empty();
    assert!(engine.rcon(&["--help"]).ok().contains("run"));
    assert!(engine.rcon(&["run", "--help"]).ok().contains("--volumes-from"));
    assert!(engine.rcon(&["--version"]).ok().contains("rcon"));
    engine.rcon(&["frobnicate"]).fails(1, "frobnicate");
    engine.rcon(&["volume", "frobnicate"]).fails(1, "volume frobnicate");
    // As docker: a wrong flag is 125, a wrong number of arguments 1.
    engine.rcon(&["ps", "--frobnicate"]).fails(125, "--frobnicate");
    for count in [&["rm"][..], &["run"], &["ps", "extra"], &["pull", "a", "b"], &["exec", "x"]] {
        engine.rcon(count).fails(1, "--help");
    }
    assert!(engine.rcon(&["info"]).ok().contains("Cgroup"));
}
