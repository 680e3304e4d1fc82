//! The manifest of an image whose layers are not all in their original form.

use crate::image::Error;
use crate::oci::{Descriptor, media};
use crate::state::record;
use serde_json::{Value, json};

/// Media type of the image's own manifest.
pub fn kind(image: &record::Image) -> String {
    image.manifest_type.clone().unwrap_or_else(|| media::OCI_MANIFEST.to_owned())
}

/// A manifest over these layers: the image's own with other layers, or a new one. Its bytes and media type.
///
/// Docker's format has no zstd layers, so an image that has some becomes an OCI one.
///
/// # Errors
/// The image's own manifest is no JSON object.
pub fn build(image: &record::Image, layers: &[Descriptor]) -> Result<(Vec<u8>, String), Error> {
    let compression = |layer: &Descriptor| media::layer(&layer.media_type).unwrap_or(media::Compression::None);
    let docker = kind(image) == media::DOCKER_MANIFEST && layers.iter().all(|layer| compression(layer) != media::Compression::Zstd);
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let kind = match (docker, compression(layer)) {
                (true, media::Compression::Gzip) => media::DOCKER_LAYER_GZIP,
                (true, _) => media::DOCKER_LAYER,
                (false, media::Compression::Gzip) => media::OCI_LAYER_GZIP,
                (false, media::Compression::Zstd) => media::OCI_LAYER_ZSTD,
                (false, media::Compression::None) => media::OCI_LAYER,
            };
            let mut value = json!({ "mediaType": kind, "digest": layer.digest, "size": layer.size });
            if !layer.annotations.is_empty() {
                value["annotations"] = json!(layer.annotations);
            }
            value
        })
        .collect();
    let kind = if docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST };
    let config_type = if docker { media::DOCKER_CONFIG } else { media::OCI_CONFIG };
    let own = image.manifest.as_deref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    // A config that is no image's stays what it is.
    let config_type =
        own.as_ref().and_then(|own| own["config"]["mediaType"].as_str()).filter(|kind| !media::is_image_config(kind)).unwrap_or(config_type);
    let config = json!({ "mediaType": config_type, "digest": image.id, "size": image.config.len() });
    let manifest = match own {
        Some(Value::Object(mut own)) => {
            own.insert("mediaType".to_owned(), json!(kind));
            own.insert("config".to_owned(), config);
            own.insert("layers".to_owned(), Value::Array(layers));
            Value::Object(own)
        }
        _ => json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::Config { reference: image.id.clone(), why: e.to_string() })?;
    Ok((bytes, kind.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::oci::{Digest, Document};

    #[test]
    fn what_the_image_brought_is_kept() {
        let digest = Digest::of(b"");
        let own = json!({ "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST, "config": {}, "layers": [], "annotations": { "a": "b" } });
        let image = record::Image {
            id: digest.to_string(),
            config: b"{}".to_vec(),
            manifest_digest: None,
            manifest: Some(own.to_string().into_bytes()),
            manifest_type: Some(media::DOCKER_MANIFEST.to_owned()),
            layers: Vec::new(),
            size: 0,
            created: Timestamp::NEVER,
            pulled: Timestamp::NEVER,
        };
        let layer =
            |kind: &str| Descriptor { media_type: kind.to_owned(), digest: digest.clone(), size: 1, platform: None, annotations: Default::default() };
        for (layers, kind, layer_kind) in [
            (vec![layer(media::OCI_LAYER_GZIP)], media::DOCKER_MANIFEST, media::DOCKER_LAYER_GZIP),
            (vec![layer(media::OCI_LAYER_ZSTD), layer(media::DOCKER_LAYER_GZIP)], media::OCI_MANIFEST, media::OCI_LAYER_ZSTD),
        ] {
            let (bytes, built) = build(&image, &layers).unwrap();
            let Document::Manifest(manifest) = Document::parse(&bytes, Some(&built)).unwrap() else { panic!("no manifest") };
            assert_eq!((built.as_str(), manifest.layers[0].media_type.as_str()), (kind, layer_kind));
            assert_eq!(manifest.annotations["a"], "b");
        }
        let (bytes, built) = build(&record::Image { manifest: None, manifest_type: None, ..image }, &[layer(media::OCI_LAYER_GZIP)]).unwrap();
        assert!(Document::parse(&bytes, Some(&built)).is_ok() && built == media::OCI_MANIFEST);
    }
}
