//! Secrets: named bytes that containers get as files or variables. What a container got is its own copy; a row here may go
//! while containers still use it.

use super::{Db, Error, Tx};
use crate::base::Timestamp;
use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A secret without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// 25 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub labels: BTreeMap<String, String>,
    pub driver: String,
}

impl Default for Secret {
    fn default() -> Self {
        Secret {
            id: String::new(),
            name: String::new(),
            created: Timestamp::NEVER,
            updated: Timestamp::NEVER,
            labels: BTreeMap::new(),
            driver: "file".to_owned(),
        }
    }
}

impl Db {
    /// All secrets, by name.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>, Error> {
        let run = || -> rusqlite::Result<Vec<String>> {
            self.connection.prepare("SELECT document FROM secrets ORDER BY name")?.query_map([], |row: &Row<'_>| row.get(0))?.collect()
        };
        let rows = run().map_err(Error::sqlite("read secrets", &self.path))?;
        let parse = |text: String| {
            serde_json::from_str(&text).map_err(|source| Error::Document { object: "secret".to_owned(), path: self.path.clone(), source })
        };
        rows.into_iter().map(parse).collect()
    }

    /// The bytes of a secret, by its id.
    ///
    /// # Errors
    /// Why the database cannot be read.
    pub fn secret_data(&self, id: &str) -> Result<Option<Vec<u8>>, Error> {
        let run = || self.connection.prepare("SELECT data FROM secrets WHERE id=?1")?.query_row([id], |row| row.get(0)).optional();
        run().map_err(Error::sqlite("read a secret", &self.path))
    }
}

impl Tx<'_> {
    /// Inserts a secret. False if its name is taken (nothing is changed then).
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn insert_secret(&self, secret: &Secret, data: &[u8]) -> Result<bool, Error> {
        let failed = |source| Error::Document { object: format!("secret {}", secret.name), path: self.db.path.clone(), source };
        let text = serde_json::to_string(secret).map_err(failed)?;
        let sql = "INSERT OR IGNORE INTO secrets (id, name, document, data) VALUES (?1, ?2, ?3, ?4)";
        let run = || self.db.connection.prepare(sql)?.execute((&secret.id, &secret.name, text, data));
        run().map(|count| count == 1).map_err(Error::sqlite("insert a secret", &self.db.path))
    }

    /// Deletes a secret by its id; false: there is none.
    ///
    /// # Errors
    /// Why the database cannot be changed.
    pub fn delete_secret(&self, id: &str) -> Result<bool, Error> {
        let run = || self.db.connection.prepare("DELETE FROM secrets WHERE id=?1")?.execute([id]);
        run().map(|deleted| deleted > 0).map_err(Error::sqlite("delete a secret", &self.db.path))
    }
}
