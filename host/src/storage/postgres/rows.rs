//! The statements, and the shapes of their rows. Contains tables and columns; decides nothing.

use bytes::Bytes;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::super::{DeadLetter, DeadLetterRow, HandOver, OutboxMessage, OutboxRow};
use super::connection::Failed;
use crate::names::PluginName;

/// Defines a struct of prepared statements, all prepared in one round trip.
macro_rules! statements {
    ($(#[$about:meta])* $name:ident { $($statement:ident: $sql:expr,)* }) => {
        $(#[$about])*
        pub(super) struct $name { $(pub(super) $statement: Statement,)* }

        impl $name {
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let ($($statement,)*) = tokio::try_join!(biased; $(client.prepare($sql),)*)?;
                Ok(Self { $($statement,)* })
            }
        }
    };
}

statements! {
    /// The statements of a reading connection.
    Reads {
        get: "SELECT value FROM hubbub_entries WHERE plugin = $1 AND key = $2",
        get_many: "SELECT key, value FROM hubbub_entries WHERE plugin = $1 AND key = ANY($2)",
        scan: "SELECT key, value FROM hubbub_entries WHERE plugin = $1 AND key >= $2 AND key < $4 ORDER BY key LIMIT $3",
        scan_back: "SELECT key, value FROM hubbub_entries WHERE plugin = $1 AND key >= $2 AND key < $4
            ORDER BY key DESC LIMIT $3",
        scan_to_end: "SELECT key, value FROM hubbub_entries WHERE plugin = $1 AND key >= $2 ORDER BY key LIMIT $3",
        scan_back_from_end: "SELECT key, value FROM hubbub_entries WHERE plugin = $1 AND key >= $2 ORDER BY key DESC LIMIT $3",
        keys: "SELECT key FROM hubbub_entries
            WHERE plugin = $1 AND key >= $2 AND key > $3 AND ($4::bytea IS NULL OR key < $4) ORDER BY key LIMIT $5",
        // Three columns: two would be counted as a key and its value.
        handled_after: "SELECT id, at_ms, plugin FROM hubbub_handled WHERE plugin = $1 AND id > $2 ORDER BY id LIMIT $3",
        first_reply: "SELECT reply FROM hubbub_first_replies WHERE owner = $1 AND key = $2 AND at_ms >= $3",
        outbox: "SELECT seq, id, topic, key, tenant, data, hops, at_ms, trace
            FROM hubbub_outbox WHERE seq > $1 ORDER BY seq LIMIT $2",
        waiting: "SELECT count(*) FROM (SELECT 1 FROM hubbub_outbox WHERE seq > $1 AND topic = $2 LIMIT $3) AS rows",
        letters: "SELECT seq, id, topic, key, tenant, data, hops, at_ms, trace, plugin, error, died_at_ms
            FROM hubbub_dead_letters WHERE seq > $1 ORDER BY seq LIMIT $2",
        blob: "SELECT value FROM hubbub_blobs WHERE name = $1",
        blobs: "SELECT name FROM hubbub_blobs WHERE name >= $1 AND substr(name, 1, length($1::bytea)) = $1 ORDER BY name LIMIT $2",
        size: "SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0)::int8 FROM hubbub_entries WHERE plugin = $1",
        // A standby would answer every read, but refuse every commit.
        health: "SELECT pg_is_in_recovery()",
    }
}

statements! {
    /// The statements of the writer's connection. The first also takes the lock that orders the groups of all nodes.
    Writes {
        take: "UPDATE hubbub_host SET value = value + $1 WHERE name = 'sequence' RETURNING value",
        last: "SELECT last FROM hubbub_writers WHERE id = $1",
        values: "SELECT k.n, e.value FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k (plugin, key, n)
            JOIN hubbub_entries e ON e.plugin = k.plugin AND e.key = k.key",
        handled: "SELECT k.n FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k (plugin, id, n)
            JOIN hubbub_handled h ON h.plugin = k.plugin AND h.id = k.id",
        put: "INSERT INTO hubbub_entries SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])
            ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value",
        delete: "DELETE FROM hubbub_entries e USING unnest($1::text[], $2::bytea[]) AS k (plugin, key)
            WHERE e.plugin = k.plugin AND e.key = k.key",
        put_messages: "INSERT INTO hubbub_outbox
            SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::int2[], $8::int8[],
                $9::bytea[])",
        put_handled: "INSERT INTO hubbub_handled SELECT k.*, $3::int8 FROM unnest($1::text[], $2::bytea[]) AS k",
        sweep_handled: "DELETE FROM hubbub_handled WHERE (plugin, id) IN
            (SELECT plugin, id FROM hubbub_handled WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)",
        replied: "SELECT k.n FROM unnest($1::bytea[], $2::bytea[], $3::int8[]) WITH ORDINALITY AS k (owner, key, since, n)
            JOIN hubbub_first_replies r ON r.owner = k.owner AND r.key = k.key AND r.at_ms >= k.since",
        // A reply that is too old is replaced, and is then the newest.
        put_replies: "INSERT INTO hubbub_first_replies
            SELECT k.owner, k.key, k.plugin,
                coalesce((SELECT max(r.owner_end) FROM hubbub_first_replies r WHERE r.owner = k.owner), 0)
                    + (sum(k.bytes) OVER (PARTITION BY k.owner ORDER BY k.n))::int8,
                coalesce((SELECT max(r.plugin_end) FROM hubbub_first_replies r WHERE r.plugin = k.plugin), 0)
                    + (sum(k.bytes) OVER (PARTITION BY k.plugin ORDER BY k.n))::int8,
                $6::int8, k.reply
            FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::int8[], $5::bytea[]) WITH ORDINALITY
                AS k (owner, key, plugin, bytes, reply, n)
            ON CONFLICT (owner, key) DO UPDATE SET plugin = excluded.plugin, owner_end = excluded.owner_end,
                plugin_end = excluded.plugin_end, at_ms = excluded.at_ms, reply = excluded.reply",
        cap_owners: "DELETE FROM hubbub_first_replies r USING (SELECT DISTINCT u.owner FROM unnest($1::bytea[]) AS u (owner)) k,
            LATERAL (SELECT max(m.owner_end) AS at FROM hubbub_first_replies m WHERE m.owner = k.owner) newest
            WHERE r.owner = k.owner AND r.owner_end <= newest.at - $2",
        // By row id: a planner that does not know the limit of the inner query would read the whole table.
        cap_plugins: "DELETE FROM hubbub_first_replies WHERE ctid = ANY (ARRAY(SELECT oldest.id
            FROM (SELECT DISTINCT u.plugin FROM unnest($1::text[]) AS u (plugin)) k,
            LATERAL (SELECT max(m.plugin_end) AS at FROM hubbub_first_replies m WHERE m.plugin = k.plugin) newest,
            LATERAL (SELECT o.ctid AS id, o.plugin_end FROM hubbub_first_replies o WHERE o.plugin = k.plugin
                ORDER BY o.plugin_end LIMIT $3) oldest
            WHERE oldest.plugin_end <= newest.at - $2))",
        sweep_replies: "DELETE FROM hubbub_first_replies WHERE ctid = ANY (ARRAY(SELECT oldest.id
            FROM (SELECT DISTINCT u.plugin FROM unnest($1::text[]) AS u (plugin)) k,
            LATERAL (SELECT o.ctid AS id, o.at_ms FROM hubbub_first_replies o WHERE o.plugin = k.plugin
                ORDER BY o.plugin_end LIMIT $3) oldest
            WHERE oldest.at_ms < $2))",
        import_replies: "INSERT INTO hubbub_first_replies
            SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::bytea[])",
        outbox_done: "DELETE FROM hubbub_outbox WHERE seq <= $1",
        letter: "INSERT INTO hubbub_dead_letters VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT DO NOTHING",
        cap_letters: "DELETE FROM hubbub_dead_letters WHERE seq IN
            (SELECT seq FROM hubbub_dead_letters ORDER BY seq DESC OFFSET $1)",
        take_letter: "DELETE FROM hubbub_dead_letters WHERE seq = $1
            RETURNING seq, id, topic, key, tenant, data, hops, at_ms, trace, plugin, error, died_at_ms",
        remove_letter: "DELETE FROM hubbub_dead_letters WHERE seq = $1",
        move_keys: "UPDATE hubbub_entries e SET plugin = $2 WHERE e.plugin = $1 AND e.key = ANY($3)
            AND NOT EXISTS (SELECT FROM hubbub_entries o WHERE o.plugin = $2 AND o.key = e.key)",
        copy_handled: "INSERT INTO hubbub_handled SELECT $1, h.id, h.at_ms FROM unnest($2::bytea[], $3::int8[]) AS h (id, at_ms)
            ON CONFLICT DO NOTHING",
        move_letters: "UPDATE hubbub_dead_letters l SET plugin = $2 WHERE l.plugin = $1 AND l.seq = ANY($3)
            AND NOT EXISTS (SELECT FROM hubbub_dead_letters o WHERE o.plugin = $2 AND o.id = l.id)",
        address: "UPDATE hubbub_outbox o SET topic = m.topic FROM unnest($1::int8[], $2::bytea[]) AS m (seq, topic)
            WHERE o.seq = m.seq",
        put_blob: "INSERT INTO hubbub_blobs VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        remove_blob: "DELETE FROM hubbub_blobs WHERE name = $1",
        // Part of the transaction, so that a writer that lost the answer can find out whether it was committed.
        written: "INSERT INTO hubbub_writers VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE SET last = excluded.last, at_ms = excluded.at_ms",
        notify: "SELECT pg_notify('hubbub_outbox', '')",
    }
}

impl Writes {
    /// Moves rows from one plugin to another. Rows that the second plugin already has are not moved.
    pub(super) async fn hand_over(&self, client: &Client, all: &HandOver) -> Result<(), Error> {
        let (from, to) = (all.from.as_str(), all.to.as_str());
        let keys: Vec<_> = all.keys.iter().map(String::as_bytes).collect();
        client.execute(&self.move_keys, &[&from, &to, &keys]).await?;
        let (ids, times): (Vec<_>, Vec<_>) = all.handled.iter().map(|(id, at_ms)| (id.as_bytes(), signed(*at_ms))).unzip();
        client.execute(&self.copy_handled, &[&to, &ids, &times]).await?;
        let letters: Vec<_> = all.letters.iter().map(|seq| signed(*seq)).collect();
        client.execute(&self.move_letters, &[&from, &to, &letters]).await?;
        let topics: Vec<_> = all.topics().collect();
        let (rows, topics): (Vec<_>, Vec<_>) = topics.iter().map(|(seq, topic)| (signed(*seq), topic.as_bytes())).unzip();
        client.execute(&self.address, &[&rows, &topics]).await?;
        Ok(())
    }

    /// Returns the number of added letters: none if the plugin already has a letter of this message.
    pub(super) async fn put_letter(&self, client: &Client, seq: u64, now_ms: u64, letter: &DeadLetter) -> Result<u64, Error> {
        let (seq, now, plugin, error) = (signed(seq), signed(now_ms), letter.plugin.as_str(), letter.error.as_bytes());
        let message = &letter.message;
        let (id, topic, data) = (message.id.as_bytes(), message.topic.as_bytes(), message.data.as_bytes());
        let (key, tenant) = (message.key.as_ref().map(String::as_bytes), message.tenant.as_ref().map(String::as_bytes));
        let (hops, at_ms) = (i16::from(message.hops), signed(message.at_ms));
        let trace = message.trace.as_ref().map(String::as_bytes);
        let row: [&(dyn ToSql + Sync); 12] =
            [&seq, &plugin, &error, &now, &id, &topic, &key, &tenant, &data, &hops, &at_ms, &trace];
        client.execute(&self.letter, &row).await
    }
}

/// The channel on which nodes are notified of commits to the outbox.
pub(super) const LISTEN: &str = "LISTEN hubbub_outbox";

/// Deletes writers that have been silent for a day.
pub(super) const FORGET_WRITERS: &str = "DELETE FROM hubbub_writers WHERE at_ms < $1";

pub(super) fn text(row: &Row, column: usize) -> Result<String, Failed> {
    let bytes: &[u8] = row.try_get(column)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Failed::Refused("the database contains text that is not UTF-8".to_owned()))
}

pub(super) fn bytes(row: &Row, column: usize) -> Result<Bytes, Failed> {
    Ok(Bytes::copy_from_slice(row.try_get(column)?))
}

fn optional(row: &Row, column: usize) -> Result<Option<String>, Failed> {
    let exists = row.try_get::<_, Option<&[u8]>>(column)?.is_some();
    if exists { text(row, column).map(Some) } else { Ok(None) }
}

pub(super) fn number(row: &Row, column: usize) -> Result<u64, Failed> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

/// A message in the first nine columns.
pub(super) fn message(row: &Row) -> Result<OutboxRow, Failed> {
    let hops: i16 = row.try_get(6)?;
    let message = OutboxMessage {
        id: text(row, 1)?,
        topic: text(row, 2)?,
        key: optional(row, 3)?,
        tenant: optional(row, 4)?,
        data: text(row, 5)?,
        hops: u8::try_from(hops).unwrap_or(u8::MAX),
        at_ms: number(row, 7)?,
        trace: optional(row, 8)?,
    };
    Ok(OutboxRow { seq: number(row, 0)?, message })
}

pub(super) fn letter(row: &Row) -> Result<DeadLetterRow, Failed> {
    let OutboxRow { seq, message } = message(row)?;
    let plugin = PluginName::parse(row.try_get(9)?).map_err(|e| Failed::Refused(e.to_string()))?;
    Ok(DeadLetterRow { seq, at_ms: number(row, 11)?, letter: DeadLetter { plugin, message, error: text(row, 10)? } })
}

/// PostgreSQL's integers are signed; larger numbers are capped.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Messages by column, for one statement.
#[derive(Default)]
pub(super) struct Messages<'a> {
    pub(super) seq: Vec<i64>,
    pub(super) id: Vec<&'a [u8]>,
    pub(super) topic: Vec<&'a [u8]>,
    pub(super) key: Vec<Option<&'a [u8]>>,
    pub(super) tenant: Vec<Option<&'a [u8]>>,
    pub(super) data: Vec<&'a [u8]>,
    pub(super) hops: Vec<i16>,
    pub(super) at_ms: Vec<i64>,
    pub(super) trace: Vec<Option<&'a [u8]>>,
}

impl<'a> Messages<'a> {
    pub(super) fn of(messages: impl IntoIterator<Item = (u64, &'a OutboxMessage)>) -> Self {
        let mut columns = Self::default();
        for (seq, message) in messages {
            columns.seq.push(signed(seq));
            columns.id.push(message.id.as_bytes());
            columns.topic.push(message.topic.as_bytes());
            columns.key.push(message.key.as_ref().map(String::as_bytes));
            columns.tenant.push(message.tenant.as_ref().map(String::as_bytes));
            columns.data.push(message.data.as_bytes());
            columns.hops.push(i16::from(message.hops));
            columns.at_ms.push(signed(message.at_ms));
            columns.trace.push(message.trace.as_ref().map(String::as_bytes));
        }
        columns
    }

    pub(super) async fn insert(&self, client: &Client, statement: &Statement) -> Result<u64, Error> {
        let Self { seq, id, topic, key, tenant, data, hops, at_ms, trace } = self;
        client.execute(statement, &[seq, id, topic, key, tenant, data, hops, at_ms, trace]).await
    }
}
