//! The tables, and migrations from older formats. Never changes a database of a newer format, and never runs on two nodes at
//! once.

use tokio_postgres::Client;

use super::OpenError;
use super::connection::Failed;

/// Each migrates a database from the format of its index to the next. A released one never changes: add a new one instead.
///
/// Text from outside is stored as bytes: a PostgreSQL text cannot contain NUL, and its order depends on the collation.
const MIGRATIONS: [&str; 3] = [
    "
CREATE TABLE hubbub_host (name text PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO hubbub_host VALUES ('format', 0), ('sequence', 0);
CREATE TABLE hubbub_writers (id bytea PRIMARY KEY, last bigint NOT NULL, at_ms bigint NOT NULL) WITH (fillfactor = 10);
CREATE TABLE hubbub_entries (
    plugin text COLLATE \"C\" NOT NULL, key bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (plugin, key)
) WITH (fillfactor = 90);
CREATE TABLE hubbub_handled (
    plugin text COLLATE \"C\" NOT NULL, id bytea NOT NULL, at_ms bigint NOT NULL, PRIMARY KEY (plugin, id)
);
CREATE INDEX hubbub_handled_at ON hubbub_handled (at_ms);
CREATE TABLE hubbub_outbox (
    seq bigint PRIMARY KEY, id bytea NOT NULL, topic bytea NOT NULL, key bytea, tenant bytea, data bytea NOT NULL,
    hops smallint NOT NULL, at_ms bigint NOT NULL, trace bytea
);
CREATE TABLE hubbub_dead_letters (
    seq bigint PRIMARY KEY, plugin text COLLATE \"C\" NOT NULL, error bytea NOT NULL, died_at_ms bigint NOT NULL,
    id bytea NOT NULL, topic bytea NOT NULL, key bytea, tenant bytea, data bytea NOT NULL,
    hops smallint NOT NULL, at_ms bigint NOT NULL, UNIQUE (plugin, id)
);
CREATE TABLE hubbub_blobs (name bytea PRIMARY KEY, value bytea NOT NULL);
",
    // Nodes of the previous format may still run: rows they write have no trace.
    "ALTER TABLE hubbub_dead_letters ADD COLUMN trace bytea",
    // Each row holds running totals of bytes at its end, of its owner and of its plugin: a limit of bytes costs one comparison.
    "
CREATE TABLE hubbub_first_replies (
    owner bytea NOT NULL, key bytea NOT NULL, plugin text COLLATE \"C\" NOT NULL, owner_end bigint NOT NULL,
    plugin_end bigint NOT NULL, at_ms bigint NOT NULL, reply bytea NOT NULL, PRIMARY KEY (owner, key)
);
CREATE INDEX hubbub_first_replies_owner ON hubbub_first_replies (owner, owner_end);
CREATE INDEX hubbub_first_replies_plugin ON hubbub_first_replies (plugin, plugin_end);
",
];

/// The lock that serializes nodes which start at the same time, one for each schema: `hubb` as a number, and the schema.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1752523362, hashtext(current_schema()))";

/// The oldest server version that this code supports.
const OLDEST: i32 = 150_000;

/// Migrates the database to this server's format.
pub(super) async fn run(client: &Client, name: &str) -> Result<(), OpenError> {
    let failed = |e: tokio_postgres::Error| OpenError::Unusable { name: name.to_owned(), reason: Failed::from(e).reason() };
    let settings = "SELECT current_setting('server_version_num')::int, current_setting('fsync')";
    let row = client.query_one(settings, &[]).await.map_err(failed)?;
    let (version, fsync): (i32, &str) = (row.get(0), row.get(1));
    if version < OLDEST {
        return Err(OpenError::OldServer { name: name.to_owned(), found: version / 10_000 });
    }
    if fsync == "off" {
        tracing::warn!("{name} runs with fsync = off: acknowledged commits may be lost in a power cut");
    }
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(failed)?;
    let migrated = migrate(client, name).await;
    // After an error there is nothing to commit.
    let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await.map_err(failed)?;
    migrated
}

async fn migrate(client: &Client, name: &str) -> Result<(), OpenError> {
    let failed = |e: tokio_postgres::Error| OpenError::Unusable { name: name.to_owned(), reason: Failed::from(e).reason() };
    client.batch_execute(LOCK).await.map_err(failed)?;
    let known = client.query_one("SELECT to_regclass('hubbub_host') IS NOT NULL", &[]).await.map_err(failed)?;
    let format = match known.get(0) {
        true => {
            let row = client.query_opt("SELECT value FROM hubbub_host WHERE name = 'format'", &[]).await.map_err(failed)?;
            row.map_or(0, |row| row.get::<_, i64>(0))
        }
        false => 0,
    };
    let newest = MIGRATIONS.len() as i64;
    if format > newest {
        return Err(OpenError::NewerFormat { name: name.to_owned(), found: format, reads: newest });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(format).unwrap_or(0)) {
        client.batch_execute(migration).await.map_err(failed)?;
    }
    if format < newest {
        client.execute("UPDATE hubbub_host SET value = $1 WHERE name = 'format'", &[&newest]).await.map_err(failed)?;
    }
    Ok(())
}
