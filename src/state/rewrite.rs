//! Writing stored documents anew in today's form, after an upgrade.

use super::pod::Pod;
use super::record::{Container, Layer, Network, Volume};
use super::{Error, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Tx<'_> {
    /// Reads every document and writes it again where today's form differs. Returns how many there are and how many were
    /// written; one that cannot be read is left as it is (`system check` and `rm -f` deal with it).
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn rewrite_documents(&self) -> Result<(usize, usize), Error> {
        let parts = [
            self.rewrite::<Container>("containers", "id")?,
            self.rewrite::<Pod>("pods", "id")?,
            self.rewrite::<Layer>("layers", "chain_id")?,
            self.rewrite::<Volume>("volumes", "name")?,
            self.rewrite::<Network>("networks", "name")?,
        ];
        Ok(parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1)))
    }

    fn rewrite<T: DeserializeOwned + Serialize>(&self, table: &str, key: &str) -> Result<(usize, usize), Error> {
        let connection = &self.db.connection;
        let failed = || Error::sqlite(format!("rewrite {table}"), &self.db.path);
        let read = || {
            let mut statement = connection.prepare(&format!("SELECT {key}, document FROM {table}"))?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<Vec<(String, String)>>>()
        };
        let rows = read().map_err(failed())?;
        let mut written = 0;
        for (name, text) in &rows {
            let Some(today) = serde_json::from_str::<T>(text).ok().and_then(|document| serde_json::to_string(&document).ok()) else { continue };
            if today != *text {
                let sql = format!("UPDATE {table} SET document=?2 WHERE {key}=?1");
                connection.prepare(&sql).and_then(|mut statement| statement.execute([name, &today])).map_err(failed())?;
                written += 1;
            }
        }
        Ok((rows.len(), written))
    }
}
