//! What a build comes to: an image for each platform, and the trees of their files.

use super::cache::Layers;
use super::error::{Error, Result};
use super::{from, platform};
use crate::base::fs::Context as _;
use crate::engine::Engine;
use crate::oci::Platform;
use crate::state::index::ImageIndex;
use crate::state::record::Image;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Directories deeper than this are not compared.
const DEPTH: usize = 500;

/// Images, and the index over them, if there is one.
pub struct Product<'a> {
    pub images: Vec<Made<'a>>,
    pub index: Option<ImageIndex>,
}

/// One image.
pub struct Made<'a> {
    pub image: Image,
    pub layers: &'a Layers,
    pub platform: &'a Platform,
}

impl Product<'_> {
    /// The image that fits this host best, or else the first.
    pub fn default(&self) -> &Made<'_> {
        let host = Platform::host();
        let ranked = self.images.iter().filter_map(|made| Some((host.rank(made.platform)?, made)));
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, made)| made);
        best.or(self.images.first()).expect("invariant: a build is for one platform at least")
    }
}

/// The trees that are written, each with the directory that it is put into. `split`: whether each has one of its own; by
/// default those of several platforms have.
///
/// # Errors
/// A layer is gone; two results that are not split have a file of the same name.
pub fn trees(engine: &Engine, product: &Product<'_>, split: Option<bool>) -> Result<Vec<(String, OwnedFd)>> {
    let split = split.unwrap_or(product.images.len() > 1);
    let named = product.images.iter().map(|made| {
        let below = if split { platform::directory(made.platform) } else { String::new() };
        Ok((below, from::mount(engine, made.layers)?))
    });
    let trees = named.collect::<Result<Vec<_>>>()?;
    if !split && trees.len() > 1 {
        let platforms = product.images.iter().map(|made| made.platform);
        apart(&trees.iter().map(|(_, tree)| tree.as_fd()).zip(platforms).collect::<Vec<_>>())?;
    }
    Ok(trees)
}

/// Several platforms in one directory: no file of one takes the place of another's.
fn apart(trees: &[(BorrowedFd<'_>, &Platform)]) -> Result<()> {
    let mut owners: BTreeMap<PathBuf, &Platform> = BTreeMap::new();
    for (tree, platform) in trees {
        let mut paths = Vec::new();
        files(*tree, Path::new(""), 0, &mut paths)?;
        paths.sort();
        for path in paths {
            if let Some(first) = owners.get(&path) {
                let message = format!("{} is in the results for {first} and for {platform}: one would replace the other", path.display());
                return Err(Error::Invalid { message, hint: Some("leave out platform-split=false".to_owned()) });
            }
            owners.insert(path, platform);
        }
    }
    Ok(())
}

/// Paths of all that is no directory.
fn files(parent: BorrowedFd<'_>, path: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = path.file_name().map_or(&b"."[..], OsStrExt::as_bytes);
    let name = CString::new(name).expect("invariant: a name that the kernel gave has no NUL");
    let directory = openat(parent, &name, flags, Mode::empty()).on("open", path)?;
    for entry in Dir::read_from(&directory).on("list", path)? {
        let entry = entry.on("list", path)?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let below = path.join(name);
        if entry.file_type() == FileType::Directory && depth < DEPTH {
            files(directory.as_fd(), &below, depth + 1, into)?;
        } else {
            into.push(below);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_two_results_is_refused() {
        let root = std::env::temp_dir().join(format!("rcon-apart-{}", crate::base::random_hex(8)));
        for path in ["a/bin/x", "b/bin/y"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let (amd, arm): (Platform, Platform) = ("linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap());
        let check = || {
            let (a, b) = (std::fs::File::open(root.join("a")).unwrap(), std::fs::File::open(root.join("b")).unwrap());
            apart(&[(a.as_fd(), &amd), (b.as_fd(), &arm)]).map_err(|error| error.to_string())
        };
        assert_eq!(check(), Ok(()));
        std::fs::write(root.join("b/bin/x"), "").unwrap();
        assert!(check().unwrap_err().contains("bin/x is in the results for linux/amd64 and for linux/arm64"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
