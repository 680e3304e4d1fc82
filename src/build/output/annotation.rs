//! Annotations of what is built: where each of them goes.
//!
//! As options of an output they are `annotation[-PLACE][[PLATFORM]].KEY=VALUE`, as `--annotation`
//! `[PLACE[[PLATFORM]][,…]:]KEY=VALUE`.

use crate::oci::Platform;
use std::collections::BTreeMap;

/// The document, or the descriptor of it, that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Manifest,
    /// The index of several platforms.
    Index,
    /// What names the manifest in an index.
    ManifestDescriptor,
    /// What names the index in the index of a layout.
    IndexDescriptor,
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "manifest" => Ok(Place::Manifest),
            "index" => Ok(Place::Index),
            "manifest-descriptor" => Ok(Place::ManifestDescriptor),
            "index-descriptor" => Ok(Place::IndexDescriptor),
            other => Err(format!("\"{other}\" has no annotations: expected manifest, index, manifest-descriptor or index-descriptor")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Place::Manifest => "manifest",
            Place::Index => "index",
            Place::ManifestDescriptor => "manifest-descriptor",
            Place::IndexDescriptor => "index-descriptor",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub place: Place,
    /// The image it is for; None: all of them.
    pub platform: Option<Platform>,
    pub key: String,
    pub value: String,
}

impl Annotation {
    /// An option of an output; None: it is another.
    ///
    /// # Errors
    /// There is no such place, or no key.
    pub fn of_option(key: &str, value: &str) -> Result<Option<Self>, String> {
        let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
        let Some((place, name)) = split_place(rest) else { return Ok(None) };
        let place = match place {
            "" => "manifest".to_owned(),
            place if place.starts_with('[') => format!("manifest{place}"),
            place => place.strip_prefix('-').ok_or_else(|| format!("the option {key} is not supported"))?.to_owned(),
        };
        let (place, platform) = target(&place)?;
        if name.is_empty() {
            return Err(format!("{key} has no key"));
        }
        Ok(Some(Annotation { place, platform, key: name.to_owned(), value: value.to_owned() }))
    }

    /// What `--annotation` is given: one for each place that is named.
    ///
    /// # Errors
    /// There is no such place, no key or no value.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let (key, value) = text.split_once('=').ok_or("expected [TYPE:]KEY=VALUE")?;
        let (places, key) = key.split_once(':').unwrap_or(("manifest", key));
        if key.is_empty() {
            return Err("the key is missing".to_owned());
        }
        let one = |place: &str| {
            let (place, platform) = target(place)?;
            Ok(Annotation { place, platform, key: key.to_owned(), value: value.to_owned() })
        };
        places.split(',').map(one).collect()
    }
}

/// The place of an option's key, up to the dot that is not a platform's.
fn split_place(rest: &str) -> Option<(&str, &str)> {
    let from = rest.find('[').filter(|open| rest.find('.').is_none_or(|dot| dot > *open)).and_then(|_| rest.find(']')).unwrap_or(0);
    let dot = from + rest[from..].find('.')?;
    Some((&rest[..dot], &rest[dot + 1..]))
}

/// `manifest`, or `manifest[linux/amd64]`.
fn target(text: &str) -> Result<(Place, Option<Platform>), String> {
    let Some((place, platform)) = text.split_once('[') else { return Ok((Place::parse(text)?, None)) };
    let platform = platform.strip_suffix(']').ok_or_else(|| format!("\"{text}\": the platform is not closed with ]"))?;
    let place = Place::parse(place)?;
    if matches!(place, Place::Index | Place::IndexDescriptor) {
        return Err(format!("\"{text}\": an index is of no platform"));
    }
    Ok((place, Some(platform.parse()?)))
}

/// Those of one place, for one image of that platform.
pub fn of(annotations: &[Annotation], place: Place, platform: &Platform) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // What names the platform has the last word.
    for named in [false, true] {
        let wanted =
            |one: &&Annotation| one.place == place && one.platform.is_some() == named && one.platform.as_ref().is_none_or(|own| own == platform);
        found.extend(annotations.iter().filter(wanted).map(|one| (one.key.clone(), one.value.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(one: &Annotation) -> String {
        let platform = one.platform.as_ref().map(|platform| format!("[{platform}]")).unwrap_or_default();
        format!("{}{platform} {}={}", one.place.name(), one.key, one.value)
    }

    #[test]
    fn both_spellings_name_the_place() {
        for (key, expected) in [
            ("annotation.a.b", "manifest a.b=v"),
            ("annotation-index.a", "index a=v"),
            ("annotation-manifest.a", "manifest a=v"),
            ("annotation-manifest-descriptor.org.x", "manifest-descriptor org.x=v"),
            ("annotation[linux/arm64].a", "manifest[linux/arm64] a=v"),
            ("annotation-manifest-descriptor[linux/amd64].a[b].c", "manifest-descriptor[linux/amd64] a[b].c=v"),
            ("annotation.a[b].c", "manifest a[b].c=v"),
        ] {
            assert_eq!(shown(&Annotation::of_option(key, "v").unwrap().unwrap()), expected, "{key}");
        }
        assert_eq!(Annotation::of_option("name", "v"), Ok(None));
        assert_eq!(Annotation::of_option("annotation", "v"), Ok(None));
        for key in ["annotation-list.a", "annotation.", "annotation-index[linux/amd64].a", "annotation[linux/amd64.a"] {
            assert!(Annotation::of_option(key, "v").is_err(), "{key}");
        }
        for (text, expected) in [
            ("a=b=c", "manifest a=b=c"),
            ("index,manifest[linux/arm64]:a=b", "index a=b,manifest[linux/arm64] a=b"),
            ("manifest-descriptor:org.x.y=", "manifest-descriptor org.x.y="),
        ] {
            let all: Vec<String> = Annotation::parse(text).unwrap().iter().map(shown).collect();
            assert_eq!(all.join(","), expected, "{text}");
        }
        for text in ["a", "manifst:a=b", "index:=b", "=b"] {
            assert!(Annotation::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_platform_beats_all_of_them() {
        let all = ["annotation[linux/amd64].a", "annotation.a", "annotation.b", "annotation[linux/arm64].c"];
        let all: Vec<Annotation> = all.iter().map(|key| Annotation::of_option(key, key).unwrap().unwrap()).collect();
        let found = of(&all, Place::Manifest, &"linux/amd64".parse().unwrap());
        let found: Vec<String> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(found, ["a=annotation[linux/amd64].a", "b=annotation.b"]);
        assert!(of(&all, Place::Index, &"linux/amd64".parse().unwrap()).is_empty());
    }
}
