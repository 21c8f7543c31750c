//! Budgets: rate limits for a user, a tenant or any other key, shared by all nodes.
//!
//! A budget is a token bucket: it begins full and refills evenly over its period. It acts at once: points that were taken are not
//! given back if the call is refused later. A handler that runs again after a conflict gets the first run's answer. A key belongs
//! to the call's tenant. Cost: 0.2 µs; a full bucket takes no memory.

use std::time::Duration;

use crate::{Refusal, Result, host};

/// A number of points for every key, which refill over a period.
///
/// ```
/// # use hubbub_sdk::{Result, budget::Budget};
/// # fn handler(user: &str) -> Result<()> {
/// let messages = Budget::per_minute("messages", 10);
/// messages.take(user)?.or_refuse("Too many messages. Please slow down.")
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    name: &'static str,
    capacity: u32,
    period: Duration,
}

impl Budget {
    /// A budget of `capacity` points that refill in `period` (whole milliseconds). A capacity of 0 means no limit.
    pub const fn new(name: &'static str, capacity: u32, period: Duration) -> Self {
        Self { name, capacity, period }
    }

    /// A budget of `capacity` points a minute. 0 means no limit.
    pub const fn per_minute(name: &'static str, capacity: u32) -> Self {
        Self::new(name, capacity, Duration::from_secs(60))
    }

    /// Takes one point from the bucket of `key`.
    pub fn take(&self, key: &str) -> Result<Answer> {
        self.take_points(key, 1)
    }

    /// Takes `points` from the bucket of `key`: all of them or none. More points than the capacity are never taken.
    pub fn take_points(&self, key: &str, points: u32) -> Result<Answer> {
        // Without a limit the host has no answer to give.
        if self.capacity == 0 {
            return Ok(Answer::Taken(u32::MAX));
        }
        let period_ms = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX);
        let answer = host::budget::take(self.name, key, points, self.capacity, period_ms)?;
        Ok(match answer {
            host::budget::Answer::Taken(left) => Answer::Taken(left),
            host::budget::Answer::RetryAfter(ms) => Answer::RetryAfter(Duration::from_millis(ms)),
        })
    }
}

/// Whether a budget had enough points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a budget limits nothing if its answer is ignored"]
pub enum Answer {
    /// The points were taken. Holds the number of points left.
    Taken(u32),
    /// No points were taken. A retry can succeed after this time.
    RetryAfter(Duration),
}

impl Answer {
    /// The refusal `rate_limited` with this sentence, if no points were taken.
    pub fn or_refuse(self, sentence: &str) -> Result<()> {
        match self {
            Self::Taken(_) => Ok(()),
            Self::RetryAfter(wait) => Err(Refusal::rate_limited(sentence, wait)),
        }
    }
}
