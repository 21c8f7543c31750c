//! Storage in a PostgreSQL database that several nodes share. Reads use a few connections; writes go through one task that writes
//! waiting commits as one transaction, with a lock that orders the groups of all nodes. Never acknowledges a commit that may have
//! failed, and never writes a group twice.

mod connection;
mod first_replies;
mod import;
mod listener;
mod migrations;
mod outage;
mod readers;
mod rows;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use self::connection::{Connection, Connector, Failed, Pauses};
use self::outage::Outage;
use self::readers::Readers;
use self::writer::Writer;
use super::queue::{self, Admin, Queue};
use super::stats::Counters;
use super::writing::Probes;
use super::{
    BoxFuture, CommitError, Config, DeadLetter, DeadLetterRow, Effects, HandOver, OutboxRow, Stats, Storage, Unavailable, Url,
    WriteSet, applier,
};
use crate::clock::Clock;
use crate::names::PluginName;

pub use self::import::{ImportError, Moved, import};

/// Why a database cannot be used. Contains its host and database, never its url.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the url of the database (DATABASE_URL, or storage.url) is not a PostgreSQL url: write \
         postgres://USER:PASSWORD@HOST/DATABASE, where @ : / ? # and % of the password are percent-encoded"
    )]
    Url,
    #[error("storage.tls_ca: {0}")]
    Tls(String),
    #[error("the database {name} cannot be reached: {reason}")]
    Unreachable { name: String, reason: String },
    #[error("the database {name} does not let this server in: {reason}")]
    Refused { name: String, reason: String },
    #[error("the database {name} runs PostgreSQL {found}; this server requires 15 or later")]
    OldServer { name: String, found: i32 },
    #[error("the database {name} has format {found}; this server reads up to format {reads}. Run the newer server that wrote it")]
    NewerFormat { name: String, found: i64, reads: i64 },
    #[error("the database {name} cannot be used: {reason}")]
    Unusable { name: String, reason: String },
}

/// The storage of a cluster.
pub struct Postgres {
    queue: Queue,
    readers: Readers,
    counters: Arc<Counters>,
    probes: Probes,
    published: Arc<Notify>,
    /// Aborted when this is dropped.
    _listener: JoinSet<()>,
}

impl Postgres {
    /// Connects, migrates the tables to this server's format, and starts its tasks on the current runtime.
    ///
    /// # Errors
    /// The database is not reachable within `storage.outage_wait`, refuses the login, is too old, of a newer format, or not
    /// writable.
    pub async fn open(url: &Url, config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(url, config)?);
        let first = first(&connector, config).await?;
        migrations::run(&first.client, &connector.name()).await?;
        let counters = Arc::<Counters>::default();
        let outage = Arc::new(Outage::new(config.outage_wait, counters.clone()));
        let (queue, jobs) = queue::new(config, counters.clone());
        let (applier, batches) = mpsc::channel(applier::GROUPS_AHEAD);
        let (own, published) = (Arc::new(AtomicI32::new(0)), Arc::new(Notify::new()));
        let mut listener = JoinSet::new();
        listener.spawn(listener::run(connector.clone(), own.clone(), published.clone()));
        let writer = Writer::new(connector.clone(), outage.clone(), clock, config, counters.clone(), own)?;
        tokio::spawn(writer.run(jobs, applier));
        tokio::spawn(applier::run(batches, counters.clone()));
        let readers = Readers::new(connector, outage, config, counters.clone());
        Ok(Self { queue, readers, counters, probes: Probes::default(), published, _listener: listener })
    }
}

/// The first connection, which shows whether the database can be used. Waits for a database that is starting.
async fn first(connector: &Connector, config: &Config) -> Result<Connection, OpenError> {
    let name = connector.name();
    let (end, mut pauses) = (std::time::Instant::now() + config.outage_wait, Pauses::new());
    loop {
        match connector.connect(Box::new(|_| {})).await {
            Ok(connection) => return Ok(connection),
            Err(Failed::Lost(reason)) if !pauses.wait(end).await => return Err(OpenError::Unreachable { name, reason }),
            Err(Failed::Lost(_)) => {}
            Err(failed) => return Err(OpenError::Refused { name, reason: failed.reason() }),
        }
    }
}

impl Storage for Postgres {
    fn get<'a>(&'a self, plugin: &'a PluginName, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(self.readers.get(plugin, key))
    }

    fn get_many<'a>(
        &'a self,
        plugin: &'a PluginName,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Unavailable>> {
        Box::pin(self.readers.get_many(plugin, keys))
    }

    fn scan<'a>(
        &'a self,
        plugin: &'a PluginName,
        start: &'a str,
        end: &'a str,
        limit: usize,
        reverse: bool,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, Unavailable>> {
        Box::pin(self.readers.scan(plugin, start, end, limit, reverse))
    }

    fn keys<'a>(
        &'a self,
        plugin: &'a PluginName,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        Box::pin(self.readers.keys(plugin, prefix, after, limit))
    }

    fn handled_after<'a>(
        &'a self,
        plugin: &'a PluginName,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, u64)>, Unavailable>> {
        Box::pin(self.readers.handled_after(plugin, after, limit))
    }

    fn first_reply<'a>(
        &'a self,
        owner: &'a str,
        key: &'a str,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(self.readers.first_reply(owner, key, since_ms))
    }

    fn hand_over(&self, all: HandOver) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::HandOver(Box::new(all)));
        Box::pin(async move { done.await.map(drop) })
    }

    fn size<'a>(&'a self, plugin: &'a PluginName) -> BoxFuture<'a, Result<u64, Unavailable>> {
        Box::pin(self.readers.size(plugin))
    }

    fn commit(&self, set: WriteSet, effects: Effects) -> BoxFuture<'_, Result<(), CommitError>> {
        self.queue.commit(set, effects)
    }

    fn outbox_after(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<OutboxRow>, Unavailable>> {
        Box::pin(self.readers.outbox_after(seq, limit))
    }

    fn outbox_done(&self, seq: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::OutboxDone(seq));
        Box::pin(async move { done.await.map(drop) })
    }

    fn outbox_waiting<'a>(&'a self, topic: &'a str, seq: u64, most: usize) -> BoxFuture<'a, Result<u64, Unavailable>> {
        Box::pin(self.readers.outbox_waiting(topic, seq, most))
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::DeadLetter(Box::new(letter)));
        Box::pin(async move { done.await.map(drop) })
    }

    fn dead_letters(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadLetterRow>, Unavailable>> {
        Box::pin(self.readers.dead_letters(seq, limit))
    }

    fn remove_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.queue.admin(Admin::RemoveDeadLetter(seq))
    }

    fn revive_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.queue.admin(Admin::ReviveDeadLetter(seq))
    }

    fn blob<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(self.readers.blob(name))
    }

    fn put_blob(&self, name: String, value: Bytes) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::PutBlob(name, value));
        Box::pin(async move { done.await.map(drop) })
    }

    fn put_blobs(&self, values: Vec<(String, Option<Bytes>)>) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::PutBlobs(values));
        Box::pin(async move { done.await.map(drop) })
    }

    fn remove_blob(&self, name: String) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.queue.admin(Admin::RemoveBlob(name))
    }

    fn blobs<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        Box::pin(self.readers.blobs(prefix, limit))
    }

    fn health(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.readers.health())
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.probes.ask(&self.queue, &self.counters.writing))
    }

    fn published(&self) -> Option<Arc<Notify>> {
        Some(self.published.clone())
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot(self.queue.len())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.queue.close())
    }
}
