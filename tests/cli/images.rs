//! Images on the command line: save, load, import, export, history, lists, removal, disk usage, check.

use crate::environment::Environment;
use crate::outcome::{eventually, fixtures};
use std::process::Command;

fn archive() -> String {
    fixtures().join("busybox.tar").to_str().unwrap().to_owned()
}

/// The layer directories and kept blobs of an engine.
fn stored(engine: &Environment) -> (usize, usize) {
    let count = |path: &str| std::fs::read_dir(engine.root.join(path)).map_or(0, Iterator::count);
    (count("data/layers"), count("data/blobs/sha256"))
}

#[test]
fn an_image_is_stored_once_and_saved_whole() {
    let engine = Environment::new();
    assert_eq!(stored(&engine), (1, 0));
    let id = engine.see("busybox", "{{.Id}}");
    let diff = engine.see("busybox", "{{index .RootFS.Layers 0}}");
    engine.rcon(&["save", "-o", "saved.tar", "busybox"]).ok();
    let listed = Command::new("tar").args(["-tf", "saved.tar"]).current_dir(&engine.root).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(diff.strip_prefix("sha256:").unwrap()), "the layer is the original tar");
    engine.rcon(&["rmi", "busybox"]).ok();
    assert_eq!(stored(&engine), (0, 0));
    for compress in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let made = Command::new("sh").args(["-c", &format!("{compress} < saved.tar > packed")]).current_dir(&engine.root).status().unwrap();
        assert!(made.success(), "{compress}");
        assert_eq!(engine.rcon(&["load", "-q", "-i", "packed"]).ok(), "Loaded image: busybox:latest", "{compress}");
        assert_eq!(engine.see("busybox", "{{.Id}}"), id);
        engine.rcon(&["rmi", "busybox"]).ok();
    }
}

#[test]
fn forms_and_refusals_of_save() {
    let engine = Environment::new();
    engine.rcon(&["tag", "busybox", "copy:1"]).ok();
    engine.rcon(&["save", "--format", "oci-dir", "-o", "layout/", "busybox", "copy:1"]).ok();
    assert!(engine.root.join("layout/oci-layout").is_file() && !engine.root.join("layout/manifest.json").exists());
    engine.rcon(&["save", "--format", "docker-dir", "-o", "dir", "busybox"]).ok();
    assert!(engine.root.join("dir/version").is_file());
    engine.rcon(&["save", "--format", "oci-archive", "-o", "oci.tar", "busybox"]).ok();
    engine.rcon(&["load", "-i", "oci.tar"]).ok();
    engine.rcon(&["save", "--format", "zip", "-o", "x", "busybox"]).fails(125, "oci-archive");
    engine.rcon(&["save", "--format", "oci-dir", "busybox"]).fails(1, "-o DIRECTORY");
    engine.rcon(&["save", "-o", "x", "--platform", "linux/s390x", "busybox"]).fails(1, "for platform linux/s390x");
    engine.rcon(&["save", "-o", "x", "busybox", "none"]).fails(1, "No such image: none");
    assert!(!engine.root.join("x").exists());
    engine.rcon(&["load", "--platform", "linux/s390x", "-i", &archive()]).fails(1, "for platform linux/s390x");
}

#[test]
fn export_then_import_is_the_same_tree() {
    let engine = Environment::new();
    engine.rcon(&["run", "--name", "one", "-v", "data:/data", "busybox", "sh", "-c", "echo text > /made; echo no > /data/x; rm -r /etc/group"]).ok();
    engine.rcon(&["export", "-o", "flat.tar", "one"]).ok();
    let listed = Command::new("tar").args(["-tf", "flat.tar"]).current_dir(&engine.root).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let has = |name: &str| names.lines().any(|line| line == name);
    assert!(has("made") && has("data/") && has("bin/") && !has("data/x") && !has("etc/group"), "{names}");
    let change = ["-c", "CMD [\"cat\", \"/made\"]", "-c", "ENV A=\"b c\"", "-m", "a message"];
    let id = engine.rcon(&[&["import"], &change[..], &["flat.tar", "imported:1"]].concat()).ok();
    assert_eq!(engine.see("imported:1", "{{.Id}}"), id);
    assert_eq!(engine.rcon(&["run", "--rm", "imported:1"]).ok(), "text");
    assert_eq!(engine.rcon(&["run", "--rm", "imported:1", "sh", "-c", "echo $A"]).ok(), "b c");
    assert_eq!(engine.rcon(&["history", "--format", "{{.Comment}}", "imported:1"]).ok(), "a message");
    engine.rcon(&["import", "-c", "RUN x", "flat.tar"]).fails(1, "expected one of CMD");
    engine.rcon(&["import", "none.tar"]).fails(1, "cannot open none.tar");
    engine.rcon(&["rm", "one"]).ok();
    engine.rcon(&["volume", "rm", "data"]).ok();
}

#[test]
fn a_running_container_is_exported_too() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "live", "busybox", "sh", "-c", "echo 1 > /made; sleep 1000"]).ok();
    eventually("the file is there", || engine.rcon(&["exec", "live", "cat", "/made"]).out == "1\n");
    engine.rcon(&["export", "-o", "live.tar", "live"]).ok();
    let out = Command::new("tar").args(["-xOf", "live.tar", "made"]).current_dir(&engine.root).output().unwrap();
    assert_eq!(out.stdout, b"1\n");
    engine.rcon(&["rm", "-f", "live"]).ok();
}

#[test]
fn lists_and_history() {
    let engine = Environment::new();
    assert_eq!(engine.rcon(&["image", "exists", "busybox"]).code, 0);
    assert_eq!(engine.rcon(&["image", "exists", "none"]).code, 1);
    let tree = engine.rcon(&["images", "--tree"]).ok();
    assert!(tree.contains("busybox:latest") && tree.contains("└─ linux/"), "{tree}");
    engine.rcon(&["images", "--tree", "-q"]).fails(125, "--tree");
    let history = engine.rcon(&["history", "busybox"]).ok();
    assert!(history.starts_with("IMAGE") && history.lines().count() >= 2, "{history}");
    let ids = engine.rcon(&["history", "-q", "--no-trunc", "busybox"]).ok();
    assert_eq!(ids.lines().next().map(str::to_owned), Some(engine.see("busybox", "{{.Id}}")));
    engine.rcon(&["history", "none"]).fails(1, "No such image: none");
}

#[test]
fn disk_usage_adds_up_and_prune_frees_it() {
    let engine = Environment::new();
    engine
        .rcon(&[
            "run",
            "--name",
            "one",
            "-v",
            "/anon",
            "busybox",
            "sh",
            "-c",
            "head -c 3000000 /dev/zero > /big; head -c 2000000 /dev/zero > /anon/x",
        ])
        .ok();
    let row = |kind: &str, field: &str| {
        let out = engine.rcon(&["system", "df", "--format", &format!("{{{{.Type}}}}={{{{.{field}}}}}")]).ok();
        out.lines().find_map(|line| line.strip_prefix(&format!("{kind}=")).map(str::to_owned)).unwrap()
    };
    assert_eq!((row("Images", "Active").as_str(), row("Containers", "Active").as_str()), ("1", "0"));
    assert!(row("Containers", "Size").starts_with("3.") && row("Containers", "Size").ends_with("MB"), "{}", row("Containers", "Size"));
    assert!(row("Local Volumes", "Size").starts_with("2.0"), "{}", row("Local Volumes", "Size"));
    assert!(row("Images", "Reclaimable").starts_with("0B"), "{}", row("Images", "Reclaimable"));
    let verbose = engine.rcon(&["system", "df", "-v"]).ok();
    assert!(verbose.contains("UNIQUE SIZE") && verbose.contains("VOLUME NAME") && verbose.contains("one"), "{verbose}");
    engine.rcon(&["system", "prune", "--volumes", "--filter", "until=1h", "-f"]).fails(1, "until");
    engine.rcon_with_input(&["system", "prune"], b"n\n").ok();
    assert_eq!(row("Containers", "TotalCount"), "1");
    engine.rcon(&["network", "create", "unused"]).ok();
    let pruned = engine.rcon(&["system", "prune", "-af", "--volumes"]).ok();
    assert!(pruned.contains("Deleted Networks:\nunused\n"), "{pruned}");
    assert!(pruned.contains("Deleted Volumes:") && pruned.contains("untagged: busybox:latest") && pruned.contains("deleted: sha256:"), "{pruned}");
    for kind in ["Images", "Containers", "Local Volumes"] {
        assert_eq!((row(kind, "TotalCount").as_str(), row(kind, "Size").as_str()), ("0", "0B"), "{kind}");
    }
}

#[test]
fn check_names_damage_and_mends_it() {
    let engine = Environment::new();
    assert!(engine.rcon(&["system", "check"]).ok().ends_with("1 image and 1 layer are sound"));
    let layer = std::fs::read_dir(engine.root.join("data/layers")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(layer.join("diff/etc/passwd"), "changed").unwrap();
    let found = engine.rcon(&["system", "check"]);
    assert_eq!(found.code, 1);
    assert!(found.out.contains("of busybox:latest") && found.out.contains("--repair"), "{}", found.out);
    assert_eq!(engine.rcon(&["system", "check", "--quick"]).code, 0);
    engine.rcon(&["create", "--name", "user", "busybox"]).ok();
    let mended = engine.rcon(&["system", "check", "--repair"]).ok();
    assert!(mended.contains("cannot be used until it is pulled again"), "{mended}");
    engine.rcon(&["start", "user"]).fails(1, "layer");
    engine.rcon(&["load", "-q", "-i", &archive()]).ok();
    engine.rcon(&["start", "user"]).ok();
    assert!(engine.rcon(&["system", "check"]).ok().ends_with("sound"));
    engine.rcon(&["rm", "-f", "user"]).ok();
    engine.rcon(&["volume", "create", "lost"]).ok();
    std::fs::remove_dir_all(engine.root.join("data/volumes/lost")).unwrap();
    let found = engine.rcon(&["system", "check", "--repair"]);
    assert!(
        found.code == 1 && found.out.contains("volume lost: its directory is missing") && found.out.contains("rcon volume rm lost"),
        "{}",
        found.out
    );
    engine.rcon(&["volume", "rm", "lost"]).ok();
}

#[test]
fn check_finds_what_no_digest_of_contents_shows() {
    use std::os::unix::fs::PermissionsExt;
    let engine = Environment::new();
    let layer = std::fs::read_dir(engine.root.join("data/layers")).unwrap().next().unwrap().unwrap().path();
    let diff = layer.join("diff");
    std::fs::write(diff.join("bin/evil"), "x").unwrap();
    std::fs::set_permissions(diff.join("etc"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let found = engine.rcon(&["system", "check"]);
    assert_eq!(found.code, 1);
    assert!(found.out.contains("\"bin/evil\" is not in its tar") && found.out.contains("\"etc\" has the mode 0777"), "{}", found.out);
    assert_eq!(engine.rcon(&["system", "check", "--quick"]).code, 0);
    let mended = engine.rcon(&["system", "check", "--repair"]).ok();
    assert!(mended.contains("mended: busybox:latest was removed") && mended.contains("hint: rcon pull busybox:latest"), "{mended}");
    engine.rcon(&["load", "-q", "-i", &archive()]).ok();
    assert!(engine.rcon(&["system", "check"]).ok().ends_with("sound"));
}

/// Two images `one:1` and `two:1` of the same two layers.
const TWO_IMAGES: &str = r#"
mkdir a b && echo a > a/a && echo b > b/b && tar -C a -cf a.tar a && tar -C b -cf b.tar b
ids="\"sha256:$(sha256sum < a.tar | cut -c1-64)\",\"sha256:$(sha256sum < b.tar | cut -c1-64)\""
for name in one two; do
    printf '{"os":"linux","architecture":"%s","author":"%s","rootfs":{"type":"layers","diff_ids":[%s]}}' "$1" $name "$ids" > $name.json
done
entry() { printf '{"Config":"%s.json","RepoTags":["%s:1"],"Layers":["a.tar","b.tar"]}' $1 $1; }
echo "[$(entry one),$(entry two)]" > manifest.json
tar -cf two.tar manifest.json one.json two.json a.tar b.tar"#;

#[test]
fn repair_names_all_that_it_removed() {
    let engine = Environment::new();
    let architecture = engine.see("busybox", "{{.Architecture}}");
    let made = Command::new("sh").args(["-ec", TWO_IMAGES, "sh", &architecture]).current_dir(&engine.root).status().unwrap();
    assert!(made.success());
    engine.rcon(&["rmi", "busybox"]).ok();
    engine.rcon(&["load", "-q", "-i", "two.tar"]).ok();
    assert_eq!(stored(&engine).0, 2);
    for layer in std::fs::read_dir(engine.root.join("data/layers")).unwrap() {
        std::fs::write(layer.unwrap().path().join("diff/evil"), "x").unwrap();
    }
    let mended = engine.rcon(&["system", "check", "--repair"]).ok();
    assert!(mended.contains("one:1") && mended.contains("two:1") && mended.contains(" were removed"), "{mended}");
    assert!(mended.contains("rcon pull one:1") && mended.contains("rcon pull two:1"), "{mended}");
    assert!(mended.contains("of no image") && mended.contains("mended: the layer was removed"), "{mended}");
    assert!(mended.ends_with("2 images and 2 layers checked, 2 problems, all mended"), "{mended}");
    assert_eq!(stored(&engine).0, 0);
}

#[test]
fn a_lost_layer_is_named_with_the_way_back() {
    let engine = Environment::new();
    let layer = std::fs::read_dir(engine.root.join("data/layers")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(layer).unwrap();
    for run in [&["run", "--rm", "busybox", "true"][..], &["run", "-v", "new:/etc", "busybox", "true"]] {
        let failed = engine.rcon(run);
        assert_eq!(failed.code, 125, "{}", failed.err);
        assert!(failed.err.contains("is damaged: its directory is missing") && failed.err.contains("system check --repair"), "{}", failed.err);
    }
}
