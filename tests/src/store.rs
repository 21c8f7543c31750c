//! What plugins have stored, read from the data directory as a backup would be. Must never write to it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde_json::Value;

/// The keys and values of one data directory, as they are at each look.
pub struct Store(Connection);

impl Store {
    pub(crate) fn open(data: &Path) -> Self {
        let file = data.join("storage.sqlite");
        Self(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a server with this data has started"))
    }

    /// A key's value.
    pub fn value(&self, plugin: &str, key: &str) -> Option<Value> {
        self.bytes(plugin, key).map(|bytes| serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{key}: {error}")))
    }

    /// A counter's value; an absent one is 0.
    pub fn counter(&self, plugin: &str, key: &str) -> i64 {
        let eight = |bytes: Vec<u8>| i64::from_le_bytes(bytes.try_into().unwrap_or_else(|_| panic!("{key} is no counter")));
        self.bytes(plugin, key).map_or(0, eight)
    }

    /// What is stored of a plugin's releases.
    pub fn record(&self, plugin: &str) -> Value {
        let sql = "SELECT value FROM blobs WHERE name = ?1";
        let bytes: Vec<u8> = self.0.query_row(sql, [format!("plugin/{plugin}")], |row| row.get(0)).expect("it was deployed");
        serde_json::from_slice(&bytes).expect("a record is JSON")
    }

    /// The digests of the components that are stored.
    pub fn components(&self) -> Vec<String> {
        let mut found =
            self.0.prepare("SELECT substr(name, 11) FROM blobs WHERE name LIKE 'component/%'").expect("the table is there");
        let rows = found.query_map((), |row| row.get(0)).expect("the storage can be read");
        rows.map(|row| row.expect("a name is text")).collect()
    }

    fn bytes(&self, plugin: &str, key: &str) -> Option<Vec<u8>> {
        let sql = "SELECT value FROM entries WHERE plugin = ?1 AND key = ?2";
        self.0.query_row(sql, (plugin, key.as_bytes()), |row| row.get(0)).optional().expect("the storage can be read")
    }
}
