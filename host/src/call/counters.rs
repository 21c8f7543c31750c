//! Counts the calls, failures and time of one release, to compare it with another. Costs a few atomic additions a call.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// One call of this many is timed: enough for a mean.
const TIMED: u64 = 4;

/// Subjects that are tracked, to count each once; beyond them every failure counts.
const MAX_SUBJECTS: usize = 1024;

/// Counts of one release.
#[derive(Debug, Default)]
pub struct CallCounters {
    calls: AtomicU64,
    /// One for each subject: repeated failures of one client prove nothing.
    failures: AtomicU64,
    failed: Mutex<HashSet<u64>>,
    timed: AtomicU64,
    nanos: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub failures: u64,
    pub timed: u64,
    pub nanos: u64,
}

impl CallCounters {
    /// Whether the next call is timed.
    pub fn is_timed(&self) -> bool {
        self.calls.load(Ordering::Relaxed).is_multiple_of(TIMED)
    }

    pub fn time(&self, took: Duration) {
        self.timed.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn passed(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call of this subject (such as a user) failed. A subject counts once until `begin` is called.
    pub fn failed(&self, subject: Option<u64>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock();
        let is_new = subject.is_none_or(|subject| failed.len() >= MAX_SUBJECTS || failed.insert(subject));
        if is_new {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts now. From here on a subject that failed before counts again.
    pub fn begin(&self) -> Counts {
        self.failed.lock().clear();
        self.counts()
    }

    pub fn counts(&self) -> Counts {
        Counts {
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            timed: self.timed.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    pub fn since(&self, before: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(before.calls),
            failures: self.failures.saturating_sub(before.failures),
            timed: self.timed.saturating_sub(before.timed),
            nanos: self.nanos.saturating_sub(before.nanos),
        }
    }

    pub fn failure_rate(&self) -> f64 {
        self.failures as f64 / self.calls.max(1) as f64
    }

    /// The mean time of a call.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.nanos / self.timed.max(1))
    }
}
