//! What is written of a cache: which step has which result. Layers are named by their place among those of the manifest that
//! the document belongs to, so that nothing in it depends on how they are compressed.
//!
//! A document from elsewhere is somebody's word for what a step results in, as an image is for what a program does. Its form
//! is not trusted: what is not understood is ignored, what is wrong makes all of it useless.

use super::Step;
use crate::base::Timestamp;
use crate::build::epoch::Epoch;
use crate::image::{CACHE_CONFIG, CacheLayer, CacheManifest};
use crate::oci::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// The key of a cache in the config of an image.
pub const INLINE: &str = "rcon.buildcache.v1";
/// BuildKit's.
pub const BUILDKIT_INLINE: &str = "moby.buildkit.cache.v0";
/// Changes when a document of before would be misunderstood.
const VERSION: u64 = 1;

/// The config of a cache.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u64,
    /// DiffIDs of the layers of the manifest, in its order; in the config of an image they stand elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Digest>,
    records: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    /// Number of the layer that it adds. None: it adds none.
    #[serde(default)]
    layer: Option<usize>,
    created: String,
    /// For people.
    #[serde(default)]
    description: String,
}

/// The result of a step, elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub created: Timestamp,
    pub layer: Option<CacheLayer>,
}

/// The config of a cache of these steps, whose manifest has layers of these DiffIDs. `places`: at which of them the layer of a
/// chain id is; steps that add another are left out.
pub fn config(steps: &[Step], layers: &[Digest], places: &HashMap<String, usize>) -> Vec<u8> {
    let document = Document {
        version: VERSION,
        layers: layers.to_vec(),
        records: records(steps, &|step| Some(step.key.digest.clone()), &|chain| places.get(chain).copied()),
    };
    serde_json::to_vec(&document).expect("invariant: a document of plain data is JSON")
}

/// What the config of an image tells about the steps that made its layers (chain ids). `made`: the layers of the steps, each of
/// which the image has itself or rewritten, in the same place: whoever takes the first step from there does the next one on it, so
/// that their keys are those on the image's layers. With an epoch all of them have that time: the same sources give the same image
/// wherever they are built.
pub fn inline(steps: &[Step], (made, layers): (&[String], &[String]), epoch: Option<Epoch>) -> Value {
    let place = |chain: &str| made.iter().position(|own| own == chain).filter(|at| *at < layers.len());
    let mut records = records(steps, &|step| step.key.moved(|below| Some(layers[place(below)?].clone())), &place);
    if let Some(epoch) = epoch {
        records.iter_mut().for_each(|record| record.created = epoch.to_string());
    }
    json!({ "version": VERSION, "records": records })
}

/// Steps without a key, or a place for their layer, are left out.
fn records(steps: &[Step], key: &dyn Fn(&Step) -> Option<Digest>, place: &dyn Fn(&str) -> Option<usize>) -> Vec<Record> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for step in steps {
        let layer = step.layer.as_ref().map(|chain| place(chain));
        let Some(key) = key(step).filter(|_| layer != Some(None)) else { continue };
        if !seen.insert(key.clone()) {
            continue;
        }
        let (created, description) = (step.created.to_string(), step.description.clone());
        records.push(Record { key, layer: layer.flatten(), created, description });
    }
    records
}

/// What a manifest holds.
#[derive(Debug)]
pub struct Contents {
    pub layers: Vec<CacheLayer>,
    /// By the keys of their steps.
    pub results: HashMap<Digest, Found>,
}

/// Reads the document of a cache, or that in an image.
///
/// # Errors
/// Why it cannot be used.
pub fn parse(manifest: &CacheManifest) -> Result<Contents, String> {
    let text = |e: serde_json::Error| format!("its document is not understood: {e}");
    let document: Document = if manifest.config_type == CACHE_CONFIG {
        serde_json::from_slice(&manifest.config).map_err(text)?
    } else {
        let config: Value = serde_json::from_slice(&manifest.config).map_err(text)?;
        let Some(inside) = config.get(INLINE) else {
            let buildkit = if config.get(BUILDKIT_INLINE).is_some() { " of rcon, only one of BuildKit" } else { "" };
            return Err(format!("the image has no cache inside{buildkit}: it is written with --cache-to type=inline"));
        };
        let mut document: Document = serde_json::from_value(inside.clone()).map_err(text)?;
        document.layers = serde_json::from_value(config["rootfs"]["diff_ids"].clone()).map_err(text)?;
        document
    };
    if document.version != VERSION {
        return Err(format!("its document has version {}, and this rcon reads {VERSION}", document.version));
    }
    if document.layers.len() != manifest.layers.len() {
        return Err(format!("its document names {} layers, the manifest {}", document.layers.len(), manifest.layers.len()));
    }
    let layers: Vec<CacheLayer> =
        document.layers.into_iter().zip(&manifest.layers).map(|(diff_id, blob)| CacheLayer { diff_id, blob: blob.clone() }).collect();
    let mut results = HashMap::with_capacity(document.records.len());
    for record in document.records {
        let created =
            Timestamp::parse_rfc3339(&record.created).ok_or_else(|| format!("a record has the time \"{}\"", record.created.escape_default()))?;
        let layer = match record.layer {
            None => None,
            Some(at) => Some(layers.get(at).cloned().ok_or_else(|| format!("a record names layer {at} of {}", layers.len()))?),
        };
        // Of two records for one step the first counts.
        results.entry(record.key).or_insert(Found { created, layer });
    }
    Ok(Contents { layers, results })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::{Key, StepKey};
    use crate::oci::{Descriptor, media};

    fn blob(of: &[u8]) -> Descriptor {
        let (digest, media_type) = (Digest::of(of), media::OCI_LAYER_GZIP.to_owned());
        Descriptor { media_type, digest, size: 1, platform: None, annotations: Default::default() }
    }

    fn key(of: &[u8], below: Option<&str>) -> StepKey {
        let mut key = Key::new("run", below);
        key.field("argv", of);
        key.finish()
    }

    fn step(of: &[u8], layer: Option<&str>) -> Step {
        let created = Timestamp::from_nanos(1_700_000_000_123_456_789);
        Step { key: key(of, None), description: "RUN make".to_owned(), created, layer: layer.map(str::to_owned) }
    }

    fn cache(config: Vec<u8>, layers: &[Descriptor]) -> CacheManifest {
        CacheManifest { config_type: CACHE_CONFIG.to_owned(), config, layers: layers.to_vec() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let steps = [step(b"a", Some("one")), step(b"b", None), step(b"a", Some("two")), step(b"c", Some("elsewhere"))];
        let layers = [Digest::of(b"tar 2"), Digest::of(b"tar 1")];
        let places = HashMap::from([("two".to_owned(), 0), ("one".to_owned(), 1)]);
        let read = parse(&cache(config(&steps, &layers, &places), &[blob(b"2"), blob(b"1")])).unwrap().results;
        assert_eq!(read.len(), 2, "one without a layer here, one twice");
        let one = &read[&key(b"a", None).digest];
        assert_eq!((one.created, one.layer.clone()), (steps[0].created, Some(CacheLayer { diff_id: Digest::of(b"tar 1"), blob: blob(b"1") })));
        assert_eq!(read[&key(b"b", None).digest].layer, None);
    }

    #[test]
    fn an_image_has_it_inside() {
        let layers = ["base".to_owned(), "top".to_owned()];
        let own = inline(&[step(b"a", Some("top"))], (&layers, &layers), None);
        let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"t1"), Digest::of(b"t2")] }, INLINE: own });
        let image = |config: &Value| CacheManifest {
            config_type: media::OCI_CONFIG.to_owned(),
            config: config.to_string().into_bytes(),
            layers: vec![blob(b"1"), blob(b"2")],
        };
        assert_eq!(parse(&image(&config)).unwrap().results[&key(b"a", None).digest].layer.as_ref().unwrap().diff_id, Digest::of(b"t2"));
        let without = json!({ "os": "linux", "rootfs": config["rootfs"] });
        assert!(parse(&image(&without)).unwrap_err().contains("no cache inside: "));
        let mut foreign = without.clone();
        foreign[BUILDKIT_INLINE] = json!("e30=");
        assert!(parse(&image(&foreign)).unwrap_err().contains("only one of BuildKit"));
        let mut short = config.clone();
        short["rootfs"]["diff_ids"] = json!([Digest::of(b"t1")]);
        assert!(parse(&image(&short)).unwrap_err().contains("names 1 layers, the manifest 2"));
        short["rootfs"] = json!(null);
        assert!(parse(&image(&short)).unwrap_err().contains("not understood"));
    }

    #[test]
    fn rewritten_layers_have_the_steps_on_them() {
        let names = |names: [&str; 3]| names.map(str::to_owned);
        let (made, layers) = (names(["base", "one", "two"]), names(["base", "older one", "older two"]));
        let on = |of: &[u8], below: &str, layer: Option<&str>| Step { key: key(of, Some(below)), ..step(of, layer) };
        let steps = [on(b"a", "base", Some("one")), on(b"b", "one", None), on(b"c", "one", Some("two")), on(b"d", "elsewhere", None)];
        let inside = inline(&steps, (&made, &layers), None);
        let records: Vec<Record> = serde_json::from_value(inside["records"].clone()).unwrap();
        let found: Vec<_> = records.iter().map(|record| (&record.key, record.layer)).collect();
        let keys = [key(b"a", Some("base")), key(b"b", Some("older one")), key(b"c", Some("older one"))].map(|key| key.digest);
        assert_eq!(found, [(&keys[0], Some(1)), (&keys[1], None), (&keys[2], Some(2))]);
    }

    #[test]
    fn with_an_epoch_the_clock_is_not_told() {
        let (epoch, top) = (Some(Epoch::parse("1").unwrap()), ["top".to_owned()]);
        let layers = (&top[..], &top[..]);
        let later = Step { created: Timestamp::from_nanos(1_800_000_000_000_000_000), ..step(b"a", Some("top")) };
        let own = inline(&[step(b"a", Some("top"))], layers, epoch);
        assert_eq!(own, inline(std::slice::from_ref(&later), layers, epoch));
        assert_ne!(own, inline(&[later], layers, None));
        let config = json!({ "rootfs": { "diff_ids": [Digest::of(b"t")] }, INLINE: own }).to_string().into_bytes();
        let image = CacheManifest { config_type: media::OCI_CONFIG.to_owned(), config, layers: vec![blob(b"1")] };
        assert_eq!(parse(&image).unwrap().results[&key(b"a", None).digest].created, Timestamp::from_nanos(1_000_000_000));
    }

    #[test]
    fn what_is_wrong_makes_it_useless() {
        let key = Digest::of(b"k");
        let time = "2026-01-02T03:04:05Z";
        for (document, words) in [
            ("nonsense".to_owned(), "not understood"),
            ("[]".to_owned(), "not understood"),
            (json!({ "version": 2, "layers": [key], "records": [] }).to_string(), "version 2"),
            (json!({ "version": 1, "records": [] }).to_string(), "names 0 layers, the manifest 1"),
            (json!({ "version": 1, "layers": ["sha256:../../x"], "records": [] }).to_string(), "not understood"),
            (json!({ "version": 1, "layers": [key], "records": [{ "key": "x", "created": time }] }).to_string(), "not understood"),
            (json!({ "version": 1, "layers": [key], "records": [{ "key": key, "created": "yesterday" }] }).to_string(), "the time \"yesterday\""),
            (json!({ "version": 1, "layers": [key], "records": [{ "key": key, "created": time, "layer": 1 }] }).to_string(), "layer 1 of 1"),
            (json!({ "version": 1, "layers": [key], "records": [{ "key": key, "created": time, "layer": -1 }] }).to_string(), "not understood"),
        ] {
            let why = parse(&cache(document.clone().into_bytes(), &[blob(b"1")])).unwrap_err();
            assert!(why.contains(words), "{document}: {why}");
        }
        let newer = json!({ "version": 1, "layers": [key], "more": {}, "records": [{ "key": key, "created": time, "layer": 0, "more": 1 }] });
        assert_eq!(parse(&cache(newer.to_string().into_bytes(), &[blob(b"1")])).unwrap().results.len(), 1, "what is not known is ignored");
    }
}
