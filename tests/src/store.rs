//! The data that plugins have stored, read from the data directory as a backup would be, or from PostgreSQL. Must never write to
//! it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde_json::Value;

/// The keys and values of one data directory or one PostgreSQL schema, read anew each time.
pub enum Store {
    Embedded(Connection),
    /// The database's URL.
    Postgres(String),
}

impl Store {
    pub(crate) fn open(data: &Path) -> Self {
        let file = data.join("storage.sqlite");
        let opened = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        Self::Embedded(opened.expect("a server with this data has started"))
    }

    pub(crate) fn at(url: &str) -> Self {
        Self::Postgres(url.to_owned())
    }

    fn embedded(&self) -> &Connection {
        match self {
            Self::Embedded(connection) => connection,
            Self::Postgres(_) => panic!("releases are read from the embedded database only"),
        }
    }

    /// A key's value.
    pub fn value(&self, plugin: &str, key: &str) -> Option<Value> {
        self.bytes(plugin, key).map(|bytes| serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{key}: {error}")))
    }

    /// A counter's value. 0 if the key is missing.
    pub fn counter(&self, plugin: &str, key: &str) -> i64 {
        let eight = |bytes: Vec<u8>| i64::from_le_bytes(bytes.try_into().unwrap_or_else(|_| panic!("{key} is no counter")));
        self.bytes(plugin, key).map_or(0, eight)
    }

    /// The stored deployment history of a plugin.
    pub fn deployment_history(&self, plugin: &str) -> Value {
        let sql = "SELECT value FROM blobs WHERE name = ?1";
        let bytes: Vec<u8> =
            self.embedded().query_row(sql, [format!("plugin/{plugin}")], |row| row.get(0)).expect("it was deployed");
        serde_json::from_slice(&bytes).expect("the history is JSON")
    }

    /// The digests of the stored components.
    pub fn components(&self) -> Vec<String> {
        let mut found = self
            .embedded()
            .prepare("SELECT substr(name, 11) FROM blobs WHERE name LIKE 'component/%'")
            .expect("the table exists");
        let rows = found.query_map((), |row| row.get(0)).expect("the storage can be read");
        rows.map(|row| row.expect("a name is text")).collect()
    }

    fn bytes(&self, plugin: &str, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Embedded(connection) => {
                let sql = "SELECT value FROM entries WHERE plugin = ?1 AND key = ?2";
                connection.query_row(sql, (plugin, key.as_bytes()), |row| row.get(0)).optional().expect("the storage can be read")
            }
            Self::Postgres(url) => {
                let from = "hubbub_entries WHERE plugin = :'plugin' AND key = convert_to(:'key', 'UTF8')";
                let sql = format!("SELECT encode(value, 'hex') FROM {from}");
                let mut psql = Command::new("psql");
                psql.args(["-X", "-A", "-t", "-q", "-v", &format!("plugin={plugin}"), "-v", &format!("key={key}"), url]);
                let found = output_for(&mut psql, &sql);
                (!found.is_empty()).then(|| unhex(&found))
            }
        }
    }
}

/// A program's output for this input.
fn output_for(program: &mut Command, input: &str) -> String {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql runs");
    child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("its output can be read");
    assert!(output.status.success(), "{input}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
