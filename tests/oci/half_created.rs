//! A creation that dies or fails at any of its steps.

use super::lab::Lab;
use crate::outcome::Done;
use std::fs;

const POINTS: [&str; 4] = ["runtime.create.record", "runtime.create.group", "runtime.create.cloned", "runtime.create.announced"];

fn create(lab: &Lab, verb: &str, point: &str, action: &str) -> Done {
    lab.name_group("web");
    let mut command = lab.command(&[verb, "web"]);
    command.env("RCON_FAILPOINT", format!("{point}={action}"));
    lab.finish(command)
}

#[test]
fn what_a_killed_create_leaves_is_found_and_deleted() {
    for verb in ["create", "run"] {
        for point in POINTS {
            let lab = Lab::with_script("sleep 600");
            assert_eq!(create(&lab, verb, point, "kill").code, -1, "{point}");
            lab.await_status("web", "stopped");
            assert_eq!(lab.run(&["list", "-q"]).ok(), "web", "{point}");
            lab.run(&["create", "web"]).fails(1, "container with id exists");
            lab.run(&["start", "web"]).fails(1, "cannot start");
            lab.run(&["kill", "web"]).fails(1, "container not running");
            lab.run(&["exec", "web", "true"]).fails(255, "stopped");
            lab.run(&["delete", "--force", "web"]).ok();
            // The name and the group are free again.
            lab.run(&["create", "web"]).ok();
        }
    }
}

#[test]
fn a_directory_without_a_record_is_deleted() {
    let lab = Lab::new();
    fs::create_dir_all(lab.state_dir().join("web")).unwrap();
    assert_eq!(lab.status("web"), "stopped");
    lab.run(&["delete", "web"]).ok();
}

#[test]
fn a_failed_create_leaves_nothing() {
    for verb in ["create", "run"] {
        for point in POINTS {
            let lab = Lab::with_script("sleep 600");
            create(&lab, verb, point, "error").fails(1, "(os error 5)");
            lab.run(&["state", "web"]).fails(1, "does not exist");
            lab.run(&["create", "web"]).ok();
        }
    }
}

#[test]
fn a_container_being_created_is_said_to_be() {
    let lab = Lab::with_script("sleep 600");
    lab.name_group("web");
    let mut command = lab.command(&["create", "web"]);
    command.env("RCON_FAILPOINT", "runtime.create.group=sleep:60000");
    let child = super::lab::Reaped(command.spawn().unwrap());
    crate::outcome::eventually("a record", || lab.state_dir().join("web/state.json").exists());
    assert_eq!((lab.status("web").as_str(), lab.state("web")["pid"].as_i64()), ("creating", Some(0)));
    lab.run(&["start", "web"]).fails(1, "being created");
    lab.run(&["delete", "web"]).fails(1, "cannot delete container web that is not stopped: creating");
    drop(child);
    lab.run(&["delete", "web"]).ok();
}
