//! Limits log lines of events that may happen thousands of times a second: the first is logged at once, then at most one line a
//! minute, with a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::rate;

/// The shortest time between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// Counts one kind of event, and limits its log lines.
#[derive(Debug, Default)]
pub struct Often {
    /// The count since the last line.
    count: AtomicU64,
    /// The earliest time of the next line.
    next: AtomicU64,
}

impl Often {
    /// Counts an event. Returns the count since the last line if another line is due.
    pub fn happened(&self) -> Option<u64> {
        self.happened_at(rate::now())
    }

    fn happened_at(&self, now: u64) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let due = |next: u64| (next <= now).then(|| now + EVERY.as_nanos() as u64);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).ok()?;
        Some(self.count.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_and_then_one_line_a_minute() {
        let (often, minute) = (Often::default(), EVERY.as_nanos() as u64);
        assert_eq!(often.happened_at(5), Some(1));
        assert_eq!((often.happened_at(6), often.happened_at(minute)), (None, None));
        assert_eq!(often.happened_at(5 + minute), Some(3));
    }
}
