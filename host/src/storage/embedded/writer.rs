//! The thread that writes: gathers what has arrived, writes it as one transaction with one sync, hands it on. Never acknowledges
//! before the sync, and after an error of the disk goes on with the next group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::super::stats::{Figures, count};
use super::super::{CommitError, Config, Effects, Unavailable, WriteSet};
use super::applier::Settled;
use super::group::Group;
use super::open::{DirLock, OpenError, PAGE};
use super::rows::{Admin, Rows, Sequence};
use crate::clock::Clock;

/// What is asked of the writer.
pub(super) enum Job {
    Set(WriteSet, Effects),
    Admin(Admin),
    /// The last one.
    Close,
}

pub(super) struct Queued {
    pub(super) job: Job,
    pub(super) bytes: usize,
    pub(super) reply: oneshot::Sender<Result<bool, CommitError>>,
    /// Its place in the queue, given back when it has settled.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

pub(super) struct Writer {
    db: Connection,
    sequence: Sequence,
    jobs: mpsc::Receiver<Queued>,
    /// Did not fit the group before.
    held: Option<Queued>,
    applier: mpsc::Sender<Vec<Settled>>,
    clock: Clock,
    limits: Limits,
    figures: Arc<Figures>,
    /// Pages of the log, as SQLite told after the last commit.
    log_pages: Arc<AtomicU64>,
    /// The log's length from which on it is copied.
    checkpoint_at: u64,
    /// All up to this row was removed from the outbox.
    outbox_done: u64,
    lock: Arc<DirLock>,
}

struct Limits {
    group: usize,
    group_bytes: usize,
    log_pages: u64,
    handled_for: Duration,
    dead_letters: usize,
}

/// What a group does, apart from those who wait for it.
enum Work {
    Set(WriteSet),
    Admin(Admin),
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "called once, where the parts are made")]
    pub(super) fn new(
        mut db: Connection,
        sequence: Sequence,
        jobs: mpsc::Receiver<Queued>,
        applier: mpsc::Sender<Vec<Settled>>,
        clock: Clock,
        config: &Config,
        figures: Arc<Figures>,
        lock: Arc<DirLock>,
    ) -> Result<Self, OpenError> {
        let log_pages = Arc::<AtomicU64>::default();
        let told = log_pages.clone();
        // Also ends SQLite's own checkpoints, which would run before the commit returns, and so before anyone is told.
        db.wal_hook(Some(move |_: &mut _, pages: i32| {
            told.store(u64::from(pages.unsigned_abs()), Ordering::Relaxed);
            Ok(())
        }))
        .map_err(|e| OpenError::Start(e.to_string()))?;
        let limits = Limits {
            group: config.group.max(1),
            group_bytes: config.group_bytes,
            log_pages: (config.log / PAGE).max(16) as u64,
            handled_for: config.handled_for,
            dead_letters: config.dead_letters.max(1),
        };
        let checkpoint_at = limits.log_pages;
        Ok(Self {
            db,
            sequence,
            jobs,
            held: None,
            applier,
            clock,
            limits,
            figures,
            log_pages,
            checkpoint_at,
            outbox_done: 0,
            lock,
        })
    }

    /// Runs until it is closed, or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = self.held.take().or_else(|| self.jobs.blocking_recv())
        {
            let (jobs, close) = self.gather(first);
            closing = close;
            let settled = self.settle(jobs);
            // The task ends only with the runtime, and then nobody waits any more.
            if !settled.is_empty() && self.applier.blocking_send(settled).is_err() {
                return;
            }
            if closing.is_none() {
                self.checkpoint();
            }
        }
        self.end(closing);
    }

    /// What arrived during the last group, up to the limits, and the wish to close if it is among it.
    fn gather(&mut self, first: Queued) -> (Vec<Queued>, Option<Queued>) {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(queued) = next {
            if matches!(queued.job, Job::Close) {
                return (jobs, Some(queued));
            }
            bytes += queued.bytes;
            if bytes > self.limits.group_bytes && !jobs.is_empty() {
                self.held = Some(queued);
                break;
            }
            jobs.push(queued);
            next = if jobs.len() < self.limits.group { self.jobs.try_recv().ok() } else { None };
        }
        (jobs, None)
    }

    fn settle(&mut self, jobs: Vec<Queued>) -> Vec<Settled> {
        let mut waiting = Vec::with_capacity(jobs.len());
        let mut work = Vec::with_capacity(jobs.len());
        for Queued { job, reply, room, .. } in jobs {
            let (todo, effects) = match job {
                Job::Set(set, effects) => (Work::Set(set), Some(effects)),
                Job::Admin(op) => (Work::Admin(op), None),
                Job::Close => continue,
            };
            work.push(todo);
            waiting.push((effects, reply, room));
        }
        if work.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        for todo in &work {
            if let Work::Set(WriteSet { begun: Some(begun), .. }) = todo {
                // Told once: a set is written once.
                let _ = begun.set(started);
            }
        }
        let outcomes = self.write(work);
        self.figures.synced(started.elapsed());
        let outcomes: Box<dyn Iterator<Item = _>> = match outcomes {
            Ok(outcomes) => {
                count(&self.figures.groups, 1);
                outcomes.iter().for_each(|outcome| self.tally(outcome));
                Box::new(outcomes.into_iter().map(|(_, outcome)| outcome))
            }
            Err(error) => {
                count(&self.figures.groups_failed, 1);
                tracing::error!(sets = waiting.len(), "a group of commits was not written: {error}");
                let unavailable = Unavailable::new(error);
                Box::new(std::iter::repeat_with(move || Err(unavailable.clone().into())))
            }
        };
        let settled = waiting.into_iter().zip(outcomes);
        settled.map(|((effects, reply, room), outcome)| Settled { outcome, effects, reply, room }).collect()
    }

    fn tally(&self, (is_set, outcome): &(bool, Result<bool, CommitError>)) {
        match outcome {
            Ok(_) => count(&self.figures.sets, usize::from(*is_set)),
            Err(CommitError::Conflict) => count(&self.figures.conflicts, 1),
            Err(CommitError::AlreadyHandled) => count(&self.figures.already_handled, 1),
            Err(_) => {}
        }
    }

    /// One transaction. Whether each piece of work is a set, and what came of it; or the error that undid them all.
    ///
    /// Going on after a failed sync is sound: the next group's pages overwrite those that failed, at the same place in the log, and
    /// are synced with it; nothing that was synced before is written again.
    fn write(&mut self, work: Vec<Work>) -> rusqlite::Result<Vec<(bool, Result<bool, CommitError>)>> {
        let now_ms = self.clock.now_ms();
        let forget_ms = now_ms.saturating_sub(u64::try_from(self.limits.handled_for.as_millis()).unwrap_or(u64::MAX));
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = Rows(&transaction);
        let mut group = Group::new(rows, &mut self.sequence);
        let mut outcomes = Vec::with_capacity(work.len());
        let mut outbox_done = self.outbox_done;
        let mut dropped = 0;
        for todo in work {
            outcomes.push(match todo {
                Work::Set(set) => (true, group.add(set)?.map(|()| true)),
                Work::Admin(Admin::OutboxDone(seq)) => {
                    let more = seq > outbox_done;
                    outbox_done = outbox_done.max(seq);
                    (false, Ok(more && rows.outbox_done(seq)?))
                }
                Work::Admin(Admin::DeadLetter(letter)) => {
                    let new = rows.put_dead_letter(group.next_number(), &letter, now_ms)?;
                    dropped += if new { rows.cap_dead_letters(self.limits.dead_letters)? } else { 0 };
                    (false, Ok(new))
                }
                Work::Admin(Admin::RemoveDeadLetter(seq)) => (false, Ok(rows.remove_dead_letter(seq)?)),
                Work::Admin(Admin::PutBlob(name, value)) => (false, Ok(rows.put_blob(&name, &value).map(|()| true)?)),
                Work::Admin(Admin::RemoveBlob(name)) => (false, Ok(rows.remove_blob(&name)?)),
            });
        }
        let reserved = group.write(now_ms, forget_ms)?;
        transaction.commit()?;
        self.sequence.reserved(reserved);
        self.outbox_done = outbox_done;
        count(&self.figures.dead_letters_dropped, dropped);
        Ok(outcomes)
    }

    /// Copies the log into the database once it is long. Those who wait for the group have been told by now.
    fn checkpoint(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if pages < self.limits.log_pages {
            self.checkpoint_at = self.limits.log_pages;
        }
        if pages >= self.checkpoint_at {
            // Where somebody reads an old state the log cannot begin anew, and grows. Trying at every group would not help.
            self.checkpoint_at = pages + self.limits.log_pages / 4;
            match self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                Ok(()) => count(&self.figures.checkpoints, 1),
                Err(error) => {
                    count(&self.figures.checkpoints_failed, 1);
                    tracing::warn!("the log was not copied into the database, and will be later: {error}");
                }
            }
        }
        self.figures.log_bytes.store(pages * PAGE as u64, Ordering::Relaxed);
    }

    fn end(self, closing: Option<Queued>) {
        let Self { db, lock, applier, .. } = self;
        // A failure costs the next start some milliseconds, and no data.
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(db);
        drop(lock);
        if let Some(Queued { reply, room, .. }) = closing {
            let _ = applier.blocking_send(vec![Settled { outcome: Ok(true), effects: None, reply, room }]);
        }
    }
}
