//! `build --output`: what its options make of the result.

use crate::environment::Environment;
use crate::outcome::{Done, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

struct Lab(Environment);

impl Lab {
    fn new(dockerfile: &str) -> Self {
        let lab = Lab(Environment::new());
        lab.write("Dockerfile", dockerfile);
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.root.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at("context").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn build(&self, flags: &[&str]) -> Done {
        self.0.rcon(&[&["build", "-q"], flags, &["context"]].concat())
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(name)).unwrap()).unwrap()
    }

    /// A layout that was unpacked from `NAME.tar`, or written as a directory.
    fn layout(&self, name: &str) -> Layout<'_> {
        if self.at(&format!("{name}.tar")).exists() {
            drop(fs::remove_dir_all(self.at(name)));
            tar::Archive::new(fs::File::open(self.at(&format!("{name}.tar"))).unwrap()).unpack(self.at(name)).unwrap();
        }
        Layout { lab: self, name: name.to_owned() }
    }
}

struct Layout<'a> {
    lab: &'a Lab,
    name: String,
}

impl Layout<'_> {
    fn index(&self) -> Value {
        self.lab.json(&format!("{}/index.json", self.name))
    }

    fn blob(&self, digest: &Value) -> Vec<u8> {
        fs::read(self.lab.at(&self.name).join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap()
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&self.blob(&self.index()["manifests"][0]["digest"])).unwrap()
    }

    fn layer(&self, at: usize) -> (String, Vec<u8>) {
        let layer = self.manifest()["layers"][at].clone();
        (layer["mediaType"].as_str().unwrap().to_owned(), self.blob(&layer["digest"]))
    }
}

const TWO: &str = "FROM busybox\nCOPY file /one/\nCOPY file /two/\n";

#[test]
fn layers_are_compressed_as_asked() {
    let lab = Lab::new(TWO);
    lab.write("file", &"text ".repeat(4000));
    let kind = |layer: &(String, Vec<u8>)| (layer.0.rsplit('.').next().unwrap().to_owned(), layer.1[..4].to_vec());
    for (options, suffix, magic) in [
        ("", "tar+gzip", vec![0x1f, 0x8b, 8, 0]),
        (",compression=gzip,compression-level=1", "tar+gzip", vec![0x1f, 0x8b, 8, 0]),
        (",compression=zstd", "tar+zstd", vec![0x28, 0xb5, 0x2f, 0xfd]),
        (",compression=uncompressed", "tar", b"one/".to_vec()),
        (",oci-mediatypes=false", "gzip", vec![0x1f, 0x8b, 8, 0]),
    ] {
        lab.build(&["-t", "made", "-o", &format!("type=oci,dest=made.tar{options}")]).ok();
        let layout = lab.layout("made");
        for layer in [1, 2] {
            let (found, bytes) = kind(&layout.layer(layer));
            assert!(found == suffix && (bytes == magic || suffix == "tar"), "{options}: {found} {bytes:?}");
        }
        let docker = layout.manifest()["mediaType"].as_str().unwrap().contains("docker");
        assert_eq!(docker, options.contains("mediatypes=false"), "{options}");
        // Whatever the form, it is the same image to whoever loads it.
        lab.0.rcon(&["load", "-q", "-i", "made.tar"]).ok();
        assert_eq!(lab.0.rcon(&["run", "--rm", "--network", "none", "made", "head", "-c", "4", "/two/file"]).ok(), "text", "{options}");
        lab.0.rcon(&["rmi", "-f", "made"]).ok();
    }
    let size = |level: &str| {
        lab.build(&["-o", &format!("type=oci,dest=made.tar,compression-level={level}")]).ok();
        fs::metadata(lab.at("made.tar")).unwrap().len()
    };
    assert!(size("9") < size("1"), "a level is heeded");
    lab.build(&["-o", "type=oci,dest=x,compression=estargz"]).fails(125, "compression=estargz is not supported");
    lab.build(&["-o", "type=image,compression=zstd"]).fails(125, "the store keeps layers unpacked");
}

#[test]
fn annotations_are_where_they_are_meant() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    lab.build(&[
        "-o",
        "type=oci,dest=made.tar,annotation.one=1,annotation-manifest-descriptor.two=2",
        "--annotation",
        "three=3",
        "--annotation",
        "manifest,manifest-descriptor:four=4",
    ])
    .ok();
    let layout = lab.layout("made");
    assert_eq!(layout.manifest()["annotations"], json!({ "one": "1", "three": "3", "four": "4" }));
    let entry = &layout.index()["manifests"][0]["annotations"];
    assert_eq!((&entry["two"], &entry["four"], &entry["one"]), (&json!("2"), &json!("4"), &Value::Null));
    // The store keeps those of the manifest, for whoever saves or pushes it.
    lab.build(&["-t", "kept", "--annotation", "a.b=c"]).ok();
    lab.0.rcon(&["save", "--format", "oci-archive", "-o", "kept.tar", "kept"]).ok();
    assert_eq!(lab.layout("kept").manifest()["annotations"], json!({ "a.b": "c" }));
    // Those of an index need one.
    lab.build(&["-o", "type=oci,dest=x", "--annotation", "index:a=b"]).fails(1, "an image of one platform has no index");
    let both = "--platform=linux/amd64,linux/arm64";
    let places = ["index:a=1", "index-descriptor:b=2", "manifest[linux/arm64]:c=3", "manifest-descriptor[linux/amd64]:d=4"];
    let flags: Vec<&str> = places.iter().flat_map(|text| ["--annotation", text]).collect();
    lab.build(&[&[both, "-t", "two", "-o", "type=oci,dest=two.tar", "-o", "type=image"], &flags[..]].concat()).ok();
    lab.0.rcon(&["save", "--format", "oci-archive", "-o", "again.tar", "two"]).ok();
    for name in ["two", "again"] {
        let layout = lab.layout(name);
        let index = layout.manifest();
        assert_eq!(index["annotations"], json!({ "a": "1" }), "{name}");
        assert_eq!(index["manifests"][0]["annotations"], json!({ "d": "4" }), "{name}");
        let manifest: Value = serde_json::from_slice(&layout.blob(&index["manifests"][1]["digest"])).unwrap();
        assert_eq!(manifest["annotations"], json!({ "c": "3" }), "{name}");
    }
    assert_eq!(lab.layout("two").index()["manifests"][0]["annotations"]["b"], "2");
    lab.build(&["-o", "out", "--annotation", "a=b"]).fails(125, "no --output is an image");
    lab.build(&["--annotation", "manifst:a=b"]).fails(125, "manifst");
}

#[test]
fn a_layout_can_be_a_directory() {
    let lab = Lab::new("FROM busybox\nCOPY file /\n");
    lab.write("file", "one");
    lab.build(&["-t", "first:1", "-o", "type=oci,tar=false,dest=made"]).ok();
    lab.write("file", "two");
    lab.build(&["-t", "second:2", "-o", "type=oci,tar=false,dest=made"]).ok();
    lab.build(&["-t", "second:2", "-o", "type=oci,tar=false,dest=made,annotation.a=b"]).ok();
    let index = lab.layout("made").index();
    let names: Vec<&str> =
        index["manifests"].as_array().unwrap().iter().map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docker.io/library/first:1", "docker.io/library/second:2"], "others stay, the same name is replaced");
    let strays = fs::read_dir(lab.at("made/blobs/sha256")).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().len() != 64).count();
    assert_eq!((strays, lab.json("made/oci-layout")), (0, json!({ "imageLayoutVersion": "1.0.0" })));
}

#[test]
fn a_directory_is_added_to_or_made_equal() {
    let lab = Lab::new("FROM scratch\nCOPY file /dir/\n");
    lab.write("file", "x");
    for name in ["out/kept", "out/dir/old"] {
        fs::create_dir_all(lab.at(name).parent().unwrap()).unwrap();
        fs::write(lab.at(name), "").unwrap();
    }
    lab.build(&["-o", "type=local,dest=out"]).ok();
    assert!(lab.at("out/kept").exists() && lab.at("out/dir/old").exists() && lab.at("out/dir/file").exists());
    lab.build(&["-o", "type=local,dest=out,mode=delete"]).ok();
    assert!(!lab.at("out/kept").exists() && !lab.at("out/dir/old").exists() && lab.at("out/dir/file").exists());
    lab.build(&["-o", "type=local,dest=.,mode=delete"]).fails(1, "mode=delete would empty .");
    assert!(lab.at("context/Dockerfile").exists());
    lab.build(&["-o", "type=local,dest=out,mode=move"]).fails(125, "mode=move");
}

#[test]
fn what_is_not_for_the_store_is_not_in_it() {
    let lab = Lab::new("FROM busybox\nCOPY file /\n");
    lab.write("file", "x");
    lab.build(&["-t", "made", "-o", "type=image,store=false"]).ok();
    lab.build(&["-t", "made", "-o", "type=docker,dest=made.tar"]).ok();
    assert_eq!(lab.0.rcon(&["images", "-aq"]).ok().lines().count(), 1, "busybox alone");
    // A build that is killed leaves nothing of its archive, and never an image.
    let mut command = lab.0.command(&["build", "-q", "-t", "made", "-o", "type=oci,dest=killed.tar", "context"]);
    let killed = command.env("RCON_FAILPOINT", "build.output.before_name=kill").output().unwrap();
    assert!(!killed.status.success());
    assert_eq!(lab.0.rcon(&["images", "-aq"]).ok().lines().count(), 1);
    let strays =
        || fs::read_dir(&lab.0.root).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("killed")).count();
    eventually("nothing of the archive", || strays() == 0);
    // What was there stays until the new one is whole.
    fs::write(lab.at("killed.tar"), "before").unwrap();
    let killed = command.output().unwrap();
    assert!(!killed.status.success() && strays() == 1);
    assert_eq!(fs::read_to_string(lab.at("killed.tar")).unwrap(), "before");
    lab.build(&["-t", "made", "-o", "type=oci,dest=killed.tar"]).ok();
    assert_eq!(lab.layout("killed").manifest()["layers"].as_array().unwrap().len(), 2);
}

#[test]
fn names_are_given_by_the_output_too() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    lab.build(&["-t", "tag", "-o", "type=image,\"name=one,two:2\""]).ok();
    let mut names: Vec<String> = lab.0.rcon(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().lines().map(str::to_owned).collect();
    names.retain(|name| !name.starts_with("busybox"));
    names.sort();
    assert_eq!(names, ["one:latest", "tag:latest", "two:2"]);
    lab.build(&["-t", "tag", "-o", "type=docker,dest=made.tar,name=three"]).ok();
    let list = lab.layout("made").lab.json("made/manifest.json");
    assert_eq!(list[0]["RepoTags"], json!(["tag:latest", "three:latest"]));
}

#[test]
fn metadata_describes_what_was_written() {
    let lab = Lab::new("FROM busybox\nCOPY file /\n");
    lab.write("file", "x");
    let id = lab.build(&["-t", "made", "--metadata-file", "meta.json", "-o", "type=oci,dest=made.tar"]).ok();
    let meta = lab.json("meta.json");
    let entry = lab.layout("made").index()["manifests"][0].clone();
    assert_eq!((&meta["containerimage.config.digest"], &meta["containerimage.digest"]), (&json!(id), &entry["digest"]));
    let descriptor = &meta["containerimage.descriptor"];
    for key in ["mediaType", "digest", "size", "platform"] {
        assert_eq!(descriptor[key], entry[key], "{key}");
    }
    assert_eq!(descriptor["annotations"]["config.digest"], json!(id));
    assert_eq!(meta["image.name"], "docker.io/library/made:latest");
    // In the store it is the manifest that `save` writes.
    lab.build(&["-t", "made", "--metadata-file", "meta.json"]).ok();
    lab.0.rcon(&["save", "--format", "oci-archive", "-o", "saved.tar", "made"]).ok();
    assert_eq!(lab.json("meta.json")["containerimage.digest"], lab.layout("saved").index()["manifests"][0]["digest"]);
    // Files are no image.
    lab.build(&["-o", "out", "--metadata-file", "meta.json"]).ok();
    assert_eq!(lab.json("meta.json")["containerimage.digest"], Value::Null);
}

#[test]
fn an_archive_goes_to_standard_output_alone() {
    let lab = Lab::new("FROM scratch\nLABEL a=b\n");
    let out = lab.0.command(&["build", "-q", "-o", "type=oci", "context"]).output().unwrap().stdout;
    assert!(tar::Archive::new(&out[..]).entries().unwrap().any(|entry| entry.unwrap().path().unwrap().ends_with("oci-layout")));
}
