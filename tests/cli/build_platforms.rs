//! `build` for several platforms, with attestations, and `--call`.

use crate::environment::Environment;
use crate::outcome::Done;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

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

    fn build(&self, flags: &[&str]) -> Done {
        self.0.rcon(&[&["build", "--progress", "plain"], flags, &["context"]].concat())
    }

    fn inspect(&self, flags: &[&str]) -> Value {
        serde_json::from_str::<Value>(&self.0.rcon(&[&["image", "inspect"], flags].concat()).ok()).unwrap()[0].clone()
    }

    /// The files of an archive.
    fn archive(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(fs::File::open(self.0.root.join(name)).unwrap());
        let read = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
        };
        archive.entries().unwrap().map(read).collect()
    }
}

/// A document of a layout by its digest.
fn blob(files: &BTreeMap<String, Vec<u8>>, digest: &Value) -> Value {
    serde_json::from_slice(&files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))]).unwrap()
}

/// The index that a layout holds under its first entry.
fn index(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let top: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1, "{top}");
    blob(files, &top["manifests"][0]["digest"])
}

fn platforms(index: &Value) -> Vec<String> {
    let word = |entry: &Value, key: &str| entry["platform"][key].as_str().unwrap_or_default().to_owned();
    index["manifests"].as_array().unwrap().iter().map(|entry| format!("{}/{}", word(entry, "os"), word(entry, "architecture"))).collect()
}

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// Cross builds as they are meant to be written: the work is done on this host, the result is another's.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM busybox AS work\nRUN head -c 9 /dev/urandom | md5sum > /once\n\
    ARG TARGETPLATFORM TARGETARCH\nRUN echo \"$TARGETPLATFORM $TARGETARCH\" > /for\n\
    FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY --from=work /once /for /\n";

#[test]
fn each_platform_has_an_image_of_one_index() {
    let lab = Lab::new(CROSS);
    let id = lab.0.rcon(&["build", "-q", "--no-cache", BOTH, "-t", "both", "context"]).ok();
    assert!(lab.0.rcon(&["images", "--format", "{{.Repository}}"]).ok().lines().filter(|line| *line != "busybox").eq(["both"]));
    let whole = lab.inspect(&["both"]);
    assert_eq!((whole["Architecture"].as_str(), whole["Descriptor"]["digest"].as_str()), (Some(host()), Some(id.as_str())));
    assert_eq!(whole["Manifests"].as_array().unwrap().len(), 2);
    for arch in ["amd64", "arm64"] {
        let image = lab.inspect(&["--platform", &format!("linux/{arch}"), "both"]);
        assert_eq!((image["Architecture"].as_str(), image["Config"]["Labels"]["arch"].as_str()), (Some(arch), Some(arch)));
    }
    assert_eq!(lab.inspect(&[&id])["Architecture"], host(), "the index is known by its id");
    for arch in ["amd64", "arm64"] {
        lab.0.rcon(&["create", "--name", arch, "--pull", "never", "--platform", &format!("linux/{arch}"), "both", "/for"]).ok();
        let used = lab.0.rcon(&["inspect", "-f", "{{.Image}}", arch]).ok();
        assert_eq!(used, lab.inspect(&["--platform", &format!("linux/{arch}"), "both"])["Id"].as_str().unwrap());
        lab.0.rcon(&["rm", arch]).ok();
    }
    let tree = lab.0.rcon(&["images", "--tree", "both"]).ok();
    assert!(tree.contains("├─ linux/amd64") && tree.contains("└─ linux/arm64"), "{tree}");
    // What no platform differs in was done once, although nothing was taken from the cache.
    lab.build(&[BOTH, "-o", "out"]).ok();
    let read = |name: &str| fs::read_to_string(lab.0.root.join("out").join(name)).unwrap();
    assert_eq!(read("linux_amd64/once"), read("linux_arm64/once"));
    assert_eq!((read("linux_amd64/for"), read("linux_arm64/for")), ("linux/amd64 amd64\n".to_owned(), "linux/arm64 arm64\n".to_owned()));
    // A second name is of the same index; with the last one all of its images go.
    lab.0.rcon(&["tag", "both", "again"]).ok();
    lab.0.rcon(&["rmi", "both"]).ok();
    assert_eq!(lab.inspect(&["again"])["Manifests"].as_array().unwrap().len(), 2);
    let removed = lab.0.rcon(&["rmi", "again"]).ok();
    assert_eq!(removed.lines().filter(|line| line.starts_with("Deleted: ")).count(), 2, "{removed}");
    assert_eq!(lab.0.rcon(&["images", "-aq"]).ok().lines().count(), 1, "busybox alone");
}

fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn an_index_is_saved_whole_or_in_part() {
    let lab = Lab::new(CROSS);
    lab.build(&[BOTH, "-t", "both"]).ok();
    let id = lab.inspect(&["both"])["Descriptor"]["digest"].as_str().unwrap().to_owned();
    lab.build(&["--platform", "linux/amd64", "--platform", "linux/arm64", "-t", "both", "-o", "type=oci,dest=built.tar"]).ok();
    lab.0.rcon(&["save", "-o", "saved.tar", "--format", "oci-archive", "both"]).ok();
    lab.0.rcon(&["save", "-o", "docker.tar", "both"]).ok();
    for name in ["built.tar", "saved.tar", "docker.tar"] {
        let files = lab.archive(name);
        let found = index(&files);
        assert_eq!(platforms(&found), ["linux/amd64", "linux/arm64"], "{name}");
        let top: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(
            (top["manifests"][0]["digest"].as_str(), &top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]),
            (Some(id.as_str()), &"latest".into()),
            "{name}"
        );
        for entry in found["manifests"].as_array().unwrap() {
            let config = blob(&files, &blob(&files, &entry["digest"])["config"]["digest"]);
            assert_eq!(config["architecture"], entry["platform"]["architecture"], "{name}");
        }
    }
    // Docker's own list names the one for this host.
    let list: Value = serde_json::from_slice(&lab.archive("docker.tar")["manifest.json"]).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["RepoTags"][0]), (1, &"both:latest".into()));
    lab.0.rcon(&["save", "-o", "part.tar", "--format", "oci-archive", "--platform", "linux/arm64", "both"]).ok();
    let top: Value = serde_json::from_slice(&lab.archive("part.tar")["index.json"]).unwrap();
    assert_eq!(platforms(&top), ["linux/arm64"]);
    lab.0.rcon(&["save", "-o", "x", "--platform", "linux/s390x", "both"]).fails(1, "linux/amd64, linux/arm64, not for linux/s390x");
    lab.0.rcon(&["save", "-o", "x", "--format", "docker-dir", "both"]).fails(1, "--platform");
    lab.0.rcon(&["rmi", "both"]).ok();
    lab.0.rcon(&["load", "-i", "saved.tar"]).ok();
    assert_eq!(lab.inspect(&["both"])["Architecture"], host());
    lab.0.rcon(&["load", "--platform", "linux/arm64", "-i", "saved.tar"]).ok();
    assert_eq!(lab.inspect(&["both"])["Architecture"], "arm64");
}

#[test]
fn files_of_several_platforms_are_kept_apart() {
    let lab = Lab::new(CROSS);
    lab.build(&[BOTH, "-o", "type=tar,dest=out.tar"]).ok();
    let names: Vec<String> = lab.archive("out.tar").into_keys().collect();
    assert_eq!(names, ["linux_amd64/", "linux_amd64/for", "linux_amd64/once", "linux_arm64/", "linux_arm64/for", "linux_arm64/once"]);
    lab.build(&[BOTH, "-o", "type=local,dest=flat,platform-split=false"]).fails(1, "for is in the results for linux/amd64 and for linux/arm64");
    lab.build(&["-o", "type=local,dest=one,platform-split=true"]).ok();
    assert!(lab.0.root.join(format!("one/linux_{}/once", host())).exists());
    lab.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY file /bin/$TARGETARCH\n");
    lab.write("file", "x");
    lab.build(&[BOTH, "-o", "type=local,dest=flat,platform-split=false"]).ok();
    assert!(lab.0.root.join("flat/bin/amd64").exists() && lab.0.root.join("flat/bin/arm64").exists());
}

#[test]
fn a_program_of_another_platform_needs_a_handler() {
    // A program for a machine that there is not: no handler of this host takes it.
    let lab = Lab::new("FROM scratch\nCOPY program /program\nRUN [\"/program\"]\n");
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xfe\xfe\x01\0\0\0".to_vec();
    program.resize(64, 0);
    let path = lab.0.root.join("context/program");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let done = lab.build(&["--platform", "linux/nonesuch", "-t", "x"]);
    assert_eq!(done.code, 1);
    for words in ["for linux/nonesuch on this host", "binfmt_misc", "--platform=$BUILDPLATFORM", "RUN [\"/program\"]"] {
        assert!(done.err.contains(words), "{words}: {}", done.err);
    }
}

#[test]
fn an_index_of_one_platform_on_request() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    lab.build(&["--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "-t", "one", "-o", "type=oci,dest=one.tar"]).ok();
    assert_eq!(platforms(&index(&lab.archive("one.tar"))), [format!("linux/{}", host())]);
    lab.build(&["--build-arg", "BUILDKIT_MULTI_PLATFORM=maybe"]).fails(1, "BUILDKIT_MULTI_PLATFORM=maybe");
    lab.build(&["--platform", "linux/amd64,nonsense/a/b/c"]).fails(1, "nonsense/a/b/c");
    // Without a name there is no index to be found: the images are told.
    let ids = lab.0.rcon(&["build", "-q", BOTH, "context"]).ok();
    let arches: Vec<String> = ids.lines().map(|id| lab.inspect(&[id])["Architecture"].as_str().unwrap().to_owned()).collect();
    assert_eq!(arches, ["amd64", "arm64"]);
}

#[test]
fn an_image_is_attested_on_request() {
    let lab = Lab::new(
        "FROM scratch\nARG COLOUR=red\nCOPY db /lib/apk/db/installed\nCOPY module /app/node_modules/m/package.json\nCOPY --from=busybox /bin/busybox /bin/\n",
    );
    lab.write("db", "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\n");
    lab.write("module", r#"{"name":"m","version":"3.0.0"}"#);
    lab.build(&["-t", "plain", "-o", "type=oci,dest=plain.tar"]).ok();
    let top: Value = serde_json::from_slice(&lab.archive("plain.tar")["index.json"]).unwrap();
    assert_eq!(top["manifests"][0]["mediaType"], "application/vnd.oci.image.manifest.v1+json", "nothing is attested unasked");
    lab.write("key", "hunter2");
    let flags = ["-t", "told", "--sbom", "--provenance=mode=max", "--build-arg", "COLOUR=blue", "--secret", "id=key,src=context/key"];
    lab.build(&[&flags[..], &["-o", "type=oci,dest=told.tar"]].concat()).ok();
    let files = lab.archive("told.tar");
    assert!(!files.values().any(|bytes| bytes.windows(7).any(|word| word == b"hunter2")));
    let found = index(&files);
    assert_eq!(platforms(&found), [format!("linux/{}", host()), "unknown/unknown".to_owned()]);
    let (image, entry) = (&found["manifests"][0], &found["manifests"][1]);
    assert_eq!(entry["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(entry["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let manifest = blob(&files, &entry["digest"]);
    assert_eq!(manifest["subject"]["digest"], image["digest"]);
    let statements: Vec<Value> = manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&files, &layer["digest"])).collect();
    for (statement, kind) in statements.iter().zip(["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]) {
        assert_eq!(statement["predicateType"], kind);
        assert_eq!(format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap()), image["digest"].as_str().unwrap());
    }
    let names: Vec<&str> =
        statements[0]["predicate"]["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docker.io/library/told:latest", "musl", "m"]);
    let definition = &statements[1]["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:COLOUR"], "blue");
    assert_eq!(definition["externalParameters"]["request"]["secrets"][0]["id"], "key");
    let materials = definition["resolvedDependencies"].as_array().unwrap();
    assert!(materials[0]["uri"].as_str().unwrap().starts_with("pkg:docker/busybox@latest?platform=linux%2F"), "{materials:?}");
    // In the store it is the same, and one image to whoever runs it.
    lab.build(&flags).ok();
    let kinds: Vec<Value> = lab.inspect(&["told"])["Manifests"].as_array().unwrap().iter().map(|entry| entry["Kind"].clone()).collect();
    assert_eq!(kinds, ["image", "attestation"]);
    assert_eq!(lab.0.rcon(&["run", "--rm", "--network", "none", "told", "/bin/busybox", "echo", "runs"]).ok(), "runs");
    lab.0.rcon(&["load", "-i", "told.tar"]).ok();
    assert_eq!(lab.0.rcon(&["run", "--rm", "--network", "none", "told", "/bin/busybox", "echo", "loaded"]).ok(), "loaded");
    lab.build(&["--sbom", "-o", "out"]).fails(1, "for images, not for files");
    lab.build(&["--attest", "type=sbom,generator=docker/scout"]).fails(125, "generator");
    lab.build(&["--provenance=version=v0.2"]).fails(125, "v0.2");
}

const OFFERS: &str = "# VERSION of the compiler\nARG VERSION=1.2\nARG UNUSED=x\n# base is what all build on\nFROM busybox:$VERSION AS base\n\
    # MODE says how fast\nARG MODE=quick\nRUN --mount=type=secret,id=token,required --mount=type=ssh true\n\
    FROM busybox AS other\nRUN --mount=type=secret,id=elsewhere true\n\
    # release is the result\nFROM base AS release\nARG VERSION\nRUN true\n";

#[test]
fn a_dockerfile_tells_what_it_offers() {
    let lab = Lab::new(OFFERS);
    let call = |flags: &[&str]| lab.0.rcon(&[&["build"], flags, &["context"]].concat());
    assert_eq!(
        call(&["--call", "targets"]).ok(),
        "TARGET              DESCRIPTION\nbase                is what all build on\nother\nrelease (default)   is the result"
    );
    let outline = call(&["--call=outline", "--build-arg", "MODE=slow"]).ok();
    let rows: Vec<Vec<&str>> = outline.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TARGET:", "release"]);
    assert_eq!(rows[1], ["DESCRIPTION:", "is", "the", "result"]);
    assert_eq!(
        rows[3..6],
        [vec!["BUILD", "ARG", "VALUE", "DESCRIPTION"], vec!["VERSION", "1.2", "of", "the", "compiler"], vec!["MODE", "slow", "says", "how", "fast"]]
    );
    assert_eq!(rows[7..9], [vec!["SECRET", "REQUIRED"], vec!["token", "true"]]);
    assert_eq!(rows[10..], [vec!["SSH", "REQUIRED"], vec!["default"]]);
    let json: Value = serde_json::from_str(&call(&["--call", "outline,format=json", "--target", "other"]).ok()).unwrap();
    assert_eq!((&json["name"], &json["args"], &json["secrets"][0]["name"]), (&"other".into(), &Value::Null, &"elsewhere".into()));
    let json: Value = serde_json::from_str(&call(&["--call", "targets,format=json"]).ok()).unwrap();
    assert_eq!((&json["targets"][2]["default"], &json["targets"][0]["location"]["ranges"][0]["start"]["line"]), (&true.into(), &5.into()));
    call(&["--call", "outline", "--check"]).fails(125, "exclude each other");
    call(&["--call", "explain"]).fails(125, "outline");
    let checked = call(&["--call", "check"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    lab.write("Dockerfile", "FROM busybox as x\nMAINTAINER me\n");
    let checked = call(&["--call", "check,format=json"]);
    let json: Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(
        (checked.code, &json["warnings"][1]["ruleName"], &json["warnings"][1]["location"]["ranges"][0]["start"]["line"]),
        (1, &"MaintainerDeprecated".into(), &2.into())
    );
    assert_eq!(call(&["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]).code, 0);
    call(&["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"]).fails(1, "asks to be errors");
    call(&["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=loud"]).fails(1, "BUILDKIT_DOCKERFILE_CHECK=loud");
}

#[test]
fn arguments_of_the_builder_are_heeded() {
    let lab =
        Lab::new("FROM busybox\nRUN hostname > /name\nRUN --mount=type=cache,target=/cache echo x >> /cache/log && wc -l < /cache/log > /lines\n");
    let build = |flags: &[&str]| {
        lab.build(&[&["-t", "made", "--no-cache"], flags].concat()).ok();
        lab.0.rcon(&["run", "--rm", "--network", "none", "made", "cat", "/name", "/lines"]).ok()
    };
    assert_eq!(build(&[]), "buildkitsandbox\n1");
    assert_eq!(build(&["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=forge"]), "forge\n2");
    assert_eq!(build(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"]), "buildkitsandbox\n1");
    assert_eq!(build(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"]), "buildkitsandbox\n2");
    // Another name is another step.
    let again = |name: &str| lab.build(&["--build-arg", &format!("BUILDKIT_SANDBOX_HOSTNAME={name}")]);
    again("forge").ok();
    assert!(again("forge").err.contains("CACHED"));
    let named = lab.build(&["--build-arg", "BUILDKIT_BUILD_NAME=nightly"]);
    assert!(named.code == 0 && named.err.contains("nightly") && !named.err.contains("is not used"), "{}", named.err);
    again("not/a/name").fails(1, "no name of a host");
}
