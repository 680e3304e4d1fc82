//! `build --cache-to` and `--cache-from`: results that leave the store and come back.

use crate::environment::Environment;
use crate::outcome::Done;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const STAGES: &str = "FROM busybox AS work\nWORKDIR /work\nCOPY file .\nRUN head -c 9 file > part\n\
    FROM busybox\nCOPY --from=work /work/part /part\nRUN date +%N > /when\nWORKDIR /bin\nENV A=b\n";

struct Lab(Environment);

impl Lab {
    fn new() -> Self {
        let lab = Lab(Environment::new());
        lab.write("Dockerfile", STAGES);
        lab.write("file", &"text ".repeat(100));
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.root.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at("context")).unwrap();
        fs::write(self.at("context").join(name), text).unwrap();
    }

    fn build(&self, flags: &[&str]) -> Done {
        self.0.rcon(&[&["build", "--progress", "plain", "-t", "made", "--iidfile", "id"], flags, &["context"]].concat())
    }

    /// Builds, and gives the image's id and how many steps were not made.
    fn built(&self, flags: &[&str]) -> (String, usize) {
        let done = self.build(flags);
        let cached = done.err.matches(" CACHED\n").count();
        done.ok();
        (fs::read_to_string(self.at("id")).unwrap(), cached)
    }

    /// Nothing of earlier builds is left.
    fn forget(&self) {
        self.0.rcon(&["rmi", "-f", "made"]).ok();
        self.0.rcon(&["builder", "prune", "-af"]).ok();
        assert_eq!(self.0.rcon(&["builder", "du", "--format", "{{.ID}}"]).ok(), "");
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(path)).unwrap()).unwrap()
    }

    fn blob(&self, cache: &str, descriptor: &Value) -> PathBuf {
        self.at(cache).join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    }

    /// The manifest of the entry `tag`.
    fn manifest(&self, cache: &str, tag: &str) -> Value {
        let index = self.json(&format!("{cache}/index.json"));
        let entry = index["manifests"].as_array().unwrap().iter().find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        serde_json::from_slice(&fs::read(self.blob(cache, entry.unwrap())).unwrap()).unwrap()
    }
}

#[test]
fn results_come_back_from_a_directory() {
    let lab = Lab::new();
    let to = ["--cache-to", "type=local,dest=cache,mode=max", "--cache-to", "type=local,dest=cache,tag=min,compression=zstd"];
    let (id, cached) = lab.built(&to);
    assert_eq!(cached, 0);
    lab.forget();
    assert_eq!(lab.built(&["--cache-from", "type=local,src=cache"]), (id.clone(), 6), "all of it, and the same image");
    let (manifest, min) = (lab.manifest("cache", "latest"), lab.manifest("cache", "min"));
    assert_eq!((manifest["layers"].as_array().unwrap().len(), min["layers"].as_array().unwrap().len()), (5, 2));
    assert!(min["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+zstd"));
    // What was taken from a cache goes into one like what was made here, and what is there is not written again.
    let before = fs::metadata(lab.blob("cache", &manifest["layers"][0])).unwrap();
    lab.built(&to);
    assert_eq!(lab.manifest("cache", "latest"), manifest);
    let after = fs::metadata(lab.blob("cache", &manifest["layers"][0])).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&before), std::os::unix::fs::MetadataExt::ino(&after));
    // Only layers of steps that are needed are read; the others need not even be there.
    lab.forget();
    lab.write("Dockerfile", "FROM busybox\nWORKDIR /work\nCOPY file .\n");
    for layer in &manifest["layers"].as_array().unwrap()[2..] {
        fs::remove_file(lab.blob("cache", layer)).unwrap();
    }
    let done = lab.build(&["--cache-from", "type=local,src=cache"]);
    assert!(done.err.matches(" CACHED\n").count() == 2 && !done.err.contains("WARNING"), "{}", done.err);
    lab.forget();
    let flags = ["--cache-from", "type=local,src=cache", "--no-cache"];
    assert_eq!(lab.built(&flags).1, 0, "--no-cache is meant for all caches");
    let flags = [&flags[..2], &["--check"]].concat();
    lab.0.rcon(&[&["build"], flags.as_slice(), &["context"]].concat()).ok();
}

#[test]
fn results_come_back_from_an_image() {
    let lab = Lab::new();
    let inline = ["--cache-to", "type=inline", "-o", "type=image", "-o", "type=oci,tar=false,dest=layout"];
    let (id, _) = lab.built(&inline);
    lab.forget();
    let again = ["--build-arg", "BUILDKIT_INLINE_CACHE=1", "--cache-from", "type=local,src=layout"];
    assert_eq!(lab.built(&again), (id, 3), "the steps of its own stages, and the same image");
    let config = |name: &str| -> Value {
        lab.0.rcon(&["save", "--format", "oci-dir", "-o", name, name]).ok();
        let manifest: Value =
            serde_json::from_slice(&fs::read(lab.blob(name, &lab.json(&format!("{name}/index.json"))["manifests"][0])).unwrap()).unwrap();
        serde_json::from_slice(&fs::read(lab.blob(name, &manifest["config"])).unwrap()).unwrap()
    };
    assert_eq!(config("made")["rcon.buildcache.v1"]["records"].as_array().unwrap().len(), 3);
    lab.write("Dockerfile", "FROM made\nLABEL a=b\n");
    lab.0.rcon(&["build", "-q", "-t", "child", "context"]).ok();
    assert_eq!(config("child").get("rcon.buildcache.v1"), None, "what a base tells is not its child's");
    lab.build(&["--cache-to", "type=inline", "-o", "type=oci,dest=x,rewrite-timestamp=true", "--build-arg", "SOURCE_DATE_EPOCH=1"])
        .fails(1, "rewrite-timestamp");
    lab.build(&["--cache-to", "type=inline", "-o", "out"]).fails(1, "no output is an image");
    lab.build(&["--build-arg", "BUILDKIT_INLINE_CACHE=perhaps"]).fails(1, "BUILDKIT_INLINE_CACHE=perhaps");
}

#[test]
fn a_cache_that_is_wrong_costs_only_its_results() {
    let lab = Lab::new();
    lab.built(&["--cache-to", "type=local,dest=cache,mode=max"]);
    lab.forget();
    let manifest = lab.manifest("cache", "latest");
    let path = lab.blob("cache", &manifest["layers"][1]);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let foreign = json!({ "schemaVersion": 2, "manifests": [] });
    fs::create_dir(lab.at("foreign")).unwrap();
    fs::write(lab.at("foreign/index.json"), foreign.to_string()).unwrap();
    let from = ["type=local,src=nowhere", "type=local,src=foreign", "type=local,src=cache", "127.0.0.1:1/x"].map(|cache| ["--cache-from", cache]);
    let done = lab.build(&from.concat());
    for words in ["nowhere:latest: there is no cache yet", "foreign:latest: the directory has no such entry", "cannot reach registry 127.0.0.1:1"] {
        assert!(done.err.contains(&format!("WARNING: {words}")) && done.err.contains(&format!("- CacheNotUsed: {words}")), "{words}: {}", done.err);
    }
    assert!(done.err.contains("its result of COPY file . cannot be had"), "{}", done.err);
    done.ok();
    assert_eq!(lab.0.rcon(&["run", "--rm", "--network", "none", "made", "cat", "/part"]).ok(), "text text");
    lab.0.rcon(&["system", "check"]).ok();
    // What cannot be written fails the build, unless that is not to count.
    fs::write(lab.at("taken"), "").unwrap();
    let done = lab.build(&["--cache-to", "type=local,dest=taken"]).fails(1, "cannot export the cache to taken:latest");
    assert!(done.err.contains("hint: ignore-error=true"), "{}", done.err);
    assert!(lab.build(&["--cache-to", "type=local,dest=taken,ignore-error=true"]).err.contains("- CacheNotWritten: cannot export the cache"));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_build_leaves_a_cache_that_can_be_used() {
    let lab = Lab::new();
    let kill = |point: &str, flags: &[&str]| {
        let words = [&["build", "-q", "-t", "made", "--iidfile", "id"], flags, &["context"]].concat();
        let killed = lab.0.command(&words).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9), "{point}");
    };
    let to = ["--cache-to", "type=local,dest=cache,mode=max"];
    kill("image.layout.before_index", &to);
    assert!(!lab.at("cache/index.json").exists(), "nothing that could be taken for one");
    let (id, _) = lab.built(&to);
    let before = lab.manifest("cache", "latest");
    lab.write("file", "other");
    kill("image.layout.before_index", &to);
    assert_eq!(lab.manifest("cache", "latest"), before, "the one before it");
    lab.write("file", &"text ".repeat(100));
    lab.forget();
    let from = ["--cache-from", "type=local,src=cache"];
    kill("image.commit.before_layer", &from);
    assert_eq!(lab.built(&from), (id, 6));
    lab.0.rcon(&["system", "check"]).ok();
    let leftovers: Vec<_> = fs::read_dir(lab.at("cache")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(leftovers.len(), 3, "{leftovers:?}");
}

#[test]
fn settings_that_cannot_be_used_are_told_before_anything_happens() {
    let lab = Lab::new();
    lab.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    for (line, words) in [
        ("max_used_space = -1", "build.max_used_space"),
        ("reserved_space = '5 bananas'", "build.reserved_space"),
        ("min_free_space = '101%'", "build.min_free_space"),
        ("max_used_spaec = 1", "did you mean max_used_space?"),
    ] {
        fs::write(lab.at("rcon.toml"), format!("[build]\n{line}\n")).unwrap();
        let with = |arguments: &[&str]| lab.0.command(arguments).env("RCON_CONFIG_FILE", lab.at("rcon.toml")).output().unwrap();
        let built = with(&["build", "--progress", "plain", "-t", "made", "context"]);
        let said = String::from_utf8(built.stderr).unwrap();
        assert!(!built.status.success() && said.contains(words) && said.contains("line 2"), "{line}: {said}");
        assert!(!said.contains('#'), "nothing was begun: {said}");
        let told = String::from_utf8(with(&["info"]).stderr).unwrap();
        assert!(told.contains("WARNING: ") && told.contains(words), "{line}: {told}");
    }
    assert_eq!(lab.0.rcon(&["builder", "du", "--format", "{{.ID}}"]).ok(), "", "no step was made");
}

#[test]
fn filters_of_the_cache_are_understood_or_refused() {
    let lab = Lab::new();
    lab.build(&[]).ok();
    let ids = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", *filter]).collect();
        lab.0.rcon(&[&["builder", "du", "--format", "{{.ID}}"], &filters[..]].concat()).ok().lines().count()
    };
    let all = ids(&[]);
    assert_eq!(ids(&["shared=true"]) + ids(&["shared=0"]), all);
    assert_eq!((ids(&["inuse=F", "type=regular"]), ids(&["type=source.local"])), (all, 0));
    for filter in ["shared=banana", "inuse=maybe", "type=layer", "until=yesterday", "unused-for=long", "id="] {
        let words = format!("invalid filter \"{filter}\"");
        lab.0.rcon(&["builder", "du", "--filter", filter]).fails(1, &words);
        // Without -f it would ask first: a filter that is wrong is told before.
        lab.0.rcon(&["builder", "prune", "-a", "--filter", filter]).fails(1, &words);
    }
    assert_eq!(ids(&[]), all, "nothing was removed");
}

#[test]
fn what_a_failed_build_has_left_is_within_the_limits() {
    let lab = Lab::new();
    lab.write("Dockerfile", "FROM scratch\nCOPY file /\nCOPY missing /\n");
    let left = || lab.0.rcon(&["builder", "du", "--format", "{{.ID}}"]).ok();
    lab.build(&[]).fails(1, "missing");
    assert_eq!(left().lines().count(), 1);
    fs::write(lab.at("rcon.toml"), "[build]\nreserved_space = 0\nmax_used_space = 1\nmin_free_space = 0\n").unwrap();
    lab.0.rcon(&["--config-file", "rcon.toml", "build", "context"]).fails(1, "missing");
    assert_eq!(left(), "");
}
