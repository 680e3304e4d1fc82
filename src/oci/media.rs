//! Media types of images, and which of them rcon takes.

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// What a pull asks for, most wanted first.
pub const ACCEPTED_MANIFESTS: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// The schema-1 manifests of Docker before 1.10, whose digests cannot be verified against layers.
pub fn is_schema1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The compression a layer's media type names.
///
/// # Errors
/// A sentence for media types that are no layers rcon can unpack.
pub fn layer(media_type: &str) -> Result<Compression, String> {
    match media_type {
        OCI_LAYER | DOCKER_LAYER => Ok(Compression::None),
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => Ok(Compression::Zstd),
        foreign if foreign.contains(".nondistributable.") || foreign.contains(".foreign.") => {
            Err(format!("layer of media type {foreign} is not distributable: it lives outside the registry, which is not supported"))
        }
        encrypted if encrypted.ends_with("+encrypted") => Err(format!("layer of media type {encrypted} is encrypted, which is not supported")),
        other => Err(format!("{} is not a filesystem layer: this is an artifact, not a container image", other.escape_default())),
    }
}

/// The config blob is an image config (artifacts such as charts carry other types).
pub fn is_image_config(media_type: &str) -> bool {
    // Some old builders wrote text types for the config; registries still hold such images.
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "text/plain" | "text/html" | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_by_media_type() {
        assert_eq!(layer(OCI_LAYER_ZSTD), Ok(Compression::Zstd));
        assert_eq!(layer(DOCKER_LAYER_GZIP), Ok(Compression::Gzip));
        assert!(layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip").is_err_and(|e| e.contains("not distributable")));
        assert!(layer("application/vnd.oci.image.layer.nondistributable.v1.tar").is_err());
        assert!(layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip").is_err_and(|e| e.contains("artifact")));
        assert!(is_schema1("application/vnd.docker.distribution.manifest.v1+prettyjws"));
    }
}
