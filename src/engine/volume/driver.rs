//! What the options of a volume mean to the `local` driver: a directory of ours, or a file system that is mounted for
//! each container that uses it (`type`, `device`, `o`, as mount(8) has them).

use super::quota;
use crate::base::fs::Context;
use crate::base::{ByteSize, VolumeName, copy_tree};
use crate::engine::{Error, Result};
use crate::runtime::{Base, BindSource};
use crate::state::record::Volume;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Keys of `-o`.
const KNOWN: [&str; 10] = ["type", "device", "o", "size", "inodes", "uid", "gid", "copy", "nocopy", "noquota"];

/// The options of a volume, understood.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::engine) struct Driver {
    pub place: Place,
    /// An empty volume is not filled with what the image has at its mount point.
    pub no_copy: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) enum Place {
    /// `_data` below the volumes' directory, with an owner and limits of its own.
    Directory { owner: (Option<u32>, Option<u32>), size: Option<u64>, inodes: Option<u64> },
    /// In memory, mounted once for all who use it at the same time.
    Tmpfs { options: Vec<String> },
    /// Mounted for each container apart; the kernel makes one file system of the same device and options.
    FileSystem { kind: String, device: String, options: Vec<String> },
}

impl Default for Place {
    fn default() -> Self {
        Place::Directory { owner: (None, None), size: None, inodes: None }
    }
}

impl Driver {
    /// # Errors
    /// The options are not understood: a volume of a newer rcon.
    pub(in crate::engine) fn of(volume: &Volume) -> Result<Self> {
        Driver::parse(&volume.options).map_err(|why| Error::invalid(format!("volume \"{}\": {why}", volume.name)))
    }

    /// # Errors
    /// An unknown option, one that needs another, or a malformed value, as a sentence.
    pub(in crate::engine) fn parse(options: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        if let Some(key) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("invalid option \"{key}\": the local driver knows {}", KNOWN.join(", ")));
        }
        let get = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let mut words: Vec<(String, Option<String>)> = Vec::new();
        for word in get("o").into_iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value.to_owned())));
            words.push((key.to_owned(), value));
        }
        let mut no_copy = options.contains_key("nocopy");
        if no_copy && options.contains_key("copy") {
            return Err("copy and nocopy contradict each other".to_owned());
        }
        words.retain(|(key, value)| {
            let ours = value.is_none() && matches!(key.as_str(), "copy" | "nocopy");
            no_copy |= ours && key == "nocopy";
            !ours
        });
        // What the engine itself does for a directory may stand in `o` or by itself.
        for key in ["size", "inodes", "uid", "gid", "noquota"] {
            if let Some(value) = options.get(key) {
                words.push((key.to_owned(), Some(value.clone()).filter(|value| !value.is_empty())));
            }
        }
        let place = match (get("type"), get("device")) {
            (None, None) => directory(&words)?,
            (Some("tmpfs"), _) => Place::Tmpfs { options: words.iter().map(spelled).collect() },
            (_, None) => return Err("missing option \"device\": what is to be mounted".to_owned()),
            (kind, Some(device)) => {
                let kind = kind.unwrap_or("none");
                let options: Vec<String> = words.iter().map(spelled).collect();
                let bind = options.iter().any(|word| word == "bind" || word == "rbind");
                if bind && !device.starts_with('/') {
                    return Err(format!("device \"{device}\" must be an absolute path for a bind"));
                }
                if kind == "none" && !bind {
                    return Err("missing option \"type\": the file system, such as ext4 or nfs (or o=bind for a directory)".to_owned());
                }
                Place::FileSystem { kind: kind.to_owned(), device: device.to_owned(), options }
            }
        };
        Ok(Driver { place, no_copy })
    }

    /// The root of the volume, if it is to have what the image has at its mount point when it is empty. What is in
    /// memory is empty at each start and stays so.
    ///
    /// # Errors
    /// The file system cannot be mounted.
    pub(in crate::engine) fn open_to_fill(&self, name: &VolumeName, data: &Path) -> Result<Option<OwnedFd>> {
        match &self.place {
            _ if self.no_copy => Ok(None),
            Place::Directory { .. } => Ok(Some(copy_tree::open_directory(data)?)),
            Place::Tmpfs { .. } => Ok(None),
            Place::FileSystem { options, .. } if is_read_only(options) => Ok(None),
            Place::FileSystem { kind, device, options } => {
                let source = BindSource { target: data.to_path_buf(), base: base(kind, device, options)?, subpath: None };
                let tree = source.open().map_err(|source| Error::Failed {
                    operation: format!("mount volume \"{name}\""),
                    kind: source.kind(),
                    source: Box::new(source),
                })?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(Some(openat(&tree, ".", flags, Mode::empty()).on("open", data)?))
            }
        }
    }
}

fn spelled((key, value): &(String, Option<String>)) -> String {
    value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"))
}

fn directory(words: &[(String, Option<String>)]) -> std::result::Result<Place, String> {
    let (mut owner, mut size, mut inodes) = ((None, None), None, None);
    for (key, value) in words {
        let value = value.as_deref().unwrap_or_default();
        let id = || value.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(|| format!("invalid {key} \"{value}\": expected a number"));
        match key.as_str() {
            "uid" => owner.0 = Some(id()?),
            "gid" => owner.1 = Some(id()?),
            "size" => size = Some(value.parse::<ByteSize>().map_err(|why| format!("invalid size \"{value}\": {why}"))?.0),
            "inodes" => inodes = Some(value.parse().map_err(|_| format!("invalid inodes \"{value}\": expected a number"))?),
            "noquota" => {}
            _ => return Err(format!("option \"{key}\" needs a \"type\" and a \"device\" to be mounted with it")),
        }
    }
    Ok(Place::Directory { owner, size, inodes })
}

/// The base of a mount of such a file system. A host name in `addr=` is looked up now, as mount.nfs(8) does: the kernel
/// takes numbers only.
///
/// # Errors
/// The name cannot be found.
pub(in crate::engine) fn base(kind: &str, device: &str, options: &[String]) -> Result<Base> {
    let mut options = options.to_vec();
    if kind.starts_with("nfs") || kind == "cifs" || kind == "smb3" {
        for option in &mut options {
            let Some(name) = option.strip_prefix("addr=").filter(|name| name.parse::<std::net::IpAddr>().is_err()) else { continue };
            let found = (name, 0).to_socket_addrs().map_err(|source| Error::Failed {
                operation: format!("look up \"{name}\" of the volume's option addr"),
                kind: crate::base::ErrorKind::Unavailable,
                source: Box::new(source),
            })?;
            let address = found.map(|address| address.ip()).min_by_key(std::net::IpAddr::is_ipv6);
            *option = format!("addr={}", address.ok_or_else(|| Error::no_such("host", name))?);
        }
    }
    Ok(Base::FileSystem { kind: kind.to_owned(), device: device.to_owned(), options })
}

/// Gives a new directory its limits and its owner.
///
/// # Errors
/// What the file system refuses, or has not.
pub(in crate::engine) fn set_up(place: &Place, name: &VolumeName, data: &Path) -> Result<()> {
    quota::limit(place, name, data)?;
    match place {
        Place::Directory { owner: (None, None), .. } => Ok(()),
        Place::Directory { owner: (uid, gid), .. } => Ok(std::os::unix::fs::chown(data, *uid, *gid).on("change the owner of", data)?),
        Place::Tmpfs { .. } | Place::FileSystem { .. } => Ok(()),
    }
}

/// Whether options of mount(8) make a file system read-only; the last word counts.
pub(in crate::engine) fn is_read_only(options: &[String]) -> bool {
    options.iter().rev().find_map(|option| matches!(option.as_str(), "ro" | "rw").then_some(option == "ro")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> std::result::Result<Driver, String> {
        Driver::parse(&options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_say_where_a_volume_is() {
        assert_eq!(parse(&[]).unwrap(), Driver::default());
        let owned = parse(&[("o", "uid=5,gid=6,size=1m,nocopy")]).unwrap();
        assert_eq!(owned, Driver { place: Place::Directory { owner: (Some(5), Some(6)), size: Some(1 << 20), inodes: None }, no_copy: true });
        assert_eq!(parse(&[("uid", "5"), ("gid", "6"), ("size", "1m"), ("nocopy", "")]).unwrap(), owned);
        let tmpfs = parse(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=10m,uid=5")]).unwrap();
        assert_eq!(tmpfs.place, Place::Tmpfs { options: vec!["size=10m".into(), "uid=5".into()] });
        let nfs = parse(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=10.0.0.1,rw,nolock")]).unwrap();
        assert!(matches!(&nfs.place, Place::FileSystem { kind, device, options } if kind == "nfs" && device == ":/x" && options.len() == 3));
        let bind = parse(&[("type", "none"), ("device", "/srv"), ("o", "bind,ro")]).unwrap();
        assert!(matches!(&bind.place, Place::FileSystem { kind, options, .. } if kind == "none" && is_read_only(options)));
        assert!(is_read_only(&["rw".into(), "ro".into()]) && !is_read_only(&[]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (options, word) in [
            (&[("x", "1")][..], "\"x\""),
            (&[("type", "ext4")], "device"),
            (&[("device", "/dev/sda")], "type"),
            (&[("type", "none"), ("device", "/srv")], "o=bind"),
            (&[("type", "none"), ("device", "srv"), ("o", "bind")], "absolute"),
            (&[("o", "noatime")], "\"noatime\""),
            (&[("o", "uid=x")], "uid"),
            (&[("size", "x")], "size"),
            (&[("copy", ""), ("nocopy", "")], "contradict"),
        ] {
            let why = parse(options).unwrap_err();
            assert!(why.contains(word), "{options:?}: {why}");
        }
    }

    #[test]
    fn addresses_are_numbers_for_the_kernel() {
        let Base::FileSystem { options, .. } = base("nfs", ":/x", &["addr=localhost".into(), "ro".into()]).unwrap() else { panic!() };
        assert_eq!(options, ["addr=127.0.0.1", "ro"]);
    }
}
