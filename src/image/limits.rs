//! What an image may cost this host: counts, sizes and ratios that come from outside and have a bound.
//!
//! The defaults let every honest image pass; `[image.limits]` of the settings changes them.

use super::{Error, layer};
use crate::base::settings::{SettingsError, Table};
use crate::oci::{Descriptor, LAYER_LIMIT};

/// Bounds of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most layers. The kernel takes no more than the default.
    pub layers: usize,
    /// Most compressed bytes of all layers together.
    pub download_size: u64,
    /// Most bytes of one layer's uncompressed tar.
    pub layer_size: u64,
    /// Most files, directories and links of one layer.
    pub entries: u64,
    /// A layer may expand to this many times its compressed bytes …
    pub expansion_ratio: u64,
    /// … plus this many bytes, before it is taken for a bomb.
    pub expansion_allowance: u64,
    /// Most bytes of holes in the files of one layer or archive: a tar has them as zeros. None: as many as could be written to
    /// the disk.
    pub holes: Option<u64>,
    /// Most bytes of one file that is fetched by its URL: of `ADD`, of a context, of `import`.
    pub source_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            layers: LAYER_LIMIT,
            download_size: u64::MAX,
            layer_size: u64::MAX,
            entries: layer::ENTRY_LIMIT,
            expansion_ratio: 100,
            // Long runs of zeros (databases, disk images) compress a thousandfold.
            expansion_allowance: 64 << 30,
            holes: None,
            source_size: 64 << 30,
        }
    }
}

impl Limits {
    /// Takes over what `[image.limits]` sets.
    ///
    /// # Errors
    /// An unknown key or a value of the wrong kind.
    pub fn read(&mut self, mut table: Table<'_>) -> Result<(), SettingsError> {
        if let Some(layers) = table.integer("max_layers", 1..=LAYER_LIMIT as u64)? {
            self.layers = usize::try_from(layers).unwrap_or(LAYER_LIMIT);
        }
        let sizes: [(&'static str, &mut u64); 4] = [
            ("max_download_size", &mut self.download_size),
            ("max_layer_size", &mut self.layer_size),
            ("expansion_allowance", &mut self.expansion_allowance),
            ("max_source_size", &mut self.source_size),
        ];
        for (key, value) in sizes {
            *value = table.size(key)?.unwrap_or(*value);
        }
        self.holes = table.size("max_layer_holes")?.or(self.holes);
        self.entries = table.integer("max_entries", 1..=u64::from(u32::MAX))?.unwrap_or(self.entries);
        self.expansion_ratio = table.integer("max_expansion_ratio", 1..=1_000_000)?.unwrap_or(self.expansion_ratio);
        table.finish()
    }

    /// Looks at the layers of an image before any of them is fetched.
    ///
    /// # Errors
    /// [`Error::Limit`] names the key.
    pub fn check(&self, image: &str, layers: &[Descriptor]) -> Result<(), Error> {
        let over = |what: &'static str, actual: u64, limit: u64, key: &'static str| Error::Limit {
            subject: format!("image {image}"),
            what,
            actual,
            limit,
            key,
        };
        if layers.len() > self.layers {
            return Err(over("layers", layers.len() as u64, self.layers as u64, "max_layers"));
        }
        let size = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        if size > self.download_size {
            return Err(over("compressed bytes", size, self.download_size, "max_download_size"));
        }
        Ok(())
    }

    /// Most uncompressed bytes of a layer or archive with this many compressed ones, and the key that says so.
    pub fn uncompressed(&self, compressed: u64) -> (u64, &'static str) {
        let by_ratio = compressed.saturating_mul(self.expansion_ratio).saturating_add(self.expansion_allowance);
        if self.layer_size < by_ratio { (self.layer_size, "max_layer_size") } else { (by_ratio, "max_expansion_ratio and expansion_allowance") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::Source;
    use crate::oci::{Digest, media};

    fn layers(sizes: &[u64]) -> Vec<Descriptor> {
        let layer = |size: &u64| Descriptor {
            media_type: media::OCI_LAYER.to_owned(),
            digest: Digest::of(b""),
            size: *size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        sizes.iter().map(layer).collect()
    }

    #[test]
    fn errors_name_the_key() {
        let mut limits = Limits::default();
        limits.check("a", &layers(&[u64::MAX, u64::MAX])).unwrap();
        let source = Source::of(
            "max_layers=2\nmax_download_size='1k'\nmax_layer_size=10\nmax_entries=5\nmax_expansion_ratio=2\nexpansion_allowance=3\nmax_layer_holes='1k'\nmax_source_size=7",
        );
        limits.read(source.table().unwrap()).unwrap();
        for (sizes, key) in [(&[1, 1, 1][..], "max_layers"), (&[1000, 25], "max_download_size")] {
            let text = limits.check("a", &layers(sizes)).unwrap_err().to_string();
            assert!(text.contains(&format!("image.limits.{key}")), "{text}");
        }
        limits.check("a", &layers(&[1000, 24])).unwrap();
        assert_eq!((limits.entries, limits.holes, limits.source_size), (5, Some(1024), 7));
        assert_eq!(limits.uncompressed(2), (7, "max_expansion_ratio and expansion_allowance"));
        assert_eq!(limits.uncompressed(100), (10, "max_layer_size"));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in ["max_layers = 501", "max_layers = 0", "max_expansion_ratio = 0", "max_layer_size = 'big'", "max_size = 1"] {
            assert!(Limits::default().read(Source::of(text).table().unwrap()).is_err(), "{text}");
        }
    }
}
