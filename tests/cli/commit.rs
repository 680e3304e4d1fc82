//! `commit`: the new image is the container as it was, and nothing of it is left paused.

use crate::environment::Environment;
use crate::outcome::eventually;
use serde_json::Value;

fn image(engine: &Environment, name: &str) -> Value {
    serde_json::from_str::<Value>(&engine.rcon(&["image", "inspect", name]).ok()).unwrap()[0].clone()
}

#[test]
fn the_layer_holds_what_changed_and_the_config_what_was_asked() {
    let engine = Environment::new();
    let script = "echo x > /added; ln /added /twin; ln /etc/passwd /passwd; ln -s /none /link; mkfifo /pipe; mkdir -p /deep/er; \
        touch -d @1000000000 /deep/er/old; chmod 4711 /added; rm /etc/group; rm -r /home; mkdir /home; touch /home/own; : >> /etc/hosts";
    engine.rcon(&["run", "--name", "web", "-e", "A=1", "-l", "k=v", "-v", "data:/data", "busybox", "sh", "-c", script]).ok();
    let diff = engine.rcon(&["diff", "web"]).ok();
    let id = engine
        .rcon(&[
            "commit",
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "CMD [\"cat\",\"/added\"]",
            "-c",
            "ENV B=2",
            "-c",
            "EXPOSE 80",
            "-c",
            "WORKDIR /deep",
            "--iidfile",
            "iid",
            "web",
            "made:1",
        ])
        .ok();
    assert_eq!(std::fs::read_to_string(engine.root.join("iid")).unwrap(), id);
    let document = image(&engine, "made:1");
    assert_eq!((document["Id"].as_str(), document["Author"].as_str()), (Some(id.as_str()), Some("me")));
    assert_eq!((&document["Config"]["Cmd"], &document["Config"]["WorkingDir"]), (&serde_json::json!(["cat", "/added"]), &serde_json::json!("/deep")));
    assert_eq!(document["Config"]["Labels"]["k"], "v");
    assert!(document["Config"]["ExposedPorts"].get("80/tcp").is_some());
    assert_eq!(document["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert!(engine.rcon(&["history", "--no-trunc", "made:1"]).ok().contains("why"));
    assert_eq!(engine.rcon(&["run", "--rm", "made:1"]).ok(), "x");
    let look = "stat -c '%h %a' /added /twin; stat -c %h /passwd /etc/passwd; readlink /link; [ -p /pipe ] && stat -c %Y er/old; \
        ls /home; ls /etc/group /data/x 2>&1 | grep -c No; echo $A$B";
    assert_eq!(engine.rcon(&["run", "--rm", "made:1", "sh", "-c", look]).ok(), "2 4711\n2 4711\n2\n2\n/none\n1000000000\nown\n2\n12");
    // The same changes again, on top of the image that has them: nothing differs.
    engine.rcon(&["create", "--name", "next", "made:1"]).ok();
    assert_eq!(engine.rcon(&["diff", "next"]).ok(), "");
    engine.rcon(&["commit", "next", "empty"]).ok();
    assert_eq!(image(&engine, "empty")["RootFS"]["Layers"], document["RootFS"]["Layers"]);
    engine.rcon(&["commit", "--squash", "web", "flat"]).ok();
    assert_eq!(image(&engine, "flat")["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(engine.rcon(&["run", "--rm", "flat", "cat", "/added"]).ok(), "x");
    assert_eq!(engine.rcon(&["diff", "web"]).ok(), diff);
    engine.rcon(&["save", "-o", "made.tar", "made:1"]).ok();
    engine.rcon(&["rm", "web", "next"]).ok();
    engine.rcon(&["rmi", "made:1", "empty", "flat"]).ok();
    engine.rcon(&["load", "-i", "made.tar"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "made:1", "cat", "/twin"]).ok(), "x");
}

#[test]
fn refusals_come_before_anything_is_made() {
    let engine = Environment::new();
    engine.rcon(&["run", "--name", "web", "busybox", "touch", "/.wh.etc"]).ok();
    engine.rcon(&["commit", "none", "x"]).fails(1, "No such container: none");
    engine.rcon(&["commit", "web", "UPPER"]).fails(1, "");
    engine.rcon(&["commit", "-c", "RUN x", "web", "x"]).fails(1, "expected one of CMD");
    engine.rcon(&["commit", "web", "x"]).fails(1, ".wh.etc");
    engine.rcon(&["image", "inspect", "x"]).fails(1, "No such image: x");
}

#[test]
fn a_running_container_rests_and_goes_on_whatever_happens() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo x > /made; sleep 600"]).ok();
    eventually("the file", || engine.rcon(&["exec", "web", "cat", "/made"]).out == "x\n");
    engine.rcon(&["commit", "web", "one"]).ok();
    assert_eq!(engine.see("web", "{{.State.Status}}"), "running");
    assert_eq!(engine.rcon(&["run", "--rm", "one", "cat", "/made"]).ok(), "x");
    for point in ["engine.commit.paused", "engine.commit.spooled", "image.commit.before_record"] {
        let killed = engine.command(&["commit", "web", "two"]).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{point}");
        assert_eq!(engine.see("web", "{{.State.Status}}"), "running", "{point}");
        engine.rcon(&["image", "inspect", "two"]).fails(1, "No such image");
    }
    engine.rcon(&["pause", "web"]).ok();
    engine.rcon(&["commit", "web", "three"]).ok();
    assert_eq!(engine.see("web", "{{.State.Status}}"), "paused", "the user's own pause stays");
    engine.rcon(&["unpause", "web"]).ok();
}
