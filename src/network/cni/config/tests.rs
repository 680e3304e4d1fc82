//! Configuration files, good and bad.

use super::*;
use crate::network::cni::tests::Place;
use serde_json::json;

fn load(files: &[(&str, &str)]) -> (Place, Configs) {
    let place = Place::new();
    for (name, text) in files {
        place.write(&format!("net.d/{name}"), text);
    }
    let configs = Configs::load(&place.path("net.d")).unwrap();
    (place, configs)
}

fn names(configs: &Configs) -> Vec<&str> {
    configs.networks.iter().map(|network| network.name.as_str()).collect()
}

fn fault(name: &str, text: &str) -> String {
    let (place, configs) = load(&[(name, text)]);
    assert!(configs.networks.is_empty(), "{text}");
    assert_eq!(configs.faults.len(), 1, "{text}");
    let shown = configs.faults[0].in_full();
    let prefix = format!("cannot use the CNI configuration {}: ", place.path("net.d").join(name).display());
    shown.strip_prefix(&prefix).unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[test]
fn files_count_in_the_order_of_their_names_and_the_first_has_the_name() {
    let (_place, configs) = load(&[
        ("20-b.conflist", r#"{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"x"}]}"#),
        ("10-a.conf", r#"{"cniVersion":"0.3.1","name":"a","type":"y","mtu":9000}"#),
        ("30-again.json", r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"z"}]}"#),
        ("40-c.json", r#"{"cniVersion":"1.0.0","name":"c","type":"z"}"#),
        ("README.md", "not json"),
        ("50-off.conflist.disabled", "{"),
    ]);
    assert_eq!(names(&configs), ["a", "b", "c"]);
    assert_eq!(configs.networks[0].plugins[0].kind(), "y");
    assert!(configs.faults[0].to_string().ends_with("30-again.json: another file before it has the network \"a\""), "{}", configs.faults[0]);
    let error = configs.find("d\n").unwrap_err().to_string();
    assert!(error.starts_with("no CNI network \"d\\n\" in ") && error.contains("30-again.json"), "{error}");
    assert_eq!(configs.find("c").unwrap().versions, [Version::V1_0_0]);
}

#[test]
fn no_directory_is_no_network() {
    let configs = Configs::load(Path::new("/nonexistent/net.d")).unwrap();
    assert!(configs.networks.is_empty() && configs.faults.is_empty());
}

#[test]
fn faults_name_file_and_key() {
    let table = [
        (r#"[]"#, "it is not a JSON object"),
        (r#"{"name":"n","cniVersion":"1.0.0""#, "EOF while parsing an object at line 1 column 32"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#, "key \"name\" is missing"),
        (r#"{"name":7,"cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#, "key \"name\" is not a string"),
        (
            r#"{"name":"../x","cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#,
            "key \"name\": \"../x\" is no name: letters, digits and _.- after a letter or digit",
        ),
        (r#"{"name":"n","plugins":[{"type":"x"}]}"#, "key \"cniVersion\" is missing"),
        (
            r#"{"name":"n","cniVersion":"0.2.0","plugins":[{"type":"x"}]}"#,
            "CNI version \"0.2.0\" is not among those that are supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        (r#"{"name":"n","cniVersion":"1.0.0","cniVersions":"1.1.0","plugins":[]}"#, "key \"cniVersions\" is not a list of strings"),
        (r#"{"name":"n","cniVersion":"1.0.0"}"#, "key \"plugins\" is missing or empty: a network needs a plugin"),
        (r#"{"name":"n","cniVersion":"1.0.0","plugins":{}}"#, "key \"plugins\" is not a list"),
        (r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"x"},{}]}"#, "plugin 2 of \"plugins\": key \"type\" is missing"),
        (r#"{"name":"n","cniVersion":"1.0.0","plugins":["x"]}"#, "plugin 1 of \"plugins\": it is not an object"),
        (r#"{"name":"n","cniVersion":"1.0.0","type":"../bin/sh"}"#, "key \"type\": \"../bin/sh\" is not the name of a program"),
        (
            r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"x","capabilities":["ips"]}]}"#,
            "plugin 1 of \"plugins\": key \"capabilities\" is not an object of true and false",
        ),
        (r#"{"name":"n","cniVersion":"1.0.0","disableCheck":"perhaps","plugins":[{"type":"x"}]}"#, "key \"disableCheck\" is neither true nor false"),
    ];
    for (text, expected) in table {
        assert_eq!(fault("10-n.conflist", text), expected, "{text}");
    }
}

#[test]
fn what_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let path = place.write("net.d/10-n.conf", r#"{"name":"n","cniVersion":"1.0.0","type":"x"}"#);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let configs = Configs::load(&place.path("net.d")).unwrap();
    assert!(configs.faults[0].to_string().ends_with("chown it to root and chmod it to 0644"), "{}", configs.faults[0]);
}

#[test]
fn plugins_of_a_folder_of_the_network_follow_unless_the_list_is_closed() {
    let list = |closed: bool| {
        format!(r#"{{"name":"n","cniVersion":"1.1.0","loadOnlyInlinedPlugins":{closed},"disableGC":"true","plugins":[{{"type":"a"}}]}}"#)
    };
    for (closed, expected) in [(false, vec!["a", "b", "c"]), (true, vec!["a"])] {
        let place = Place::new();
        place.write("net.d/n.conflist", &list(closed));
        place.write("net.d/n/20.conf", r#"{"type":"c"}"#);
        place.write("net.d/n/10.conf", r#"{"type":"b"}"#);
        place.write("net.d/n/10.txt", "no");
        let configs = Configs::load(&place.path("net.d")).unwrap();
        let network = configs.find("n").unwrap();
        assert_eq!(network.plugins.iter().map(PluginConfig::kind).collect::<Vec<_>>(), expected);
        assert!(network.disable_gc && !network.disable_check);
    }
    let place = Place::new();
    place.write("net.d/n.conflist", &list(false));
    place.write("net.d/n/10.conf", "{}");
    let configs = Configs::load(&place.path("net.d")).unwrap();
    assert!(configs.faults[0].to_string().ends_with("n/10.conf: key \"type\" is missing"), "{}", configs.faults[0]);
}

#[test]
fn a_request_keeps_the_plugins_own_keys_in_their_order() {
    let text = r#"{"name":"old","type":"x","zeta":{"b":[1,18446744073709551615,-2.5],"a":null},"capabilities":{"ips":true,"mac":false},"alpha":"\u00e9","cni.dev/x":1,"prevResult":{},"cniVersion":"0.3.0"}"#;
    let Value::Object(object) = serde_json::from_str(text).unwrap() else { panic!("an object") };
    let plugin = PluginConfig::parse(object).unwrap();
    assert!(plugin.has("ips") && !plugin.has("mac") && !plugin.has("dns"));
    let request = plugin.request("new", Version::V1_0_0);
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"cniVersion":"1.0.0","name":"new","type":"x","zeta":{"b":[1,18446744073709551615,-2.5],"a":null},"alpha":"é"}"#
    );
    assert_eq!(plugin.value("alpha"), Some(&json!("é")));
}
