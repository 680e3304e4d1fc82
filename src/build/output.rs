//! What becomes of the stages that were built: images in the store and in registries, archives, files.
//!
//! Invariant: an image is recorded only for an output that wants it in the store; the others are written from the layers
//! alone, which the build holds until it ends.

mod annotation;
mod archive;
mod config;
mod files;
mod spec;
#[cfg(test)]
mod tests;

pub use annotation::Annotation;
pub use spec::Output;
pub use spec::compression;

use super::attest::{self, Invocation, Materials};
use super::cache::{self, CacheTo, Layers};
use super::epoch::{Asked, Epoch};
use super::error::{Error, Result};
use super::progress::Begun;
use super::request::BuildRequest;
use super::rewrite::rewrite;
use super::stage::Finished;
use super::{platform, product};
use crate::engine::Engine;
use crate::image::{self, ManifestForm, PushOptions, assembly};
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::state::index::{Attestation, ImageIndex, IndexMember};
use crate::state::record::Image;
use annotation::Place;
use spec::{ImageOutput, Shape};
use std::io::Write;
use std::rc::Rc;

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Id of the image, the digest of its configuration; of several platforms that of their index, or a line for each image
    /// where the store has no name for all of them.
    pub image: String,
    /// When it was made, as its configuration says.
    pub created: String,
    /// Names that images and archives have.
    pub names: Vec<Reference>,
    /// Of the manifest or index as it was pushed, or else written to an archive, or else recorded; None: no output is an image.
    pub manifest: Option<Descriptor>,
    /// There are images of several platforms.
    pub several: bool,
}

/// What was built for one platform.
pub struct Outcome<'a> {
    pub finished: &'a Finished,
    /// The platform that was asked for; a stage may be for another.
    pub platform: &'a Platform,
    pub materials: &'a Materials,
}

/// What makes no sense together, told before anything is built. `has_index`: the result is an index.
///
/// # Errors
/// The option that is wrong.
pub fn check(request: &BuildRequest, epoch: Asked, has_index: bool) -> Result<()> {
    let hinted = |message: String, hint: &str| Err(Error::Invalid { message, hint: Some(hint.to_owned()) });
    let no_image = !request.outputs.is_empty() && request.outputs.iter().all(|output| output.shape().is_none());
    if request.cache_to.contains(&CacheTo::Inline) && no_image {
        let message = "--cache-to type=inline: no output is an image that the cache could be in".to_owned();
        return hinted(message, "write it with --cache-to type=local or registry");
    }
    // A value that says neither is told now.
    request.inline_cache()?;
    for output in &request.outputs {
        let Some(shape) = output.shape() else {
            if *output != Output::Nothing && !request.attest.is_empty() {
                let message = "--sbom and --provenance are for images, not for files (--output type=local or tar)".to_owned();
                return hinted(message, "write an image with --output type=oci,dest=FILE");
            }
            continue;
        };
        let of_index = |one: &&Annotation| matches!(one.place, Place::Index | Place::IndexDescriptor);
        if let Some(annotation) = shape.annotations.iter().find(of_index).filter(|_| !has_index) {
            let message = format!("annotation-{}.{}: an image of one platform has no index", annotation.place.name(), annotation.key);
            return hinted(message, "annotate its manifest or its manifest-descriptor");
        }
        if shape.docker_types && has_index {
            return hinted("oci-mediatypes=false: an index is written with OCI media types".to_owned(), "leave it out");
        }
        if shape.rewrite && epoch == Asked::No {
            let hint = "give it a time with --build-arg SOURCE_DATE_EPOCH=SECONDS";
            return hinted("rewrite-timestamp=true needs SOURCE_DATE_EPOCH".to_owned(), hint);
        }
        let Output::Image(image) = output else { continue };
        if image.by_digest && !request.tags.is_empty() {
            return hinted("push-by-digest: what is pushed has no tag".to_owned(), "leave --tag out, and name the repository with name=");
        }
        if image.push && image.names.is_empty() && request.tags.is_empty() {
            return hinted("an image without a name cannot be pushed".to_owned(), "name it with --tag");
        }
    }
    Ok(())
}

/// Records the images, and writes and pushes what is wanted.
///
/// # Errors
/// The store, the database, a destination, a registry.
pub fn deliver(
    engine: &Engine,
    outcomes: &[Outcome<'_>],
    (invocation, epoch): (&Invocation<'_>, Option<Epoch>),
    out: &mut (dyn Write + Send),
    begun: &Begun<'_>,
) -> Result<Built> {
    let request = invocation.request;
    let several = outcomes.len() > 1 || platform::always_index(request)?;
    let mut delivery = Delivery { engine, outcomes, invocation, epoch, begun, several, variants: [None, None], built: Built::default() };
    delivery.built.several = several;
    // Without an output an image in the store is wanted.
    let usual = [Output::store()];
    let outputs = if request.outputs.is_empty() { &usual } else { request.outputs.as_slice() };
    delivery.identify(outputs)?;
    for output in outputs {
        if engine.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match output {
            Output::Image(image) => delivery.image(image)?,
            Output::Archive(archive) => delivery.archive(archive, out)?,
            Output::Local(local) => delivery.local(local)?,
            Output::Tar { to, split } => delivery.tar(to, *split, out)?,
            Output::Nothing => {}
        }
    }
    // Steps of this build may be all that it leaves.
    image::sync_behind(&engine.privilege.roots, &engine.db)?;
    Ok(delivery.built)
}

/// One result on its way to its outputs.
struct Delivery<'a> {
    engine: &'a Engine,
    outcomes: &'a [Outcome<'a>],
    invocation: &'a Invocation<'a>,
    epoch: Option<Epoch>,
    begun: &'a Begun<'a>,
    several: bool,
    /// With the times that files have, and with rewritten ones; each made when the first output asks for it.
    variants: [Option<Rc<Vec<Part>>>; 2],
    built: Built,
}

/// The image of one platform, but for its manifest.
struct Part {
    layers: Layers,
    config: Vec<u8>,
    attestations: Vec<Attestation>,
}

/// Images as an output wants them, recorded nowhere.
struct Composed {
    images: Vec<Image>,
    index: Option<ImageIndex>,
}

impl Delivery<'_> {
    /// The platform under which a result is known. Of several each keeps its place, whatever the last stage is for.
    fn platform(&self, at: usize) -> &Platform {
        let outcome = &self.outcomes[at];
        if self.several { outcome.platform } else { &outcome.finished.platform }
    }

    /// The image that fits this host best, or else the first.
    fn default(&self) -> usize {
        let host = Platform::host();
        let ranked = (0..self.outcomes.len()).filter_map(|at| Some((host.rank(self.platform(at))?, at)));
        ranked.min().map_or(0, |(_, at)| at)
    }

    /// Layers of a base that stay as they are in every image.
    fn base_layers(&self) -> usize {
        self.outcomes.iter().map(|outcome| outcome.finished.history.base_layers).min().unwrap_or(0)
    }

    /// Says what the result is called by its content.
    fn identify(&mut self, outputs: &[Output]) -> Result<()> {
        let shape = outputs.iter().find_map(Output::shape).cloned().unwrap_or_default();
        let parts = self.variant(shape.rewrite)?;
        let ids: Vec<String> = parts.iter().map(|part| Digest::of(&part.config).to_string()).collect();
        ids.iter().for_each(|id| self.begun.say(&format!("image {id}")));
        let default = self.default();
        self.built.created = created(&parts[default].config)?;
        // An index in the store is found by its name: without one the images are told.
        let unnamed = |output: &Output| matches!(output, Output::Image(image) if image.store && image.names.is_empty());
        let is_unnamed = self.invocation.request.tags.is_empty() && outputs.iter().any(unnamed);
        self.built.image = match self.several {
            false => ids[default].clone(),
            true if is_unnamed => ids.join("\n"),
            true => {
                let composed = self.compose(&shape)?;
                self.top(&composed, &self.invocation.request.tags)?.digest.to_string()
            }
        };
        Ok(())
    }

    /// The images with the times that files have, or with rewritten ones.
    fn variant(&mut self, rewritten: bool) -> Result<Rc<Vec<Part>>> {
        if rewritten && self.epoch.is_none() {
            self.begun.say("times of layers are not rewritten: the source that SOURCE_DATE_EPOCH names has no time");
        }
        let latest = self.epoch.filter(|_| rewritten);
        let slot = usize::from(latest.is_some());
        if let Some(made) = &self.variants[slot] {
            return Ok(made.clone());
        }
        let parts = self.outcomes.iter().map(|outcome| self.part(outcome, latest)).collect::<Result<Vec<_>>>()?;
        Ok(self.variants[slot].insert(Rc::new(parts)).clone())
    }

    fn part(&self, outcome: &Outcome<'_>, latest: Option<Epoch>) -> Result<Part> {
        let (engine, request, finished) = (self.engine, self.invocation.request, outcome.finished);
        let mut state = finished.state.clone();
        request.labels.iter().for_each(|(key, value)| state.label(key, value));
        let layers = match latest {
            None => finished.layers.clone(),
            Some(latest) => {
                self.begun.say("rewriting times of layers");
                rewrite(engine, &finished.layers, finished.history.base_layers, latest)?
            }
        };
        let diff_ids: Vec<String> = engine.db.layers(&layers)?.into_iter().map(|row| row.diff_id).collect();
        let inline = request.inline_cache()?.then(|| cache::inline(&finished.history.steps, (&finished.layers, &layers), self.epoch));
        let config = config::document(&state, finished, &diff_ids, self.epoch, inline);
        let attestations = attest::attest(engine, &request.attest, (finished, outcome.materials, self.invocation), &config, self.begun)?;
        Ok(Part { layers, config, attestations })
    }

    fn compose(&mut self, shape: &Shape) -> Result<Composed> {
        let parts = self.variant(shape.rewrite)?;
        let (engine, mut images, mut members) = (self.engine, Vec::new(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            let platform = self.platform(at);
            let form = ManifestForm { docker: shape.docker_types, annotations: annotation::of(&shape.annotations, Place::Manifest, platform) };
            let config = part.config.clone();
            let image = image::compose(&engine.privilege.roots, &engine.db, &engine.registry, &part.layers, config, &form)?;
            let annotations = annotation::of(&shape.annotations, Place::ManifestDescriptor, platform);
            let (platform, attestations) = (platform.to_string(), part.attestations.clone());
            members.push(IndexMember { platform, image: image.id.clone(), attestations, annotations });
            images.push(image);
        }
        let has_index = self.several || !self.invocation.request.attest.is_empty();
        let annotations = annotation::of(&shape.annotations, Place::Index, self.platform(0));
        let index = has_index.then(|| ImageIndex { members, annotations, ..ImageIndex::default() });
        Ok(Composed { images, index })
    }

    /// The descriptor of the one manifest, or of the index.
    fn top(&self, composed: &Composed, names: &[Reference]) -> Result<Descriptor> {
        let manifests = composed.images.iter().map(image::descriptor).collect::<std::result::Result<Vec<_>, _>>()?;
        match (&composed.index, manifests.as_slice()) {
            (Some(index), _) => Ok(assembly::assemble(index, &manifests, names)?.descriptor()),
            (None, [manifest, ..]) => Ok(manifest.clone()),
            (None, []) => Err(Error::invalid("nothing was built")),
        }
    }

    /// The tags and these names, each once.
    fn names(&mut self, own: &[Reference]) -> Vec<Reference> {
        let names = distinct(self.invocation.request.tags.iter().chain(own));
        self.built.names = distinct(self.built.names.iter().chain(&names));
        names
    }

    fn image(&mut self, output: &ImageOutput) -> Result<()> {
        let composed = self.compose(&output.shape)?;
        let names = self.names(&output.names);
        if output.store {
            self.record(&composed, if output.by_digest { &[] } else { &names })?;
        }
        let mut top = self.top(&composed, &names)?;
        if output.push {
            let pushed = self.push(output, &composed, &names)?;
            (top.media_type, top.digest, top.size) = (pushed.media_type, pushed.digest, pushed.size);
        } else if self.built.manifest.is_some() {
            return Ok(());
        }
        top.annotations = self.descriptor_annotations(&output.shape, composed.index.is_some());
        self.built.manifest = Some(top);
        Ok(())
    }

    fn record(&self, composed: &Composed, names: &[Reference]) -> Result<()> {
        let (engine, roots) = (self.engine, &self.engine.privilege.roots);
        // The names of an index lead to it.
        let own = if composed.index.is_some() { &[] } else { names };
        for image in &composed.images {
            image::record_image(roots, &engine.db, &engine.registry, image, own)?;
        }
        if let Some(index) = &composed.index {
            engine.put_index(names, index.clone())?;
        }
        engine.built(&composed.images[self.default()], names);
        names.iter().for_each(|name| self.begun.say(&format!("naming to {name}")));
        Ok(())
    }

    fn push(&self, output: &ImageOutput, composed: &Composed, names: &[Reference]) -> Result<image::Pushed> {
        let setting = output.shape.compression;
        let any_form = if output.shape.force { 0 } else { self.base_layers() };
        let format = setting.map(|setting| setting.format).or(output.shape.force.then_some(image::CompressionFormat::Gzip));
        let options = PushOptions { format, level: output.shape.level, any_form, by_digest: output.by_digest };
        let begun = self.begun;
        let progress = |event: image::Progress| {
            if let image::Progress::Retrying { id, seconds, why } = event {
                begun.say(&format!("{id}: retrying in {seconds} seconds: {why}"));
            }
        };
        let mut last = None;
        for name in names {
            self.begun.say(&format!("pushing {name}"));
            let pushed = match &composed.index {
                Some(index) => self.engine.push_index(index, &composed.images, name, &options, &progress)?,
                None => self.engine.push_image(&composed.images[0], name, &options, &progress)?,
            };
            self.begun.say(&format!("pushed {name}@{}", pushed.digest));
            last = Some(pushed);
        }
        last.ok_or_else(|| Error::invalid("an image without a name cannot be pushed"))
    }

    /// The trees of files, each with the directory that it is put into.
    fn trees(&self, split: Option<bool>) -> Result<Vec<(String, std::os::fd::OwnedFd)>> {
        let results: Vec<_> = self.outcomes.iter().enumerate().map(|(at, outcome)| (&outcome.finished.layers, self.platform(at))).collect();
        product::trees(self.engine, &results, split)
    }
}

/// The time in a configuration.
fn created(config: &[u8]) -> Result<String> {
    let document = serde_json::from_slice::<crate::oci::ImageDocument>(config);
    let document = document.map_err(|e| Error::invalid(format!("the configuration of the image cannot be read: {e}")))?;
    Ok(document.created.unwrap_or_default())
}

fn distinct<'r>(names: impl Iterator<Item = &'r Reference>) -> Vec<Reference> {
    let mut seen = std::collections::BTreeSet::new();
    names.filter(|name| seen.insert(name.to_string())).cloned().collect()
}
