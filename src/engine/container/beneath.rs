//! What is beneath a container's own layer: the layers of its image, or a directory of the host (`--rootfs`).

use super::super::{Engine, Error, Result};
use crate::runtime::{Base, BindSource, Overlay, Root, Upper};
use crate::state::record::{self, Container, Rootfs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The files that a container starts with.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) enum Beneath {
    /// Read-only; the container's changes are kept apart.
    Layers(Overlay),
    /// The directory itself, which the container changes.
    Plain(PathBuf),
}

impl Engine {
    /// # Errors
    /// The image is gone; a layer of it cannot be read.
    pub(in crate::engine) fn beneath(&self, record: &Container) -> Result<Beneath> {
        match &record.spec.rootfs {
            Some(rootfs) => directory(rootfs),
            None => Ok(Beneath::Layers(self.layers_of(record)?)),
        }
    }

    /// As [`Engine::beneath`], of an image that was found already.
    pub(super) fn beneath_with(&self, record: &Container, image: &record::Image) -> Result<Beneath> {
        match &record.spec.rootfs {
            Some(rootfs) => directory(rootfs),
            None => Ok(Beneath::Layers(crate::image::overlay(&self.privilege.roots, &self.db, image)?)),
        }
    }

    /// Those of what keeps the container's changes apart.
    ///
    /// # Errors
    /// As [`Engine::beneath`]; `Unsupported` for a plain directory, in which nobody can tell what the container changed.
    pub(in crate::engine) fn layers(&self, record: &Container) -> Result<Overlay> {
        match self.beneath(record)? {
            Beneath::Layers(overlay) => Ok(overlay),
            Beneath::Plain(path) => Err(Error::Failed {
                operation: format!("tell what container \"{}\" changed in {}", record.name, path.display()),
                kind: crate::base::ErrorKind::Unsupported,
                source: "the directory itself is its root: give it as --rootfs DIR:O to keep changes apart".into(),
            }),
        }
    }

    fn layers_of(&self, record: &Container) -> Result<Overlay> {
        let id = &record.spec.image_id;
        let image = self.db.image(id)?.ok_or_else(|| Error::no_such("image", id.as_str()))?;
        Ok(crate::image::overlay(&self.privilege.roots, &self.db, &image)?)
    }
}

impl Beneath {
    /// With the container's own layer over it, where it has one.
    pub(in crate::engine) fn for_writing(self, container_dir: &Path, volatile: bool) -> Beneath {
        match self {
            Beneath::Plain(path) => Beneath::Plain(path),
            Beneath::Layers(mut overlay) => {
                overlay.upper = Some(Upper { upper: container_dir.join("upper"), work: container_dir.join("work"), volatile });
                Beneath::Layers(overlay)
            }
        }
    }

    /// A detached mount of it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(in crate::engine) fn open(&self) -> std::result::Result<OwnedFd, crate::runtime::Error> {
        match self {
            Beneath::Layers(overlay) => overlay.mount_detached(),
            Beneath::Plain(path) => BindSource { target: PathBuf::from("/"), base: Base::Directory(path.clone()), subpath: None }.open(),
        }
    }

    /// To be read only, with the container's own layer as the topmost; it may be in use as the upper of another overlay,
    /// and the kernel leaves two writers of one upper undefined.
    pub(in crate::engine) fn for_reading(self, container_dir: &Path) -> Beneath {
        match self {
            Beneath::Plain(path) => Beneath::Plain(path),
            Beneath::Layers(mut overlay) => {
                let upper = container_dir.join("upper");
                if upper.is_dir() {
                    overlay.lowers.insert(0, upper);
                }
                Beneath::Layers(overlay)
            }
        }
    }
}

impl From<Beneath> for Root {
    fn from(beneath: Beneath) -> Root {
        match beneath {
            Beneath::Plain(path) => Root::Directory(path),
            Beneath::Layers(overlay) => Root::Overlay(overlay),
        }
    }
}

/// # Errors
/// It is not there (any more), or no directory.
fn directory(rootfs: &Rootfs) -> Result<Beneath> {
    let path = &rootfs.directory;
    let is_directory = std::fs::metadata(path).map(|status| status.is_dir());
    match is_directory {
        Ok(true) if rootfs.overlay => {
            let Some((parent, name)) = path.parent().zip(path.file_name()) else {
                return Err(Error::invalid("--rootfs: / cannot be the root of a container"));
            };
            Ok(Beneath::Layers(Overlay { layers_dir: parent.to_path_buf(), lowers: vec![PathBuf::from(name)], upper: None }))
        }
        Ok(true) => Ok(Beneath::Plain(path.clone())),
        Ok(false) => Err(Error::invalid(format!("--rootfs: {} is no directory", path.display()))),
        Err(source) => Err(Error::Failed {
            operation: format!("find the container's root {}", path.display()),
            kind: crate::base::ErrorKind::NotFound,
            source: Box::new(source),
        }),
    }
}
