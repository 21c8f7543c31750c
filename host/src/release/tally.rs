//! What one release has done: calls, failures and time, for whoever judges it; and the breaker, which stops a release that does
//! nothing but fail. Counting costs a few atomic additions.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

/// Of so many calls one is timed: a mean needs no more.
const TIMED: u64 = 4;

/// The longest time that a breaker stays open.
const LONGEST_MS: u64 = 60_000;

/// `[breaker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Failures in a row, without one success, after which a release is not called for a while. Default 50.
    pub failures: u32,
    /// How long at first; twice as long each further time, to a minute. Default 1 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub wait: Duration,
    /// After so many times in a row the release is quarantined, and the last good one serves. Default 5.
    pub quarantine: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { failures: 50, wait: Duration::from_secs(1), quarantine: 5 }
    }
}

/// Counts of one release.
#[derive(Debug, Default)]
pub struct Tally {
    config: Config,
    calls: AtomicU64,
    failures: AtomicU64,
    timed: AtomicU64,
    nanos: AtomicU64,
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// Times that the breaker has opened since the last success.
    openings: AtomicU32,
    /// Not called before this moment, by the steady clock.
    open_until_ms: AtomicU64,
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
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

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
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
            self.openings.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure; `now_ms` is by the steady clock. Past the limit the release is left alone for a while.
    pub fn failed(&self, now_ms: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        // Once open it takes one more failure to open again: the call that was let through to try.
        if in_a_row >= self.config.failures && self.open_until_ms.load(Ordering::Relaxed) <= now_ms {
            let openings = self.openings.fetch_add(1, Ordering::Relaxed);
            let wait = (self.config.wait.as_millis() as u64).saturating_mul(1 << openings.min(16)).min(LONGEST_MS);
            self.open_until_ms.store(now_ms + wait, Ordering::Relaxed);
        }
    }

    /// Whether the breaker keeps calls away now.
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.open_until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// Whether it has failed for so long that it should be replaced.
    pub fn is_hopeless(&self) -> bool {
        self.openings.load(Ordering::Relaxed) >= self.config.quarantine
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_for_longer_each_time_and_a_success_closes_it() {
        let tally = Tally::new(Config { failures: 3, ..Config::default() });
        for _ in 0..2 {
            tally.failed(0);
        }
        assert!(!tally.is_open(0));
        tally.failed(0);
        assert!(tally.is_open(999) && !tally.is_open(1000));
        tally.failed(1000);
        assert!(tally.is_open(2999) && !tally.is_open(3000));
        tally.passed();
        tally.failed(3000);
        assert!(!tally.is_open(3000), "counting begins anew");
    }

    #[test]
    fn a_release_that_never_succeeds_is_hopeless_in_the_end() {
        let tally = Tally::new(Config { failures: 1, quarantine: 2, ..Config::default() });
        tally.failed(0);
        assert!(!tally.is_hopeless());
        tally.failed(1000);
        assert!(tally.is_hopeless());
    }
}
