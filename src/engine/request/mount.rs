//! `--mount`: one line of comma-separated values, `type=bind,source=/a,target=/b,readonly`.

use super::volume::{Base, destination};
use super::{FlagError, MountRequest, MountSource, idmap, parse_bool};
use crate::base::{ByteSize, csv};
use crate::state::record::MountOptions;
use std::collections::BTreeMap;

const FLAG: &str = "--mount";

/// The fields as typed, before they are checked against the type.
#[derive(Default)]
struct Fields {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    propagation: String,
    recursive: Recursive,
    create: bool,
    no_copy: bool,
    subpath: Option<String>,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    tmpfs: Vec<String>,
    mount: MountOptions,
    /// Keys typed that belong to one type only: (key, type).
    bound: Vec<(String, &'static str)>,
}

/// `bind-recursive`: what is mounted below the source.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Recursive {
    #[default]
    Enabled,
    Disabled,
    /// Comes along, and stays writable under a read-only mount.
    Writable,
    /// Comes along, and must be read-only too (which it is by default, as far as the kernel can).
    ReadOnly,
}

/// Parses one `--mount` value.
///
/// # Errors
/// An unknown key or type, a key of another type, or an unsupported feature (by name).
pub fn parse(text: &str, base: &Base) -> Result<MountRequest, FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let mut fields = Fields { kind: "volume".to_owned(), ..Fields::default() };
    if text.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    for field in csv::split(text).map_err(wrong)? {
        fields.take(&field).map_err(wrong)?;
    }
    fields.finish(base).map_err(wrong)
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        let flag = || value.map_or(Ok(true), parse_bool);
        for (prefix, kind) in [("bind-", "bind"), ("volume-", "volume"), ("tmpfs-", "tmpfs"), ("image-", "image")] {
            if key.starts_with(prefix) {
                self.bound.push((key.clone(), kind));
            }
        }
        match key.as_str() {
            "readonly" | "ro" => self.read_only = Some(flag()?),
            "readwrite" | "rw" => self.read_only = Some(!flag()?),
            "volume-nocopy" => self.no_copy = flag()?,
            "bind-create-src" => self.create = flag()?,
            "bind-nonrecursive" => self.recursive = if flag()? { Recursive::Disabled } else { Recursive::Enabled },
            "u" | "chown" => self.mount.chown = flag()?,
            "idmap" => self.mount.idmap = Some(idmap::parse(value)?),
            _ => return self.take_value(&key, value.ok_or_else(|| format!("\"{field}\" must be a key=value pair"))?),
        }
        Ok(())
    }

    fn take_value(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => self.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "bind-propagation" => match value {
                "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => value.clone_into(&mut self.propagation),
                _ => return Err(format!("unknown bind-propagation \"{value}\"")),
            },
            "bind-recursive" => match value {
                "enabled" => self.recursive = Recursive::Enabled,
                "disabled" => self.recursive = Recursive::Disabled,
                "writable" => self.recursive = Recursive::Writable,
                "readonly" => self.recursive = Recursive::ReadOnly,
                _ => return Err(format!("unknown bind-recursive \"{value}\": expected enabled, disabled, writable or readonly")),
            },
            "volume-subpath" | "image-subpath" | "subpath" => {
                if value.starts_with('/') || value.split('/').any(|part| part == "..") {
                    let of = if key == "image-subpath" { "image" } else { "volume" };
                    return Err(format!("{key} \"{value}\" must be a relative path within the {of}"));
                }
                self.subpath = Some(value.to_owned()).filter(|path| !path.is_empty());
            }
            "uid" | "gid" => idmap::owner(&mut self.mount.idmap, key, value)?,
            "volume-driver" if value == "local" => {}
            "volume-driver" => return Err(format!("volume driver \"{value}\" is not supported; only local is")),
            "volume-label" => insert(&mut self.labels, value),
            "volume-opt" => insert(&mut self.options, value),
            "tmpfs-size" => {
                let size: ByteSize = value.parse()?;
                self.tmpfs.push(format!("size={}", size.0));
            }
            "tmpfs-mode" => {
                u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| format!("tmpfs-mode \"{value}\" is not an octal mode"))?;
                self.tmpfs.push(format!("mode={value}"));
            }
            // A hint for other platforms that Docker ignores on Linux.
            "consistency" => {}
            _ => return Err(format!("unknown key \"{key}\"")),
        }
        Ok(())
    }

    fn finish(self, base: &Base) -> Result<MountRequest, String> {
        match self.kind.as_str() {
            "bind" | "volume" | "tmpfs" | "image" => {}
            "npipe" | "cluster" => return Err(format!("mounts of type {} are not supported; use bind, volume, tmpfs or image", self.kind)),
            other => return Err(format!("unknown type \"{other}\": expected bind, volume, tmpfs or image")),
        }
        if let Some((key, kind)) = self.bound.iter().find(|(_, kind)| *kind != self.kind) {
            return Err(format!("the key {key} is for type={kind}, not for type={}", self.kind));
        }
        self.check()?;
        let read_only = self.read_only.unwrap_or(self.kind == "image");
        let target = self.target.as_deref().ok_or("target is required")?;
        let destination = destination(target)?;
        let source = match self.kind.as_str() {
            "bind" => {
                let text = self.source.as_deref().filter(|s| !s.is_empty()).ok_or("source is required for type=bind")?;
                let source = base.resolve(text).ok_or_else(|| format!("the source \"{text}\" is not an absolute path"))?;
                MountSource::Bind { source, create: self.create, recursive: self.recursive != Recursive::Disabled }
            }
            "volume" => {
                let name = match self.source.as_deref().filter(|s| !s.is_empty()) {
                    None => None,
                    Some(text) => Some(text.parse().map_err(|e: crate::base::IdError| e.to_string())?),
                };
                MountSource::Volume { name, no_copy: self.no_copy, subpath: self.subpath.map(Into::into), labels: self.labels, options: self.options }
            }
            "image" => {
                let reference = self.source.filter(|s| !s.is_empty()).ok_or("source is required for type=image: the image")?;
                MountSource::Image { reference, subpath: self.subpath.map(Into::into) }
            }
            _ => {
                if self.source.is_some() {
                    return Err("type=tmpfs takes no source".to_owned());
                }
                MountSource::Tmpfs { options: self.tmpfs.join(","), from_flag: false }
            }
        };
        let options = MountOptions { writable_submounts: self.recursive == Recursive::Writable, ..self.mount };
        Ok(MountRequest { destination, source, read_only, mode: String::new(), propagation: self.propagation, bind_text: None, options })
    }

    /// Keys that need others, or another type.
    fn check(&self) -> Result<(), String> {
        let word = match self.recursive {
            Recursive::Writable => "writable",
            Recursive::ReadOnly => "readonly",
            _ => "",
        };
        if !word.is_empty() && self.read_only != Some(true) {
            return Err(format!("option \"bind-recursive={word}\" requires \"readonly\" to be specified in conjunction"));
        }
        if self.recursive == Recursive::ReadOnly && self.propagation != "rprivate" {
            return Err("option \"bind-recursive=readonly\" requires \"bind-propagation=rprivate\" to be specified in conjunction".to_owned());
        }
        let shown = self.mount.chown || self.mount.idmap.is_some();
        if shown && matches!(self.kind.as_str(), "tmpfs" | "image") {
            return Err(format!("idmap, uid, gid and U are for binds and volumes, not for type={}", self.kind));
        }
        if self.subpath.is_some() && matches!(self.kind.as_str(), "bind" | "tmpfs") {
            return Err(format!("a subpath is for volumes and images, not for type={}", self.kind));
        }
        Ok(())
    }
}

fn insert(map: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn base() -> Base {
        Base { cwd: "/w".into(), home: None }
    }

    #[test]
    fn malformed_records() {
        for bad in ["", "a\"b", "\"a", "\"a\"b"] {
            assert!(parse(bad, &base()).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_type() {
        let bind = parse("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave,bind-recursive=disabled", &base()).unwrap();
        assert_eq!(bind.source, MountSource::Bind { source: "/a".into(), create: false, recursive: false });
        assert!(bind.read_only && bind.propagation == "rslave" && bind.bind_text.is_none());
        let bind = parse("type=bind,\"src=/a,b\",dst=/c,ro=false,bind-create-src", &base()).unwrap();
        assert_eq!(bind.source, MountSource::Bind { source: "/a,b".into(), create: true, recursive: true });
        assert!(!bind.read_only);
        let volume = parse("source=data,destination=/d,volume-nocopy,volume-subpath=x/y,volume-label=a=b,volume-opt=o=uid=1", &base()).unwrap();
        let MountSource::Volume { name, no_copy, subpath, labels, options } = volume.source else { panic!() };
        assert_eq!((name.unwrap().as_str(), no_copy, subpath.as_deref()), ("data", true, Some(Path::new("x/y"))));
        assert_eq!((labels["a"].as_str(), options["o"].as_str()), ("b", "uid=1"));
        let tmpfs = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770", &base()).unwrap();
        assert_eq!(tmpfs.source, MountSource::Tmpfs { options: "size=1048576,mode=1770".into(), from_flag: false });
        let image = parse("type=image,source=busybox,target=/i,image-subpath=bin", &base()).unwrap();
        assert_eq!(image.source, MountSource::Image { reference: "busybox".into(), subpath: Some("bin".into()) });
        assert!(image.read_only && !parse("type=image,source=busybox,target=/i,rw=true", &base()).unwrap().read_only);
        let bind = |more: &str| parse(&format!("type=bind,src=/a,dst=/b,{more}"), &base()).unwrap();
        assert!(bind("ro,bind-recursive=writable").options.writable_submounts);
        assert!(!bind("ro,bind-propagation=rprivate,bind-recursive=readonly").options.writable_submounts);
        assert!(bind("U").options.chown && bind("chown=true").options.chown && bind("uid=5").options.idmap.is_some());
        assert!(matches!(parse("target=/d", &base()).unwrap().source, MountSource::Volume { name: None, .. }));
    }

    #[test]
    fn refused_mounts() {
        for (bad, word) in [
            ("type=image,target=/b", "source is required"),
            ("type=image,source=a,target=/b,image-subpath=../x", "relative"),
            ("type=image,source=a,target=/b,uid=5", "type=image"),
            ("type=bind,source=/a,target=/b,bind-recursive=writable", "readonly"),
            ("type=bind,source=/a,target=/b,bind-recursive=readonly,ro", "bind-propagation=rprivate"),
            ("type=bind,source=/a,target=/b,bind-recursive=yes", "expected enabled"),
            ("type=bind,source=/a,target=/b,subpath=x", "subpath"),
            ("type=tmpfs,target=/b,idmap", "type=tmpfs"),
            ("source=data,target=/b,image-subpath=x", "type=image"),
            ("source=data,target=/b,idmap=x", "uids=DISK"),
            ("type=x,target=/b", "unknown type"),
            ("type=bind,target=/b", "source is required"),
            ("type=bind,source=a,target=/b", "absolute"),
            ("type=bind,source=/a", "target is required"),
            ("type=bind,source=/a,target=b", "absolute"),
            ("type=bind,source=/a,target=/b,bogus=1", "unknown key \"bogus\""),
            ("type=bind,source=/a,target=/b,volume-nocopy", "type=volume"),
            ("type=tmpfs,source=/a,target=/b", "no source"),
            ("type=tmpfs,target=/b,tmpfs-mode=9", "octal"),
            ("source=a b,target=/b", "invalid volume name"),
            ("source=data,target=/b,volume-subpath=../x", "relative"),
            ("source=data,target=/b,volume-driver=nfs", "nfs"),
            ("type=bind,source=/a,target=/b,ro=maybe", "boolean"),
            ("writable", "key=value"),
            ("source=data,rw", "target is required"),
        ] {
            let error = parse(bad, &base()).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
