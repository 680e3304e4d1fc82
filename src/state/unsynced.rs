//! Layers whose files are whole in memory and may not be on disk yet.
//!
//! Invariant: a layer without a row here was synced before its row (or the removal of its row here) was written, so
//! that no record ever says more than the disk holds.

use super::{Db, Error, Tx};

/// A layer that was recorded before it was synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsynced {
    pub chain_id: String,
    /// Directory name under `layers/`.
    pub dir: String,
    /// The kernel's id of the boot under which it was unpacked: as long as that kernel runs, the files are right.
    pub boot: String,
}

impl Db {
    /// All of them; hardly ever any.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn unsynced_layers(&self) -> Result<Vec<Unsynced>, Error> {
        let run = || {
            let mut statement = self.connection.prepare("SELECT chain_id, dir, boot FROM unsynced_layers")?;
            let rows = statement.query_map([], |row| Ok(Unsynced { chain_id: row.get(0)?, dir: row.get(1)?, boot: row.get(2)? }))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        run().map_err(Error::sqlite("read the unsynced layers", &self.path))
    }
}

impl Tx<'_> {
    /// Notes that a layer may not be on disk.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn put_unsynced(&self, layer: &Unsynced) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO unsynced_layers (chain_id, dir, boot) VALUES (?1, ?2, ?3)";
        let run = || self.db.connection.execute(sql, (&layer.chain_id, &layer.dir, &layer.boot));
        run().map_err(Error::sqlite(format!("note that layer {} is not synced", layer.chain_id), &self.db.path)).map(|_| ())
    }

    /// The files of this layer in this directory are on disk; does nothing if it has another one by now.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn synced(&self, chain_id: &str, dir: &str) -> Result<(), Error> {
        let run = || self.db.connection.execute("DELETE FROM unsynced_layers WHERE chain_id=?1 AND dir=?2", (chain_id, dir));
        run().map_err(Error::sqlite(format!("note that layer {chain_id} is synced"), &self.db.path)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Roots;
    use crate::state::record::Layer;

    #[test]
    fn a_row_ends_when_its_directory_is_synced_or_its_layer_goes() {
        let base = std::env::temp_dir().join(format!("rcon-unsynced-{}", crate::base::random_hex(12)));
        let db = Db::open(&Roots { data: base.join("data"), run: base.join("run") }).unwrap();
        let row = |dir: &str| Unsynced { chain_id: "sha256:1".to_owned(), dir: dir.to_owned(), boot: "b".to_owned() };
        let put = |row: &Unsynced| db.write(false, |tx| tx.put_unsynced(row)).unwrap();
        put(&row("old"));
        put(&row("new"));
        db.write(false, |tx| tx.synced("sha256:1", "old")).unwrap();
        assert_eq!(db.unsynced_layers().unwrap(), [row("new")]);
        db.write(false, |tx| tx.synced("sha256:1", "new")).unwrap();
        assert_eq!(db.unsynced_layers().unwrap(), []);
        put(&row("new"));
        let layer = Layer {
            chain_id: "sha256:1".to_owned(),
            diff_id: "sha256:1".to_owned(),
            blob: None,
            blob_size: 1,
            media_type: "m".to_owned(),
            dir: "new".to_owned(),
            size: 1,
            tar_size: 1,
        };
        db.write(false, |tx| tx.put_layer(&layer)).unwrap();
        db.write(false, |tx| tx.delete_unused_layers()).unwrap();
        assert_eq!(db.unsynced_layers().unwrap(), []);
        std::fs::remove_dir_all(base).unwrap();
    }
}
