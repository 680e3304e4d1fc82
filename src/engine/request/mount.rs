//! `--mount`: one line of comma-separated values, `type=bind,source=/a,target=/b,readonly`.

use super::volume::{Base, destination};
use super::{FlagError, MountRequest, MountSource, parse_bool};
use crate::base::ByteSize;
use std::collections::BTreeMap;

const FLAG: &str = "--mount";

/// The fields as typed, before they are checked against the type.
#[derive(Default)]
struct Fields {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: String,
    recursive: Option<bool>,
    create: bool,
    no_copy: bool,
    subpath: Option<String>,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    tmpfs: Vec<String>,
    /// Keys typed that belong to one type only: (key, type).
    bound: Vec<(String, &'static str)>,
}

/// Parses one `--mount` value.
///
/// # Errors
/// An unknown key or type, a key of another type, or an unsupported feature (by name).
pub fn parse(text: &str, base: &Base) -> Result<MountRequest, FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let mut fields = Fields { kind: "volume".to_owned(), ..Fields::default() };
    for field in split_csv(text).map_err(wrong)? {
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
        for (prefix, kind) in [("bind-", "bind"), ("volume-", "volume"), ("tmpfs-", "tmpfs")] {
            if key.starts_with(prefix) {
                self.bound.push((key.clone(), kind));
            }
        }
        match key.as_str() {
            "readonly" | "ro" => self.read_only = flag()?,
            "volume-nocopy" => self.no_copy = flag()?,
            "bind-create-src" => self.create = flag()?,
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
                "enabled" => self.recursive = Some(true),
                "disabled" => self.recursive = Some(false),
                "writable" | "readonly" => return Err(format!("bind-recursive={value} is not supported; use enabled or disabled")),
                _ => return Err(format!("unknown bind-recursive \"{value}\": expected enabled or disabled")),
            },
            "volume-subpath" => {
                if value.starts_with('/') || value.split('/').any(|part| part == "..") {
                    return Err(format!("volume-subpath \"{value}\" must be a relative path within the volume"));
                }
                self.subpath = Some(value.to_owned());
            }
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
            "bind" | "volume" | "tmpfs" => {}
            "image" | "npipe" | "cluster" => return Err(format!("mounts of type {} are not supported; use bind, volume or tmpfs", self.kind)),
            other => return Err(format!("unknown type \"{other}\": expected bind, volume or tmpfs")),
        }
        if let Some((key, kind)) = self.bound.iter().find(|(_, kind)| *kind != self.kind) {
            return Err(format!("the key {key} is for type={kind}, not for type={}", self.kind));
        }
        let target = self.target.as_deref().ok_or("target is required")?;
        let destination = destination(target)?;
        let source = match self.kind.as_str() {
            "bind" => {
                let text = self.source.as_deref().filter(|s| !s.is_empty()).ok_or("source is required for type=bind")?;
                let source = base.resolve(text).ok_or_else(|| format!("the source \"{text}\" is not an absolute path"))?;
                MountSource::Bind { source, create: self.create, recursive: self.recursive.unwrap_or(true) }
            }
            "volume" => {
                let name = match self.source.as_deref().filter(|s| !s.is_empty()) {
                    None => None,
                    Some(text) => Some(text.parse().map_err(|e: crate::base::IdError| e.to_string())?),
                };
                MountSource::Volume { name, no_copy: self.no_copy, subpath: self.subpath.map(Into::into), labels: self.labels, options: self.options }
            }
            _ => {
                if self.source.is_some() {
                    return Err("type=tmpfs takes no source".to_owned());
                }
                MountSource::Tmpfs { options: self.tmpfs.join(","), from_flag: false }
            }
        };
        Ok(MountRequest { destination, source, read_only: self.read_only, mode: String::new(), propagation: self.propagation, bind_text: None })
    }
}

fn insert(map: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

/// One record of RFC 4180: fields may be quoted as a whole, `""` is a quote inside.
///
/// # Errors
/// An empty record, a quote inside an unquoted field, or one left open.
pub fn split_csv(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote inside an unquoted field; quote the whole field".to_owned());
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote".to_owned()),
        }
    }
}

/// The field up to its closing quote, and what follows.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is left open")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn base() -> Base {
        Base { cwd: "/w".into(), home: None }
    }

    #[test]
    fn csv_records() {
        for (text, fields) in [("a,b", vec!["a", "b"]), ("\"a,b\",c", vec!["a,b", "c"]), ("\"a\"\"b\"", vec!["a\"b"]), ("a,", vec!["a", ""])] {
            assert_eq!(split_csv(text).unwrap(), fields, "{text}");
        }
        for bad in ["", "a\"b", "\"a", "\"a\"b"] {
            assert!(split_csv(bad).is_err(), "{bad}");
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
        assert!(matches!(parse("target=/d", &base()).unwrap().source, MountSource::Volume { name: None, .. }));
    }

    #[test]
    fn refused_mounts() {
        for (bad, word) in [
            ("type=image,source=a,target=/b", "image"),
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
            ("readwrite", "key=value"),
        ] {
            let error = parse(bad, &base()).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
