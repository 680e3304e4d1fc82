//! What a container changed in its image: `diff`, and whether there is one at all: `container exists`.

use crate::environment::Environment;

#[test]
fn what_was_added_changed_and_deleted_is_told_and_nothing_else() {
    let engine = Environment::new();
    let script = "echo x > /added; mkdir -p /home/new/deep; echo y >> /etc/passwd; rm /etc/group; rm -r /home/example; \
        : < /etc/hosts; chmod 700 /tmp; mkdir /gone; rm -r /gone; touch /tmp/file; ln -s /etc /link";
    engine
        .rcon(&["run", "--name", "web", "-v", "data:/data/sub", "-v", "./made:/home/bound", "--tmpfs", "/scratch", "busybox", "sh", "-c", script])
        .ok();
    let wanted =
        "A /added\nC /etc\nD /etc/group\nC /etc/passwd\nC /home\nD /home/example\nA /home/new\nA /home/new/deep\nA /link\nC /tmp\nA /tmp/file";
    assert_eq!(engine.rcon(&["diff", "web"]).ok(), wanted);
    let json: serde_json::Value = serde_json::from_str(&engine.rcon(&["container", "diff", "--format", "json", "web"]).ok()).unwrap();
    assert_eq!(json["deleted"], serde_json::json!(["/etc/group", "/home/example"]));
    engine.rcon(&["diff", "--format", "{{.}}", "web"]).fails(1, "json");
    engine.rcon(&["diff", "none"]).fails(1, "No such container: none");
}

#[test]
fn a_directory_that_was_made_anew_hides_what_it_held() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "rm -r /home; mkdir /home; touch /home/own; touch /ready; sleep 600"]).ok();
    crate::outcome::eventually("the changes", || engine.rcon(&["exec", "web", "ls", "/ready"]).code == 0);
    assert_eq!(engine.rcon(&["diff", "web"]).ok(), "C /home\nD /home/example\nA /home/own\nA /ready");
    engine.rcon(&["create", "--name", "idle", "busybox"]).ok();
    assert_eq!(engine.rcon(&["diff", "idle"]).ok(), "");
}

#[test]
fn exists_answers_with_its_code_alone() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "web", "busybox"]).ok();
    for (name, code) in [("web", 0), ("none", 1)] {
        let done = engine.rcon(&["container", "exists", name]);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (code, "", ""), "{name}");
    }
}
