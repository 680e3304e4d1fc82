//! Any bytes as a manifest, an index, a config, a reference or a digest. What is read and written again stays the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::oci::{Digest, Document, ImageDocument, Platform, Reference};

fuzz_target!(|data: &[u8]| {
    let declared = data.first().map(|first| if first % 2 == 0 { "application/vnd.oci.image.index.v1+json" } else { "application/vnd.oci.image.manifest.v1+json" });
    for kind in [None, declared] {
        if let Ok(Document::Index(index)) = Document::parse(data, kind) {
            let wanted: Platform = "linux/amd64".parse().expect("a platform");
            drop(index.select(&wanted).cloned());
            drop(index.platforms());
        }
    }
    drop(serde_json::from_slice::<ImageDocument>(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().expect("what was written can be read");
        assert_eq!(again.to_string(), reference.to_string());
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert!(!digest.hex().contains(['/', '.']), "a digest is a safe path component");
    }
    drop(text.parse::<Platform>());
});
