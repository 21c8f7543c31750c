//! The clock of the bench: monotonic nanoseconds, and the pacing based on them. It must never read the time of day.

use nix::time::{ClockId, clock_gettime};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLI: u64 = 1_000_000;

/// Nanoseconds since boot, the same clock that the swarm's timer runs on.
pub(crate) fn now() -> u64 {
    // The kernel never refuses CLOCK_MONOTONIC. Zero avoids an error, and would be visible in every latency.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| t.tv_sec() as u64 * SECOND + t.tv_nsec() as u64)
}

/// Evenly spaced moments. Each due moment is returned once, even if the caller is late, so the rate holds after a stall.
pub(crate) struct Pace {
    next: u64,
    gap: f64,
    start: u64,
    count: u64,
}

impl Pace {
    pub(crate) fn per_second(rate: f64, start: u64) -> Self {
        Self { next: start, gap: SECOND as f64 / rate, start, count: 0 }
    }

    /// Whether a moment is due; `true` consumes it.
    pub(crate) fn due(&mut self, now: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.count += 1;
        // Computed from the start each time: adding a rounded gap would drift at 20 000 per second.
        self.next = self.start + (self.count as f64 * self.gap) as u64;
        true
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}
