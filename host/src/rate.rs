//! Rate limits by GCRA: one atomic operation for each decision, and one number for each meter. Never waits, locks or allocates.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// A number per second, with a burst of one second's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two events.
    interval: u64,
    /// How far an event may be ahead of its time.
    burst: u64,
}

impl Rate {
    /// None for 0: no limit.
    pub fn per_second(count: u64) -> Option<Self> {
        let interval = SECOND.checked_div(count)?.max(1);
        Some(Self { interval, burst: SECOND.max(interval) })
    }

    /// A number per minute, with a burst of one minute's number. None for 0.
    pub fn per_minute(count: u64) -> Option<Self> {
        let interval = (60 * SECOND).checked_div(count)?.max(1);
        Some(Self { interval, burst: 60 * SECOND })
    }
}

/// An amount per second, of bytes or nanoseconds, with a burst of one second's amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    per_second: u64,
}

impl Flow {
    /// None for 0: no limit.
    pub fn per_second(amount: u64) -> Option<Self> {
        (amount > 0).then_some(Self { per_second: amount })
    }

    /// The time in which an amount is refilled.
    fn time_of(self, amount: u64) -> u64 {
        u64::try_from(u128::from(amount) * u128::from(SECOND) / u128::from(self.per_second)).unwrap_or(u64::MAX)
    }
}

/// The use so far: the time at which the next event is due.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Takes one event, or returns the time until one is available.
    pub fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        self.book(rate, now, Duration::ZERO).map(drop)
    }

    /// The time until an event is available. Takes none.
    pub fn wait(&self, rate: Rate, now: u64) -> Duration {
        let after = self.0.load(Ordering::Relaxed).max(now).saturating_add(rate.interval);
        Duration::from_nanos((after - now).saturating_sub(rate.burst))
    }

    /// Reserves the next event, and returns the time until then. If that is longer than `longest`, reserves nothing, and returns
    /// the excess.
    pub fn book(&self, rate: Rate, now: u64, longest: Duration) -> Result<Duration, Duration> {
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let after = |due: u64| due.max(now).saturating_add(rate.interval);
        let wait = |due: u64| (after(due) - now).saturating_sub(rate.burst);
        let booked = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| (wait(due) <= longest).then(|| after(due)));
        booked.map(|due| Duration::from_nanos(wait(due))).map_err(|due| Duration::from_nanos(wait(due) - longest))
    }

    /// Takes an amount, or takes nothing and returns the time until that much is available.
    pub fn afford(&self, flow: Flow, amount: u64, now: u64) -> Result<(), Duration> {
        let after = |due: u64| due.max(now).saturating_add(flow.time_of(amount));
        let wait = |due: u64| (after(due) - now).saturating_sub(SECOND);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| (wait(due) == 0).then(|| after(due)));
        taken.map(drop).map_err(|due| Duration::from_nanos(wait(due)))
    }

    /// Takes an amount that is used already, even if it is more than available: later requests wait for it.
    pub fn spend(&self, flow: Flow, amount: u64, now: u64) {
        let after = |due: u64| Some(due.max(now).saturating_add(flow.time_of(amount)));
        // Cannot fail: the closure always returns a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
    }

    /// The time until the debt is refilled. None: there is none.
    pub fn owed(&self, now: u64) -> Option<Duration> {
        let over = self.0.load(Ordering::Relaxed).saturating_sub(now).saturating_sub(SECOND);
        (over > 0).then(|| Duration::from_nanos(over))
    }

    /// The used part of one second's amount; more than 1 in debt.
    pub fn level(&self, now: u64) -> f64 {
        self.0.load(Ordering::Relaxed).saturating_sub(now) as f64 / SECOND as f64
    }
}

/// Nanoseconds since the first call. Setting the system clock does not change it.
pub fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_burst_of_one_second_is_allowed_then_single_events() {
        let (meter, rate) = (Meter::default(), Rate::per_second(5).unwrap());
        for _ in 0..5 {
            assert_eq!(meter.take(rate, 0), Ok(()));
        }
        assert_eq!(meter.take(rate, 0), Err(Duration::from_millis(200)));
        assert_eq!(meter.take(rate, SECOND / 10), Err(Duration::from_millis(100)), "a refusal takes nothing");
        assert_eq!(meter.take(rate, SECOND / 5), Ok(()));
        assert!(meter.take(rate, SECOND / 5).is_err());
    }

    #[test]
    fn a_burst_of_one_minute_is_allowed_and_wait_takes_none() {
        let (meter, rate) = (Meter::default(), Rate::per_minute(3).unwrap());
        for _ in 0..3 {
            assert_eq!((meter.wait(rate, 0), meter.take(rate, 0)), (Duration::ZERO, Ok(())));
        }
        assert_eq!((meter.wait(rate, 0), meter.wait(rate, 20 * SECOND)), (Duration::from_secs(20), Duration::ZERO));
    }

    #[test]
    fn events_are_reserved_in_sequence_up_to_the_longest_wait() {
        let (meter, rate, longest) = (Meter::default(), Rate::per_second(1).unwrap(), Duration::from_secs(2));
        let waits: Vec<_> = (0..3).map(|_| meter.book(rate, 0, longest).unwrap().as_secs()).collect();
        assert_eq!(waits, [0, 1, 2]);
        assert_eq!(meter.book(rate, 0, longest), Err(Duration::from_secs(1)));
    }

    #[test]
    fn an_amount_is_taken_whole_and_spending_may_go_into_debt() {
        let (meter, flow) = (Meter::default(), Flow::per_second(100).unwrap());
        assert_eq!(meter.afford(flow, 60, 0), Ok(()));
        assert_eq!(meter.afford(flow, 60, 0), Err(Duration::from_millis(200)));
        assert_eq!((meter.afford(flow, 40, 0), meter.owed(0)), (Ok(()), None));
        meter.spend(flow, 50, 0);
        assert_eq!(meter.owed(0), Some(Duration::from_millis(500)));
        assert_eq!((meter.owed(SECOND / 2), meter.level(SECOND / 2)), (None, 1.0));
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!((Rate::per_second(0), Flow::per_second(0)), (None, None));
    }
}
