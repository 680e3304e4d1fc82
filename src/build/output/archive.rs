//! The result as an OCI layout or a docker archive.

use super::Delivery;
use super::annotation::{self, Place};
use super::files::to_destination;
use super::spec::{ArchiveOutput, Destination, Shape};
use crate::base::fs;
use crate::build::error::Result;
use crate::image::{self, Archive, ArchiveTarget, CompressionFormat, CompressionSetting};
use crate::oci::Descriptor;
use std::collections::BTreeMap;
use std::io::Write;

/// When the image was made, in the index of a layout (image-spec annotations.md).
const CREATED: &str = "org.opencontainers.image.created";
/// Gzip's usual level: what layers are compressed with if nothing else is asked for.
const USUAL: CompressionSetting = CompressionSetting { format: CompressionFormat::Gzip, level: 6 };

impl Delivery<'_> {
    pub(super) fn archive(&mut self, output: &ArchiveOutput, out: &mut (dyn Write + Send)) -> Result<()> {
        let composed = self.compose(&output.shape)?;
        let names = self.names(&output.names);
        let archive = Archive {
            form: output.form,
            names: &names,
            images: &composed.images,
            index: composed.index.as_ref(),
            default: self.default(),
            setting: output.shape.compression.unwrap_or(USUAL),
            any_form: if output.shape.force { 0 } else { self.base_layers() },
            annotations: self.descriptor_annotations(&output.shape, composed.index.is_some()),
            cancel: &self.engine.cancel,
        };
        let (roots, db) = (&self.engine.privilege.roots, &self.engine.db);
        let mut written: Option<Descriptor> = None;
        match &output.to {
            Destination::File(directory) if !output.tar => {
                fs::create_dir_all(directory, 0o755)?;
                written = Some(image::write_archive(roots, db, &archive, ArchiveTarget::Layout(directory))?);
            }
            to => to_destination((to, &self.engine.cancel), out, &mut |out| {
                written = Some(image::write_archive(roots, db, &archive, ArchiveTarget::Stream(out))?);
                Ok(())
            })?,
        }
        if let Some(descriptor) = written {
            self.begun.say(&format!("manifest {}", descriptor.digest));
            self.built.manifest.get_or_insert(descriptor);
        }
        Ok(())
    }

    /// Of the descriptor of the manifest, or of the index, in the index of a layout.
    pub(super) fn descriptor_annotations(&self, shape: &Shape, has_index: bool) -> BTreeMap<String, String> {
        let place = if has_index { Place::IndexDescriptor } else { Place::ManifestDescriptor };
        let mut annotations = BTreeMap::from([(CREATED.to_owned(), self.built.created.clone())]);
        annotations.extend(annotation::of(&shape.annotations, place, self.platform(0)));
        annotations
    }
}
