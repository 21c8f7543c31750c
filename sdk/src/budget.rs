//! Budgets: at most so many points in so long, for a user, a tenant or any key, shared by all nodes. What was taken stays taken
//! where the call is refused later.

use std::time::Duration;

use crate::{EffectError, Refusal, host};

/// So many points for every key, refilled evenly over a period.
///
/// ```
/// # use hubbub_sdk::{Result, budget::Budget};
/// # fn handler(user: &str) -> Result<()> {
/// let messages = Budget::per_minute("messages", 10);
/// messages.take(user)?.or_refuse("Too many messages. Please slow down.")?;
/// # Ok(()) }
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

    /// Takes one point of `key`'s.
    pub fn take(&self, key: &str) -> Result<Answer, EffectError> {
        self.take_points(key, 1)
    }

    /// Takes `points` of `key`'s: all of them or none.
    pub fn take_points(&self, key: &str, points: u32) -> Result<Answer, EffectError> {
        // No limit: nothing to ask the host for.
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

/// Whether a budget had enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a budget that nobody asks limits nothing"]
pub enum Answer {
    /// Taken; so many points are left.
    Taken(u32),
    /// Not taken; a retry can succeed after this long.
    RetryAfter(Duration),
}

impl Answer {
    /// The refusal `rate_limited` with this sentence, where nothing was taken.
    pub fn or_refuse(self, sentence: &str) -> crate::Result<()> {
        match self {
            Self::Taken(_) => Ok(()),
            Self::RetryAfter(wait) => Err(Refusal::rate_limited(sentence, wait)),
        }
    }
}
