//! Counts the calls, failures and time of one release, to compare it with another. Counting costs a few atomic additions.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Of so many calls one is timed: a mean needs no more.
const TIMED: u64 = 4;

/// Subjects whose failures are told apart; past it every failure counts.
const MAX_SUBJECTS: usize = 1024;

/// Counts of one release.
#[derive(Debug, Default)]
pub struct CallCounters {
    calls: AtomicU64,
    /// One a subject: a client that fails again and again is no proof.
    failures: AtomicU64,
    failed: Mutex<HashSet<u64>>,
    timed: AtomicU64,
    nanos: AtomicU64,
}

/// The counts of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub failures: u64,
    pub timed: u64,
    pub nanos: u64,
}

impl CallCounters {
    /// Whether the next call is one of those that are timed.
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

    /// A call of this subject failed: of a user, for example. Each counts once until the counting begins anew.
    pub fn failed(&self, subject: Option<u64>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = subject.is_none_or(|subject| failed.len() >= MAX_SUBJECTS || failed.insert(subject));
        if is_new {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of now. From here on a subject that failed before counts again.
    pub fn begin(&self) -> Counts {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
