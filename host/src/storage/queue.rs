//! The write queue of every database: the bounded queue before a writer, its groups, and the answers to the callers. Never
//! reorders, and never exceeds `storage.queue` and `storage.queue_bytes`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::applier::Settled;
use super::stats::{Counters, count};
use super::{BoxFuture, CommitError, Config, DeadLetter, Effects, HandOver, MAX_BLOB, Unavailable, WriteSet};

/// The cost of a job in the queue besides its own bytes.
const JOB_BYTES: usize = 256;

/// The outcome of a job. True if it changed something.
pub(super) type Outcome = Result<bool, CommitError>;

/// A job for a writer.
pub(super) enum Job {
    Set(WriteSet, Effects),
    Admin(Admin),
    /// Checks whether a write would succeed.
    Probe,
    /// The last job.
    Close,
}

/// The host's own operations. They are part of the groups, but change no plugin's keys.
#[derive(Debug, Clone)]
pub(super) enum Admin {
    OutboxDone(u64),
    DeadLetter(Box<DeadLetter>),
    RemoveDeadLetter(u64),
    ReviveDeadLetter(u64),
    PutBlob(String, Bytes),
    PutBlobs(Vec<(String, Option<Bytes>)>),
    HandOver(Box<HandOver>),
    RemoveBlob(String),
}

pub(super) struct Queued {
    job: Job,
    bytes: usize,
    reply: oneshot::Sender<Outcome>,
    /// Its permit in the queue, released when it is settled.
    room: Option<OwnedSemaphorePermit>,
}

/// A job without its caller.
pub(super) enum Work {
    Set(WriteSet),
    Admin(Admin),
}

/// The caller of a job.
pub(super) struct Waiting {
    effects: Option<Effects>,
    reply: oneshot::Sender<Outcome>,
    room: Option<OwnedSemaphorePermit>,
}

/// The sending end.
pub(super) struct Queue {
    jobs: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    wait: Duration,
    counters: Arc<Counters>,
}

/// The receiving end, in groups.
pub(super) struct Jobs {
    receiver: mpsc::Receiver<Queued>,
    /// The job that did not fit the previous group.
    held: Option<Queued>,
    group: usize,
    group_bytes: usize,
}

/// The jobs that arrived during the last group.
pub(super) struct Gathered {
    pub(super) work: Vec<Work>,
    pub(super) waiting: Vec<Waiting>,
    /// Requests to check whether a write would succeed.
    pub(super) probes: Vec<Waiting>,
    /// The request to close, if it follows them.
    pub(super) closing: Option<Waiting>,
}

pub(super) fn new(config: &Config, counters: Arc<Counters>) -> (Queue, Jobs) {
    let (jobs, receiver) = mpsc::channel(config.queue.max(1));
    let room_bytes = config.queue_bytes.clamp(JOB_BYTES, u32::MAX as usize);
    let room = Arc::new(Semaphore::new(room_bytes));
    let queue = Queue { jobs, room, room_bytes, wait: config.queue_wait, counters };
    (queue, Jobs { receiver, held: None, group: config.group.max(1), group_bytes: config.group_bytes })
}

impl Queue {
    pub(super) fn commit(&self, set: WriteSet, effects: Effects) -> BoxFuture<'_, Result<(), CommitError>> {
        if let Err(invalid) = set.check() {
            return Box::pin(std::future::ready(Err(invalid.into())));
        }
        let bytes = set.bytes() + set.first_reply.as_ref().map_or(0, |reply| reply.bytes() as usize);
        let done = self.submit(Job::Set(set, effects), bytes);
        Box::pin(async move { done.await.map(drop) })
    }

    pub(super) fn admin(&self, op: Admin) -> BoxFuture<'_, Result<bool, Unavailable>> {
        if let Some((name, bytes)) = op.blobs().find(|(_, bytes)| *bytes > MAX_BLOB) {
            let reason = format!("`{name}` has {bytes} bytes; at most {MAX_BLOB} are stored");
            return Box::pin(std::future::ready(Err(Unavailable::new(reason))));
        }
        let bytes = op.bytes();
        let done = self.submit(Job::Admin(op), bytes);
        Box::pin(async move { done.await.map_err(unavailable) })
    }

    /// Asks the writer whether a write would succeed.
    pub(super) async fn try_writing(&self) -> Result<(), Unavailable> {
        let (reply, answer) = oneshot::channel();
        // It has no bytes, so it needs no room.
        self.jobs.send(Queued { job: Job::Probe, bytes: 0, reply, room: None }).await.map_err(|_| closed())?;
        answered(answer).await.map(drop).map_err(unavailable)
    }

    /// Refuses new jobs, and resolves when all accepted jobs are settled.
    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        // Takes no room: closing must not wait for the jobs that it lets finish.
        if self.jobs.send(Queued { job: Job::Close, bytes: 0, reply, room: None }).await.is_ok() {
            let _ = answered(answer).await;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Queues a job. Its place in the order is taken now if there is room, and otherwise once there is.
    fn submit(&self, job: Job, bytes: usize) -> BoxFuture<'_, Outcome> {
        let (reply, answer) = oneshot::channel();
        // A job larger than the whole queue waits until the queue is empty, and then fills it.
        let cost = (bytes + JOB_BYTES).min(self.room_bytes) as u32;
        let refused = match self.room.clone().try_acquire_many_owned(cost) {
            Ok(room) => match self.jobs.try_send(Queued { job, bytes, reply, room: Some(room) }) {
                Ok(()) => return Box::pin(answered(answer)),
                Err(mpsc::error::TrySendError::Closed(_)) => return Box::pin(std::future::ready(Err(closed().into()))),
                Err(mpsc::error::TrySendError::Full(queued)) => queued,
            },
            Err(_) => Queued { job, bytes, reply, room: None },
        };
        Box::pin(async move {
            let entered = tokio::time::timeout(self.wait, self.enqueue(refused, cost)).await;
            match entered {
                Ok(Ok(())) => answered(answer).await,
                Ok(Err(unavailable)) => Err(unavailable.into()),
                Err(_) => {
                    count(&self.counters.queue_full, 1);
                    Err(Unavailable::new("the queue stayed full for storage.queue_wait").into())
                }
            }
        })
    }

    async fn enqueue(&self, mut queued: Queued, cost: u32) -> Result<(), Unavailable> {
        if queued.room.is_none() {
            queued.room = Some(self.room.clone().acquire_many_owned(cost).await.map_err(|_| closed())?);
        }
        self.jobs.send(queued).await.map_err(|_| closed())
    }
}

async fn answered(answer: oneshot::Receiver<Outcome>) -> Outcome {
    answer.await.unwrap_or_else(|_| Err(closed().into()))
}

fn unavailable(error: CommitError) -> Unavailable {
    match error {
        CommitError::Unavailable(unavailable) => unavailable,
        error => Unavailable::new(error),
    }
}

fn closed() -> Unavailable {
    Unavailable::new("storage is closed")
}

impl Jobs {
    /// The next group; none when all senders are dropped.
    pub(super) async fn next(&mut self) -> Option<Gathered> {
        let first = match self.held.take() {
            Some(held) => held,
            None => self.receiver.recv().await?,
        };
        Some(self.gather(first))
    }

    /// The blocking form, for the writer's own thread.
    pub(super) fn blocking_next(&mut self) -> Option<Gathered> {
        let first = self.held.take().or_else(|| self.receiver.blocking_recv())?;
        Some(self.gather(first))
    }

    /// The jobs that arrived during the last group, up to the limits.
    fn gather(&mut self, first: Queued) -> Gathered {
        let mut gathered = Gathered { work: Vec::new(), waiting: Vec::new(), probes: Vec::new(), closing: None };
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(queued) = next {
            bytes += queued.bytes;
            if bytes > self.group_bytes && !gathered.work.is_empty() {
                self.held = Some(queued);
                break;
            }
            let Queued { job, reply, room, .. } = queued;
            let (work, effects) = match job {
                Job::Set(set, effects) => (Work::Set(set), Some(effects)),
                Job::Admin(op) => (Work::Admin(op), None),
                Job::Probe => {
                    gathered.probes.push(Waiting { effects: None, reply, room });
                    next = self.receiver.try_recv().ok();
                    continue;
                }
                Job::Close => {
                    gathered.closing = Some(Waiting { effects: None, reply, room });
                    break;
                }
            };
            gathered.work.push(work);
            gathered.waiting.push(Waiting { effects, reply, room });
            next = if gathered.work.len() < self.group { self.receiver.try_recv().ok() } else { None };
        }
        gathered
    }
}

impl Waiting {
    /// Answers without effects.
    pub(super) fn answer(self, outcome: Result<(), Unavailable>) {
        // The caller may have given up.
        let _ = self.reply.send(outcome.map(|()| true).map_err(CommitError::from));
    }

    pub(super) fn settled(self, outcome: Outcome) -> Settled {
        Settled { outcome, effects: self.effects, reply: self.reply, room: self.room }
    }
}

/// Settles the callers of a group. Each outcome is given with whether it is of a set.
pub(super) fn settle(
    waiting: Vec<Waiting>,
    outcomes: Result<Vec<(bool, Outcome)>, Unavailable>,
    counters: &Counters,
) -> Vec<Settled> {
    match outcomes {
        Ok(outcomes) => {
            count(&counters.groups, 1);
            counters.writing.passed();
            outcomes.iter().for_each(|outcome| count_outcome(counters, outcome));
            waiting.into_iter().zip(outcomes).map(|(waiting, (_, outcome))| waiting.settled(outcome)).collect()
        }
        Err(unavailable) => {
            count(&counters.groups_failed, 1);
            counters.writing.failed(&unavailable);
            tracing::error!(sets = waiting.len(), "a group of commits was not written: {unavailable}");
            waiting.into_iter().map(|waiting| waiting.settled(Err(unavailable.clone().into()))).collect()
        }
    }
}

fn count_outcome(counters: &Counters, (is_set, outcome): &(bool, Outcome)) {
    match outcome {
        Ok(_) => count(&counters.sets, usize::from(*is_set)),
        Err(CommitError::Conflict) => count(&counters.conflicts, 1),
        Err(CommitError::AlreadyHandled) => count(&counters.already_handled, 1),
        Err(_) => {}
    }
}

impl Admin {
    fn bytes(&self) -> usize {
        match self {
            Self::OutboxDone(_) | Self::RemoveDeadLetter(_) | Self::ReviveDeadLetter(_) | Self::RemoveBlob(_) => 0,
            Self::DeadLetter(letter) => letter.message.bytes() + letter.error.len(),
            Self::PutBlob(..) | Self::PutBlobs(_) => self.blobs().map(|(name, bytes)| name.len() + bytes).sum(),
            Self::HandOver(all) => all.bytes(),
        }
    }

    /// The named values to write, with their bytes.
    fn blobs(&self) -> impl Iterator<Item = (&str, usize)> {
        let one = match self {
            Self::PutBlob(name, value) => Some((name.as_str(), value.len())),
            _ => None,
        };
        let several = if let Self::PutBlobs(values) = self { values.as_slice() } else { &[] };
        let several = several.iter().map(|(name, value)| (name.as_str(), value.as_ref().map_or(0, Bytes::len)));
        one.into_iter().chain(several)
    }
}
