//! Image references: Docker's grammar and its normalisation.
//!
//! A parsed `Reference` is always complete: registry, repository, and a tag or a digest or both.

use super::Digest;
use std::fmt;
use std::str::FromStr;

/// Most bytes of registry and repository together.
const NAME_LIMIT: usize = 255;
/// Most bytes of a tag.
const TAG_LIMIT: usize = 128;
const DEFAULT_REGISTRY: &str = "docker.io";
/// What the default registry was called once; old configs still say it.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Where the default registry keeps repositories of one component.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// A normalised image reference: `docker.io/library/busybox:latest`, `…@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// As Docker shows it: `busybox:latest`, `localhost:5000/a:b`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// Familiar name without tag or digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        if let Some(official) = self.repository.strip_prefix(OFFICIAL)
            && !official.contains('/')
        {
            return official.to_owned();
        }
        // `docker.io/a.b/c` shortened to `a.b/c` would be read back as the registry `a.b`.
        match self.repository.split_once('/') {
            Some((first, _)) if looks_like_registry(first) => self.name(),
            _ => self.repository.clone(),
        }
    }

    /// `docker.io/library/busybox`: registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository by digest (the tag is dropped).
    ///
    /// # Panics
    /// If `digest` is not a valid digest: callers hand in one they parsed or computed.
    pub fn with_digest(&self, digest: &str) -> Reference {
        let digest: Digest = digest.parse().expect("invariant: callers pass a digest that was parsed or computed");
        Reference { registry: self.registry.clone(), repository: self.repository.clone(), tag: None, digest: Some(digest.into()) }
    }

    /// The same repository by its tag alone; None if there is no tag.
    pub fn tagged(&self) -> Option<Reference> {
        let tag = self.tag.clone()?;
        Some(Reference { registry: self.registry.clone(), repository: self.repository.clone(), tag: Some(tag), digest: None })
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl FromStr for Reference {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("invalid reference \"{}\": {why}", text.escape_default());
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("64 hexadecimal digits are an image id, not a name"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| wrong(&e.to_string()))?)),
            None => (text, None),
        };
        let (registry, remainder) = split_registry(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if !valid_registry(registry) {
            return Err(wrong("the registry must be a host name or address with an optional port"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("the repository name must be lower-case"));
        }
        if !path.split('/').all(valid_component) {
            return Err(wrong("the repository name must be lower-case letters and digits, separated by '.', '_', '-' or '/'"));
        }
        if let Some(tag) = tag
            && !valid_tag(tag)
        {
            return Err(wrong("the tag must be letters, digits, '_', '.' and '-', at most 128 of them"));
        }
        let registry = if registry == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { registry };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return Err(wrong("the name is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest: digest.map(String::from) })
    }
}

/// The full normalised form.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

/// Splits at the first `/` if what precedes it can only be a registry.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if looks_like_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    }
}

/// A first component with a dot, a port or an upper-case letter, or `localhost`, is a registry.
fn looks_like_registry(first: &str) -> bool {
    first == "localhost" || first.bytes().any(|b| matches!(b, b'.' | b':') || b.is_ascii_uppercase())
}

fn valid_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let fine = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                let port = if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) };
                return fine && port.is_none_or(valid_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    host.split('.').all(valid_label) && port.is_none_or(valid_port)
}

fn valid_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn valid_label(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    inner && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn valid_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(*first) || !word(*last) {
        return false;
    }
    bytes.split(|b| word(*b)).all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn valid_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word) && bytes.all(|b| word(b) || matches!(b, b'.' | b'-')) && text.len() <= TAG_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_as_docker_does() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("Host/a", "Host/a:latest", "Host/a:latest"),
            ("quay.io/a/b_c__d--e.f/g:T_1.-", "quay.io/a/b_c__d--e.f/g:T_1.-", "quay.io/a/b_c__d--e.f/g:T_1.-"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(reference.familiar().parse(), Ok(reference));
        }
    }

    #[test]
    fn tag_and_digest() {
        let both: Reference = format!("a:t@sha256:{HEX}").parse().unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("t"), Some(format!("sha256:{HEX}").as_str())));
        let only: Reference = format!("a@sha256:{HEX}").parse().unwrap();
        assert_eq!(only.tag(), None);
        assert_eq!(both.with_digest(only.digest().unwrap()), only);
        assert_eq!(both.tagged(), Some("a:t".parse().unwrap()));
        assert_eq!(only.tagged(), None);
        assert_eq!(only.familiar(), format!("a@sha256:{HEX}"));
        assert_eq!(only.familiar_name(), "a");
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("quay.io/{}", "a".repeat(250));
        let short_digest = format!("a@sha256:{}", &HEX[1..]);
        let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "Busybox",
            "a/Busybox",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:.t",
            "a:-t",
            "a b",
            "a:t:u",
            "a@",
            "a@x",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            "a@sha256:",
            "localhost:/a",
            "localhost:x/a",
            "-x.io/a",
            "x..io/a",
            "[zz]/a",
            "[::1/a",
            "ä",
            "../a",
            "a/../b",
            ":t",
            "@sha256:aa",
            HEX,
            "http://a/b",
            &long_tag,
            &long_name,
            &short_digest,
            &upper_digest,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("A".parse::<Reference>().unwrap_err().contains("lower-case"));
        assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    }

    proptest! {
        #[test]
        fn full_and_familiar_forms_read_back(text in "(([a-zA-Z0-9.-]{1,12}|localhost)(:[0-9]{1,5})?/)?[a-z0-9]{1,6}([._/-][a-z0-9]{1,6}){0,3}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,12})?(@sha256:[0-9a-f]{64})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>(), &Ok(reference.clone()));
                prop_assert_eq!(&reference.familiar().parse::<Reference>(), &Ok(reference.clone()));
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            drop(text.parse::<Reference>());
            drop(text.parse::<Digest>());
            drop(text.parse::<crate::oci::Platform>());
        }
    }
}
