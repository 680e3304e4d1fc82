//! The packages of an image as an SPDX 2.3 document in JSON (spdx.github.io/spdx-spec/v2.3).
//!
//! The same image gives the same document: its name is made of the image's id, its time is the image's.

use super::packages::{Found, Kind, Package};
use crate::base::Timestamp;
use crate::build::error::{Error, Result};
use crate::oci::{Digest, ImageDocument};
use serde_json::{Value, json};

/// What an SPDX field says that was not looked into.
const UNKNOWN: &str = "NOASSERTION";
/// SPDX id of the image.
const IMAGE: &str = "SPDXRef-Image";

/// The image that is described.
pub struct Subject<'a> {
    pub name: String,
    pub id: &'a Digest,
    pub config: &'a [u8],
}

/// The document.
///
/// # Errors
/// The configuration cannot be read.
pub fn document(subject: &Subject<'_>, found: &Found) -> Result<Value> {
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": subject.name,
        "versionInfo": subject.id.to_string(),
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    })];
    let mut relations = vec![json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": IMAGE })];
    for package in &found.packages {
        let id = identifier(package);
        relations.push(json!({ "spdxElementId": IMAGE, "relationshipType": "CONTAINS", "relatedSpdxElement": id }));
        packages.push(entry(&id, package, found));
    }
    let name: String = subject.name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", subject.id.hex()),
        "creationInfo": { "created": created(subject.config)?, "creators": [concat!("Tool: rcon-", env!("CARGO_PKG_VERSION"))] },
        "packages": packages,
        "relationships": relations,
    });
    if !found.unread.is_empty() {
        document["comment"] = json!(format!("not listed: {}", found.unread.join("; ")));
    }
    Ok(document)
}

/// The time of the image in whole seconds, as SPDX wants it.
fn created(config: &[u8]) -> Result<String> {
    let document: ImageDocument =
        serde_json::from_slice(config).map_err(|e| Error::invalid(format!("the configuration of the image cannot be read: {e}")))?;
    let created = document.created.as_deref().and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER);
    let text = if created.is_never() { "1970-01-01T00:00:00Z".to_owned() } else { created.to_string() };
    Ok(format!("{}Z", text.get(..19).unwrap_or("1970-01-01T00:00:00")))
}

/// Letters, digits, points and dashes are all that an id may have; what they leave out is in the digest.
fn identifier(package: &Package) -> String {
    let name: String = package.name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
    let whole =
        format!("{:?}\0{}\0{}\0{}\0{}", package.kind, package.name, package.version, package.arch.as_deref().unwrap_or_default(), package.place);
    let digest = Digest::of(whole.as_bytes());
    format!("SPDXRef-Package-{}-{name}-{}", word(package.kind), &digest.hex()[..16])
}

/// The type of a package URL.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Deb => "deb",
        Kind::Apk => "apk",
        Kind::Python => "pypi",
        Kind::Npm => "npm",
    }
}

fn entry(id: &str, package: &Package, found: &Found) -> Value {
    let locator = locator(package, found.distribution.as_ref());
    let mut entry = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "sourceInfo": format!("found in {}", package.place),
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator }],
    });
    // A license as the package writes it need not be one of SPDX's expressions.
    let comment = package.license.as_ref().map(|license| format!("the package declares: {license}"));
    let supplier = package.maintainer.as_ref().map(|who| format!("{}: {who}", if who.contains('@') { "Person" } else { "Organization" }));
    for (key, value) in
        [("supplier", supplier), ("homepage", package.homepage.clone().filter(|page| page.contains("://"))), ("licenseComments", comment)]
    {
        if let Some(value) = value {
            entry[key] = json!(value);
        }
    }
    entry
}

/// A package URL (github.com/package-url/purl-spec).
fn locator(package: &Package, distribution: Option<&(String, Option<String>)>) -> String {
    let (name, version) = (quoted(&package.name), quoted(&package.version));
    match package.kind {
        Kind::Python => format!("pkg:pypi/{}@{version}", quoted(&package.name.to_ascii_lowercase().replace('_', "-"))),
        // The slash behind a scope is a part of the path.
        Kind::Npm => format!("pkg:npm/{}@{version}", name.replace("%2F", "/")),
        Kind::Deb | Kind::Apk => {
            let usual = if package.kind == Kind::Deb { "debian" } else { "alpine" };
            let namespace = distribution.map_or(usual, |(id, _)| id.as_str());
            let mut qualifiers = Vec::new();
            qualifiers.extend(package.arch.as_ref().map(|arch| format!("arch={}", quoted(arch))));
            if let Some((id, Some(release))) = distribution {
                qualifiers.push(format!("distro={}-{}", quoted(id), quoted(release)));
            }
            let source = package.source.as_deref().and_then(|source| source.split([' ', '(']).next()).filter(|source| *source != package.name);
            qualifiers.extend(source.map(|source| format!("upstream={}", quoted(source))));
            let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
            format!("pkg:{}/{}/{name}@{version}{qualifiers}", word(package.kind), quoted(namespace))
        }
    }
}

/// Percent-encoded but for what purls keep.
pub fn quoted(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(kind: Kind, name: &str, version: &str) -> Package {
        Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            arch: matches!(kind, Kind::Deb | Kind::Apk).then(|| "amd64".to_owned()),
            source: None,
            maintainer: Some("A <a@x>".to_owned()),
            license: Some("MIT".to_owned()),
            homepage: None,
            place: "/p".to_owned(),
        }
    }

    #[test]
    fn locators_follow_the_purl_specification() {
        let debian = ("debian".to_owned(), Some("12".to_owned()));
        for (kind, name, version, expected) in [
            (Kind::Deb, "libstdc++6", "1:12.2+b1", "pkg:deb/debian/libstdc%2B%2B6@1:12.2%2Bb1?arch=amd64&distro=debian-12"),
            (Kind::Npm, "@a/b", "1.0.0", "pkg:npm/%40a/b@1.0.0"),
            (Kind::Python, "Ruamel_Yaml", "1", "pkg:pypi/ruamel-yaml@1"),
        ] {
            assert_eq!(locator(&package(kind, name, version), Some(&debian)), expected);
        }
        assert_eq!(locator(&package(Kind::Apk, "musl", "1"), None), "pkg:apk/alpine/musl@1?arch=amd64");
    }

    #[test]
    fn a_document_is_whole_and_the_same_each_time() {
        let found = Found {
            packages: vec![package(Kind::Deb, "bash", "5"), package(Kind::Npm, "x", "1")],
            distribution: None,
            unread: vec!["the rpm database".to_owned()],
        };
        let config = br#"{"created":"2024-05-06T07:08:09.123456789Z"}"#;
        let id = Digest::of(config);
        let subject = Subject { name: "docker.io/library/x:1".to_owned(), id: &id, config };
        let made = document(&subject, &found).unwrap();
        assert_eq!(made, document(&subject, &found).unwrap());
        let unreadable = Subject { name: String::new(), id: &id, config: b"{" };
        assert!(document(&unreadable, &found).unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(made["creationInfo"]["created"], "2024-05-06T07:08:09Z");
        let packages = made["packages"].as_array().unwrap();
        let relations = made["relationships"].as_array().unwrap();
        assert_eq!((packages.len(), relations.len()), (3, 3));
        // Each package is contained by the image under an id that SPDX allows.
        for (package, relation) in packages.iter().zip(relations) {
            let id = package["SPDXID"].as_str().unwrap();
            assert_eq!(relation["relatedSpdxElement"], id);
            assert!(id.strip_prefix("SPDXRef-").unwrap().bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{id}");
        }
        assert!(made["comment"].as_str().unwrap().contains("rpm"));
        assert_eq!(packages[1]["supplier"], "Person: A <a@x>");
    }
}
