//! `--output`, parsed: what becomes of the result.

use super::annotation::Annotation;
use crate::base::csv;
use crate::engine::request::parse_bool;
use crate::image::{CompressionFormat, CompressionSetting, Form};
use crate::oci::Reference;
use std::path::{Path, PathBuf};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the store, in a registry, or both.
    Image(ImageOutput),
    /// The files of the result in a directory.
    Local(LocalOutput),
    /// The files of the result as a tar.
    Tar { to: Destination, split: Option<bool> },
    /// The image as an archive.
    Archive(ArchiveOutput),
    /// Nothing: only the cache is filled.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOutput {
    /// Names besides those of `--tag`.
    pub names: Vec<Reference>,
    pub push: bool,
    /// Pushed under its digest, without a tag.
    pub by_digest: bool,
    /// Recorded in the store.
    pub store: bool,
    pub shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOutput {
    pub directory: PathBuf,
    /// Whether each platform has a directory of its own; None: if there are several.
    pub split: Option<bool>,
    /// What is there and not of the result is removed.
    pub delete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOutput {
    pub form: Form,
    pub to: Destination,
    /// One tar; else a layout in a directory.
    pub tar: bool,
    /// Names besides those of `--tag`.
    pub names: Vec<Reference>,
    pub shape: Shape,
}

/// How an image that leaves the store looks, and what is done to its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// `oci-mediatypes=false`.
    pub docker_types: bool,
    /// None: nothing was asked for.
    pub compression: Option<CompressionSetting>,
    /// Asked for by itself: what is pushed is compressed anew then.
    pub level: Option<i32>,
    /// Also for layers of the base that are there in another form.
    pub force: bool,
    /// No file of the layers is younger than SOURCE_DATE_EPOCH.
    pub rewrite: bool,
    pub annotations: Vec<Annotation>,
}

impl Default for ImageOutput {
    fn default() -> Self {
        ImageOutput { names: Vec::new(), push: false, by_digest: false, store: true, shape: Shape::default() }
    }
}

impl Destination {
    fn new(text: Option<String>) -> Self {
        match text.as_deref() {
            None | Some("-") => Destination::Stdout,
            Some(path) => Destination::File(path.into()),
        }
    }
}

impl Output {
    /// `--push`, as `type=registry`.
    pub fn registry() -> Self {
        Output::Image(ImageOutput { push: true, ..ImageOutput::default() })
    }

    /// `--load`, as `type=docker`.
    pub fn store() -> Self {
        Output::Image(ImageOutput::default())
    }

    /// It takes standard output for itself.
    pub fn is_stdout(&self) -> bool {
        match self {
            Output::Tar { to, .. } => *to == Destination::Stdout,
            Output::Archive(archive) => archive.to == Destination::Stdout,
            _ => false,
        }
    }

    /// The directory that it writes into, and makes if it is not there.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Output::Local(local) => Some(&local.directory),
            Output::Archive(ArchiveOutput { tar: false, to: Destination::File(directory), .. }) => Some(directory),
            _ => None,
        }
    }

    /// How the image looks, where the output is one.
    pub fn shape(&self) -> Option<&Shape> {
        match self {
            Output::Image(image) => Some(&image.shape),
            Output::Archive(archive) => Some(&archive.shape),
            _ => None,
        }
    }

    /// Gives the image further annotations (`--annotation`). False: it is none.
    ///
    /// # Errors
    /// It has no place for annotations.
    pub fn annotate(&mut self, annotations: &[Annotation]) -> Result<bool, String> {
        let shape = match self {
            Output::Image(image) => &mut image.shape,
            Output::Archive(archive) => &mut archive.shape,
            _ => return Ok(false),
        };
        shape.annotations.extend_from_slice(annotations);
        shape.check()?;
        Ok(true)
    }

    /// `type=…,key=value`, or a directory, or `-` for a tar on standard output.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('=') {
            return match text {
                "" => Err("expected a directory, - or type=…".to_owned()),
                "-" => Ok(Output::Tar { to: Destination::Stdout, split: None }),
                directory => Ok(Output::Local(LocalOutput { directory: directory.into(), split: None, delete: false })),
            };
        }
        let mut fields = Fields::new(text)?;
        let kind = fields.take("type").ok_or("type is missing")?;
        let dest = fields.take("dest");
        let output = match kind.as_str() {
            "image" => Output::Image(fields.image(false)?),
            "registry" => Output::Image(fields.image(true)?),
            "docker" if dest.is_none() && !fields.has("tar") => Output::Image(fields.loaded()?),
            "docker" => Output::Archive(fields.archive(Form::Docker, dest.clone())?),
            "oci" => Output::Archive(fields.archive(Form::Oci, dest.clone())?),
            "local" => Output::Local(fields.local(dest.clone())?),
            "tar" => Output::Tar { to: Destination::new(dest.clone()), split: fields.flag("platform-split")? },
            "cacheonly" => Output::Nothing,
            other => return Err(format!("the type {other} is not supported: expected image, registry, local, tar, oci, docker or cacheonly")),
        };
        if dest.is_some() && matches!(output, Output::Image(_) | Output::Nothing) {
            return Err(format!("dest is no option of type={kind}"));
        }
        fields.finish(&kind)?;
        Ok(output)
    }
}

/// Options that some type has: those of another are wrong here, and not unknown.
const KNOWN: [&str; 17] = [
    "name",
    "push",
    "push-by-digest",
    "name-canonical",
    "store",
    "unpack",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "rewrite-timestamp",
    "tar",
    "dest",
    "platform-split",
    "mode",
    "annotation",
    "type",
];

/// Options that BuildKit has, and why they are not here.
const REFUSED: [(&str, &str); 4] = [
    ("registry.insecure", "how a registry is reached is said in rcon.toml"),
    ("dangling-name-prefix", "an image without a name is found by its id"),
    ("prefer-nondist-layers", "layers that live outside of registries are not supported"),
    ("context", "there is no other engine to load it into"),
];

/// Keys and values not yet understood.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn new(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in csv::split(text)? {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            let key = match key.trim() {
                "destination" | "out" => "dest",
                key => key,
            };
            if key == "dest" && value.is_empty() {
                return Err("dest is empty".to_owned());
            }
            fields.push((key.to_owned(), value.to_owned()));
        }
        Ok(Fields(fields))
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(own, _)| own == key)
    }

    /// The last value of a key.
    fn take(&mut self, key: &str) -> Option<String> {
        let found = self.0.iter().rev().find(|(own, _)| own == key).map(|(_, value)| value.clone());
        self.0.retain(|(own, _)| own != key);
        found
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key).map(|value| parse_bool(&value).map_err(|why| format!("{key}={value}: {why}"))).transpose()
    }

    /// What nobody took.
    fn finish(self, kind: &str) -> Result<(), String> {
        let Some((key, value)) = self.0.first() else { return Ok(()) };
        if let Some((_, why)) = REFUSED.iter().find(|(own, _)| own == key) {
            return Err(format!("the option {key} is not supported: {why}"));
        }
        let stem = key.split(['.', '[']).next().unwrap_or(key);
        if KNOWN.contains(&key.as_str()) || stem == "annotation" || stem.starts_with("annotation-") {
            return Err(format!("{key} is no option of type={kind}"));
        }
        Err(format!("the option {key}={value} is not supported"))
    }

    /// All values of `name`, each of which may be several with commas between them.
    fn names(&mut self) -> Result<Vec<Reference>, String> {
        let texts: Vec<String> = self.0.iter().filter(|(key, _)| key == "name").map(|(_, value)| value.clone()).collect();
        self.0.retain(|(key, _)| key != "name");
        let texts = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty());
        texts.map(|text| text.parse::<Reference>().map_err(|why| format!("name={text}: {why}"))).collect()
    }

    fn shape(&mut self) -> Result<Shape, String> {
        let (compression, level) = compression(self.take("compression"), self.take("compression-level"))?;
        let mut annotations = Vec::new();
        let mut others = Vec::new();
        for (key, value) in std::mem::take(&mut self.0) {
            match Annotation::of_option(&key, &value)? {
                Some(annotation) => annotations.push(annotation),
                None => others.push((key, value)),
            }
        }
        self.0 = others;
        let docker_types = self.flag("oci-mediatypes")? == Some(false);
        let force = self.flag("force-compression")?.unwrap_or(false);
        let rewrite = self.flag("rewrite-timestamp")?.unwrap_or(false);
        let shape = Shape { docker_types, compression, level, force, rewrite, annotations };
        shape.check()?;
        Ok(shape)
    }

    fn image(&mut self, registry: bool) -> Result<ImageOutput, String> {
        let untagged = |text: &String| text.split(',').all(|name| !name.rsplit('/').next().unwrap_or(name).contains([':', '@']));
        let names_are_untagged = self.0.iter().filter(|(key, _)| key == "name").all(|(_, value)| untagged(value));
        let (names, shape) = (self.names()?, self.shape()?);
        let push = self.flag("push")?;
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        let push = push.unwrap_or(registry);
        let store = self.flag("store")?.unwrap_or(true);
        if self.flag("unpack")? == Some(false) {
            return Err("the option unpack=false is not supported: the store keeps every image unpacked".to_owned());
        }
        if let Some(wanted) = self.flag("name-canonical")?
            && wanted != push
        {
            return Err("name-canonical is so for what is pushed, and for nothing else".to_owned());
        }
        if by_digest && !push {
            return Err("push-by-digest needs push=true".to_owned());
        }
        if by_digest && !names_are_untagged {
            return Err("push-by-digest: the name cannot have a tag".to_owned());
        }
        if !push {
            shape.is_stored()?;
        }
        Ok(ImageOutput { names, push, by_digest, store, shape })
    }

    /// `type=docker` without a destination.
    fn loaded(&mut self) -> Result<ImageOutput, String> {
        let (names, shape) = (self.names()?, self.shape()?);
        shape.is_stored()?;
        Ok(ImageOutput { names, shape, ..ImageOutput::default() })
    }

    fn archive(&mut self, form: Form, dest: Option<String>) -> Result<ArchiveOutput, String> {
        let (names, shape) = (self.names()?, self.shape()?);
        let tar = self.flag("tar")?.unwrap_or(true);
        let to = Destination::new(dest);
        if !tar && to == Destination::Stdout {
            return Err("tar=false needs a directory: dest=DIR".to_owned());
        }
        Ok(ArchiveOutput { form, to, tar, names, shape })
    }

    fn local(&mut self, dest: Option<String>) -> Result<LocalOutput, String> {
        let directory = match dest.as_deref() {
            None => return Err("dest is missing".to_owned()),
            Some("-") => return Err("a directory cannot be written to standard output: use type=tar".to_owned()),
            Some(directory) => PathBuf::from(directory),
        };
        let split = self.flag("platform-split")?;
        let delete = match self.take("mode").as_deref() {
            None | Some("copy") => false,
            Some("delete") => true,
            Some(other) => return Err(format!("mode={other} is not supported: expected copy or delete")),
        };
        Ok(LocalOutput { directory, split, delete })
    }
}

impl Shape {
    /// Docker's media types have neither annotations nor a type for zstd layers.
    fn check(&self) -> Result<(), String> {
        if self.docker_types && !self.annotations.is_empty() {
            return Err("annotations need OCI media types: leave oci-mediatypes=false out".to_owned());
        }
        if self.docker_types && self.compression.is_some_and(|setting| setting.format == CompressionFormat::Zstd) {
            return Err("compression=zstd needs OCI media types: leave oci-mediatypes=false out".to_owned());
        }
        Ok(())
    }

    /// It asks for nothing that only the layers of what is sent somewhere have.
    fn is_stored(&self) -> Result<(), String> {
        let hint = "is for what is pushed or written to an archive: the store keeps layers unpacked";
        if self.compression.is_some() {
            return Err(format!("compression {hint}"));
        }
        if self.force { Err(format!("force-compression {hint}")) } else { Ok(()) }
    }
}

/// What `compression` and `compression-level` of an output or a cache come to (None: neither is given), and the level by itself.
/// Levels are gzip's by default.
///
/// # Errors
/// An unknown format, no number, or a level that the format does not have.
pub fn compression(given: Option<String>, level: Option<String>) -> Result<(Option<CompressionSetting>, Option<i32>), String> {
    let given = given.map(|text| format(&text)).transpose()?;
    let level = level.map(|text| text.parse::<i32>().map_err(|_| format!("compression-level={text} is no number"))).transpose()?;
    let asked = given.is_some() || level.is_some();
    let setting = asked.then(|| CompressionSetting::new(given.unwrap_or(CompressionFormat::Gzip), level)).transpose()?;
    Ok((setting, level))
}

/// `compression=`.
fn format(text: &str) -> Result<CompressionFormat, String> {
    match text {
        "uncompressed" => Ok(CompressionFormat::Plain),
        "gzip" => Ok(CompressionFormat::Gzip),
        "zstd" => Ok(CompressionFormat::Zstd),
        other => Err(format!("compression={other} is not supported: expected uncompressed, gzip or zstd")),
    }
}
