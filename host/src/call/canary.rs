//! A canary: a release that serves a share of the users beside the active one, and the comparison of both. Decides from counts
//! alone, and never promotes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{CallCounters, Counts};
use super::key::Key;
use super::observers::Inbox;
use super::release::Release;

/// Failures below which a canary is not judged.
const FEW: u64 = 3;

/// Failures that end the trial early if they are half of all calls.
const CLEARLY_BROKEN: u64 = 10;

/// How many times slower than the active release a canary's calls may be, and the difference that is always allowed.
const SLOWER: f64 = 2.0;
const FORGIVEN: Duration = Duration::from_micros(100);

/// A release on trial.
pub struct Canary {
    pub release: Arc<Release>,
    pub percent: u8,
    pub how: How,
    began: Instant,
    /// The active release's counts when the trial began.
    active_before: Counts,
}

/// A requested trial, with its share in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    Canary(u8),
    Shadow(u8),
}

/// How a release on trial uses its share.
pub enum How {
    /// It serves that share of the users.
    Serves,
    /// It runs that share of the calls after they have ended; its effects are discarded.
    Shadows(Box<dyn Shadowing>),
}

/// A shadow: runs recorded calls, and reports differences of the release on trial.
pub trait Shadowing: Send + Sync {
    fn inbox(&self) -> &Arc<Inbox>;

    /// The report for the operator.
    fn report(&self) -> serde_json::Value;
}

/// The state of a trial.
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

    /// The requested trial.
    pub fn trial(&self) -> Trial {
        if self.shadow().is_some() { Trial::Shadow(self.percent) } else { Trial::Canary(self.percent) }
    }

    /// Whether it serves the calls of a user or key. The choice is stable for a release; trials of other releases choose other
    /// users.
    pub fn serves(&self, key: Key<'_>) -> bool {
        if self.shadow().is_some() {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (&self.release.digest, key).hash(&mut hasher);
        hasher.finish() % 100 < u64::from(self.percent)
    }

    /// The shadow, if the release does not serve.
    pub fn shadow(&self) -> Option<&dyn Shadowing> {
        match &self.how {
            How::Serves => None,
            How::Shadows(shadow) => Some(&**shadow),
        }
    }

    /// Compares it with the active release.
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
    // One percentage point more, and half as many again: with 200 calls neither happens by chance.
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
    fn a_canary_that_fails_or_is_slow_is_worse() {
        let active = counts(1000, 2, 50);
        assert_eq!(compare(&counts(200, 0, 55), &active), Verdict::Good);
        assert_eq!(compare(&counts(200, 2, 55), &active), Verdict::Good, "too few failures to judge it");
        assert!(matches!(compare(&counts(200, 40, 55), &active), Verdict::Worse(_)));
        assert!(matches!(compare(&counts(200, 0, 350), &active), Verdict::Worse(_)));
        assert_eq!(compare(&counts(200, 40, 50), &counts(200, 40, 50)), Verdict::Good, "it is not worse than the other");
    }
}
