//! Published ports of a running container follow its networks: to the next one, away with the last, back with the first.

use crate::environment::Environment;
use crate::outcome::eventually;

const WEB: [&str; 12] = ["run", "-d", "--name", "web", "--network", "aa", "-p", "18091:80", "busybox", "sh", "-c", SERVER];
const SERVER: &str = "mkdir /www; echo hello > /www/i; exec httpd -f -h /www";

fn with_networks() -> Environment {
    let engine = Environment::new();
    for name in ["aa", "bb"] {
        engine.rcon(&["network", "create", name]).ok();
    }
    engine
}

fn end(engine: &Environment, networks: &[&str]) {
    engine.rcon(&["rm", "-f", "web"]).ok();
    engine.rcon(&[&["network", "rm"], networks].concat()).ok();
}

fn answers(engine: &Environment) -> bool {
    let ask = "printf 'GET /i HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc 127.0.0.1 18091 2> /dev/null | tail -n 1";
    engine.rcon(&["run", "--rm", "--network", "host", "busybox", "sh", "-c", ask]).out.trim() == "hello"
}

/// What is shown, what is reached and what is reserved agree.
fn published(engine: &Environment) -> bool {
    let listed = engine.rcon(&["port", "web"]).ok();
    let shown = (
        engine.rcon(&["ps", "--format", "{{.Ports}}", "-f", "name=web"]).ok(),
        engine.see("web", "{{json .NetworkSettings.Ports}}"),
        answers(engine),
        engine.rcon(&["run", "--rm", "-p", "18091:80", "busybox", "true"]).code,
    );
    let leftover = engine.rcon(&["system", "check"]).out;
    assert!(!leftover.contains("left over"), "{leftover}");
    if listed.is_empty() {
        assert_eq!(shown, (String::new(), "{}".to_owned(), false, 0));
        return false;
    }
    assert_eq!(listed.lines().next(), Some("80/tcp -> 0.0.0.0:18091"));
    assert!(shown.0.contains("0.0.0.0:18091->80/tcp") && shown.1.contains("18091") && shown.2 && shown.3 == 125, "{shown:?}");
    true
}

#[test]
fn published_ports_follow_the_networks_of_a_running_container() {
    let engine = with_networks();
    engine.rcon(&WEB).ok();
    eventually("it answers", || answers(&engine));
    engine.rcon(&["network", "connect", "bb", "web"]).ok();
    engine.rcon(&["network", "disconnect", "aa", "web"]).ok();
    assert!(published(&engine), "they move to the next network");
    engine.rcon(&["network", "disconnect", "bb", "web"]).ok();
    assert!(!published(&engine), "the last one takes them away");
    // Named before anything changes.
    engine.rcon(&["run", "-d", "--name", "other", "-p", "18091:80", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["network", "connect", "aa", "web"]).fails(1, "18091/tcp is already in use");
    assert_eq!(engine.see("web", "{{json .NetworkSettings.Networks}}"), "{}");
    engine.rcon(&["rm", "-f", "other"]).ok();
    engine.rcon(&["network", "connect", "aa", "web"]).ok();
    assert!(published(&engine), "the first one brings them back");
    engine.rcon(&["restart", "-t", "0", "web"]).ok();
    eventually("it answers again", || answers(&engine));
    assert!(published(&engine));
    end(&engine, &["aa", "bb"]);
}

#[test]
fn a_container_that_begins_without_a_network_publishes_with_its_first() {
    let engine = with_networks();
    engine.rcon(&["create", "--name", "web", "--network", "aa", "-p", "127.0.0.1::80", "-P", "--expose", "81", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["network", "disconnect", "aa", "web"]).ok();
    engine.rcon(&["start", "web"]).ok();
    assert_eq!(engine.rcon(&["port", "web"]).ok(), "");
    engine.rcon(&["network", "connect", "bb", "web"]).ok();
    let ports = engine.rcon(&["port", "web"]).ok();
    assert!(ports.starts_with("80/tcp -> 127.0.0.1:") && ports.contains("\n81/tcp -> 0.0.0.0:"), "{ports}");
    end(&engine, &["aa", "bb"]);
}

/// A port of an address that the next network has no family for: the network is left all the same, and it is said.
#[test]
fn ports_that_the_next_network_cannot_carry_are_given_up() {
    let engine = with_networks();
    engine.inside("ip").args(["-6", "addr", "add", "2001:db8::1/128", "dev", "lo"]).status().unwrap();
    engine.rcon(&["network", "create", "--ipv6=false", "four"]).ok();
    engine.rcon(&["run", "-d", "--name", "web", "--network", "aa", "-p", "[2001:db8::1]:18091:80", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["network", "connect", "four", "web"]).ok();
    engine.rcon(&["network", "disconnect", "aa", "web"]).fails(0, "cannot lead to network four: none is published any more");
    assert_eq!(engine.rcon(&["port", "web"]).ok(), "");
    engine.rcon(&["network", "connect", "aa", "web"]).ok();
    assert_eq!(engine.rcon(&["port", "web"]).ok(), "80/tcp -> [2001:db8::1]:18091");
    end(&engine, &["aa", "bb", "four"]);
}

/// Killed at each step, the next command completes the change; a step that fails takes all of it back.
#[cfg(feature = "failpoints")]
#[test]
fn a_change_of_networks_that_ends_in_the_middle_is_completed_or_taken_back() {
    let engine = with_networks();
    engine.rcon(&WEB).ok();
    eventually("it answers", || answers(&engine));
    let networks = || engine.see("web", "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{end}}");
    for point in points() {
        for (verb, after) in [("disconnect", false), ("connect", true)] {
            let words = ["network", verb, "aa", "web"];
            let done = engine.command(&words).env("RCON_FAILPOINT", format!("{point}=error")).output().unwrap();
            assert_eq!(done.status.code(), Some(1), "{point} of {verb} was never reached");
            // The last step is no reason to take back what is done.
            let told = point.ends_with(".told");
            assert_eq!(published(&engine), if told { after } else { !after }, "{verb} that fails at {point}");
            if told {
                engine.rcon(&["network", if after { "disconnect" } else { "connect" }, "aa", "web"]).ok();
            }
            let done = engine.command(&words).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
            assert!(done.status.code().is_none(), "{point} of {verb} was never reached");
            assert_eq!(published(&engine), after, "{verb} that is killed at {point}");
            assert_eq!(networks().trim(), if after { "aa" } else { "" }, "{verb} that is killed at {point}");
            let hosts = engine.rcon(&["exec", "web", "cat", "/etc/hosts"]).ok();
            let own = hosts.lines().filter(|line| line.ends_with(&engine.see("web", "{{.Config.Hostname}}"))).count();
            assert_eq!(own, if after { 2 } else { 0 }, "{hosts}");
        }
    }
    end(&engine, &["aa", "bb"]);
}

/// The container ends before anybody could complete the change: its end takes away what leads to the old network and to the new.
#[cfg(feature = "failpoints")]
#[test]
fn the_end_of_a_container_takes_away_what_a_killed_change_of_its_networks_has_left() {
    let engine = with_networks();
    for point in points() {
        let id = engine.rcon(&WEB).ok();
        let pid = engine.see("web", "{{.State.Pid}}");
        let words = ["network", "connect", "--gw-priority", "7", "bb", "web"];
        let done = engine.command(&words).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert!(done.status.code().is_none(), "{point} was never reached");
        assert!(engine.inside("kill").args(["-9", &pid]).status().unwrap().success());
        let live = engine.root.join("run/containers").join(&id);
        eventually("its end", || !live.exists());
        let check = engine.rcon(&["system", "check"]).out;
        assert!(!check.contains("left over"), "{point}: {check}");
        engine.rcon(&["run", "--rm", "-p", "18091:80", "busybox", "true"]).ok();
        engine.rcon(&["start", "web"]).ok();
        assert_eq!(engine.rcon(&["port", "web"]).ok().lines().next(), Some("80/tcp -> 0.0.0.0:18091"));
        engine.rcon(&["rm", "-f", "web"]).ok();
        for network in std::fs::read_dir(engine.root.join("run/networks")).unwrap().flatten() {
            let names = std::fs::read_to_string(network.path().join("names")).unwrap_or_default();
            assert!(!names.contains("web"), "{point}: {names}");
        }
    }
    engine.rcon(&["network", "rm", "aa", "bb"]).ok();
}

/// Between two runs nobody can say what its namespace has.
#[test]
fn one_that_waits_for_its_next_run_changes_no_network() {
    let engine = with_networks();
    engine.rcon(&["run", "-d", "--name", "web", "--network", "aa", "--restart", "always", "busybox", "false"]).ok();
    // By then it waits for some seconds.
    eventually("a long pause", || engine.see("web", "{{.RestartCount}} {{.State.Restarting}}") == "6 true");
    engine.rcon(&["network", "disconnect", "aa", "web"]).fails(1, "container web is restarting");
    engine.rcon(&["network", "connect", "bb", "web"]).fails(1, "container web is restarting");
    end(&engine, &["aa", "bb"]);
}

/// The failpoints of a change, read from the source so that a new one is tested at once.
#[cfg(feature = "failpoints")]
fn points() -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}/src/engine/network/moving.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let points: Vec<String> = text.split("failpoint_at(\"").skip(1).map(|part| part.split('"').next().unwrap().to_owned()).collect();
    assert!(points.len() >= 6, "failpoints were found: {points:?}");
    points
}
