//! Images between this host and registries, beyond pulling one: push, all tags, manifest lists, search, artifacts.

use super::filter;
use super::image::{parse_reference, same_repository};
use super::*;
use crate::image::{Found, PushOptions, Pushed, artifact, index};
use crate::oci::{Document, Platform};
use crate::state::sources::{ListMember, ManifestList};
use serde_json::{Value, json};
use std::path::PathBuf;

const KNOWN_SEARCH: &[&str] = &["stars", "is-official"];
/// Most results of a search, as with Docker.
const SEARCH_LIMIT: usize = 100;
/// Version of a stored manifest list.
const LIST_VERSION: u32 = 1;

/// A manifest as `manifest inspect` shows it.
pub struct ManifestView {
    /// Full reference, with the digest.
    pub reference: String,
    pub media_type: String,
    pub digest: String,
    pub bytes: Vec<u8>,
    /// `platform` of its entry in an index.
    pub platform: Option<Value>,
    /// It is one of the members of an index that was asked for.
    pub of_list: bool,
}

/// What `manifest annotate` changes; None and empty change nothing.
#[derive(Debug, Clone, Default)]
pub struct ListAnnotation {
    pub os: Option<String>,
    pub architecture: Option<String>,
    pub variant: Option<String>,
    pub os_version: Option<String>,
    pub os_features: Vec<String>,
}

/// Files to be pushed as an artifact.
pub struct ArtifactRequest {
    pub artifact_type: String,
    /// Media type of the files.
    pub file_type: String,
    /// What it is about: a tag or digest of the same repository.
    pub subject: Option<String>,
    pub annotations: Vec<(String, String)>,
    pub files: Vec<PathBuf>,
}

impl Engine {
    /// What `push NAME` means: the tag, or every tag of the repository here.
    ///
    /// # Errors
    /// `Invalid` for a digest, or a tag beside `all`; `NoSuch` if nothing here has the name.
    pub fn push_references(&self, name: &str, all: bool) -> Result<Vec<Reference>> {
        let reference = parse_reference(name)?;
        if reference.digest().is_some() {
            return Err(Error::invalid(format!("cannot push \"{name}\": a digest names what exists already; push a tag")));
        }
        if !all {
            if self.db.image_named(&reference.to_string())?.is_none() {
                return Err(Error::Invalid {
                    message: format!("An image does not exist locally with the tag: {}", reference.familiar_name()),
                    hint: Some(format!("name one with: rcon tag IMAGE {}", reference.familiar())),
                });
            }
            return Ok(vec![reference]);
        }
        require_no_tag(name)?;
        let names = self.db.names()?.into_iter().filter_map(|(name, _)| name.parse::<Reference>().ok());
        let tags: Vec<Reference> = names.filter(|tag| tag.digest().is_none() && same_repository(tag, &reference)).collect();
        if tags.is_empty() {
            return Err(Error::invalid(format!("An image does not exist locally with the tag: {}", reference.familiar_name())));
        }
        Ok(tags)
    }

    /// Pushes one tag ([`Engine::push_references`]): an index with all its images, or the one for a platform.
    ///
    /// # Errors
    /// `NoSuch`; `Invalid` when the image is not for `platform`; the registry's refusal.
    pub fn push(&self, reference: &Reference, platform: Option<&str>, options: &PushOptions, progress: &(dyn Fn(Progress) + Sync)) -> Result<Pushed> {
        let mut view = self.image(&reference.to_string())?;
        let index = self.db.index_named(&reference.to_string())?;
        if let Some(index) = index.as_ref().filter(|_| platform.is_none()) {
            let images = crate::image::assembly::members(&self.db, index)?;
            return self.push_index(index, &images, reference, options, progress);
        }
        if let Some(text) = platform {
            let wanted: Platform = text.parse().map_err(Error::invalid)?;
            if let Some(index) = &index {
                let member = self.member_for(&reference.to_string(), &wanted)?;
                view.image = member.ok_or_else(|| super::image::index::not_for(reference, index, &wanted))?;
            }
            let have = super::image::index::platform_of(&view.image)?;
            if have != wanted {
                let message = format!("image {} is for {have}, not for {wanted}", reference.familiar());
                return Err(Error::Invalid { message, hint: Some(format!("pull it with --platform {wanted} first")) });
            }
        }
        self.push_image(&view.image, reference, options, progress)
    }

    /// Pushes an image, recorded or not, to where `reference` says.
    ///
    /// # Errors
    /// The registry's refusal; a layer is gone.
    pub fn push_image(
        &self,
        image: &crate::state::record::Image,
        reference: &Reference,
        options: &PushOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Pushed> {
        let pushed = crate::image::push(&self.privilege.roots, &self.db, &self.registry, image, reference, (options, &self.cancel), progress)?;
        self.emit([super::events::of_image(image, "push", &reference.familiar(), &reference.familiar_name())]);
        Ok(pushed)
    }

    /// Pushes an index and these images of it, recorded or not, to where `reference` says.
    ///
    /// # Errors
    /// The registry's refusal; a layer is gone.
    pub fn push_index(
        &self,
        index: &crate::state::index::ImageIndex,
        images: &[crate::state::record::Image],
        reference: &Reference,
        options: &PushOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Pushed> {
        let (roots, registry) = (&self.privilege.roots, &self.registry);
        let pushed = crate::image::assembly::push(roots, &self.db, registry, (index, images), reference, (options, &self.cancel), progress)?;
        let told = images.iter().map(|image| super::events::of_image(image, "push", &reference.familiar(), &reference.familiar_name()));
        self.emit(told.take(1));
        Ok(pushed)
    }

    /// Every tag of a repository of a registry.
    ///
    /// # Errors
    /// `Invalid` for a name with a tag or digest; the registry's refusal.
    pub fn remote_tags(&self, name: &str) -> Result<Vec<Reference>> {
        let repository = parse_reference(name)?;
        require_no_tag(name)?;
        let tags = crate::image::remote_tags(&self.registry, &repository)?;
        // What a registry calls a tag need not be one.
        tags.iter().map(|tag| parse_reference(&format!("{}:{tag}", repository.name()))).collect()
    }

    /// Repositories of a registry (`host/term`, or Docker's) that match a word.
    ///
    /// # Errors
    /// `Invalid` for a limit or filter that is none; the registry's refusal.
    pub fn search(&self, term: &str, limit: usize, filters: &Filters) -> Result<Vec<Found>> {
        if !(1..=SEARCH_LIMIT).contains(&limit) {
            return Err(Error::invalid(format!("invalid --limit {limit}: it must be 1 to {SEARCH_LIMIT}")));
        }
        filter::require_known(filters, KNOWN_SEARCH)?;
        let official = filter::boolean(filters, "is-official")?;
        let stars = filter::values(filters, "stars")
            .map(|text| text.parse::<u64>().map_err(|_| Error::invalid(format!("invalid filter \"stars={text}\": expected a number"))));
        let stars = stars.collect::<Result<Vec<_>>>()?;
        let (host, word) = match term.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
            _ => ("docker.io", term),
        };
        let word = word.strip_prefix("library/").filter(|_| host == "docker.io").unwrap_or(word);
        if word.is_empty() {
            return Err(Error::invalid(format!("invalid search term \"{term}\": it names no repository")));
        }
        let mut found = crate::image::search(&self.registry, host, word, limit)?;
        found.retain(|found| official.is_none_or(|wanted| wanted == found.is_official) && stars.iter().all(|least| found.star_count >= *least));
        if host != "docker.io" {
            found.iter_mut().for_each(|found| found.name = format!("{host}/{}", found.name));
        }
        Ok(found)
    }

    fn allowing(&self, insecure: bool, names: &[&Reference]) -> RegistryConfig {
        let mut config = self.registry.clone();
        if insecure {
            config.insecure.extend(names.iter().map(|name| name.registry().to_owned()));
        }
        config
    }

    /// Makes a local manifest list, or adds to one with `amend`. Returns its full name.
    ///
    /// # Errors
    /// `Conflict` if it exists and is not amended; a member that cannot be read.
    pub fn create_manifest_list(&self, name: &str, members: &[String], amend: bool, insecure: bool) -> Result<String> {
        let list = parse_list(name)?;
        let full = list.to_string();
        let existing = self.db.manifest_list(&full)?;
        if existing.is_some() && !amend {
            return Err(exists(&full));
        }
        let mut fetched = Vec::new();
        for text in members {
            let reference = parse_reference(text)?;
            fetched.push(index::member(&self.allowing(insecure, &[&reference]), &reference)?);
        }
        self.db.write(true, |tx| {
            // Another command may have changed it while the registry was asked.
            let mut now = self.db.manifest_list(&full)?.unwrap_or_default();
            if !amend && !now.members.is_empty() {
                return Err(exists(&full));
            }
            now.version = LIST_VERSION;
            for member in fetched {
                now.members.retain(|old| old.reference != member.reference);
                now.members.push(member);
            }
            tx.put_manifest_list(&full, &now).map_err(Error::from)
        })?;
        Ok(full)
    }

    fn manifest_list(&self, name: &str) -> Result<(Reference, ManifestList)> {
        let reference = parse_list(name)?;
        let list = self.db.manifest_list(&reference.to_string())?;
        list.map(|list| (reference, list)).ok_or_else(|| Error::no_such("manifest", name))
    }

    /// Sets the platform of a member of a local manifest list.
    ///
    /// # Errors
    /// `NoSuch` for the list or the member.
    pub fn annotate_manifest_list(&self, name: &str, member: &str, change: &ListAnnotation) -> Result<()> {
        let full = self.manifest_list(name)?.0.to_string();
        let wanted = parse_reference(member)?;
        self.db.write(true, |tx| {
            let mut list = self.db.manifest_list(&full)?.ok_or_else(|| Error::no_such("manifest", name))?;
            let entry = list.members.iter_mut().find(|entry| is_named(entry, &wanted));
            let entry = entry.ok_or_else(|| Error::no_such("manifest", format!("{member} in {name}")))?;
            let set = |field: &mut String, value: &Option<String>| {
                if let Some(value) = value {
                    field.clone_from(value);
                }
            };
            set(&mut entry.os, &change.os);
            set(&mut entry.architecture, &change.architecture);
            set(&mut entry.variant, &change.variant);
            set(&mut entry.os_version, &change.os_version);
            for feature in change.os_features.iter().filter(|feature| !feature.is_empty()) {
                if !entry.os_features.contains(feature) {
                    entry.os_features.push(feature.clone());
                }
            }
            let text = format!("{}/{}", entry.os, entry.architecture);
            text.parse::<Platform>().map_err(Error::invalid)?;
            tx.put_manifest_list(&full, &list).map_err(Error::from)
        })
    }

    /// Pushes a local manifest list, with those members that its repository lacks.
    ///
    /// # Errors
    /// `NoSuch`; the registry's refusal.
    pub fn push_manifest_list(&self, name: &str, purge: bool, insecure: bool, progress: &(dyn Fn(Progress) + Sync)) -> Result<Pushed> {
        let (reference, list) = self.manifest_list(name)?;
        let members: Vec<Reference> = list.members.iter().filter_map(|member| member.reference.parse().ok()).collect();
        let mut names: Vec<&Reference> = members.iter().collect();
        names.push(&reference);
        let pushed = index::push(&self.privilege.roots, &self.allowing(insecure, &names), &list, &reference, progress)?;
        if purge {
            self.db.write(true, |tx| tx.delete_manifest_list(&reference.to_string()).map_err(Error::from))?;
        }
        Ok(pushed)
    }

    /// # Errors
    /// `NoSuch`.
    pub fn remove_manifest_list(&self, name: &str) -> Result<()> {
        let reference = parse_list(name)?;
        match self.db.write(true, |tx| tx.delete_manifest_list(&reference.to_string()).map_err(Error::from))? {
            true => Ok(()),
            false => Err(Error::no_such("manifest", name)),
        }
    }

    /// A member of a local list, a local list, or what a registry has under the name; in detail: each member of an
    /// index instead of the index.
    ///
    /// # Errors
    /// `NoSuch`; the registry's refusal.
    pub fn inspect_manifest(&self, list: Option<&str>, name: &str, detail: bool, insecure: bool) -> Result<Vec<ManifestView>> {
        let reference = parse_reference(name)?;
        if let Some(list) = list {
            let (_, found) = self.manifest_list(list)?;
            let entry = found.members.iter().find(|entry| is_named(entry, &reference));
            let entry = entry.ok_or_else(|| Error::no_such("manifest", format!("{name} in {list}")))?;
            return Ok(vec![member_view(entry, false)]);
        }
        if let Some(local) = self.db.manifest_list(&reference.to_string())? {
            if detail {
                return Ok(local.members.iter().map(|entry| member_view(entry, true)).collect());
            }
            let (bytes, kind) = index::build(&local)?;
            return Ok(vec![view(&reference, kind.to_owned(), crate::oci::Digest::of(&bytes).to_string(), bytes)]);
        }
        let config = self.allowing(insecure, &[&reference]);
        let remote = index::read(&config, &reference)?;
        let Document::Index(found) = &remote.document else {
            return Ok(vec![view(&reference, remote.media_type, remote.raw.digest.to_string(), remote.raw.bytes)]);
        };
        if !detail {
            return Ok(vec![view(&reference, remote.media_type, remote.raw.digest.to_string(), remote.raw.bytes)]);
        }
        let mut views = Vec::new();
        for entry in &found.manifests {
            let by_digest = reference.with_digest(entry.digest.as_str());
            let member = index::read(&config, &by_digest)?;
            let mut shown = view(&by_digest, member.media_type, entry.digest.to_string(), member.raw.bytes);
            shown.reference = format!("{}@{}", reference, entry.digest);
            shown.platform = entry.platform.as_ref().and_then(|platform| serde_json::to_value(platform).ok());
            shown.of_list = true;
            views.push(shown);
        }
        Ok(views)
    }

    /// The index of manifests that have the named one as their subject.
    ///
    /// # Errors
    /// The registry's refusal.
    pub fn referrers(&self, name: &str, artifact_type: Option<&str>, insecure: bool) -> Result<Value> {
        let reference = parse_reference(name)?;
        let found = index::referrers(&self.allowing(insecure, &[&reference]), &reference, artifact_type)?;
        Ok(json!({ "schemaVersion": 2, "mediaType": crate::oci::media::OCI_INDEX, "manifests": found.manifests }))
    }

    /// Pushes files as an artifact.
    ///
    /// # Errors
    /// `Invalid` for a subject in another repository; an unreadable file; the registry's refusal.
    pub fn push_artifact(&self, name: &str, request: &ArtifactRequest, progress: &(dyn Fn(Progress) + Sync)) -> Result<Pushed> {
        let target = parse_reference(name)?;
        if target.digest().is_some() {
            return Err(Error::invalid(format!("cannot push \"{name}\": a digest names what exists already; push a tag")));
        }
        let subject = request.subject.as_deref().map(parse_reference).transpose()?;
        if let Some(other) = subject.as_ref().filter(|subject| !same_repository(subject, &target)) {
            return Err(Error::invalid(format!("--subject {}: it must be in the repository {}", other.familiar(), target.familiar_name())));
        }
        let tagged = subject.is_none() || has_tag(name);
        let what = artifact::Artifact {
            artifact_type: &request.artifact_type,
            file_type: &request.file_type,
            files: &request.files,
            annotations: &request.annotations,
            subject: subject.as_ref(),
        };
        Ok(artifact::push(&self.registry, &target, tagged, &what, progress)?)
    }

    /// Writes the files of an artifact into a directory; returns its digest and their paths.
    ///
    /// # Errors
    /// It is no artifact, or what the registry or the host refuses.
    pub fn pull_artifact(&self, name: &str, directory: &Path) -> Result<(String, Vec<PathBuf>)> {
        let (digest, files) = artifact::pull(&self.registry, &parse_reference(name)?, directory)?;
        Ok((digest.to_string(), files))
    }
}

/// True if the text has a tag of its own (a colon behind the last slash).
fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

fn require_no_tag(name: &str) -> Result<()> {
    if has_tag(name) || name.contains('@') {
        return Err(Error::invalid(format!("invalid name \"{name}\": tag can't be used with --all-tags/-a")));
    }
    Ok(())
}

fn parse_list(name: &str) -> Result<Reference> {
    let reference = parse_reference(name)?;
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("invalid manifest list name \"{name}\": it cannot have a digest")));
    }
    Ok(reference)
}

fn exists(name: &str) -> Error {
    let message = format!("manifest list {name} exists: refusing to amend an existing manifest list with no --amend flag");
    Error::Conflict { message, hint: Some(format!("add --amend, or remove it with: rcon manifest rm {name}")) }
}

/// By the name it was added under, or by digest.
fn is_named(entry: &ListMember, wanted: &Reference) -> bool {
    entry.reference == wanted.to_string() || wanted.digest() == Some(entry.digest.as_str())
}

fn view(reference: &Reference, media_type: String, digest: String, bytes: Vec<u8>) -> ManifestView {
    ManifestView { reference: reference.to_string(), media_type, digest, bytes, platform: None, of_list: false }
}

fn member_view(entry: &ListMember, of_list: bool) -> ManifestView {
    ManifestView {
        reference: entry.reference.clone(),
        media_type: entry.media_type.clone(),
        digest: entry.digest.clone(),
        bytes: entry.manifest.clone().into_bytes(),
        platform: index::platform(entry),
        of_list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_all_tags_exclude_each_other() {
        assert!(require_no_tag("localhost:5000/a").is_ok() && require_no_tag("a").is_ok());
        assert!(require_no_tag("a:b").is_err() && require_no_tag("localhost:5000/a:b").is_err() && require_no_tag("a@sha256:x").is_err());
    }
}
