//! Verifying what the store holds: every image's documents against their digests, every layer's tar made again and
//! compared with its DiffID and with its tree, kept blobs, and what no record names.

use super::layer::split::Differences;
use super::layer::{self, UnpackError};
use super::{Error, bytes, content, garbage};
use crate::base::Roots;
use crate::oci::{Digest, DigestHasher};
use crate::state::{Db, record};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes hashed at once.
const PIECE: usize = 256 << 10;

/// One thing that is not as it was when it was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub what: Damage,
    /// Why, in words: `its directory is missing`.
    pub problem: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The files of a layer (chain id).
    Layer(String),
    /// The kept blob of a layer (chain id).
    Blob { chain: String, digest: Digest },
    /// The documents or layers of an image record (id).
    Image(String),
    /// Files without a record.
    Leftover,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub images: usize,
    pub layers: usize,
    /// Layers whose content cannot be verified: neither blob nor tar record is there (older stores).
    pub unverified: Vec<String>,
    pub findings: Vec<Finding>,
}

/// Looks at every image, layer and blob. `quick`: only whether they are there, not their content.
///
/// # Errors
/// The database or a directory cannot be read. What is damaged is a finding, not an error.
pub fn check(roots: &Roots, db: &Db, quick: bool) -> Result<Report, Error> {
    content::prepare(roots)?;
    let mut report = Report::default();
    // Nothing that is looked at here is swept meanwhile.
    let in_use = content::in_use(roots)?;
    let rows: HashMap<String, record::Layer> = db.all_layers()?.into_iter().map(|row| (row.chain_id.clone(), row)).collect();
    for image in db.images()? {
        report.images += 1;
        if let Some(problem) = image_problem(&image, &rows) {
            report.findings.push(Finding { what: Damage::Image(image.id), problem });
        }
    }
    let places = places(&db.images()?);
    let mut chains: Vec<&String> = rows.keys().collect();
    // Base first: what comes from a damaged layer says nothing about those on top of it.
    chains.sort_by_key(|chain| (places.get(*chain).map_or(0, Vec::len), *chain));
    let mut damaged = HashSet::new();
    for chain in chains {
        report.layers += 1;
        let row = &rows[chain];
        let lowers = lowers(roots, row, places.get(chain), &rows, &damaged);
        let before = report.findings.len();
        check_layer(roots, db, row, lowers.as_deref(), quick, &mut report)?;
        if report.findings[before..].iter().any(|finding| matches!(finding.what, Damage::Layer(_))) {
            damaged.insert(chain.clone());
        }
    }
    drop(in_use);
    if let Some(bytes) = garbage::leftovers(roots, db)?.filter(|bytes| *bytes > 0) {
        report.findings.push(Finding { what: Damage::Leftover, problem: format!("{bytes} bytes of files that no record names") });
    }
    Ok(report)
}

/// The layers beneath each layer, base first. A layer's chain id names them all, so any image that has it will do.
fn places(images: &[record::Image]) -> HashMap<String, Vec<String>> {
    let places = images.iter().flat_map(|image| image.layers.iter().enumerate().map(|(at, chain)| (chain.clone(), image.layers[..at].to_vec())));
    places.collect()
}

/// The directories beneath a layer, top first; None: they are not known, or not sound.
fn lowers(
    roots: &Roots,
    row: &record::Layer,
    place: Option<&Vec<String>>,
    rows: &HashMap<String, record::Layer>,
    damaged: &HashSet<String>,
) -> Option<Vec<PathBuf>> {
    // The chain id of a base layer is its DiffID (image-spec config.md, "Layer ChainID").
    let beneath: &[String] = match place {
        Some(place) => place,
        None if row.chain_id == row.diff_id => &[],
        None => return None,
    };
    let path = |chain: &String| {
        let path = roots.layers().join(&rows.get(chain)?.dir).join("diff");
        (!damaged.contains(chain) && path.is_dir()).then_some(path)
    };
    beneath.iter().rev().map(path).collect()
}

fn image_problem(image: &record::Image, rows: &HashMap<String, record::Layer>) -> Option<String> {
    let is = |text: &str, bytes: &[u8]| text.parse::<Digest>().is_ok_and(|digest| digest.matches(bytes));
    if !is(&image.id, &image.config) {
        return Some("its config does not have the digest that is its id".to_owned());
    }
    if let (Some(digest), Some(manifest)) = (&image.manifest_digest, &image.manifest)
        && !is(digest, manifest)
    {
        return Some(format!("its manifest does not have the digest {digest}"));
    }
    let lost = image.layers.iter().find(|chain| !rows.contains_key(*chain))?;
    Some(format!("layer {lost} has no record"))
}

fn check_layer(roots: &Roots, db: &Db, row: &record::Layer, lowers: Option<&[PathBuf]>, quick: bool, report: &mut Report) -> Result<(), Error> {
    let dir = roots.layers().join(&row.dir);
    // Whoever removed the layer meanwhile removed its record first.
    let still = || db.layer(&row.chain_id).map(|now| now.is_some_and(|now| now.dir == row.dir));
    let mut found = |what, problem: String| report.findings.push(Finding { what, problem });
    if let Some(blob) = &row.blob {
        let digest: Option<Digest> = blob.parse().ok();
        let problem = digest.as_ref().and_then(|digest| blob_problem(roots, digest, row.blob_size, quick));
        if let (Some(digest), Some(problem)) = (digest, problem)
            && still()?
        {
            found(Damage::Blob { chain: row.chain_id.clone(), digest }, problem);
        }
    }
    let layer = || Damage::Layer(row.chain_id.clone());
    if !dir.join("diff").is_dir() {
        if still()? {
            found(layer(), "its directory is missing".to_owned());
        }
        return Ok(());
    }
    if !bytes::can_reassemble(&dir) {
        report.unverified.push(row.chain_id.clone());
        return Ok(());
    }
    if quick {
        return Ok(());
    }
    let problem = match contents(&dir, row, lowers) {
        Contents::Sound => return Ok(()),
        Contents::Unknown(why) => {
            tracing::warn!("layer {}: only the contents of its files were verified: {why}", row.chain_id);
            report.unverified.push(row.chain_id.clone());
            return Ok(());
        }
        Contents::Wrong(problem) => problem,
    };
    if still()? {
        found(layer(), problem);
    }
    Ok(())
}

/// What a layer's directory holds.
pub(super) enum Contents {
    Sound,
    /// The tar is the right one, but is not read to its end.
    Unknown(String),
    Wrong(String),
}

/// Makes the tar of a layer again: its digest proves the contents of the files, its headers say what else they are.
pub(super) fn contents(dir: &Path, row: &record::Layer, lowers: Option<&[PathBuf]>) -> Contents {
    let again = |e: &dyn std::fmt::Display| Contents::Wrong(format!("its tar cannot be made again: {e}"));
    let (tar, expected) = match (bytes::assemble(dir), row.diff_id.parse::<Digest>()) {
        (Ok(tar), Ok(digest)) => (tar, digest),
        (Err(e), _) => return again(&e),
        (_, Err(e)) => return again(&e),
    };
    let hashing = Hashing { input: tar, hasher: DigestHasher::new(expected.algorithm()) };
    let mut reader = layer::tar::Reader::new(BufReader::with_capacity(PIECE, hashing));
    let model = layer::split::Model::read(&mut reader);
    if let Err(UnpackError::Read(e)) = model.as_ref().map(|_| ()).and(reader.drain().as_ref().map(|_| ())) {
        return again(e);
    }
    let actual = reader.into_inner().into_inner().hasher.finish();
    if actual != expected {
        return Contents::Wrong(format!("its files are not those that came with it: their tar has the digest {actual}, not {expected}"));
    }
    match model.and_then(|model| layer::split::compare(model, &dir.join("diff"), lowers)) {
        Ok(differences) if differences.count == 0 => Contents::Sound,
        Ok(Differences { count, named }) => {
            let more = count - named.len() as u64;
            let more = if more > 0 { format!(", and {more} more differences") } else { String::new() };
            Contents::Wrong(format!("its files are not as its tar describes them: {}{more}", named.join(", ")))
        }
        Err(e) => Contents::Unknown(e.to_string()),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    input: R,
    hasher: DigestHasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// What is wrong with a kept blob. `quick`: its content is not read.
pub(super) fn blob_problem(roots: &Roots, digest: &Digest, size: u64, quick: bool) -> Option<String> {
    let file = match content::open_blob(roots, digest) {
        Ok(Some(file)) => file,
        Ok(None) => return Some("its kept blob is missing".to_owned()),
        Err(e) => return Some(format!("its kept blob cannot be opened: {}", e.source)),
    };
    match file.metadata() {
        Ok(meta) if meta.len() == size => {}
        Ok(meta) => return Some(format!("its kept blob has {} bytes, not {size}", meta.len())),
        Err(e) => return Some(format!("its kept blob cannot be read: {e}")),
    }
    if quick {
        return None;
    }
    match Digest::of_stream(digest.algorithm(), file).map(|(actual, _)| actual) {
        Ok(actual) if actual == *digest => None,
        Ok(actual) => Some(format!("its kept blob has the digest {actual}, not {digest}")),
        Err(e) => Some(format!("its kept blob cannot be read: {e}")),
    }
}

/// The first layer of an image whose directory or record is gone, as the error that it is.
pub fn lost_layer(roots: &Roots, db: &Db, image: &record::Image) -> Option<Error> {
    let why = |chain: &String| match db.layer(chain) {
        Ok(Some(row)) => (!roots.layers().join(&row.dir).join("diff").is_dir()).then_some("its directory is missing"),
        Ok(None) => Some("it has no record"),
        // The failure that we are asked about stands.
        Err(_) => None,
    };
    let lost = |chain: &String| Some(Error::Damaged { image: image.id.clone(), layer: chain.clone(), why: why(chain)?.to_owned() });
    image.layers.iter().find_map(lost)
}

/// Forgets a layer, row and files, so that the next pull of an image that needs it makes it again.
///
/// # Errors
/// Database, or the files cannot be removed.
pub fn forget_layer(roots: &Roots, db: &Db, chain: &str) -> Result<(), Error> {
    let Some(row) = db.layer(chain)? else { return Ok(()) };
    db.write(true, |tx| tx.delete_layer(chain).map_err(Error::from))?;
    Ok(crate::base::fs::remove_tree(&roots.layers().join(&row.dir))?)
}

/// Removes a damaged blob; the record of its layer no longer names it.
///
/// # Errors
/// Database, or the file cannot be removed.
pub fn forget_blob(roots: &Roots, db: &Db, digest: &Digest) -> Result<(), Error> {
    db.write(true, |tx| {
        for mut row in db.all_layers()? {
            if row.blob.as_deref() == Some(digest.as_str()) {
                row.blob = None;
                tx.put_layer(&row)?;
            }
        }
        Ok::<_, Error>(())
    })?;
    Ok(crate::base::fs::remove_file(&content::blob_path(roots, digest))?)
}
