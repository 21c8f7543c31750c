//! The start of the current outage, so that later requests do not wait as long as the first. Never decides whether there is one:
//! the callers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::stats::{Counters, count};

/// Shared by all users of one database.
pub(super) struct Outage {
    since: Mutex<Option<Instant>>,
    wait: Duration,
    counters: Arc<Counters>,
}

impl Outage {
    pub(super) fn new(wait: Duration, counters: Arc<Counters>) -> Self {
        Self { since: Mutex::default(), wait, counters }
    }

    /// The time until which a request may retry.
    pub(super) fn end(&self) -> Instant {
        self.since.lock().unwrap_or_else(Instant::now) + self.wait
    }

    /// Called when the database did not answer.
    pub(super) fn missed(&self, reason: &str) {
        let mut since = self.since.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            count(&self.counters.outages, 1);
            tracing::warn!("the database does not answer: {reason}");
        }
    }

    /// Called when the database has answered.
    pub(super) fn over(&self) {
        if let Some(since) = self.since.lock().take() {
            tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the database answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_requests_wait_no_longer_than_the_first() {
        let outage = Outage::new(Duration::from_secs(60), Arc::default());
        outage.missed("gone");
        let first = outage.end();
        outage.missed("still gone");
        assert_eq!(outage.end(), first);
        outage.over();
        assert!(outage.end() > first);
    }
}
