//! Storage in one SQLite file of the data directory. Reads answer at once, on the caller's thread; writes go through one writer
//! thread that syncs them in groups, and one task that runs their effects in the same order. Never blocks a runtime's thread
//! on a sync, and never shares its directory with a second process.

mod applier;
mod group;
mod open;
mod readers;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::open::DirLock;
use self::readers::Readers;
use self::rows::Admin;
use self::writer::{Job, Queued, Writer};
use super::stats::{Figures, count};
use super::{
    BoxFuture, CommitError, Config, DeadLetter, DeadLetterRow, Effects, MAX_BLOB, OutboxRow, Stats, Storage, Unavailable,
    WriteSet,
};
use crate::clock::Clock;
use crate::names::PluginName;

pub use self::open::OpenError;

/// Groups that are on the disk and wait for their effects, besides the one whose effects run. Past it the writer waits.
const GROUPS_AHEAD: usize = 1;

/// What a job costs in the queue besides its own bytes.
const JOB_BYTES: usize = 256;

/// The embedded storage.
pub struct Embedded {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    queue_wait: Duration,
    readers: Arc<Readers>,
    file: PathBuf,
    figures: Arc<Figures>,
    _lock: Arc<DirLock>,
}

impl Embedded {
    /// Opens the storage of a data directory, and makes it where there is none. After a crash it is as of the last commit; the
    /// time that takes depends on `storage.log` alone. Starts its task on the current runtime.
    ///
    /// # Errors
    /// Says which of: in use by another process, not writable, not a storage or damaged, of a newer format.
    pub fn open(dir: &Path, config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| OpenError::Start(e.to_string()))?;
        let figures = Arc::<Figures>::default();
        let opened = open::open(dir, config)?;
        let lock = Arc::new(opened.lock);
        let readers = Arc::new(Readers::open(&opened.file, config)?);
        let (queue, jobs) = mpsc::channel(config.queue.max(1));
        let (applier, batches) = mpsc::channel(GROUPS_AHEAD);
        let writer = Writer::new(opened.db, opened.sequence, jobs, applier, clock, config, figures.clone(), lock.clone())?;
        std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| OpenError::Start(e.to_string()))?;
        runtime.spawn(applier::run(batches, figures.clone()));
        let room_bytes = config.queue_bytes.clamp(JOB_BYTES, u32::MAX as usize);
        let room = Arc::new(Semaphore::new(room_bytes));
        let queue_wait = config.queue_wait;
        Ok(Self { queue, room, room_bytes, queue_wait, readers, file: opened.file, figures, _lock: lock })
    }

    /// Queues a job. Takes its place in the order now if there is room, and else when there is.
    fn submit(&self, job: Job, bytes: usize) -> BoxFuture<'_, Result<bool, CommitError>> {
        let (reply, answer) = oneshot::channel();
        // What is larger than the whole queue waits until it is empty, and then fills it.
        let cost = (bytes + JOB_BYTES).min(self.room_bytes) as u32;
        let refused = match self.room.clone().try_acquire_many_owned(cost) {
            Ok(room) => match self.queue.try_send(Queued { job, bytes, reply, room: Some(room) }) {
                Ok(()) => return Box::pin(answered(answer)),
                Err(mpsc::error::TrySendError::Closed(_)) => return Box::pin(std::future::ready(Err(closed().into()))),
                Err(mpsc::error::TrySendError::Full(queued)) => queued,
            },
            Err(_) => Queued { job, bytes, reply, room: None },
        };
        Box::pin(async move {
            let entered = tokio::time::timeout(self.queue_wait, self.enter(refused, cost)).await;
            match entered {
                Ok(Ok(())) => answered(answer).await,
                Ok(Err(unavailable)) => Err(unavailable.into()),
                Err(_) => {
                    count(&self.figures.queue_full, 1);
                    Err(Unavailable::new("the queue stayed full for storage.queue_wait").into())
                }
            }
        })
    }

    async fn enter(&self, mut queued: Queued, cost: u32) -> Result<(), Unavailable> {
        if queued.room.is_none() {
            queued.room = Some(self.room.clone().acquire_many_owned(cost).await.map_err(|_| closed())?);
        }
        self.queue.send(queued).await.map_err(|_| closed())
    }

    fn admin(&self, op: Admin) -> BoxFuture<'_, Result<bool, Unavailable>> {
        let bytes = op.bytes();
        let done = self.submit(Job::Admin(op), bytes);
        Box::pin(async move {
            done.await.map_err(|error| match error {
                CommitError::Unavailable(unavailable) => unavailable,
                error => Unavailable::new(error),
            })
        })
    }
}

async fn answered(answer: oneshot::Receiver<Result<bool, CommitError>>) -> Result<bool, CommitError> {
    answer.await.unwrap_or_else(|_| Err(closed().into()))
}

fn closed() -> Unavailable {
    Unavailable::new("it is closed")
}

impl Storage for Embedded {
    fn get<'a>(&'a self, plugin: &'a PluginName, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async move { self.readers.get(plugin, key) })
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

    fn size<'a>(&'a self, plugin: &'a PluginName) -> BoxFuture<'a, Result<u64, Unavailable>> {
        let (readers, plugin) = (self.readers.clone(), plugin.clone());
        // It reads as much as there is: the only read that would hold a thread up.
        let sum = tokio::task::spawn_blocking(move || readers.size(&plugin));
        Box::pin(async move { sum.await.map_err(Unavailable::new)? })
    }

    fn commit(&self, set: WriteSet, effects: Effects) -> BoxFuture<'_, Result<(), CommitError>> {
        if let Err(invalid) = set.check() {
            return Box::pin(std::future::ready(Err(invalid.into())));
        }
        let bytes = set.bytes();
        let done = self.submit(Job::Set(set, effects), bytes);
        Box::pin(async move { done.await.map(drop) })
    }

    fn outbox_after(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<OutboxRow>, Unavailable>> {
        Box::pin(async move { self.readers.outbox_after(seq, limit) })
    }

    fn outbox_done(&self, seq: u64) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.admin(Admin::OutboxDone(seq));
        Box::pin(async move { done.await.map(drop) })
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, Result<(), Unavailable>> {
        let done = self.admin(Admin::DeadLetter(Box::new(letter)));
        Box::pin(async move { done.await.map(drop) })
    }

    fn dead_letters(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadLetterRow>, Unavailable>> {
        Box::pin(async move { self.readers.dead_letters(seq, limit) })
    }

    fn remove_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.admin(Admin::RemoveDeadLetter(seq))
    }

    fn blob<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>> {
        Box::pin(async move { self.readers.blob(name) })
    }

    fn put_blob(&self, name: String, value: Bytes) -> BoxFuture<'_, Result<(), Unavailable>> {
        if value.len() > MAX_BLOB {
            let reason = format!("`{name}` has {} bytes; at most {MAX_BLOB} are stored", value.len());
            return Box::pin(std::future::ready(Err(Unavailable::new(reason))));
        }
        let done = self.admin(Admin::PutBlob(name, value));
        Box::pin(async move { done.await.map(drop) })
    }

    fn remove_blob(&self, name: String) -> BoxFuture<'_, Result<bool, Unavailable>> {
        self.admin(Admin::RemoveBlob(name))
    }

    fn blobs<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<String>, Unavailable>> {
        Box::pin(async move { self.readers.blobs(prefix, limit) })
    }

    fn stats(&self) -> Stats {
        let file_bytes = std::fs::metadata(&self.file).map_or(0, |file| file.len());
        Stats { file_bytes, ..self.figures.snapshot(self.queue.max_capacity() - self.queue.capacity()) }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            // Room is not asked for: closing must not wait for what it would make room for.
            if self.queue.send(Queued { job: Job::Close, bytes: 0, reply, room: None }).await.is_ok() {
                let _ = answered(answer).await;
            }
            self.figures.log_bytes.store(0, Ordering::Relaxed);
        })
    }
}
