//! Caches that somebody else has written.

use super::*;
use crate::base::settings::Source;
use crate::base::{Cancel, Roots};
use crate::image::{RegistryConfig, trust};
use crate::state::Db;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A layout in a directory that is removed on drop, and a store.
struct Layout {
    root: PathBuf,
    db: Db,
}

impl Drop for Layout {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

impl Layout {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("rcon-cache-{}", crate::base::random_hex(12)));
        let roots = Roots { data: root.join("data"), run: root.join("run") };
        for path in [&roots.data, &roots.run, &root.join("blobs/sha256")] {
            fs::create_dir_all(path).unwrap();
        }
        Layout { db: Db::open(&roots).unwrap(), root }
    }

    /// Writes a blob; its descriptor.
    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.root.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let manifest = json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers });
        self.blob(media::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries });
        self.blob(media::OCI_INDEX, index.to_string().as_bytes())
    }

    /// Names an entry and reads it.
    fn read(&self, entry: &Value) -> Result<Vec<CacheManifest>, String> {
        let mut entry = entry.clone();
        entry["annotations"] = json!({ REF_NAME: "latest" });
        fs::write(self.root.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string()).unwrap();
        self.read_as(LayoutEntry::Tag("latest".to_owned()))
    }

    fn read_as(&self, entry: LayoutEntry) -> Result<Vec<CacheManifest>, String> {
        self.read_under(&CacheOrigin::Layout(self.root.clone(), entry), &RegistryConfig::default())
    }

    fn read_under(&self, origin: &CacheOrigin, settings: &RegistryConfig) -> Result<Vec<CacheManifest>, String> {
        let platforms = [Platform::normalised("linux", "amd64", None)];
        CacheSource::new(origin, settings, &Cancel::default()).read(&self.db, &platforms).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}")
        })
    }

    fn path_of(&self, descriptor: &Value) -> PathBuf {
        self.root.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    }
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn caches_and_images_are_read() {
    let layout = Layout::new();
    let config = layout.blob(CACHE_CONFIG, b"{}");
    let manifest = layout.manifest(&config, &[layout.blob(media::OCI_LAYER_GZIP, b"x")]);
    let read = layout.read(&manifest).unwrap();
    assert_eq!((read[0].config.as_slice(), read[0].layers.len()), (b"{}".as_slice(), 1));
    let digest = manifest["digest"].as_str().unwrap().parse().unwrap();
    assert_eq!(layout.read_as(LayoutEntry::Digest(digest)).unwrap(), read);
    let image = layout.manifest(&layout.blob(media::OCI_CONFIG, br#"{"os":"linux"}"#), &[]);
    assert_eq!(layout.read(&image).unwrap()[0].config_type, media::OCI_CONFIG);
    let (mut own, mut other) = (image.clone(), manifest.clone());
    own["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    other["platform"] = json!({ "os": "linux", "architecture": "arm64" });
    assert_eq!(layout.read(&layout.index(&[other.clone(), own])).unwrap()[0].config_type, media::OCI_CONFIG, "that of the platform");
    let why = layout.read(&layout.index(&[other])).unwrap_err();
    assert!(why.contains("linux/amd64"), "{why}");
}

#[test]
fn what_is_no_cache_is_told() {
    let layout = Layout::new();
    let buildkit = layout.blob("application/vnd.buildkit.cacheconfig.v0", b"{}");
    let layer = layout.blob(media::OCI_LAYER_GZIP, b"x");
    let cache = layout.manifest(&layout.blob(CACHE_CONFIG, b"{}"), &[]);
    let mut nested = layout.index(&[cache]);
    nested["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    for (entry, words) in [
        (layout.manifest(&buildkit, &[]), "a cache of BuildKit"),
        (layout.index(&[layer.clone(), buildkit]), "a cache of BuildKit"),
        (layout.manifest(&layout.blob("application/vnd.oci.empty.v1+json", b"{}"), &[]), "neither a build cache of rcon nor an image"),
        (layout.manifest(&layout.blob(CACHE_CONFIG, b"{}"), &[layout.blob("text/plain", b"x")]), "text/plain"),
        (layout.index(&[nested]), "its indexes are nested"),
        (layout.index(&[]), "no image of"),
        (layout.blob(media::OCI_MANIFEST, b"{"), "not valid JSON"),
        (layer, "not valid JSON"),
    ] {
        let why = layout.read(&entry).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    let why = layout.read_as(LayoutEntry::Tag("other".to_owned())).unwrap_err();
    assert!(why.contains("no such entry: there is latest"), "{why}");
    fs::write(layout.root.join("index.json"), "{").unwrap();
    assert!(layout.read_as(LayoutEntry::Tag("latest".to_owned())).unwrap_err().contains("index.json"));
    fs::remove_file(layout.root.join("index.json")).unwrap();
    assert!(layout.read_as(LayoutEntry::Tag("latest".to_owned())).unwrap_err().contains("there is no cache yet"));
}

#[test]
fn the_trust_policy_holds_for_caches() {
    let layout = Layout::new();
    layout.read(&layout.manifest(&layout.blob(CACHE_CONFIG, b"{}"), &[])).unwrap();
    let source = Source::of("[trust]\ndefault='reject'\n");
    let (mut table, mut draft) = (source.table().unwrap(), trust::Draft::default());
    draft.read(table.table("trust").unwrap().unwrap()).unwrap();
    let settings = RegistryConfig { trust: draft.finish().unwrap(), ..RegistryConfig::default() };
    for origin in [
        CacheOrigin::Layout(layout.root.clone(), LayoutEntry::Tag("latest".to_owned())),
        // Nobody is asked: there is no such registry.
        CacheOrigin::Registry("127.0.0.1:1/cache".parse().unwrap()),
    ] {
        let why = layout.read_under(&origin, &settings).unwrap_err();
        assert!(why.contains("is refused by the default trust policy"), "{why}");
    }
}

#[test]
fn what_does_not_verify_is_refused() {
    let layout = Layout::new();
    let config = layout.blob(CACHE_CONFIG, b"{ }");
    let manifest = layout.manifest(&config, &[]);
    damage(&layout.path_of(&config));
    assert!(layout.read(&manifest).unwrap_err().contains("wrong digest"));
    fs::write(layout.path_of(&config), b"{   }").unwrap();
    assert!(layout.read(&manifest).unwrap_err().contains("4 bytes where 3"), "no more than one byte too many is read");
    fs::remove_file(layout.path_of(&config)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, layout.path_of(&config), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(layout.read(&manifest).unwrap_err().contains("not a regular file"), "nothing is waited for");
    fs::remove_file(layout.path_of(&config)).unwrap();
    assert!(layout.read(&manifest).unwrap_err().contains("cannot open"));
    let large = json!({ "mediaType": CACHE_CONFIG, "digest": config["digest"], "size": 1u64 << 40 });
    assert!(layout.read(&layout.manifest(&large, &[])).unwrap_err().contains("more bytes than the limit"));
    let again = layout.manifest(&layout.blob(CACHE_CONFIG, b"{ }"), &[]);
    damage(&layout.path_of(&again));
    assert!(layout.read(&again).unwrap_err().contains("wrong digest"));
}
