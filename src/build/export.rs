//! `--output`: what becomes of the result besides, or instead of, an image in the store.

use super::attest::Attest;
use super::error::{Error, Result};
use super::product::{Made, Product, trees};
use super::progress::Begun;
use crate::base::csv;
use crate::base::fs::Context as _;
use crate::engine::{Engine, pack_trees, unpack_archive};
use crate::image::{self, Form};
use crate::oci::Reference;
use crate::state::index::ImageIndex;
use rustix::fs::{Mode, OFlags};
use std::io::{BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the store, under these names besides those of `--tag`; pushed under them and those of `--tag`.
    Image { names: Vec<Reference>, push: bool },
    /// The files of the result in a directory; of several platforms in one for each, unless `split` says otherwise.
    Local { directory: PathBuf, split: Option<bool> },
    /// The files of the result as a tar.
    Tar { to: Destination, split: Option<bool> },
    /// The image as an archive.
    Archive(Form, Destination),
    /// Nothing: only the cache is filled.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
}

impl Destination {
    fn new(text: &str) -> Self {
        if text == "-" { Destination::Stdout } else { Destination::File(text.into()) }
    }
}

impl Output {
    /// It takes standard output for itself.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Output::Tar { to: Destination::Stdout, .. } | Output::Archive(_, Destination::Stdout))
    }

    /// `type=…,key=value`, or a directory, or `-` for a tar on standard output.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if !text.contains('=') {
            return match text {
                "" => Err("expected a directory, - or type=…".to_owned()),
                "-" => Ok(Output::Tar { to: Destination::Stdout, split: None }),
                directory => Ok(Output::Local { directory: directory.into(), split: None }),
            };
        }
        let fields = csv::split(text)?;
        let (mut kind, mut destination, mut names, mut push, mut split) = (None, None, Vec::new(), None, None);
        for field in &fields {
            let (key, value) = field.split_once('=').unwrap_or((field, "true"));
            match key.trim() {
                "type" => kind = Some(value),
                "dest" | "destination" | "out" if !value.is_empty() => destination = Some(value),
                "name" => names.push(value.parse::<Reference>()?),
                "push" => push = Some(crate::engine::request::parse_bool(value)?),
                "platform-split" => split = Some(crate::engine::request::parse_bool(value)?),
                // What is so anyway.
                "store" | "unpack" if matches!(value, "true" | "1") => {}
                "compression" if value == "uncompressed" => {}
                other => return Err(format!("the option {other}={value} is not supported")),
            }
        }
        let to = || destination.map_or(Destination::Stdout, Destination::new);
        let takes = |allowed: &[&str]| {
            let given = [(destination.is_some(), "dest"), (!names.is_empty(), "name"), (push.is_some(), "push"), (split.is_some(), "platform-split")];
            let wrong = given.into_iter().find(|(given, key)| *given && !allowed.contains(key));
            wrong.map_or(Ok(()), |(_, key)| Err(format!("{key} is no option of type={}", kind.unwrap_or_default())))
        };
        match kind {
            None => Err("type is missing".to_owned()),
            Some("image") => takes(&["name", "push"]).map(|()| Output::Image { names, push: push.unwrap_or(false) }),
            Some("registry") => takes(&["name", "push"]).map(|()| Output::Image { names, push: push.unwrap_or(true) }),
            Some("docker") if destination.is_none() => takes(&["name"]).map(|()| Output::Image { names, push: false }),
            Some("local") => {
                takes(&["dest", "platform-split"])?;
                match destination.ok_or("dest is missing")? {
                    "-" => Err("a directory cannot be written to standard output: use type=tar".to_owned()),
                    directory => Ok(Output::Local { directory: directory.into(), split }),
                }
            }
            Some("tar") => takes(&["dest", "platform-split"]).map(|()| Output::Tar { to: to(), split }),
            Some("docker") => takes(&["dest"]).map(|()| Output::Archive(Form::Docker, to())),
            Some("oci") => takes(&["dest"]).map(|()| Output::Archive(Form::Oci, to())),
            Some("cacheonly") => takes(&[]).map(|()| Output::Nothing),
            Some(other) => Err(format!("the type {other} is not supported: expected image, registry, local, tar, oci, docker or cacheonly")),
        }
    }
}

/// Writes the files of the result, or the image, where they are wanted.
///
/// # Errors
/// A layer is gone, or the destination cannot be written.
pub fn write(
    engine: &Engine,
    output: &Output,
    (result, names): (&Product<'_>, &[Reference]),
    out: &mut (dyn Write + Send),
    begun: &Begun<'_>,
) -> Result<()> {
    match output {
        Output::Image { .. } | Output::Nothing => Ok(()),
        Output::Local { directory, split } => {
            for (below, tree) in trees(engine, result, *split)? {
                let directory = directory.join(below);
                begun.say(&format!("copying files to {}", directory.display()));
                local(tree, &directory)?;
            }
            Ok(())
        }
        Output::Tar { to, split } => {
            let trees = trees(engine, result, *split)?;
            to_destination(to, out, &mut |out| Ok(pack_trees(&trees, out)?))
        }
        Output::Archive(form, to) => to_destination(to, out, &mut |out| {
            let own = |made: &Made<'_>| (if result.index.is_some() { Vec::new() } else { names.to_vec() }, made.image.clone());
            let images: Vec<_> = result.images.iter().map(own).collect();
            let whole = |index: &ImageIndex| image::Whole { names: names.to_vec(), index: index.clone(), default: result.default().image.id.clone() };
            let wholes: Vec<_> = result.index.iter().map(whole).collect();
            Ok(image::save(&engine.privilege.roots, &engine.db, &images, &wholes, *form, image::Output::Stream(out))?)
        }),
    }
}

/// Attestations are of images: files have no manifest that could carry them.
///
/// # Errors
/// They are asked for, and an output is files.
pub fn require_images(outputs: &[Output], attest: &Attest) -> Result<()> {
    let files = outputs.iter().any(|output| matches!(output, Output::Local { .. } | Output::Tar { .. }));
    if attest.is_empty() || !files {
        return Ok(());
    }
    let message = "--sbom and --provenance are for images, not for files (--output type=local or tar)".to_owned();
    Err(Error::Invalid { message, hint: Some("write an image with --output type=oci,dest=FILE".to_owned()) })
}

fn local(tree: OwnedFd, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).on("create", directory)?;
    let target = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).on("open", directory)?;
    let (mut sender, receiver) = UnixStream::pair().on("make", Path::new("a socket"))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack_trees(&[(String::new(), tree)], &mut sender));
        let unpacked = unpack_archive(target.as_fd(), &mut BufReader::with_capacity(PIECE, &receiver));
        drop(receiver);
        // Whoever unpacks knows the cause if it goes away first.
        unpacked?;
        packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })
}

/// A file is there when it is whole, or not at all.
fn to_destination(to: &Destination, out: &mut (dyn Write + Send), write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Destination::File(path) = to else { return write(out) };
    // Devices and pipes are written to; a link is followed to the file that is replaced.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut node = std::fs::File::options().write(true).open(path).on("open", path)?;
        return write(&mut node);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", crate::base::random_hex(8)));
    let making = PathBuf::from(name);
    let mut file = std::fs::File::create_new(&making).on("create", &making)?;
    let written = write(&mut file).and_then(|()| Ok(std::fs::rename(&making, path).on("rename", &making)?));
    if written.is_err() {
        crate::base::fs::remove_file(&making)?;
    }
    written
}

/// Names under which the image is recorded, without doubles; None: it is not wanted in the store.
pub fn names(outputs: &[Output], tags: &[Reference]) -> Option<Vec<Reference>> {
    let stored = outputs.is_empty() || outputs.iter().any(|output| matches!(output, Output::Image { .. }));
    stored.then(|| named(outputs, tags, false))
}

/// Sends the image where outputs say so, under the tags and the names of these outputs.
///
/// # Errors
/// It has no name to be pushed under; the registry refuses.
pub fn push(engine: &Engine, outputs: &[Output], tags: &[Reference], begun: &Begun<'_>) -> Result<Option<String>> {
    if !outputs.iter().any(|output| matches!(output, Output::Image { push: true, .. })) {
        return Ok(None);
    }
    let names = named(outputs, tags, true);
    if names.is_empty() {
        return Err(Error::Invalid { message: "an image without a name cannot be pushed".to_owned(), hint: Some("name it with --tag".to_owned()) });
    }
    let mut digest = None;
    for name in &names {
        begun.say(&format!("pushing {name}"));
        let pushed = engine.push(name, None, &image::PushOptions::default(), &|event| {
            if let image::Progress::Retrying { id, seconds, why } = event {
                begun.say(&format!("{id}: retrying in {seconds} seconds: {why}"));
            }
        })?;
        begun.say(&format!("pushed {name}@{}", pushed.digest));
        digest = Some(pushed.digest.to_string());
    }
    Ok(digest)
}

/// The tags, and the names of the outputs that are images, or only of those that are pushed; each once.
fn named(outputs: &[Output], tags: &[Reference], pushed: bool) -> Vec<Reference> {
    let own = outputs.iter().filter_map(|output| match output {
        Output::Image { names, push } if *push || !pushed => Some(names),
        _ => None,
    });
    let mut seen = std::collections::BTreeSet::new();
    tags.iter().chain(own.flatten()).filter(|name| seen.insert(name.to_string())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let file = |path: &str| Destination::File(path.into());
        let local = |path: &str, split| Output::Local { directory: path.into(), split };
        let tar = |to, split| Output::Tar { to, split };
        for (text, expected) in [
            ("out", local("out", None)),
            ("-", tar(Destination::Stdout, None)),
            ("type=local,dest=a/b", local("a/b", None)),
            ("type=tar,dest=x.tar", tar(file("x.tar"), None)),
            ("type=tar", tar(Destination::Stdout, None)),
            ("type=local,dest=a,platform-split=false", local("a", Some(false))),
            ("type=tar,dest=a,platform-split=true", tar(file("a"), Some(true))),
            ("type=oci,dest=x", Output::Archive(Form::Oci, file("x"))),
            ("type=docker,dest=-", Output::Archive(Form::Docker, Destination::Stdout)),
            ("type=docker", Output::Image { names: Vec::new(), push: false }),
            ("type=image,push=true", Output::Image { names: Vec::new(), push: true }),
            ("type=registry,name=r/x", Output::Image { names: vec!["r/x".parse().unwrap()], push: true }),
            ("type=registry,push=false", Output::Image { names: Vec::new(), push: false }),
            ("type=tar,\"dest=a,b\"", tar(file("a,b"), None)),
            ("type=cacheonly", Output::Nothing),
        ] {
            assert_eq!(Output::parse(text), Ok(expected), "{text}");
        }
        for (text, words) in [
            ("", "expected"),
            ("dest=x", "type is missing"),
            ("type=local", "dest is missing"),
            ("type=local,dest=-", "type=tar"),
            ("type=s3,x=y", "x=y is not supported"),
            ("type=s3", "the type s3"),
            ("type=tar,push=true", "push is no option of type=tar"),
            ("type=oci,platform-split=true", "platform-split is no option of type=oci"),
            ("type=image,compression=zstd", "compression=zstd is not supported"),
        ] {
            assert!(Output::parse(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn only_what_is_to_be_pushed_is_pushed() {
        let output = |text| Output::parse(text).unwrap();
        let outputs = [output("type=image,name=r/keep"), output("type=registry,name=r/out"), output("type=cacheonly")];
        let shown = |names: Vec<Reference>| names.iter().map(Reference::familiar).collect::<Vec<_>>().join(" ");
        let tags = ["t".parse().unwrap(), "r/out".parse().unwrap()];
        assert_eq!(shown(names(&outputs, &tags).unwrap()), "t:latest r/out:latest r/keep:latest");
        assert_eq!(shown(named(&outputs, &tags, true)), "t:latest r/out:latest");
        assert!(names(&outputs[2..], &tags).is_none());
    }
}
