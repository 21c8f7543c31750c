//! Budgets: token buckets that act at once, also if the call is refused later.

pub(crate) use crate::bindings::hubbub::plugin::budget::Answer;
use crate::{
    EffectError,
    harness::{call, names, world::Bucket},
};

pub(crate) fn take(name: &str, key: &str, points: u32, capacity: u32, period_ms: u64) -> Result<Answer, EffectError> {
    call::import(|call, world| {
        call.in_transaction()?;
        names::check("budget", name)?;
        names::check("key", key)?;
        let scope = (name.to_owned(), call.owned(key));
        let answer = call.answer(|| {
            let full = Bucket { points: f64::from(capacity), at: world.now };
            let bucket = world.budgets.entry(scope).or_insert(full);
            call::Answer::Budget(spend(bucket, world.now, points, capacity, period_ms))
        });
        match answer {
            call::Answer::Budget(answer) => Ok(answer),
            call::Answer::Random(_) => Err(EffectError::Denied("the second run asked in another order than the first".into())),
        }
    })
}

fn spend(bucket: &mut Bucket, now: u64, points: u32, capacity: u32, period_ms: u64) -> Answer {
    if capacity == 0 {
        return Answer::Taken(u32::MAX);
    }
    if points > capacity {
        return Answer::RetryAfter(period_ms);
    }
    let (capacity, points, period) = (f64::from(capacity), f64::from(points), period_ms.max(1) as f64);
    let refilled = (now - bucket.at) as f64 * capacity / period;
    *bucket = Bucket { points: (bucket.points + refilled).min(capacity), at: now };
    if bucket.points >= points {
        bucket.points -= points;
        return Answer::Taken(bucket.points as u32);
    }
    Answer::RetryAfter(((points - bucket.points) * period / capacity).ceil() as u64)
}
