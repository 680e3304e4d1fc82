//! What a new user mistypes, and what is said to it: the object and the way out.

use crate::environment::Environment;

#[test]
fn a_mistyped_name_is_answered_with_the_one_that_was_meant() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "database", "-v", "store:/d", "busybox"]).ok();
    engine.rcon(&["network", "create", "inner"]).ok();
    engine.rcon(&["pod", "create", "shop"]).ok();
    for (line, said) in [
        (&["stop", "databsae"][..], "did you mean \"database\"?"),
        (&["logs", "data"], "did you mean \"database\"?"),
        (&["rm", "databas"], "did you mean \"database\"?"),
        (&["inspect", "databases"], "did you mean \"database\"?"),
        (&["volume", "rm", "stoer"], "did you mean \"store\"?"),
        (&["network", "rm", "iner"], "did you mean \"inner\"?"),
        (&["rmi", "busbox"], "did you mean \"busybox\"?"),
        (&["pod", "rm", "shopp"], "did you mean \"shop\"?"),
        (&["start", "busybox"], "busybox is an image: `rcon ps -a --filter ancestor=busybox` lists its containers"),
        (&["logs", "shop"], "shop is a pod"),
        (&["pod", "stop", "database"], "database is a container"),
    ] {
        engine.rcon(line).fails(1, said);
    }
    let done = engine.rcon(&["stop", "something", "else"]);
    assert!(done.err.contains("No such container: something") && !done.err.contains("hint"), "{done:?}");
    // Beside the registry's answer, which is not to be had here.
    engine.rcon(&["run", "busbox"]).fails(125, "Unable to find image 'busbox:latest' locally (did you mean \"busybox\"?)");
    engine.rcon(&["network", "rm", "inner"]).ok();
    engine.rcon(&["pod", "rm", "shop"]).ok();
}

#[test]
fn words_that_are_missing_or_too_many_are_named_with_the_usage() {
    let engine = Environment::empty();
    for (line, said) in [
        (&["run"][..], "error: IMAGE is missing\n\nUsage: rcon run [OPTIONS] IMAGE [COMMAND] [ARG...]\n"),
        (&["exec", "web"], "error: COMMAND is missing\n\nUsage: rcon exec [OPTIONS] CONTAINER COMMAND [ARG...]\n"),
        (&["tag"], "error: SOURCE_IMAGE and TARGET_IMAGE are missing\n"),
        (&["ps", "extra"], "error: too many arguments: \"extra\"\n\nUsage: rcon ps [OPTIONS]\n"),
        (&["rnu"], "error: unknown command: rcon rnu\n\n  tip: a similar command exists: run\n"),
    ] {
        engine.rcon(line).fails(1, said);
    }
    for (line, said) in [
        (&["run", "--nmae", "web", "busybox"][..], "error: unknown flag: --nmae\n\n  tip: a similar flag exists: --name\n"),
        (&["run", "--pids-limit", "ten", "busybox"], "error: invalid value \"ten\" for --pids-limit: expected a whole number in range\n"),
        (&["run", "--privileged=maybe", "busybox"], "error: invalid value \"maybe\" for --privileged: invalid boolean"),
        (&["ps", "--format"], "error: --format needs a value: FORMAT\n"),
        (&["completion", "ksh"], "error: invalid value \"ksh\" for SHELL: expected bash, zsh or fish\n"),
    ] {
        engine.rcon(line).fails(125, said);
    }
}

#[test]
fn flags_at_the_wrong_place_and_fields_that_are_none_are_told() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "busybox", "--name", "web"]).fails(127, "flags of rcon run stand before the image");
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "600"]).ok();
    engine.rcon(&["exec", "web", "-i", "sh"]).fails(127, "flags of rcon exec stand before the container");
    engine.rcon(&["ps", "--format", "{{.Statsu}}"]).fails(1, "did you mean .Status?");
    engine.rcon(&["volume", "ls", "--format", "{{.Path}}"]).fails(1, "the fields are .");
    engine.rcon(&["inspect", "-f", "{{.State.Code}}", "web"]).fails(1, "the fields are .Status .Running");
    engine.rcon(&["update", "web"]).fails(1, "nothing to change");
    // Nobody to ask is no consent, and is said.
    let done = engine.rcon(&["system", "prune"]);
    assert!(done.code == 0 && done.err.contains("nothing was done (-f does it without asking)"), "{done:?}");
    engine.rcon(&["rm", "-f", "web"]).ok();
}

#[test]
fn addresses_and_networks_that_no_container_can_have_are_refused_by_name() {
    let engine = Environment::new();
    engine.rcon(&["network", "create", "--subnet", "10.123.0.0/24", "--ipv6=false", "net"]).ok();
    for address in ["10.123.0.0", "10.123.0.255"] {
        let said = format!("{address} is the network's own address or its broadcast address");
        engine.rcon(&["run", "--rm", "--network", "net", "--ip", address, "busybox", "true"]).fails(125, &said);
    }
    engine.rcon(&["create", "--name", "web", "--network", "net", "--ip", "10.123.0.254", "busybox"]).ok();
    for (line, said) in [
        (&["connect", "host", "web"][..], "when it is created (--network)"),
        (&["connect", "none", "web"], "when it is created (--network)"),
        (&["disconnect", "host", "web"], "when it is created (--network)"),
        (&["create", "--subnet", "10.124.0.0/24", "--gateway", "10.124.0.9", "--aux-address", "router=10.124.0.9", "far"], "router is the gateway"),
        (&["create", "--subnet", "10.124.0.0/30", "--aux-address", "a=10.124.0.1", "--aux-address", "b=10.124.0.2", "far"], "no address left"),
        (&["create", "--subnet", "224.0.0.0/24", "far"], "224.0.0.0/24 cannot be those of containers"),
        (&["create", "--subnet", "10.124.0.0/24", "--gateway", "10.124.0.255", "far"], "10.124.0.255 is the subnet's own address"),
    ] {
        let done = engine.rcon(&[&["network"], line].concat()).fails(1, said);
        assert!(!done.err.contains("did you mean"), "{done:?}");
    }
    engine.rcon(&["rm", "web"]).ok();
    // What is another's on the wire is neither the gateway's nor a container's.
    engine.rcon(&["network", "create", "--subnet", "10.125.0.0/24", "--aux-address", "router=10.125.0.1", "--ipv6=false", "wire"]).ok();
    assert_eq!(engine.rcon(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "wire"]).ok(), "10.125.0.2");
    engine.rcon(&["run", "--rm", "--network", "wire", "--ip", "10.125.0.1", "busybox", "true"]).fails(125, "10.125.0.1 belongs to router");
    engine.rcon(&["network", "rm", "wire"]).ok();
    engine.rcon(&["network", "rm", "net"]).ok();
}
