//! Time as a value that is passed in, so that a test can set it. The only code that reads the system's clock.
//!
//! There are two clocks. The wall clock ([`Clock::now_ms`]) is for times that are shown, sent or stored; it may be set while the
//! server runs, by an hour or by years, either way. The steady clock ([`Clock::steady_ms`]) is monotonic and measures every duration.
//! A stored time is converted once, by [`Clock::steady_at`], and then waited for by the steady clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds from the system, or set by a test.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub wall_ms: u64,
    pub steady_ms: u64,
}

impl Moment {
    /// Converts a past time of the steady clock to the wall clock, by the difference of the two at this moment.
    pub fn wall_at(self, steady_ms: u64) -> u64 {
        self.wall_ms.saturating_sub(self.steady_ms.saturating_sub(steady_ms))
    }
}

/// Two clocks that a test sets.
#[derive(Debug)]
struct Manual {
    wall: AtomicU64,
    steady: AtomicU64,
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that changes only when it is moved.
    pub fn manual(now_ms: u64) -> Self {
        Self(Source::Manual(Arc::new(Manual { wall: AtomicU64::new(now_ms), steady: AtomicU64::new(now_ms) })))
    }

    /// The wall clock: milliseconds since 1970. Never measure with it.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => system_ms(),
            Source::Manual(manual) => manual.wall.load(Ordering::Acquire),
        }
    }

    /// The steady clock: monotonic. It starts at the wall clock's time when this process first reads it, so that both agree until the
    /// wall clock is set.
    pub fn steady_ms(&self) -> u64 {
        match &self.0 {
            Source::System => {
                static BEGAN: OnceLock<(Instant, u64)> = OnceLock::new();
                let (began, wall_ms) = BEGAN.get_or_init(|| (Instant::now(), system_ms()));
                wall_ms.saturating_add(crate::duration::millis(began.elapsed()))
            }
            Source::Manual(manual) => manual.steady.load(Ordering::Acquire),
        }
    }

    /// Converts a wall clock time to the steady clock, by the difference of the two at this moment. A time in the past becomes now.
    pub fn steady_at(&self, wall_ms: u64) -> u64 {
        self.steady_ms().saturating_add(wall_ms.saturating_sub(self.now_ms()))
    }

    /// Now, by both clocks.
    pub fn moment(&self) -> Moment {
        Moment { wall_ms: self.now_ms(), steady_ms: self.steady_ms() }
    }

    /// A wall clock time, by both clocks.
    pub fn moment_at(&self, wall_ms: u64) -> Moment {
        Moment { wall_ms, steady_ms: self.steady_at(wall_ms) }
    }

    /// The time to store for an item that must be kept at least for an age: the later of both clocks.
    pub fn stamp_ms(&self) -> u64 {
        self.now_ms().max(self.steady_ms())
    }

    /// The limit for times from [`Clock::stamp_ms`]: earlier ones are older than `age_ms` by both clocks. A step of the wall
    /// clock makes nothing old.
    pub fn before_ms(&self, age_ms: u64) -> u64 {
        self.now_ms().min(self.steady_ms()).saturating_sub(age_ms)
    }

    /// Advances both clocks of a manual one; the system's are unaffected.
    pub fn advance(&self, ms: u64) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall.fetch_add(ms, Ordering::AcqRel);
            manual.steady.fetch_add(ms, Ordering::AcqRel);
        }
    }

    /// Sets a manual wall clock; the steady clock is unaffected.
    pub fn set(&self, now_ms: u64) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall.store(now_ms, Ordering::Release);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "all other code takes the time from here")]
fn system_ms() -> u64 {
    // A time before 1970 means a broken clock. With zero no token is valid yet, which fails closed.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn setting_the_wall_clock_moves_no_due_time() {
        let clock = Clock::manual(10 * HOUR);
        let due = clock.steady_at(11 * HOUR);
        for set in [20 * HOUR, HOUR] {
            clock.set(set);
            assert_eq!(clock.steady_ms(), 10 * HOUR, "no time has passed");
            assert_eq!(due - clock.steady_ms(), HOUR);
        }
        assert_eq!(clock.steady_at(0), clock.steady_ms(), "a past time becomes now");
    }

    #[test]
    fn setting_the_wall_clock_makes_nothing_old() {
        let clock = Clock::manual(100 * HOUR);
        for set in [1000 * HOUR, 50 * HOUR, 100 * HOUR] {
            clock.set(set);
            let stored = clock.stamp_ms();
            for set in [2000 * HOUR, 10 * HOUR, 100 * HOUR] {
                clock.set(set);
                assert!(stored >= clock.before_ms(24 * HOUR), "stored at {stored}, checked at {set}");
            }
        }
        clock.advance(25 * HOUR);
        assert!(100 * HOUR < clock.before_ms(24 * HOUR), "elapsed time makes it old");
    }

    #[test]
    fn the_systems_clocks_start_at_the_same_time() {
        let clock = Clock::system();
        let apart = clock.now_ms().abs_diff(clock.steady_ms());
        assert!(apart < 60_000, "{apart} ms apart");
    }
}
