//! The packages that a tree of files holds, by the databases of those who put them there: dpkg, apk, Python, npm.
//!
//! The tree is hostile: nothing outside of it is opened, links are not followed while it is searched, and all that is read has
//! limits.

use crate::base::fs::FsError;
use crate::base::rooted;
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most bytes of one database.
const DATABASE: u64 = 128 << 20;
/// Most bytes of the description of one package.
const DESCRIPTION: u64 = 4 << 20;
/// Directories deeper than this are not searched.
const DEPTH: usize = 64;
/// Most entries of directories that are looked at.
const ENTRIES: usize = 4_000_000;
/// Most packages that are listed.
const PACKAGES: usize = 200_000;
/// Where databases of rpm are, of which none is read.
const RPM: [&str; 6] = [
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Deb,
    Apk,
    Python,
    Npm,
}

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub arch: Option<String>,
    /// The package that it was built from, where that is told.
    pub source: Option<String>,
    pub maintainer: Option<String>,
    pub license: Option<String>,
    pub homepage: Option<String>,
    /// The file that tells of it.
    pub place: String,
}

/// What a tree holds.
#[derive(Debug, Default)]
pub struct Found {
    pub packages: Vec<Package>,
    /// `ID` and `VERSION_ID` of os-release.
    pub distribution: Option<(String, Option<String>)>,
    /// What is there and was not read, in words.
    pub unread: Vec<String>,
}

/// All packages of a tree, each once, in the order of their kinds and names.
///
/// # Errors
/// A directory or file cannot be read.
pub fn list(root: BorrowedFd<'_>) -> Result<Found, FsError> {
    let mut found = Found { distribution: distribution(root), ..Found::default() };
    databases(root, &mut found);
    let mut search = Search { entries: 0, found: &mut found };
    let top = rooted::open(root, Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| unreadable("/", e))?;
    search.directory(top, "", 0)?;
    found.packages.sort();
    found.packages.dedup();
    if found.packages.len() > PACKAGES {
        found.unread.push(format!("{} packages more than the limit of {PACKAGES}", found.packages.len() - PACKAGES));
        found.packages.truncate(PACKAGES);
    }
    if let Some(place) = RPM.iter().find(|place| text(root, place, 0).is_some()) {
        found.unread.push(format!("the packages of the rpm database {place}, a format that is not read"));
    }
    Ok(found)
}

fn unreadable(path: &str, error: rustix::io::Errno) -> FsError {
    FsError { operation: "read", path: path.into(), source: error.into() }
}

/// The text of a regular file of the tree, at most so many bytes of it; None: there is none.
fn text(root: BorrowedFd<'_>, path: &str, limit: u64) -> Option<String> {
    let fd = rooted::open(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    read(fd, limit)
}

fn read(fd: OwnedFd, limit: u64) -> Option<String> {
    let stat = fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(fd).take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn distribution(root: BorrowedFd<'_>) -> Option<(String, Option<String>)> {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| text(root, path, DESCRIPTION))?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    };
    Some((value("ID")?, value("VERSION_ID")))
}

/// The databases that are at known places.
fn databases(root: BorrowedFd<'_>, found: &mut Found) {
    let status = "/var/lib/dpkg/status";
    if let Some(text) = text(root, status, DATABASE) {
        found.packages.extend(dpkg(&text, status));
    }
    // Images without dpkg itself have a file for each package.
    let parts = "/var/lib/dpkg/status.d";
    if let Ok(directory) = rooted::open(root, Path::new(parts), OFlags::RDONLY | OFlags::DIRECTORY) {
        for name in names(&directory).into_iter().filter(|name| !name.ends_with(".md5sums")) {
            let place = format!("{parts}/{name}");
            found.packages.extend(text(root, &place, DESCRIPTION).into_iter().flat_map(|text| dpkg(&text, &place)));
        }
    }
    for place in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        if let Some(text) = text(root, place, DATABASE) {
            found.packages.extend(apk(&text, place));
            break;
        }
    }
}

fn names(directory: &OwnedFd) -> Vec<String> {
    let Ok(entries) = Dir::read_from(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// Paragraphs of `Key: value`, whose lines may go on with a blank (deb822(5)); the first value of a key counts.
fn paragraphs(text: &str) -> impl Iterator<Item = BTreeMap<String, String>> {
    text.split("\n\n").map(|paragraph| {
        let mut fields = BTreeMap::new();
        for line in paragraph.lines().filter(|line| !line.starts_with([' ', '\t'])) {
            if let Some((key, value)) = line.split_once(':') {
                fields.entry(key.to_ascii_lowercase()).or_insert_with(|| value.trim().to_owned());
            }
        }
        fields
    })
}

fn taken(fields: &mut BTreeMap<String, String>, key: &str) -> Option<String> {
    fields.remove(key).filter(|value| !value.is_empty())
}

/// The installed packages of a status file (dpkg-query(1)).
fn dpkg(text: &str, place: &str) -> Vec<Package> {
    let package = |mut fields: BTreeMap<String, String>| {
        // Removed ones that left their configuration are listed, too.
        if fields.get("status").is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        let (name, version) = (taken(&mut fields, "package")?, taken(&mut fields, "version")?);
        Some(Package {
            kind: Kind::Deb,
            name,
            version,
            arch: taken(&mut fields, "architecture"),
            source: taken(&mut fields, "source"),
            maintainer: taken(&mut fields, "maintainer"),
            license: None,
            homepage: taken(&mut fields, "homepage"),
            place: place.to_owned(),
        })
    };
    paragraphs(text).filter_map(package).collect()
}

/// The packages of apk's database: a letter, a colon and a value on each line (apk-v2 "installed" database).
fn apk(text: &str, place: &str) -> Vec<Package> {
    let package = |paragraph: &str| {
        let value = |letter: &str| {
            let found = paragraph.lines().find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'));
            found.map(str::to_owned).filter(|value| !value.is_empty())
        };
        Some(Package {
            kind: Kind::Apk,
            name: value("P")?,
            version: value("V")?,
            arch: value("A"),
            source: value("o"),
            maintainer: value("m"),
            license: value("L"),
            homepage: value("U"),
            place: place.to_owned(),
        })
    };
    text.split("\n\n").filter_map(package).collect()
}

/// The headers of a Python package (core metadata specification): they end at the first empty line.
fn python(text: &str, place: &str) -> Option<Package> {
    let text = text.replace("\r\n", "\n");
    let mut fields = paragraphs(&text).next()?;
    Some(Package {
        kind: Kind::Python,
        name: taken(&mut fields, "name")?,
        version: taken(&mut fields, "version")?,
        arch: None,
        source: None,
        maintainer: taken(&mut fields, "author-email").or_else(|| taken(&mut fields, "author")),
        license: taken(&mut fields, "license-expression").or_else(|| taken(&mut fields, "license")),
        homepage: taken(&mut fields, "home-page"),
        place: place.to_owned(),
    })
}

fn npm(text: &str, place: &str) -> Option<Package> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let field = |key: &str| document.get(key).and_then(serde_json::Value::as_str).map(str::to_owned).filter(|value| !value.is_empty());
    Some(Package {
        kind: Kind::Npm,
        name: field("name")?,
        version: field("version")?,
        arch: None,
        source: None,
        maintainer: None,
        license: field("license"),
        homepage: field("homepage"),
        place: place.to_owned(),
    })
}

/// The search for packages whose place is not known.
struct Search<'f> {
    entries: usize,
    found: &'f mut Found,
}

impl Search<'_> {
    fn directory(&mut self, directory: OwnedFd, path: &str, depth: usize) -> Result<(), FsError> {
        let entries = Dir::read_from(&directory).map_err(|e| unreadable(path, e))?;
        let mut below = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(path, e))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            let kind = entry.file_type();
            if kind == FileType::Directory || kind == FileType::Unknown {
                below.push(entry.file_name().to_owned());
            }
        }
        below.sort();
        for name in below {
            if self.entries > ENTRIES || depth == DEPTH {
                self.leave_out(path);
                return Ok(());
            }
            let child = format!("{path}/{}", name.to_string_lossy());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&directory, &name, flags, Mode::empty()) {
                Ok(fd) => {
                    self.package(&fd, path, &child);
                    self.directory(fd, &child, depth + 1)?;
                }
                Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP | rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(unreadable(&child, error)),
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &str) {
        let words = format!("packages beneath {path}: the tree is too large or too deep to be searched");
        if self.found.unread.len() < 10 && !self.found.unread.contains(&words) {
            self.found.unread.push(words);
        }
    }

    /// The package that a directory is, if it is one.
    fn package(&mut self, directory: &OwnedFd, parent: &str, path: &str) {
        let modules = |path: &str| path.ends_with("/node_modules");
        // A module is in `node_modules`, or in the directory of a scope there.
        let scoped = parent.rsplit_once('/').is_some_and(|(above, scope)| scope.starts_with('@') && modules(above));
        let file = if path.ends_with(".dist-info") {
            "METADATA"
        } else if path.ends_with(".egg-info") {
            "PKG-INFO"
        } else if modules(parent) || scoped {
            "package.json"
        } else {
            return;
        };
        let place = format!("{path}/{file}");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let text = openat(directory.as_fd(), file, flags, Mode::empty()).ok().and_then(|fd| read(fd, DESCRIPTION));
        let parse = if file == "package.json" { npm } else { python };
        self.found.packages.extend(text.and_then(|text| parse(&text, &place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn all_databases_are_read() {
        let root = std::env::temp_dir().join(format!("rcon-packages-{}", crate::base::random_hex(8)));
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("etc/os-release", "NAME=x\nID=debian\nVERSION_ID=\"12\"\n");
        put(
            "var/lib/dpkg/status",
            "Package: bash\nStatus: install ok installed\nMaintainer: A <a@x>\nArchitecture: amd64\nVersion: 5.2.15-2+b7\nDescription: shell\n more\n\n\
             Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        put("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\nSource: tz (2024)\n");
        put("var/lib/dpkg/status.d/tzdata.md5sums", "Package: no\nVersion: 1\n");
        put("lib/apk/db/installed", "C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\nP:busybox\nV:1.36.1-r5\nA:x86_64\nL:GPL-2.0-only\n\n");
        put(
            "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA",
            "Metadata-Version: 2.1\r\nName: six\r\nVersion: 1.16.0\r\n\r\nName: body\r\n",
        );
        put("app/node_modules/left-pad/package.json", r#"{"name":"left-pad","version":"1.3.0","license":"WTFPL"}"#);
        put("app/node_modules/@scope/x/package.json", r#"{"name":"@scope/x","version":"2.0.0"}"#);
        put("app/node_modules/@scope/x/lib/package.json", r#"{"name":"inner","version":"0"}"#);
        put("app/package.json", r#"{"name":"own","version":"0"}"#);
        put("var/lib/rpm/rpmdb.sqlite", "");
        // What leads out of the tree is not followed.
        std::os::unix::fs::symlink("/etc/passwd", root.join("app/node_modules/left-pad/link")).unwrap();
        fs::create_dir_all(root.join("app/node_modules/evil")).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", root.join("app/node_modules/evil/package.json")).unwrap();
        let directory = File::open(&root).unwrap();
        let found = list(directory.as_fd()).unwrap();
        let names: Vec<(Kind, &str, &str)> = found.packages.iter().map(|p| (p.kind, p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(
            names,
            [
                (Kind::Deb, "bash", "5.2.15-2+b7"),
                (Kind::Deb, "tzdata", "2024a"),
                (Kind::Apk, "busybox", "1.36.1-r5"),
                (Kind::Apk, "musl", "1.2.4-r2"),
                (Kind::Python, "six", "1.16.0"),
                (Kind::Npm, "@scope/x", "2.0.0"),
                (Kind::Npm, "left-pad", "1.3.0"),
            ]
        );
        assert_eq!(found.packages[1].source.as_deref(), Some("tz (2024)"));
        assert_eq!(found.distribution, Some(("debian".to_owned(), Some("12".to_owned()))));
        assert_eq!(found.unread.len(), 1, "{:?}", found.unread);
        assert!(found.unread[0].contains("rpmdb.sqlite"));
        fs::remove_dir_all(root).unwrap();
    }
}
