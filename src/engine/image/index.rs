//! Names that stand for several images: finding the one for a platform, carrying the index along with its name.

use super::{described, parse_reference};
use crate::engine::{Engine, Error, Reference, Result};
use crate::image::{Whole, assembly};
use crate::oci::{Platform, media};
use crate::state::index::{ImageIndex, IndexMember};
use crate::state::record::Image;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Images to be saved, each with the names that lead to it alone, and indexes over some of them.
pub(super) type ToSave = (Vec<(Vec<Reference>, Image)>, Vec<Whole>);

/// What an image is for, in normal form.
///
/// # Errors
/// Its configuration cannot be read.
pub(in crate::engine) fn platform_of(image: &Image) -> Result<Platform> {
    let document = described(image)?;
    Ok(Platform::normalised(&document.os, &document.architecture, document.variant.as_deref()))
}

/// The member that suits the platform best.
fn best<'i>(index: &'i ImageIndex, platform: &Platform) -> Option<&'i IndexMember> {
    let rank = |member: &IndexMember| platform.rank(&member.platform.parse().ok()?);
    index.members.iter().filter_map(|member| Some((rank(member)?, member))).min_by_key(|(rank, _)| *rank).map(|(_, member)| member)
}

impl Engine {
    /// What a name stands for, if that is more than one image.
    ///
    /// # Errors
    /// Database.
    pub fn index_of(&self, name: &str) -> Result<Option<ImageIndex>> {
        match name.parse::<Reference>() {
            Ok(reference) => Ok(self.db.index_named(&reference.to_string())?),
            Err(_) => Ok(None),
        }
    }

    /// Points names at a new index; without an id it gets that of the index which `save` would write. Its images are
    /// recorded. The default of a name is what fits this host best, or else the first.
    ///
    /// # Errors
    /// An image was removed meanwhile; database.
    pub fn put_index(&self, names: &[Reference], mut index: ImageIndex) -> Result<ImageIndex> {
        index.version = ImageIndex::VERSION;
        let (made, _) = assembly::saved(&self.privilege.roots, &self.db, &index, names)?;
        index.id = made.digest.to_string();
        let Some(default) = best(&index, &Platform::host()).or(index.members.first()) else { return Ok(index) };
        self.db.write(true, |tx| {
            for name in names {
                let name = name.to_string();
                tx.put_name(&name, &default.image)?;
                tx.put_index(&name, &index)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(index)
    }

    /// The member of a name's index for a platform; None: the name has no index, or that no such member.
    ///
    /// # Errors
    /// Database.
    pub(in crate::engine) fn member_for(&self, name: &str, platform: &Platform) -> Result<Option<Image>> {
        let Some(index) = self.index_of(name)? else { return Ok(None) };
        match best(&index, platform) {
            Some(member) => Ok(self.db.image(&member.image)?),
            None => Ok(None),
        }
    }

    /// A pull for one platform has taken the name of an image for another one. Where both are of the same index of a registry
    /// the name stands for both from now on.
    ///
    /// # Errors
    /// Database.
    pub(in crate::engine) fn keep_both(&self, name: &str, before: &Before, pulled: &Image) -> Result<()> {
        let Before { image, digests, index } = before;
        let reference = parse_reference(name)?;
        if reference.digest().is_some() || image.id == pulled.id {
            return Ok(());
        }
        let mut by_digest = None;
        for digest in digests {
            let name = reference.with_digest(digest);
            if self.db.image_named(&name.to_string())?.as_deref() == Some(pulled.id.as_str()) {
                by_digest = Some(name);
            }
        }
        // Nothing was pulled, or the tag means another index by now.
        let Some(by_digest) = by_digest else { return Ok(()) };
        let member = |image: &Image| -> Result<IndexMember> {
            Ok(IndexMember { platform: platform_of(image)?.to_string(), image: image.id.clone(), ..IndexMember::default() })
        };
        let mut index = match index {
            Some(index) => index.clone(),
            None => ImageIndex { members: vec![member(image)?], ..ImageIndex::default() },
        };
        let new = member(pulled)?;
        index.members.retain(|old| old.image != new.image && old.platform != new.platform);
        index.members.push(new);
        self.put_index(&[reference, by_digest], index).map(drop)
    }

    /// What a name means before something is pulled under it; None: nothing.
    ///
    /// # Errors
    /// Database.
    pub(in crate::engine) fn before_pull(&self, name: &str) -> Result<Option<Before>> {
        let Ok(reference) = name.parse::<Reference>() else { return Ok(None) };
        let Some(id) = self.db.image_named(&reference.to_string())? else { return Ok(None) };
        let Some(image) = self.db.image(&id)? else { return Ok(None) };
        let own = |(text, of): (String, String)| {
            let name: Reference = text.parse().ok()?;
            (of == id && name.name() == reference.name()).then(|| name.digest().map(str::to_owned))?
        };
        let digests = self.db.names()?.into_iter().filter_map(own).collect();
        let index = self.db.index_named(&reference.to_string())?;
        Ok(Some(Before { image, digests, index }))
    }

    /// With `platform` the members for it instead of indexes; else indexes with all their members.
    ///
    /// # Errors
    /// An image is not for the platform.
    pub(super) fn whole_or_part(&self, images: Vec<(Vec<Reference>, Image)>, platform: Option<&Platform>) -> Result<ToSave> {
        let (mut out, mut wholes): ToSave = (Vec::new(), Vec::new());
        let mut add = |names: Vec<Reference>, image: Image| match out.iter_mut().find(|(_, known)| known.id == image.id) {
            Some((known, _)) => known.extend(names),
            None => out.push((names, image)),
        };
        for (names, image) in images {
            let mut alone = Vec::new();
            let had_names = !names.is_empty();
            for name in names {
                let index = self.db.index_named(&name.to_string())?;
                match (index, platform) {
                    (None, _) => alone.push(name),
                    (Some(index), Some(platform)) => match best(&index, platform) {
                        Some(member) => add(vec![name], self.db.image(&member.image)?.ok_or_else(|| Error::no_such("image", &member.image))?),
                        None => return Err(not_for(&name, &index, platform)),
                    },
                    (Some(index), None) => {
                        for member in assembly::members(&self.db, &index)? {
                            add(Vec::new(), member);
                        }
                        match wholes.iter_mut().find(|whole| whole.index.id == index.id) {
                            Some(whole) => whole.names.push(name),
                            None => wholes.push(Whole { names: vec![name], index, default: image.id.clone() }),
                        }
                    }
                }
            }
            if !alone.is_empty() || !had_names {
                if let Some(platform) = platform {
                    crate::image::require_platform(&image, platform)?;
                }
                add(alone, image);
            }
        }
        Ok((out, wholes))
    }

    /// Docker's `Manifests` of an inspected image, and the descriptor of the index.
    ///
    /// # Errors
    /// A member or one of its layers is gone.
    pub(super) fn index_document(&self, index: &ImageIndex, names: &[Reference]) -> Result<(Value, Value)> {
        let (made, manifests) = assembly::saved(&self.privilege.roots, &self.db, index, names)?;
        let images = assembly::members(&self.db, index)?;
        let mut entries = Vec::new();
        for (image, manifest) in images.iter().zip(&manifests) {
            let platform = platform_of(image)?;
            let mut shown = json!({ "architecture": platform.arch, "os": platform.os });
            if let Some(variant) = &platform.variant {
                shown["variant"] = json!(variant);
            }
            entries.push(json!({
                "ID": manifest.digest,
                "Descriptor": { "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size, "platform": shown },
                "Available": true,
                "Kind": "image",
                "ImageData": { "Platform": shown, "Image": image.id, "Size": { "Unpacked": image.size } },
            }));
        }
        for attached in &made.attached {
            let unknown = json!({ "architecture": "unknown", "os": "unknown" });
            entries.push(json!({
                "ID": attached.digest,
                "Descriptor": { "mediaType": media::OCI_MANIFEST, "digest": attached.digest, "size": attached.manifest.len(), "platform": unknown },
                "Available": true,
                "Kind": "attestation",
                "AttestationData": { "For": attached.subject },
            }));
        }
        let descriptor = json!({ "mediaType": media::OCI_INDEX, "digest": made.digest, "size": made.bytes.len() });
        Ok((descriptor, Value::Array(entries)))
    }

    /// Members of these names' indexes, besides one image.
    ///
    /// # Errors
    /// Database.
    pub(super) fn other_members(&self, names: &[Reference], image: &str) -> Result<HashSet<String>> {
        let mut others = HashSet::new();
        for name in names {
            let index = self.db.index_named(&name.to_string())?;
            others.extend(index.into_iter().flat_map(|index| index.members).map(|member| member.image).filter(|id| id != image));
        }
        Ok(others)
    }

    /// Removes an image that was only known through an index which is gone; false: something else needs it.
    ///
    /// # Errors
    /// Database.
    pub(super) fn remove_orphan(&self, id: &str) -> Result<bool> {
        let own: Vec<String> = self.db.names()?.into_iter().filter(|(_, of)| of == id).map(|(name, _)| name).collect();
        let tagged = own.iter().any(|name| name.parse::<Reference>().is_ok_and(|name| name.digest().is_none()));
        if tagged || self.db.index_members()?.contains(id) || self.db.containers()?.iter().any(|record| record.spec.uses_image(id)) {
            return Ok(false);
        }
        let removed = self.db.write(true, |tx| {
            own.iter().try_for_each(|name| tx.delete_name(name))?;
            tx.delete_image(id)
        });
        match removed {
            Ok(()) => Ok(true),
            Err(crate::state::Error::ImageInUse { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a name meant before a pull.
pub(in crate::engine) struct Before {
    image: Image,
    /// Digests by which registries have known it.
    digests: Vec<String>,
    index: Option<ImageIndex>,
}

/// The platform is none of the index's.
pub(in crate::engine) fn not_for(name: &Reference, index: &ImageIndex, platform: &Platform) -> Error {
    let have: Vec<&str> = index.members.iter().map(|member| member.platform.as_str()).collect();
    let message = format!("image {} is for {}, not for {platform}", name.familiar(), have.join(", "));
    Error::Invalid { message, hint: Some(format!("pull or build it with --platform {platform} first")) }
}
