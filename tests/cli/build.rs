//! `build`: what comes out, what is found in the cache, what fails and how.

use crate::environment::Environment;
use crate::outcome::Done;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// An engine and the directory of a context in it.
struct Lab(Environment);

impl Lab {
    fn new(dockerfile: &str) -> Self {
        let lab = Lab(Environment::new());
        lab.write("Dockerfile", dockerfile);
        lab
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.root.join("context").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Builds `made` with these flags.
    fn build(&self, flags: &[&str]) -> Done {
        let words: Vec<&str> = ["build", "--progress", "plain", "-t", "made"].into_iter().chain(flags.iter().copied()).chain(["context"]).collect();
        self.0.rcon(&words)
    }

    fn shell(&self, script: &str) -> String {
        self.0.rcon(&["run", "--rm", "--network", "none", "made", "sh", "-c", script]).ok()
    }

    fn config(&self) -> Value {
        serde_json::from_str::<Value>(&self.0.rcon(&["image", "inspect", "made"]).ok()).unwrap()[0].clone()
    }

    /// Steps that were not done anew.
    fn cached(&self, flags: &[&str]) -> usize {
        let done = self.build(flags);
        assert_eq!(done.code, 0, "{}", done.err);
        done.err.lines().filter(|line| line.ends_with(" CACHED")).count()
    }
}

#[test]
fn instructions_make_an_image() {
    let lab = Lab::new(
        "ARG BASE=busybox\nFROM $BASE\nARG WHO=world\nENV GREETING=\"hello $WHO\" OTHER=x\nLABEL a=b\nWORKDIR /srv/app\n\
         RUN echo \"$GREETING from $WHO\" > said && pwd > where\nCOPY file dir/ ./\nUSER 1000:1000\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL INT\nCMD [\"cat\", \"said\"]\n",
    );
    lab.write("file", "content\n");
    lab.write("dir/inner", "inside\n");
    lab.build(&["--build-arg", "WHO=you", "--label", "c=d"]).ok();
    assert_eq!(lab.0.rcon(&["run", "--rm", "--network", "none", "made"]).ok(), "hello you from you");
    assert_eq!(lab.shell("cat where file inner; id -u; stat -c %u:%g:%a file"), "/srv/app\ncontent\ninside\n1000\n0:0:644");
    let config = &lab.config()["Config"];
    assert_eq!((&config["WorkingDir"], &config["User"], &config["StopSignal"]), (&"/srv/app".into(), &"1000:1000".into(), &"INT".into()));
    assert_eq!(config["Cmd"], serde_json::json!(["cat", "said"]));
    assert_eq!(config["Labels"], serde_json::json!({ "a": "b", "c": "d" }));
    assert_eq!(config["ExposedPorts"], serde_json::json!({ "53/udp": {}, "80/tcp": {} }));
    assert!(config["Env"].as_array().unwrap().contains(&"GREETING=hello you".into()), "{config}");
    let history = lab.0.rcon(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]).ok();
    assert!(history.contains("RUN |1 WHO=you /bin/sh -c echo") && history.contains("COPY file dir/ ./ # buildkit"), "{history}");
}

#[test]
fn what_is_unchanged_is_not_done_again() {
    let lab =
        Lab::new("FROM busybox\nRUN head -c 9 /dev/urandom | md5sum > /one\nCOPY a /a\nRUN head -c 9 /dev/urandom | md5sum > /two\nCOPY b /b\n");
    lab.write("a", "1");
    lab.write("b", "1");
    assert_eq!(lab.cached(&[]), 0);
    let (id, before) = (lab.config()["Id"].clone(), lab.shell("cat /one /two"));
    assert_eq!(lab.cached(&[]), 4);
    assert_eq!(lab.config()["Id"], id, "an unchanged build is the same image");
    // Neither a touch nor the order of writing matters.
    let touched = fs::File::options().write(true).open(lab.0.root.join("context/a")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(lab.cached(&[]), 4);
    lab.write("b", "2");
    assert_eq!((lab.cached(&[]), lab.shell("cat /one /two")), (3, before.clone()));
    lab.write("a", "2");
    assert_eq!(lab.cached(&[]), 1);
    let after = lab.shell("cat /one /two");
    assert!(after.lines().next() == before.lines().next() && after != before, "{before} {after}");
    assert_eq!(lab.cached(&["--no-cache"]), 0);
    // Within its limits nothing goes.
    for limit in ["--keep-storage=1g", "--max-used-space=1g", "--min-free-space=1"] {
        assert_eq!(lab.0.rcon(&["builder", "prune", "-af", limit]).ok(), "Total:\t0B", "{limit}");
    }
    // What an image shares stays with -a only.
    lab.0.rcon(&["builder", "prune", "-af"]).ok();
    assert_eq!(lab.cached(&[]), 0);
}

#[test]
fn stages_are_built_if_they_are_needed() {
    let lab = Lab::new(
        "FROM busybox AS one\nRUN echo one > /made\nFROM busybox AS unused\nRUN false\nFROM one AS two\nRUN echo two >> /made\n\
         FROM scratch AS files\nCOPY --from=two /made /\nFROM busybox\nCOPY --from=files / /from/\nCOPY --from=busybox /bin/busybox /from/\n",
    );
    lab.build(&[]).ok();
    assert_eq!(lab.shell("cat /from/made; ls /from"), "one\ntwo\nbusybox\nmade");
    lab.build(&["--target", "one"]).ok();
    assert_eq!(lab.shell("cat /made"), "one");
    lab.build(&["--target", "unused"]).fails(1, "exit code: 1");
    lab.build(&["--target", "tow"]).fails(1, "did you mean two?");
}

#[test]
fn mounts_are_there_for_their_step_alone() {
    let lab = Lab::new(
        "FROM busybox AS other\nRUN echo stage > /file\nFROM busybox\n\
         RUN --mount=type=bind,source=sub,target=/ctx --mount=type=bind,from=other,source=/file,target=/mnt/file cat /ctx/x /mnt/file > /seen\n\
         RUN --mount=type=cache,target=/cache echo more >> /cache/log && cp /cache/log /log1\n\
         RUN --mount=type=cache,target=/cache wc -l < /cache/log > /log2\n\
         RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && mount | grep -c ' /scratch ' > /tmpfs\n\
         RUN --mount=type=secret,id=key cat /run/secrets/key | tr a-z A-Z > /secret\n\
         RUN --mount=type=secret,id=key,env=KEY echo $KEY | tr a-z A-Z > /variable\n\
         RUN ls / /run /mnt > /left; true\n",
    );
    lab.write("sub/x", "context\n");
    lab.write("key", "hidden");
    lab.build(&["--secret", "id=key,src=context/key"]).ok();
    assert_eq!(lab.shell("cat /seen /log1 /log2 /tmpfs /secret /variable"), "context\nstage\nmore\n1\n1\nHIDDENHIDDEN");
    let left = lab.shell("cat /left");
    for name in ["ctx", "cache", "scratch", "secrets"] {
        assert!(!left.lines().any(|line| line == name), "{name}: {left}");
    }
    // Another build sees the same cache.
    lab.write("Dockerfile", "FROM busybox\nRUN --mount=type=cache,target=/cache wc -l < /cache/log > /lines\n");
    lab.build(&[]).ok();
    assert_eq!(lab.shell("cat /lines"), "1");
    lab.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=none,required cat /run/secrets/none\n");
    lab.build(&[]).fails(1, "secret none is required");
}

#[test]
fn errors_point_into_the_file() {
    let lab = Lab::new("FROM busybox\nRUN echo before\nRUN echo some output; exit 3\n");
    let done = lab.build(&[]);
    assert_eq!(done.code, 1);
    for words in ["some output", "exit code: 3", "Dockerfile:3", "> 3 | RUN echo some output; exit 3"] {
        assert!(done.err.contains(words), "{words}: {}", done.err);
    }
    assert!(!lab.0.rcon(&["images", "-q"]).ok().contains("made"));
    lab.write("Dockerfile", "FROM busybox\nCOPPY a b\n");
    lab.build(&[]).fails(1, "COPY");
    lab.write("Dockerfile", "FROM busybox\nCOPY missing /\n");
    lab.build(&[]).fails(1, "missing");
    lab.write(".dockerignore", "secret\n");
    lab.write("secret", "x");
    lab.write("Dockerfile", "FROM busybox\nCOPY secret /\n");
    lab.build(&[]).fails(1, ".dockerignore");
    lab.write("Dockerfile", "FROM busybox\nCOPY ../../etc/passwd /\n");
    lab.build(&[]).fails(1, "not found");
    lab.write("Dockerfile", "FROM busybox\nRUN --network=host true\n");
    lab.build(&[]).fails(1, "--allow network.host");
}

#[test]
fn a_step_leaves_nothing_of_its_own_in_the_layer() {
    let lab = Lab::new(
        "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"true\"]\nRUN [\"/bin/busybox\", \"rm\", \"-r\", \"/bin/none\", \"-f\"]\n",
    );
    lab.build(&[]).ok();
    let tar = lab.0.root.join("tree.tar");
    lab.0.rcon(&["create", "--name", "look", "made", "/bin/busybox"]).ok();
    lab.0.rcon(&["export", "-o", tar.to_str().unwrap(), "look"]).ok();
    let names: Vec<String> = tar::Archive::new(fs::File::open(tar).unwrap())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    assert_eq!(names, ["bin", "bin/busybox"]);
    assert_eq!(lab.config()["RootFS"]["Layers"].as_array().unwrap().len(), 3, "a RUN is a layer, also an empty one");
}

#[test]
fn a_reset_takes_the_cache_too() {
    let lab = Lab::new("FROM busybox\nRUN --mount=type=cache,target=/cache touch /cache/x /made\nCOPY file /\n");
    lab.write("file", "x");
    lab.build(&[]).ok();
    lab.0.rcon(&["system", "reset", "-f"]).ok();
    assert!(!lab.0.root.join("data").exists() && !lab.0.root.join("run").exists());
}

#[test]
fn results_go_where_they_are_wanted() {
    let lab = Lab::new("FROM busybox AS base\nFROM scratch\nCOPY --chown=7:8 --chmod=640 file /dir/\nCOPY --from=base /bin/busybox /bin/\n");
    lab.write("file", "x");
    let at = |name: &str| lab.0.root.join(name);
    let build = |flags: &[&str]| lab.0.rcon(&[&["build", "-q"], flags, &["context"]].concat());
    build(&["-o", "out", "-t", "unwanted"]).ok();
    let meta = fs::metadata(at("out/dir/file")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777, fs::read_to_string(at("out/dir/file")).unwrap().as_str()), (7, 8, 0o640, "x"));
    assert!(!lab.0.rcon(&["images", "-a"]).ok().contains("unwanted"));
    build(&["-o", "type=tar,dest=out.tar"]).ok();
    let names = |bytes: &[u8]| -> Vec<String> {
        tar::Archive::new(bytes).entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned()).collect()
    };
    let listed = ["bin/", "bin/busybox", "dir/", "dir/file"];
    assert_eq!(names(&fs::read(at("out.tar")).unwrap()), listed);
    build(&["-o", "type=oci,dest=oci.tar", "-t", "archived"]).ok();
    build(&["-o", "type=docker,dest=docker.tar", "-t", "archived"]).ok();
    assert_eq!(lab.0.rcon(&["images", "-q"]).ok().lines().count(), 1, "busybox alone");
    assert!(lab.0.rcon(&["load", "-i", "docker.tar"]).ok().contains("archived:latest"));
    assert!(names(&fs::read(at("oci.tar")).unwrap()).contains(&"oci-layout".to_owned()));
    let id = build(&["-t", "made", "--metadata-file", "meta.json", "--iidfile", "id"]).ok();
    let meta: Value = serde_json::from_slice(&fs::read(at("meta.json")).unwrap()).unwrap();
    assert_eq!(
        (meta["containerimage.config.digest"].as_str(), meta["image.name"].as_str()),
        (Some(id.as_str()), Some("docker.io/library/made:latest"))
    );
    assert_eq!(fs::read_to_string(at("id")).unwrap(), id);
    fs::write(at("kept"), "kept").unwrap();
    for flag in ["--iidfile", "--metadata-file"] {
        std::os::unix::fs::symlink("kept", at("way")).unwrap();
        build(&[flag, "way"]).ok();
        assert!(fs::read_to_string(at("kept")).unwrap() == "kept" && fs::read_to_string(at("way")).unwrap().contains(&id), "{flag} replaces a link");
        fs::remove_file(at("way")).unwrap();
    }
    build(&["-o", "results", "--iidfile", "results/id", "--metadata-file", "results/meta.json"]).ok();
    assert_eq!(fs::read_to_string(at("results/id")).unwrap(), id, "in a directory that the build makes");
    build(&["-o", "type=s3"]).fails(125, "type s3 is not supported");
    build(&["--push"]).fails(1, "--tag");
}

#[test]
fn what_cannot_tell_the_result_is_refused_before_the_first_step() {
    let lab = Lab::new("FROM busybox\nRUN false\n");
    let at = |name: &str| lab.0.root.join(name);
    fs::create_dir(at("taken")).unwrap();
    fs::write(at("file"), "").unwrap();
    for (flag, what) in [("--iidfile", "image ID"), ("--metadata-file", "metadata")] {
        for (path, why) in [
            ("missing/id", "No such file"),
            ("taken", "Is a directory"),
            ("file/id", "Not a directory"),
            ("new/", "Is a directory"),
            ("/proc/id", ""),
        ] {
            let done = lab.build(&[flag, path]).fails(125, &format!("cannot write the {what} file {path}"));
            assert!(done.err.contains(why) && !done.err.contains("RUN"), "{path}: {}", done.err);
        }
    }
    // A build that has failed leaves no id, neither its own nor one of before; what else there is stays.
    fs::write(at("id"), "sha256:old").unwrap();
    fs::write(at("meta.json"), "{}").unwrap();
    lab.build(&["--iidfile", "missing/id", "--metadata-file", "meta.json"]).fails(125, "missing/id");
    lab.build(&["--iidfile", "id", "--metadata-file", "missing/meta.json"]).fails(125, "missing/meta.json");
    assert_eq!(fs::read_to_string(at("id")).unwrap(), "sha256:old", "nothing was begun");
    lab.build(&["--iidfile", "id", "--metadata-file", "meta.json"]).fails(1, "false");
    assert_eq!((at("id").exists(), fs::read_to_string(at("meta.json")).unwrap().as_str()), (false, "{}"));
    lab.build(&["--iidfile", "/dev/null", "--metadata-file", "new.json"]).fails(1, "false");
    assert!(!at("new.json").exists());
}

#[test]
fn what_a_build_goes_on_from_is_not_taken_away() {
    // A step that lasts until it is killed: a number of seconds that no other process of the machine sleeps.
    let seconds = format!("77{}", std::process::id());
    let lab = Lab::new(&format!("FROM busybox\nRUN echo one > /one\nRUN sleep {seconds} || true\nRUN cat /one > /two\n"));
    let sleeping = || {
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let line = format!("sleep\0{seconds}\0").into_bytes();
        pids.into_iter().find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line))
    };
    std::thread::scope(|scope| {
        let build = scope.spawn(|| lab.build(&[]));
        let begun = || lab.0.rcon(&["builder", "du", "-v"]).ok().contains("echo one");
        while !begun() {
            assert!(!build.is_finished(), "the first step was never recorded");
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        lab.0.rcon(&["rmi", "-f", "busybox"]).ok();
        lab.0.rcon(&["builder", "prune", "-af"]).ok();
        assert!(!build.is_finished());
        crate::outcome::eventually("the second step", || sleeping().is_some());
        let pid = rustix::process::Pid::from_raw(sleeping().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let done = build.join().unwrap();
        assert_eq!(done.code, 0, "{}", done.err);
    });
    assert_eq!(lab.shell("cat /two"), "one");
    // What nobody names any more goes when no build holds it.
    lab.0.rcon(&["rmi", "made"]).ok();
    lab.0.rcon(&["builder", "prune", "-af"]).ok();
    assert_eq!(fs::read_dir(lab.0.root.join("data/layers")).unwrap().count(), 0);
}

#[test]
fn mount_points_behind_links_are_taken_away_too() {
    let lab = Lab::new(
        "FROM busybox\nRUN rm -rf /run && mkdir -p /tmp/real && ln -s /tmp/real /run && ln -s ../tmp/gone/file /link\n\
         RUN --mount=type=secret,id=key --mount=type=secret,id=key,target=/link cat /run/secrets/key /link > /seen\n",
    );
    lab.write("key", "hidden");
    lab.build(&["--secret", "id=key,src=context/key"]).ok();
    assert_eq!(lab.shell("cat /seen; ls -A /tmp /tmp/real; readlink /link"), "hiddenhidden/tmp:\nreal\n\n/tmp/real:\n../tmp/gone/file");
}

#[test]
fn what_a_layer_cannot_hold_is_said() {
    let lab = Lab::new("FROM busybox\nRUN mkdir /d && touch /d/.wh.name\n");
    let done = lab.build(&[]).fails(1, "d/.wh.name");
    assert!(done.err.contains("RUN mkdir /d") && !done.err.contains("unpack"), "{}", done.err);
}

#[test]
fn flags_of_other_builders_are_taken_or_refused_by_name() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    lab.build(&["--rm", "--force-rm", "--compress", "--provenance=false", "--sbom=false", "--load"]).ok();
    for (flag, words) in [
        ("--squash", "a layer for each step"),
        ("--cache-to=type=gha", "the type gha is not supported"),
        ("--cache-from=type=local", "src is missing"),
        ("--provenance=mode=most", "neither min nor max"),
        ("--isolation=hyperv", "--isolation"),
        ("--progress=fancy", "expected auto, tty"),
        ("--allow=everything", "network.host"),
        ("--secret=src=x", "id is missing"),
    ] {
        lab.build(&[flag]).fails(125, words);
    }
    lab.0.rcon(&["build"]).fails(1, "rcon build");
    lab.0.rcon(&["build", "nowhere"]).fails(1, "nowhere");
    fs::remove_file(lab.0.root.join("context/Dockerfile")).unwrap();
    lab.build(&[]).fails(1, "there is no Dockerfile");
    assert_eq!(lab.0.rcon_with_input(&["build", "-q", "-t", "piped", "-"], b"FROM scratch\nENV A=1\n").code, 0);
    assert_eq!(lab.0.rcon_with_input(&["build", "-q", "-f", "-", "context"], b"FROM scratch\nENV A=1\n").code, 0);
    lab.0.rcon(&["build", "-f", "-", "-"]).fails(1, "cannot both be read");
}

#[test]
fn a_cache_that_is_mounted_twice_is_locked_once() {
    let lab = Lab::new(
        "FROM busybox\nRUN --mount=type=cache,id=one,sharing=locked,target=/a --mount=type=cache,id=one,sharing=locked,target=/b echo x > /a/f && cat /b/f > /seen\n",
    );
    lab.build(&[]).ok();
    assert_eq!(lab.shell("cat /seen"), "x");
}

#[test]
fn a_trigger_does_not_wait_for_what_is_not_built() {
    let lab = Lab::new("FROM busybox\nONBUILD COPY --from=other /made /\n");
    lab.0.rcon(&["build", "-q", "-t", "base", "context"]).ok();
    lab.write("Dockerfile", "FROM busybox AS other\nRUN touch /made\nFROM base\n");
    lab.build(&[]).fails(1, "stage other, which an ONBUILD trigger takes files from");
    lab.write("Dockerfile", "FROM busybox AS other\nRUN touch /made\nFROM base\nCOPY --from=other /made /twice\n");
    lab.build(&[]).ok();
    assert_eq!(lab.shell("ls /made /twice"), "/made\n/twice");
}

#[test]
fn what_the_builder_does_not_do_is_not_promised() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    for argument in ["SOURCE_DATE_EPOCH=yesterday", "BUILDKIT_UNKNOWN=1"] {
        lab.build(&["--build-arg", argument]).fails(1, argument.split('=').next().unwrap());
    }
    lab.build(&["--build-arg", "BUILDKIT_INLINE_CACHE=0", "--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1"]).ok();
    lab.build(&["-o", "-", "-o", "type=oci"]).fails(125, "standard output");
    lab.write("Dockerfile", "FROM busybox\nRUN echo x > /x\n");
    let plain = lab.0.rcon(&["build", "-q", "-o", "type=tar,dest=out.tar", "context"]).ok();
    assert!(plain.starts_with("sha256:"));
    let status = lab.0.command(&["build", "-q", "-o", "-", "context"]).output().unwrap();
    assert_eq!(status.stdout, fs::read(lab.0.root.join("out.tar")).unwrap(), "the tar alone");
    rustix::fs::mknodat(rustix::fs::CWD, lab.0.root.join("null"), rustix::fs::FileType::CharacterDevice, 0o600.into(), rustix::fs::makedev(1, 3))
        .unwrap();
    lab.0.rcon(&["build", "-q", "-o", "type=tar,dest=null", "context"]).ok();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&fs::metadata(lab.0.root.join("null")).unwrap().file_type()), "a device stays one");
}

#[test]
fn another_secret_is_another_step() {
    let lab = Lab::new("FROM busybox\nRUN --mount=type=secret,id=one cat /run/secrets/* > /seen\n");
    lab.write("one", "first");
    lab.write("two", "second");
    lab.build(&["--secret", "id=one,src=context/one"]).ok();
    lab.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=two cat /run/secrets/* > /seen\n");
    lab.build(&["--secret", "id=two,src=context/two"]).ok();
    assert_eq!(lab.shell("cat /seen"), "second");
}
