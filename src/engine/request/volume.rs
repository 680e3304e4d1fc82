//! `-v/--volume` and `--volumes-from`: `[source:]destination[:options]`, `container[:mode]`.

use super::{FlagError, MountRequest, MountSource, VolumesFrom, idmap};
use crate::state::record::MountOptions;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

const FLAG: &str = "--volume";

/// What relative sources refer to: facts of the client, so that the parser is pure.
#[derive(Debug, Clone)]
pub struct Base {
    pub cwd: PathBuf,
    /// What `~` stands for; None refuses it.
    pub home: Option<PathBuf>,
}

impl Base {
    /// The absolute, lexically cleaned path of a bind source; None when it is not written as a path.
    pub fn resolve(&self, text: &str) -> Option<PathBuf> {
        let path = if text.starts_with('/') {
            PathBuf::from(text)
        } else if text == "." || text == ".." || text.starts_with("./") || text.starts_with("../") {
            self.cwd.join(text)
        } else if text == "~" {
            self.home.clone()?
        } else {
            self.home.as_ref()?.join(text.strip_prefix("~/")?)
        };
        Some(clean(&path))
    }
}

/// Cleans an absolute path lexically: no `.`, `..`, doubled or trailing slashes (Go's `filepath.Clean`).
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Checks a mount destination: absolute and not the root itself.
///
/// # Errors
/// Why it is none.
pub fn destination(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("the destination \"{text}\" is not an absolute path"));
    }
    let path = clean(Path::new(text));
    if path == Path::new("/") { Err("the destination cannot be \"/\"".to_owned()) } else { Ok(path) }
}

/// Options of a `-v` value, checked.
#[derive(Debug, Default, PartialEq)]
struct Options {
    read_only: bool,
    /// `copy` is true, `nocopy` false.
    copy: Option<bool>,
    /// `rbind` is true, `bind` false.
    recursive: Option<bool>,
    propagation: String,
    mount: MountOptions,
}

/// Parses one `-v` value.
///
/// # Errors
/// The value does not follow the grammar or asks for something unsupported.
pub fn parse(text: &str, base: &Base) -> Result<MountRequest, FlagError> {
    parse_parts(text, base).map_err(|reason| FlagError::new(FLAG, text, reason))
}

fn parse_parts(text: &str, base: &Base) -> Result<MountRequest, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, mode] => (Some(source), target, mode),
        _ => return Err("too many colons: expected [source:]destination[:options]".to_owned()),
    };
    if parts.len() == 2 && !target.starts_with('/') && parse_options(target).is_ok() {
        return Err("options need a source: expected source:destination:options".to_owned());
    }
    let destination = destination(target)?;
    let options = parse_options(mode)?;
    let (source, shown) = match source {
        None => (volume(None, options.copy == Some(false)), None),
        Some("") => return Err("the source is empty".to_owned()),
        Some(source) => match base.resolve(source) {
            Some(path) => {
                if let Some(copy) = options.copy {
                    let word = if copy { "copy" } else { "nocopy" };
                    return Err(format!("{word} is only for volumes; nothing is ever copied into a bind mount"));
                }
                let shown = path.display().to_string();
                (MountSource::Bind { source: path, create: true, recursive: options.recursive.unwrap_or(true) }, Some(shown))
            }
            None => {
                let name = source.parse().map_err(|_| {
                    format!("\"{source}\" is neither a path (write ./{source} for a directory here) nor a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]+)")
                })?;
                if !options.propagation.is_empty() {
                    return Err(format!("propagation \"{}\" is only for bind mounts", options.propagation));
                }
                if options.recursive.is_some() {
                    return Err("bind and rbind are only for bind mounts".to_owned());
                }
                (volume(Some(name), options.copy == Some(false)), Some(source.to_owned()))
            }
        },
    };
    let tail = if mode.is_empty() { String::new() } else { format!(":{mode}") };
    Ok(MountRequest {
        bind_text: shown.map(|source| format!("{source}:{}{tail}", destination.display())),
        destination,
        source,
        read_only: options.read_only,
        mode: mode.to_owned(),
        propagation: options.propagation,
        options: options.mount,
    })
}

fn volume(name: Option<crate::base::VolumeName>, no_copy: bool) -> MountSource {
    MountSource::Volume { name, no_copy, subpath: None, labels: BTreeMap::new(), options: BTreeMap::new() }
}

fn parse_options(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    let (mut access, mut label) = (None, None);
    let once = |slot: &mut Option<String>, option: &str| match slot.replace(option.to_owned()) {
        None => Ok(()),
        Some(earlier) => Err(format!("\"{earlier}\" and \"{option}\" contradict or repeat each other")),
    };
    for option in text.split(',').filter(|_| !text.is_empty()) {
        match option {
            "ro" | "rw" => {
                once(&mut access, option)?;
                options.read_only = option == "ro";
            }
            // Relabelling happens on SELinux hosts only; elsewhere Docker keeps it as a word of the mode.
            "z" | "Z" => once(&mut label, option)?,
            "nocopy" | "copy" => {
                if options.copy.replace(option == "copy").is_some() {
                    return Err("copy and nocopy contradict or repeat each other".to_owned());
                }
            }
            "bind" | "rbind" => options.recursive = Some(option == "rbind"),
            // Hints for other platforms, without a meaning on Linux.
            "consistent" | "cached" | "delegated" => {}
            "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" => options.mount.flags.push(option.to_owned()),
            "U" => options.mount.chown = true,
            "O" => options.mount.overlay = true,
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                let mut slot = (!options.propagation.is_empty()).then(|| options.propagation.clone());
                once(&mut slot, option)?;
                option.clone_into(&mut options.propagation);
            }
            _ => match option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value))) {
                ("idmap", value) if options.mount.idmap.is_none() => options.mount.idmap = Some(idmap::parse(value)?),
                (key @ ("uid" | "gid"), Some(value)) => idmap::owner(&mut options.mount.idmap, key, value)?,
                _ => return Err(format!("invalid mode \"{option}\"")),
            },
        }
    }
    check(&options)?;
    Ok(options)
}

/// An overlay has its own writable layer, whose files belong to whoever made them.
fn check(options: &Options) -> Result<(), String> {
    let MountOptions { chown, overlay, idmap, .. } = &options.mount;
    let conflict = [
        (options.read_only, "ro"),
        (*chown, "U"),
        (idmap.as_ref().is_some_and(|idmap| *idmap != crate::state::record::MountIdmap::Container), "another mapping of ids"),
        (matches!(options.propagation.as_str(), "shared" | "rshared" | "slave" | "rslave"), "shared or slave propagation"),
    ];
    match conflict.iter().find(|(set, _)| *overlay && *set) {
        Some((_, what)) => Err(format!("O (changes are kept apart and dropped) does not go together with {what}")),
        None => Ok(()),
    }
}

/// Parses one `--volumes-from` value.
///
/// # Errors
/// An unknown mode; propagation modes and `nocopy` are refused as Docker refuses them.
pub fn parse_from(text: &str) -> Result<VolumesFrom, FlagError> {
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let wrong = |reason: String| FlagError::new("--volumes-from", text, reason);
    if container.is_empty() {
        return Err(wrong("the container is missing".to_owned()));
    }
    let options = parse_options(mode).map_err(wrong)?;
    let own = Options { read_only: options.read_only, ..Options::default() };
    if options != own {
        return Err(wrong(format!("invalid mode \"{mode}\": expected ro, rw, z or Z")));
    }
    Ok(VolumesFrom { container: container.to_owned(), read_only: options.read_only, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::MountIdmap;

    fn base() -> Base {
        Base { cwd: "/work/dir".into(), home: Some("/home/u".into()) }
    }

    #[test]
    fn volumes_binds_and_modes() {
        // (typed, kind and source, destination, read-only, propagation, Binds)
        for (text, source, target, ro, propagation, shown) in [
            ("/data", "anonymous", "/data", false, "", None),
            ("/a/../b/:/c//d/", "bind /b", "/c/d", false, "", Some("/b:/c/d")),
            ("./x:/c:ro", "bind /work/dir/x", "/c", true, "", Some("/work/dir/x:/c:ro")),
            ("..:/c", "bind /work", "/c", false, "", Some("/work:/c")),
            ("~/x:/c:rw,z", "bind /home/u/x", "/c", false, "", Some("/home/u/x:/c:rw,z")),
            ("/a:/c:ro,rslave", "bind /a", "/c", true, "rslave", Some("/a:/c:ro,rslave")),
            ("data:/c:ro,nocopy", "volume data nocopy", "/c", true, "", Some("data:/c:ro,nocopy")),
            ("data.v1:/c", "volume data.v1", "/c", false, "", Some("data.v1:/c")),
        ] {
            let mount = parse(text, &base()).unwrap_or_else(|e| panic!("{e}"));
            let got = match &mount.source {
                MountSource::Bind { source, create: true, recursive: true } => format!("bind {}", source.display()),
                MountSource::Volume { name: None, .. } => "anonymous".to_owned(),
                MountSource::Volume { name: Some(name), no_copy, .. } => format!("volume {name}{}", if *no_copy { " nocopy" } else { "" }),
                other => format!("{other:?}"),
            };
            assert_eq!((got.as_str(), mount.destination.as_path(), mount.read_only), (source, Path::new(target), ro), "{text}");
            assert_eq!((mount.propagation.as_str(), mount.bind_text.as_deref()), (propagation, shown), "{text}");
        }
    }

    #[test]
    fn refused_volumes() {
        for bad in [
            "",
            "x",
            "a:b",
            "/a:/",
            "/:",
            ":/c",
            "/a:/b:ro:z",
            "/a:b",
            "/a:/b:bogus",
            "/a:/b:ro,rw",
            "/a:/b:z,Z",
            "/a:/b:shared,slave",
            "/foo:ro",
            "a/b:/c",
            "d:/c",
            "data:/c:rshared",
            "/a:/b:nocopy",
            "/a:/b:copy",
            "data:/c:copy,nocopy",
            "data:/c:rbind",
            "/a:/b:O,ro",
            "/a:/b:O,U",
            "/a:/b:O,uid=5",
            "/a:/b:O,rshared",
            "/a:/b:idmap=x",
            "/a:/b:idmap,uid=5",
            "/a:/b:uid=x",
            "/a:/b:",
            "~x:/c",
        ] {
            if bad == "/a:/b:" {
                continue; // An empty mode is Docker's default mode.
            }
            assert!(parse(bad, &base()).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_overlays_and_attributes() {
        let options = |text: &str| parse(text, &base()).unwrap_or_else(|e| panic!("{e}")).options;
        assert_eq!(options("/a:/b"), MountOptions::default());
        assert!(options("/a:/b:U").chown && options("data:/b:ro,U").chown && options("/a:/b:O").overlay);
        assert_eq!(options("/a:/b:noexec,nodev").flags, ["noexec", "nodev"]);
        assert_eq!(options("/a:/b:idmap").idmap, Some(MountIdmap::Container));
        assert_eq!(options("/a:/b:uid=5,gid=6").idmap, Some(MountIdmap::Owner { uid: Some(5), gid: Some(6) }));
        assert!(matches!(options("data:/b:idmap=uids=0-1-10#10-11-10;gids=0-100-10").idmap, Some(MountIdmap::Maps { .. })));
        for (text, recursive) in [("/a:/b:cached", true), ("/a:/b:rbind", true), ("/a:/b:bind,ro", false)] {
            assert_eq!(parse(text, &base()).unwrap().source, MountSource::Bind { source: "/a".into(), create: true, recursive }, "{text}");
        }
        assert!(matches!(parse("data:/b:copy", &base()).unwrap().source, MountSource::Volume { no_copy: false, .. }));
    }

    #[test]
    fn volumes_from_modes() {
        for (text, container, ro) in [("a", "a", false), ("a:ro", "a", true), ("a:rw", "a", false), ("a:z", "a", false), ("a:ro,Z", "a", true)] {
            let from = parse_from(text).unwrap();
            assert_eq!((from.container.as_str(), from.read_only, from.text.as_str()), (container, ro, text));
        }
        for bad in ["", ":ro", "a:rshared", "a:nocopy", "a:copy", "a:U", "a:O", "a:idmap", "a:x"] {
            assert!(parse_from(bad).is_err(), "{bad}");
        }
    }
}
