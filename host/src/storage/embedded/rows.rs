//! The statements that write, and the sequence. Contains tables and columns; decides nothing.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::super::group::{Before, Key, Written};
use super::super::{DeadLetter, FirstReply, HandOver, HandledId, OutboxMessage, OutboxRow};
use crate::names::PluginName;

/// Sequence numbers that are reserved with one write, and skipped by a restart.
const RESERVE: u64 = 1 << 16;

/// The most handled ids that one group deletes: more than a group can add, so that their number shrinks.
const SWEEP: usize = 2048;

/// The numbers of appends, messages and letters, in commit order. A number is used once, even if its group fails.
pub(super) struct Sequence {
    pub(super) next: u64,
    /// Numbers up to this one are reserved on the disk.
    reserved: u64,
}

impl Sequence {
    pub(super) fn starting_at(reserved: u64) -> Self {
        Self { next: reserved + 1, reserved }
    }
}

/// The writer's statements, within its transaction.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a>(pub(super) &'a Connection);

impl Before for Rows<'_> {
    type Error = rusqlite::Error;

    fn value(&self, (plugin, key): &Key) -> Result<Option<Bytes>> {
        get(self.0, plugin, key)
    }

    fn is_handled(&self, handled: &HandledId) -> Result<bool> {
        let sql = "SELECT 1 FROM handled WHERE plugin = ?1 AND id = ?2";
        self.0.prepare_cached(sql)?.exists((handled.plugin.as_str(), &handled.id))
    }

    fn is_replied(&self, reply: &FirstReply) -> Result<bool> {
        let sql = "SELECT 1 FROM first_replies WHERE owner = ?1 AND key = ?2 AND at_ms >= ?3";
        self.0.prepare_cached(sql)?.exists(params![reply.owner, reply.key, signed(reply.bounds.since_ms)])
    }
}

impl Rows<'_> {
    /// Writes the result of a group. Ids that were handled before `forget_ms` may be deleted; new ones are stored with
    /// `stamp_ms`.
    pub(super) fn write(self, written: &Written, stamp_ms: u64, forget_ms: u64) -> Result<()> {
        for ((plugin, key), value) in &written.values {
            match value {
                Some(value) => self.put(plugin, key, value)?,
                None => self.delete(plugin, key)?,
            }
        }
        for (seq, message) in &written.messages {
            self.put_message(*seq, message)?;
        }
        for handled in &written.handled {
            self.put_handled(handled, stamp_ms)?;
        }
        if written.handled.is_empty() { Ok(()) } else { self.sweep_handled(forget_ms) }
    }

    fn put(self, plugin: &PluginName, key: &str, value: &[u8]) -> Result<()> {
        let sql = "INSERT INTO entries VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.0.prepare_cached(sql)?.execute((plugin.as_str(), key.as_bytes(), value)).map(drop)
    }

    fn delete(self, plugin: &PluginName, key: &str) -> Result<()> {
        let sql = "DELETE FROM entries WHERE plugin = ?1 AND key = ?2";
        self.0.prepare_cached(sql)?.execute((plugin.as_str(), key.as_bytes())).map(drop)
    }

    fn put_handled(self, handled: &HandledId, stamp_ms: u64) -> Result<()> {
        let sql = "INSERT INTO handled VALUES (?1, ?2, ?3)";
        self.0.prepare_cached(sql)?.execute((handled.plugin.as_str(), &handled.id, signed(stamp_ms))).map(drop)
    }

    /// Deletes the oldest ids that were handled before a time.
    fn sweep_handled(self, before_ms: u64) -> Result<()> {
        let sql = "DELETE FROM handled WHERE (plugin, id) IN
            (SELECT plugin, id FROM handled INDEXED BY handled_at WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)";
        self.0.prepare_cached(sql)?.execute((signed(before_ms), SWEEP as i64)).map(drop)
    }

    fn put_message(self, seq: u64, message: &OutboxMessage) -> Result<()> {
        let OutboxMessage { id, topic, key, tenant, data, hops, at_ms, trace } = message;
        let sql = "INSERT INTO outbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let row = params![signed(seq), id, topic, key, tenant, data, hops, signed(*at_ms)];
        self.0.prepare_cached(sql)?.execute(row)?;
        if let Some(trace) = trace {
            self.0.prepare_cached("INSERT INTO outbox_traces VALUES (?1, ?2)")?.execute(params![signed(seq), trace])?;
        }
        Ok(())
    }

    pub(super) fn outbox_done(self, seq: u64) -> Result<bool> {
        self.0.prepare_cached("DELETE FROM outbox_traces WHERE seq <= ?1")?.execute([signed(seq)])?;
        Ok(self.0.prepare_cached("DELETE FROM outbox WHERE seq <= ?1")?.execute([signed(seq)])? > 0)
    }

    /// False if the plugin already has a letter of this message.
    pub(super) fn put_dead_letter(self, seq: u64, letter: &DeadLetter, now_ms: u64) -> Result<bool> {
        let OutboxMessage { id, topic, key, tenant, data, hops, at_ms, trace } = &letter.message;
        let (plugin, now) = (letter.plugin.as_str(), signed(now_ms));
        let sql = "INSERT OR IGNORE INTO dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let row = params![signed(seq), plugin, letter.error, now, id, topic, key, tenant, data, hops, signed(*at_ms)];
        let new = self.0.prepare_cached(sql)?.execute(row)? > 0;
        if let Some(trace) = trace.as_ref().filter(|_| new) {
            self.0.prepare_cached("INSERT INTO letter_traces VALUES (?1, ?2)")?.execute(params![signed(seq), trace])?;
        }
        Ok(new)
    }

    /// Removes the oldest letters over a number, and returns how many.
    pub(super) fn cap_dead_letters(self, most: usize) -> Result<usize> {
        let sql = "DELETE FROM dead_letters WHERE seq IN (SELECT seq FROM dead_letters ORDER BY seq DESC LIMIT -1 OFFSET ?1)";
        self.0.prepare_cached(sql)?.execute([i64::try_from(most).unwrap_or(i64::MAX)])
    }

    pub(super) fn remove_dead_letter(self, seq: u64) -> Result<bool> {
        Ok(self.0.prepare_cached("DELETE FROM dead_letters WHERE seq = ?1")?.execute([signed(seq)])? > 0)
    }

    /// Removes a letter, and returns its plugin and message.
    pub(super) fn take_dead_letter(self, seq: u64) -> Result<Option<(PluginName, OutboxMessage)>> {
        // Before the letter, since the trigger deletes its trace.
        let mut traced = self.0.prepare_cached("SELECT parent FROM letter_traces WHERE seq = ?1")?;
        let trace = traced.query_row([signed(seq)], |row| row.get(0)).optional()?;
        let sql = "DELETE FROM dead_letters WHERE seq = ?1 RETURNING plugin, seq, id, topic, key, tenant, data, hops, at_ms";
        let mut statement = self.0.prepare_cached(sql)?;
        let taken = statement.query_row([signed(seq)], |row| Ok((plugin(row, 0)?, message(row, 1)?.message)));
        Ok(taken.optional()?.map(|(plugin, message)| (plugin, OutboxMessage { trace, ..message })))
    }

    /// Moves rows from one plugin to another. Rows that the second plugin already has are not moved.
    pub(super) fn hand_over(self, all: &HandOver) -> Result<()> {
        let (from, to) = (all.from.as_str(), all.to.as_str());
        let mut moved = self.0.prepare_cached("UPDATE OR IGNORE entries SET plugin = ?2 WHERE plugin = ?1 AND key = ?3")?;
        for key in &all.keys {
            moved.execute((from, to, key.as_bytes()))?;
        }
        let mut copied = self.0.prepare_cached("INSERT OR IGNORE INTO handled VALUES (?1, ?2, ?3)")?;
        for (id, at_ms) in &all.handled {
            copied.execute((to, id, signed(*at_ms)))?;
        }
        let mut moved = self.0.prepare_cached("UPDATE OR IGNORE dead_letters SET plugin = ?2 WHERE plugin = ?1 AND seq = ?3")?;
        for seq in &all.letters {
            moved.execute((from, to, signed(*seq)))?;
        }
        let mut addressed = self.0.prepare_cached("UPDATE outbox SET topic = ?2 WHERE seq = ?1")?;
        for (seq, topic) in all.topics() {
            addressed.execute((signed(seq), topic))?;
        }
        Ok(())
    }

    pub(super) fn put_blob(self, name: &str, value: &[u8]) -> Result<()> {
        let sql = "INSERT INTO blobs VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.0.prepare_cached(sql)?.execute((name, value)).map(drop)
    }

    pub(super) fn remove_blob(self, name: &str) -> Result<bool> {
        Ok(self.0.prepare_cached("DELETE FROM blobs WHERE name = ?1")?.execute([name])? > 0)
    }

    /// Reserves numbers if the group has used more than were reserved. The reservation is valid once the group is committed.
    pub(super) fn reserve(self, sequence: &Sequence) -> Result<Option<u64>> {
        if sequence.next <= sequence.reserved + 1 {
            return Ok(None);
        }
        let reserved = sequence.next + RESERVE;
        self.0.prepare_cached("UPDATE host SET value = ?1 WHERE name = 'sequence'")?.execute([signed(reserved)])?;
        Ok(Some(reserved))
    }
}

impl Sequence {
    /// Called when the reservation is on the disk.
    pub(super) fn reserved(&mut self, reserved: Option<u64>) {
        self.reserved = reserved.unwrap_or(self.reserved);
    }
}

pub(super) fn get(db: &Connection, plugin: &PluginName, key: &str) -> Result<Option<Bytes>> {
    let mut statement = db.prepare_cached("SELECT value FROM entries WHERE plugin = ?1 AND key = ?2")?;
    statement.query_row((plugin.as_str(), key.as_bytes()), |row| bytes(row, 0)).optional()
}

pub(super) fn bytes(row: &Row<'_>, column: usize) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

/// A message in eight columns: sequence number, id, topic, key, tenant, data, hops, time.
pub(super) fn message(row: &Row<'_>, first: usize) -> Result<OutboxRow> {
    let message = OutboxMessage {
        id: row.get(first + 1)?,
        topic: row.get(first + 2)?,
        key: row.get(first + 3)?,
        tenant: row.get(first + 4)?,
        data: row.get(first + 5)?,
        hops: row.get(first + 6)?,
        at_ms: row.get::<_, i64>(first + 7)?.unsigned_abs(),
        trace: None,
    };
    Ok(OutboxRow { seq: row.get::<_, i64>(first)?.unsigned_abs(), message })
}

/// SQLite's integers are signed; larger numbers are capped.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn plugin(row: &Row<'_>, column: usize) -> Result<PluginName> {
    PluginName::parse(&row.get::<_, String>(column)?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}
