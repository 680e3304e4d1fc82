//! Containers and pods on a CNI network whose plugin is a script: it makes a link in the namespace it is given and keeps a
//! file for each attachment that is not deleted yet.

use crate::environment::Environment;
use crate::outcome::{Done, eventually};
use std::os::unix::fs::PermissionsExt;

struct Host(Environment);

const SETTINGS: &str = "[cni]\nconfig_dir = \"ROOT/net.d\"\nplugin_dirs = [\"ROOT/bin\"]\ntimeout = 20\n";
const NETWORK: &str =
    r#"{"cniVersion":"1.0.0","name":"mine","plugins":[{"type":"linker","capabilities":{"portMappings":true},"ipam":{"subnet":"10.99.0.0/24"}}]}"#;
const PLUGIN: &str = r#"#!/bin/sh
cat > ROOT/input.$CNI_COMMAND
case $CNI_COMMAND in
ADD)
    touch ROOT/leases/$CNI_CONTAINERID
    [ ! -e ROOT/refuses ] || { echo '{"code":120,"msg":"not today"}'; exit 1; }
    nsenter --net="$CNI_NETNS" sh -c "ip link add $CNI_IFNAME address 02:00:00:00:00:07 type veth peer name other && ip addr add 10.99.0.7/24 dev $CNI_IFNAME && ip link set other up && ip link set $CNI_IFNAME up" >&2 || exit 1
    echo '{"interfaces":[{"name":"'$CNI_IFNAME'","mac":"02:00:00:00:00:07","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.99.0.7/24","gateway":"10.99.0.1","interface":0}]}' ;;
DEL)
    [ ! -e ROOT/broken ] || { echo 'the disk is full' >&2; exit 1; }
    rm -f ROOT/leases/$CNI_CONTAINERID ;;
CHECK) [ ! -e ROOT/astray ] || { echo '{"code":121,"msg":"astray"}'; exit 1; } ;;
esac
"#;

impl Host {
    fn new() -> Self {
        let host = Host(Environment::new());
        for directory in ["net.d", "bin", "leases"] {
            std::fs::create_dir_all(host.0.root.join(directory)).unwrap();
        }
        host.write("rcon.toml", SETTINGS);
        host.write("net.d/10-mine.conflist", NETWORK);
        host.write("bin/linker", PLUGIN);
        std::fs::set_permissions(host.0.root.join("bin/linker"), std::fs::Permissions::from_mode(0o755)).unwrap();
        host
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.root.join(name), text.replace("ROOT", self.0.root.to_str().unwrap())).unwrap();
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.0.command(args);
        command.env("RCON_CONFIG_FILE", self.0.root.join("rcon.toml"));
        command
    }

    #[must_use]
    fn rcon(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn leases(&self) -> usize {
        std::fs::read_dir(self.0.root.join("leases")).unwrap().count()
    }

    fn input(&self, verb: &str) -> String {
        std::fs::read_to_string(self.0.root.join(format!("input.{verb}"))).unwrap()
    }

    #[track_caller]
    fn nothing_is_left(&self, what: &str) {
        eventually(&format!("{what}: the attachments are released"), || self.leases() == 0);
        // The plugin is done before what is known of it goes.
        let records = self.0.root.join("data/cni/attachments");
        eventually(&format!("{what}: their records go"), || std::fs::read_dir(&records).map_or(0, Iterator::count) == 0);
        eventually(&format!("{what}: no mount is left"), || self.0.mounts().is_empty());
    }
}

#[test]
fn a_container_gets_what_the_plugins_give() {
    let host = Host::new();
    assert_eq!(host.rcon(&["network", "ls", "--filter", "driver=cni", "--format", "{{.Name}} {{.Driver}}"]).ok(), "mine cni");
    let subnet = host.rcon(&["network", "inspect", "-f", "{{.Driver}} {{(index .IPAM.Config 0).Subnet}}", "mine"]).ok();
    assert_eq!(subnet, "cni 10.99.0.0/24");
    host.rcon(&["run", "-d", "--name", "one", "--network", "mine", "-p", "18080:80", "busybox", "sleep", "600"]).ok();
    let inside =
        host.rcon(&["exec", "one", "sh", "-c", "ip -o -4 addr show eth0; cat /sys/class/net/eth0/address; grep -w $(hostname) /etc/hosts"]).ok();
    assert!(inside.contains("10.99.0.7/24") && inside.contains("02:00:00:00:00:07") && inside.contains("10.99.0.7\t"), "{inside}");
    let format = "{{with .NetworkSettings.Networks.mine}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}} {{.MacAddress}}{{end}}";
    assert_eq!(host.rcon(&["inspect", "-f", format, "one"]).ok(), "10.99.0.7/24 10.99.0.1 02:00:00:00:00:07");
    assert_eq!(host.rcon(&["ps", "--format", "{{.Ports}}"]).ok(), "0.0.0.0:18080->80/tcp");
    assert!(host.input("ADD").contains(r#""portMappings":[{"hostPort":18080,"containerPort":80,"protocol":"tcp"}]"#), "{}", host.input("ADD"));
    // Its configuration is not needed any more.
    std::fs::remove_file(host.0.root.join("net.d/10-mine.conflist")).unwrap();
    host.rcon(&["stop", "-t", "0", "one"]).ok();
    host.nothing_is_left("stop");
    assert!(host.input("DEL").contains(r#""prevResult":{"#) && host.input("DEL").contains("10.99.0.7/24"));
    host.rcon(&["start", "one"]).fails(1, "mine");
    host.write("net.d/10-mine.conflist", NETWORK);
    host.rcon(&["start", "one"]).ok();
    assert_eq!(host.leases(), 1);
    host.rcon(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(host.leases(), 1);
    host.rcon(&["rm", "-f", "one"]).ok();
    host.nothing_is_left("rm");
    host.rcon(&["run", "--rm", "--network", "mine", "busybox", "true"]).ok();
    host.nothing_is_left("run --rm");
}

#[test]
fn what_cannot_be_is_refused() {
    let host = Host::new();
    host.write("net.d/20-bad.conflist", "{\"name\":\"bad\"}");
    host.rcon(&["run", "--rm", "--network", "bad", "busybox", "true"]).fails(125, "20-bad.conflist: key \"cniVersion\" is missing");
    host.rcon(&["run", "--rm", "--network", "mine", "--ip", "10.99.0.9", "busybox", "true"]).fails(125, "has the capability \"ips\"");
    host.rcon(&["run", "--rm", "--network", "mine", "--userns", "auto", "busybox", "true"]).fails(125, "--userns");
    host.write("refuses", "");
    host.rcon(&["run", "--name", "two", "--network", "mine", "busybox", "true"])
        .fails(125, "CNI plugin \"linker\" failed at ADD for network \"mine\": not today (code 120)");
    host.nothing_is_left("a refusal");
    assert_eq!(host.rcon(&["inspect", "-f", "{{.State.Status}}", "two"]).ok(), "created");
}

#[test]
fn a_pod_is_attached_once() {
    let host = Host::new();
    host.rcon(&["pod", "create", "--name", "web", "--network", "mine", "-p", "18080:80"]).ok();
    host.rcon(&["run", "-d", "--pod", "web", "--name", "aa", "busybox", "sleep", "600"]).ok();
    let seen = host.rcon(&["run", "--rm", "--pod", "web", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"]).ok();
    assert!(seen.contains("10.99.0.7/24"), "{seen}");
    assert_eq!(host.leases(), 1);
    host.rcon(&["pod", "stop", "-t", "0", "web"]).ok();
    host.nothing_is_left("pod stop");
    host.rcon(&["pod", "start", "web"]).ok();
    assert_eq!(host.leases(), 1);
    host.rcon(&["pod", "rm", "-f", "-t", "0", "web"]).ok();
    host.nothing_is_left("pod rm");
}

#[test]
fn a_plugin_that_does_not_release_is_tried_again_by_system_check() {
    let host = Host::new();
    host.rcon(&["run", "-d", "--name", "one", "--network", "mine", "busybox", "sleep", "600"]).ok();
    host.rcon(&["system", "check", "-q"]).ok();
    host.write("astray", "");
    let checked = host.rcon(&["system", "check"]);
    assert!(checked.out.contains("CNI plugin \"linker\" failed at CHECK for network \"mine\": astray (code 121)"), "{}", checked.out);
    host.write("broken", "");
    host.rcon(&["rm", "-f", "one"]).ok();
    assert_eq!(host.leases(), 1);
    let checked = host.rcon(&["system", "check", "-q"]);
    assert_eq!(checked.code, 1);
    assert!(checked.out.contains("a leftover on CNI network \"mine\""), "{}", checked.out);
    let checked = host.rcon(&["system", "check", "-q", "--repair"]);
    assert!(checked.out.contains("failed at DEL for network \"mine\": it ended with exit code 1: the disk is full"), "{}", checked.out);
    std::fs::remove_file(host.0.root.join("broken")).unwrap();
    assert!(host.rcon(&["system", "check", "-q", "--repair"]).ok().contains("mended: released"));
    host.nothing_is_left("repair");
}

/// A kill between any two steps, of the starting command or of the monitor: the next command releases what was given.
#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_step_leaves_nothing() {
    let host = Host::new();
    let run = ["run", "-d", "--name", "victim", "--network", "mine", "-p", "18080:80", "busybox", "sleep", "600"];
    for point in ["cni.add.recorded", "cni.add.plugin", "cni.add.stored", "engine.start.monitor", "engine.start.gate"] {
        let done = host.command(&run).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert_eq!(done.status.code(), None, "{point} was never reached: {done:?}");
        host.rcon(&["rm", "-f", "victim"]).ok();
        host.nothing_is_left(point);
    }
    for point in ["cni.add.recorded", "cni.add.plugin", "cni.add.stored"] {
        let done = host.command(&run).env("RCON_FAILPOINT", format!("{point}=error")).output().unwrap();
        assert_eq!(done.status.code(), Some(125), "{point}");
        host.nothing_is_left(point);
        host.rcon(&["rm", "-f", "victim"]).ok();
    }
    let id = host.rcon(&run).ok();
    let facts = std::fs::read_to_string(host.0.root.join("run/containers").join(&id).join("live.json")).unwrap();
    let pid = facts.split("\"monitor_pid\":").nth(1).unwrap().split(',').next().unwrap();
    assert!(std::process::Command::new("kill").args(["-9", pid]).status().unwrap().success());
    eventually("the next command releases", || {
        host.rcon(&["ps", "-a"]).ok();
        host.leases() == 0
    });
    host.rcon(&["rm", "-f", "victim"]).ok();
    host.nothing_is_left("the monitor's death");
}
