//! Counts the calls, failures and time of one release, to compare it with another. Counting costs a few atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of so many calls one is timed: a mean needs no more.
const TIMED: u64 = 4;

/// Counts of one release.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
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

impl Tally {
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

    pub fn failed(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
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
