//! A release that serves a share of the users beside the active one, and whether it does worse. It decides from counts alone, and
//! never promotes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{CallCounters, Counts};
use super::key::Key;
use super::observers::Inbox;
use super::release::Release;

/// Failures below which nothing is held against a canary.
const FEW: u64 = 3;

/// Failures that are enough before the time has passed, where they are half of all calls.
const CLEARLY_BROKEN: u64 = 10;

/// How much slower than the active release a canary's calls may be, and what is always forgiven.
const SLOWER: f64 = 2.0;
const FORGIVEN: Duration = Duration::from_micros(100);

/// A release on trial.
pub struct Canary {
    pub release: Arc<Release>,
    pub percent: u8,
    pub how: How,
    began: Instant,
    /// What the active release had done when the trial began.
    active_before: Counts,
}

/// A trial that is asked for, with its share in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    Canary(u8),
    Shadow(u8),
}

/// What a release on trial does with its share.
pub enum How {
    /// It serves that share of the users.
    Serves,
    /// It is shown that share of the calls, once they are done; nobody sees what it does with them.
    Shadows(Box<dyn Shadowing>),
}

/// A shadow: it is given recorded calls, and reports what the release on trial did otherwise.
pub trait Shadowing: Send + Sync {
    fn inbox(&self) -> &Arc<Inbox>;

    /// The report for the operator.
    fn report(&self) -> serde_json::Value;
}

/// How a trial stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Too few calls, or too little time.
    Open,
    Good,
    Worse(String),
}

impl Canary {
    pub fn new(release: Arc<Release>, percent: u8, how: How, active: &CallCounters) -> Self {
        Self { release, percent, how, began: Instant::now(), active_before: active.begin() }
    }

    /// What was asked for.
    pub fn trial(&self) -> Trial {
        if self.shadow().is_some() { Trial::Shadow(self.percent) } else { Trial::Canary(self.percent) }
    }

    /// Whether a user's, or a key's, calls go to it. The same one's always do, and another release's trial picks others.
    pub fn takes(&self, key: Key<'_>) -> bool {
        if self.shadow().is_some() {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (&self.release.digest, key).hash(&mut hasher);
        hasher.finish() % 100 < u64::from(self.percent)
    }

    /// What is known of it, where it only looks on.
    pub fn shadow(&self) -> Option<&dyn Shadowing> {
        match &self.how {
            How::Serves => None,
            How::Shadows(shadow) => Some(&**shadow),
        }
    }

    /// How it does beside the active release.
    pub fn verdict(&self, active: &CallCounters, calls: u64, time: Duration) -> Verdict {
        let (own, other) = (self.release.counters.counts(), active.counts().since(&self.active_before));
        if own.failures >= CLEARLY_BROKEN && own.failures * 2 >= own.calls {
            return Verdict::Worse(format!("{} of {} calls failed", own.failures, own.calls));
        }
        if self.began.elapsed() < time || own.calls < calls || other.calls < calls {
            return Verdict::Open;
        }
        compare(&own, &other)
    }
}

fn compare(own: &Counts, other: &Counts) -> Verdict {
    let (own_rate, other_rate) = (own.failure_rate(), other.failure_rate());
    // A hundredth more, and half as many again: chance alone does neither of 200 calls.
    if own.failures >= FEW && own_rate > other_rate + 0.01 && own_rate > other_rate * 1.5 {
        return Verdict::Worse(format!(
            "{:.1} % of its calls failed, of the active release's {:.1} %",
            own_rate * 1e2,
            other_rate * 1e2
        ));
    }
    let (own_mean, other_mean) = (own.mean(), other.mean());
    if own_mean > other_mean.mul_f64(SLOWER) + FORGIVEN {
        return Verdict::Worse(format!("its calls take {own_mean:?}, the active release's {other_mean:?}"));
    }
    Verdict::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u64, failures: u64, micros_each: u64) -> Counts {
        Counts { calls, failures, timed: calls, nanos: calls * micros_each * 1000 }
    }

    #[test]
    fn a_canary_that_fails_or_crawls_is_worse() {
        let active = counts(1000, 2, 50);
        assert_eq!(compare(&counts(200, 0, 55), &active), Verdict::Good);
        assert_eq!(compare(&counts(200, 2, 55), &active), Verdict::Good, "too few to hold against it");
        assert!(matches!(compare(&counts(200, 40, 55), &active), Verdict::Worse(_)));
        assert!(matches!(compare(&counts(200, 0, 350), &active), Verdict::Worse(_)));
        assert_eq!(compare(&counts(200, 40, 50), &counts(200, 40, 50)), Verdict::Good, "it is not worse than the other");
    }
}
