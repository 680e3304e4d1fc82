//! Images: pull, load, save, list, tag, remove, prune, inspect.
//!
//! A name in the database is a full reference: a tag (`docker.io/library/busybox:latest`) or a digest
//! (`…@sha256:…`); both point to an image by its id, the digest of its config.

use super::*;
use crate::base::ErrorKind;
use crate::engine::{events, filter};
use crate::image::{Form, Output};
use crate::oci::{ImageDocument, Platform};
use record::Image;
use serde_json::{Value, json};
use std::collections::HashMap;

const KNOWN: &[&str] = &["dangling", "label", "label!", "before", "since", "until", "reference"];
const KNOWN_PRUNE: &[&str] = &["dangling", "until", "label", "label!"];
/// Digits of a whole id.
const HEX_LIMIT: usize = 64;

impl Engine {
    /// # Errors
    /// `Invalid` for a malformed reference or platform; the registry's failure.
    pub fn pull(&self, reference: &str, platform: Option<&str>, progress: &(dyn Fn(Progress) + Sync)) -> Result<crate::image::Pulled> {
        let parsed = parse_reference(reference)?;
        let platform = match platform {
            Some(text) => text.parse().map_err(Error::invalid)?,
            None => Platform::host(),
        };
        let pulled = crate::image::pull(&self.privilege.roots, &self.db, &self.registry, &parsed, &platform, &self.cancel, progress)?;
        self.emit([events::of_image(&pulled.image, "pull", &parsed.familiar(), &parsed.familiar_name())]);
        Ok(pulled)
    }

    /// Tells that a build has made an image and given it these names.
    pub fn built(&self, image: &Image, names: &[Reference]) {
        self.emit(names.iter().map(|name| events::of_image(image, "tag", &image.id, &name.familiar())));
    }

    /// Loads an archive and returns what it held: the name of each image (`busybox:latest`), or its id
    /// (`sha256:…`) where the archive names none. Of several platforms the host's is taken, or the one asked for.
    ///
    /// # Errors
    /// `Invalid` for a malformed platform; what is wrong with the archive.
    pub fn load(&self, archive: &mut (dyn Read + Send), platform: Option<&str>, progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<String>> {
        let platform = platform.map(str::parse::<Platform>).transpose().map_err(Error::invalid)?;
        let loaded = crate::image::load(&self.privilege.roots, &self.db, &self.registry, archive, platform.as_ref(), progress)?;
        self.emit(loaded.iter().map(|(name, image)| {
            let name = name.as_ref().map_or_else(|| image.id.clone(), Reference::familiar);
            events::of_image(image, "load", &image.id, &name)
        }));
        Ok(loaded.into_iter().map(|(name, image)| name.map_or(image.id, |n| n.familiar())).collect())
    }

    /// The images that `save` is to write with the names they carry there: a name given by tag carries that tag,
    /// one given by id none (as with Docker). A repository without a tag means all its tags.
    fn to_save(&self, names: &[String]) -> Result<Vec<(Vec<Reference>, Image)>> {
        let table = self.db.names()?;
        let mut images: Vec<(Vec<Reference>, Image)> = Vec::new();
        for name in names {
            let view = self.image(name)?;
            let given = name.parse::<Reference>().ok();
            let mut add = |tags: Vec<Reference>, image: Image| match images.iter_mut().find(|(_, i)| i.id == image.id) {
                Some((known, _)) => tags.into_iter().for_each(|t| {
                    if !known.contains(&t) {
                        known.push(t)
                    }
                }),
                None => images.push((tags, image)),
            };
            let whole_repository =
                given.as_ref().is_some_and(|g| g.digest().is_none() && !names_a_tag(name) && view.tags.iter().any(|t| same_repository(t, g)));
            if let (true, Some(given)) = (whole_repository, &given) {
                for (text, id) in &table {
                    let Ok(tag) = text.parse::<Reference>() else { continue };
                    if tag.digest().is_none()
                        && same_repository(&tag, given)
                        && let Some(image) = self.db.image(id)?
                    {
                        add(vec![tag], image);
                    }
                }
            } else {
                let tags = view.tags.iter().filter(|t| Some(*t) == given.as_ref()).cloned().collect();
                add(tags, view.image);
            }
        }
        Ok(images)
    }

    /// Writes images in the form asked for, indexes whole. `platform`: what they must be for; of an index that member alone.
    ///
    /// # Errors
    /// `NoSuch` names the missing image, `Invalid` the platform or form that does not fit, before anything is
    /// written; a damaged layer; the output.
    pub fn save(&self, names: &[String], platform: Option<&str>, form: Form, out: Output<'_>) -> Result<()> {
        let platform = platform.map(str::parse::<Platform>).transpose().map_err(Error::invalid)?;
        let (images, wholes) = self.whole_or_part(self.to_save(names)?, platform.as_ref())?;
        if form == Form::Dir && !wholes.is_empty() {
            let message = "the docker-dir format holds one image, not an index".to_owned();
            return Err(Error::Invalid { message, hint: Some("choose one with --platform, or use --format oci-dir".to_owned()) });
        }
        if form == Form::Dir && images.len() > 1 {
            let message = format!("the docker-dir format holds one image, not {}", images.len());
            return Err(Error::Invalid { message, hint: Some("save them one by one, or with --format oci-dir".to_owned()) });
        }
        crate::image::save(&self.privilege.roots, &self.db, &images, &wholes, form, out)?;
        self.emit(images.iter().map(|(_, image)| events::of_image(image, "save", &image.id, &image.id)));
        Ok(())
    }

    /// A file of the web as a stream, for [`Engine::import`].
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn open_url(&self, url: &str) -> Result<crate::image::Download> {
        Ok(crate::image::open_url(url, &self.cancel, Some(self.registry.limits.source_size))?.body)
    }

    /// The id of the image that a name means for a platform; one that is for another is refused.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`; `Invalid` for a malformed platform; the platform it is for.
    pub fn require_platform(&self, name: &str, platform: &str) -> Result<String> {
        let platform: Platform = platform.parse().map_err(Error::invalid)?;
        if let Some(member) = self.member_for(name, &platform)? {
            return Ok(member.id);
        }
        let image = self.image(name)?.image;
        crate::image::require_platform(&image, &platform)?;
        Ok(image.id)
    }

    /// Newest first.
    ///
    /// # Errors
    /// `Invalid` names an unknown filter or a malformed value; `NoSuch` the image of `before` or `since`.
    pub fn images(&self, filters: &Filters) -> Result<Vec<ImageView>> {
        filter::require_known(filters, KNOWN)?;
        let dangling = filter::boolean(filters, "dangling")?;
        let until = filter::until(filters)?;
        let created = |key| -> Result<Vec<Timestamp>> { filter::values(filters, key).map(|name| Ok(self.image(name)?.image.created)).collect() };
        let (before, since) = (created("before")?, created("since")?);
        let mut views = self.image_views()?;
        views.retain_mut(|view| {
            if dangling.is_some_and(|wanted| wanted != view.tags.is_empty()) || until.is_some_and(|t| view.image.created >= t) {
                return false;
            }
            if before.iter().any(|t| view.image.created >= *t) || since.iter().any(|t| view.image.created <= *t) {
                return false;
            }
            if !labels_match(filters, &view.image) {
                return false;
            }
            // A pattern also hides the other names of the image.
            if filters.iter().any(|(key, _)| key == "reference") {
                view.tags.retain(|tag| filter::any(filters, "reference", |p| matches_reference(p, tag)));
                view.digests.retain(|d| filter::any(filters, "reference", |p| matches_reference(p, d)));
                return !(view.tags.is_empty() && view.digests.is_empty());
            }
            true
        });
        Ok(views)
    }

    /// The image a user means: a local name (with `latest` by default), a digest, an id, or a unique prefix of one.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`.
    pub fn image(&self, name: &str) -> Result<ImageView> {
        let id = self.image_id(name)?;
        let image = self.db.image(&id)?.ok_or_else(|| Error::no_such("image", name))?;
        let names = self.db.names()?;
        let containers = self.db.containers()?.iter().filter(|c| c.spec.image_id == id).count();
        Ok(view_image(image, &names, containers))
    }

    /// Docker's document of an image.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`; a damaged config document.
    pub fn inspect_image(&self, name: &str) -> Result<Value> {
        let view = self.image(name)?;
        let layers = self.db.layers(&view.image.layers)?;
        let mut document = image_document(&view, &layers, &self.privilege.roots.layers())?;
        if let Some(index) = self.index_of(name)? {
            let names: Vec<Reference> = name.parse().into_iter().filter(|name: &Reference| name.digest().is_none()).collect();
            (document["Descriptor"], document["Manifests"]) = self.index_document(&index, &names)?;
        }
        Ok(document)
    }

    /// Points another name at an image, silently moving it.
    ///
    /// # Errors
    /// `NoSuch` for the source; `Invalid` for a target that is no name.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let parsed = parse_reference(target)?;
        if parsed.digest().is_some() {
            return Err(Error::invalid(format!("cannot tag \"{target}\": a tag cannot have a digest")));
        }
        // "sha256:…" would read as an image's id from then on.
        let name = parsed.repository().rsplit('/').next().unwrap_or_default();
        if matches!(name, "sha256" | "sha512") {
            return Err(Error::invalid(format!("cannot tag \"{target}\": {name} is the name of a digest algorithm")));
        }
        let id = self.image_id(source)?;
        let index = self.index_of(source)?;
        self.db.write(true, |tx| {
            tx.put_name(&parsed.to_string(), &id)?;
            index.iter().try_for_each(|index| tx.put_index(&parsed.to_string(), index)).map_err(Error::from)
        })?;
        if let Some(image) = self.db.image(&id)? {
            self.emit([events::of_image(&image, "tag", &id, &parsed.familiar())]);
        }
        Ok(())
    }

    /// Removes names that no image's layers need; the rules are in `image/removal.rs`.
    ///
    /// # Errors
    /// `Invalid` names an unknown filter.
    pub fn prune_images(&self, all: bool, filters: &Filters) -> Result<Pruned> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let until = filter::until(filters)?;
        // Docker's client sends `dangling=false` for `-a`.
        let all = all || filter::boolean(filters, "dangling")? == Some(false);
        let mut pruned = Pruned::default();
        for view in self.image_views()? {
            let wanted = view.containers == 0
                && (all || view.tags.is_empty())
                && until.is_none_or(|t| view.image.created < t)
                && labels_match(filters, &view.image);
            if !wanted {
                continue;
            }
            // A container of it, or a name, may have been made since: then it is kept.
            if let Some(removed) = self.delete_if_unused(&view)? {
                // Docker's words are in lower case here.
                pruned.deleted.extend(removed.untagged.iter().chain(&removed.deleted).map(|line| lower_first(line)));
            }
        }
        pruned.reclaimed = crate::image::collect_garbage(&self.privilege.roots, &self.db, true)?;
        self.emit([events::of_prune(EventKind::Image, pruned.reclaimed)]);
        Ok(pruned)
    }

    /// Ids of every image that is, or is built on, one of these (`ps --filter ancestor`). A missing one matches nothing.
    pub(super) fn descendants(&self, ancestors: &[&str]) -> Result<Vec<String>> {
        let images = self.db.images()?;
        let mut bases = Vec::new();
        for name in ancestors {
            match self.image_id(name) {
                Ok(id) => bases.extend(images.iter().find(|i| i.id == id)),
                Err(Error::NoSuch { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let descends = |image: &&Image| bases.iter().any(|b| image.id == b.id || (!b.layers.is_empty() && image.layers.starts_with(&b.layers)));
        Ok(images.iter().filter(descends).map(|i| i.id.clone()).collect())
    }

    pub(super) fn image_id(&self, name: &str) -> Result<String> {
        if let Ok(reference) = name.parse::<Reference>() {
            if let Some(id) = self.db.image_named(&reference.to_string())? {
                return Ok(id);
            }
            if let Some(digest) = reference.digest()
                && let Some(id) = self.db.image_named(&reference.with_digest(digest).to_string())?
            {
                return Ok(id);
            }
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.is_empty() || hex.len() > HEX_LIMIT || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(self.no_such("image", name));
        }
        let mut found = self.db.images_by_prefix(hex)?;
        // An index is also known by its id: then what fits this host is meant.
        for (index, _) in self.db.indexes_by_prefix(hex)? {
            found.extend(self.db.image_named(&index)?.filter(|id| !found.contains(id)));
        }
        match found.len() {
            0 => Err(self.no_such("image", name)),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous { what: "image", name: name.to_owned() }),
        }
    }

    /// Those that only an index names are shown with it.
    fn image_views(&self) -> Result<Vec<ImageView>> {
        let members = self.db.index_members()?;
        let mut views = self.every_image()?;
        views.retain(|view| !view.tags.is_empty() || !members.contains(&view.image.id));
        Ok(views)
    }

    /// All images, also those that are known through an index alone; newest first.
    pub(super) fn every_image(&self) -> Result<Vec<ImageView>> {
        let names = self.db.names()?;
        let mut users: HashMap<String, usize> = HashMap::new();
        for container in self.db.containers()? {
            *users.entry(container.spec.image_id).or_default() += 1;
        }
        let mut by_id: HashMap<&str, Vec<(String, String)>> = HashMap::new();
        for pair in &names {
            by_id.entry(&pair.1).or_default().push(pair.clone());
        }
        let mut views: Vec<ImageView> = Vec::new();
        for image in self.db.images()? {
            let own = by_id.get(image.id.as_str()).map_or(&[][..], Vec::as_slice);
            let containers = users.get(&image.id).copied().unwrap_or(0);
            views.push(view_image(image, own, containers));
        }
        views.sort_by(|a, b| b.image.created.cmp(&a.image.created).then_with(|| a.image.id.cmp(&b.image.id)));
        Ok(views)
    }
}

pub(super) fn view_image(image: Image, names: &[(String, String)], containers: usize) -> ImageView {
    let own = names.iter().filter(|(_, id)| *id == image.id).filter_map(|(name, _)| name.parse::<Reference>().ok());
    let (mut digests, mut tags): (Vec<_>, Vec<_>) = own.partition(|r| r.digest().is_some());
    tags.sort_by_key(Reference::to_string);
    digests.sort_by_key(Reference::to_string);
    ImageView { image, tags, digests, containers }
}

pub(super) fn parse_reference(text: &str) -> Result<Reference> {
    text.parse().map_err(Error::invalid)
}

pub(super) fn same_repository(a: &Reference, b: &Reference) -> bool {
    a.registry() == b.registry() && a.repository() == b.repository()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// True if the text has a tag of its own (a colon behind the last slash).
fn names_a_tag(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// `reference=` globs: against `busybox`, `busybox:latest` and the full forms.
fn matches_reference(pattern: &str, name: &Reference) -> bool {
    let full = name.to_string();
    let full_name = format!("{}/{}", name.registry(), name.repository());
    [name.familiar(), name.familiar_name(), full, full_name].iter().any(|text| filter::glob(pattern, text))
}

/// What the configuration of an image says.
///
/// # Errors
/// It cannot be read: that is damage, and not an image without any setting.
pub(in crate::engine) fn described(image: &Image) -> Result<ImageDocument> {
    serde_json::from_slice(&image.config).map_err(|source| Error::Failed {
        operation: format!("read the config of image {}", image.id),
        kind: ErrorKind::Internal,
        source: Box::new(source),
    })
}

/// Whether the filters about labels let an image through. One whose labels cannot be read matches none of them, so that nothing
/// is removed for what it lacks; without such filters it is an image like others.
fn labels_match(filters: &Filters, image: &Image) -> bool {
    if !filters.iter().any(|(key, _)| key.starts_with("label")) {
        return true;
    }
    match described(image) {
        Ok(document) => filter::labels_match(filters, &document.config.and_then(|config| config.labels).unwrap_or_default()),
        Err(error) => {
            tracing::warn!("{error}: it is left out, for its labels are not known");
            false
        }
    }
}

/// The image's `Config` with Docker's zero values where it says nothing: scripts ask for `.Config.User` of every image.
fn full_config(own: Option<&Value>) -> Value {
    let mut full = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
        "OpenStdin": false, "StdinOnce": false, "Env": [], "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": null,
    });
    let fields = full.as_object_mut().expect("invariant: built as an object");
    fields.extend(own.and_then(Value::as_object).cloned().unwrap_or_default());
    full
}

/// Docker's `image inspect` document. Fields of the image's own `Config` are as they are, also those that we do not know.
pub(super) fn image_document(view: &ImageView, layers: &[record::Layer], layers_dir: &Path) -> Result<Value> {
    let image = &view.image;
    let damaged = |source: serde_json::Error| Error::Failed {
        operation: format!("read the config of image {}", image.id),
        kind: ErrorKind::Internal,
        source: Box::new(source),
    };
    let raw: Value = serde_json::from_slice(&image.config).map_err(damaged)?;
    let document = described(image)?;
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let directory = |l: &record::Layer| layers_dir.join(&l.dir).join("diff").to_string_lossy().into_owned();
    // Docker lists the topmost directory as UpperDir and the others, top first, as LowerDir.
    let mut directories: Vec<String> = layers.iter().rev().map(directory).collect();
    let upper = if directories.is_empty() { None } else { Some(directories.remove(0)) };
    let mut data = serde_json::Map::new();
    if !directories.is_empty() {
        data.insert("LowerDir".to_owned(), json!(directories.join(":")));
    }
    if let Some(upper) = upper {
        data.insert("UpperDir".to_owned(), json!(upper));
    }
    let mut out = json!({
        "Id": image.id,
        "RepoTags": view.tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": view.digests.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "Parent": "",
        "Comment": document.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": document.created.clone().unwrap_or_else(|| Timestamp::NEVER.to_string()),
        "DockerVersion": text("docker_version"),
        "Author": document.author.clone().unwrap_or_default(),
        "Config": full_config(raw.get("config")),
        "Architecture": document.architecture,
    });
    let object = out.as_object_mut().expect("invariant: built as an object");
    if let Some(variant) = &document.variant {
        object.insert("Variant".to_owned(), json!(variant));
    }
    object.insert("Os".to_owned(), json!(document.os));
    object.insert("Size".to_owned(), json!(image.size));
    object.insert("GraphDriver".to_owned(), json!({ "Data": data, "Name": "overlay2" }));
    object.insert("RootFS".to_owned(), json!({ "Type": "layers", "Layers": document.rootfs.diff_ids }));
    object.insert("Metadata".to_owned(), json!({ "LastTagTime": image.pulled.to_string() }));
    if let (Some(digest), Some(manifest)) = (&image.manifest_digest, &image.manifest) {
        let media = image.manifest_type.clone().unwrap_or_default();
        object.insert("Descriptor".to_owned(), json!({ "mediaType": media, "digest": digest, "size": manifest.len() }));
    }
    Ok(out)
}

pub(super) mod changes;
mod history;
mod import;
pub(super) mod index;
mod removal;

pub use history::Step;
pub use import::ImportOptions;
