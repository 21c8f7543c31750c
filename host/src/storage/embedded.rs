//! Storage in one SQLite file of the data directory. Reads run on the caller's thread; writes go through one writer thread that
//! syncs them in groups, and one task that runs their effects in the same order. Never blocks a runtime's thread on a sync, and
//! never shares its directory with a second process.

mod export;
mod first_replies;
mod open;
mod probe;
mod readers;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use self::open::DirLock;
use self::readers::Readers;
use self::writer::Writer;
use super::queue::{self, Admin, Queue};
use super::stats::Counters;
use super::writing::Probes;
use super::{
    BoxFuture, CommitError, Config, DeadLetter, DeadLetterRow, Effects, HandOver, OutboxRow, Stats, Storage, Unavailable,
    WriteSet, applier,
};
use crate::clock::Clock;
use crate::names::PluginName;

pub(super) use self::export::{Entry, Export};
pub(super) use self::first_replies::Row as FirstReplyRow;
pub use self::open::OpenError;

/// The embedded storage.
pub struct Embedded {
    queue: Queue,
    readers: Arc<Readers>,
    file: PathBuf,
    counters: Arc<Counters>,
    probes: Probes,
    _lock: Arc<DirLock>,
}

impl Embedded {
    /// Opens the storage of a data directory, or creates it. After a crash it contains everything up to the last commit; the time
    /// of the recovery depends only on `storage.log`. Starts its task on the current runtime.
    ///
    /// # Errors
    /// The directory is in use by another process or not writable, or the file is not a storage, damaged or of a newer format.
    pub fn open(dir: &Path, config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| OpenError::Start(e.to_string()))?;
        let counters = Arc::<Counters>::default();
        let opened = open::open(dir, config)?;
        let lock = Arc::new(opened.lock);
        let readers = Arc::new(Readers::open(&opened.file, config)?);
        let (queue, jobs) = queue::new(config, counters.clone());
        let (applier, batches) = mpsc::channel(applier::GROUPS_AHEAD);
        let writer = Writer::new(opened.db, opened.sequence, jobs, applier, clock, config, counters.clone(), lock.clone())?;
        std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| OpenError::Start(e.to_string()))?;
        runtime.spawn(applier::run(batches, counters.clone()));
        Ok(Self { queue, readers, file: opened.file, counters, probes: Probes::default(), _lock: lock })
    }
}

impl Storage for Embedded {
    fn get<'a>(&'a self, plugin: &'a PluginName, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async move { self.readers.get(plugin, key) })
    }

    fn get_many<'a>(
        &'a self,
        plugin: &'a PluginName,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Unavailable>> {
        Box::pin(async move { self.readers.get_many(plugin, keys) })
    }

    fn scan<'a>(
        &'a self,
        plugin: &'a PluginName,
        start: &'a str,
        end: &'a str,
        limit: usize,
        reverse: bool,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, Unavailable>> {
        Box::pin(async move { self.readers.scan(plugin, start, end, limit, reverse) })
    }

    fn keys<'a>(
        &'a self,
        plugin: &'a PluginName,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        Box::pin(async move { self.readers.keys(plugin, prefix, after, limit) })
    }

    fn handled_after<'a>(
        &'a self,
        plugin: &'a PluginName,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, u64)>, Unavailable>> {
        Box::pin(async move { self.readers.handled_after(plugin, after, limit) })
    }

    fn first_reply<'a>(
        &'a self,
        owner: &'a str,
        key: &'a str,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async move { self.readers.first_reply(owner, key, since_ms) })
    }

    fn hand_over(&self, all: HandOver) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::HandOver(Box::new(all)));
        Box::pin(async move { done.await.map(drop) })
    }

    fn size<'a>(&'a self, plugin: &'a PluginName) -> BoxFuture<'a, Result<u64, Unavailable>> {
        let (readers, plugin) = (self.readers.clone(), plugin.clone());
        // It reads all entries, and would block the runtime's thread.
        let sum = tokio::task::spawn_blocking(move || readers.size(&plugin));
        Box::pin(async move { sum.await.map_err(Unavailable::new)? })
    }

    fn commit(&self, set: WriteSet, effects: Effects) -> BoxFuture<'_, Result<(), CommitError>> {
        self.queue.commit(set, effects)
    }

    fn outbox_after(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<OutboxRow>, Unavailable>> {
        Box::pin(async move { self.readers.outbox_after(seq, limit) })
    }

    fn outbox_done(&self, seq: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::OutboxDone(seq));
        Box::pin(async move { done.await.map(drop) })
    }

    fn outbox_waiting<'a>(&'a self, topic: &'a str, seq: u64, most: usize) -> BoxFuture<'a, Result<u64, Unavailable>> {
        let (readers, topic) = (self.readers.clone(), topic.to_owned());
        // It reads all counted rows.
        let count = tokio::task::spawn_blocking(move || readers.outbox_waiting(&topic, seq, most));
        Box::pin(async move { count.await.map_err(Unavailable::new)? })
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.queue.admin(Admin::DeadLetter(Box::new(letter)));
        Box::pin(async move { done.await.map(drop) })
    }

    fn dead_letters(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadLetterRow>, Unavailable>> {
        Box::pin(async move { self.readers.dead_letters(seq, limit) })
    }

    fn remove_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.queue.admin(Admin::RemoveDeadLetter(seq))
    }

    fn revive_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.queue.admin(Admin::ReviveDeadLetter(seq))
    }

    fn blob<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async move { self.readers.blob(name) })
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
        Box::pin(async move { self.readers.blobs(prefix, limit) })
    }

    fn health(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async move { self.readers.blob("").map(drop) })
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.probes.ask(&self.queue, &self.counters.writing))
    }

    fn stats(&self) -> Stats {
        let file_bytes = std::fs::metadata(&self.file).map_or(0, |file| file.len());
        Stats { file_bytes, ..self.counters.snapshot(self.queue.len()) }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.queue.close().await;
            self.counters.log_bytes.store(0, Ordering::Relaxed);
        })
    }
}
