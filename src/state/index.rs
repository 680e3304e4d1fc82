//! Names that stand for more than one image: the same for several platforms, or one with what attests to it.
//!
//! A name's own row (`names`) leads to the member that fits this host best, so that whoever needs one image never looks here.
//! Invariants: an index goes with its name, and when the name is pointed at something else; a member is not deleted while an
//! index has it.

use super::read::{all, document, is_hex, one};
use super::{Db, Error, Tx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageIndex {
    pub version: u32,
    /// Digest of the OCI index that `save` writes of it (`sha256:…`).
    pub id: String,
    pub members: Vec<IndexMember>,
    /// Of the index itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One image of an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexMember {
    /// In normal form: `linux/arm64`.
    pub platform: String,
    /// Its id.
    pub image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attestation>,
}

/// What is attested of one image. Its statement is made when the digest of the image's manifest is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attestation {
    /// `https://spdx.dev/Document`, `https://slsa.dev/provenance/v1`.
    pub predicate_type: String,
    pub predicate: serde_json::Value,
}

impl ImageIndex {
    /// Version of the stored form.
    pub const VERSION: u32 = 1;
}

impl Db {
    /// What a full reference stands for, if that is more than one image.
    ///
    /// # Errors
    /// Why the database cannot be read, or the record is damaged.
    pub fn index_named(&self, reference: &str) -> Result<Option<ImageIndex>, Error> {
        let what = || format!("the index {reference}");
        let text: Option<String> = one(self, what, "SELECT document FROM indexes WHERE name=?1", [reference], |row| row.get(0))?;
        text.map(|text| document(self, what, &text)).transpose()
    }

    /// The names of indexes whose id begins with these digits, with that id.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn indexes_by_prefix(&self, hex: &str) -> Result<Vec<(String, String)>, Error> {
        if !is_hex(hex) {
            return Ok(Vec::new());
        }
        let from = format!("sha256:{hex}");
        let sql = "SELECT name, id FROM indexes WHERE id>=?1 AND id<?2 ORDER BY id, name";
        all(self, "indexes", sql, [&from, &format!("{from}g")], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Ids of all images that an index has.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn index_members(&self) -> Result<std::collections::HashSet<String>, Error> {
        Ok(all(self, "the images of indexes", "SELECT DISTINCT image_id FROM index_members", [], |row| row.get(0))?.into_iter().collect())
    }
}

impl Tx<'_> {
    /// Has a name, which must be there, stand for an index.
    ///
    /// # Errors
    /// [`Error::ImageMissing`] if a member was removed meanwhile.
    pub fn put_index(&self, name: &str, index: &ImageIndex) -> Result<(), Error> {
        let what = || format!("write index {name}");
        for member in &index.members {
            if !super::read::exists(self.db, "image", "SELECT 1 FROM images WHERE id=?1", &member.image)? {
                return Err(Error::ImageMissing { id: member.image.clone() });
            }
        }
        let text = self.text(|| format!("index {name}"), index)?;
        self.run(what, "DELETE FROM indexes WHERE name=?1", [name])?;
        self.run(what, "INSERT INTO indexes (name, id, document) VALUES (?1, ?2, ?3)", (name, &index.id, text))?;
        for member in &index.members {
            self.run(what, "INSERT OR IGNORE INTO index_members (name, image_id) VALUES (?1, ?2)", (name, &member.image))?;
        }
        Ok(())
    }

    /// An image is about to go although indexes have it: they go, and their names stay those of one image.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn dissolve_indexes(&self, image: &str) -> Result<(), Error> {
        let sql = "DELETE FROM indexes WHERE name IN (SELECT name FROM index_members WHERE image_id=?1)";
        self.run(|| format!("dissolve the indexes of image {image}"), sql, [image]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Privilege, Timestamp, random_hex};
    use crate::state::record::Image;

    fn image(digit: char) -> Image {
        Image {
            id: format!("sha256:{}", digit.to_string().repeat(64)),
            config: b"{}".to_vec(),
            manifest_digest: None,
            manifest: None,
            manifest_type: None,
            layers: Vec::new(),
            size: 0,
            created: Timestamp::NEVER,
            pulled: Timestamp::NEVER,
        }
    }

    #[test]
    fn an_index_lives_as_long_as_its_name_means_it() {
        let path = std::env::temp_dir().join(format!("rcon-index-{}", random_hex(8)));
        let db = Db::open(&Privilege::detect(Some(&path), Some(&path.join("run"))).roots).unwrap();
        let (a, b) = (image('a'), image('b'));
        let member = |platform: &str, image: &Image| IndexMember { platform: platform.to_owned(), image: image.id.clone(), attestations: Vec::new() };
        let index = ImageIndex {
            version: ImageIndex::VERSION,
            id: format!("sha256:{}", "c".repeat(64)),
            members: vec![member("linux/amd64", &a), member("linux/arm64", &b)],
            annotations: BTreeMap::new(),
        };
        let put = |name: &str| {
            db.write(true, |tx| {
                tx.put_image(&a)?;
                tx.put_image(&b)?;
                tx.put_name(name, &a.id)?;
                tx.put_index(name, &index)
            })
            .unwrap();
        };
        put("r/x:1");
        assert_eq!(db.index_named("r/x:1").unwrap().as_ref(), Some(&index));
        assert_eq!(db.indexes_by_prefix("cc").unwrap(), [("r/x:1".to_owned(), index.id.clone())]);
        assert_eq!(db.index_members().unwrap().len(), 2);
        let kept = db.write(true, |tx| tx.delete_image(&b.id));
        assert!(matches!(kept, Err(Error::ImageInUse { names, .. }) if names == ["r/x:1"]), "a member is held");
        // The name is pointed at something else: only the index goes.
        db.write(true, |tx| tx.put_name("r/x:1", &b.id)).unwrap();
        assert!(db.index_named("r/x:1").unwrap().is_none() && db.index_members().unwrap().is_empty());
        put("r/x:1");
        db.write(true, |tx| tx.delete_name("r/x:1")).unwrap();
        assert!(db.index_named("r/x:1").unwrap().is_none() && db.index_members().unwrap().is_empty());
        put("r/x:1");
        db.write(true, |tx| tx.dissolve_indexes(&b.id)).unwrap();
        db.write(true, |tx| tx.delete_image(&b.id)).unwrap();
        assert_eq!(db.image_named("r/x:1").unwrap(), Some(a.id.clone()));
        let missing = db.write(true, |tx| tx.put_index("r/x:1", &index));
        assert!(matches!(missing, Err(Error::ImageMissing { .. })));
        std::fs::remove_dir_all(path).unwrap();
    }
}
