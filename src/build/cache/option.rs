//! `--cache-from` and `--cache-to`, parsed.

use crate::base::csv;
use crate::build::fields::{Fields, Grammar};
use crate::build::output::compression;
use crate::image::{CacheForm, CacheOrigin, LayoutEntry};
use crate::oci::{Digest, Reference};
use std::path::PathBuf;

/// The entry of a directory that is meant when none is named.
const TAG: &str = "latest";

/// One `--cache-from`: where results may be taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom(pub CacheOrigin);

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTo {
    /// The results of the image's own steps are named in its config.
    Inline,
    Export(CacheExport),
}

/// A cache that is written somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExport {
    pub to: Destination,
    /// Of all stages, and not only of those that the image is made of.
    pub max: bool,
    pub form: CacheForm,
    /// The build succeeds without it.
    pub ignore_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Registry(Reference),
    Layout { directory: PathBuf, tag: String },
}

/// Kinds that BuildKit has and that are not here.
const REFUSED_TYPES: [(&str, &str); 3] = [
    ("gha", "the cache service of GitHub is not supported: use type=registry, or type=local with its cache action"),
    ("s3", "S3 is not supported: use type=registry, or type=local with a directory that is copied there"),
    ("azblob", "Azure Blob Storage is not supported: use type=registry, or type=local with a directory that is copied there"),
];
/// Options that BuildKit has, and why they are not here.
const REFUSED: [(&str, &str); 4] = [
    ("registry.insecure", "how a registry is reached is said in rcon.toml"),
    ("name", "a cache is named with ref= or tag="),
    ("scope", "it is for type=gha"),
    ("reset", "other entries of a directory stay: remove it first for a new one"),
];

/// Directories have a longer name, too.
static FROM: Grammar = Grammar { aliases: &[("source", "src")], bare: false, repeated: false, refused: &REFUSED };
static TO: Grammar = Grammar { aliases: &[("destination", "dest")], bare: false, repeated: false, refused: &REFUSED };

impl CacheFrom {
    /// `type=registry,ref=NAME`, `type=local,src=DIR[,tag=|digest=]`, or names of images or caches in registries.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        each(text, &FROM)?.into_iter().map(Self::one).collect()
    }

    fn one(mut fields: Fields) -> Result<Self, String> {
        let kind = fields.kind()?;
        let origin = match kind.as_str() {
            "registry" => CacheOrigin::Registry(fields.reference()?),
            "local" => {
                let directory = fields.path("src")?;
                let (tag, digest) = (fields.tag()?, fields.take("digest"));
                let digest = digest.map(|text| text.parse::<Digest>().map_err(|why| format!("digest={text}: {why}"))).transpose()?;
                let entry = match (tag, digest) {
                    (Some(_), Some(_)) => return Err("tag and digest exclude each other".to_owned()),
                    (None, Some(digest)) => LayoutEntry::Digest(digest),
                    (tag, None) => LayoutEntry::Tag(tag.unwrap_or_else(|| TAG.to_owned())),
                };
                CacheOrigin::Layout(directory, entry)
            }
            "inline" => return Err("a cache inside of an image is taken from where the image is: type=registry,ref=IMAGE".to_owned()),
            other => return Err(unknown(other, "registry or local")),
        };
        fields.finish(&kind)?;
        Ok(CacheFrom(origin))
    }
}

impl CacheTo {
    /// `type=registry,ref=NAME`, `type=local,dest=DIR[,tag=]`, each with options, `type=inline`, or names in registries.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        each(text, &TO)?.into_iter().map(Self::one).collect()
    }

    fn one(mut fields: Fields) -> Result<Self, String> {
        let kind = fields.kind()?;
        let to = match kind.as_str() {
            "inline" => {
                if fields.take("mode").is_some_and(|mode| mode != "min") {
                    return Err("an image can only name results of its own layers, which is mode=min: use type=registry for more".to_owned());
                }
                fields.finish(&kind)?;
                return Ok(CacheTo::Inline);
            }
            "registry" => {
                let reference = fields.reference()?;
                if reference.digest().is_some() {
                    return Err(format!("ref={}: a cache is not named by a digest before it is written", reference.familiar()));
                }
                Destination::Registry(reference)
            }
            "local" => Destination::Layout { directory: fields.path("dest")?, tag: fields.tag()?.unwrap_or_else(|| TAG.to_owned()) },
            other => return Err(unknown(other, "registry, local or inline")),
        };
        let max = match fields.take("mode").as_deref() {
            None | Some("min") => false,
            Some("max") => true,
            Some(other) => return Err(format!("mode={other}: expected min or max")),
        };
        if fields.flag("oci-mediatypes")? == Some(false) {
            return Err("oci-mediatypes=false is not supported: a cache has OCI media types".to_owned());
        }
        if fields.flag("image-manifest")? == Some(false) {
            return Err("image-manifest=false is not supported: a cache is an image manifest, which every registry takes".to_owned());
        }
        let (form, ignore_error) = (fields.form()?, fields.flag("ignore-error")?.unwrap_or(false));
        fields.finish(&kind)?;
        Ok(CacheTo::Export(CacheExport { to, max, form, ignore_error }))
    }
}

fn unknown(kind: &str, expected: &str) -> String {
    match REFUSED_TYPES.iter().find(|(refused, _)| *refused == kind) {
        Some((kind, why)) => format!("the type {kind} is not supported: {why}"),
        None => format!("the type {kind} is not supported: expected {expected}"),
    }
}

/// What one value of the flag asks for: several, if it is nothing but names.
fn each(text: &str, grammar: &'static Grammar) -> Result<Vec<Fields>, String> {
    if text.is_empty() {
        return Err("expected type=… or the name of a cache in a registry".to_owned());
    }
    if text.contains('=') {
        return Ok(vec![Fields::parse(text, grammar)?]);
    }
    Ok(csv::split(text)?.into_iter().map(|name| Fields::of([("type", "registry".to_owned()), ("ref", name)], grammar)).collect())
}

impl Fields {
    fn path(&mut self, key: &str) -> Result<PathBuf, String> {
        self.take(key).filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| format!("{key} is missing: {key}=DIR"))
    }

    fn reference(&mut self) -> Result<Reference, String> {
        let text = self.take("ref").filter(|text| !text.is_empty()).ok_or("ref is missing: ref=NAME[:TAG]")?;
        text.parse().map_err(|why| format!("ref={text}: {why}"))
    }

    fn tag(&mut self) -> Result<Option<String>, String> {
        let Some(tag) = self.take("tag") else { return Ok(None) };
        match format!("cache:{tag}").parse::<Reference>() {
            Ok(reference) if reference.tag() == Some(tag.as_str()) && reference.digest().is_none() => Ok(Some(tag)),
            _ => Err(format!("tag={tag}: this is no tag")),
        }
    }

    fn form(&mut self) -> Result<CacheForm, String> {
        let (compression, level) = compression(self.take("compression"), self.take("compression-level"))?;
        Ok(CacheForm { compression, level, force: self.flag("force-compression")?.unwrap_or(false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{CompressionFormat, CompressionSetting};

    fn registry(name: &str) -> CacheExport {
        let to = Destination::Registry(name.parse().unwrap());
        CacheExport { to, max: false, form: CacheForm::default(), ignore_error: false }
    }

    fn local(directory: &str, tag: &str) -> CacheExport {
        CacheExport { to: Destination::Layout { directory: directory.into(), tag: tag.to_owned() }, ..registry("x") }
    }

    #[test]
    fn what_is_taken_is_read() {
        let digest = Digest::of(b"x");
        let layout = |directory: &str, entry| CacheFrom(CacheOrigin::Layout(directory.into(), entry));
        let tag = |tag: &str| LayoutEntry::Tag(tag.to_owned());
        for (text, expected) in [
            ("r.example/app:c", CacheFrom(CacheOrigin::Registry("r.example/app:c".parse().unwrap()))),
            ("type=registry,ref=app", CacheFrom(CacheOrigin::Registry("app".parse().unwrap()))),
            ("type=local,src=a/b", layout("a/b", tag("latest"))),
            ("type=local,\"src=a,b\",tag=c", layout("a,b", tag("c"))),
            (&format!("type=local,source=a,digest={digest}"), layout("a", LayoutEntry::Digest(digest.clone()))),
        ] {
            assert_eq!(CacheFrom::parse(text), Ok(vec![expected]), "{text}");
        }
        let names = ["a", "b:1"].map(|name| CacheFrom(CacheOrigin::Registry(name.parse().unwrap())));
        assert_eq!(CacheFrom::parse("a,b:1"), Ok(names.to_vec()));
    }

    #[test]
    fn what_is_written_is_read() {
        let zstd = CacheForm { compression: Some(CompressionSetting { format: CompressionFormat::Zstd, level: 9 }), level: Some(9), force: true };
        for (text, expected) in [
            ("app:c", registry("app:c")),
            ("type=registry,ref=app,mode=max,image-manifest=true,oci-mediatypes=true", CacheExport { max: true, ..registry("app") }),
            ("type=local,dest=d,mode=min", local("d", "latest")),
            ("type=local,dest=d,tag=t,ignore-error=true", CacheExport { ignore_error: true, ..local("d", "t") }),
            ("type=registry,ref=app,compression=zstd,compression-level=9,force-compression=true", CacheExport { form: zstd, ..registry("app") }),
        ] {
            assert_eq!(CacheTo::parse(text), Ok(vec![CacheTo::Export(expected)]), "{text}");
        }
        assert_eq!(CacheTo::parse("type=inline"), Ok(vec![CacheTo::Inline]));
        assert_eq!(CacheTo::parse("type=inline,mode=min"), Ok(vec![CacheTo::Inline]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "expected type="),
            ("ref=x", "type is missing"),
            ("type=registry", "ref is missing"),
            ("type=registry,ref=UPPER", "ref=UPPER"),
            ("type=registry,ref=x,ref=y", "ref is given twice"),
            ("a,", "ref is missing"),
            ("type=local,tag=x", "src is missing"),
            ("type=local,dest=x,src=y", "dest is no option of type=local"),
            ("type=local,src=x,tag=a/b", "tag=a/b"),
            ("type=local,src=x,tag=a@sha256", "is no tag"),
            ("type=local,src=x,digest=sha256:1", "digest=sha256:1"),
            ("type=local,src=x,tag=a,digest=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "exclude each other"),
            ("type=inline", "type=registry,ref=IMAGE"),
            ("type=gha", "type gha is not supported: the cache service"),
            ("type=s3,bucket=b", "type s3 is not supported"),
            ("type=azblob", "type azblob"),
            ("type=tar", "expected registry or local"),
            ("type=registry,ref=x,mode=max", "mode is no option"),
            ("type=registry,ref=x,registry.insecure=true", "rcon.toml"),
            ("type=registry,ref=x,plain", "\"plain\" is not KEY=VALUE"),
        ] {
            let why = CacheFrom::parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
        for (text, words) in [
            ("type=local", "dest is missing"),
            ("type=local,dest=", "dest is missing"),
            ("type=registry,ref=x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "not named by a digest"),
            ("type=local,dest=d,mode=most", "expected min or max"),
            ("type=local,dest=d,name=n", "option name is not supported"),
            ("type=local,dest=d,reset=true", "option reset is not supported"),
            ("type=local,dest=d,compression=estargz", "compression=estargz"),
            ("type=local,dest=d,compression=uncompressed,compression-level=1", "has none"),
            ("type=local,dest=d,compression-level=high", "is no number"),
            ("type=local,dest=d,ignore-error=perhaps", "ignore-error=perhaps"),
            ("type=local,dest=d,oci-mediatypes=false", "oci-mediatypes=false is not supported"),
            ("type=registry,ref=x,image-manifest=false", "image-manifest=false is not supported"),
            ("type=inline,mode=max", "mode=min"),
            ("type=inline,ref=x", "ref is no option of type=inline"),
            ("type=gha,mode=max", "type gha"),
        ] {
            let why = CacheTo::parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
