//! Metrics of a storage for the operator. Only counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::Unavailable;

/// Upper bounds of the sync times' buckets, in seconds; the last bucket has none.
const BOUNDS: [f64; 12] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Metrics since the start, except `queued`, `queued_bytes` and `log_bytes`, which are current.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Commits in the queue.
    pub queued: u64,
    /// Groups that were written, each with one sync.
    pub groups: u64,
    /// Write sets that were written.
    pub sets: u64,
    /// Write sets that were refused because a key they had read has changed.
    pub conflicts: u64,
    /// Write sets that were refused because their message was handled before.
    pub already_handled: u64,
    /// Commits that were refused because the queue stayed full.
    pub queue_full: u64,
    /// Groups that could not be written.
    pub groups_failed: u64,
    /// Whether the last group was one of them.
    pub failing: bool,
    /// Effects that panicked.
    pub effects_panicked: u64,
    /// Dead letters that were removed because there were too many.
    pub dead_letters_dropped: u64,
    /// First replies that were deleted before their time because there were too many.
    pub first_replies_dropped: u64,
    /// Copies of the log into the database, and failed ones.
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    /// Bytes of log that are not yet in the database.
    pub log_bytes: u64,
    /// Outages of a remote database.
    pub outages: u64,
    /// Reads that were refused because all connections stayed busy.
    pub connections_busy: u64,
    /// Bytes of the database's file, with its free pages. 0: not known.
    pub file_bytes: u64,
    /// How long groups took to write and sync.
    pub sync: SyncTimes,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SyncTimes {
    /// Upper bound in seconds, and the number of times between the previous bound and this one; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    pub sum_seconds: f64,
    pub count: u64,
}

/// How long a failed commit marks storage as not writable, if no commit follows.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// The outcome of the last group of commits.
#[derive(Debug, Default)]
pub(super) struct Writing(Mutex<Option<(Instant, Unavailable)>>);

impl Writing {
    pub(super) fn failed(&self, error: &Unavailable) {
        *self.last() = Some((Instant::now(), error.clone()));
    }

    pub(super) fn passed(&self) {
        *self.last() = None;
    }

    /// Whether the last group was not written.
    pub(super) fn is_failing(&self) -> bool {
        self.last().is_some()
    }

    pub(super) fn just_failed(&self) -> Option<Unavailable> {
        self.last().as_ref().filter(|(at, _)| at.elapsed() < FAILED_FOR).map(|(_, error)| error.clone())
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, Unavailable)>> {
        self.0.lock()
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: AtomicU64,
    pub(super) sets: AtomicU64,
    pub(super) writing: Writing,
    pub(super) conflicts: AtomicU64,
    pub(super) already_handled: AtomicU64,
    pub(super) queue_full: AtomicU64,
    pub(super) groups_failed: AtomicU64,
    pub(super) effects_panicked: AtomicU64,
    pub(super) dead_letters_dropped: AtomicU64,
    pub(super) first_replies_dropped: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) checkpoints_failed: AtomicU64,
    pub(super) log_bytes: AtomicU64,
    pub(super) outages: AtomicU64,
    pub(super) connections_busy: AtomicU64,
    sync_buckets: [AtomicU64; BOUNDS.len() + 1],
    sync_nanos: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        count(&self.sync_buckets[bucket], 1);
        self.sync_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, queued: usize) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(&self.sync_buckets).map(|(bound, n)| (bound, read(n))).collect();
        Stats {
            queued: queued as u64,
            file_bytes: 0,
            groups: read(&self.groups),
            sets: read(&self.sets),
            conflicts: read(&self.conflicts),
            already_handled: read(&self.already_handled),
            queue_full: read(&self.queue_full),
            groups_failed: read(&self.groups_failed),
            failing: self.writing.is_failing(),
            effects_panicked: read(&self.effects_panicked),
            dead_letters_dropped: read(&self.dead_letters_dropped),
            first_replies_dropped: read(&self.first_replies_dropped),
            checkpoints: read(&self.checkpoints),
            checkpoints_failed: read(&self.checkpoints_failed),
            log_bytes: read(&self.log_bytes),
            outages: read(&self.outages),
            connections_busy: read(&self.connections_busy),
            sync: SyncTimes {
                count: buckets.iter().map(|(_, n)| n).sum(),
                sum_seconds: Duration::from_nanos(read(&self.sync_nanos)).as_secs_f64(),
                buckets,
            },
        }
    }
}
