//! Grammar of `--output`.

use super::spec::{ArchiveOutput, Destination, ImageOutput, LocalOutput, Output, Shape};
use super::{Annotation, check};
use crate::build::BuildRequest;
use crate::build::epoch::Asked;
use crate::image::{CompressionFormat, CompressionSetting, Form};

fn image() -> ImageOutput {
    ImageOutput::default()
}

fn archive(form: Form, to: Destination) -> ArchiveOutput {
    ArchiveOutput { form, to, tar: true, names: Vec::new(), shape: Shape::default() }
}

#[test]
fn outputs_are_read() {
    let file = |path: &str| Destination::File(path.into());
    let local = |directory: &str| LocalOutput { directory: directory.into(), split: None, delete: false };
    let names = |list: &[&str]| list.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let zstd = Some(CompressionSetting { format: CompressionFormat::Zstd, level: 9 });
    for (text, expected) in [
        ("out", Output::Local(local("out"))),
        ("-", Output::Tar { to: Destination::Stdout, split: None }),
        ("type=local,dest=a/b", Output::Local(local("a/b"))),
        ("type=local,dest=a,mode=delete,platform-split=true", Output::Local(LocalOutput { split: Some(true), delete: true, ..local("a") })),
        ("type=tar,dest=x.tar", Output::Tar { to: file("x.tar"), split: None }),
        ("type=tar,platform-split", Output::Tar { to: Destination::Stdout, split: Some(true) }),
        ("type=oci,dest=x", Output::Archive(archive(Form::Oci, file("x")))),
        ("type=oci,dest=x,tar=false", Output::Archive(ArchiveOutput { tar: false, ..archive(Form::Oci, file("x")) })),
        ("type=docker,dest=-", Output::Archive(archive(Form::Docker, Destination::Stdout))),
        ("type=docker", Output::Image(image())),
        ("type=image,push=true", Output::Image(ImageOutput { push: true, ..image() })),
        ("type=image,\"name=a,b:1\",store=false", Output::Image(ImageOutput { names: names(&["a", "b:1"]), store: false, ..image() })),
        ("type=registry,name=r/x", Output::Image(ImageOutput { names: names(&["r/x"]), push: true, ..image() })),
        ("type=registry,push=false", Output::Image(image())),
        (
            "type=image,name=r/x,push-by-digest=true,name-canonical=true,push=true",
            Output::Image(ImageOutput { names: names(&["r/x"]), push: true, by_digest: true, ..image() }),
        ),
        (
            "type=registry,compression=zstd,compression-level=9,force-compression=true",
            Output::Image(ImageOutput { push: true, shape: Shape { compression: zstd, level: Some(9), force: true, ..Shape::default() }, ..image() }),
        ),
        ("type=image,unpack=true,oci-mediatypes=true,rewrite-timestamp=false", Output::Image(image())),
        ("type=tar,\"dest=a,b\"", Output::Tar { to: file("a,b"), split: None }),
        ("type=cacheonly", Output::Nothing),
    ] {
        assert_eq!(Output::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, words) in [
        ("", "expected"),
        ("dest=x", "type is missing"),
        ("type=local", "dest is missing"),
        ("type=local,dest=-", "type=tar"),
        ("type=local,dest=", "dest is empty"),
        ("type=local,dest=x,mode=move", "mode=move"),
        ("type=s3", "the type s3"),
        ("type=tar,x=y", "x is no option of type=tar"),
        ("type=tar,push=true", "push is no option of type=tar"),
        ("type=tar,annotation.a=b", "annotation.a is no option of type=tar"),
        ("type=cacheonly,dest=x", "dest is no option of type=cacheonly"),
        ("type=image,dest=x", "dest is no option of type=image"),
        ("type=oci,push=true", "push is no option of type=oci"),
        ("type=docker,tar=false", "dest=DIR"),
        ("type=image,compression=zstd", "compression is for what is pushed"),
        ("type=docker,force-compression=true", "force-compression is for what is pushed"),
        ("type=registry,compression=estargz", "compression=estargz is not supported"),
        ("type=registry,compression-level=10", "gzip has the levels 1 to 9"),
        ("type=oci,compression=uncompressed,compression-level=1", "has none"),
        ("type=oci,compression=zstd,oci-mediatypes=false", "compression=zstd needs OCI"),
        ("type=oci,annotation.a=b,oci-mediatypes=false", "annotations need OCI"),
        ("type=oci,annotation-list.a=b", "\"list\" has no annotations"),
        ("type=image,unpack=false", "unpack=false is not supported"),
        ("type=image,name-canonical=true", "name-canonical"),
        ("type=image,push-by-digest=true", "push-by-digest needs push=true"),
        ("type=registry,name=r/x:1,push-by-digest=true", "cannot have a tag"),
        ("type=registry,registry.insecure=true", "registry.insecure is not supported: how a registry"),
        ("type=image,dangling-name-prefix=x", "dangling-name-prefix is not supported"),
        ("type=image,name=UPPER", "name=UPPER"),
        ("type=image,push=maybe", "push=maybe"),
    ] {
        let error = Output::parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn annotations_go_to_images() {
    let annotations = Annotation::parse("manifest-descriptor:a=b").unwrap();
    let mut outputs =
        ["type=image", "type=oci,dest=x", "type=local,dest=x", "type=oci,dest=x,oci-mediatypes=false"].map(|text| Output::parse(text).unwrap());
    assert_eq!(outputs.each_mut().map(|output| output.annotate(&annotations).ok()), [Some(true), Some(true), Some(false), None]);
    assert_eq!(outputs[1].shape().unwrap().annotations, annotations);
}

#[test]
fn contradictions_are_told_before_the_build() {
    for (text, tags, words) in [
        ("type=oci,dest=x,annotation-index.a=b", vec![], "annotation-index.a: an image of one platform has no index"),
        ("type=oci,dest=x,rewrite-timestamp=true", vec![], "needs SOURCE_DATE_EPOCH"),
        ("type=registry", vec![], "without a name"),
        ("type=registry,name=r/x,push-by-digest=true", vec!["t"], "what is pushed has no tag"),
    ] {
        let tags = tags.iter().map(|tag: &&str| tag.parse().unwrap()).collect();
        let request = BuildRequest { outputs: vec![Output::parse(text).unwrap()], tags, ..BuildRequest::default() };
        let error = check(&request, Asked::No, false).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let request = |text: &str| BuildRequest { outputs: vec![Output::parse(text).unwrap()], ..BuildRequest::default() };
    assert!(check(&request("type=oci,dest=x,annotation-index.a=b"), Asked::No, true).is_ok());
    assert!(check(&request("type=oci,dest=x,oci-mediatypes=false"), Asked::No, true).is_err());
    let request = request("type=oci,dest=x,rewrite-timestamp=true");
    assert!(check(&request, Asked::Timeless, false).is_ok());
}
