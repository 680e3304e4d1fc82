//! Which image a user means, and getting it: local names win over ids; then the pull policy decides.

use super::super::request::{CreateContainer, MountSource, PullPolicy};
use super::super::{Engine, Error, Result, events};
use crate::image::Progress;
use crate::oci::{ImageDocument, Platform, Reference};
use crate::state::record;
use std::collections::BTreeMap;

impl Engine {
    /// The image of a `create`: local, or pulled as the policy says. Warnings are pushed to `warnings`.
    pub(super) fn image_for(
        &self,
        request: &CreateContainer,
        warnings: &mut Vec<String>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(record::Image, ImageDocument)> {
        if request.rootfs.is_some() {
            return Ok(no_image());
        }
        let wanted = request.platform.as_deref().map(parse_platform).transpose()?;
        let host = Platform::host();
        if request.pull != PullPolicy::Always
            && let Some(image) = self.local_image_for(&request.image, wanted.as_ref())?
            && !self.is_lost(&image, &request.image)?
        {
            let document = document(&image)?;
            let matches = wanted.as_ref().is_none_or(|w| is_for(&document, w));
            if matches || request.pull == PullPolicy::Never {
                if !matches {
                    return Err(Error::Invalid {
                        message: format!(
                            "the local image {} is for {}, not for {}",
                            request.image,
                            platform_text(&document),
                            request.platform.as_deref().unwrap_or_default()
                        ),
                        hint: Some("allow a pull with --pull missing".to_owned()),
                    });
                }
                if wanted.is_none() && !is_for(&document, &host) {
                    warnings.push(format!(
                        "the image's platform ({}) does not match the host's ({}/{}) and no platform was asked for",
                        platform_text(&document),
                        host.os,
                        host.arch
                    ));
                }
                crate::image::admit(&self.registry, &self.db, &request.image, &image)?;
                return Ok((image, document));
            }
        }
        if request.pull == PullPolicy::Never {
            return Err(self.no_such("image", &request.image));
        }
        let reference: Reference = request.image.parse().map_err(Error::invalid)?;
        if request.pull == PullPolicy::Missing && self.db.image_named(&reference.to_string())?.is_none() {
            let meant = self.no_such("image", &request.image).hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            progress(Progress::Note(format!("Unable to find image '{}' locally{meant}", reference.familiar())));
        }
        let (roots, platform) = (&self.privilege.roots, wanted.as_ref().unwrap_or(&host));
        let pulled = crate::image::pull(roots, &self.db, &self.registry, &reference, platform, &self.cancel, progress)?;
        self.emit([events::of_image(&pulled.image, "pull", &reference.familiar(), &reference.familiar_name())]);
        let document = document(&pulled.image)?;
        Ok((pulled.image, document))
    }

    /// As [`Engine::local_image`], but of a name for several platforms the image for the one that is wanted.
    fn local_image_for(&self, text: &str, wanted: Option<&Platform>) -> Result<Option<record::Image>> {
        match wanted.map(|platform| self.member_for(text, platform)).transpose()?.flatten() {
            Some(member) => Ok(Some(member)),
            None => self.local_image(text),
        }
    }

    /// This machine stopped before the image was on disk. What its name says can be had again, what an id says not.
    fn is_lost(&self, image: &record::Image, named: &str) -> Result<bool> {
        if crate::image::survived(&self.privilege.roots, &self.db, image)? {
            return Ok(false);
        }
        let digits = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_owned();
        if digits(&image.id).starts_with(&digits(named)) { Err(Error::no_such("image", named)) } else { Ok(true) }
    }

    /// The image of a build's stage: local, or pulled as the policy says.
    ///
    /// # Errors
    /// There is no such image, it is for another platform, or the trust policy does not let it in.
    pub fn stage_image(
        &self,
        image: &str,
        platform: Option<&str>,
        pull: PullPolicy,
        warnings: &mut Vec<String>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<record::Image> {
        let request = CreateContainer { image: image.to_owned(), platform: platform.map(str::to_owned), pull, ..CreateContainer::default() };
        let before = self.before_pull(image)?;
        let (had, _) = self.image_for(&request, warnings, progress)?;
        if let Some(before) = before {
            self.keep_both(image, &before, &had)?;
        }
        Ok(had)
    }

    /// Id by reference of every image that the request mounts; pulled as the policy says, like the container's own.
    pub(super) fn mounted_images(
        &self,
        request: &CreateContainer,
        warnings: &mut Vec<String>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<BTreeMap<String, String>> {
        let mut images = BTreeMap::new();
        for mount in &request.mounts {
            let MountSource::Image { reference, .. } = &mount.source else { continue };
            if !images.contains_key(reference) {
                let wanted = CreateContainer {
                    image: reference.clone(),
                    platform: request.platform.clone(),
                    pull: request.pull,
                    ..CreateContainer::default()
                };
                images.insert(reference.clone(), self.image_for(&wanted, warnings, progress)?.0.id);
            }
        }
        Ok(images)
    }

    /// By reference, full id, or unique id prefix; a local name wins over an id prefix.
    pub(super) fn local_image(&self, text: &str) -> Result<Option<record::Image>> {
        if let Ok(reference) = text.parse::<Reference>() {
            let mut id = self.db.image_named(&reference.to_string())?;
            if let (None, Some(digest)) = (&id, reference.digest()) {
                id = self.db.image_named(&reference.with_digest(digest).to_string())?;
            }
            if let Some(id) = id {
                return Ok(self.db.image(&id)?);
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(None);
        }
        match self.db.images_by_prefix(hex)?.as_slice() {
            [] => Ok(None),
            [id] => Ok(self.db.image(id)?),
            _ => Err(Error::Ambiguous { what: "image", name: text.to_owned() }),
        }
    }
}

/// What a directory of the host has in the place of an image: nothing that a container would get from it.
fn no_image() -> (record::Image, ImageDocument) {
    let host = Platform::host();
    let document = ImageDocument { os: host.os, architecture: host.arch, variant: host.variant, ..ImageDocument::default() };
    let none = record::Image {
        id: String::new(),
        config: Vec::new(),
        manifest_digest: None,
        manifest: None,
        manifest_type: None,
        layers: Vec::new(),
        size: 0,
        created: crate::base::Timestamp::NEVER,
        pulled: crate::base::Timestamp::NEVER,
    };
    (none, document)
}

/// The image's parsed config document.
pub(super) fn document(image: &record::Image) -> Result<ImageDocument> {
    serde_json::from_slice(&image.config).map_err(|source| Error::Failed {
        operation: format!("read the config of image {}", image.id),
        kind: crate::base::ErrorKind::Internal,
        source: Box::new(source),
    })
}

pub(super) fn platform_text(document: &ImageDocument) -> String {
    let variant = document.variant.as_deref().filter(|v| !v.is_empty()).map(|v| format!("/{v}")).unwrap_or_default();
    format!("{}/{}{variant}", document.os, document.architecture)
}

fn is_for(document: &ImageDocument, platform: &Platform) -> bool {
    // Images made by hand often leave these out: then they are for whatever runs them.
    (document.os.is_empty() || document.os == platform.os) && (document.architecture.is_empty() || document.architecture == platform.arch)
}

fn parse_platform(text: &str) -> Result<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, arch, variant) = match parts.as_slice() {
        [os, arch] => (*os, *arch, None),
        [os, arch, variant] => (*os, *arch, Some((*variant).to_owned())),
        _ => return Err(wrong_platform(text)),
    };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain(os) || !plain(arch) || !variant.as_deref().is_none_or(plain) {
        return Err(wrong_platform(text));
    }
    let arch = match arch {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Ok(Platform { os: os.to_owned(), arch: arch.to_owned(), variant })
}

fn wrong_platform(text: &str) -> Error {
    Error::Invalid {
        message: format!("invalid platform \"{text}\""),
        hint: Some("give --platform as os/arch[/variant], for example linux/amd64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_strictly() {
        assert_eq!(parse_platform("linux/aarch64").unwrap().arch, "arm64");
        assert_eq!(parse_platform("linux/arm/v7").unwrap().variant.as_deref(), Some("v7"));
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(parse_platform(bad).is_err(), "{bad}");
        }
    }
}
