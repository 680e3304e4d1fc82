//! The room against plugins that are small scripts: what they are asked, in which order, and what their failures become.

use super::attach::Checked;
use super::capability::Bandwidth;
use super::*;
use crate::base::ContainerId;
use crate::state::record::{Protocol, PublishedPort};
use record::{Record, Store};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory for one test, with configurations, plugins and records in it.
pub(super) struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rcon-cni-{}", crate::base::random_hex(12)));
        std::fs::create_dir_all(path.join("net.d")).unwrap();
        std::fs::create_dir_all(path.join("bin")).unwrap();
        Place(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        self.put(name, text, 0o644)
    }

    /// A plugin: notes the call and its input, then does what `script` says.
    fn plugin(&self, name: &str, script: &str) {
        let here = self.0.display();
        let text = format!(
            "#!/bin/sh\necho \"$CNI_COMMAND {name}\" >> {here}/calls\ncat > {here}/{name}.$CNI_COMMAND\nenv > {here}/{name}.$CNI_COMMAND.env\ncase $CNI_COMMAND in\n{script}\nesac\n"
        );
        self.put(&format!("bin/{name}"), &text, 0o755);
    }

    /// What the plugins were asked since the last time.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        drop(std::fs::remove_file(self.path("calls")));
        text.lines().map(str::to_owned).collect()
    }

    fn input(&self, call: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(call)).unwrap()).unwrap()
    }

    fn driver(&self) -> Driver {
        self.driver_with(Duration::from_secs(20))
    }

    fn driver_with(&self, timeout: Duration) -> Driver {
        Driver::new(self.path("records"), Plugins { directories: vec![self.path("none"), self.path("bin")], timeout })
    }

    fn network(&self, text: &Value) -> NetworkConfig {
        self.write("net.d/10-n.conflist", &text.to_string());
        Configs::load(&self.path("net.d")).unwrap().find("n").unwrap().clone()
    }

    fn leftovers(&self) -> Vec<String> {
        Store(self.path("records")).containers().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const FIRST: &str = r#"ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}' ;;"#;
const SECOND: &str =
    r#"ADD) echo '{"interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"version":"4","address":"10.0.0.3/24","interface":0}]}' ;;"#;

fn two() -> Value {
    json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "first", "own": {"k": [1]}, "capabilities": {"portMappings": true, "ips": true}}, {"type": "second", "capabilities": {"mac": true}}]})
}

struct Asked {
    container: ContainerId,
    interface: InterfaceName,
    arguments: Vec<(String, String)>,
    wishes: Wishes,
}

impl Asked {
    fn new() -> Self {
        Asked { container: ContainerId::random(), interface: "eth0".parse().unwrap(), arguments: Vec::new(), wishes: Wishes::default() }
    }

    fn attachment(&self) -> Attachment<'_> {
        Attachment {
            container: &self.container,
            interface: &self.interface,
            netns: Path::new("/proc/self/ns/net"),
            arguments: &self.arguments,
            wishes: &self.wishes,
        }
    }

    fn add(&self, driver: &Driver, network: &NetworkConfig) -> Result<AddResult, Error> {
        driver.add(network, &self.attachment())
    }
}

#[test]
fn plugins_are_added_in_order_and_deleted_in_reverse_with_the_configuration_of_then() {
    let place = Place::new();
    place.plugin("first", FIRST);
    place.plugin("second", SECOND);
    let (driver, network) = (place.driver(), place.network(&two()));
    let mut asked = Asked::new();
    asked.arguments = vec![("IgnoreUnknown".to_owned(), "1".to_owned()), ("K".to_owned(), "v w".to_owned())];
    let port = PublishedPort { host_ip: Some("127.0.0.1".parse().unwrap()), host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
    asked.wishes = Wishes { ports: vec![port], mac: Some([2, 0, 0, 0, 0, 10]), dns: Some(Dns::default()), ..Wishes::default() };
    let result = asked.add(&driver, &network).unwrap();
    assert_eq!(result.addresses("eth0").map(|ip| ip.address.to_string()).collect::<Vec<_>>(), ["10.0.0.3"]);
    assert_eq!(place.calls(), ["ADD first", "ADD second"]);
    let mapping = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}]});
    assert_eq!(place.input("first.ADD"), json!({"cniVersion": "1.0.0", "name": "n", "type": "first", "own": {"k": [1]}, "runtimeConfig": mapping}));
    let second = place.input("second.ADD");
    assert_eq!(second["runtimeConfig"], json!({"mac": "02:00:00:00:00:0a"}));
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    let environment = std::fs::read_to_string(place.path("first.ADD.env")).unwrap();
    let mut variables: Vec<&str> =
        environment.lines().filter(|line| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own))).collect();
    variables.sort_unstable();
    assert_eq!(
        variables,
        [
            "CNI_ARGS=IgnoreUnknown=1;K=v w".to_owned(),
            "CNI_COMMAND=ADD".to_owned(),
            format!("CNI_CONTAINERID={}", asked.container),
            "CNI_IFNAME=eth0".to_owned(),
            "CNI_NETNS=/proc/self/ns/net".to_owned(),
            format!("CNI_PATH={}:{}", place.path("none").display(), place.path("bin").display()),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ]
    );

    let attached = driver.attached().unwrap();
    assert_eq!((attached.len(), attached[0].network.as_str(), attached[0].result.as_ref()), (1, "n", Some(&result)));
    let again = asked.add(&driver, &network).unwrap_err();
    assert_eq!(again.to_string(), format!("eth0 of {} is attached to CNI network \"n\" already", asked.container.short()));
    place.calls();
    // Another process, another configuration: those of the ADD count.
    std::fs::remove_file(place.path("net.d/10-n.conflist")).unwrap();
    assert_eq!(place.driver().check(&asked.container, "eth0").unwrap(), Checked::Fine);
    assert_eq!(place.calls(), ["CHECK first", "CHECK second"]);
    assert_eq!(place.input("first.CHECK")["prevResult"]["ips"][0]["address"], "10.0.0.3/24");
    let elsewhere = Driver::new(place.path("records"), Plugins { directories: Vec::new(), timeout: Duration::from_secs(20) });
    elsewhere.del_all(&asked.container).unwrap();
    assert_eq!(place.calls(), ["DEL second", "DEL first"]);
    let last = place.input("first.DEL");
    assert_eq!(
        (&last["runtimeConfig"], &last["own"], &last["prevResult"]["ips"][0]["address"]),
        (&mapping, &json!({"k": [1]}), &json!("10.0.0.3/24"))
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
    place.driver().del_all(&asked.container).unwrap();
    driver.del(&asked.container, "eth0").unwrap();
    assert_eq!(place.calls(), Vec::<String>::new());
    let missing = driver.check(&asked.container, "eth0").unwrap_err();
    assert_eq!(missing.to_string(), format!("eth0 of {} is not attached to a CNI network", asked.container.short()));
}

#[test]
fn a_failed_add_is_deleted_everywhere() {
    let place = Place::new();
    place.plugin("first", FIRST);
    place.plugin(
        "second",
        r#"ADD) printf '%s' '{"cniVersion":"1.0.0","code":7,"msg":"bad mtu","details":"70000\n> 65535"}'; echo hint >&2; exit 1 ;;"#,
    );
    let error = Asked::new().add(&place.driver(), &place.network(&two())).unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin \"second\" failed at ADD for network \"n\": bad mtu: 70000 > 65535: hint (code 7)");
    assert_eq!(error.kind(), crate::base::ErrorKind::Invalid);
    assert_eq!(place.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    assert_eq!(place.input("second.DEL")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn every_way_to_fail_has_a_text() {
    let table = [
        (r#"ADD) echo '{"code":100,"msg":"on stderr"}' >&2; exit 3 ;;"#, "failed at ADD for network \"n\": on stderr (code 100)"),
        ("ADD) echo '{\"code\":11}'; exit 1 ;;", "failed at ADD for network \"n\": try again later (code 11)"),
        ("ADD) echo oops; echo so it is >&2; exit 3 ;;", "failed at ADD for network \"n\": it ended with exit code 3: oops: so it is"),
        ("ADD) kill -9 $$ ;;", "failed at ADD for network \"n\": it was killed by signal 9"),
        ("ADD) exit 1 ;;", "failed at ADD for network \"n\": it ended with exit code 1"),
        ("ADD) ;;", "answered ADD for network \"n\" with something else than a result: it is empty"),
        ("ADD) echo '[]' ;;", "answered ADD for network \"n\" with something else than a result: it is not an object"),
        ("ADD) echo '{' ;;", "answered ADD for network \"n\" with something else than a result: EOF while parsing an object at line 2 column 0"),
        (
            r#"ADD) echo '{"ips":[{"address":"x"}]}' ;;"#,
            "answered ADD for network \"n\" with something else than a result: ips[0].address \"x\" is not ADDRESS/PREFIX",
        ),
        ("ADD) exec yes ;;", "answered ADD for network \"n\" with something else than a result: it has more than 1048576 bytes"),
    ];
    for (script, expected) in table {
        let place = Place::new();
        place.plugin("x", script);
        let network = place.network(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x"}]}));
        let error = Asked::new().add(&place.driver(), &network).unwrap_err();
        assert_eq!(error.to_string(), format!("CNI plugin \"x\" {expected}"), "{script}");
        assert_eq!(place.calls(), ["ADD x", "DEL x"]);
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_plugin_that_hangs_ends_with_its_helpers() {
    let place = Place::new();
    place.plugin("x", &format!("ADD) echo waiting >&2; sleep 300 & echo $! > {}; wait ;;", place.path("helper").display()));
    let network = place.network(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x"}]}));
    // On a busy machine it may be killed before it has begun: then it gets more time.
    let mut seconds = 1;
    let helper = loop {
        let begin = Instant::now();
        let error = Asked::new().add(&place.driver_with(Duration::from_secs(seconds)), &network).unwrap_err().to_string();
        assert!(begin.elapsed() < Duration::from_secs(200), "the helper was waited for");
        if let Some(helper) = std::fs::read_to_string(place.path("helper")).ok().filter(|helper| helper.ends_with('\n')) {
            assert_eq!(error, format!("CNI plugin \"x\" did not finish ADD for network \"n\" in {seconds} seconds: waiting"));
            break helper;
        }
        assert!(seconds < 60, "{error}");
        seconds *= 4;
        place.calls();
    };
    let begin = Instant::now();
    let gone = || !std::fs::read_to_string(format!("/proc/{}/stat", helper.trim())).is_ok_and(|stat| !stat.contains(") Z "));
    while !gone() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the helper is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(place.calls(), ["ADD x", "DEL x"]);
}

#[test]
fn what_a_plugin_leaves_running_does_not_keep_us_waiting_but_keeps_the_lock() {
    let place = Place::new();
    // It reads until the pipe is closed.
    let pipe = place.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    place.plugin("x", &format!("ADD) exec 9<&0; (exec timeout 300 cat {} >/dev/null) & echo '{{}}' ;;", pipe.display()));
    let network = place.network(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x"}]}));
    let asked = Asked::new();
    asked.add(&place.driver(), &network).unwrap();
    let store = Store(place.path("records"));
    // As if the plugin itself outlived a runtime that was killed.
    let Err(error) = store.lock_container(asked.container.as_str(), Duration::ZERO) else { panic!("the lock is free") };
    assert_eq!(error.to_string(), format!("another operation on the networks of {} is still running", asked.container));
    drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    place.driver().del_all(&asked.container).unwrap();
    assert_eq!(place.calls(), ["ADD x", "DEL x"]);
}

#[test]
fn a_failed_del_is_tried_again() {
    let place = Place::new();
    place.plugin("first", FIRST);
    place.plugin("second", &format!("{SECOND}\nDEL) [ -e {} ] || exit 1 ;;", place.path("mended").display()));
    let asked = Asked::new();
    asked.add(&place.driver(), &place.network(&two())).unwrap();
    place.calls();
    let error = place.driver().del_all(&asked.container).unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin \"second\" failed at DEL for network \"n\": it ended with exit code 1");
    assert_eq!(place.calls(), ["DEL second"]);
    assert_eq!(place.driver().attached_to(asked.container.as_str()).unwrap().len(), 1);
    place.write("mended", "");
    place.driver().del_all(&asked.container).unwrap();
    assert_eq!(place.calls(), ["DEL second", "DEL first"]);
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn what_a_killed_add_left_is_released_before_the_next() {
    let place = Place::new();
    place.plugin("first", FIRST);
    place.plugin("second", SECOND);
    let (network, asked, store) = (place.network(&two()), Asked::new(), Store(place.path("records")));
    let lock = store.lock_container(asked.container.as_str(), Duration::ZERO).unwrap();
    let mut record = Record::new(&network, Version::V1_0_0, asked.container.as_str(), "eth0");
    record.netns = PathBuf::from("/nonexistent");
    store.write(&record).unwrap();
    drop(lock);
    assert_eq!(place.driver().attached().unwrap()[0].result, None);
    asked.add(&place.driver(), &network).unwrap();
    assert_eq!(place.calls(), ["DEL second", "DEL first", "ADD first", "ADD second"]);
    assert!(std::fs::read_to_string(place.path("first.DEL.env")).unwrap().contains("CNI_NETNS=\n"), "a namespace that is gone has no path");
    assert_eq!(place.input("first.DEL").get("prevResult"), None);
}

#[test]
fn missing_and_untrusted_programs_are_told_before_anything_runs() {
    let place = Place::new();
    place.plugin("first", FIRST);
    let network = place.network(&two());
    let error = Asked::new().add(&place.driver(), &network).unwrap_err();
    let (none, bin) = (place.path("none"), place.path("bin"));
    assert_eq!(error.to_string(), format!("CNI plugin \"second\" of network \"n\" is not in {}, {}", none.display(), bin.display()));
    place.put("bin/second", "#!/bin/sh\n", 0o757);
    let error = Asked::new().add(&place.driver(), &network).unwrap_err();
    assert_eq!(error.to_string(), format!("CNI plugin {} will not be executed: others may write to it", bin.join("second").display()));
    assert_eq!((place.calls(), place.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn wishes_that_nobody_obeys_are_refused() {
    let place = Place::new();
    place.plugin("first", FIRST);
    place.plugin("second", SECOND);
    let network = place.network(&two());
    let (bandwidth, ip) = (Bandwidth { ingress_rate: 8000, ..Bandwidth::default() }, "10.0.0.9".parse().unwrap());
    let table = [
        (Wishes { bandwidth: Some(bandwidth), ..Wishes::default() }, "a bandwidth", "bandwidth"),
        (Wishes { aliases: vec!["db".to_owned()], ..Wishes::default() }, "aliases", "aliases"),
    ];
    for (wishes, what, capability) in table {
        let error = Asked { wishes, ..Asked::new() }.add(&place.driver(), &network).unwrap_err();
        let file = network.path.display();
        assert_eq!(error.to_string(), format!("CNI network \"n\" cannot take {what}: no plugin of {file} has the capability \"{capability}\""));
    }
    let arguments = Asked { arguments: vec![("A".to_owned(), "x;B=y".to_owned())], ..Asked::new() };
    assert_eq!(
        arguments.add(&place.driver(), &network).unwrap_err().to_string(),
        "\"A=x;B=y\" cannot be an argument for CNI plugins: KEY=VALUE without semicolons"
    );
    assert_eq!(place.calls(), Vec::<String>::new());
    let asked = Asked { wishes: Wishes { ips: vec![(ip, None), (ip, Some(24))], ..Wishes::default() }, ..Asked::new() };
    asked.add(&place.driver(), &network).unwrap();
    assert_eq!(place.input("first.ADD")["runtimeConfig"], json!({"ips": ["10.0.0.9", "10.0.0.9/24"]}));
    let limited = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "first", "capabilities": {"bandwidth": true}}]});
    let asked = Asked { wishes: Wishes { bandwidth: Some(bandwidth), ..Wishes::default() }, ..Asked::new() };
    asked.add(&place.driver(), &place.network(&limited)).unwrap();
    assert_eq!(place.input("first.ADD")["runtimeConfig"], json!({"bandwidth": {"ingressRate": 8000, "ingressBurst": 2147483647}}));
}

#[test]
fn interface_names() {
    for good in ["eth0", "a", "wlp3s0-15chars"] {
        assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "a:1", "a b", "a\n", "sixteen-chars-xx"] {
        assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
    }
}

#[test]
fn old_versions_get_neither_check_nor_a_result_at_del() {
    let place = Place::new();
    place.plugin("x", r#"ADD) echo '{"ips":[{"version":"4","address":"10.0.0.2/24"}]}' ;;"#);
    let asked = Asked::new();
    let network = json!({"cniVersion": "0.3.1", "name": "n", "type": "x"});
    asked.add(&place.driver(), &place.network(&network)).unwrap();
    assert_eq!(place.driver().check(&asked.container, "eth0").unwrap(), Checked::TooOld);
    place.driver().del_all(&asked.container).unwrap();
    assert_eq!(place.input("x.DEL").get("prevResult"), None);
    let network = json!({"cniVersion": "0.4.0", "name": "n", "disableCheck": true, "plugins": [{"type": "x"}]});
    asked.add(&place.driver(), &place.network(&network)).unwrap();
    assert_eq!(place.driver().check(&asked.container, "eth0").unwrap(), Checked::Disabled);
    assert_eq!(place.calls(), ["ADD x", "DEL x", "ADD x"]);
}

#[test]
fn the_newest_version_that_all_speak_is_used() {
    let speaks = |versions: &str| format!("{FIRST}\nVERSION) echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[{versions}]}}' ;;");
    let place = Place::new();
    place.plugin("first", &speaks(r#""0.4.0","1.0.0","1.1.0""#));
    place.plugin("second", &speaks(r#""0.3.1","0.4.0","1.0.0""#));
    let mut text = two();
    text["cniVersions"] = json!(["0.4.0", "1.1.0", "7.0.0"]);
    Asked::new().add(&place.driver(), &place.network(&text)).unwrap();
    assert_eq!(place.calls(), ["VERSION first", "VERSION second", "ADD first", "ADD second"]);
    assert_eq!(place.input("second.ADD")["cniVersion"], "1.0.0");
    assert_eq!(place.input("first.VERSION"), json!({"cniVersion": "1.1.0"}));
    text["cniVersion"] = json!("1.1.0");
    text["cniVersions"] = json!(["0.3.0"]);
    let error = Asked::new().add(&place.driver(), &place.network(&text)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CNI plugins of network \"n\" have no version in common with its configuration (1.1.0, 0.3.0): first speaks 0.4.0, 1.0.0, 1.1.0; second speaks 0.3.1, 0.4.0, 1.0.0"
    );
}

#[test]
fn a_collection_releases_the_dead_and_tells_the_plugins_of_the_living() {
    let place = Place::new();
    place.plugin("first", &format!("{FIRST}\nGC) echo '{{\"code\":5,\"msg\":\"disk\"}}'; exit 1 ;;"));
    place.plugin("second", SECOND);
    let mut text = two();
    text["cniVersion"] = json!("1.1.0");
    let (driver, network, live, dead) = (place.driver(), place.network(&text), Asked::new(), Asked::new());
    live.add(&driver, &network).unwrap();
    dead.add(&driver, &network).unwrap();
    place.calls();
    let collected = driver.gc(&network, &|id| id == live.container.as_str()).unwrap();
    assert_eq!(place.calls(), ["DEL second", "DEL first", "GC first", "GC second"]);
    assert_eq!((collected.released, collected.asked), (vec![(dead.container.to_string(), "eth0".to_owned())], true));
    let failures: Vec<String> = collected.failures.iter().map(Error::to_string).collect();
    assert_eq!(failures, ["CNI plugin \"first\" failed at GC for network \"n\": disk (code 5)"]);
    let request = place.input("second.GC");
    assert_eq!(request["cni.dev/valid-attachments"], json!([{"containerID": live.container.as_str(), "ifname": "eth0"}]));
    assert_eq!(request["cni.dev/attachments"], request["cni.dev/valid-attachments"]);
    assert_eq!((request.get("runtimeConfig"), request.get("prevResult")), (None, None));
    let environment = std::fs::read_to_string(place.path("second.GC.env")).unwrap();
    assert!(environment.contains("CNI_PATH=") && !environment.contains("CNI_CONTAINERID"));
    // Neither the flag nor an older version keeps us from releasing our own.
    for (key, value) in [("disableGC", json!(true)), ("cniVersion", json!("1.0.0"))] {
        text[key] = value;
        dead.add(&driver, &place.network(&text)).unwrap();
        place.calls();
        let collected = driver.gc(&place.network(&text), &|id| id == live.container.as_str()).unwrap();
        assert_eq!((collected.released.len(), collected.asked, place.calls()), (1, false, vec!["DEL second".to_owned(), "DEL first".to_owned()]));
    }
}

#[test]
fn what_cannot_be_released_stays_valid() {
    let place = Place::new();
    place.plugin("x", "ADD) echo '{}' ;;\nDEL) exit 1 ;;");
    let (driver, network) = (place.driver(), place.network(&json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "x"}]})));
    let dead = Asked::new();
    dead.add(&driver, &network).unwrap();
    let collected = driver.gc(&network, &|_| false).unwrap();
    assert_eq!((collected.released.len(), collected.failures.len(), collected.asked), (0, 1, true));
    assert_eq!(place.input("x.GC")["cni.dev/valid-attachments"][0]["containerID"], dead.container.as_str());
}

#[test]
fn status_is_asked_of_those_that_know_it() {
    let place = Place::new();
    place.plugin("x", "STATUS) echo '{\"code\":50,\"msg\":\"no daemon\"}'; exit 1 ;;");
    let network = |version: &str| place.network(&json!({"cniVersion": version, "name": "n", "plugins": [{"type": "x"}]}));
    let error = place.driver().status(&network("1.1.0")).unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin \"x\" failed at STATUS for network \"n\": no daemon (code 50)");
    assert_eq!(error.kind(), crate::base::ErrorKind::Unavailable);
    assert_eq!(place.calls(), ["STATUS x"]);
    place.driver().status(&network("1.0.0")).unwrap();
    assert_eq!(place.calls(), Vec::<String>::new());
    std::fs::remove_file(place.path("bin/x")).unwrap();
    assert!(matches!(place.driver().status(&network("1.0.0")), Err(Error::NoPlugin { .. })));
}
