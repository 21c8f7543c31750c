//! The writer thread: gathers waiting commits, writes them as one transaction with one sync, and hands them to the applier. Never
//! acknowledges before the sync, and continues with the next group after an error of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use super::super::applier::Settled;
use super::super::group::Group;
use super::super::queue::{self, Admin, Jobs, Outcome, Waiting, Work};
use super::super::stats::{Counters, count};
use super::super::{Config, Unavailable, WriteSet};
use super::open::{DirLock, OpenError, PAGE};
use super::probe;
use super::rows::{Rows, Sequence};
use crate::clock::Clock;
use crate::duration::millis;

pub(super) struct Writer {
    db: Connection,
    sequence: Sequence,
    jobs: Jobs,
    applier: mpsc::Sender<Vec<Settled>>,
    clock: Clock,
    limits: Limits,
    counters: Arc<Counters>,
    /// Pages of the log, as reported by SQLite after the last commit.
    log_pages: Arc<AtomicU64>,
    /// The length of the log at which it is copied.
    checkpoint_at: u64,
    /// All rows up to this one were removed from the outbox.
    outbox_done: u64,
    lock: Arc<DirLock>,
}

struct Limits {
    log_pages: u64,
    handled_for: Duration,
    dead_letters: usize,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "called once, where the parts are made")]
    pub(super) fn new(
        mut db: Connection,
        sequence: Sequence,
        jobs: Jobs,
        applier: mpsc::Sender<Vec<Settled>>,
        clock: Clock,
        config: &Config,
        counters: Arc<Counters>,
        lock: Arc<DirLock>,
    ) -> Result<Self, OpenError> {
        let log_pages = Arc::<AtomicU64>::default();
        let reported = log_pages.clone();
        // Also disables SQLite's own checkpoints, which would run before the commit returns and delay the answers.
        db.wal_hook(Some(move |_: &mut _, pages: i32| {
            reported.store(u64::from(pages.unsigned_abs()), Ordering::Relaxed);
            Ok(())
        }))
        .map_err(|e| OpenError::Start(e.to_string()))?;
        let limits = Limits {
            log_pages: (config.log / PAGE).max(16) as u64,
            handled_for: config.handled_for,
            dead_letters: config.dead_letters.max(1),
        };
        let checkpoint_at = limits.log_pages;
        Ok(Self { db, sequence, jobs, applier, clock, limits, counters, log_pages, checkpoint_at, outbox_done: 0, lock })
    }

    /// Runs until it is closed, or all senders are dropped.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none()
            && let Some(gathered) = self.jobs.blocking_next()
        {
            closing = gathered.closing;
            let settled = self.settle(gathered.work, gathered.waiting);
            // The applier ends only with the runtime, when no caller waits any more.
            if !settled.is_empty() && self.applier.blocking_send(settled).is_err() {
                return;
            }
            for waiting in gathered.probes {
                waiting.answer(self.probe());
            }
            if closing.is_none() {
                self.checkpoint();
            }
        }
        self.end(closing);
    }

    fn settle(&mut self, work: Vec<Work>, waiting: Vec<Waiting>) -> Vec<Settled> {
        if work.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        for todo in &work {
            if let Work::Set(WriteSet { begun: Some(begun), .. }) = todo {
                // Fails only if it is set, and a set is written once.
                let _ = begun.set(started);
            }
        }
        let outcomes = self.write(work);
        self.counters.synced(started.elapsed());
        queue::settle(waiting, outcomes.map_err(Unavailable::new), &self.counters)
    }

    /// Writes one transaction. Returns whether each job is a set, and its outcome; or the error that undid them all.
    ///
    /// Continuing after a failed sync is sound: the next group's pages overwrite those that failed, at the same place in the log,
    /// and are synced with it; pages that were synced before are not written again.
    fn write(&mut self, work: Vec<Work>) -> rusqlite::Result<Vec<(bool, Outcome)>> {
        let now_ms = self.clock.now_ms();
        let (stamp_ms, forget_ms) = (self.clock.stamp_ms(), self.clock.before_ms(millis(self.limits.handled_for)));
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = Rows(&transaction);
        let mut group = Group::new(rows, &mut self.sequence.next);
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
                    let new = rows.put_dead_letter(group.number(), &letter, now_ms)?;
                    dropped += if new { rows.cap_dead_letters(self.limits.dead_letters)? } else { 0 };
                    (false, Ok(new))
                }
                Work::Admin(Admin::RemoveDeadLetter(seq)) => (false, Ok(rows.remove_dead_letter(seq)?)),
                Work::Admin(Admin::ReviveDeadLetter(seq)) => {
                    let taken = rows.take_dead_letter(seq)?;
                    let exists = taken.is_some();
                    taken.into_iter().for_each(|(plugin, message)| group.publish(message.addressed(&plugin)));
                    (false, Ok(exists))
                }
                Work::Admin(Admin::PutBlob(name, value)) => (false, Ok(rows.put_blob(&name, &value).map(|()| true)?)),
                Work::Admin(Admin::PutBlobs(values)) => {
                    for (name, value) in values {
                        match value {
                            Some(value) => rows.put_blob(&name, &value)?,
                            None => drop(rows.remove_blob(&name)?),
                        }
                    }
                    (false, Ok(true))
                }
                Work::Admin(Admin::HandOver(all)) => (false, Ok(rows.hand_over(&all).map(|()| true)?)),
                Work::Admin(Admin::RemoveBlob(name)) => (false, Ok(rows.remove_blob(&name)?)),
            });
        }
        let written = group.finish();
        rows.write(&written, stamp_ms, forget_ms)?;
        let mut replies_dropped = 0;
        for (plugin, reply) in &written.first_replies {
            replies_dropped += rows.put_first_reply(plugin, reply, stamp_ms)?;
        }
        let reserved = rows.reserve(&self.sequence)?;
        transaction.commit()?;
        self.sequence.reserved(reserved);
        self.outbox_done = outbox_done;
        count(&self.counters.dead_letters_dropped, dropped);
        count(&self.counters.first_replies_dropped, replies_dropped);
        Ok(outcomes)
    }

    /// Whether a write would succeed.
    fn probe(&mut self) -> Result<(), Unavailable> {
        probe::disk(&self.db)?;
        probe::pages(&mut self.db).map_err(Unavailable::new)?;
        if self.counters.writing.is_failing() {
            probe::commit(&self.db).map_err(Unavailable::new)?;
        }
        Ok(())
    }

    /// Copies the log into the database once it is long. The callers of the group have been answered before.
    fn checkpoint(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if pages < self.limits.log_pages {
            self.checkpoint_at = self.limits.log_pages;
        }
        if pages >= self.checkpoint_at {
            // While a reader holds an old state, the log cannot be restarted, and grows. An attempt at every group would not
            // help.
            self.checkpoint_at = pages + self.limits.log_pages / 4;
            match self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                Ok(()) => count(&self.counters.checkpoints, 1),
                Err(error) => {
                    count(&self.counters.checkpoints_failed, 1);
                    tracing::warn!("the log was not copied into the database, and will be later: {error}");
                }
            }
        }
        self.counters.log_bytes.store(pages * PAGE as u64, Ordering::Relaxed);
    }

    fn end(self, closing: Option<Waiting>) {
        let Self { db, lock, applier, .. } = self;
        // A failure costs the next start some milliseconds, and no data.
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(db);
        drop(lock);
        if let Some(closing) = closing {
            let _ = applier.blocking_send(vec![closing.settled(Ok(true))]);
        }
    }
}
