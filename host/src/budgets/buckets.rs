//! Token buckets of this node. A bucket that is full again is removed.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::sandbox::imports::budget::Answer;

/// The most buckets that are not full, over all plugins. Past it a key without a bucket is refused; existing buckets stay.
pub const MAX_BUCKETS: usize = 1_000_000;

/// The number of new buckets between two sweeps for full ones.
const SWEEP_EVERY: usize = 10_000;

/// The token buckets of all plugins.
#[derive(Default)]
pub struct Budgets(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    /// The key is the plugin, budget and key, joined by the separator that no name contains.
    by_key: HashMap<String, Bucket>,
    until_sweep: usize,
}

/// The points missing from a bucket, in thousandths, as of a moment.
struct Bucket {
    missing: u64,
    as_of_ms: u64,
    /// Milliseconds in which `capacity` points are refilled.
    period_ms: u64,
    capacity: u64,
}

/// An answer, kept for a retry of the same call.
pub struct Taken {
    pub key: String,
    pub points: u32,
    pub answer: Answer,
}

impl Budgets {
    /// Takes points, or returns the milliseconds until a retry can succeed. `now_ms` is by the steady clock.
    pub fn take(&self, key: &str, points: u32, capacity: u32, period_ms: u64, now_ms: u64) -> Answer {
        let (points, capacity, period_ms) = (u64::from(points), u64::from(capacity), period_ms.max(1));
        if points > capacity {
            return Answer::RetryAfter(period_ms);
        }
        let mut buckets = self.0.lock();
        let bucket = match buckets.by_key.get_mut(key) {
            Some(bucket) => bucket,
            None => {
                if !buckets.make_room(now_ms) {
                    return Answer::RetryAfter(period_ms);
                }
                buckets.by_key.entry(key.to_owned()).or_insert(Bucket { missing: 0, as_of_ms: now_ms, period_ms, capacity })
            }
        };
        bucket.refill(now_ms);
        (bucket.capacity, bucket.period_ms) = (capacity, period_ms);
        let missing = bucket.missing + points * 1000;
        if missing > capacity * 1000 {
            // Rounded up, so that a client that waits this long succeeds.
            let wait = (missing - capacity * 1000).saturating_mul(period_ms).div_ceil(capacity * 1000);
            return Answer::RetryAfter(wait.saturating_sub(now_ms - bucket.as_of_ms.min(now_ms)).max(1));
        }
        bucket.missing = missing;
        Answer::Taken(((capacity * 1000 - missing) / 1000) as u32)
    }

    /// The number of buckets in memory.
    pub fn count(&self) -> usize {
        self.0.lock().by_key.len()
    }
}

impl Buckets {
    fn make_room(&mut self, now_ms: u64) -> bool {
        if self.until_sweep == 0 {
            self.until_sweep = SWEEP_EVERY;
            self.by_key.retain(|_, bucket| {
                bucket.refill(now_ms);
                bucket.missing > 0
            });
        }
        self.until_sweep -= 1;
        self.by_key.len() < MAX_BUCKETS
    }
}

impl Bucket {
    fn refill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.as_of_ms);
        let back = elapsed.saturating_mul(self.capacity * 1000) / self.period_ms;
        if back >= self.missing {
            (self.missing, self.as_of_ms) = (0, now_ms);
        } else if back > 0 {
            self.missing -= back;
            // Only the time that gave whole thousandths is used up.
            self.as_of_ms += back.saturating_mul(self.period_ms) / (self.capacity * 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(budgets: &Budgets, now: u64) -> Result<u32, u64> {
        match budgets.take("k", 1, 10, 60_000, now) {
            Answer::Taken(left) => Ok(left),
            Answer::RetryAfter(ms) => Err(ms),
        }
    }

    #[test]
    fn a_bucket_empties_and_refills_evenly() {
        let budgets = Budgets::default();
        for left in (0..10).rev() {
            assert_eq!(take(&budgets, 0), Ok(left));
        }
        assert_eq!(take(&budgets, 0), Err(6000));
        assert_eq!(take(&budgets, 5999), Err(1));
        assert_eq!(take(&budgets, 6000), Ok(0));
        assert_eq!(take(&budgets, 66_000), Ok(9));
    }

    #[test]
    fn many_small_waits_do_not_lose_the_refill() {
        let budgets = Budgets::default();
        for _ in 0..10 {
            assert!(take(&budgets, 0).is_ok());
        }
        for now in (1..6000).step_by(7) {
            assert!(take(&budgets, now).is_err(), "at {now}");
        }
        assert_eq!(take(&budgets, 6000), Ok(0));
    }

    #[test]
    fn full_buckets_are_removed() {
        let budgets = Budgets::default();
        for key in 0..SWEEP_EVERY {
            budgets.take(&key.to_string(), 1, 10, 60_000, 0);
        }
        assert_eq!(budgets.count(), SWEEP_EVERY);
        budgets.take("later", 1, 10, 60_000, 60_000);
        assert_eq!(budgets.count(), 1);
    }
}
