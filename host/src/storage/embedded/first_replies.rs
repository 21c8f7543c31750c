//! The statements about first replies: replies to events that take effect once. Contains the table's columns; decides nothing.
//!
//! Each row holds two running totals of bytes at its end: of its owner's replies, and of its plugin's. The difference of two totals is
//! the size of everything between them, so that a limit of bytes costs one comparison and no sum.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::super::FirstReply;
use super::rows::{self, Rows, signed};
use crate::names::PluginName;

/// The table, which an older host ignores.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS first_replies (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, key TEXT NOT NULL, plugin TEXT NOT NULL, owner_end INTEGER NOT NULL,
    plugin_end INTEGER NOT NULL, at_ms INTEGER NOT NULL, reply BLOB NOT NULL, UNIQUE (owner, key)
) STRICT;
CREATE INDEX IF NOT EXISTS first_replies_owner ON first_replies (owner, owner_end);
CREATE INDEX IF NOT EXISTS first_replies_plugin ON first_replies (plugin, plugin_end);
";

/// Old rows that each new one deletes: more than one, so that their number shrinks.
const SWEEP: u64 = 4;

/// A stored reply.
pub(in super::super) struct Row {
    pub(in super::super) id: i64,
    pub(in super::super) owner: String,
    pub(in super::super) key: String,
    pub(in super::super) plugin: PluginName,
    pub(in super::super) owner_end: i64,
    pub(in super::super) plugin_end: i64,
    pub(in super::super) at_ms: i64,
    pub(in super::super) reply: Bytes,
}

pub(super) fn get(db: &Connection, owner: &str, key: &str, since_ms: u64) -> Result<Option<Bytes>> {
    let sql = "SELECT reply FROM first_replies WHERE owner = ?1 AND key = ?2 AND at_ms >= ?3";
    db.prepare_cached(sql)?.query_row(params![owner, key, signed(since_ms)], |row| rows::bytes(row, 0)).optional()
}

/// The page of rows after an id.
pub(super) fn after(db: &Connection, id: i64, limit: i64) -> Result<Vec<Row>> {
    let sql = "SELECT id, owner, key, plugin, owner_end, plugin_end, at_ms, reply FROM first_replies WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map([id, limit], |row| {
        Ok(Row {
            id: row.get(0)?,
            owner: row.get(1)?,
            key: row.get(2)?,
            plugin: rows::plugin(row, 3)?,
            owner_end: row.get(4)?,
            plugin_end: row.get(5)?,
            at_ms: row.get(6)?,
            reply: rows::bytes(row, 7)?,
        })
    })?;
    found.collect()
}

impl Rows<'_> {
    /// Stores a reply, and deletes some that are too old. Returns how many others were deleted to keep the limits of bytes.
    pub(super) fn put_first_reply(self, plugin: &PluginName, one: &FirstReply, stamp_ms: u64) -> Result<usize> {
        let (plugin, bounds) = (plugin.as_str(), one.bounds);
        // A reply that is too old is replaced, and is then the newest.
        let sql = "INSERT INTO first_replies (owner, key, plugin, owner_end, plugin_end, at_ms, reply) VALUES (?1, ?2, ?3,
                ?4 + coalesce((SELECT max(owner_end) FROM first_replies WHERE owner = ?1), 0),
                ?4 + coalesce((SELECT max(plugin_end) FROM first_replies WHERE plugin = ?3), 0), ?5, ?6)
            ON CONFLICT DO UPDATE SET plugin = excluded.plugin, owner_end = excluded.owner_end, plugin_end = excluded.plugin_end,
                at_ms = excluded.at_ms, reply = excluded.reply";
        let row = params![one.owner, one.key, plugin, signed(one.bytes()), signed(stamp_ms), one.reply.as_ref()];
        self.0.prepare_cached(sql)?.execute(row)?;
        let sql = "DELETE FROM first_replies WHERE id IN (SELECT id FROM
            (SELECT id, at_ms FROM first_replies WHERE plugin = ?1 ORDER BY plugin_end LIMIT ?3) WHERE at_ms < ?2)";
        self.0.prepare_cached(sql)?.execute(params![plugin, signed(bounds.since_ms), signed(SWEEP)])?;
        let sql = "DELETE FROM first_replies WHERE owner = ?1
            AND owner_end <= (SELECT max(owner_end) FROM first_replies WHERE owner = ?1) - ?2";
        let of_owner = self.0.prepare_cached(sql)?.execute(params![one.owner, signed(bounds.owner_bytes)])?;
        let sql = "DELETE FROM first_replies WHERE plugin = ?1
            AND plugin_end <= (SELECT max(plugin_end) FROM first_replies WHERE plugin = ?1) - ?2";
        let of_plugin = self.0.prepare_cached(sql)?.execute(params![plugin, signed(bounds.plugin_bytes)])?;
        Ok(of_owner + of_plugin)
    }
}
