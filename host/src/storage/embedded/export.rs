//! Reads everything in an embedded database, in order, to move it elsewhere. Never changes it, and never reads one that a server
//! uses.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, Result, Row, params};

use super::super::{DeadLetterRow, HandledId, OutboxRow};
use super::open::{self, DirLock, FILE, OpenError};
use super::{FirstReplyRow, first_replies, readers, rows};
use crate::names::PluginName;

/// Rows that are read at a time, so that their values fit into memory.
const PAGE: i64 = 256;

/// A key of a plugin with its value.
pub(in super::super) struct Entry {
    pub(in super::super) plugin: PluginName,
    pub(in super::super) key: String,
    pub(in super::super) value: Bytes,
}

/// An embedded database that is not in use.
pub(in super::super) struct Export {
    db: Connection,
    _lock: DirLock,
}

impl Export {
    pub(in super::super) fn open(dir: &Path) -> std::result::Result<Self, OpenError> {
        let file = dir.join(FILE);
        if !file.is_file() {
            return Err(OpenError::Absent(file));
        }
        let lock = open::lock(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&file, flags).map_err(|e| open::explain(&file, &e))?;
        open::check_format(&db, &file)?;
        open::stand_in(&db).map_err(|e| open::explain(&file, &e))?;
        Ok(Self { db, _lock: lock })
    }

    /// An upper bound of the numbers used so far.
    pub(in super::super) fn sequence(&self) -> Result<u64> {
        let sql = "SELECT value FROM host WHERE name = 'sequence'";
        self.db.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
    }

    /// The page of entries after `last`.
    pub(in super::super) fn entries(&self, last: Option<&Entry>) -> Result<Vec<Entry>> {
        let sql = "SELECT plugin, key, value FROM entries WHERE (plugin, key) > (?1, ?2) ORDER BY plugin, key LIMIT ?3";
        let (plugin, key) = last.map_or(("", ""), |last| (last.plugin.as_str(), last.key.as_str()));
        let entry = |row: &Row<'_>| {
            let key = std::str::from_utf8(row.get_ref(1)?.as_blob()?)?.to_owned();
            Ok(Entry { plugin: rows::plugin(row, 0)?, key, value: rows::bytes(row, 2)? })
        };
        self.db.prepare_cached(sql)?.query_map(params![plugin, key.as_bytes(), PAGE], entry)?.collect()
    }

    /// The page of handled ids after `last`, each with its time.
    pub(in super::super) fn handled(&self, last: Option<&(HandledId, u64)>) -> Result<Vec<(HandledId, u64)>> {
        let sql = "SELECT plugin, id, at_ms FROM handled WHERE (plugin, id) > (?1, ?2) ORDER BY plugin, id LIMIT ?3";
        let (plugin, id) = last.map_or(("", ""), |(last, _)| (last.plugin.as_str(), last.id.as_str()));
        let handled = |row: &Row<'_>| {
            Ok((HandledId { plugin: rows::plugin(row, 0)?, id: row.get(1)? }, row.get::<_, i64>(2)?.unsigned_abs()))
        };
        self.db.prepare_cached(sql)?.query_map(params![plugin, id, PAGE], handled)?.collect()
    }

    /// The page of first replies after an id.
    pub(in super::super) fn first_replies(&self, after: i64) -> Result<Vec<FirstReplyRow>> {
        first_replies::after(&self.db, after, PAGE)
    }

    pub(in super::super) fn outbox(&self, after: u64) -> Result<Vec<OutboxRow>> {
        readers::outbox_after(&self.db, after, PAGE)
    }

    pub(in super::super) fn dead_letters(&self, after: u64) -> Result<Vec<DeadLetterRow>> {
        readers::dead_letters(&self.db, after, PAGE)
    }

    pub(in super::super) fn blob_names(&self) -> Result<Vec<String>> {
        self.db.prepare("SELECT name FROM blobs ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
    }

    pub(in super::super) fn blob(&self, name: &str) -> Result<Bytes> {
        self.db.query_row("SELECT value FROM blobs WHERE name = ?1", [name], |row| rows::bytes(row, 0))
    }
}
