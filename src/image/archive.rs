//! Loading images from one tar: docker-archive (`manifest.json`) and OCI layout (`index.json`).
//!
//! The archive is a stream, so its files are spooled to the ingest directory and hashed on the way. Everything
//! in an OCI layout is looked up by the digest computed here, so a wrong byte cannot be referred to; a
//! docker-archive is verified by the config's digest and the DiffIDs. An archive is trusted no more than a registry.

use super::commit::{self, Candidate, Fresh, Missing};
use super::content::{self, Ingest, LayerDir};
use super::layer::UnpackError;
use super::layer::tar::{Kind, Reader};
use super::stream::{self, Expected};
use super::{Error, Progress, RegistryConfig, compression, garbage, space, trust};
use crate::base::Roots;
use crate::base::fs::Context;
use crate::oci::{
    Algorithm, CONFIG_LIMIT, Descriptor, Digest, DigestHasher, Document, ImageDocument, Index, MANIFEST_LIMIT, Manifest, Platform, Reference, media,
};
use crate::state::{Db, record};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::sync::Mutex;

/// Most bytes of `manifest.json` and `index.json` (as containerd).
const JSON_LIMIT: u64 = 20 << 20;
/// A file up to this size stays in memory.
const SMALL: u64 = 64 << 10;
/// Most bytes of all small files together.
const SMALL_TOTAL: u64 = 64 << 20;
/// Most files that are spooled: each is an open descriptor.
const SPOOLED: usize = 700;
/// Layers unpacked at once.
const PARALLEL: usize = 4;
/// Nested indexes that are followed.
const INDEX_DEPTH: usize = 3;
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_REF_NAME: &str = "org.opencontainers.image.ref.name";

type Report<'a> = &'a (dyn Fn(Progress) + Sync);
type Loaded = Vec<(Option<Reference>, record::Image)>;

/// The content of one file of the archive.
enum Bytes {
    Memory(Vec<u8>),
    Spooled(Ingest),
    /// Moved into the content store.
    Kept,
}

/// What the archive holds, by digest.
struct Spool {
    blobs: HashMap<Digest, (u64, Mutex<Bytes>)>,
    names: HashMap<Vec<u8>, Digest>,
    /// Links: name to target, both clean.
    links: HashMap<Vec<u8>, Vec<u8>>,
}

/// One entry of `manifest.json`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// One run of `load`.
struct Load<'a> {
    roots: &'a Roots,
    db: &'a Db,
    settings: &'a RegistryConfig,
    /// The one to choose where the archive has several.
    platform: Platform,
    /// That one and no other.
    strict: bool,
    progress: Report<'a>,
    spool: Spool,
}

pub fn load(
    roots: &Roots,
    db: &Db,
    settings: &RegistryConfig,
    archive: &mut (dyn Read + Send),
    platform: Option<&Platform>,
    progress: Report<'_>,
) -> Result<Loaded, Error> {
    settings.usable()?;
    content::prepare(roots)?;
    garbage::abandoned(roots, db)?;
    let in_use = content::in_use(roots)?;
    let full = |error| space::explain(roots, "the archive", &[], error);
    let spool = Spool::read(roots, archive).map_err(full)?;
    let strict = platform.is_some();
    let load = Load { roots, db, settings, platform: platform.cloned().unwrap_or_else(Platform::host), strict, progress, spool };
    let loaded = load.all().map_err(full)?;
    if loaded.is_empty() {
        return Err(Error::Archive("it lists no image".to_owned()));
    }
    drop(in_use);
    Ok(loaded)
}

impl Load<'_> {
    fn all(&self) -> Result<Loaded, Error> {
        let spool = &self.spool;
        let docker: Option<Vec<DockerImage>> = match spool.named(b"manifest.json") {
            Some(digest) => Some(json(&spool.small(digest, JSON_LIMIT, "manifest.json")?, "manifest.json")?),
            None => None,
        };
        let index = spool.named(b"index.json").cloned();
        match (index, docker) {
            (Some(index), docker) => {
                let bytes = spool.small(&index, JSON_LIMIT, "index.json")?;
                self.layout(&bytes, docker.unwrap_or_default())
            }
            (None, Some(docker)) => self.docker(docker),
            (None, None) => Err(Error::Archive("it has neither manifest.json nor index.json, so it is no image archive".to_owned())),
        }
    }

    fn docker(&self, images: Vec<DockerImage>) -> Result<Loaded, Error> {
        let mut loaded = Vec::new();
        for image in images {
            let id = self.spool.required(&image.config)?.clone();
            let stem = image.config.rsplit('/').next().map(|name| name.trim_end_matches(".json")).unwrap_or_default();
            // Builders name the config by its digest: then it must be that.
            if let Ok(named) = format!("sha256:{stem}").parse::<Digest>()
                && named != id
            {
                return Err(Error::Digest { what: format!("the config {}", image.config), expected: named, actual: id });
            }
            let mut blobs = Vec::new();
            for layer in image.layers.unwrap_or_default() {
                let digest = self.spool.required(&layer)?.clone();
                let size = self.spool.size(&digest)?;
                let media_type = layer_type(&self.spool, &digest)?.to_owned();
                blobs.push(Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() });
            }
            let names = references(&image.repo_tags.unwrap_or_default())?;
            loaded.extend(self.image(&id, None, blobs, names)?);
        }
        Ok(loaded)
    }

    fn layout(&self, bytes: &[u8], docker: Vec<DockerImage>) -> Result<Loaded, Error> {
        let index: Index = json(bytes, "index.json")?;
        // Entries of one name are the platforms of one image.
        let mut groups: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
        for entry in index.manifests {
            let name = entry_name(&entry)?;
            match groups
                .iter_mut()
                .find(|(known, entries)| *known == name && (name.is_some() || entries[0].platform.is_some() == entry.platform.is_some()))
            {
                Some((_, entries)) => entries.push(entry),
                None => groups.push((name, vec![entry])),
            }
        }
        let mut loaded = Vec::new();
        for (name, entries) in groups {
            let separate = entries.len() == 1 || entries.iter().all(|entry| entry.platform.is_none());
            let chosen = if separate { entries } else { vec![select(entries, &self.platform)?] };
            for entry in chosen {
                let (digest, bytes, manifest, kind) = self.resolve(entry)?;
                let id = manifest.config.digest.clone();
                let mut names: Vec<Reference> = name.iter().cloned().collect();
                // A name without a registry annotation may still be in docker's list.
                let same = docker.iter().filter(|image| self.spool.named(image.config.as_bytes()) == Some(&id));
                for tags in same.filter_map(|image| image.repo_tags.as_deref()) {
                    names.extend(references(tags)?);
                }
                names.sort();
                names.dedup();
                let original = Some((digest, bytes, kind));
                loaded.extend(self.image(&id, original, manifest.layers, names)?);
            }
        }
        // Entries of one image under several names were loaded once each; the names are told once.
        let mut seen = std::collections::HashSet::new();
        loaded.retain(|(name, image)| seen.insert((name.clone(), image.id.clone())));
        Ok(loaded)
    }

    /// Follows indexes to one manifest.
    fn resolve(&self, mut entry: Descriptor) -> Result<(Digest, Vec<u8>, Manifest, String), Error> {
        for _ in 0..=INDEX_DEPTH {
            let bytes = self.spool.small(&entry.digest, MANIFEST_LIMIT as u64, "a manifest of the archive")?;
            if bytes.len() as u64 != entry.size {
                return Err(Error::Size { what: format!("the manifest {}", entry.digest), expected: entry.size, actual: bytes.len() as u64 });
            }
            let reference = entry.digest.to_string();
            let document =
                Document::parse(&bytes, Some(&entry.media_type)).map_err(|source| Error::Manifest { reference: reference.clone(), source })?;
            match document {
                Document::Manifest(manifest) => {
                    if !media::is_image_config(&manifest.config.media_type) {
                        return Err(Error::Unsupported { reference, why: "it is an artifact, not a container image".to_owned() });
                    }
                    for layer in &manifest.layers {
                        media::layer(&layer.media_type).map_err(|why| Error::Unsupported { reference: reference.clone(), why })?;
                    }
                    let kind = manifest.media_type.clone().or(Some(entry.media_type)).filter(|kind| media::is_manifest(kind));
                    return Ok((entry.digest, bytes, manifest, kind.unwrap_or_else(|| media::OCI_MANIFEST.to_owned())));
                }
                Document::Index(index) => entry = select(index.manifests, &self.platform)?,
            }
        }
        Err(Error::Archive(format!("its indexes are nested deeper than {INDEX_DEPTH}")))
    }

    fn image(
        &self,
        id: &Digest,
        manifest: Option<(Digest, Vec<u8>, String)>,
        blobs: Vec<Descriptor>,
        names: Vec<Reference>,
    ) -> Result<Loaded, Error> {
        let shown = names.first().map_or_else(|| id.to_string(), Reference::familiar);
        trust::admit_load(self.settings, self.db, &names, id)?;
        let config = self.spool.small(id, CONFIG_LIMIT as u64, "an image config of the archive")?;
        let (document, layers) = commit::plan(self.settings.limits, &shown, &config, blobs)?;
        self.suits(&shown, &document)?;
        let full = names.iter().map(Reference::to_string).collect();
        let candidate = Candidate { id: id.clone(), config, document, manifest, layers, names: full };
        let mut kept = false;
        let mut replans = 0;
        let image = loop {
            let missing = commit::missing(self.roots, self.db, &candidate.layers, self.progress)?;
            let fresh = unpack_all(self.roots, &self.spool, missing, self.progress)?;
            for fresh in fresh.iter().filter(|fresh| self.settings.keep_blobs || !fresh.dir.can_reassemble()) {
                self.spool.keep(self.roots, &fresh.missing.layer.blob.digest)?;
                kept = true;
            }
            match commit::commit(self.roots, self.db, &candidate, fresh, None) {
                // What was kept has left the spool.
                Err(Error::Vanished(_)) if !kept && replans < commit::REPLANS => replans += 1,
                other => break other?,
            }
        };
        if names.is_empty() {
            return Ok(vec![(None, image)]);
        }
        Ok(names.into_iter().map(|name| (Some(name), image.clone())).collect())
    }

    /// The image is for the platform that was asked for, if one was.
    fn suits(&self, shown: &str, document: &ImageDocument) -> Result<(), Error> {
        let offered = Platform::normalised(&document.os, &document.architecture, document.variant.as_deref());
        if self.strict && self.platform.rank(&offered).is_none() {
            let (reference, wanted, offered) = (shown.to_owned(), self.platform.to_string(), offered.to_string());
            return Err(Error::Platform { reference, wanted, offered });
        }
        Ok(())
    }
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Archive(format!("{what} is not valid: {e}")))
}

impl Spool {
    fn read(roots: &Roots, archive: &mut (dyn Read + Send)) -> Result<Self, Error> {
        let mut spool = Spool { blobs: HashMap::new(), names: HashMap::new(), links: HashMap::new() };
        let input = BufReader::with_capacity(256 << 10, archive);
        let input = compression::decompressor(input).map_err(|e| Error::ArchiveRead(UnpackError::Read(e)))?;
        let mut reader = Reader::new(BufReader::with_capacity(256 << 10, input));
        let mut in_memory = 0;
        let mut spooled = 0;
        while let Some(member) = reader.next().map_err(Error::ArchiveRead)? {
            let name = clean(&member.path);
            match member.kind {
                Kind::File if member.extents.is_some() => return Err(Error::Archive("it holds a sparse file".to_owned())),
                Kind::File => {}
                Kind::Symlink => {
                    let parent = name.rsplitn(2, |b| *b == b'/').nth(1).unwrap_or_default().to_vec();
                    spool.links.insert(name, clean(&[parent.as_slice(), b"/", &member.link].concat()));
                    continue;
                }
                Kind::HardLink => {
                    spool.links.insert(name, clean(&member.link));
                    continue;
                }
                _ => continue,
            }
            let mut hasher = DigestHasher::new(Algorithm::Sha256);
            let bytes = if member.size <= SMALL {
                in_memory += member.size;
                if in_memory > SMALL_TOTAL {
                    return Err(Error::TooLarge { what: "the small files of the archive".to_owned(), limit: SMALL_TOTAL });
                }
                let mut bytes = Vec::new();
                reader
                    .data(u64::MAX, |piece| {
                        bytes.extend_from_slice(piece);
                        Ok(())
                    })
                    .map_err(Error::ArchiveRead)?;
                hasher.update(&bytes);
                Bytes::Memory(bytes)
            } else {
                spooled += 1;
                if spooled > SPOOLED {
                    return Err(Error::Archive(format!("it holds more than {SPOOLED} large files")));
                }
                Bytes::Spooled(spool_file(roots, &mut reader, &mut hasher)?)
            };
            let digest = hasher.finish();
            spool.names.insert(name, digest.clone());
            spool.blobs.entry(digest).or_insert_with(|| (member.size, Mutex::new(bytes)));
        }
        // The rest of the stream is read, so that whoever writes it does not see a broken pipe.
        reader.drain().map_err(Error::ArchiveRead)?;
        Ok(spool)
    }

    /// A file of the archive by name; links are followed a few times.
    fn named(&self, name: &[u8]) -> Option<&Digest> {
        let mut name = clean(name);
        for _ in 0..8 {
            if let Some(digest) = self.names.get(&name) {
                return Some(digest);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn required(&self, name: &str) -> Result<&Digest, Error> {
        self.named(name.as_bytes()).ok_or_else(|| Error::Archive(format!("it names the file \"{}\", which is not there", name.escape_default())))
    }

    fn size(&self, digest: &Digest) -> Result<u64, Error> {
        self.blobs.get(digest).map(|(size, _)| *size).ok_or_else(|| Error::Archive(format!("it does not hold {digest}")))
    }

    fn open(&self, roots: Option<&Roots>, digest: &Digest) -> Result<Box<dyn Read + Send>, Error> {
        let absent = || Error::Archive(format!("it does not hold {digest}"));
        let (_, bytes) = self.blobs.get(digest).ok_or_else(absent)?;
        let bytes = bytes.lock().expect("invariant: a panic aborts the process");
        Ok(match &*bytes {
            Bytes::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
            Bytes::Spooled(ingest) => Box::new(File::open(ingest.path()).on("open", ingest.path())?),
            Bytes::Kept => {
                let file = roots.and_then(|roots| content::open_blob(roots, digest).transpose()).transpose()?;
                Box::new(file.ok_or_else(absent)?)
            }
        })
    }

    /// A whole file of limited size.
    fn small(&self, digest: &Digest, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
        if self.size(digest)? > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        self.open(None, digest)?.read_to_end(&mut bytes).map_err(|e| Error::ArchiveRead(UnpackError::Read(e)))?;
        Ok(bytes)
    }

    /// Moves a layer blob into the content store.
    fn keep(&self, roots: &Roots, digest: &Digest) -> Result<(), Error> {
        let Some((_, bytes)) = self.blobs.get(digest) else { return Ok(()) };
        let mut bytes = bytes.lock().expect("invariant: a panic aborts the process");
        match std::mem::replace(&mut *bytes, Bytes::Kept) {
            Bytes::Kept => {}
            Bytes::Spooled(ingest) => ingest.keep(roots, digest)?,
            Bytes::Memory(memory) => {
                let mut ingest = Ingest::new(roots)?;
                ingest.file.write_all(&memory).on("write", ingest.path())?;
                ingest.keep(roots, digest)?;
            }
        }
        Ok(())
    }
}

fn spool_file<R: std::io::BufRead>(roots: &Roots, reader: &mut Reader<R>, hasher: &mut DigestHasher) -> Result<Ingest, Error> {
    let mut ingest = Ingest::new(roots)?;
    let path = ingest.path().to_path_buf();
    let written = reader.data(u64::MAX, |piece| {
        hasher.update(piece);
        let operation = "spool";
        ingest.file.write_all(piece).map_err(|source| UnpackError::File { operation, path: path.display().to_string(), source })
    });
    written.map_err(Error::ArchiveRead)?;
    Ok(ingest)
}

/// A name as a key: no leading or doubled slashes, `.` and `..` resolved without leaving the archive.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// The media type of a layer by its first bytes.
fn layer_type(spool: &Spool, digest: &Digest) -> Result<&'static str, Error> {
    let mut head = [0u8; 4];
    let mut input = spool.open(None, digest)?;
    let length = input.read(&mut head).map_err(|e| Error::ArchiveRead(UnpackError::Read(e)))?;
    Ok(match &head[..length] {
        [0x1f, 0x8b, ..] => media::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::OCI_LAYER_ZSTD,
        _ => media::OCI_LAYER,
    })
}

/// A name that an archive gives must be a tag: what a digest names is for its registry to say, and a `pull` or a policy
/// relies on it.
fn tag(reference: Reference) -> Result<Reference, Error> {
    match reference.digest() {
        None => Ok(reference),
        Some(_) => Err(Error::Archive(format!("it names an image {reference}: only tags can be loaded"))),
    }
}

fn references(texts: &[String]) -> Result<Vec<Reference>, Error> {
    texts.iter().map(|text| tag(text.parse().map_err(Error::Archive)?)).collect()
}

fn entry_name(entry: &Descriptor) -> Result<Option<Reference>, Error> {
    if let Some(name) = entry.annotations.get(CONTAINERD_NAME) {
        let name: Reference = name.parse().map_err(Error::Archive)?;
        // The digest of the entry itself is verified; any other would be believed unseen.
        return if name.digest() == Some(entry.digest.as_str()) { Ok(Some(name)) } else { tag(name).map(Some) };
    }
    // By the spec it may be a bare tag, which names nothing.
    let full = entry.annotations.get(OCI_REF_NAME).filter(|name| name.contains([':', '/']));
    full.and_then(|name| name.parse().ok()).map(tag).transpose()
}

fn select(entries: Vec<Descriptor>, platform: &Platform) -> Result<Descriptor, Error> {
    let index = Index { schema_version: 2, media_type: None, manifests: entries, annotations: BTreeMap::new() };
    let chosen = index.select(platform).cloned();
    chosen.ok_or_else(|| Error::Platform { reference: "the archive".to_owned(), wanted: platform.to_string(), offered: index.platforms().join(", ") })
}

/// Unpacks layers several at once; the first error ends the others when they are done with their layer.
fn unpack_all(roots: &Roots, spool: &Spool, missing: Vec<Missing>, progress: Report<'_>) -> Result<Vec<Fresh>, Error> {
    let workers = PARALLEL.min(missing.len());
    let queue = Mutex::new(missing.into_iter());
    let results: Mutex<Vec<Result<Fresh, Error>>> = Mutex::default();
    let lock = "invariant: a panic aborts the process";
    let work = || {
        loop {
            let Some(next) = queue.lock().expect(lock).next() else { return };
            let result = unpack_one(roots, spool, next, progress);
            let failed = result.is_err();
            results.lock().expect(lock).push(result);
            if failed {
                queue.lock().expect(lock).by_ref().for_each(drop);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    results.into_inner().expect(lock).into_iter().collect()
}

fn unpack_one(roots: &Roots, spool: &Spool, missing: Missing, progress: Report<'_>) -> Result<Fresh, Error> {
    let blob = &missing.layer.blob;
    let id = blob.digest.short().to_owned();
    progress(Progress::Layer { id: id.clone(), total: blob.size });
    let expected = Expected {
        layer: id.clone(),
        blob: Some((blob.digest.clone(), blob.size)),
        diff_id: missing.layer.diff_id.clone(),
        limits: missing.layer.limits,
    };
    let dir = LayerDir::new(roots)?;
    let unpacked = stream::unpack(spool.open(Some(roots), &blob.digest)?, &expected, &dir.diff())?;
    progress(Progress::Done { id });
    Ok(Fresh { missing, dir, unpacked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        for (text, name) in [("./a/b", "a/b"), ("/a//b/", "a/b"), ("a/../b", "b"), ("../../x", "x"), (".", "")] {
            assert_eq!(clean(text.as_bytes()), name.as_bytes(), "{text}");
        }
    }
}
