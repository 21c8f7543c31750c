//! Reads, on the caller's thread, of the last committed state. Never waits for the writer.

use std::path::Path;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Result, params};

use super::super::{Config, DeadLetter, DeadLetterRow, MAX_SCAN_BYTES, OutboxRow, Unavailable, prefix_end};
use super::first_replies;
use super::open::{self, OpenError, STATEMENTS};
use super::rows::{self, signed};
use crate::names::PluginName;

/// Read-only connections. A read holds one for microseconds; the first free one has the warmest cache.
pub(super) struct Readers(Vec<Mutex<Connection>>);

impl Readers {
    pub(super) fn open(file: &Path, config: &Config) -> std::result::Result<Self, OpenError> {
        let count = config.readers.max(1);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let one = || -> Result<Mutex<Connection>> {
            let db = Connection::open_with_flags(file, flags)?;
            db.pragma_update(None, "cache_size", -open::kib(config.cache / 2 / count))?;
            db.busy_timeout(std::time::Duration::from_secs(1))?;
            db.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(Mutex::new(db))
        };
        let readers: Result<Vec<_>> = (0..count).map(|_| one()).collect();
        readers.map(Self).map_err(|e| open::explain(file, &e))
    }

    pub(super) fn get(&self, plugin: &PluginName, key: &str) -> std::result::Result<Option<Bytes>, Unavailable> {
        self.read(|db| rows::get(db, plugin, key))
    }

    pub(super) fn get_many(&self, plugin: &PluginName, keys: &[String]) -> std::result::Result<Vec<Option<Bytes>>, Unavailable> {
        let found = self.read(|db| get_many(db, plugin, keys))?;
        found.ok_or_else(|| Unavailable::new(format!("a read of {plugin} has more than {MAX_SCAN_BYTES} bytes: read fewer keys")))
    }

    pub(super) fn scan(
        &self,
        plugin: &PluginName,
        start: &str,
        end: &str,
        limit: usize,
        reverse: bool,
    ) -> std::result::Result<Vec<(String, Bytes)>, Unavailable> {
        let end = if end.is_empty() { prefix_end(start.as_bytes()) } else { Some(end.as_bytes().to_vec()) };
        let found = self.read(|db| scan(db, plugin, start.as_bytes(), end.as_deref(), limit, reverse))?;
        found.ok_or_else(|| {
            Unavailable::new(format!("a scan of {plugin} has more than {MAX_SCAN_BYTES} bytes: scan fewer entries"))
        })
    }

    pub(super) fn keys(
        &self,
        plugin: &PluginName,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> std::result::Result<Vec<String>, Unavailable> {
        let end = prefix_end(prefix.as_bytes());
        self.read(|db| {
            let sql = "SELECT key FROM entries WHERE plugin = ?1 AND key >= ?2 AND key > ?3 AND (?4 IS NULL OR key < ?4)
                ORDER BY key LIMIT ?5";
            let mut statement = db.prepare_cached(sql)?;
            let range = params![plugin.as_str(), prefix.as_bytes(), after.as_bytes(), end, signed(limit as u64)];
            let keys = statement.query_map(range, |row| Ok(std::str::from_utf8(row.get_ref(0)?.as_blob()?)?.to_owned()))?;
            keys.collect()
        })
    }

    pub(super) fn handled_after(
        &self,
        plugin: &PluginName,
        after: &str,
        limit: usize,
    ) -> std::result::Result<Vec<(String, u64)>, Unavailable> {
        self.read(|db| {
            let sql = "SELECT id, at_ms FROM handled WHERE plugin = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            let mut statement = db.prepare_cached(sql)?;
            let handled = statement.query_map(params![plugin.as_str(), after, signed(limit as u64)], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            handled.collect()
        })
    }

    pub(super) fn first_reply(&self, owner: &str, key: &str, since_ms: u64) -> std::result::Result<Option<Bytes>, Unavailable> {
        self.read(|db| first_replies::get(db, owner, key, since_ms))
    }

    pub(super) fn size(&self, plugin: &PluginName) -> std::result::Result<u64, Unavailable> {
        self.read(|db| {
            let sql = "SELECT coalesce(sum(length(key) + length(value)), 0) FROM entries WHERE plugin = ?1";
            let sum: i64 = db.prepare_cached(sql)?.query_row([plugin.as_str()], |row| row.get(0))?;
            Ok(sum.unsigned_abs())
        })
    }

    pub(super) fn outbox_after(&self, seq: u64, limit: usize) -> std::result::Result<Vec<OutboxRow>, Unavailable> {
        self.read(|db| outbox_after(db, seq, signed(limit as u64)))
    }

    pub(super) fn outbox_waiting(&self, topic: &str, seq: u64, most: usize) -> std::result::Result<u64, Unavailable> {
        self.read(|db| {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE seq > ?1 AND topic = ?2 LIMIT ?3)";
            let found: i64 =
                db.prepare_cached(sql)?.query_row(params![signed(seq), topic, signed(most as u64)], |row| row.get(0))?;
            Ok(found.unsigned_abs())
        })
    }

    pub(super) fn dead_letters(&self, seq: u64, limit: usize) -> std::result::Result<Vec<DeadLetterRow>, Unavailable> {
        self.read(|db| dead_letters(db, seq, signed(limit as u64)))
    }

    pub(super) fn blob(&self, name: &str) -> std::result::Result<Option<Bytes>, Unavailable> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT value FROM blobs WHERE name = ?1")?;
            statement.query_row([name], |row| rows::bytes(row, 0)).optional()
        })
    }

    pub(super) fn blobs(&self, prefix: &str, limit: usize) -> std::result::Result<Vec<String>, Unavailable> {
        self.read(|db| {
            // Names are text, compared by their bytes; so are their prefixes from `substr`.
            let sql = "SELECT name FROM blobs WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?2";
            db.prepare_cached(sql)?.query_map(params![prefix, signed(limit as u64)], |row| row.get(0))?.collect()
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> std::result::Result<T, Unavailable> {
        read(&self.free()).map_err(Unavailable::new)
    }

    fn free(&self) -> MutexGuard<'_, Connection> {
        let free = self.0.iter().find_map(|reader| reader.try_lock());
        // If all are busy, any will do: each is busy for microseconds.
        free.unwrap_or_else(|| self.0[0].lock())
    }
}

pub(super) fn outbox_after(db: &Connection, seq: u64, limit: i64) -> Result<Vec<OutboxRow>> {
    let sql = "SELECT seq, id, topic, key, tenant, data, hops, at_ms,
        (SELECT parent FROM outbox_traces WHERE outbox_traces.seq = outbox.seq)
        FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map([signed(seq), limit], |row| {
        let mut found = rows::message(row, 0)?;
        found.message.trace = row.get(8)?;
        Ok(found)
    })?;
    found.collect()
}

pub(super) fn dead_letters(db: &Connection, seq: u64, limit: i64) -> Result<Vec<DeadLetterRow>> {
    let sql = "SELECT plugin, error, died_at_ms, seq, id, topic, key, tenant, data, hops, at_ms,
        (SELECT parent FROM letter_traces WHERE letter_traces.seq = dead_letters.seq)
        FROM dead_letters WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map([signed(seq), limit], |row| {
        let OutboxRow { seq, mut message } = rows::message(row, 3)?;
        message.trace = row.get(11)?;
        let letter = DeadLetter { plugin: rows::plugin(row, 0)?, message, error: row.get(1)? };
        Ok(DeadLetterRow { seq, at_ms: row.get::<_, i64>(2)?.unsigned_abs(), letter })
    })?;
    found.collect()
}

/// None if the values exceed the limit of bytes.
fn get_many(db: &Connection, plugin: &PluginName, keys: &[String]) -> Result<Option<Vec<Option<Bytes>>>> {
    // One transaction, so that all values are from one moment.
    let moment = db.unchecked_transaction()?;
    let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = rows::get(&moment, plugin, key)?;
        bytes += value.as_ref().map_or(0, |value| key.len() + value.len());
        if bytes > MAX_SCAN_BYTES {
            return Ok(None);
        }
        values.push(value);
    }
    Ok(Some(values))
}

/// None if the entries exceed the limit of bytes.
fn scan(
    db: &Connection,
    plugin: &PluginName,
    start: &[u8],
    end: Option<&[u8]>,
    limit: usize,
    reverse: bool,
) -> Result<Option<Vec<(String, Bytes)>>> {
    let sql = match (end.is_some(), reverse) {
        (true, false) => "SELECT key, value FROM entries WHERE plugin = ?1 AND key >= ?2 AND key < ?4 ORDER BY key LIMIT ?3",
        (true, true) => "SELECT key, value FROM entries WHERE plugin = ?1 AND key >= ?2 AND key < ?4 ORDER BY key DESC LIMIT ?3",
        (false, false) => "SELECT key, value FROM entries WHERE plugin = ?1 AND key >= ?2 ORDER BY key LIMIT ?3",
        (false, true) => "SELECT key, value FROM entries WHERE plugin = ?1 AND key >= ?2 ORDER BY key DESC LIMIT ?3",
    };
    let mut statement = db.prepare_cached(sql)?;
    let limit = signed(limit as u64);
    let mut found = match end {
        Some(end) => statement.query(params![plugin.as_str(), start, limit, end])?,
        None => statement.query(params![plugin.as_str(), start, limit])?,
    };
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let key = std::str::from_utf8(row.get_ref(0)?.as_blob()?)?.to_owned();
        let value = rows::bytes(row, 1)?;
        bytes += key.len() + value.len();
        if bytes > MAX_SCAN_BYTES {
            return Ok(None);
        }
        entries.push((key, value));
    }
    Ok(Some(entries))
}
