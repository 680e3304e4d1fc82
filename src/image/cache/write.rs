//! Writing a cache: the layers, then the config that tells what they are, then the manifest, then its name.

use super::{CACHE_CONFIG, CacheLayer, REF_NAME, too_many};
use crate::base::fs::{self, Context};
use crate::base::{Cancel, Roots, Timestamp};
use crate::image::export::{self, Blob, Sink};
use crate::image::product::{self, Archive, LayoutSink};
use crate::image::push::manifest;
use crate::image::{CompressionFormat, CompressionSetting, Error, Form, Progress, PushOptions, Pushed, RegistryConfig, bytes, content, push};
use crate::oci::{Descriptor, Digest, Reference, media};
use crate::state::{Db, record};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// What is written.
pub struct CacheExport<'a> {
    pub config: Vec<u8>,
    /// Chain ids, each of another DiffID; they need not be of one chain. The caller holds them.
    pub layers: &'a [String],
}

/// How its layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheForm {
    /// None: as they are kept, else gzip.
    pub compression: Option<CompressionSetting>,
    /// Asked for by itself: all are compressed anew.
    pub level: Option<i32>,
    /// All are compressed so, also those that are kept in another form.
    pub force: bool,
}

impl CacheExport<'_> {
    /// An image that is none, for what is done to layers of images.
    fn image(&self) -> record::Image {
        let template = serde_json::json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": { "mediaType": CACHE_CONFIG } });
        record::Image {
            id: Digest::of(&self.config).to_string(),
            config: self.config.clone(),
            manifest_digest: None,
            manifest: Some(template.to_string().into_bytes()),
            manifest_type: Some(media::OCI_MANIFEST.to_owned()),
            layers: self.layers.to_vec(),
            size: 0,
            created: Timestamp::NEVER,
            pulled: Timestamp::NEVER,
        }
    }
}

/// Pushes a cache to where `reference` (a tag) says.
///
/// # Errors
/// The registry's refusal; a layer cannot be had.
pub fn push_cache(
    (roots, db, settings): (&Roots, &Db, &RegistryConfig),
    export: &CacheExport<'_>,
    reference: &Reference,
    (form, cancel): (CacheForm, &Cancel),
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Pushed, Error> {
    too_many(export.layers.len()).map_or(Ok(()), Err)?;
    let format = form.compression.map(|setting| setting.format).or(form.force.then_some(CompressionFormat::Gzip));
    let options = PushOptions { format, level: form.level, any_form: 0, by_digest: false };
    push(roots, db, settings, &export.image(), reference, (&options, cancel), progress)
}

/// Writes a cache into an OCI layout in a directory, where other entries stay as they are. Whoever reads meanwhile, or after
/// a kill, finds the entry that was there before. `known`: layers that the directory may have; they are not compressed again.
///
/// # Errors
/// A layer cannot be read; what cannot be written.
pub fn write_cache(
    (roots, db): (&Roots, &Db),
    export: &CacheExport<'_>,
    (directory, tag): (&Path, &str),
    (form, cancel): (CacheForm, &Cancel),
    known: &[CacheLayer],
) -> Result<Descriptor, Error> {
    too_many(export.layers.len()).map_or(Ok(()), Err)?;
    content::prepare(roots)?;
    let _in_use = content::in_use(roots)?;
    let image = export.image();
    let setting = form.compression.unwrap_or(CompressionSetting::GZIP);
    let any_form = if form.compression.is_some() || form.force { 0 } else { export.layers.len() };
    let images = std::slice::from_ref(&image);
    let archive = Archive { form: Form::Oci, names: &[], images, index: None, default: 0, setting, any_form, annotations: BTreeMap::new(), cancel };
    let (mut blobs, mut done) = (BTreeMap::new(), there(directory, form, setting, known));
    let layers = product::pack(roots, db, (0, &archive), &mut done, &mut blobs)?;
    let (manifest, kind) = manifest::build(&image, &layers)?;
    let mut top =
        Descriptor { media_type: kind, digest: Digest::of(&manifest), size: manifest.len() as u64, platform: None, annotations: BTreeMap::new() };
    top.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    blobs.insert(Digest::of(&export.config), Blob::Bytes(export.config.clone()));
    blobs.insert(top.digest.clone(), Blob::Bytes(manifest));
    fs::create_dir_all(directory, 0o755)?;
    // Two builds that write here at once do not forget each other's entry.
    let turn = std::fs::File::open(directory).on("open", directory)?;
    match rustix::fs::flock(&turn, FlockOperation::LockExclusive) {
        // A filesystem without locks.
        Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {}
        other => other.on("lock", directory)?,
    }
    let entries = product::others(directory, vec![top.clone()])?;
    let mut sink: Box<dyn Sink + '_> = Box::new(LayoutSink(directory.to_owned(), cancel));
    export::put_marker(&mut *sink)?;
    let open = |_: usize, layer: usize| bytes::layer_bytes(roots, db, &image, layer);
    export::write_layout(&blobs, entries, None, &open, &mut *sink)?;
    sink.finish()?;
    Ok(top)
}

/// Those of the layers that are in the directory, in the form that is asked for: blobs by the digests of their tars.
fn there(directory: &Path, form: CacheForm, setting: CompressionSetting, known: &[CacheLayer]) -> BTreeMap<Digest, Descriptor> {
    if form.level.is_some() || form.force {
        return BTreeMap::new();
    }
    let is_there = |layer: &&CacheLayer| {
        let path = directory.join(export::blob_name(&layer.blob.digest));
        layer.blob.media_type == setting.media_type() && std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == layer.blob.size)
    };
    known.iter().filter(is_there).map(|layer| (layer.diff_id.clone(), layer.blob.clone())).collect()
}
